"""Events and stays as rows of the tables, and back. Pure values, no database.

A row has columns for what is searched by, and the whole record as JSON, sealed with the key of the person it is about
and bound to the row. Where that key was destroyed the row says nothing any more, and is None. What is read back is
checked as strictly as if a stranger had written it; what cannot have been written by this module is damaged.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from pydantic import TypeAdapter, ValidationError

from facesvc.database import Row, Schema, Step, to_microseconds
from facesvc.errors import DependencyError
from facesvc.events.records import (
    ArrivedEvent,
    EnrichedEvent,
    Event,
    LeftEvent,
    SeenEvent,
    SpoofAttemptEvent,
    Stay,
    UnknownPersonEvent,
)
from facesvc.events.sealer import Sealer

# Written to the disk: never changed.
_KINDS: dict[str, type[Event]] = {
    "seen": SeenEvent,
    "arrived": ArrivedEvent,
    "left": LeftEvent,
    "unknown_person": UnknownPersonEvent,
    "spoof_attempt": SpoofAttemptEvent,
    "enriched": EnrichedEvent,
}
_NAMES = {kind: name for name, kind in _KINDS.items()}
_EVENTS = {name: TypeAdapter(kind) for name, kind in _KINDS.items()}
_STAYS = TypeAdapter(Stay)

# A number, once given, is never that of another event, so that a watcher's place stays what it was: see ``journal``.
_TABLE_OF_EVENTS = """
    CREATE TABLE events (
        sequence INTEGER PRIMARY KEY,
        event_id TEXT NOT NULL UNIQUE,
        event_time INTEGER NOT NULL,
        kind TEXT NOT NULL,
        collection_id TEXT NOT NULL,
        zone TEXT NOT NULL,
        subject_id TEXT NOT NULL,
        payload BLOB NOT NULL
    )
"""
# leave_time is NULL while somebody is present; box_id is the box whose cameras see them.
_TABLE_OF_STAYS = """
    CREATE TABLE stays (
        stay_id TEXT PRIMARY KEY,
        box_id TEXT NOT NULL,
        collection_id TEXT NOT NULL,
        zone TEXT NOT NULL,
        subject_id TEXT NOT NULL,
        arrive_time INTEGER NOT NULL,
        leave_time INTEGER,
        payload BLOB NOT NULL
    )
"""
# One row: which journal this is, the number of the newest event, and of the last that was forgotten for its age. Who
# writes raises the first number before all else, and so waits for all who do: events are seen in the order of numbers.
_JOURNAL = """
    CREATE TABLE journal (
        singleton INTEGER PRIMARY KEY CHECK (singleton = 1),
        journal_id TEXT NOT NULL,
        newest INTEGER NOT NULL,
        forgotten INTEGER NOT NULL
    )
"""
_INDEXES = (
    "CREATE INDEX events_by_time ON events (event_time)",
    "CREATE INDEX events_of_subject ON events (collection_id, subject_id, event_time)",
    "CREATE INDEX stays_by_arrival ON stays (collection_id, arrive_time, leave_time)",
    "CREATE INDEX stays_of_subject ON stays (collection_id, subject_id, arrive_time)",
    "CREATE INDEX stays_by_leaving ON stays (leave_time)",
)
# Which box wrote it: that one delivers it to plugins. Empty where the database is not shared.
_BOX = "ALTER TABLE events ADD COLUMN box_id TEXT NOT NULL DEFAULT ''"
EVENTS = Schema(
    "events_migrations",
    (
        Step("0001_events", (_TABLE_OF_EVENTS, _TABLE_OF_STAYS, _JOURNAL, *_INDEXES)),
        Step("0002_box", (_BOX,)),
    ),
)

# The columns in the order in which the functions below take them apart; a list is paged by the first two.
SELECT_EVENT = "SELECT sequence, event_time, event_id, kind, collection_id, subject_id, payload FROM events"
SELECT_STAY = "SELECT stay_id, arrive_time, collection_id, subject_id, payload FROM stays"


def event_to_row(event: Event, sequence: int, box_id: str, sealer: Sealer) -> dict[str, object]:
    """The columns of ``events``, for named parameters. ``NotFoundError`` where the person it is about is not known."""
    kind = _NAMES[type(event)]
    of, about = _of(event.collection_id, event.about), event.about
    payload = _EVENTS[kind].dump_json(event)
    return {
        "sequence": sequence,
        "event_id": event.event_id,
        "event_time": to_microseconds(event.event_time),
        "kind": kind,
        "collection_id": event.collection_id,
        "zone": event.zone,
        "subject_id": about,
        "payload": sealer.seal(*of, payload, "event", kind, event.collection_id, about, event.event_id),
        "box_id": box_id,
    }


def event_from_row(row: Row, sealer: Sealer) -> tuple[int, Event] | None:
    """A row of ``SELECT_EVENT`` as the number and the record; None where it is about somebody who was erased."""
    sequence, _, event_id, kind, collection_id, about, sealed = row
    with _undamaged(f"event {sequence}"):
        payload = sealer.unseal(*_of(collection_id, about), sealed, "event", kind, collection_id, about, event_id)
        return None if payload is None else (sequence, _EVENTS[kind].validate_json(payload, strict=True))


def stay_to_row(stay: Stay, box_id: str, sealer: Sealer) -> dict[str, object]:
    """The columns of ``stays``, for named parameters. ``NotFoundError`` where the person is not known."""
    payload = _STAYS.dump_json(stay)
    return {
        "stay_id": stay.stay_id,
        "box_id": box_id,
        "collection_id": stay.collection_id,
        "zone": stay.zone,
        "subject_id": stay.subject_id,
        "arrive_time": to_microseconds(stay.arrive_time),
        "leave_time": None if stay.leave_time is None else to_microseconds(stay.leave_time),
        "payload": sealer.seal(
            stay.collection_id, stay.subject_id, payload, "stay", stay.collection_id, stay.subject_id, stay.stay_id
        ),
    }


def stay_from_row(row: Row, sealer: Sealer) -> Stay | None:
    """A row of ``SELECT_STAY`` as the record; None where it is about somebody who was erased."""
    stay_id, _, collection_id, subject_id, sealed = row
    with _undamaged(f"stay {stay_id}"):
        payload = sealer.unseal(collection_id, subject_id, sealed, "stay", collection_id, subject_id, stay_id)
        return None if payload is None else _STAYS.validate_json(payload, strict=True)


def _of(collection_id: str, subject_id: str) -> tuple[str, str]:
    """Whose key: that of nobody for an event that names nobody."""
    return (collection_id, subject_id) if subject_id else ("", "")


@contextmanager
def _undamaged(what: str) -> Iterator[None]:
    try:
        yield
    except (ValidationError, KeyError) as error:
        raise _damaged(what) from error
    except DependencyError as error:
        if error.reason != "GALLERY_DAMAGED":  # such as a database that is away
            raise
        raise _damaged(what) from error


def _damaged(what: str) -> DependencyError:
    return DependencyError(f"{what} of the journal is damaged; restore a backup", reason="EVENTS_DAMAGED")
