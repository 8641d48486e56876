"""What one plugin is still to be given, on the disk, over each kind of database."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from events.making import T0, Welcoming, at, keyring_of, seen, unknown

from facesvc.database import Database, migrate
from facesvc.database.opening import open_database
from facesvc.delivery.notes import forget
from facesvc.delivery.outbox import Entry, Outbox, State, forget_before
from facesvc.delivery.schema import DELIVERY
from facesvc.events.journal import Journal


@pytest.fixture
def outbox(database: Database, journal: Journal) -> Outbox:
    """That of a plugin which was there before the first event."""
    box = Outbox(database, journal, "hello")
    box.enlist()
    return box


def entry(sequence: int, state: State = State.WAITING, time: datetime = T0, subject_id: str = "jane") -> Entry:
    return Entry(
        sequence=sequence,
        event_id=f"event-{sequence}",
        collection_id="c",
        subject_id=subject_id,
        state=state,
        attempts=2,
        first_time=T0,
        next_time=time + timedelta(seconds=3),
        update_time=time,
        error="it did not work",
    )


def test_one_that_is_new_is_not_told_of_the_past(database: Database, journal: Journal) -> None:
    journal.append([seen(), seen()], [])
    box = Outbox(database, journal, "hello")
    box.enlist()
    assert box.open(T0) == (2, set())
    event = seen()
    journal.append([event], [])
    assert box.read(2, 10) == ([(3, event)], 3, 0)


def test_one_that_was_away_goes_on_where_it_was(database: Database, journal: Journal, outbox: Outbox) -> None:
    journal.append([seen(), seen()], [])
    outbox.settle(1, [], [])
    again = Outbox(database, journal, "hello")
    again.enlist()
    assert again.open(T0) == (1, set())


def test_the_place_never_goes_back(outbox: Outbox) -> None:
    outbox.settle(5, [], [])
    outbox.settle(3, [], [])
    assert outbox.open(T0) == (5, set())


def test_an_entry_comes_back_as_it_was_and_changes_with_its_state(outbox: Outbox) -> None:
    first, second = entry(7), entry(8, subject_id="")
    outbox.settle(0, [], [second, first])
    assert outbox.waiting(0, 10) == [first, second]
    assert outbox.waiting(7, 10) == [second]
    assert outbox.waiting(0, 1) == [first]
    # When it was tried first stays what it was.
    dead = replace(first, state=State.DEAD, attempts=9, update_time=at(9), next_time=at(10), error="never")
    outbox.settle(0, [], [replace(dead, first_time=at(8))])
    assert outbox.waiting(0, 10) == [second]
    assert outbox.list_entries(State.DEAD, 10) == [dead]
    assert outbox.counts() == {State.WAITING: 1, State.DEAD: 1}


def test_what_is_delivered_beyond_the_place_is_known_after_a_crash(outbox: Outbox) -> None:
    outbox.settle(0, [], [entry(number) for number in (2, 3, 4)])
    outbox.settle(0, [3, 4], [])
    assert outbox.open(T0) == (0, {3, 4})
    outbox.settle(3, [], [])  # and the row is gone when the place has passed it
    assert outbox.counts() == {State.WAITING: 1, State.DELIVERED: 1}
    assert outbox.open(T0) == (3, {4})


@pytest.mark.parametrize("state", [State.DEAD, State.EXPIRED, State.UNCERTAIN])
def test_what_was_set_aside_is_known_after_a_crash_and_stays(outbox: Outbox, state: State) -> None:
    outbox.settle(0, [], [entry(2, state)])
    assert outbox.open(T0) == (0, {2})
    outbox.settle(9, [], [])
    assert outbox.counts() == {state: 1}


def test_what_was_begun_at_a_crash_is_uncertain(outbox: Outbox) -> None:
    outbox.settle(0, [], [entry(2, State.BEGUN), entry(3)])
    assert outbox.open(at(60)) == (0, {2})
    [found] = outbox.list_entries(State.UNCERTAIN, 10)
    assert (found.sequence, found.update_time) == (2, at(60))
    assert "the server ended" in found.error
    assert [one.sequence for one in outbox.waiting(0, 10)] == [3]


def test_settling_is_all_or_nothing(outbox: Outbox) -> None:
    with pytest.raises(AttributeError):
        outbox.settle(5, [], [entry(2), None])  # type: ignore[list-item] # a bug of ours in the middle
    assert outbox.open(T0) == (0, set())
    assert outbox.counts() == {}


def test_replay_is_for_what_is_dead_or_uncertain(outbox: Outbox) -> None:
    states = [State.DEAD, State.UNCERTAIN, State.EXPIRED, State.WAITING, State.BEGUN, State.DELIVERED]
    outbox.settle(0, [], [entry(number, state) for number, state in enumerate(states, 1)])
    assert outbox.replay([1, 2, 3, 4, 5, 6, 99], at(100)) == 2
    replayed = [one for one in outbox.waiting(0, 10) if one.sequence in {1, 2}]
    assert [(one.attempts, one.first_time, one.next_time) for one in replayed] == [(0, at(100), at(100))] * 2


def test_what_was_set_aside_goes_with_its_retention(database: Database, outbox: Outbox) -> None:
    states = list(State)
    outbox.settle(0, [], [entry(number, state, at(10)) for number, state in enumerate(states)])
    forget_before(database, at(10))
    assert len(outbox.counts()) == len(states)
    forget_before(database, at(11))
    assert set(outbox.counts()) == {State.WAITING, State.BEGUN, State.DELIVERED}


def test_what_was_missed_is_counted(journal: Journal, outbox: Outbox) -> None:
    late = seen(at(100))
    journal.append([seen(at(1)), seen(at(2)), seen(at(3)), late], [])
    outbox.settle(1, [], [])
    journal.forget_before(at(50))
    assert outbox.read(1, 10) == ([], 3, 2)
    assert outbox.read(3, 10) == ([(4, late)], 4, 0)
    assert outbox.event(2) is None
    assert outbox.event(4) == late


def test_an_erased_person_leaves_nothing_of_what_was_to_be_delivered(database: Database, outbox: Outbox) -> None:
    outbox.settle(0, [], [entry(1, State.DEAD), entry(2), entry(3, subject_id="joe")])
    assert forget(database, ("c", "jane")) == 0
    assert [one.sequence for one in outbox.waiting(0, 10)] == [3]
    assert outbox.counts() == {State.WAITING: 1}


def test_plugins_know_nothing_of_each_other(database: Database, journal: Journal, outbox: Outbox) -> None:
    other = Outbox(database, journal, "other")
    other.enlist()
    outbox.settle(4, [], [entry(7)])
    other.settle(2, [], [entry(7, State.DEAD), entry(8, State.BEGUN)])
    assert outbox.open(T0) == (4, set())
    assert outbox.counts() == {State.WAITING: 1}
    other.settle(3, [7], [])
    assert outbox.counts() == {State.WAITING: 1}


@contextmanager
def box(url: str, key_path: Path, box_id: str) -> Iterator[tuple[Journal, Outbox]]:
    """One of several boxes that share a database."""
    database = open_database(url)
    try:
        migrate(database, DELIVERY, T0)
        journal = Journal(database, keyring_of(database, key_path, Welcoming), T0, box_id)
        outbox = Outbox(database, journal, "hello")
        outbox.enlist()
        yield journal, outbox
    finally:
        database.close()


def test_each_of_two_boxes_delivers_its_own_events(postgres_url: str, key_path: Path) -> None:
    with box(postgres_url, key_path, "one") as (journal, outbox), box(postgres_url, key_path, "two") as (others, other):
        mine, theirs, mine_too = seen(), unknown(), seen()
        journal.append([mine], [])
        others.append([theirs], [])
        journal.append([mine_too], [])
        assert outbox.read(0, 10) == ([(1, mine), (3, mine_too)], 3, 0)
        assert other.read(0, 1) == ([(2, theirs)], 2, 0)
        others.refresh()
        assert other.read(2, 10) == ([], 3, 0)
        outbox.settle(3, [], [entry(1), entry(3, State.BEGUN)])
        # What the other box has begun is not uncertain because this one starts.
        assert other.open(T0) == (0, set())
        assert outbox.counts() == {State.WAITING: 1, State.BEGUN: 1}
        assert other.replay([1, 3], T0) == 0
        assert other.waiting(0, 10) == []
