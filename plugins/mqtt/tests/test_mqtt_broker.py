"""Through a real broker: what is sent and how, what a restart leaves, and what is said while it is away."""

import asyncio
import json
from dataclasses import replace
from datetime import timedelta
from typing import Any

import aiomqtt
import pytest
from facesvc_mqtt.checking import CheckedMqtt
from facesvc_mqtt.plugin import MAX_PAYLOAD_BYTES
from mqtt_broker import END, Broker, Ear, Line, listening, text
from mqtt_making import ANA, Make

from facesvc.delivery.kit import NOW, MemoryBox, arrived, delivery, left, person, seen, stay
from facesvc.events.plugin import Delivery, TryLaterError, UndeliverableError
from facesvc.events.records import EnrichedEvent

PRESENCE = "facesvc/person/default/ana/zone/lobby/presence"
CAMERA = "facesvc/camera/door-1/event"
STATUS = "facesvc/status"


def enriched(**changes: Any) -> EnrichedEvent:
    values = {"camera_id": "", "zone": "", "collection_id": "default", "subject_id": "ana", "display_name": "Ana Lima"}
    rest = {"plugin": "graph", "values": {"photo": "x"}, "summary": "Available", "external_ids": {}}
    times = {"event_time": NOW, "fetch_time": NOW, "expire_time": NOW}
    return EnrichedEvent(**{"event_id": "E", **values, **rest, **times, **changes})


async def test_an_event_is_sent_once_not_retained_and_with_an_expiry(make: Make, ear: Ear) -> None:
    plugin = await make()
    event = seen(ANA, NOW)
    await plugin.handle(delivery(event))
    (message,) = [one for one in await ear.all() if one.topic.value == CAMERA]
    told = json.loads(text(message))
    assert (told["event_type"], told["event_id"], told["subject"]) == ("seen", event.event_id, {"subject_id": "ana"})
    assert not message.retain
    assert message.qos == 1
    assert vars(message.properties)["MessageExpiryInterval"] == 60
    assert vars(message.properties)["ContentType"] == "application/json"


async def test_the_expiry_is_what_is_left_in_whole_seconds(make: Make, ear: Ear) -> None:
    plugin = await make()
    await plugin.handle(delivery(seen(ANA, NOW), expire_time=NOW + timedelta(seconds=1.2)))
    message = await ear.until(lambda one: one.topic.value == CAMERA)
    assert vars(message.properties)["MessageExpiryInterval"] == 2
    with pytest.raises(UndeliverableError, match="expired"):
        await plugin.handle(delivery(seen(ANA, NOW), expire_time=NOW))


async def test_names_are_told_by_a_setting_and_of_those_alone_who_are_covered(
    make: Make, ear: Ear, box: MemoryBox
) -> None:
    plugin = await make(names=True)
    await plugin.handle(delivery(seen(ANA, NOW)))
    await plugin.handle(delivery(seen(box.people["default", "ben"], NOW)))
    first, second = await ear.events()
    assert first["subject"]["display_name"] == "Ana Lima"
    assert second["subject"] == {"subject_id": "ben"}


async def test_what_a_plugin_found_out_goes_to_the_person_and_is_bounded(make: Make, ear: Ear) -> None:
    plugin = await make(names=True)
    await plugin.handle(delivery(enriched()))
    await plugin.handle(delivery(enriched(values={"photo": "x" * MAX_PAYLOAD_BYTES})))
    first, second = [json.loads(one) for one in await ear.at("facesvc/person/default/ana/event")]
    assert first["values"] == {"photo": "x"}
    assert second["summary"] == "Available"
    assert "values" not in second


async def test_presence_is_said_at_arrival_and_leaving_and_never_retained(make: Make, ear: Ear) -> None:
    plugin = await make()
    await plugin.handle(delivery(arrived(ANA, NOW)))
    await plugin.handle(delivery(left(ANA, NOW, since=NOW)))
    said = [one for one in await ear.all() if one.topic.value == PRESENCE]
    assert [text(one) for one in said] == ["ON", "OFF"]
    assert not any(one.retain for one in said)


async def test_nothing_is_made_of_people_who_are_not_covered(make: Make, ear: Ear, box: MemoryBox) -> None:
    ben = box.people["default", "ben"]
    box.stays = [stay(ben, NOW)]
    plugin = await make()
    await plugin.handle(delivery(arrived(ben, NOW)))
    topics = {one.topic.value for one in await ear.all()}
    assert "facesvc/camera/door-1/event" in topics
    assert not any("ben" in one or "/binary_sensor/" in one for one in topics)
    everybody = await make(people="all", topic_prefix="other")
    await everybody.handle(delivery(arrived(ben, NOW)))
    assert await ear.at("other/person/default/ben/zone/lobby/presence") == ["ON", "ON"]  # at connect, and now


async def test_a_broker_that_restarts_replays_nothing_but_what_is_to_be_kept(
    make: Make, ear: Ear, broker: Broker, box: MemoryBox
) -> None:
    plugin = await make()
    await plugin.handle(delivery(arrived(ANA, NOW)))
    await plugin.handle(delivery(seen(ANA, NOW)))
    assert len(await ear.events()) == 2
    await plugin.stop()
    await broker.stop()
    await broker.start()
    async with listening(broker.port) as later:
        kept = await later.all()
    assert {one.topic.value.split("/")[0] for one in kept} == {"facesvc", "homeassistant"}
    assert [one.topic.value for one in kept if one.topic.value.startswith("facesvc/")] == [STATUS]
    assert all(one.retain for one in kept)


async def test_who_is_present_is_said_anew_to_a_broker_that_lost_everything(
    make: Make, broker: Broker, box: MemoryBox
) -> None:
    plugin = await make()
    bea = person("bea", metadata={"mqtt": "yes"})
    box.people["default", "bea"] = bea
    for one in (ANA, bea):
        await plugin.handle(delivery(arrived(one, NOW)))
    await plugin.stop()
    await broker.stop()
    (broker._config.parent / "mosquitto.db").unlink()
    await broker.start()
    box.stays = [stay(ANA, NOW)]
    async with listening(broker.port) as later:
        await make()
        heard = {one.topic.value: text(one) for one in await later.all()}
    assert heard[PRESENCE] == "ON"
    assert heard[PRESENCE.replace("ana", "bea")] == "OFF"
    assert len([topic for topic in heard if topic.endswith("/config")]) == 1 + 5 + 2


async def test_while_the_broker_is_away_it_is_tried_later_and_then_goes_on(make: Make, broker: Broker) -> None:
    plugin = await make()
    await broker.stop()
    event = delivery(seen(ANA, NOW))
    with pytest.raises(TryLaterError, match=r"127\.0\.0\.1"):
        await plugin.handle(event)
    await broker.start()
    async with listening(broker.port) as ear:
        await ear.until(lambda one: (one.topic.value == STATUS and not one.retain) or text(one) == "online")
        await delivered(plugin, event)
        assert [one["event_id"] for one in await ear.events()] == [event.event.event_id]


async def delivered(plugin: CheckedMqtt, event: Delivery) -> None:
    """As the host does it: until it works."""
    while True:
        try:
            await plugin.handle(event)
        except TryLaterError:
            await asyncio.sleep(0.01)
        else:
            return


@pytest.mark.timeout(30)  # less than is waited for an acknowledgement
async def test_what_was_on_its_way_when_the_line_broke_is_tried_later(make: Make, broker: Broker, ear: Ear) -> None:
    line = Line(broker.port)
    await line.mend()
    plugin = await make(port=line.port, timeout_s=60, reconnect_min_s=60)
    async with asyncio.TaskGroup() as group:
        sending = [group.create_task(tried(plugin)) for _ in range(50)]
        await line.cut()
    done = {one.result() for one in sending} - {""}
    assert done <= {one["event_id"] for one in await ear.events()}


async def tried(plugin: CheckedMqtt) -> str:
    """The id of an event that was acknowledged, else nothing."""
    one = delivery(seen(ANA, NOW))
    try:
        await plugin.handle(one)
    except TryLaterError:
        return ""
    return one.event.event_id


async def test_what_happened_while_it_was_away_changes_no_state_that_was_said_since(
    make: Make, ear: Ear, box: MemoryBox
) -> None:
    box.stays = [stay(ANA, NOW)]
    plugin = await make()
    old = arrived(ANA, NOW - timedelta(seconds=20))
    await plugin.handle(delivery(left(ANA, NOW - timedelta(seconds=10), since=NOW - timedelta(seconds=20))))
    await plugin.handle(delivery(old))
    assert await ear.at(PRESENCE) == ["ON"]
    assert len(await ear.events()) == 2


async def test_the_last_will_says_that_the_box_is_gone(make: Make, ear: Ear, broker: Broker) -> None:
    line = Line(broker.port)
    await line.mend()
    plugin = await make(port=line.port, reconnect_min_s=60)
    assert await ear.at(STATUS) == ["online"]
    await line.cut()  # as if the box were killed: no word of goodbye
    message = await ear.until(lambda one: one.topic.value == STATUS and text(one) == "offline")
    assert message.retain
    with pytest.raises(TryLaterError, match="lost"):
        await plugin.handle(delivery(seen(ANA, NOW)))


async def test_the_broker_keeps_nothing_for_a_box_that_is_gone(make: Make, ear: Ear, broker: Broker) -> None:
    line = Line(broker.port)
    await line.mend()
    await make(port=line.port, reconnect_min_s=60)
    await line.cut()
    await ear.until(lambda one: one.topic.value == STATUS and text(one) == "offline")
    await ear.client.publish("homeassistant/status", b"online", qos=1)
    again = aiomqtt.Client(
        "127.0.0.1", broker.port, identifier="facesvc-facesvc", protocol=aiomqtt.ProtocolVersion.V5, clean_start=False
    )
    async with again:
        await again.subscribe(END)
        await again.publish(END, b"end", qos=1)
        assert (await anext(aiter(again.messages))).topic.value == END


async def test_a_stop_says_so_too(make: Make, ear: Ear) -> None:
    plugin = await make()
    await plugin.stop()
    assert await ear.at(STATUS) == ["online", "offline"]
    with pytest.raises(TryLaterError):
        await plugin.handle(delivery(seen(ANA, NOW)))


async def test_a_box_that_comes_back_before_the_broker_missed_it_is_there(make: Make, ear: Ear) -> None:
    await make(reconnect_min_s=60)
    await make()  # takes the place of the first, by the same client_id
    assert (await ear.at(STATUS))[-1] == "online"


async def test_ids_with_wildcards_reach_one_topic_each(make: Make, ear: Ear, box: MemoryBox) -> None:
    odd = person("a/+#\x00", metadata={"mqtt": "1"})
    box.people["default", "a/+#\x00"] = odd
    plugin = await make()
    await plugin.handle(delivery(replace(arrived(odd, NOW, zone="+"), camera_id="#/a")))
    topics = [one.topic.value for one in await ear.all()]
    assert not any(set("+#\x00") & set(one) for one in topics)
    assert {len(one.split("/")) for one in topics if one.startswith("facesvc/camera/")} == {4}
