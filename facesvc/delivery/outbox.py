"""What one plugin is still to be given, on the disk: its place in the journal, and what was not dealt with.

The journal is the queue. A plugin's place is the number up to which every event is settled: delivered, passed over, or
written down here as waiting, dead, or expired. A crash loses nothing, because what lies after the place is read again.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import Enum

from facesvc.database import Database, Row, from_microseconds, to_microseconds
from facesvc.events.journal import EventsMissedError, Journal
from facesvc.events.records import Event

Lane = tuple[str, str]
"""What keeps its order: collection and person, or what a camera saw of nobody known."""


class State(Enum):
    """What became of an event that was not simply delivered."""

    WAITING = "waiting"
    """To be tried again, or behind one of the same person that is."""
    BEGUN = "begun"
    """Given to a plugin that must not get it twice; nobody knows yet what came of it."""
    DELIVERED = "delivered"
    """But something before it is not settled yet."""
    DEAD = "dead"
    """Given up."""
    EXPIRED = "expired"
    """Not delivered: it was too late."""
    UNCERTAIN = "uncertain"
    """The server ended while it was with a plugin that must not get it twice."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """An event that is not simply delivered. ``first_time``: since when it waits, or when it was tried first."""

    sequence: int
    event_id: str
    collection_id: str
    subject_id: str
    state: State
    attempts: int
    first_time: datetime
    next_time: datetime
    update_time: datetime
    error: str


_PUT = """
    INSERT INTO deliveries (plugin, box_id, sequence, event_id, collection_id, subject_id, state, attempts, first_time,
                            next_time, update_time, error)
    VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
    ON CONFLICT (plugin, sequence) DO UPDATE
       SET state = excluded.state, attempts = excluded.attempts, next_time = excluded.next_time,
           update_time = excluded.update_time, error = excluded.error
"""
_OF_STATE = """
    SELECT sequence, event_id, collection_id, subject_id, state, attempts, first_time, next_time, update_time, error
      FROM deliveries WHERE plugin = ? AND box_id = ? AND state = ? AND sequence > ? ORDER BY sequence LIMIT ?
"""
_COUNTS = "SELECT state, count(*) FROM deliveries WHERE plugin = ? AND box_id = ? GROUP BY state"
_DELIVERED = "UPDATE deliveries SET state = 'delivered' WHERE plugin = ? AND sequence = ?"
_PASSED = "DELETE FROM deliveries WHERE plugin = ? AND box_id = ? AND state = 'delivered' AND sequence <= ?"
_KNOWN = "SELECT sequence FROM deliveries WHERE plugin = ? AND box_id = ? AND sequence > ? AND state <> 'waiting'"
_MOVE = "UPDATE plugin_places SET sequence = ? WHERE plugin = ? AND box_id = ? AND sequence < ?"
_REPLAY = """
    UPDATE deliveries SET state = 'waiting', attempts = 0, first_time = ?, next_time = ?, update_time = ?
     WHERE plugin = ? AND box_id = ? AND sequence = ? AND state IN ('dead', 'uncertain')
"""
_INTERRUPTED = """
    UPDATE deliveries SET state = 'uncertain', update_time = ?, error = 'the server ended while it was being delivered'
     WHERE plugin = ? AND box_id = ? AND state = 'begun'
"""


class Outbox:
    """The outbox of one plugin on one box. Every method blocks, and may be called from any thread.

    Raises ``DependencyError`` where the database cannot be used.
    """

    def __init__(self, database: Database, journal: Journal, plugin: str) -> None:
        self.plugin = plugin
        self._database = database
        self._journal = journal
        self._key = (plugin, journal.box_id)

    def enlist(self) -> None:
        """Give a plugin that is new its place: after the newest event, for it is not told of the past."""
        row = (*self._key, self._journal.head)
        self._database.execute("INSERT INTO plugin_places VALUES (?, ?, ?) ON CONFLICT DO NOTHING", row)

    def open(self, now: datetime) -> tuple[int, set[int]]:
        """The place, and which events after it are settled already.

        What was begun when the server ended is uncertain from here on.
        """
        with self._database.transaction():
            self._database.execute(_INTERRUPTED, (to_microseconds(now), *self._key))
            sql = "SELECT sequence FROM plugin_places WHERE plugin = ? AND box_id = ?"
            [(place,)] = self._database.select(sql, self._key)
            known = self._database.select(_KNOWN, (*self._key, place))
        return int(place), {sequence for (sequence,) in known}

    def read(self, place: int, limit: int) -> tuple[list[tuple[int, Event]], int, int]:
        """Events of this box after ``place`` with their numbers, up to where that is, and how many were missed.

        Missed is what went by its retention before it could be delivered; at most so many, for among these numbers may
        be those of other boxes.
        """
        try:
            return *self._journal.read_own(place, limit), 0
        except EventsMissedError:
            forgotten = self._journal.forgotten
            return [], forgotten, forgotten - place

    def event(self, sequence: int) -> Event | None:
        """An event; None where it is past its retention, or about somebody who was erased."""
        return self._journal.find(sequence)

    def settle(self, place: int, done: Iterable[int], entries: Iterable[Entry]) -> None:
        """Write down what has come of events, all in one transaction: ``done`` is what was here and is delivered."""
        with self._database.transaction():
            for entry in entries:
                self._database.execute(_PUT, (*self._key, *_to_row(entry)))
            for sequence in done:
                self._database.execute(_DELIVERED, (self.plugin, sequence))
            self._database.execute(_PASSED, (*self._key, place))
            self._database.execute(_MOVE, (place, *self._key, place))

    def waiting(self, after: int, limit: int) -> list[Entry]:
        """Those that wait, in order."""
        return self.list_entries(State.WAITING, limit, after)

    def list_entries(self, state: State, limit: int, after: int = 0) -> list[Entry]:
        """At most so many in a state, in order, with numbers after ``after``."""
        found = self._database.select(_OF_STATE, (*self._key, state.value, after, limit))
        return [_from_row(row) for row in found]

    def counts(self) -> dict[State, int]:
        """How many are in each state."""
        return {State(state): count for state, count in self._database.select(_COUNTS, self._key)}

    def replay(self, sequences: Sequence[int], now: datetime) -> int:
        """Let dead or uncertain ones wait to be delivered again; how many of these there were."""
        time = to_microseconds(now)
        with self._database.transaction():
            return sum(
                self._database.execute(_REPLAY, (time, time, time, *self._key, sequence)) for sequence in sequences
            )


def forget_before(database: Database, time: datetime) -> None:
    """Remove what has been dead, expired or uncertain since before ``time``, of all plugins."""
    sql = "DELETE FROM deliveries WHERE state IN ('dead', 'expired', 'uncertain') AND update_time < ?"
    database.execute(sql, (to_microseconds(time),))


def _to_row(entry: Entry) -> Row:
    return (
        entry.sequence,
        entry.event_id,
        entry.collection_id,
        entry.subject_id,
        entry.state.value,
        entry.attempts,
        to_microseconds(entry.first_time),
        to_microseconds(entry.next_time),
        to_microseconds(entry.update_time),
        entry.error,
    )


def _from_row(row: Row) -> Entry:
    sequence, event_id, collection_id, subject_id, state, attempts, first, following, update, error = row
    return Entry(
        sequence=sequence,
        event_id=event_id,
        collection_id=collection_id,
        subject_id=subject_id,
        state=State(state),
        attempts=attempts,
        first_time=from_microseconds(first),
        next_time=from_microseconds(following),
        update_time=from_microseconds(update),
        error=error,
    )
