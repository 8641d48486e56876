"""What comes of each event, over a real host and a real database."""

import asyncio
import threading
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from delivery.recorder import World

from facesvc.delivery import courier, handover, ledger
from facesvc.delivery.kit import arrived, person, seen
from facesvc.delivery.lanes import Lanes
from facesvc.delivery.outbox import Entry, Outbox, State
from facesvc.delivery.rig import Rig
from facesvc.errors import DependencyError
from facesvc.events.plugin import Delivery, Needs, Role, TryLaterError, UndeliverableError
from facesvc.events.records import Event, UnknownPersonEvent

ANA, BEA = person("ana"), person("bea")
MakeRig = Callable[..., Rig]


def ids(*events: Event) -> list[str]:
    return [event.event_id for event in events]


def states(rig: Rig, state: State) -> list[str]:
    return [one.event_id for one in rig.runner.outbox.list_entries(state, 1000)]


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, timedelta | None]]:
    """After which attempt somebody waited, and what the other side had asked for; nobody waits for long."""
    asked: list[tuple[int, timedelta | None]] = []

    def wait_after(attempts: int, after: timedelta | None, _: object) -> timedelta:
        asked.append((attempts, after))
        return timedelta(milliseconds=1)

    monkeypatch.setattr(handover, "wait_after", wait_after)
    return asked


async def test_one_that_fails_is_tried_again_and_those_behind_it_wait(
    make_rig: MakeRig, waits: list[tuple[int, timedelta | None]]
) -> None:
    world = World()
    rig = make_rig(world)
    events = [seen(ANA, rig.clock()) for _ in range(3)]
    left = [TryLaterError("busy", after=timedelta(seconds=7)), RuntimeError("what?"), TryLaterError("busy")]

    def fail(delivery: Delivery) -> None:
        if delivery.event == events[0] and left:
            raise left.pop(0)

    world.on_handle = fail
    await rig.start()
    rig.append(*events)
    await rig.settled()
    assert world.effects == ids(*events)
    first = events[0].event_id
    assert world.attempts[:4] == [(first, 1), (first, 2), (first, 3), (first, 4)]
    assert waits == [(1, timedelta(seconds=7)), (2, None), (3, None)]
    tally = rig.runner.standing().tally
    assert (tally.delivered, tally.failures, tally.dead) == (3, 3, 0)
    assert tally.last_error == "busy"


async def test_what_will_never_work_is_dead_at_once_and_the_next_goes_on(make_rig: MakeRig) -> None:
    world = World()
    rig = make_rig(world)
    bad, good = seen(ANA, rig.clock()), seen(ANA, rig.clock())

    def refuse(delivery: Delivery) -> None:
        if delivery.event == bad:
            raise UndeliverableError("nobody of that name")

    world.on_handle = refuse
    await rig.start()
    rig.append(bad, good)
    await rig.settled()
    assert world.effects == ids(good)
    await rig.stop()
    await rig.start()
    [dead] = rig.runner.outbox.list_entries(State.DEAD, 10)
    assert (dead.event_id, dead.attempts, dead.error) == (bad.event_id, 1, "nobody of that name")
    assert not rig.runner.standing().tally.failures  # nor is it tried again after a restart
    # Replayed, it is delivered when the other side has changed its mind.
    world.on_handle = lambda delivery: None
    assert rig.host is not None
    assert rig.host.replay("recorder", [], rig.clock()) == 1
    await rig.until(lambda: world.effects == ids(good, bad))
    assert rig.host.replay("recorder", [], rig.clock()) == 0


async def test_an_event_that_fails_too_often_is_given_up(make_rig: MakeRig) -> None:
    world = World()
    rig = make_rig(world, delivery={"attempts": 3})
    bad, good = seen(ANA, rig.clock()), seen(ANA, rig.clock())

    def fail(delivery: Delivery) -> None:
        if delivery.event == bad:
            raise RuntimeError("a bug")

    world.on_handle = fail
    await rig.start()
    rig.append(bad, good)
    await rig.settled()
    await rig.until(lambda: states(rig, State.DEAD) == ids(bad))
    assert world.attempts == [(bad.event_id, n) for n in (1, 2, 3)] + [(good.event_id, 1)]


async def test_an_outage_is_not_counted_but_ends(make_rig: MakeRig) -> None:
    world = World()
    world.broken = TryLaterError("away")
    rig = make_rig(world, delivery={"attempts": 1, "give_up_hours": 1})
    await rig.start()
    event = seen(ANA, rig.clock())
    rig.append(event)
    await rig.until(lambda: len(world.attempts) >= 4)
    assert not states(rig, State.DEAD)
    rig.clock.advance(3601)
    await rig.until(lambda: states(rig, State.DEAD) == ids(event))


@pytest.mark.parametrize("error", [RuntimeError("a bug"), DependencyError("its notes were away"), SystemExit(2)])
async def test_what_may_have_been_done_is_not_done_twice(make_rig: MakeRig, error: BaseException) -> None:
    world = World()
    world.broken = error
    rig = make_rig(world, at_most_once=True)
    await rig.start()
    event = seen(ANA, rig.clock())
    rig.append(event)
    await rig.until(lambda: states(rig, State.UNCERTAIN) == ids(event))
    assert world.attempts == [(event.event_id, 1)]
    world.broken = None
    next_one = seen(ANA, rig.clock())
    rig.append(next_one)
    await rig.settled()
    assert world.effects == ids(next_one)
    assert world.stopped == 0


async def test_what_is_begun_stays_so_although_the_disk_was_slow_to_hear_of_it(
    make_rig: MakeRig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What takes long is written down as waiting, but not if it must not be done twice."""
    monkeypatch.setattr(courier, "_SLOW_S", 0.01)
    monkeypatch.setattr(courier, "_LONGEST_REST_S", 0.02)
    world, slow, done = World(), threading.Event(), threading.Event()
    settle, wait_behind = Outbox.settle, handover.Handover.wait_behind

    def gated(self: Outbox, place: int, delivered: list[int], entries: list[Entry]) -> None:
        if any(entry.state is State.BEGUN for entry in entries):
            assert slow.wait(20)
        settle(self, place, delivered, entries)

    def seen_to_be_slow(self: handover.Handover, lane: Any) -> None:
        wait_behind(self, lane)
        slow.set()

    async def until_done(_: Delivery) -> None:
        await asyncio.to_thread(done.wait, 20)

    monkeypatch.setattr(Outbox, "settle", gated)
    monkeypatch.setattr(handover.Handover, "wait_behind", seen_to_be_slow)
    world.on_handle = until_done
    rig = make_rig(world, at_most_once=True)
    await rig.start()
    rig.append(seen(ANA, rig.clock()))
    await rig.until(lambda: len(world.attempts) == 1)
    await rig.until(lambda: rig.runner.standing().place == rig.journal.head)
    assert rig.runner.outbox.counts() == {State.BEGUN: 1}
    done.set()
    await rig.settled()


async def test_what_a_plugin_says_was_not_done_is_tried_again_though_at_most_once(make_rig: MakeRig) -> None:
    world = World()
    world.broken = TryLaterError("not now")
    rig = make_rig(world, at_most_once=True)
    await rig.start()
    event = seen(ANA, rig.clock())
    rig.append(event)
    await rig.until(lambda: len(world.attempts) >= 2)
    world.broken = None
    await rig.settled()
    assert world.effects == ids(event)
    assert [attempt for _, attempt in world.attempts] == list(range(1, len(world.attempts) + 1))


@pytest.mark.parametrize("late_s", [10.0, 10.000001, 3600])
async def test_what_comes_too_late_is_recorded_and_not_delivered(make_rig: MakeRig, late_s: float) -> None:
    world = World()
    rig = make_rig(world, lifetime=timedelta(seconds=10))
    late, timely = seen(ANA, rig.clock()), seen(ANA, rig.clock() + timedelta(seconds=late_s - 9.999999))
    rig.append(late, timely)
    rig.clock.advance(late_s)
    await rig.start()
    await rig.settled()
    assert world.effects == ids(timely)
    assert states(rig, State.EXPIRED) == ids(late)
    assert rig.runner.standing().tally.expired == 1
    # Nor when it is tried to be replayed: only what is dead or uncertain is.
    assert rig.host is not None
    assert rig.host.replay("recorder", [1], rig.clock()) == 0


async def test_a_decision_that_is_over_is_not_acted_on_by_one_who_heeds_that(make_rig: MakeRig) -> None:
    world = World()
    rig = make_rig(world, heeds_expiry=True)
    event, plain = seen(ANA, rig.clock()), arrived(ANA, rig.clock())
    rig.append(event)
    rig.clock.time = event.decision.expire_time
    await rig.start()
    rig.append(plain)
    await rig.settled()
    assert world.attempts == []
    assert states(rig, State.EXPIRED) == ids(event)


async def test_many_that_came_too_late_are_recorded_piece_by_piece(
    make_rig: MakeRig, monkeypatch: pytest.MonkeyPatch
) -> None:
    world, pieces, settle = World(), list[int](), Outbox.settle

    def counted(self: Outbox, place: int, done: list[int], entries: list[Entry]) -> None:
        pieces.append(len(entries))
        settle(self, place, done, entries)

    monkeypatch.setattr(Outbox, "settle", counted)
    rig = make_rig(world, lifetime=timedelta(seconds=10))
    rig.append(*(seen(person(f"p{number % 9}"), rig.clock()) for number in range(2000)))
    rig.clock.advance(10)
    await rig.start()
    await rig.settled()
    assert rig.runner.outbox.counts() == {State.EXPIRED: 2000}
    assert max(pieces) <= 2 * ledger.WINDOW


async def test_what_expires_while_it_waits_is_not_tried_again(make_rig: MakeRig) -> None:
    world = World()
    world.broken = TryLaterError("away")
    rig = make_rig(world, lifetime=timedelta(seconds=10))
    await rig.start()
    events = [seen(ANA, rig.clock()), seen(ANA, rig.clock())]
    rig.append(*events)
    await rig.until(lambda: len(world.attempts) >= 2)
    rig.clock.advance(10)
    count = len(world.attempts)
    world.broken = None
    await rig.until(lambda: states(rig, State.EXPIRED) == ids(*events))
    assert world.effects == []
    assert len(world.attempts) <= count + 1  # one that was under way


async def test_what_expires_while_its_beginning_is_written_is_not_acted_on(
    make_rig: MakeRig, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = World()
    rig = make_rig(world, at_most_once=True, lifetime=timedelta(seconds=10))
    write_now = ledger.Ledger.write_now

    async def slowly(self: ledger.Ledger, entry: Any) -> None:
        await write_now(self, entry)
        rig.clock.advance(10)

    monkeypatch.setattr(ledger.Ledger, "write_now", slowly)
    await rig.start()
    event = seen(ANA, rig.clock())
    rig.append(event)
    await rig.settled()
    assert world.attempts == []
    await rig.until(lambda: states(rig, State.EXPIRED) == ids(event))


async def test_a_plugin_is_told_until_when_it_may_act_and_how_new_an_event_is(make_rig: MakeRig) -> None:
    world = World()
    given: list[Delivery] = []
    world.on_handle = given.append
    rig = make_rig(world, lifetime=timedelta(seconds=1), heeds_expiry=True)
    await rig.start()
    first, second = seen(ANA, rig.clock()), seen(ANA, rig.clock(), expire_time=rig.clock() + timedelta(seconds=0.5))
    rig.append(first, second)
    await rig.settled()
    assert [(one.event, one.attempt, one.number) for one in given] == [(first, 1, 1), (second, 1, 2)]
    assert [one.expire_time for one in given] == [rig.clock() + timedelta(seconds=s) for s in (1, 0.5)]


async def test_only_what_meets_the_needs_is_delivered(make_rig: MakeRig) -> None:
    world = World()
    needs = Needs(policy="access", max_false_match_rate=1e-5, liveness=True)
    rig = make_rig(world, needs=lambda _: needs, kinds=frozenset({Event}))
    now = rig.clock()
    good = seen(ANA, now)
    assert good.decision.liveness is not None
    dull = replace(good.decision.liveness, score=0.499)
    passed_over = [
        seen(ANA, now, policy="presence"),
        seen(ANA, now, false_match_rate=1.1e-5),
        seen(ANA, now, liveness=None),
        seen(ANA, now, liveness=dull),
        arrived(ANA, now),
    ]
    edge = seen(ANA, now, liveness=replace(dull, score=0.5))
    rig.append(*passed_over, good, edge)
    await rig.start()
    await rig.settled()
    assert world.effects == ids(good, edge)
    assert rig.runner.outbox.counts() == {}


async def test_only_the_wanted_kinds_are_delivered(make_rig: MakeRig) -> None:
    world = World()
    rig = make_rig(world)
    rig.append(arrived(ANA, rig.clock()))
    event = seen(ANA, rig.clock())
    rig.append(event)
    await rig.start()
    await rig.settled()
    assert world.effects == ids(event)


def nobody(rig: Rig, camera_id: str = "door-1") -> UnknownPersonEvent:
    one = seen(ANA, rig.clock(), camera_id=camera_id)
    made = replace(one.decision, outcome="UNKNOWN", subject=None)
    return UnknownPersonEvent(
        event_id=one.event_id,
        event_time=one.event_time,
        camera_id=camera_id,
        zone="lobby",
        collection_id="default",
        track_id="1",
        decision=made,
    )


async def test_what_a_camera_saw_of_nobody_known_keeps_its_order_across_a_restart(make_rig: MakeRig) -> None:
    world = World()
    world.broken = TryLaterError("away")
    rig = make_rig(world, kinds=frozenset({UnknownPersonEvent}))
    events = [nobody(rig), nobody(rig), nobody(rig, "door-2")]
    await rig.start()
    rig.append(*events)
    await rig.until(lambda: len(states(rig, State.WAITING)) == 3)
    await rig.stop()
    world.broken = None
    world.attempts.clear()
    await rig.start()
    await rig.settled()
    assert [one for one in world.effects if one != events[2].event_id] == ids(*events[:2])
    assert len(world.effects) == 3


async def test_a_plugin_that_returns_facts_about_nobody_is_told_once(make_rig: MakeRig) -> None:
    world = World()
    rig = make_rig(world, role=Role.ENRICHES, kinds=frozenset({UnknownPersonEvent}))
    await rig.start()
    rig.append(nobody(rig))
    await rig.settled()
    await rig.until(lambda: len(states(rig, State.DEAD)) == 1)
    assert len(world.attempts) == 1


@pytest.mark.slow
async def test_a_dead_receiver_costs_neither_memory_nor_events(
    make_rig: MakeRig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(courier, "_MAX_WAITING", 300)
    most, add = [0], Lanes.add

    def counted(self: Any, *arguments: Any) -> bool:
        held: bool = add(self, *arguments)
        most[0] = max(most[0], len(self))
        return held

    monkeypatch.setattr(Lanes, "add", counted)
    world = World()
    world.broken = TryLaterError("away")
    rig = make_rig(world)
    people = [person(f"p{number}") for number in range(20)]
    events = [seen(people[number % 20], rig.clock()) for number in range(1500)]
    await rig.start()
    rig.append(*events)
    await rig.until(lambda: rig.runner.standing().condition.value == "resting")
    await rig.until(lambda: rig.runner.standing().waiting >= ledger.WINDOW)
    world.broken = None
    await rig.settled()
    for start in range(20):
        assert [one for one in world.effects if one in ids(*events[start::20])] == ids(*events[start::20])
    assert len(world.effects) == 1500
    assert most[0] <= 300 + ledger.WINDOW


async def test_more_dead_letters_than_fit_are_replayed_piece_by_piece(
    make_rig: MakeRig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(courier, "_MAX_WAITING", 50)
    monkeypatch.setattr(courier, "_PAGE", 7)
    world = World()
    world.broken = UndeliverableError("no")
    rig = make_rig(world)
    events = [seen(person(f"p{number % 3}"), rig.clock()) for number in range(200)]
    await rig.start()
    rig.append(*events)
    await rig.until(lambda: len(states(rig, State.DEAD)) == 200)
    world.broken = None
    assert rig.host is not None
    assert rig.host.replay("recorder", [], rig.clock()) == 200
    fresh = seen(person("p0"), rig.clock())
    rig.append(fresh)
    await rig.until(lambda: len(world.effects) == 201)
    assert world.effects[-1] == fresh.event_id or fresh.event_id in world.effects
    for start in range(3):
        assert [one for one in world.effects if one in ids(*events[start::3])] == ids(*events[start::3])
    assert [one for one in world.effects if one in ids(*events[::3], fresh)][-1] == fresh.event_id


async def test_one_person_who_takes_long_does_not_hold_up_the_others(
    make_rig: MakeRig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(courier, "_SLOW_S", 0.01)
    monkeypatch.setattr(courier, "_LONGEST_REST_S", 0.05)
    world, gate = World(), asyncio.Event()
    loop = asyncio.get_running_loop()
    rig = make_rig(world)
    slow = [seen(ANA, rig.clock()) for _ in range(ledger.WINDOW + 10)]
    others = [seen(BEA, rig.clock()) for _ in range(3)]

    async def wait(delivery: Delivery) -> None:
        if delivery.event == slow[0]:
            await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(gate.wait(), loop))

    world.on_handle = wait
    await rig.start()
    rig.append(*slow, *others)
    await rig.until(lambda: world.effects == ids(*others))
    # The place has moved on: what waits is on the disk.
    await rig.until(lambda: rig.runner.standing().place == rig.journal.head)
    gate.set()
    await rig.settled()
    assert world.effects == ids(*others, *slow)


@pytest.mark.parametrize("at_most_once", [False, True])
async def test_a_waiting_event_far_beyond_the_place_is_delivered_once_after_a_restart(
    make_rig: MakeRig, *, at_most_once: bool
) -> None:
    """It is taken up from the disk first, and met in the journal later."""
    world = World()
    rig = make_rig(world, at_most_once=at_most_once)
    events = [seen(person(f"p{number}"), rig.clock()) for number in range(ledger.WINDOW * 3)]
    rig.append(*events)
    outbox = rig.runner.outbox
    waiting = Entry(
        sequence=len(events),
        event_id=events[-1].event_id,
        collection_id="default",
        subject_id=events[-1].about,
        state=State.WAITING,
        attempts=1,
        first_time=rig.clock(),
        next_time=rig.clock(),
        update_time=rig.clock(),
        error="",
    )
    outbox.settle(0, [], [waiting])
    await rig.start()
    await rig.settled()
    assert sorted(world.effects) == sorted(ids(*events))


async def test_events_that_were_gone_before_they_could_be_delivered_are_counted(make_rig: MakeRig) -> None:
    world = World()
    rig = make_rig(world)
    old = [seen(ANA, rig.clock()) for _ in range(5)]
    rig.append(*old)
    rig.clock.advance(100)
    rig.journal.forget_before(rig.clock())
    event = seen(ANA, rig.clock())
    rig.append(event)
    await rig.start()
    await rig.settled()
    assert world.effects == ids(event)
    assert rig.runner.standing().tally.missed == 5


async def test_one_that_waited_until_its_event_was_gone_is_counted(make_rig: MakeRig) -> None:
    world = World()
    world.broken = TryLaterError("away")
    rig = make_rig(world)
    await rig.start()
    rig.append(seen(ANA, rig.clock()))
    await rig.until(lambda: len(states(rig, State.WAITING)) == 1)
    await rig.stop()
    rig.clock.advance(100)
    rig.journal.forget_before(rig.clock())
    world.broken = None
    await rig.start()
    await rig.settled()
    assert rig.runner.standing().tally.missed == 1
    assert world.effects == []


async def test_nothing_is_settled_before_what_waits_was_taken_up(
    make_rig: MakeRig, monkeypatch: pytest.MonkeyPatch
) -> None:
    rig, gate, waiting = make_rig(World()), threading.Event(), Outbox.waiting

    def gated(self: Outbox, after: int, limit: int) -> list[Entry]:
        assert gate.wait(20)
        return waiting(self, after, limit)

    monkeypatch.setattr(Outbox, "waiting", gated)
    await rig.start()
    assert rig.runner.standing().place == rig.journal.head
    assert not rig.is_settled()
    gate.set()
    await rig.settled()


async def test_an_error_may_say_anything(make_rig: MakeRig) -> None:
    class WordlessError(Exception):
        def __str__(self) -> str:
            raise RuntimeError

    world = World()
    errors = [WordlessError(), RuntimeError("nul \0, half a pair \udc80, and long" + "!" * 10_000)]
    rig = make_rig(world)

    def fail(delivery: Delivery) -> None:
        if errors:
            raise errors.pop()

    world.on_handle = fail
    await rig.start()
    event = seen(ANA, rig.clock())
    rig.append(event)
    await rig.until(lambda: len(errors) == 1)
    await rig.settled()
    assert world.effects == ids(event)
    assert rig.runner.standing().tally.last_error == "WordlessError"
