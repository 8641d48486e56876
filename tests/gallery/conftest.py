"""A gallery of four-dimensional people: small enough to reason about, on a real SQLite file and a real faiss index."""

import hashlib
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from galleries import open_gallery, open_store
from numpy.typing import NDArray
from ulid import ULID

from facesvc.gallery import EmbeddingContract, Gallery, Sample, Subject
from facesvc.gallery.masterkey import KeyFile
from facesvc.gallery.store import Store

Floats = NDArray[np.float32]

CONTRACT = "resnet-a/1"


@pytest.fixture
def now() -> datetime:
    """A moment with microseconds, so that a store that rounds is found out."""
    return datetime(2026, 3, 2, 8, 30, 15, 123457, tzinfo=UTC)


@pytest.fixture
def contract() -> EmbeddingContract:
    return EmbeddingContract(CONTRACT, 4)


@pytest.fixture
def target() -> EmbeddingContract:
    """What galleries are migrated to: other vectors, and longer ones."""
    return EmbeddingContract("arc-b/1", 6)


@pytest.fixture
def embed() -> Callable[[bytes, EmbeddingContract], Floats]:
    """Stands in for a network: a vector that depends on the crop and on the contract, and on nothing else."""

    def embed(crop: bytes, contract: EmbeddingContract) -> Floats:
        seed = int.from_bytes(hashlib.sha256(contract.contract_id.encode() + crop).digest()[:8], "big")
        vector = np.random.default_rng(seed).normal(size=contract.dimension)
        return (vector / np.linalg.norm(vector)).astype(np.float32)

    return embed


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "gallery" / "gallery.sqlite"


@pytest.fixture
def vault(tmp_path: Path) -> KeyFile:
    """Its key is not made yet."""
    return KeyFile(tmp_path / "key" / "master.key")


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
def store(path: Path, contract: EmbeddingContract, now: datetime, vault: KeyFile) -> Iterator[Store]:
    opened = open_store(path, contract, now, vault)
    yield opened
    opened.close()


@pytest.fixture
def gallery(path: Path, contract: EmbeddingContract, now: datetime, vault: KeyFile) -> Iterator[Gallery]:
    opened = open_gallery(path, contract, now, vault)
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
            gallery.add_sample(sample, None, now, contract_id=CONTRACT)
        return samples

    return enrol


@pytest.fixture
def enrol_crop(
    gallery: Gallery,
    make_subject: Callable[..., Subject],
    make_sample: Callable[..., Sample],
    embed: Callable[[bytes, EmbeddingContract], Floats],
    now: datetime,
) -> Callable[..., Sample]:
    """Creates a subject with one sample under the current contract, whose crop is the subject's id, or is not kept."""

    def enrol_crop(subject_id: str, *, keep: bool = True) -> Sample:
        gallery.create_subject(make_subject(subject_id))
        crop, contract = subject_id.encode(), gallery.contract
        sample = make_sample(subject_id, vector=embed(crop, contract))
        gallery.add_sample(sample, None, now, contract_id=contract.contract_id, crop=crop if keep else None)
        return sample

    return enrol_crop


@pytest.fixture
def find(gallery: Gallery, now: datetime) -> Callable[..., list[str]]:
    """The ids of those found for one direction, best first."""

    def find(
        direction: tuple[float, ...], *, limit: int = 10, at: datetime = now, collection: str = "office"
    ) -> list[str]:
        vector = np.array([direction], np.float64)
        vector /= np.linalg.norm(vector)
        [candidates] = gallery.search(CONTRACT, collection, vector.astype(np.float32), limit, at)
        return [candidate.subject_id for candidate in candidates]

    return find
