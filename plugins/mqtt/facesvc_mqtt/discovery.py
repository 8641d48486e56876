"""What Home Assistant is told to have, in the words of its MQTT discovery.

https://www.home-assistant.io/integrations/mqtt/#mqtt-discovery: one retained JSON object an entity. A person is a
device with a binary sensor for every zone they were in: not a device tracker, which is in one place at a time, while
somebody may be present in two zones. A camera is a device with one ``event`` entity and a trigger for every kind.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass

from pydantic import JsonValue

from facesvc.events.outside import KINDS
from facesvc.events.plugin import About
from facesvc.events.records import EnrichedEvent
from facesvc_mqtt.topics import Topics, joined, label, slug

ON, OFF = "ON", "OFF"
ONLINE, OFFLINE = "online", "offline"
CAMERA_KINDS = tuple(name for kind, name in KINDS.items() if kind is not EnrichedEvent)
"""The events that come from a camera."""
_ORIGIN: JsonValue = {"name": "facesvc-mqtt", "sw_version": "0.1.0"}


@dataclass(frozen=True, slots=True)
class Presence:
    """Somebody in a zone."""

    about: About
    zone: str

    @property
    def object_id(self) -> str:
        """Of the entity."""
        return joined(*self.about, self.zone)

    def topic(self, topics: Topics) -> str:
        """Where its configuration is kept."""
        return topics.config("binary_sensor", self.object_id)

    def config(self, topics: Topics, shown_as: str) -> bytes:
        """Its configuration; ``shown_as``: what the person is called."""
        return _text(
            {
                "name": label(self.zone, "Present"),
                "unique_id": f"{topics.node}_{self.object_id}",
                "device_class": "occupancy",
                "state_topic": topics.presence(self.about, self.zone),
                "payload_on": ON,
                "payload_off": OFF,
                **_availability(topics),
                "device": {
                    "identifiers": [f"{topics.node}_person_{joined(*self.about)}"],
                    "name": label(shown_as, self.about[1]),
                    "manufacturer": "facesvc",
                    "model": "Person",
                },
                "origin": _ORIGIN,
            }
        )


@dataclass(frozen=True, slots=True)
class Camera:
    """A camera, which something happens in front of."""

    camera_id: str

    def configs(self, topics: Topics) -> Mapping[str, bytes]:
        """Its configurations by where they are kept."""
        object_id = slug(self.camera_id)
        device: JsonValue = {
            "identifiers": [f"{topics.node}_camera_{object_id}"],
            "name": label(self.camera_id, object_id),
            "manufacturer": "facesvc",
            "model": "Camera",
        }
        topic = topics.camera(self.camera_id)
        entity: dict[str, JsonValue] = {
            "name": "Event",
            "unique_id": f"{topics.node}_camera_{object_id}_event",
            "state_topic": topic,
            "event_types": list(CAMERA_KINDS),
            **_availability(topics),
            "device": device,
            "origin": _ORIGIN,
        }
        triggers = {kind: _trigger(topic, kind, device) for kind in CAMERA_KINDS}
        return {topics.config("event", object_id): _text(entity)} | {
            topics.config("device_automation", f"{object_id}_{kind}"): _text(one) for kind, one in triggers.items()
        }


def _trigger(topic: str, kind: str, device: JsonValue) -> dict[str, JsonValue]:
    return {
        "automation_type": "trigger",
        "type": kind,
        "subtype": "face",
        "topic": topic,
        "payload": kind,
        "value_template": "{{ value_json.event_type }}",
        "qos": 1,
        "device": device,
        "origin": _ORIGIN,
    }


def _availability(topics: Topics) -> dict[str, JsonValue]:
    return {
        "availability_topic": topics.status,
        "payload_available": ONLINE,
        "payload_not_available": OFFLINE,
        "qos": 1,
    }


def _text(value: JsonValue) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()
