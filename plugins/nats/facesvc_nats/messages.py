"""An event as a message: its subject, its headers and its body, which is a CloudEvent 1.0 in JSON.

https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/formats/json-format.md; the README has an example.
"""

import json
import re
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256

from pydantic import JsonValue

from facesvc.events.outside import as_json, kind_of, rfc3339
from facesvc.events.plugin import Delivery
from facesvc.events.records import Event, SeenEvent, SpoofAttemptEvent, UnknownPersonEvent
from facesvc_nats.settings import NatsSettings

CONTENT_TYPE = "application/cloudevents+json"
EXPIRE_TIME = "Facesvc-Expire-Time"
MESSAGE_ID = "Nats-Msg-Id"
EXPECTED_STREAM = "Nats-Expected-Stream"
NO_ZONE = "_"
MAX_TOKEN = 40
_HASH = 12
# What looks as if we had made it is made anew, so that no zone can be named to be taken for another.
_AS_IT_IS = re.compile(rf"(?!_\Z)(?!.*-[0-9a-f]{{{_HASH}}}\Z)[A-Za-z0-9_-]{{1,{MAX_TOKEN}}}\Z")
_OTHER = re.compile(r"[^A-Za-z0-9_-]")


@dataclass(frozen=True, slots=True)
class Message:
    """What is published."""

    subject: str
    headers: dict[str, str]
    body: bytes


def token(text: str) -> str:
    """A zone as a part of a subject: itself where it is letters, digits, ``_`` and ``-``; else with a hash."""
    if not text:
        return NO_ZONE
    if _AS_IT_IS.match(text):
        return text
    hashed = sha256(json.dumps(text).encode()).hexdigest()[:_HASH]
    return f"{_OTHER.sub('_', text[:MAX_TOKEN])}-{hashed}"


def subject(settings: NatsSettings, zone: str, kind: str) -> str:
    """Where an event goes."""
    return f"{settings.prefix}.{settings.site}.{token(zone)}.{kind}"


def message(settings: NatsSettings, delivery: Delivery) -> Message:
    """An event; the same each time, so that the stream knows it again."""
    event = delivery.event
    kind = kind_of(event)
    headers = {
        MESSAGE_ID: event.event_id,
        EXPECTED_STREAM: settings.stream,
        "Content-Type": CONTENT_TYPE,
    }
    expire_time = delivery.expire_time or _good_until(event)
    if expire_time is not None:
        headers[EXPIRE_TIME] = rfc3339(expire_time)
    body: dict[str, JsonValue] = {
        "specversion": "1.0",
        "id": event.event_id,
        "source": f"urn:facesvc:{settings.site}",
        "type": f"com.facesvc.{kind}",
        "time": rfc3339(event.event_time),
        **({"subject": event.about} if event.about else {}),  # may be missing, but not empty
        "datacontenttype": "application/json",
        "data": as_json(event, names=settings.names),
    }
    return Message(
        subject=subject(settings, event.zone, kind),
        headers=headers,
        body=json.dumps(body, separators=(",", ":"), allow_nan=False).encode(),
    )


def _good_until(event: Event) -> datetime | None:
    match event:
        case SeenEvent() | UnknownPersonEvent() | SpoofAttemptEvent():
            return event.decision.expire_time
        case _:
            return None
