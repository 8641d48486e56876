"""Clustered synthetic people for tests of the index: small, and quick to make; and indexes of 2500 of them."""

import functools
from contextlib import nullcontext

import numpy as np
from numpy.typing import NDArray

from facesvc.gallery.index import Bounds, PeopleIndex, Taken
from facesvc.gallery.index.coarse import Coarse

PEOPLE, SAMPLES, DIMENSION = 2500, 3, 264
ROWS = PEOPLE * SAMPLES
OWNERS = np.repeat(np.arange(PEOPLE), SAMPLES)
BOUNDS = Bounds(coarse_from=5000, flat_below=3000)

Floats = NDArray[np.float32]
Ids = NDArray[np.int64]
Booleans = NDArray[np.bool_]


class Crowd:
    """People in loose clusters, of whom samples can be drawn; two of one person have a cosine of about 0.7."""

    def __init__(self, people: int, dimension: int, draws: int) -> None:
        """The people are always the same; which samples are drawn depends on ``draws``."""
        self._generator = np.random.default_rng(1)
        clusters = self._normal(20, dimension)
        self._people = unit(0.5 * clusters[self._generator.integers(20, size=people)] + self._normal(people, dimension))
        self._generator = np.random.default_rng((1, draws))

    def samples(self, people: Ids) -> Floats:
        """One new sample of each of ``people``."""
        noise = unit(self._normal(len(people), self._people.shape[1]))
        return unit(self._people[people] + 0.65 * noise)

    def _normal(self, count: int, dimension: int) -> Floats:
        return self._generator.standard_normal((count, dimension), np.float32)


def unit(vectors: Floats) -> Floats:
    lengths: Floats = np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors / lengths


def crowd(draws: int = 2) -> Crowd:
    """The people of all these indexes, and fifty more."""
    return Crowd(PEOPLE + 50, DIMENSION, draws)


@functools.cache
def vectors() -> Floats:
    """A sample for each row of ``OWNERS``."""
    return crowd(draws=1).samples(OWNERS)


def flat() -> PeopleIndex:
    """One that should have become coarse."""
    index = PeopleIndex(DIMENSION, BOUNDS)
    index.add(np.arange(ROWS), OWNERS, vectors())
    return index


@functools.cache
def saved() -> tuple[bytes, Taken]:
    """One that has become coarse, and looks into 64 of its 2500 units."""
    index = flat()
    settle(index)
    tier_of(index).depth = 64
    return index.trained(), index.export(index.rows)


def coarse() -> PeopleIndex:
    trained, rows = saved()
    index = PeopleIndex.restore(DIMENSION, trained, BOUNDS)
    index.add_codes(*rows)
    return index


def settle(index: PeopleIndex) -> None:
    """Changes to the tier that it wants."""
    assert index.wants_rebuild
    rebuild = index.begin_rebuild()
    rebuild.run(nullcontext())
    assert rebuild.finish()
    assert not index.wants_rebuild


def tier_of(index: PeopleIndex) -> Coarse:
    assert isinstance(index._tier, Coarse)
    return index._tier


def first(index: PeopleIndex, vector: Floats, allowed: Booleans | None = None) -> int:
    return index.search(vector, 1, allowed)[0].owner


def ids(*values: int) -> Ids:
    return np.array(values, np.int64)
