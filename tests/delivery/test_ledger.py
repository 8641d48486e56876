"""What is written down of events, and when, over each kind of database."""

import asyncio
import threading
from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime

import pytest
from events.making import T0, at, seen

from facesvc.database import Database
from facesvc.delivery.ledger import WINDOW, Ledger
from facesvc.delivery.outbox import Entry, Outbox, State
from facesvc.errors import DependencyError
from facesvc.events.journal import Journal


class SlowOutbox(Outbox):
    """One whose writing a test can hold up, or break."""

    gate: threading.Event | None = None
    writing = threading.Event()
    broken = False

    def settle(self, place: int, done: Iterable[int], entries: Iterable[Entry]) -> None:
        self.writing.set()
        if self.gate is not None:
            assert self.gate.wait(20)
        if self.broken:
            raise DependencyError("by a test")
        super().settle(place, done, entries)


class Clock:
    seconds = 100.0

    def __call__(self) -> float:
        return self.seconds

    def now(self) -> datetime:
        return at(self.seconds)


@pytest.fixture
def outbox(database: Database, journal: Journal) -> SlowOutbox:
    box = SlowOutbox(database, journal, "hello")
    box.enlist()
    return box


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def ledger(outbox: SlowOutbox, clock: Clock) -> Ledger:
    made = Ledger(outbox, clock.now, clock)
    await made.open()
    return made


def entry(sequence: int, state: State = State.WAITING) -> Entry:
    return Entry(
        sequence=sequence,
        event_id=f"event-{sequence}",
        collection_id="c",
        subject_id="jane",
        state=state,
        attempts=1,
        first_time=T0,
        next_time=T0,
        update_time=T0,
        error="",
    )


async def test_the_place_is_before_the_first_that_is_open(journal: Journal, ledger: Ledger) -> None:
    journal.append([seen() for _ in range(3)], [])
    events, missed, more = await ledger.read()
    assert ([number for number, _ in events], missed, more) == ([1, 2, 3], 0, False)
    assert ledger.place == 0
    ledger.close(2)
    assert ledger.place == 0
    ledger.close(1)
    assert ledger.place == 2
    ledger.write_down(entry(3))
    assert ledger.place == 3
    assert ledger.certain_place == 0
    await ledger.flush()
    assert ledger.certain_place == 3


async def test_no_more_are_open_than_the_window_has_room_for(journal: Journal, ledger: Ledger) -> None:
    journal.append([seen() for _ in range(WINDOW + 5)], [])
    events, _, more = await ledger.read()
    assert (len(events), more, ledger.has_room) == (WINDOW, True, False)
    ledger.close(1)
    assert ledger.has_room
    assert [number for number, _ in (await ledger.read())[0]] == [WINDOW + 1]


async def test_entries_are_written_at_once_and_the_place_a_moment_later(
    journal: Journal, ledger: Ledger, outbox: SlowOutbox, clock: Clock
) -> None:
    assert ledger.flush_time is None
    journal.append([seen() for _ in range(4)], [])
    await ledger.read()
    ledger.write_down(entry(1))
    await ledger.flush()
    assert outbox.open(T0)[0] == 1
    ledger.close(2)
    await ledger.flush()
    assert outbox.open(T0)[0] == 1
    assert ledger.flush_time is not None
    clock.seconds = ledger.flush_time
    await ledger.flush()
    assert outbox.open(T0)[0] == 2
    ledger.close(3)
    await ledger.flush(now=True)
    assert outbox.open(T0)[0] == 3


async def test_what_could_not_be_written_is_written_later_and_in_order(
    journal: Journal, ledger: Ledger, outbox: SlowOutbox
) -> None:
    journal.append([seen() for _ in range(3)], [])
    await ledger.read()
    outbox.broken = True
    ledger.write_down(entry(1))
    ledger.write_down(entry(3))
    ledger.finish(2)
    with pytest.raises(DependencyError):
        await ledger.flush()
    with pytest.raises(DependencyError):
        await ledger.write_now(entry(2, State.BEGUN))
    ledger.write_down(entry(1, State.DEAD))
    assert ledger.unwritten == {1, 2, 3}
    outbox.broken = False
    await ledger.flush(now=True)
    assert outbox.counts() == {State.DEAD: 1, State.WAITING: 1}
    assert outbox.open(T0)[0] == 3
    assert ledger.unwritten == set()


async def test_that_one_is_begun_is_not_overwritten_by_what_was_before(ledger: Ledger, outbox: SlowOutbox) -> None:
    ledger.write_down(entry(5))
    await ledger.write_now(entry(5, State.BEGUN))
    await ledger.flush(now=True)
    assert outbox.counts() == {State.BEGUN: 1}


async def test_what_is_on_its_way_to_the_disk_when_somebody_is_forgotten_is_there_first(
    ledger: Ledger, outbox: SlowOutbox
) -> None:

    other = replace(entry(6), subject_id="joe")
    outbox.gate = threading.Event()
    outbox.writing.clear()
    ledger.write_down(entry(5))
    writing = asyncio.create_task(ledger.flush())
    await asyncio.to_thread(outbox.writing.wait, 20)
    ledger.write_down(entry(7))
    ledger.write_down(other)
    forgetting = asyncio.create_task(ledger.forget(("c", "jane"), [7]))
    await asyncio.sleep(0)
    assert not forgetting.done()
    outbox.gate.set()
    await forgetting
    await writing
    await ledger.flush()
    assert [one.sequence for one in outbox.waiting(0, 10)] == [5, 6]  # which the host removes after that


async def test_what_waits_on_the_disk_is_not_new_when_the_journal_comes_to_it(
    journal: Journal, ledger: Ledger, outbox: SlowOutbox
) -> None:
    journal.append([seen() for _ in range(3)], [])
    outbox.settle(0, [], [entry(2)])
    assert [one.sequence for one in await ledger.waiting(0, 10)] == [2]
    assert [number for number, _ in (await ledger.read())[0]] == [1, 3]
