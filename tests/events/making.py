"""Events and stays, made up; and the keys that they are sealed with."""

from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

from ulid import ULID

from facesvc.database import Database
from facesvc.database.opening import open_database
from facesvc.errors import NotFoundError
from facesvc.events.journal import Journal
from facesvc.events.records import (
    ArrivedEvent,
    LeftEvent,
    LivenessScore,
    MadeDecision,
    Match,
    SeenEvent,
    SpoofAttemptEvent,
    Stay,
    UnknownPersonEvent,
)
from facesvc.gallery.keyring import Keyring
from facesvc.gallery.masterkey import KeyFile

T0 = datetime(2026, 3, 2, 8, tzinfo=UTC)


def at(seconds: float) -> datetime:
    return T0 + timedelta(seconds=seconds)


class Welcoming(Keyring):
    """Makes somebody known when something is first said of them."""

    def seal(self, collection_id: str, subject_id: str, plaintext: bytes, *name: str) -> bytes:
        try:
            return super().seal(collection_id, subject_id, plaintext, *name)
        except NotFoundError:
            self.make(collection_id, subject_id)
            return super().seal(collection_id, subject_id, plaintext, *name)


def keyring_of(database: Database, key_path: Path, kind: type[Keyring] = Keyring) -> Keyring:
    """The keys in a database, wrapped by the one at ``key_path``."""
    keyring = kind(database)
    keyring.open([KeyFile(key_path)], T0)
    return keyring


@contextmanager
def opened(url: str, key_path: Path, now: datetime = T0, box_id: str = "") -> Iterator[Journal]:
    """The journal in a database, which takes what is said of anybody."""
    with closing(open_database(url)) as database:
        yield Journal(database, keyring_of(database, key_path, Welcoming), now, box_id)


def decision(outcome: str, subject_id: str = "") -> MadeDecision:
    match = Match(
        subject_id=subject_id,
        display_name=subject_id.title(),
        external_ids={"card_number": f"card-{subject_id}"},
        similarity=0.9512345,
        sample_id="sample-1",
    )
    return MadeDecision(
        decision_id=str(ULID()),
        outcome=outcome,
        subject=match if subject_id else None,
        threshold=0.9,
        false_match_rate=1e-3,
        policy="presence",
        capture_time=T0,
        decision_time=T0 + timedelta(microseconds=1),
        expire_time=at(5),
        low_quality_reason="",
        frames_looked_at=3,
        frames_agreeing=2,
        settled=True,
        liveness=LivenessScore(score=0.25, frames_looked_at=4, threshold=0.5),
    )


def seen(
    time: datetime = T0,
    subject_id: str = "jane",
    camera_id: str = "door",
    zone: str = "lobby",
    collection_id: str = "c",
) -> SeenEvent:
    return SeenEvent(
        event_id=str(ULID()),
        event_time=time,
        camera_id=camera_id,
        zone=zone,
        collection_id=collection_id,
        track_id="track",
        decision=decision("MATCH", subject_id),
    )


def unknown(time: datetime = T0) -> UnknownPersonEvent:
    return UnknownPersonEvent(
        event_id=str(ULID()),
        event_time=time,
        camera_id="door",
        zone="lobby",
        collection_id="c",
        track_id="track",
        decision=decision("UNKNOWN"),
    )


def spoof(time: datetime = T0) -> SpoofAttemptEvent:
    return SpoofAttemptEvent(
        event_id=str(ULID()),
        event_time=time,
        camera_id="door",
        zone="lobby",
        collection_id="c",
        track_id="track",
        decision=decision("SPOOF"),
    )


def arrived(time: datetime = T0, subject_id: str = "jane") -> ArrivedEvent:
    return ArrivedEvent(
        event_id=str(ULID()),
        event_time=time,
        camera_id="door",
        zone="lobby",
        collection_id="c",
        subject_id=subject_id,
        display_name=subject_id.title(),
        external_ids={"employee_no": "17"},
        arrive_time=time,
    )


def left(time: datetime = T0, subject_id: str = "jane") -> LeftEvent:
    return LeftEvent(
        event_id=str(ULID()),
        event_time=time,
        camera_id="door",
        zone="lobby",
        collection_id="c",
        subject_id=subject_id,
        display_name=subject_id.title(),
        external_ids={},
        arrive_time=T0,
        leave_time=time,
    )


def stay(
    arrive: datetime = T0,
    leave: datetime | None = None,
    subject_id: str = "jane",
    zone: str = "lobby",
    stay_id: str = "",
    display_name: str = "Jane",
) -> Stay:
    return Stay(
        stay_id=stay_id or str(ULID()),
        collection_id="c",
        zone=zone,
        subject_id=subject_id,
        display_name=display_name,
        external_ids={"employee_no": "17"},
        camera_id="door",
        arrive_time=arrive,
        last_seen_time=leave or arrive,
        leave_time=leave,
        held=False,
    )
