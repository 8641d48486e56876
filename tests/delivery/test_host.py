"""A plugin that misbehaves harms nobody but itself, and is shown; and what the rest of the server asks of the host."""

import asyncio
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import pytest
from databases import PostgresServer
from delivery.recorder import World, manifest_of

from facesvc.delivery import desk, host, runner
from facesvc.delivery.courier import Courier
from facesvc.delivery.kit import left, person, seen
from facesvc.delivery.outbox import State
from facesvc.delivery.rig import Rig
from facesvc.delivery.roll import Enlisted, enlist_one
from facesvc.errors import (
    DependencyError,
    ExhaustedError,
    InputError,
    NotFoundError,
    PreconditionError,
    UnavailableError,
)
from facesvc.events.plugin import About, Delivery, Facts, Role, TryLaterError, UndeliverableError
from facesvc.events.records import EnrichedEvent, Event

ANA, BEA = person("ana"), person("bea")
ABOUT = ("default", "ana")
MakeRig = Callable[..., Rig]


def ids(*events: Event) -> list[str]:
    return [event.event_id for event in events]


def neighbour(world: World, name: str = "neighbour", **changes: Any) -> Enlisted:
    return enlist_one(manifest_of(world, name=name, **changes), {})


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody waits long for a plugin that does not react."""
    monkeypatch.setattr(runner, "_SILENT_S", 0.05)
    monkeypatch.setattr(runner, "_BEAT_S", 0.005)
    monkeypatch.setattr(runner, "_STOP_S", 0.05)
    monkeypatch.setattr(host, "_STOP_S", 0.3)
    monkeypatch.setattr(host, "_FORGET_S", 0.1)
    monkeypatch.setattr("facesvc.delivery.calling._CANCEL_S", 0.02)
    monkeypatch.setattr("facesvc.delivery.courier._GRACE_S", 0.05)


@contextmanager
def blocking() -> Iterator[threading.Event]:
    """What a plugin blocks its event loop with, until the end of the test."""
    event = threading.Event()
    try:
        yield event
    finally:
        event.set()


def until(end: threading.Event) -> Callable[[Delivery], None]:
    def block(_: Delivery) -> None:
        assert end.wait(20)

    return block


@pytest.mark.usefixtures("impatient")
async def test_a_plugin_that_blocks_its_loop_delays_nobody_else_and_is_shown(make_rig: MakeRig) -> None:
    world, other = World(), World()
    with blocking() as end:
        rig = make_rig(world, neighbours=[neighbour(other)])
        world.on_handle = until(end)
        await rig.start()
        events = [seen(ANA, rig.clock()) for _ in range(5)]
        rig.append(*events)
        await rig.until(lambda: other.effects == ids(*events))
        await rig.until(lambda: rig.runner.standing().condition.value == "silent")
        assert rig.runner.standing().problem
        the_host = rig.host
        assert the_host is not None
        assert the_host.runners[1].standing().condition.value == "running"
        # Erasure does not wait for it for long, nor does the end of the server.
        await asyncio.to_thread(the_host.forget, ABOUT)
        assert other.forgotten == [ABOUT]
        assert world.forgotten == []
        await rig.stop()
        assert (world.stopped, other.stopped) == (0, 1)
        # It is told when it is back.
        end.set()
        await rig.until(lambda: the_host.runners[0].join(0))
    assert world.stopped == 1


@pytest.mark.usefixtures("impatient")
async def test_who_was_erased_while_a_plugin_blocked_is_forgotten_when_it_is_back(make_rig: MakeRig) -> None:
    world = World()
    with blocking() as end:
        rig = make_rig(world)
        world.on_handle = until(end)
        await rig.start()
        rig.append(seen(BEA, rig.clock()), seen(ANA, rig.clock()))
        await rig.until(lambda: len(world.attempts) == 1)
        assert rig.host is not None
        await asyncio.to_thread(rig.host.forget, ABOUT)
        end.set()
        await rig.until(lambda: world.forgotten == [ABOUT])
        await rig.settled()


@pytest.mark.usefixtures("impatient")
async def test_a_plugin_that_ignores_being_cancelled_is_not_waited_for(make_rig: MakeRig) -> None:
    world, other = World(), World()
    rig = make_rig(world, delivery={"timeout_seconds": 0.02, "concurrency": 2}, neighbours=[neighbour(other)])
    ending, stubborn = threading.Event(), {"ana", "bea"}

    async def never(delivery: Delivery) -> None:
        while delivery.event.about in stubborn and not ending.is_set():
            try:
                await asyncio.sleep(0.01)
            except asyncio.CancelledError:
                continue

    world.on_handle = never
    await rig.start()
    await asyncio.to_thread(lambda: None)
    first = [seen(ANA, rig.clock()), seen(BEA, rig.clock())]
    rig.append(*first)
    await rig.until(lambda: rig.runner.standing().condition.value == "silent")
    assert "do not end" in rig.runner.standing().problem
    await rig.until(lambda: rig.runner.standing().tally.failures == 2)
    third = seen(person("cyd"), rig.clock())
    rig.append(third)
    await rig.until(lambda: other.effects == ids(*first, third))
    assert world.effects == []
    # As soon as they end it goes on.
    stubborn.clear()
    await rig.settled()
    assert sorted(set(world.effects)) == sorted(ids(*first, third))
    stubborn.update({"ana"})
    rig.append(seen(ANA, rig.clock()))
    await rig.until(lambda: len(world.attempts) >= 6)
    await rig.stop()
    ending.set()
    assert world.stopped == 1


@pytest.mark.parametrize("error", [RuntimeError("no"), SystemExit(1), asyncio.CancelledError(), TryLaterError("no")])
async def test_a_plugin_that_does_not_start_is_shown_let_go_of_and_started_again(
    make_rig: MakeRig, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    monkeypatch.setattr("facesvc.delivery.breaker.FIRST_WAIT", timedelta(seconds=60))
    world, other = World(), World()
    rig = make_rig(world, neighbours=[neighbour(other)])
    world.start_errors = [error]
    event = seen(ANA, rig.clock())
    assert rig.host is not None
    rig.host.start()
    rig.append(event)
    await rig.until(lambda: other.effects == ids(event))
    await rig.until(lambda: rig.runner.standing().condition.value == "failed")
    assert rig.runner.standing().problem
    assert world.stopped == 1
    with pytest.raises(UnavailableError, match="does not answer"):
        rig.runner.call("greet", {"who": "ana"})
    await rig.stop()
    monkeypatch.setattr("facesvc.delivery.breaker.FIRST_WAIT", timedelta(milliseconds=1))
    world.start_errors = [error]
    await rig.start()
    await rig.settled()
    assert world.effects == ids(event)


@pytest.mark.usefixtures("impatient")
async def test_a_plugin_that_starts_for_ever_is_let_go_of(make_rig: MakeRig, monkeypatch: pytest.MonkeyPatch) -> None:
    world = World()
    rig = make_rig(world)
    hanging = asyncio.Event()

    class Hanging:
        async def start(self) -> None:
            hanging.set()
            await asyncio.Event().wait()

        async def handle(self, delivery: Delivery) -> None: ...

        async def stop(self) -> None:
            world.stopped += 1

    monkeypatch.setattr("delivery.recorder.Recorder", lambda *_: Hanging())
    assert rig.host is not None
    rig.host.start()
    await rig.until(hanging.is_set)
    await rig.stop()
    assert world.stopped == 1


async def test_a_task_of_a_plugin_that_ends_the_loop_is_the_end_of_nothing(make_rig: MakeRig) -> None:
    world = World()
    rig = make_rig(world)
    tasks: list[asyncio.Task[None]] = []

    async def end() -> None:
        raise SystemExit(3)

    def begin(_: Delivery) -> None:
        if not tasks:
            tasks.append(asyncio.create_task(end()))

    world.on_handle = begin
    await rig.start()
    first = seen(ANA, rig.clock())
    rig.append(first)
    await rig.until(lambda: world.stopped == 1)
    second = seen(ANA, rig.clock())
    rig.append(second)
    await rig.until(lambda: ids(first, second) == list(dict.fromkeys(world.effects)))
    assert isinstance(tasks[0].exception(), SystemExit)


async def test_a_bug_of_ours_loses_nothing(make_rig: MakeRig, monkeypatch: pytest.MonkeyPatch) -> None:
    world = World()
    rig = make_rig(world)
    bugs, find = [ZeroDivisionError("by a test")], Courier._try

    async def broken(self: Any, *arguments: Any) -> None:
        if bugs:
            raise bugs.pop()
        await find(self, *arguments)

    monkeypatch.setattr(Courier, "_try", broken)
    await rig.start()
    event = seen(ANA, rig.clock())
    rig.append(event)
    await rig.until(lambda: world.effects == ids(event))
    assert world.stopped == 1


async def test_facts_are_told_of_only_when_they_changed(make_rig: MakeRig) -> None:
    watching = World()
    told: list[Delivery] = []
    watching.on_handle = told.append
    world = World()
    rig = make_rig(
        world, role=Role.ENRICHES, neighbours=[neighbour(watching, "watching", kinds=frozenset({EnrichedEvent}))]
    )
    await rig.start()
    rig.append(left(ANA, rig.clock(), since=rig.clock()))
    event = seen(ANA, rig.clock())
    rig.append(event)
    await rig.until(lambda: len(told) == 1)
    [given] = told
    assert isinstance(given.event, EnrichedEvent)
    assert given.event.values == {"event_id": event.event_id}
    assert (given.event.plugin, given.event.display_name) == ("recorder", "Ana")

    async def publish(summary: str, values: dict[str, Any]) -> None:
        now = rig.clock.advance(1)
        facts = Facts(values=values, summary=summary, fetch_time=now, expire_time=now + timedelta(seconds=60))
        await rig.box.publish(ABOUT, facts)

    head = rig.journal.head
    for _ in range(3):
        await publish("here", {"event_id": event.event_id})
    assert rig.journal.head == head
    await publish("gone", {"list": [1, (2, 3)]})
    await publish("gone", {"list": (1, [2, 3])})
    assert rig.journal.head == head + 1
    facts = await rig.box.facts(ABOUT)
    assert facts["recorder"].summary == "gone"
    assert facts["recorder"].fetch_time == rig.clock()
    rig.clock.advance(60)
    assert await rig.box.facts(ABOUT) == {}


async def test_a_plugin_that_enriches_is_not_told_of_its_own_facts(make_rig: MakeRig) -> None:
    world = World()
    rig = make_rig(world, role=Role.ENRICHES, kinds=frozenset({Event}))
    await rig.start()
    event = seen(ANA, rig.clock())
    rig.append(event)
    await rig.until(lambda: rig.journal.head == 2)
    await rig.settled()
    assert world.effects == ids(event)


async def test_a_plugin_that_floods_is_refused(make_rig: MakeRig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(desk, "_BURST", 3)
    monkeypatch.setattr(desk, "_PER_SECOND", 0)
    rig = make_rig(World())
    box, now = rig.box, rig.clock()
    facts = Facts(values={}, summary="", fetch_time=now, expire_time=now)
    for _ in range(2):
        await box.publish(ABOUT, facts)
    await box.audit("DidSomething", "of no use")
    with pytest.raises(ExhaustedError):
        await box.publish(ABOUT, facts)
    with pytest.raises(ExhaustedError):
        await box.audit("DidSomething", "of no use")
    assert len(rig.server.audited) == 1


@pytest.mark.parametrize("error", [None, UndeliverableError("a name"), TryLaterError("a name"), RuntimeError()])
async def test_somebody_is_forgotten_while_a_delivery_about_them_is_under_way(
    make_rig: MakeRig, error: Exception | None
) -> None:
    world = World()
    rig = make_rig(world)
    gate = threading.Event()
    events = [seen(ANA, rig.clock()), seen(ANA, rig.clock())]

    async def wait(delivery: Delivery) -> None:
        if delivery.event == events[0]:
            await asyncio.to_thread(gate.wait, 20)
            if error is not None:
                raise error

    world.on_handle = wait
    await rig.start()
    rig.append(*events)
    await rig.until(lambda: len(world.attempts) == 1)
    rig.journal.erase_subject(*ABOUT)
    assert rig.host is not None
    await asyncio.to_thread(rig.host.forget, ABOUT)
    assert world.forgotten == [ABOUT]
    gate.set()
    await rig.settled()
    assert rig.runner.outbox.counts() == {}
    assert len(world.attempts) == 1
    # Somebody new of that name is delivered as anybody.
    again = [seen(ANA, rig.clock()), seen(ANA, rig.clock())]
    world.broken = TryLaterError("busy")
    rig.append(*again)
    await rig.until(lambda: rig.runner.outbox.counts() == {State.WAITING: 2})
    world.broken = None
    await rig.settled()
    assert world.effects[-2:] == ids(*again)


async def test_nothing_is_written_of_somebody_after_they_were_forgotten(make_rig: MakeRig) -> None:
    world = World()
    world.broken = TryLaterError("a name")
    rig = make_rig(world)
    await rig.start()
    rig.append(*(seen(one, rig.clock()) for one in (ANA, BEA) for _ in range(3)))
    await rig.until(lambda: rig.runner.outbox.counts() == {State.WAITING: 6})
    rig.journal.erase_subject(*ABOUT)
    assert rig.host is not None
    await asyncio.to_thread(rig.host.forget, ABOUT)
    world.broken = None
    await rig.settled()
    await rig.stop()
    outbox = rig._make_host().runners[0].outbox
    assert outbox.counts() == {}
    assert len(world.effects) == 3


async def test_an_error_while_forgetting_stops_no_erasure(make_rig: MakeRig, monkeypatch: pytest.MonkeyPatch) -> None:
    async def forget(self: Any, about: About) -> None:
        raise RuntimeError("no")

    monkeypatch.setattr("delivery.recorder.Recorder.forget", forget)
    rig = make_rig(World(), neighbours=[neighbour(World())])
    await rig.start()
    await rig.box.notes.put("key", 1, about=ABOUT)
    assert rig.host is not None
    assert await asyncio.to_thread(rig.host.forget, ABOUT) == 1
    assert "not forgotten" in rig.runner.standing().tally.last_error


async def test_commands(make_rig: MakeRig) -> None:
    rig = make_rig(World())
    await rig.start()
    assert rig.host is not None

    def call(name: str, command: str, **arguments: str) -> Any:
        assert rig.host is not None
        return asyncio.to_thread(rig.host.call, name, command, arguments)

    assert await call("recorder", "greet", who="ana") == {"greet": "ana"}
    with pytest.raises(InputError, match="say who"):
        await call("recorder", "greet")
    with pytest.raises(PreconditionError, match="it has greet"):
        await call("recorder", "leave")
    with pytest.raises(NotFoundError, match="there are recorder"):
        await call("other", "greet")


async def test_a_command_that_breaks_is_an_error_of_the_plugin(
    make_rig: MakeRig, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(self: Any, command: str, arguments: Any) -> None:
        raise KeyError("who")

    monkeypatch.setattr("delivery.recorder.Recorder.call", fail)
    rig = make_rig(World())
    await rig.start()
    with pytest.raises(DependencyError, match="recorder failed at greet: KeyError") as failed:
        await asyncio.to_thread(rig.runner.call, "greet", {})
    assert failed.value.reason == "PLUGIN_FAILED"


async def test_only_what_was_set_aside_is_listed(make_rig: MakeRig) -> None:
    rig = make_rig(World())
    assert rig.host is not None
    assert rig.host.set_aside("recorder", State.DEAD, 10) == []
    with pytest.raises(InputError):
        rig.host.set_aside("recorder", State.WAITING, 10)


async def test_a_host_that_never_started_stops(make_rig: MakeRig) -> None:
    rig = make_rig(World())
    assert rig.host is not None
    rig.host.notify()
    rig.host.forget(ABOUT)
    rig.host.replay("recorder", [], rig.clock())
    assert rig.runner.standing().condition.value == "starting"
    rig.host.stop()


async def test_a_host_that_is_stopped_at_once_stops(make_rig: MakeRig) -> None:
    world = World()
    rig = make_rig(world)
    the_host = rig.host
    assert the_host is not None
    the_host.start()
    await rig.stop()
    assert the_host.runners[0].standing().condition.value == "stopped"


async def test_a_plugin_is_left_alone_while_the_other_side_is_down(make_rig: MakeRig) -> None:
    world = World()
    world.broken = TryLaterError("down")
    rig = make_rig(world)
    await rig.start()
    events = [seen(person(f"p{number}"), rig.clock()) for number in range(40)]
    rig.append(*events)
    await rig.until(lambda: rig.runner.standing().condition.value == "resting")
    world.broken = None
    await rig.settled()
    assert rig.runner.standing().condition.value == "running"
    assert sorted(world.effects) == sorted(ids(*events))


@pytest.mark.parametrize("at_most_once", [False, True])
async def test_the_database_is_away_for_a_while(
    make_rig: MakeRig, postgres_url: str, postgres_server: PostgresServer, *, at_most_once: bool
) -> None:
    world = World()
    rig = make_rig(world, url=postgres_url, at_most_once=at_most_once)
    await rig.start()
    before = [seen(person(f"p{number}"), rig.clock()) for number in range(10)]
    rig.append(*before)
    await rig.until(lambda: len(world.effects) >= 5)
    postgres_server.kill()
    await rig.until(lambda: "does not answer" in rig.runner.standing().tally.last_error or rig.is_settled())
    postgres_server.start()
    after = [seen(person(f"p{number}"), rig.clock()) for number in range(10)]
    await rig.until(lambda: _appended(rig, after))
    await rig.settled()
    await rig.stop()
    for number in range(10):
        mine = ids(before[number], after[number])
        assert list(dict.fromkeys(one for one in world.effects if one in mine)) == mine
    if at_most_once:
        assert len(world.effects) == len(set(world.effects))


def _appended(rig: Rig, events: Sequence[Event]) -> bool:
    try:
        rig.append(*events)
    except DependencyError:
        return False
    return True
