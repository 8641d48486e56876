"""Clustered synthetic people for tests of the index: small, and quick to make."""

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Ids = NDArray[np.int64]


class Crowd:
    """People in loose clusters, of whom samples can be drawn; two of one person have a cosine of about 0.7."""

    def __init__(self, people: int, dimension: int = 64, seed: int = 1) -> None:
        self._generator = np.random.default_rng(seed)
        clusters = self._normal(20, dimension)
        self._people = unit(0.5 * clusters[self._generator.integers(20, size=people)] + self._normal(people, dimension))

    def samples(self, people: Ids) -> Floats:
        """One new sample of each of ``people``."""
        noise = unit(self._normal(len(people), self._people.shape[1]))
        return unit(self._people[people] + 0.65 * noise)

    def _normal(self, count: int, dimension: int) -> Floats:
        return self._generator.standard_normal((count, dimension), np.float32)


def unit(vectors: Floats) -> Floats:
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
