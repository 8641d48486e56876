"""The journal: what happened, on disk, in the order in which it was written.

Each event has a number that only grows. A watcher keeps nothing here but its place, the number of the last event it
read, and is given it as an opaque token, which names the journal too and so holds across restarts of the server. What
``append`` has returned from is on the disk; only then may anybody be told, so that who resumes misses nothing and gets
nothing twice. What is past its retention is forgotten, and who would have read it is told; what is said of somebody who
was erased is gone from the file, and their events are simply no longer there.

Retention goes by the time of the events, and so by the wall clock: one that is set far ahead forgets too early.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from threading import Lock
from typing import Self

from ulid import ULID

from facesvc.errors import FacesvcError, InputError
from facesvc.events import rows
from facesvc.events.records import Event, Stay
from facesvc.sqlite import Database, to_microseconds

_BATCH = 500
_MAX_DIGITS = 18
_INSERT_META = "INSERT OR IGNORE INTO meta VALUES (1, ?, 0)"
# Written once more after a failure of which nobody knows whether it came before the commit: the first stands.
_INSERT_EVENT = """
    INSERT INTO events (event_id, event_time, kind, collection_id, zone, subject_id, payload)
    VALUES (:event_id, :event_time, :kind, :collection_id, :zone, :subject_id, :payload)
    ON CONFLICT (event_id) DO NOTHING
"""
_PUT_STAY = """
    INSERT INTO stays VALUES (:stay_id, :collection_id, :zone, :subject_id, :arrive_time, :leave_time, :payload)
    ON CONFLICT (stay_id) DO UPDATE
       SET arrive_time = excluded.arrive_time, leave_time = excluded.leave_time, payload = excluded.payload
"""
_HEAD = "SELECT coalesce(max(seq), 0) FROM sqlite_sequence WHERE name = 'events'"
_READ = "SELECT sequence, kind, payload FROM events WHERE sequence > ? ORDER BY sequence LIMIT ?"
_LIST = "SELECT event_time, sequence, kind, payload FROM events WHERE "
_IN_ORDER = " ORDER BY event_time, sequence LIMIT :limit"
_OPEN_STAYS = "SELECT stay_id, payload FROM stays WHERE leave_time IS NULL ORDER BY stay_id"
_STAYS = "SELECT arrive_time, stay_id, payload FROM stays WHERE "
_BY_ARRIVAL = " ORDER BY arrive_time, stay_id LIMIT :limit"
_OLD = "SELECT sequence FROM events WHERE event_time < ? ORDER BY event_time LIMIT ?"
_OLD_STAYS = "SELECT stay_id FROM stays WHERE leave_time < ? LIMIT ?"


class EventsMissedError(FacesvcError):
    """A watcher asks for events that are no longer kept."""

    reason = "EVENTS_MISSED"


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which events or stays: ``start`` <= time < ``end``, and what is not empty."""

    start: datetime | None = None
    end: datetime | None = None
    collection_id: str = ""
    zone: str = ""
    subject_id: str = ""

    def conditions(self) -> tuple[list[str], dict[str, object]]:
        """For the columns that events and stays have in common: SQL, and its named parameters."""
        names = ("collection_id", "zone", "subject_id")
        given = {name: getattr(self, name) for name in names if getattr(self, name)}
        return [f"{name} = :{name}" for name in given], dict(given)


@dataclass(frozen=True, slots=True)
class Page:
    """Events in order, and after which time (in microseconds) and number the next page begins; None on the last."""

    events: Sequence[Event]
    next_after: tuple[int, int] | None


class Journal:
    """The events and stays of one file. Every method may be called from any thread."""

    def __init__(self, database: Database) -> None:
        self._database = database
        [(self._journal_id,)] = database.select("SELECT journal_id FROM meta")
        self._advancing = Lock()
        self._head = self._newest()

    @classmethod
    def open(cls, path: Path, now: datetime, busy_timeout_s: float = 5.0) -> Self:
        """The journal at ``path``, made where there is none.

        Raises ``PreconditionError`` where a newer facesvc wrote it, ``DependencyError`` where it cannot be used.
        """
        database = Database(path, rows.EVENTS, busy_timeout_s)
        try:
            database.migrate(now)
            database.execute(_INSERT_META, (str(ULID()),))
            return cls(database)
        except BaseException:
            database.close()
            raise

    def close(self) -> None:
        """Lets go of the file; closing twice is allowed."""
        self._database.close()

    @property
    def head(self) -> int:
        """The number of the newest event that was written; 0 before the first."""
        return self._head

    def token(self, place: int) -> str:
        """What a watcher comes back with to go on after the event with that number."""
        return f"{self._journal_id}.{place}"

    def place(self, token: str) -> int:
        """The number that a token was made of. Raises ``InputError`` for one that is none of this journal's."""
        journal_id, _, digits = token.partition(".")
        if not (digits.isascii() and digits.isdigit() and len(digits) <= _MAX_DIGITS):
            raise InputError("this is not a token of WatchEvents", field="resume_token")
        if journal_id != self._journal_id:
            message = "this token is of another server, or of an events file that was since replaced: watch without one"
            raise InputError(message, field="resume_token")
        if int(digits) > self._head:
            raise InputError("this token is of an event that has not happened", field="resume_token")
        return int(digits)

    def append(self, events: Sequence[Event], stays: Sequence[Stay]) -> None:
        """Write events in this order, and stays as they are now; all of it or nothing."""
        with self._database.transaction():
            for event in events:
                self._database.execute(_INSERT_EVENT, rows.event_to_row(event))
            for stay in stays:
                self._database.execute(_PUT_STAY, rows.stay_to_row(stay))
        self._advance(self._newest())

    def _advance(self, sequence: int) -> None:
        with self._advancing:
            self._head = max(self._head, sequence)

    def _newest(self) -> int:
        [(sequence,)] = self._database.select(_HEAD)
        return int(sequence)

    def read(self, place: int, limit: int) -> list[tuple[int, Event]]:
        """The events after ``place``, each with its number. Raises ``EventsMissedError`` where some were forgotten."""
        with self._database.transaction():
            [(forgotten,)] = self._database.select("SELECT forgotten FROM meta")
            if place < forgotten:
                raise EventsMissedError("events after this token are past their retention: watch again without a token")
            found = self._database.select(_READ, (place, limit))
        if found:
            self._advance(found[-1][0])  # what ``append`` has committed a moment ago, and will say so
        return [rows.event_from_row(row) for row in found]

    def list_events(self, wanted: Wanted, limit: int, after: tuple[int, int] | None = None) -> Page:
        """Events by their time, oldest first."""
        conditions, parameters = wanted.conditions()
        if wanted.start is not None:
            conditions.append("event_time >= :start")
            parameters["start"] = to_microseconds(wanted.start)
        if wanted.end is not None:
            conditions.append("event_time < :end")
            parameters["end"] = to_microseconds(wanted.end)
        if after is not None:
            conditions.append("(event_time, sequence) > (:time, :sequence)")
            parameters |= {"time": after[0], "sequence": after[1]}
        sql = _LIST + (" AND ".join(conditions) or "TRUE") + _IN_ORDER
        found = self._database.select(sql, parameters | {"limit": limit + 1})
        page = found[:limit]
        events = [rows.event_from_row(row[1:])[1] for row in page]
        return Page(events, (page[-1][0], page[-1][1]) if len(found) > limit else None)

    def open_stays(self) -> list[Stay]:
        """Of those who are present."""
        return [rows.stay_from_row(row) for row in self._database.select(_OPEN_STAYS)]

    def stays(self, wanted: Wanted) -> Iterator[Stay]:
        """Stays of which some part is wanted, in the order in which they began; read piece by piece."""
        conditions, parameters = wanted.conditions()
        if wanted.start is not None:
            conditions.append("(leave_time IS NULL OR leave_time >= :start)")
            parameters["start"] = to_microseconds(wanted.start)
        if wanted.end is not None:
            conditions.append("arrive_time < :end")
            parameters["end"] = to_microseconds(wanted.end)
        first = _STAYS + (" AND ".join(conditions) or "TRUE") + _BY_ARRIVAL
        following = _STAYS + " AND ".join([*conditions, "(arrive_time, stay_id) > (:time, :stay_id)"]) + _BY_ARRIVAL
        found = self._database.select(first, parameters | {"limit": _BATCH})
        while found:
            yield from (rows.stay_from_row(row[1:]) for row in found)
            if len(found) < _BATCH:
                return
            last = {"time": found[-1][0], "stay_id": found[-1][1]}
            found = self._database.select(following, parameters | last | {"limit": _BATCH})

    def erase_subject(self, collection_id: str, subject_id: str) -> None:
        """Remove all that is said of somebody, from the file too; the tokens of watchers hold on."""
        key = (collection_id, subject_id)
        with self._database.transaction():
            self._database.execute("DELETE FROM events WHERE collection_id = ? AND subject_id = ?", key)
            self._database.execute("DELETE FROM stays WHERE collection_id = ? AND subject_id = ?", key)
        self._database.forget()

    def forget_before(self, time: datetime) -> bool:
        """Remove some of what ended before ``time``; whether there may be more. Each call is a short one."""
        before = to_microseconds(time)
        with self._database.transaction():
            old = [sequence for (sequence,) in self._database.select(_OLD, (before, _BATCH))]
            for sequence in old:
                self._database.execute("DELETE FROM events WHERE sequence = ?", (sequence,))
            if old:
                self._database.execute("UPDATE meta SET forgotten = max(forgotten, ?)", (max(old),))
            stays = self._database.select(_OLD_STAYS, (before, _BATCH))
            for stay in stays:
                self._database.execute("DELETE FROM stays WHERE stay_id = ?", stay)
        return _BATCH in {len(old), len(stays)}
