"""People who do not exist, as the vectors a recogniser would give: any number of them, the same ones for a seed.

What is modelled, and where the numbers are from: two samples of one person have a cosine of 0.55 on average, as pairs
of photos taken in the wild have, and it varies from person to person and from sample to sample (standard deviation 0.10
in all). Values are as correlated as those of trained networks, so that two strangers are as alike as 200 independent
values would make them and not 512 (standard deviation of their cosine 0.07 where independent values have 0.044). And
people are no uniform cloud: they come in 500 loose clusters, within which strangers have a cosine of 0.15 more.

Nothing is kept: people are made anew from the seed, some thousands at a time, whenever they are asked for.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Ids = NDArray[np.int64]

PAIR_COSINE = 0.55
_PERSON_DEVIATION = 0.08
_SAMPLE_DEVIATION = 0.08
_CLUSTERS = 500
_CLUSTER_COSINE = 0.15
_DECAY = 0.8  # exponent by which the spectrum falls from an eighth of the dimensions on
_TOGETHER = 4000  # people made at a time
_PEOPLE, _SAMPLES, _QUERIES = range(3)  # streams of random numbers


class Block(NamedTuple):
    """Samples of some people: ``rows`` and ``people`` (N,) int64, ``vectors`` (N, D) float32 of unit length."""

    rows: Ids
    people: Ids
    vectors: Floats


@dataclass(frozen=True, slots=True)
class _Some:
    """The true faces of some people, and how alike two samples of each are."""

    people: Ids
    faces: Floats
    cosines: Floats


class SyntheticPeople:
    """``count`` people with ``samples`` samples each; sample s of person p is row ``samples`` · p + s."""

    def __init__(self, count: int, dimension: int, samples: int = 5, seed: int = 1) -> None:
        self.count, self.samples, self.dimension, self._seed = count, samples, dimension, seed
        generator = np.random.default_rng((seed, 99))
        spectrum = (1 + 8 * np.arange(dimension) / dimension) ** -_DECAY
        rotation = np.linalg.qr(generator.standard_normal((dimension, dimension)))[0]
        self._mixing = (spectrum[:, None] * rotation).astype(np.float32)
        self._clusters = self._directions(_CLUSTERS, generator)

    def blocks(self) -> Iterator[Block]:
        """Everybody's samples, some thousand people at a time."""
        for some, number in self._everybody():
            people = np.repeat(some.people, self.samples)
            at = people - some.people[0]
            rows = np.arange(len(people)) + some.people[0] * self.samples
            yield Block(rows, people, self._sample(some.faces[at], some.cosines[at], self._generator(_SAMPLES, number)))

    def queries(self, count: int) -> tuple[Ids, Floats]:
        """New samples of ``count`` people drawn at random: who, (N,), and vectors (N, D)."""
        generator = self._generator(_QUERIES, 0)
        people = np.sort(generator.integers(self.count, size=count))
        parts = []
        for some, _ in self._everybody():
            at = people[(people >= some.people[0]) & (people <= some.people[-1])] - some.people[0]
            parts.append(self._sample(some.faces[at], some.cosines[at], generator))
        order = generator.permutation(count)
        return people[order], np.concatenate(parts)[order]

    def _everybody(self) -> Iterator[tuple[_Some, int]]:
        for number, first in enumerate(range(0, self.count, _TOGETHER)):
            generator = self._generator(_PEOPLE, number)
            people = np.arange(first, min(self.count, first + _TOGETHER))
            clusters = self._clusters[generator.integers(_CLUSTERS, size=len(people))]
            faces = _mix(clusters, self._directions(len(people), generator), np.float32(_CLUSTER_COSINE))
            cosines = generator.normal(PAIR_COSINE, _PERSON_DEVIATION, len(people)).astype(np.float32)
            yield _Some(people, faces, cosines), number

    def _sample(self, faces: Floats, cosines: Floats, generator: np.random.Generator) -> Floats:
        shares = cosines + generator.normal(0, _SAMPLE_DEVIATION, len(cosines)).astype(np.float32)
        return _mix(faces, self._directions(len(faces), generator), np.clip(shares, 0.1, 0.95)[:, None])

    def _directions(self, count: int, generator: np.random.Generator) -> Floats:
        return _unit(generator.standard_normal((count, self.dimension), np.float32) @ self._mixing)

    def _generator(self, stream: int, number: int) -> np.random.Generator:
        return np.random.default_rng((self._seed, stream, number))


def _mix(first: Floats, second: Floats, share: Floats | np.float32) -> Floats:
    """Directions of which ``share`` of the square is the first's: two of one first have that cosine on average."""
    return _unit((np.sqrt(share) * first + np.sqrt(1 - share) * second).astype(np.float32))


def _unit(vectors: Floats) -> Floats:
    lengths: Floats = np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors / lengths
