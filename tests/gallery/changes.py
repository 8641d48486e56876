"""A long life of a small gallery: changes that follow from a seed, what has to be there after each, and whether it is.

Run as a program it makes these changes in a gallery until it is killed, and says of each when it was acknowledged:
``python changes.py GALLERY KEY SEED FIRST``.
"""

import hashlib
import random
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from itertools import count, islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from ulid import ULID

from facesvc.database.sqlite import SqliteDatabase
from facesvc.errors import FacesvcError
from facesvc.gallery import Consent, EmbeddingContract, Gallery, Sample, Subject
from facesvc.gallery.masterkey import KeyFile

NOW = datetime(2026, 3, 2, 8, 30, tzinfo=UTC)
CONTRACT = EmbeddingContract("resnet-a/1", 16)
MOST = 12  # people; then some go

Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Person:
    """What is known of one: number of the version of what is known, and the samples by number."""

    version: int = 0
    samples: tuple[int, ...] = ()


State = dict[str, Person]


@dataclass(frozen=True, slots=True)
class Change:
    """One change: ``kind`` of ``subject_id``, with ``samples``; ``other`` is the second one of a merge or a move."""

    kind: str
    subject_id: str
    samples: tuple[int, ...] = ()
    other: str = ""


@dataclass(slots=True)
class Life:
    """Changes as they follow from a seed, and the state after each."""

    seed: int
    _random: random.Random = field(init=False)
    _numbers: Iterator[int] = field(init=False)

    def __post_init__(self) -> None:
        self._random = random.Random(self.seed)
        self._numbers = count(1)

    def __iter__(self) -> Iterator[tuple[Change, State]]:
        """Without end."""
        state: State = {}
        while True:
            change = self.next_from(state)
            state = after(state, change)
            yield change, state

    def next_from(self, state: State) -> Change:
        """What happens next where that is the state."""
        people = sorted(state)
        rich = [one for one in people if len(state[one].samples) > 1]
        if len(people) > MOST:
            return Change("erase", self._random.choice(people))
        kinds = ["create", "enrol", "enrol"]
        kinds += ["add", "update", "delete", "erase", "merge", "move"] if len(people) > 3 and rich else []
        match self._random.choice(kinds):
            case "create" | "enrol" as kind:
                samples = self._new_samples() if kind == "enrol" else ()
                return Change(kind, self._new_id(people), samples)
            case "add":
                return Change("add", self._random.choice(people), self._new_samples())
            case "update" | "erase" as kind:
                return Change(kind, self._random.choice(people))
            case "merge":
                one, other = self._random.sample(people, 2)
                return Change("merge", one, other=other)
            case kind:
                one = self._random.choice(rich)
                others = [self._new_id(people), *sorted(set(people) - {one})]
                other = self._random.choice(others) if kind == "move" else ""
                return Change(kind, one, (self._random.choice(state[one].samples),), other)

    def _new_samples(self) -> tuple[int, ...]:
        return tuple(islice(self._numbers, self._random.randint(1, 3)))

    def _new_id(self, people: list[str]) -> str:
        """One of few, so that the ids of the erased come again."""
        return self._random.choice(sorted({f"p{number:02}" for number in range(2 * MOST)} - set(people)))


def after(state: State, change: Change) -> State:
    """What a change makes of a state."""
    following = dict(state)
    one = change.subject_id
    known = following.get(one, Person())
    match change.kind:
        case "create" | "enrol" | "add":
            following[one] = replace(known, samples=known.samples + change.samples)
        case "update":
            following[one] = replace(known, version=known.version + 1)
        case "delete":
            following[one] = replace(known, samples=_without(known.samples, change.samples))
        case "erase":
            del following[one]
        case "merge":
            other = following.pop(change.other)
            following[one] = replace(known, samples=tuple(sorted(known.samples + other.samples)))
        case "move":
            other = following.get(change.other, Person())
            following[one] = replace(known, samples=_without(known.samples, change.samples))
            following[change.other] = replace(other, samples=tuple(sorted(other.samples + change.samples)))
    return following


def _without(samples: tuple[int, ...], gone: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(sample for sample in samples if sample not in gone)


def make(gallery: Gallery, change: Change) -> None:
    """Makes a change in a gallery."""
    one = subject_of(change.subject_id, 0)
    match change.kind:
        case "create":
            gallery.create_subject(one)
        case "enrol" | "add":
            samples = [sample_of(change.subject_id, number) for number in change.samples]
            create = {("office", change.subject_id): one} if change.kind == "enrol" else {}
            crops = {sample.sample_id: crop_of(number) for sample, number in zip(samples, change.samples, strict=True)}
            outcomes = gallery.add_samples(
                samples, None, NOW, contract_id=CONTRACT.contract_id, crops=crops, create=create
            )
            for outcome in outcomes:
                if isinstance(outcome, FacesvcError):
                    raise outcome
        case "update":
            known = version_of(gallery.get_subject("office", change.subject_id))
            fields = {"display_name", "metadata", "consent", "external_ids"}
            gallery.update_subject(subject_of(change.subject_id, known + 1), fields, NOW)
        case "delete":
            gallery.delete_sample("office", change.subject_id, sample_id_of(change.samples[0]))
        case "erase":
            gallery.erase_subject("office", change.subject_id, NOW)
        case "merge":
            gallery.merge_subjects("office", change.subject_id, change.other, NOW)
        case "move":
            sample_ids = [sample_id_of(number) for number in change.samples]
            gallery.split_subject("office", change.subject_id, sample_ids, subject_of(change.other, 0))


def subject_of(subject_id: str, version: int) -> Subject:
    return Subject(
        collection_id="office",
        subject_id=subject_id,
        display_name=f"Name {subject_id} {version}",
        external_ids={"employee_no": f"{subject_id} {version}"},
        metadata={"version": str(version)},
        consent=Consent("attendance", NOW),
        create_time=NOW,
        update_time=NOW,
    )


def version_of(subject: Subject) -> int:
    return int(subject.metadata["version"])


def sample_id_of(number: int) -> str:
    return str(ULID.from_int(number))


def vector_of(number: int) -> Floats:
    vector = np.random.default_rng(number).normal(size=CONTRACT.dimension)
    return (vector / np.linalg.norm(vector)).astype(np.float32)


def crop_of(number: int) -> bytes:
    return f"crop {number} ".encode() * 20


def sample_of(subject_id: str, number: int) -> Sample:
    return Sample(
        sample_id=sample_id_of(number),
        collection_id="office",
        subject_id=subject_id,
        vector=vector_of(number),
        quality=1.0,
        source=f"camera {number}",
        image_sha256=hashlib.sha256(str(number).encode()).digest(),
        create_time=NOW,
    )


def open_gallery(path: Path, key: KeyFile) -> Gallery:
    database = SqliteDatabase(path, busy_timeout_s=5.0)
    try:
        return Gallery.open(database, CONTRACT, NOW, [key])
    except BaseException:
        database.close()
        raise


def say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def _live(path: Path, key: KeyFile, seed: int, first: int) -> None:
    """Makes changes from number ``first`` on; prints the number of each that was acknowledged."""
    gallery = open_gallery(path, key)
    say("ready")
    for number, (change, _) in enumerate(Life(seed)):
        if number >= first:
            make(gallery, change)
            say(str(number))


if __name__ == "__main__":
    _live(Path(sys.argv[1]), KeyFile(Path(sys.argv[2])), int(sys.argv[3]), int(sys.argv[4]))
