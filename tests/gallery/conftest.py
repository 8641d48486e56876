"""A gallery of four-dimensional people: small enough to reason about, on a real SQLite file and a real faiss index."""

import hashlib
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from ulid import ULID

from facesvc.gallery import EmbeddingContract, Gallery, Sample, Subject
from facesvc.gallery.store import Store

Floats = NDArray[np.float32]


@pytest.fixture
def now() -> datetime:
    """A moment with microseconds, so that a store that rounds is found out."""
    return datetime(2026, 3, 2, 8, 30, 15, 123457, tzinfo=UTC)


@pytest.fixture
def contract() -> EmbeddingContract:
    return EmbeddingContract("resnet-a/1", 4)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "gallery" / "gallery.sqlite"


@pytest.fixture
def make_subject(now: datetime) -> Callable[..., Subject]:
    """A subject; whatever is not named has a plain value."""

    def make(subject_id: str = "ada", **fields: object) -> Subject:
        plain = {"collection_id": "office", "display_name": subject_id.title(), "create_time": now, "update_time": now}
        return Subject(subject_id=subject_id, **(plain | fields))  # type: ignore[arg-type]  # plain is a mixture

    return make


@pytest.fixture
def make_sample(now: datetime) -> Callable[..., Sample]:
    """A sample of ``subject_id`` pointing to ``direction``, of an image of its own."""

    def make(subject_id: str = "ada", direction: tuple[float, ...] = (1, 0, 0, 0), **fields: object) -> Sample:
        sample_id = str(ULID())
        vector = np.array(direction, np.float64)
        plain = {
            "sample_id": sample_id,
            "collection_id": "office",
            "vector": (vector / np.linalg.norm(vector)).astype(np.float32),
            "quality": 0.75,
            "source": "camera:lobby",
            "image_sha256": hashlib.sha256(sample_id.encode()).digest(),
            "create_time": now,
        }
        return Sample(subject_id=subject_id, **(plain | fields))  # type: ignore[arg-type]  # plain is a mixture

    return make


@pytest.fixture
def store(path: Path, contract: EmbeddingContract, now: datetime) -> Iterator[Store]:
    opened = Store.open(path, contract, now)
    yield opened
    opened.close()


@pytest.fixture
def gallery(path: Path, contract: EmbeddingContract, now: datetime) -> Iterator[Gallery]:
    opened = Gallery.open(path, contract, now)
    yield opened
    opened.close()


@pytest.fixture
def enrol(
    gallery: Gallery, make_subject: Callable[..., Subject], make_sample: Callable[..., Sample], now: datetime
) -> Callable[..., list[Sample]]:
    """Creates a subject with one sample a direction, with no check for conflicts."""

    def enrol(subject_id: str, *directions: tuple[float, ...], **fields: object) -> list[Sample]:
        subject = gallery.create_subject(make_subject(subject_id, **fields))
        samples = [make_sample(subject_id, direction, collection_id=subject.collection_id) for direction in directions]
        for sample in samples:
            gallery.add_sample(sample, None, now)
        return samples

    return enrol


@pytest.fixture
def find(gallery: Gallery, now: datetime) -> Callable[..., list[str]]:
    """The ids of those found for one direction, best first."""

    def find(
        direction: tuple[float, ...], *, limit: int = 10, at: datetime = now, collection: str = "office"
    ) -> list[str]:
        vector = np.array([direction], np.float64)
        vector /= np.linalg.norm(vector)
        [candidates] = gallery.search(collection, vector.astype(np.float32), limit, at)
        return [candidate.subject_id for candidate in candidates]

    return find
