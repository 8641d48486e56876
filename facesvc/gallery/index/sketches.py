"""Sketches: 512 bits that say roughly where a vector lies, and a scan over all of them.

A sketch is a code of product quantisation (Jégou et al., Product quantization for nearest neighbor search, TPAMI 2011)
with 4 bits for each of up to 128 groups of neighbouring values, laid out for a scan that keeps its tables in registers
(André et al., Quicker ADC, TPAMI 2019; faiss' fast scan): one core looks through 200,000 in a third of a millisecond.
So there are no cells to miss somebody in, and nothing that has to be trained or balanced.

The 16 values that a group can take are those that suit a normal distribution best, moved and stretched by the mean and
the spread of each value over the gallery (``Calibration``). On statistics of real embeddings that is as good as values
trained on the gallery itself, and it holds nothing of anybody: two figures for each dimension, over thousands of rows.
"""

import functools
import math
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from facesvc.errors import InputError
from facesvc.gallery.index.scans import faiss
from facesvc.gallery.records import Floats

_GROUPS = 128
_LEVELS = 16
_TOGETHER = 32  # sketches in a block of the fast scan
_LOW = 16  # of them, in the low halves of its bytes
_LEAST_SPREAD = 1e-6
_CODEBOOK_SEED = 20
_CODEBOOK_DRAWS = 20_000


@dataclass(frozen=True, slots=True, eq=False)
class Calibration:
    """Mean and standard deviation of each value over a gallery, (D,) float32."""

    mean: Floats
    spread: Floats

    @classmethod
    def of(cls, vectors: Floats) -> Self:
        """That of ``vectors`` (N, D), with N of some thousands."""
        return cls(vectors.mean(axis=0), np.maximum(vectors.std(axis=0), _LEAST_SPREAD))

    def to_bytes(self) -> bytes:
        """Little-endian, the mean first."""
        return b"".join(values.astype("<f4").tobytes() for values in (self.mean, self.spread))

    @classmethod
    def from_bytes(cls, data: bytes, dimension: int) -> Self:
        """What ``to_bytes`` gave; an ``InputError`` where it cannot be that."""
        if len(data) != 2 * 4 * dimension:
            raise InputError(f"the calibration has {len(data)} bytes, {8 * dimension} are needed", field="trained")
        mean, spread = np.frombuffer(data, "<f4").astype(np.float32).reshape(2, dimension)
        if not (np.isfinite(mean).all() and np.isfinite(spread).all() and (spread > 0).all()):
            raise InputError("the calibration holds a value that is no mean or no spread", field="trained")
        return cls(mean, spread)


class Sketches:
    """Sketches numbered 0 to N−1, of vectors of ``dimension`` values."""

    def __init__(self, dimension: int, calibration: Calibration) -> None:
        group = math.ceil(dimension / _GROUPS)
        groups = math.ceil(dimension / group)
        self._mean, self._padding = calibration.mean, groups * group - dimension
        self._index = faiss.IndexPQFastScan(groups * group, groups, 4, faiss.METRIC_INNER_PRODUCT)
        spread = np.pad(calibration.spread, (0, self._padding)).reshape(groups, 1, group)
        faiss.copy_array_to_vector((_codebook(group) * spread).ravel(), self._index.pq.centroids)
        self._index.is_trained = True
        self._layout = _layout(groups)
        self._count = 0
        self._blocks = self._view()

    def __len__(self) -> int:
        return self._count

    def resize(self, count: int) -> None:
        """Changes how many there are; those that fall off the end are overwritten."""
        blocks = -(-count // _TOGETHER)
        if blocks > len(self._blocks):
            self._grow(blocks + blocks // 2)
        gone = np.arange(count, self._count)
        self._put(gone, np.zeros((len(gone), self._layout.shape[1]), np.uint8))
        self._count = self._index.ntotal = count
        self._index.ntotal2 = blocks * _TOGETHER

    def write(self, numbers: NDArray[np.int64], vectors: Floats) -> None:
        """Sketches ``vectors`` (n, D) under ``numbers`` (n,), each once there, in place of what is there."""
        faiss.omp_set_num_threads(1)  # of this thread: a second one would wait for the core that a search is on
        codes = self._index.sa_encode(self._padded(vectors - self._mean))
        values = np.stack([codes & 15, codes >> 4], axis=2).reshape(len(codes), -1)
        self._put(numbers, values[:, : self._layout.shape[1]])

    def move(self, origins: NDArray[np.int64], targets: NDArray[np.int64]) -> None:
        """Copies the sketches of ``origins`` (n,) over those of ``targets`` (n,)."""
        rows, places = origins[:, None] // _TOGETHER, self._layout[origins % _TOGETHER]
        high = (origins % _TOGETHER >= _LOW)[:, None]
        packed = self._blocks[rows, places]
        self._put(targets, np.where(high, packed >> 4, packed & 15))

    def search(self, query: Floats, k: int) -> NDArray[np.int64]:
        """The numbers of the ``k`` most similar to ``query`` (D,), roughly, best first; fewer where there are fewer."""
        if not self._count:
            return np.zeros(0, np.int64)
        _, numbers = self._index.search(self._padded(query[None]), min(k, self._count))
        return np.asarray(numbers[0], np.int64)

    def wipe(self) -> None:
        """Overwrites all of them, before they are let go."""
        self._blocks[:] = 0

    def _put(self, numbers: NDArray[np.int64], values: NDArray[np.uint8]) -> None:
        """Writes ``values`` (n, groups), 0 to 15. A byte holds those of two sketches, which are written in turn."""
        within = numbers % _TOGETHER
        for chosen, kept, shift in ((within < _LOW, 0xF0, 0), (within >= _LOW, 0x0F, 4)):
            rows, places = numbers[chosen, None] // _TOGETHER, self._layout[within[chosen]]
            self._blocks[rows, places] = self._blocks[rows, places] & kept | values[chosen] << shift

    def _view(self) -> NDArray[np.uint8]:
        """(M, size of a block), all that memory is set aside for, as a view until the next ``_grow``."""
        table = self._index.codes
        flat = np.asarray(faiss.rev_swig_ptr(table.data(), table.size()), np.uint8)  # of nothing it makes floats
        return flat.reshape(-1, self._index.get_CodePacker().block_size)

    def _grow(self, blocks: int) -> None:
        kept = self._blocks.copy()
        self.wipe()  # faiss moves to new memory and frees the old as it is
        self._index.codes.resize(blocks * kept.shape[1])
        self._blocks = self._view()
        self._blocks[: len(kept)], self._blocks[len(kept) :] = kept, 0
        kept[:] = 0

    def _padded(self, vectors: Floats) -> Floats:
        return np.pad(vectors, ((0, 0), (0, self._padding))) if self._padding else vectors


@functools.cache
def _codebook(group: int) -> Floats:
    """The (16, ``group``) points by which normally distributed ones are told best: Lloyd's algorithm on draws."""
    draws = np.random.default_rng(_CODEBOOK_SEED).standard_normal((_CODEBOOK_DRAWS, group), np.float32)
    means: Any = faiss.Kmeans(group, _LEVELS, niter=50, seed=_CODEBOOK_SEED)
    means.train(draws)
    return np.asarray(means.centroids, np.float32)


@functools.cache
def _layout(groups: int) -> NDArray[np.int64]:
    """Which byte of a block the value of each group of each sketch is in, (32, ``groups``): asked of faiss' own packer.

    The values of the first 16 sketches are in the low half of a byte, those of the others in the high half. A group's
    place is the same distance from that of the first group for every sketch.
    """
    packer = faiss.IndexPQFastScan(groups, groups, 4, faiss.METRIC_INNER_PRODUCT).get_CodePacker()

    def place(number: int, group: int) -> int:
        code, block = np.zeros(packer.code_size, np.uint8), np.zeros((1, packer.block_size), np.uint8)
        code[group // 2] = 15 << 4 * (group % 2)
        packer.pack_1(code, number, block)
        return int(np.flatnonzero(block)[0])

    numbers = np.array([place(number, 0) for number in range(_TOGETHER)])
    distances = np.array([place(0, group) for group in range(groups)]) - numbers[0]
    places: NDArray[np.int64] = np.add.outer(numbers, distances)
    return places
