"""From what a camera shows to what a plugin does, over gRPC: its state, its dead letters, facts, and erasure."""

import asyncio
from datetime import UTC, timedelta

import grpc
import pytest
from api.conftest import Running, Start, Vision
from api.plugged import Plug, audited, counts, letters, plug, refused, script, settings, settled, status, until
from api.scripted_plugin import Script
from api.test_events import PICTURE, meet, note, pass_by, watched, written
from api.test_recognition import enrol
from sightings import ENTRY, at, sighting

from facesvc.delivery.outbox import State
from facesvc.errors import DependencyError
from facesvc.events.plugin import Role
from facesvc.stream.presence import Camera, Direction
from facesvc.v1 import plugins_pb2

__all__ = ["plug", "script", "settings"]  # fixtures
DEAD, EXPIRED = plugins_pb2.DEAD_LETTER_STATE_DEAD, plugins_pb2.DEAD_LETTER_STATE_EXPIRED


async def test_a_face_becomes_a_call_of_the_plugin(plug: Plug, vision: Vision, script: Script) -> None:
    running = await plug(vision)
    await enrol(running, "jane", PICTURE)
    await pass_by(running, "door", "lobby")
    await until(lambda: ("Seen", "jane") in script.events)
    delivery = script.deliveries[0]
    assert (delivery.event.camera_id, delivery.event.zone, delivery.attempt) == ("door", "lobby", 1)
    (journaled,) = [one async for one in running.client.list_events(subject_id="jane", page_size=1)][:1]
    assert delivery.event.event_id == journaled.event_id


async def test_how_a_plugin_is_is_listed_and_in_the_statistics(plug: Plug, script: Script) -> None:
    running = await plug()
    script.refused.add("joe")
    note(running, sighting("jane", ENTRY), sighting("joe", ENTRY))
    await settled(running)
    found = await status(running)
    assert (found.name, found.version, found.summary) == ("scripted", "1.2.3", "Does what a test says.")
    assert found.condition == plugins_pb2.PLUGIN_CONDITION_RUNNING
    assert (found.delivered, found.failures, found.dead, found.waiting, found.missed) == (2, 2, 2, 0, 0)
    assert (found.enriches, found.problem, found.last_error) == (False, "", "it is refused")
    assert found.last_error_time.ToDatetime(UTC) <= running.service.now()
    assert found.median_latency.ToTimedelta() <= found.p99_latency.ToTimedelta()
    assert found.commands["echo"] == "gives back"
    (also,) = (await running.client.get_statistics()).plugins
    assert also == found


async def test_without_plugins_there_are_none(start: Start) -> None:
    running = await start()
    assert await running.client.list_plugins() == []
    assert list((await running.client.get_statistics()).plugins) == []
    assert (await refused(running.client.replay_dead_letters("scripted"))).code is grpc.StatusCode.NOT_FOUND
    assert (await refused(running.client.call_plugin("scripted", "echo"))).code is grpc.StatusCode.NOT_FOUND
    assert (await refused(letters(running))).code is grpc.StatusCode.NOT_FOUND


async def test_a_plugin_that_does_not_start_says_why(plug: Plug, script: Script) -> None:
    script.error = OSError("the relay is away")
    running = await plug()
    (runner,) = running.service.plugins.runners
    await until(lambda: runner.standing().problem)
    found = await status(running)
    assert found.condition == plugins_pb2.PLUGIN_CONDITION_FAILED
    assert found.problem == "OSError: the relay is away"
    asked = await refused(running.client.call_plugin("scripted", "echo"))
    assert asked.code is grpc.StatusCode.UNAVAILABLE
    assert "the relay is away" in str(asked)


async def test_dead_letters_are_listed_page_by_page_and_replayed(plug: Plug, script: Script) -> None:
    running = await plug()
    script.refused |= {f"p{number}" for number in range(5)}
    note(running, *(sighting(f"p{number}", ENTRY) for number in range(5)))
    await settled(running)
    found = await letters(running, page_size=3)
    assert len(found) == 10
    assert [one.number for one in found] == sorted(one.number for one in found)
    first = found[0]
    assert (first.collection_id, first.subject_id, first.attempts) == ("default", "p0", 1)
    assert (first.state, first.error) == (DEAD, "it is refused")
    assert first.first_time.ToDatetime(UTC) <= first.update_time.ToDatetime(UTC) <= running.service.now()
    events = [one async for one in running.client.list_events(subject_id="p0")]
    assert first.event_id in {one.event_id for one in events}
    assert await letters(running, state=EXPIRED) == []

    script.refused.clear()
    assert await running.client.replay_dead_letters("scripted", [first.number, 10**9]) == 1
    await until(lambda: script.deliveries)
    assert script.deliveries[0].event.event_id == first.event_id
    await until(lambda: counts(running) == {State.DEAD: 9})
    assert await running.client.replay_dead_letters("scripted") == 9
    await until(lambda: counts(running) == {})
    assert sorted(one.number for one in script.deliveries) == [one.number for one in found]
    assert await letters(running) == []
    assert await running.client.replay_dead_letters("scripted") == 0
    assert audited(running, "ReplayDeadLetters") == ["1 events of plugin scripted", "9 events of plugin scripted"]


async def test_an_error_that_is_no_text_is_kept_and_told_all_the_same(plug: Plug, script: Script) -> None:
    script.refusal = "bad \ud800 and \0" + "x" * 10_000
    script.refused.add("jane")
    running = await plug()
    note(running, sighting("jane", ENTRY))
    await settled(running)
    assert [one.error[:4] for one in await letters(running)] == ["bad "] * 2
    assert (await status(running)).last_error.startswith("bad ")


async def test_what_is_too_late_is_expired_and_stays_so(plug: Plug, script: Script) -> None:
    running = await plug(lifetime=timedelta(seconds=1))
    note(running, sighting("jane", ENTRY))
    await settled(running)
    assert script.deliveries == []
    found = await letters(running, state=EXPIRED)
    assert [(one.state, one.attempts) for one in found] == [(EXPIRED, 0)] * 2
    assert (await status(running)).expired == 2
    assert await running.client.replay_dead_letters("scripted", [one.number for one in found]) == 0
    assert audited(running, "ReplayDeadLetters") == []


async def test_what_a_plugin_finds_out_is_shown_beside_presence_and_told(plug: Plug, script: Script) -> None:
    running = await plug(role=Role.ENRICHES)
    events = running.client.watch_events()
    note(running, sighting("jane", ENTRY, seen_time=at(5)))
    while not (told := (await watched(events)).event).HasField("enriched"):
        pass
    facts = told.enriched.facts
    assert (told.enriched.subject_id, told.enriched.display_name) == ("jane", "Jane")
    assert (facts.plugin, facts.summary, facts.values["until"]) == ("scripted", "Available", "15:00")
    assert facts.expire_time.ToDatetime(UTC) - facts.fetch_time.ToDatetime(UTC) == timedelta(hours=1)
    (present,) = [one async for one in running.client.list_presence()]
    assert [(one.plugin, one.summary, one.values["until"]) for one in present.facts] == [
        ("scripted", "Available", "15:00")
    ]
    await settled(running)
    listed = [one async for one in running.client.list_events(subject_id="jane")]
    assert told.event_id in [one.event_id for one in listed if one.HasField("enriched")]

    script.summary = "In a call"
    note(running, sighting("jane", Camera("gate", "yard", Direction.ENTRY), seen_time=at(6)))
    while (told := (await watched(events)).event).enriched.facts.summary != "In a call":
        pass
    shown = [[one.summary for one in present.facts] async for present in running.client.list_presence()]
    assert shown == [["In a call"]] * 2
    await events.aclose()


async def test_who_is_where_is_known_while_the_database_is_away(plug: Plug, monkeypatch: pytest.MonkeyPatch) -> None:
    running = await plug()
    note(running, sighting("jane", ENTRY))
    await settled(running)

    def away(*_: object) -> None:
        raise DependencyError("it does not answer", reason="GALLERY_AWAY")

    monkeypatch.setattr(running.service.plugins, "facts", away)
    assert [one.subject_id async for one in running.client.list_presence()] == ["jane"]


async def test_an_erasure_takes_what_plugins_keep(plug: Plug, script: Script) -> None:
    script.keeps = True
    running = await plug(role=Role.ENRICHES)
    script.refused.add("joe")
    note(running, sighting("jane", ENTRY), sighting("joe", ENTRY), sighting("ann", ENTRY))
    await settled(running)
    receipt = await running.client.erase_subject("jane")
    assert receipt.plugin_note_count == 3  # two notes, one of facts
    assert '"plugin_note_count": 3' in receipt.document or '"plugin_note_count":3' in receipt.document
    assert script.forgotten == [("default", "jane")]
    assert {one.subject_id for one in await letters(running)} == {"joe"}
    assert (await running.client.erase_subject("joe")).plugin_note_count == 0
    assert await letters(running) == []
    assert kept_of(running) == {"ann"}
    assert "3 notes of plugins" in audited(running, "EraseSubject")[0]


def kept_of(running: Running) -> set[str]:
    """About whom anything is left in the tables of delivery."""
    database = running.service.plugins._database
    tables = ("plugin_notes", "facts", "deliveries")
    return {row[0] for table in tables for row in database.select(f"SELECT subject_id FROM {table}")}


async def test_a_plugin_that_fails_to_forget_does_not_keep_anybody_from_erasure(plug: Plug, script: Script) -> None:
    script.forget_error = RuntimeError("its own cache is broken")
    running = await plug()
    note(running, sighting("jane", ENTRY))
    await settled(running)
    assert (await running.client.erase_subject("jane")).subject_id == "jane"
    assert script.forgotten


async def test_who_is_merged_into_another_leaves_nothing_with_plugins(plug: Plug, script: Script) -> None:
    script.keeps = True
    running = await plug()
    meet(running, "default", "jane")
    note(running, sighting("joe", ENTRY))
    await settled(running)
    receipt = (await running.client.merge_subjects("jane", "joe")).receipt
    assert (receipt.subject_id, receipt.plugin_note_count) == ("joe", 2)
    assert script.forgotten == [("default", "joe")]
    assert kept_of(running) == set()


async def test_of_somebody_erased_waiting_deliveries_are_gone(plug: Plug, script: Script) -> None:
    script.error = OSError("not yet")
    running = await plug()
    note(running, sighting("jane", ENTRY), sighting("ann", ENTRY))
    await written(running)
    await running.client.erase_subject("jane")
    script.error = None
    await until(lambda: len(script.deliveries) == 2)
    await settled(running)
    assert {about for _, about in script.events} == {"ann"}


async def test_what_a_plugin_learns_of_somebody_erased_meanwhile_is_not_kept(plug: Plug, script: Script) -> None:
    script.holds = script.keeps = True
    running = await plug(role=Role.ENRICHES)
    note(running, sighting("jane", ENTRY))
    await asyncio.to_thread(script.begun.wait, 20)
    await running.client.erase_subject("jane")
    script.holds = False
    await settled(running)
    assert kept_of(running) == set()
    assert [one async for one in running.client.list_events(subject_id="jane")] == []


async def test_a_plugin_that_blocks_harms_nobody_else(plug: Plug, vision: Vision, script: Script) -> None:
    script.blocks = True
    running = await plug(vision)
    await enrol(running, "jane", PICTURE)
    await pass_by(running, "door", "lobby")
    await asyncio.to_thread(script.begun.wait, 20)
    await pass_by(running, "window", "hall")
    assert {one.zone async for one in running.client.list_presence()} == {"lobby", "hall"}
    assert (await status(running)).waiting
    assert (await running.client.erase_subject("jane")).subject_id == "jane"
