"""Through a real server: each event once and in order, a server that restarts, and streams that are not there."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import timedelta

import pytest
from facesvc_nats.checking import CheckedNats
from nats.js import api
from nats_making import ANA, delivered, settings
from nats_server import Server, admin, body, kept, servers

from facesvc.delivery.kit import NOW, MemoryBox, arrived, delivery, left, seen
from facesvc.events.plugin import TryLaterError, UndeliverableError

Make = Callable[..., Awaitable[CheckedNats]]


async def test_an_event_is_kept_with_its_id_and_where_it_belongs(make: Make, server: Server) -> None:
    plugin = await make()
    event = seen(ANA, NOW)
    await plugin.handle(delivery(event))
    (message,) = await kept(server)
    assert message.subject == "facesvc.berlin.lobby.seen"
    assert message.headers == {
        "Nats-Msg-Id": event.event_id,
        "Nats-Expected-Stream": "FACESVC",
        "Content-Type": "application/cloudevents+json",
        "Facesvc-Expire-Time": "2026-03-02T08:30:02.000000Z",
    }
    told = body(message)
    assert told["data"]["subject"] == {"subject_id": "ana"}
    assert {name: value for name, value in told.items() if name != "data"} == {
        "specversion": "1.0",
        "id": event.event_id,
        "source": "urn:facesvc:berlin",
        "type": "com.facesvc.seen",
        "time": "2026-03-02T08:30:00.000000Z",
        "subject": "ana",
        "datacontenttype": "application/json",
    }


async def test_what_is_sent_twice_is_kept_once(make: Make, server: Server) -> None:
    plugin, other = await make(), await make()
    one = delivery(arrived(ANA, NOW))
    await plugin.handle(one)
    await plugin.handle(replace(one, attempt=2))
    await other.handle(one)
    assert [body(message)["id"] for message in await kept(server)] == [one.event.event_id]


async def test_order_is_kept_and_nothing_lost_over_restarts_of_the_server(make: Make, server: Server) -> None:
    plugin = await make()
    events = [delivery(arrived(ANA, NOW + timedelta(seconds=number))) for number in range(40)]
    attempts = 0
    for number, one in enumerate(events):
        if number in {10, 25}:
            await server.stop(kill=number == 25)
            with pytest.raises(TryLaterError):
                await plugin.handle(one)
            await server.start()
        attempts += await delivered(plugin, one)
    assert [body(message)["id"] for message in await kept(server)] == [one.event.event_id for one in events]
    assert attempts > len(events)


@pytest.mark.timeout(30)  # less than is waited for an answer
async def test_what_was_on_its_way_when_the_server_died_is_tried_later(make: Make, server: Server) -> None:
    plugin = await make(timeout_s=60)
    async with asyncio.TaskGroup() as group:
        sending = [group.create_task(tried(plugin, number)) for number in range(50)]
        await server.stop(kill=True)
    done = {one.result() for one in sending} - {""}
    await server.start()
    assert done <= {body(message)["id"] for message in await kept(server)}


async def tried(plugin: CheckedNats, number: int) -> str:
    """The id of an event that was acknowledged, else nothing."""
    one = delivery(arrived(ANA, NOW, zone=f"zone-{number}"))
    try:
        await plugin.handle(one)
    except TryLaterError:
        return ""
    return one.event.event_id


async def test_a_stream_that_is_created_has_the_bounds_of_the_settings(make: Make, server: Server) -> None:
    await make(max_age_s=7200, duplicates_s=240, max_bytes=1 << 22)
    async with admin(server) as context:
        config = (await context.stream_info("FACESVC")).config
    assert config.subjects == ["facesvc.>"]
    assert (config.max_age, config.duplicate_window, config.max_bytes) == (7200, 240, 1 << 22)
    assert (config.storage, config.discard) == ("file", "old")


async def test_a_stream_that_is_there_stays_as_it_is(make: Make, server: Server) -> None:
    async with admin(server) as context:
        await context.add_stream(api.StreamConfig(name="FACESVC", subjects=["facesvc.*.*.seen"], max_msgs=7))
    plugin = await make()
    await plugin.handle(delivery(seen(ANA, NOW)))
    with pytest.raises(TryLaterError, match=r"no stream .* takes facesvc\.berlin\.lobby\.arrived"):
        await plugin.handle(delivery(arrived(ANA, NOW)))
    async with admin(server) as context:
        assert (await context.stream_info("FACESVC")).config.max_msgs == 7


async def test_a_stream_that_is_not_there_is_said_in_words(make: Make, server: Server) -> None:
    plugin = await make(create_stream=False)
    with pytest.raises(TryLaterError, match="create the stream FACESVC, or set create_stream = true"):
        await plugin.handle(delivery(seen(ANA, NOW)))
    async with admin(server) as context:
        await context.add_stream(name="OTHER", subjects=["facesvc.>"])
    with pytest.raises(TryLaterError, match="belongs to another stream than FACESVC"):
        await plugin.handle(delivery(seen(ANA, NOW)))


async def test_two_sites_share_a_stream(make: Make, server: Server) -> None:
    for site in ("berlin", "lisbon"):
        plugin = await make(site=site)
        await plugin.handle(delivery(left(ANA, NOW, since=NOW, zone="")))
    assert [message.subject for message in await kept(server)] == ["facesvc.berlin._.left", "facesvc.lisbon._.left"]


async def test_a_message_that_is_too_large_is_never_sent_again(server: Server) -> None:
    async with admin(server) as context:
        await context.add_stream(api.StreamConfig(name="FACESVC", subjects=["facesvc.>"], max_msg_size=300))
    plugin = CheckedNats(settings(server.address), MemoryBox())
    await plugin.start()
    with pytest.raises(UndeliverableError, match="takes no message of"):
        await plugin.handle(delivery(seen(ANA, NOW)))
    await plugin.stop()
    async with servers("max_payload: 300") as small:
        plugin = CheckedNats(settings(small.address, create_stream=False), MemoryBox())
        await plugin.start()
        with pytest.raises(UndeliverableError, match="takes no message of"):
            await plugin.handle(delivery(seen(ANA, NOW)))
        await plugin.stop()


async def test_a_stream_that_is_full_and_takes_nothing_new(server: Server) -> None:
    async with admin(server) as context:
        full = api.StreamConfig(name="FACESVC", subjects=["facesvc.>"], max_msgs=1, discard=api.DiscardPolicy.NEW)
        await context.add_stream(full)
    plugin = CheckedNats(settings(server.address), MemoryBox())
    await plugin.start()
    await plugin.handle(delivery(seen(ANA, NOW)))
    with pytest.raises(TryLaterError, match="did not keep a message: maximum messages exceeded"):
        await plugin.handle(delivery(arrived(ANA, NOW)))
    await plugin.stop()


async def test_a_server_without_jetstream_is_said() -> None:
    async with servers(jetstream=False) as plain:
        plugin = CheckedNats(settings(plain.address), MemoryBox())
        with pytest.raises(TryLaterError, match="JetStream"):
            await plugin.start()
        found = [step async for step in plugin.check()]
        assert (found[-1].name, found[-1].ok) == ("JetStream", False)


async def test_after_a_stop_there_is_nothing_left(make: Make, server: Server) -> None:
    before = len(asyncio.all_tasks())
    plugin = await make()
    await plugin.stop()
    assert len(asyncio.all_tasks()) == before
    with pytest.raises(TryLaterError):
        await plugin.handle(delivery(seen(ANA, NOW)))
