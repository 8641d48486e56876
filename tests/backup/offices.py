"""A gallery with people in it and events about them, the folder of its backups, and what was in it to look for."""

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
from ulid import ULID

from facesvc.backup import Backups, Shelf, keys_at_hand
from facesvc.database import Database
from facesvc.database.opening import open_database
from facesvc.events.audit import AuditLog
from facesvc.events.journal import Journal
from facesvc.events.records import LeftEvent, Stay
from facesvc.gallery import EmbeddingContract, Gallery, Sample, Subject
from facesvc.gallery.keyring import KeySource
from facesvc.gallery.masterkey import KeyFile

CONTRACT = EmbeddingContract("resnet-a/1", 128)
T0 = datetime(2026, 3, 2, 8, tzinfo=UTC)


def at(hours: float) -> datetime:
    return T0 + timedelta(hours=hours)


def vector_of(subject_id: str) -> np.ndarray[tuple[int], np.dtype[np.float32]]:
    """A direction of somebody's own, unit length."""
    seed = int.from_bytes(hashlib.sha256(subject_id.encode()).digest()[:8], "big")
    vector = np.random.default_rng(seed).normal(size=CONTRACT.dimension)
    return (vector / np.linalg.norm(vector)).astype(np.float32)


def sample_of(face: str, subject_id: str, now: datetime) -> Sample:
    return Sample(
        sample_id=str(ULID()),
        collection_id="office",
        subject_id=subject_id,
        vector=vector_of(face),
        quality=0.5,
        source="door",
        image_sha256=hashlib.sha256(face.encode()).digest(),
        create_time=now,
    )


def name_of(subject_id: str) -> str:
    return f"The name of {subject_id} is nobody's business"


def event_about(subject_id: str, now: datetime) -> LeftEvent:
    return LeftEvent(
        event_id=str(ULID()),
        event_time=now,
        camera_id="door",
        zone="lobby",
        collection_id="office",
        subject_id=subject_id,
        display_name=name_of(subject_id),
        external_ids={},
        arrive_time=now,
        leave_time=now,
    )


def stay_of(subject_id: str, now: datetime) -> Stay:
    return Stay(
        stay_id=str(ULID()),
        collection_id="office",
        zone="lobby",
        subject_id=subject_id,
        display_name=name_of(subject_id),
        external_ids={},
        camera_id="door",
        arrive_time=now,
        last_seen_time=now,
        leave_time=now,
        held=False,
    )


@dataclass
class Office:
    """A gallery at work."""

    path: Path
    database: Database
    gallery: Gallery
    journal: Journal
    audit: AuditLog
    backups: Backups

    def add(self, face: str, subject_id: str, now: datetime = T0) -> Sample:
        """A sample with a face, which may be somebody else's by mistake."""
        sample = sample_of(face, subject_id, now)
        crop = b"crop of " + face.encode() * 20
        self.gallery.add_sample(sample, None, now, contract_id=CONTRACT.contract_id, crop=crop)
        return sample

    def split(self, sample: Sample, subject_id: str) -> None:
        """Give a sample to whom it belongs, who was not known."""
        one = self.gallery.get_subject("office", sample.subject_id)
        one = replace(one, subject_id=subject_id, display_name=name_of(subject_id))
        self.gallery.split_subject("office", sample.subject_id, [sample.sample_id], one)

    def enrol(self, *subject_ids: str, now: datetime = T0) -> None:
        for subject_id in subject_ids:
            subject = Subject(
                collection_id="office",
                subject_id=subject_id,
                display_name=name_of(subject_id),
                create_time=now,
                update_time=now,
            )
            self.gallery.create_subject(subject)
            self.add(subject_id, subject_id, now)
            self.journal.append([event_about(subject_id, now)], [stay_of(subject_id, now)])

    def erase(self, subject_id: str, now: datetime) -> tuple[Sequence[str], Sequence[str]]:
        """From the gallery, and then from the backups."""
        self.journal.erase_subject("office", subject_id)
        self.gallery.erase_subject("office", subject_id, now)
        self.audit.note("EraseSubject", "office", subject_id)
        return self.backups.puncture("office", subject_id)

    def people(self) -> set[str]:
        return {subject.subject_id for subject in self.gallery.list_subjects("office", 1000)[0]}

    def found(self, subject_id: str) -> str:
        """Whom a search for somebody's face finds."""
        [found] = self.gallery.search(CONTRACT.contract_id, "office", vector_of(subject_id)[None], 1, T0)
        return found[0].subject_id if found and found[0].similarity > 0.99 else ""


def key_of(folder: Path) -> KeyFile:
    return KeyFile(folder / "key" / "master.key")


def shelf_of(folder: Path, keys: Sequence[KeySource] = ()) -> Shelf:
    return Shelf(folder / "backups", keys_at_hand(keys or [key_of(folder)]))


@contextmanager
def office(
    folder: Path,
    now: datetime = T0,
    *,
    url: str = "",
    keys: Sequence[KeySource] = (),
    keep: int = 14,
    view: Path | None = None,
) -> Iterator[Office]:
    """The gallery in ``folder`` (or at ``url``), its backups in ``folder/backups``, and where its view is saved."""
    path = folder / "gallery" / "gallery.db"
    keys = keys or [key_of(folder)]
    database = open_database(url or path)
    try:
        gallery = Gallery.open(database, CONTRACT, now, keys, view)
        backups = Backups(database, shelf_of(folder, keys), keep)
        backups.open()
        journal = Journal(database, gallery.keyring, now)
        log = AuditLog(database, gallery.keyring, lambda: now)
        yield Office(path, database, gallery, journal, log, backups)
    finally:
        database.close()


def traces_of(subject_id: str) -> list[bytes]:
    """What must be readable nowhere."""
    vector = vector_of(subject_id)
    halves = vector.astype(np.float16).tobytes()
    return [
        name_of(subject_id).encode(),
        vector.tobytes()[:32],
        vector.tobytes()[-32:],
        halves[:32],
        b"crop of " + subject_id.encode(),
    ]


def contents(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
