"""Home Assistant: what it is told to have, what is taken back, and that it is told again when it is back."""

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import aiomqtt
import pytest
from facesvc_mqtt import house
from facesvc_mqtt.discovery import CAMERA_KINDS
from mqtt_broker import Broker, Ear, listening, text
from mqtt_making import ANA, Make

from facesvc.delivery.kit import NOW, MemoryBox, arrived, delivery, left, person, seen, stay
from facesvc.errors import ExhaustedError

ABOUT = ("default", "ana")
PRESENCE = "facesvc/person/default/ana/zone/lobby/presence"


def configs(messages: Sequence[aiomqtt.Message], component: str = "") -> dict[str, dict[str, Any]]:
    """What Home Assistant has, by topic, after all these."""
    found: dict[str, dict[str, Any]] = {}
    for one in messages:
        topic = one.topic.value
        if topic.startswith(f"homeassistant/{component}") and topic.endswith("/config"):
            assert one.retain
            found.pop(topic, None)
            if one.payload:
                found[topic] = json.loads(text(one))
    return found


async def test_a_person_in_a_zone_is_a_binary_sensor(make: Make, ear: Ear) -> None:
    plugin = await make()
    await plugin.handle(delivery(arrived(ANA, NOW)))
    heard = await ear.all()
    ((topic, config),) = configs(heard, "binary_sensor").items()
    assert topic.split("/")[:3] == ["homeassistant", "binary_sensor", "facesvc"]
    assert config == {
        "name": "lobby",
        "unique_id": f"facesvc_{topic.split('/')[3]}",
        "device_class": "occupancy",
        "state_topic": PRESENCE,
        "payload_on": "ON",
        "payload_off": "OFF",
        "availability_topic": "facesvc/status",
        "payload_available": "online",
        "payload_not_available": "offline",
        "qos": 1,
        "device": {
            "identifiers": config["device"]["identifiers"],
            "name": "ana",
            "manufacturer": "facesvc",
            "model": "Person",
        },
        "origin": {"name": "facesvc-mqtt", "sw_version": "0.1.0"},
    }
    order = [one.topic.value for one in heard]
    assert order.index(topic) < order.index(PRESENCE)


async def test_two_zones_are_two_sensors_of_one_device(make: Make, ear: Ear) -> None:
    plugin = await make(names=True)
    for zone in ("lobby", "lab"):
        await plugin.handle(delivery(arrived(ANA, NOW, zone=zone)))
        await plugin.handle(delivery(left(ANA, NOW, since=NOW, zone=zone)))
    found = configs(await ear.all(), "binary_sensor").values()
    assert {one["name"] for one in found} == {"lobby", "lab"}
    assert len({one["unique_id"] for one in found}) == 2
    assert len({one["device"]["identifiers"][0] for one in found}) == 1
    assert {one["device"]["name"] for one in found} == {"Ana Lima"}


async def test_a_camera_is_an_event_entity_and_a_trigger_for_each_kind(make: Make, ear: Ear) -> None:
    plugin = await make()
    await plugin.handle(delivery(seen(ANA, NOW)))
    await plugin.handle(delivery(seen(ANA, NOW)))
    heard = await ear.all()
    ((topic, entity),) = configs(heard, "event").items()
    assert topic == "homeassistant/event/facesvc/door-1/config"
    assert entity["state_topic"] == "facesvc/camera/door-1/event"
    assert entity["event_types"] == list(CAMERA_KINDS)
    assert entity["unique_id"] == "facesvc_camera_door-1_event"
    triggers = configs(heard, "device_automation").values()
    assert [one["type"] for one in triggers] == list(CAMERA_KINDS)
    for one in triggers:
        assert one["automation_type"] == "trigger"
        assert (one["topic"], one["payload"]) == (entity["state_topic"], one["type"])
        assert one["value_template"] == "{{ value_json.event_type }}"
        assert one["device"] == entity["device"]
    assert len([one for one in heard if one.topic.value == topic]) == 1  # told once


async def test_who_is_erased_is_taken_back(make: Make, ear: Ear, box: MemoryBox) -> None:
    plugin = await make()
    await plugin.handle(delivery(arrived(ANA, NOW)))
    assert len(configs(await ear.all(), "binary_sensor")) == 1
    erase(box)
    await plugin.forget(ABOUT)
    assert not configs(await ear.all(), "binary_sensor")
    await plugin.handle(delivery(arrived(ANA, NOW)))  # one that was on its way
    assert not configs(await ear.all(), "binary_sensor")


@pytest.mark.parametrize("running", [True, False])
async def test_who_was_erased_while_the_broker_was_away_is_taken_back_when_it_is_there(
    make: Make, broker: Broker, box: MemoryBox, *, running: bool
) -> None:
    plugin = await make()
    for one in (ANA, person("bea")):
        box.people["default", one.subject_id] = replace(one, metadata={"mqtt": "on"})
        await plugin.handle(delivery(arrived(one, NOW)))
    await plugin.stop()
    erase(box)
    if running:
        await plugin.forget(ABOUT)
    async with listening(broker.port) as ear:
        assert len(configs(await ear.all(), "binary_sensor")) == 2
        await make()
        gone = await ear.until(lambda one: "/binary_sensor/" in one.topic.value and not one.payload)
        assert "_ana_" in gone.topic.value
        assert len(configs(await ear.all(), "binary_sensor")) == 1
        assert len(configs(await ear.all())) == 1 + 1 + len(CAMERA_KINDS)


async def test_of_another_box_nothing_is_taken_back(make: Make, ear: Ear) -> None:
    await ear.client.publish("homeassistant/event/other/x/config", b"{}", qos=1, retain=True)
    await ear.client.publish("homeassistant/event/facesvc/x/config", b"{}", qos=1, retain=True)
    await make()
    await ear.until(lambda one: "/facesvc/x/" in one.topic.value and not one.payload)
    assert list(configs(await ear.all())) == ["homeassistant/event/other/x/config"]


async def test_who_is_no_longer_covered_is_taken_back(make: Make, ear: Ear, box: MemoryBox) -> None:
    plugin = await make()
    await plugin.handle(delivery(arrived(ANA, NOW)))
    box.people[ABOUT] = replace(ANA, metadata={})
    await plugin.handle(delivery(arrived(ANA, NOW)))
    assert not configs(await ear.all(), "binary_sensor")
    assert await ear.at(PRESENCE) == ["ON"]
    assert not await box.notes.list("presence/")


@pytest.mark.parametrize("changes", [{"people": "none"}, {"home_assistant": False}])
async def test_a_setting_takes_back_what_another_told(
    make: Make, ear: Ear, box: MemoryBox, changes: dict[str, Any]
) -> None:
    plugin = await make()
    await plugin.handle(delivery(arrived(ANA, NOW)))
    await plugin.stop()
    await make(**changes)
    found = configs(await ear.all())
    assert not [one for one in found if "/binary_sensor/" in one]
    assert bool(found) == ("people" in changes)
    assert not await box.notes.list("presence/")


async def test_when_home_assistant_is_back_it_is_told_anew(make: Make, ear: Ear, box: MemoryBox) -> None:
    plugin = await make()
    await plugin.handle(delivery(arrived(ANA, NOW)))
    box.stays = [stay(ANA, NOW), stay(ANA, NOW, zone="lab")]
    assert await ear.at(PRESENCE) == ["ON"]
    ear.heard.clear()
    await ear.client.publish("homeassistant/status", b"offline", qos=1)
    await ear.client.publish("homeassistant/status", b"online", qos=1)
    await ear.until(lambda one: one.topic.value.endswith("/zone/lab/presence"))
    assert await ear.at(PRESENCE) == ["ON"]
    assert await ear.at("facesvc/status") == ["online"]
    assert len(configs(await ear.all())) == 1  # the one of the lab; the others are there


async def test_without_home_assistant_there_are_events_alone(make: Make, ear: Ear, box: MemoryBox) -> None:
    box.stays = [stay(ANA, NOW)]
    plugin = await make(home_assistant=False)
    await plugin.handle(delivery(arrived(ANA, NOW)))
    assert {one.topic.value for one in await ear.all()} == {"facesvc/status", "facesvc/camera/door-1/event"}


async def test_a_limit_of_entities_stops_no_event(
    make: Make, ear: Ear, box: MemoryBox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(house, "MAX_ENTITIES", 1)
    plugin = await make()
    for number in range(3):
        await plugin.handle(delivery(arrived(ANA, NOW, zone=f"z{number}", camera_id=f"c{number}")))
    heard = await ear.all()
    assert len(configs(heard, "binary_sensor")) == len(configs(heard, "event")) == 1
    assert len(await ear.events()) == 3


async def test_notes_that_are_full_stop_no_event(
    make: Make, ear: Ear, box: MemoryBox, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def full(*_: object, **__: object) -> None:
        raise ExhaustedError("too many notes")

    monkeypatch.setattr(box.memory, "put", full)
    plugin = await make()
    await plugin.handle(delivery(arrived(ANA, NOW)))
    assert len(await ear.events()) == 1
    assert not configs(await ear.all())


def erase(box: MemoryBox) -> None:
    """As the server does it: before ``forget``."""
    del box.people[ABOUT]
    box.memory.forget(ABOUT)
    box.stays = []

    async def put_of_known(key: str, value: Any, *, about: Any = ("", ""), expire_time: Any = None) -> None:
        del key, value, expire_time
        assert about != ABOUT

    box.memory.put = put_of_known  # type: ignore[method-assign]  # nobody keeps anything of them from here on
