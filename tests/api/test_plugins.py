"""From what a camera shows to what a plugin does, over gRPC: its state, its dead letters, its commands, and erasure."""

import asyncio
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from datetime import UTC, timedelta
from typing import Any

import grpc
import pytest
import pytest_asyncio
from api.conftest import Running, Start, Vision, with_retention
from api.scripted_plugin import Script, enlist, manifest_of
from api.test_events import PICTURE, meet, note, pass_by, watched, written
from api.test_recognition import enrol
from sightings import ENTRY, at, sighting

from facesvc.client import CallError
from facesvc.config import Settings
from facesvc.delivery.outbox import State
from facesvc.delivery.runner import Condition
from facesvc.errors import ExhaustedError
from facesvc.events.audit import Asked
from facesvc.events.plugin import Role, TryLaterError, UndeliverableError
from facesvc.stream.presence import Camera, Direction
from facesvc.v1 import enrollment_pb2, plugins_pb2, plugins_pb2_grpc

DEAD, EXPIRED = plugins_pb2.DEAD_LETTER_STATE_DEAD, plugins_pb2.DEAD_LETTER_STATE_EXPIRED
Plug = Callable[..., Awaitable[Running]]


@pytest.fixture
def settings(settings: Settings) -> Settings:
    """Nothing is forgotten for its age: made-up events are old."""
    return with_retention(settings, 3660)


@pytest.fixture
def script() -> Script:
    return Script()


@pytest_asyncio.fixture
async def plug(start: Start, script: Script, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Plug]:
    """Starts a server with the scripted plugin at work: ``plug(vision=None, **changes of its manifest)``."""
    async with AsyncExitStack() as stack:
        stack.callback(script.blocking.set)

        async def plug(vision: Vision | None = None, **changes: Any) -> Running:
            enlist(monkeypatch, manifest_of(script, **changes))
            running = await start(vision=vision)
            plugins = running.service.plugins
            stack.push_async_callback(asyncio.to_thread, plugins.stop)
            stack.callback(script.blocking.set)
            await asyncio.to_thread(plugins.start)
            return running

        yield plug


async def until(condition: Callable[[], Any]) -> None:
    async with asyncio.timeout(20):
        while not condition():  # noqa: ASYNC110 - what is waited for sets no event
            await asyncio.sleep(0.002)


async def status(running: Running) -> plugins_pb2.PluginStatus:
    (found,) = await running.client.list_plugins()
    return found


async def settled(running: Running) -> None:
    """The plugin runs, was given all that has happened, and that is written down."""
    await written(running)
    (runner,) = running.service.plugins.runners
    sql = "SELECT sequence FROM plugin_places"
    database, journal = running.service.plugins._database, running.service.journal
    await until(lambda: runner.standing().condition is Condition.RUNNING)
    await until(lambda: not runner.standing().waiting and database.select(sql) == [(journal.head,)])


def counts(running: Running) -> dict[State, int]:
    (runner,) = running.service.plugins.runners
    return runner.outbox.counts()


async def letters(running: Running, **asked: Any) -> list[plugins_pb2.DeadLetter]:
    return [one async for one in running.client.list_dead_letters("scripted", **asked)]


async def refused(asked: Awaitable[Any]) -> CallError:
    with pytest.raises(CallError) as caught:
        await asked
    return caught.value


def audited(running: Running, action: str) -> list[str]:
    return [entry.detail for entry in running.service.audit.list_entries(Asked(action=action), 100)]


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


@pytest.mark.parametrize(
    ("method", "request_", "field"),
    [
        ("ListDeadLetters", plugins_pb2.ListDeadLettersRequest(plugin="scripted", page_size=1001), "page_size"),
        ("ListDeadLetters", plugins_pb2.ListDeadLettersRequest(plugin="scripted", page_token="x"), "page_token"),
        ("ListDeadLetters", plugins_pb2.ListDeadLettersRequest(plugin="scripted", state=77), "state"),  # type: ignore[arg-type]  # that is the point
        ("ReplayDeadLetters", plugins_pb2.ReplayDeadLettersRequest(plugin="scripted", numbers=range(1001)), "numbers"),
        (
            "CallPlugin",
            plugins_pb2.CallPluginRequest(
                plugin="scripted", command="echo", arguments={str(number): "" for number in range(51)}
            ),
            "arguments",
        ),
        (
            "CallPlugin",
            plugins_pb2.CallPluginRequest(plugin="scripted", command="echo", arguments={"x" * 101: ""}),
            "arguments",
        ),
        (
            "CallPlugin",
            plugins_pb2.CallPluginRequest(plugin="scripted", command="echo", arguments={"x": "y" * 10_001}),
            "x has 10001 characters",
        ),
        (
            "CallPlugin",
            plugins_pb2.CallPluginRequest(plugin="scripted", command="echo", arguments={"wrong": "1"}),
            "no such door",
        ),
    ],
)
async def test_what_makes_no_sense_is_refused(plug: Plug, method: str, request_: Any, field: str) -> None:
    running = await plug()
    await settled(running)
    async with running.channel() as channel:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await getattr(plugins_pb2_grpc.PluginServiceStub(channel), method)(request_)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    details = dict(caught.value.trailing_metadata() or ())["grpc-status-details-bin"]
    assert isinstance(details, bytes)
    assert field.encode() in details
    assert audited(running, method) == []


@pytest.mark.parametrize(
    "answer",
    [None, True, 3, 0.5, "a\ntext", ["a", {"b": [None]}], {"id,name": {"deep": [1, 2]}}],
)
async def test_a_plugin_answers_with_any_json(plug: Plug, script: Script, answer: Any) -> None:
    running = await plug()
    await settled(running)
    script.answer = answer
    result = await running.client.call_plugin("scripted", "answer")
    assert value_of(result) == answer
    assert audited(running, "CallPlugin") == ["answer of plugin scripted"]


def value_of(value: Any) -> Any:
    """A ``google.protobuf.Value`` as Python has it."""
    kind = value.WhichOneof("kind")
    if kind == "struct_value":
        return {key: value_of(one) for key, one in value.struct_value.fields.items()}
    if kind == "list_value":
        return [value_of(one) for one in value.list_value.values]
    return None if kind == "null_value" else getattr(value, kind)


async def test_arguments_reach_the_plugin_as_they_are(plug: Plug) -> None:
    running = await plug()
    await settled(running)
    given = {"reason": "line one\nline two", "door": "é", "empty": ""}
    assert value_of(await running.client.call_plugin("scripted", "echo", given)) == given


@pytest.mark.parametrize(
    ("error", "code", "words"),
    [
        (ValueError("secret words"), grpc.StatusCode.INTERNAL, "the server failed"),
        (NotImplementedError(), grpc.StatusCode.INTERNAL, "the server failed"),
        (TryLaterError("the relay is away"), grpc.StatusCode.UNAVAILABLE, "the relay is away"),
        (UndeliverableError("it has no such door"), grpc.StatusCode.FAILED_PRECONDITION, "it has no such door"),
        (ExhaustedError("too many doors"), grpc.StatusCode.RESOURCE_EXHAUSTED, "too many doors"),
    ],
)
async def test_what_a_plugin_raises_is_told_by_whose_fault_it_is(
    plug: Plug, script: Script, error: Exception, code: grpc.StatusCode, words: str
) -> None:
    running = await plug()
    await settled(running)
    script.error = error
    failed = await refused(running.client.call_plugin("scripted", "echo"))
    assert failed.code is code
    assert words in str(failed)
    assert "Traceback" not in str(failed)
    assert "secret" not in str(failed)
    assert audited(running, "CallPlugin") == ["echo of plugin scripted; it failed"]


async def test_an_answer_that_is_no_json_is_the_plugins_fault(plug: Plug, script: Script) -> None:
    running = await plug()
    await settled(running)
    for script.answer in (float("nan"), object(), {"a": {1, 2}}):
        failed = await refused(running.client.call_plugin("scripted", "answer"))
        assert failed.code is grpc.StatusCode.INTERNAL


async def test_a_command_that_it_does_not_have_is_refused_with_those_it_has(plug: Plug) -> None:
    running = await plug()
    await settled(running)
    failed = await refused(running.client.call_plugin("scripted", "explode"))
    assert failed.code is grpc.StatusCode.FAILED_PRECONDITION
    assert "it has answer, echo, hang" in str(failed)
    assert audited(running, "CallPlugin") == []


async def test_calls_that_hang_are_bounded_and_keep_nobody_else_waiting(
    plug: Plug, script: Script, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("facesvc.api.plugins._MAX_CALLS", 12)
    running = await plug()
    await settled(running)
    hanging = [asyncio.ensure_future(running.client.call_plugin("scripted", "hang")) for _ in range(12)]
    await until(lambda: sum(one.name == "call-scripted" for one in threading.enumerate()) == 12)
    failed = await refused(running.client.call_plugin("scripted", "hang"))
    assert failed.code is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert (await status(running)).condition == plugins_pb2.PLUGIN_CONDITION_RUNNING
    await running.client.create_subject(enrollment_pb2.Subject(subject_id="jane"))
    for one in hanging:
        one.cancel()
    await asyncio.gather(*hanging, return_exceptions=True)


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
