"""Events and stays as rows of the tables, and back. Pure values, no database.

A row has columns for what is searched by, and the whole record as JSON. What is read back is checked as strictly as if
a stranger had written it; a row that cannot have been written by this module is a damaged file.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from pydantic import TypeAdapter, ValidationError

from facesvc.errors import DependencyError
from facesvc.events.records import (
    ArrivedEvent,
    Event,
    LeftEvent,
    SeenEvent,
    SpoofAttemptEvent,
    Stay,
    UnknownPersonEvent,
)
from facesvc.sqlite import Kind, Row, Step, to_microseconds

# Written to the disk: never changed.
_KINDS: dict[str, type[Event]] = {
    "seen": SeenEvent,
    "arrived": ArrivedEvent,
    "left": LeftEvent,
    "unknown_person": UnknownPersonEvent,
    "spoof_attempt": SpoofAttemptEvent,
}
_NAMES = {kind: name for name, kind in _KINDS.items()}
_EVENTS = {name: TypeAdapter(kind) for name, kind in _KINDS.items()}
_STAYS = TypeAdapter(Stay)

# AUTOINCREMENT: a number, once given, is never that of another event, so that a watcher's place stays what it was.
_TABLE_OF_EVENTS = """
    CREATE TABLE events (
        sequence INTEGER PRIMARY KEY AUTOINCREMENT,
        event_id TEXT NOT NULL UNIQUE,
        event_time INTEGER NOT NULL,
        kind TEXT NOT NULL,
        collection_id TEXT NOT NULL,
        zone TEXT NOT NULL,
        subject_id TEXT NOT NULL,
        payload TEXT NOT NULL
    ) STRICT
"""
# leave_time is NULL while somebody is present.
_TABLE_OF_STAYS = """
    CREATE TABLE stays (
        stay_id TEXT PRIMARY KEY,
        collection_id TEXT NOT NULL,
        zone TEXT NOT NULL,
        subject_id TEXT NOT NULL,
        arrive_time INTEGER NOT NULL,
        leave_time INTEGER,
        payload TEXT NOT NULL
    ) STRICT, WITHOUT ROWID
"""
# One row: which journal this is, and the last event that was forgotten for its age.
_META = """
    CREATE TABLE meta (
        singleton INTEGER PRIMARY KEY CHECK (singleton = 1),
        journal_id TEXT NOT NULL,
        forgotten INTEGER NOT NULL
    ) STRICT
"""
_INDEXES = (
    "CREATE INDEX events_by_time ON events (event_time)",
    "CREATE INDEX events_of_subject ON events (collection_id, subject_id, event_time)",
    "CREATE INDEX stays_by_arrival ON stays (collection_id, arrive_time, leave_time)",
    "CREATE INDEX stays_of_subject ON stays (collection_id, subject_id, arrive_time)",
    "CREATE INDEX stays_by_leaving ON stays (leave_time)",
)
EVENTS = Kind(
    "the events file", "EVENTS", (Step("0001_events", (_TABLE_OF_EVENTS, _TABLE_OF_STAYS, _META, *_INDEXES)),)
)


def event_to_row(event: Event) -> dict[str, object]:
    """The columns of ``events`` but ``sequence``, for named parameters."""
    kind = _NAMES[type(event)]
    return {
        "event_id": event.event_id,
        "event_time": to_microseconds(event.event_time),
        "kind": kind,
        "collection_id": event.collection_id,
        "zone": event.zone,
        "subject_id": event.about,
        "payload": _EVENTS[kind].dump_json(event).decode(),
    }


def event_from_row(row: Row) -> tuple[int, Event]:
    """A row of ``sequence, kind, payload`` as the number and the record."""
    sequence, kind, payload = row
    with _undamaged(f"event {sequence}"):
        return sequence, _EVENTS[kind].validate_json(payload, strict=True)


def stay_to_row(stay: Stay) -> dict[str, object]:
    """The columns of ``stays``, for named parameters."""
    return {
        "stay_id": stay.stay_id,
        "collection_id": stay.collection_id,
        "zone": stay.zone,
        "subject_id": stay.subject_id,
        "arrive_time": to_microseconds(stay.arrive_time),
        "leave_time": None if stay.leave_time is None else to_microseconds(stay.leave_time),
        "payload": _STAYS.dump_json(stay).decode(),
    }


def stay_from_row(row: Row) -> Stay:
    """A row of ``stay_id, payload`` as the record."""
    stay_id, payload = row
    with _undamaged(f"stay {stay_id}"):
        return _STAYS.validate_json(payload, strict=True)


@contextmanager
def _undamaged(what: str) -> Iterator[None]:
    try:
        yield
    except (ValidationError, KeyError) as error:
        message = f"{what} of the events file is damaged; restore a backup, or move the file away to begin a new one"
        raise DependencyError(message, reason="EVENTS_DAMAGED") from error
