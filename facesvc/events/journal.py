"""The journal: what happened, in the database, in the order in which it was written.

Each event has a number that only grows. A watcher keeps nothing here but its place, the number of the last event it
read, and is given it as an opaque token, which names the journal too and so holds across restarts of the server, and on
every box that shares the database. What ``append`` has returned from is on the disk; only then may anybody be told, so
that who resumes misses nothing and gets nothing twice. What is past its retention is forgotten, and who would have read
it is told. What is said of somebody who was erased is gone, and what a backup or a gap in a file still holds of it is
sealed with a key that is no more: such events are simply no longer there.

Retention goes by the time of the events, and so by the wall clock: one that is set far ahead forgets too early.
"""

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from threading import Lock

from ulid import ULID

from facesvc.database import Database, Row, migrate, to_microseconds
from facesvc.errors import FacesvcError, InputError, NotFoundError
from facesvc.events import rows
from facesvc.events.records import Event, Stay
from facesvc.events.sealer import Sealer

_BATCH = 500
_MAX_DIGITS = 18
_INSERT_JOURNAL = "INSERT INTO journal VALUES (1, ?, 0, 0) ON CONFLICT (singleton) DO NOTHING"
_NEXT = "UPDATE journal SET newest = newest + ? RETURNING newest"
# Written once more after a failure of which nobody knows whether it came before the commit: the first stands.
_INSERT_EVENT = """
    INSERT INTO events
    VALUES (:sequence, :event_id, :event_time, :kind, :collection_id, :zone, :subject_id, :payload, :box_id)
    ON CONFLICT (event_id) DO NOTHING
"""
_PUT_STAY = """
    INSERT INTO stays
    VALUES (:stay_id, :box_id, :collection_id, :zone, :subject_id, :arrive_time, :leave_time, :payload)
    ON CONFLICT (stay_id) DO UPDATE
       SET arrive_time = excluded.arrive_time, leave_time = excluded.leave_time, payload = excluded.payload
"""
_READ = rows.SELECT_EVENT + " WHERE sequence > ? ORDER BY sequence LIMIT ?"
_READ_OWN = rows.SELECT_EVENT + " WHERE sequence > ? AND box_id = ? ORDER BY sequence LIMIT ?"
_FIND = rows.SELECT_EVENT + " WHERE sequence = ?"
_IN_ORDER = " ORDER BY event_time, sequence LIMIT :limit"
_OPEN_STAYS = rows.SELECT_STAY + " WHERE leave_time IS NULL AND box_id = ? ORDER BY stay_id"
_BY_ARRIVAL = " ORDER BY arrive_time, stay_id LIMIT :limit"
_OLD = "SELECT sequence FROM events WHERE event_time < ? ORDER BY event_time LIMIT ?"
# An open stay of another box that nobody takes up any more: that box was renamed, or is gone.
_OLD_STAYS = """
    SELECT stay_id FROM stays WHERE leave_time < ? OR (leave_time IS NULL AND arrive_time < ? AND box_id <> ?) LIMIT ?
"""


class EventsMissedError(FacesvcError):
    """A watcher asks for events that are no longer kept."""

    reason = "EVENTS_MISSED"


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which events or stays: ``start`` <= time < ``end``, and what is not empty; events of all ``kinds`` for None."""

    start: datetime | None = None
    end: datetime | None = None
    collection_id: str = ""
    zone: str = ""
    subject_id: str = ""
    kinds: frozenset[str] | None = None

    def conditions(self) -> tuple[list[str], dict[str, object]]:
        """For the columns that events and stays have in common: SQL, and its named parameters."""
        names = ("collection_id", "zone", "subject_id")
        given = {name: getattr(self, name) for name in names if getattr(self, name)}
        return [f"{name} = :{name}" for name in given], dict(given)


Place = tuple[int, int]
"""Where an event stands in a list: its time in microseconds, and its number."""


@dataclass(frozen=True, slots=True)
class Page:
    """Events in order, the place of each, and after which one the next page begins; None on the last."""

    events: Sequence[Event]
    places: Sequence[Place]
    next_after: Place | None


class Journal:
    """The events and stays of one database. Every method may be called from any thread.

    ``box_id`` is the box whose stays are taken up after a restart, where several write one database. Raises
    ``PreconditionError`` where a newer facesvc wrote it, ``DependencyError`` where it cannot be used.
    """

    def __init__(self, database: Database, sealer: Sealer, now: datetime, box_id: str = "") -> None:
        self._database = database
        self._sealer = sealer
        self._box_id = box_id if database.shared else ""
        migrate(database, rows.EVENTS, now)
        database.execute(_INSERT_JOURNAL, (str(ULID.from_datetime(now)),))
        [(self._journal_id,)] = database.select("SELECT journal_id FROM journal")
        self._advancing = Lock()
        self._head = 0
        self.refresh()

    @property
    def box_id(self) -> str:
        """Which box writes, where several share the database; empty otherwise."""
        return self._box_id

    @property
    def shared(self) -> bool:
        """Whether other boxes write it too, so that ``refresh`` may find news."""
        return self._database.shared

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
            message = "this token is of another server, or of a gallery that was since replaced: watch without one"
            raise InputError(message, field="resume_token")
        if int(digits) > self._head and self.shared:
            self.refresh()  # another box has given it
        if int(digits) > self._head:
            raise InputError("this token is of an event that has not happened", field="resume_token")
        return int(digits)

    def append(self, events: Sequence[Event], stays: Sequence[Stay]) -> None:
        """Write events in this order, and stays as they are now; all of it or nothing.

        What is about somebody who is not known, or was erased meanwhile, is left out.
        """
        with self._database.transaction():
            newest = self._next(len(events))
            for sequence, event in enumerate(events, newest - len(events) + 1):
                with suppress(NotFoundError):
                    row = rows.event_to_row(event, sequence, self._box_id, self._sealer)
                    self._database.execute(_INSERT_EVENT, row)
            for stay in stays:
                with suppress(NotFoundError):
                    self._database.execute(_PUT_STAY, rows.stay_to_row(stay, self._box_id, self._sealer))
        self._advance(newest)

    def _next(self, count: int) -> int:
        """Wait for everybody else who writes, inside the caller's transaction; the last of ``count`` new numbers."""
        [(newest,)] = self._database.select(_NEXT, (count,))
        return int(newest)

    def _advance(self, sequence: int) -> None:
        with self._advancing:
            self._head = max(self._head, sequence)

    def refresh(self) -> bool:
        """Learn of what others wrote; whether there was something."""
        [(newest,)] = self._database.select("SELECT newest FROM journal")
        before = self._head
        self._advance(int(newest))
        return self._head > before

    def read(self, place: int, limit: int) -> list[tuple[int, Event]]:
        """The events after ``place``, each with its number. Raises ``EventsMissedError`` where some were forgotten."""
        while True:
            found = self._database.select(_READ, (place, limit))
            self._refuse_missed(place)
            if found:
                self._advance(found[-1][0])  # what ``append`` has committed a moment ago, and will say so
            events = [event for row in found if (event := rows.event_from_row(row, self._sealer)) is not None]
            if events or len(found) < limit:
                return events
            place = found[-1][0]

    def _refuse_missed(self, place: int) -> None:
        """To be asked after reading, so that what was forgotten meanwhile is noticed."""
        if place < self.forgotten:
            raise EventsMissedError("events after this token are past their retention: watch again without a token")

    @property
    def forgotten(self) -> int:
        """The number of the last event that is no longer kept for its age."""
        [(forgotten,)] = self._database.select("SELECT forgotten FROM journal")
        return int(forgotten)

    def read_own(self, place: int, limit: int) -> tuple[list[tuple[int, Event]], int]:
        """The events after ``place`` that this box wrote, each with its number, and up to which number these are all.

        Raises as ``read``.
        """
        head = self._head
        found = self._database.select(_READ_OWN, (place, self._box_id, limit))
        self._refuse_missed(place)
        events = [event for row in found if (event := rows.event_from_row(row, self._sealer)) is not None]
        return events, found[-1][0] if len(found) == limit else max([head, place, *(row[0] for row in found)])

    def find(self, sequence: int) -> Event | None:
        """An event by its number; None where it is past its retention, or about somebody who was erased."""
        found = self._database.select(_FIND, (sequence,))
        read = rows.event_from_row(found[0], self._sealer) if found else None
        return read[1] if read else None

    def list_events(self, wanted: Wanted, limit: int, after: Place | None = None) -> Page:
        """Events by their time, oldest first; a page may be shorter than ``limit`` and not the last one."""
        conditions, parameters = wanted.conditions()
        if wanted.start is not None:
            conditions.append("event_time >= :start")
            parameters["start"] = to_microseconds(wanted.start)
        if wanted.end is not None:
            conditions.append("event_time < :end")
            parameters["end"] = to_microseconds(wanted.end)
        if wanted.kinds is not None:
            named = {f"kind{number}": kind for number, kind in enumerate(sorted(wanted.kinds))}
            conditions.append(f"kind IN ({', '.join(f':{name}' for name in named)})" if named else "FALSE")
            parameters |= named
        if after is not None:
            conditions.append("(event_time, sequence) > (:time, :sequence)")
            parameters |= {"time": after[0], "sequence": after[1]}
        sql = rows.SELECT_EVENT + " WHERE " + (" AND ".join(conditions) or "TRUE") + _IN_ORDER
        found = self._database.select(sql, parameters | {"limit": limit + 1})
        page = found[:limit]
        places = [(row[1], row[0]) for row in page]
        read = zip(places, (rows.event_from_row(row, self._sealer) for row in page), strict=True)
        events = [(place, event[1]) for place, event in read if event is not None]
        next_after = places[-1] if len(found) > limit else None
        return Page([event for _, event in events], [place for place, _ in events], next_after)

    def open_stays(self) -> list[Stay]:
        """Of those who are present, as this box has seen them."""
        return list(self._read_stays(self._database.select(_OPEN_STAYS, (self._box_id,))))

    def _read_stays(self, found: Sequence[Row]) -> Iterator[Stay]:
        return (stay for row in found if (stay := rows.stay_from_row(row, self._sealer)) is not None)

    def stays(self, wanted: Wanted) -> Iterator[Stay]:
        """Stays of which some part is wanted, in the order in which they began; read piece by piece."""
        conditions, parameters = wanted.conditions()
        if wanted.start is not None:
            conditions.append("(leave_time IS NULL OR leave_time >= :start)")
            parameters["start"] = to_microseconds(wanted.start)
        if wanted.end is not None:
            conditions.append("arrive_time < :end")
            parameters["end"] = to_microseconds(wanted.end)
        first = rows.SELECT_STAY + " WHERE " + (" AND ".join(conditions) or "TRUE") + _BY_ARRIVAL
        conditions.append("(arrive_time, stay_id) > (:time, :stay_id)")
        following = rows.SELECT_STAY + " WHERE " + " AND ".join(conditions) + _BY_ARRIVAL
        found = self._database.select(first, parameters | {"limit": _BATCH})
        while found:
            yield from self._read_stays(found)
            if len(found) < _BATCH:
                return
            last = {"time": found[-1][1], "stay_id": found[-1][0]}
            found = self._database.select(following, parameters | last | {"limit": _BATCH})

    def erase_subject(self, collection_id: str, subject_id: str) -> int:
        """Remove all that is said of somebody; how many events. The tokens of watchers hold on.

        What is left of them in gaps of files is unreadable once the person's key is destroyed, which is the gallery's.
        """
        key = (collection_id, subject_id)
        with self._database.transaction():
            self._next(0)
            count = self._database.execute("DELETE FROM events WHERE collection_id = ? AND subject_id = ?", key)
            self._database.execute("DELETE FROM stays WHERE collection_id = ? AND subject_id = ?", key)
        return count

    def forget_before(self, time: datetime) -> bool:
        """Remove some of what ended before ``time``; whether there may be more. Each call is a short one.

        And stays that began before then and were never closed, but for those of this box, which it takes up itself.
        """
        before = to_microseconds(time)
        with self._database.transaction():
            self._next(0)
            old = self._database.select(_OLD, (before, _BATCH))
            self._database.execute_many("DELETE FROM events WHERE sequence = ?", old)
            if old:
                newest = max(sequence for (sequence,) in old)
                self._database.execute("UPDATE journal SET forgotten = ? WHERE forgotten < ?", (newest, newest))
            stays = self._database.select(_OLD_STAYS, (before, before, self._box_id, _BATCH))
            self._database.execute_many("DELETE FROM stays WHERE stay_id = ?", stays)
        return _BATCH in {len(old), len(stays)}
