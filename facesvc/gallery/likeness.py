"""Who is like whom among many vectors: all pairs, block by block, in bounded memory. Arrays only.

Vectors are float32 of unit length, so a product of two is their cosine.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from facesvc.gallery.records import Floats

Integers = NDArray[np.int64]

BLOCK = 1024
"""Rows of a block: the product of two has 4 MB."""

Proceed = Callable[[], None]
"""Called between two steps of long work; what it raises stops the work."""


@dataclass(frozen=True, slots=True)
class Pair:
    """Two rows of different owners, and how alike they are."""

    first: int
    second: int
    similarity: float


@dataclass(frozen=True, slots=True)
class Group:
    """Rows of one owner that are unlike all others of the owner's: ``similarity`` is the best of any two of both."""

    rows: tuple[int, ...]
    others: tuple[int, ...]
    similarity: float


@dataclass(slots=True)
class Templates:
    """Vectors (D,) with their owners, who are numbered; each is a row, in the order of coming."""

    owners: list[int] = field(default_factory=list)
    _blocks: list[Floats] = field(default_factory=list)
    _waiting: list[Floats] = field(default_factory=list)

    def add(self, vector: Floats, owner: int) -> None:
        """One more row."""
        self.owners.append(owner)
        self._waiting.append(vector)
        if len(self._waiting) == BLOCK:
            self._settle()

    def _settle(self) -> None:
        """Make a block of the rows that wait for one."""
        if self._waiting:
            self._blocks.append(np.stack(self._waiting))
            self._waiting = []

    def blocks(self) -> list[Floats]:
        """All rows, ``BLOCK`` to an array, fewer in the last; no row may be added after."""
        self._settle()
        return self._blocks

    def of_rows(self, rows: Integers) -> Floats:
        """The vectors of some rows, at least one, (N, D)."""
        blocks = self.blocks()
        return np.stack([blocks[row // BLOCK][row % BLOCK] for row in rows])

    def odd_groups(self, threshold: float, proceed: Proceed) -> Iterator[Group]:
        """Of everybody the rows that are less alike than ``threshold`` to all others of theirs.

        Rows that hang together, each with the next by ``threshold`` or more, are one group. The others are the largest
        group, the first of several.
        """
        owners = np.array(self.owners, np.int64)
        order = np.argsort(owners, kind="stable")
        starts = np.flatnonzero(np.diff(owners[order]))
        for rows in np.split(order, starts + 1):
            proceed()
            if len(rows) > 1:
                yield from _odd_groups(rows, self.of_rows(rows), threshold)

    def alike(self, threshold: float, limit: int, but: Integers, proceed: Proceed) -> list[Pair]:
        """The ``limit`` pairs of owners that are most alike, by their likest rows, from ``threshold`` on, best first.

        :param but: pairs of owners that are left out, as ``pair_keys`` numbers them.
        """
        found = _Likest(np.array(self.owners, np.int64), threshold, limit, but)
        blocks = self.blocks()
        for first in range(len(blocks)):
            for second in range(first, len(blocks)):
                proceed()
                found.add(blocks[first] @ blocks[second].T, first * BLOCK, second * BLOCK)
        return found.pairs()

    def nearest_others(self, rows: Integers, proceed: Proceed) -> list[Pair | None]:
        """For each of ``rows`` the likest row of another owner; None where there is no other."""
        if not len(rows):
            return []
        owners, vectors = np.array(self.owners, np.int64), self.of_rows(rows)
        best, nearest = np.full(len(rows), -np.inf, np.float32), np.zeros(len(rows), np.int64)
        for place, block in enumerate(self.blocks()):
            proceed()
            start = place * BLOCK
            similarities = vectors @ block.T
            similarities[owners[rows][:, None] == owners[None, start : start + len(block)]] = -np.inf
            likest = similarities.argmax(axis=1)
            values = similarities[np.arange(len(rows)), likest]
            better = values > best
            best[better], nearest[better] = values[better], start + likest[better]
        found = zip(rows.tolist(), nearest.tolist(), best.tolist(), strict=True)
        return [Pair(row, other, value) if np.isfinite(value) else None for row, other, value in found]


def pair_keys(first: Integers, second: Integers) -> Integers:
    """A number for each pair of owners (N,), whichever of the two comes first."""
    return (np.minimum(first, second) << 32) | np.maximum(first, second)


def _odd_groups(rows: Integers, vectors: Floats, threshold: float) -> Iterator[Group]:
    groups = sorted(_hanging_together(vectors, threshold), key=lambda group: (-len(group), group[0]))
    for group in groups[1:]:
        others = np.setdiff1d(np.arange(len(rows)), group)
        similarity = float(_best(vectors[group], vectors[others]).max())
        yield Group(tuple(rows[group].tolist()), tuple(rows[groups[0]].tolist()), similarity)


def _hanging_together(vectors: Floats, threshold: float) -> list[Integers]:
    """The places of ``vectors`` (N, D) in groups, each sorted."""
    found = []
    left = np.arange(len(vectors))
    while len(left):
        waiting, left = left[:1], left[1:]
        group = []
        while len(waiting):
            now, waiting = waiting[:BLOCK], waiting[BLOCK:]
            group.append(now)
            if len(left):
                linked = _best(vectors[left], vectors[now]) >= threshold
                waiting, left = np.concatenate([waiting, left[linked]]), left[~linked]
        found.append(np.sort(np.concatenate(group)))
    return found


def _best(vectors: Floats, others: Floats) -> Floats:
    """For each of ``vectors`` (N, D) the similarity to the likest of ``others`` (M, D), (N,); neither is empty."""
    steps = range(0, len(vectors), BLOCK), range(0, len(others), BLOCK)
    parts = [
        np.max([(vectors[one : one + BLOCK] @ others[two : two + BLOCK].T).max(axis=1) for two in steps[1]], axis=0)
        for one in steps[0]
    ]
    return np.concatenate(parts)


class _Likest:
    """The likest pairs of owners so far; the rest is not kept, however much comes."""

    def __init__(self, owners: Integers, threshold: float, limit: int, but: Integers) -> None:
        self._owners, self._limit, self._but = owners, limit, but
        self._floor = np.float32(threshold)
        self._firsts: Integers = np.empty(0, np.int64)
        self._seconds: Integers = np.empty(0, np.int64)
        self._similarities: Floats = np.empty(0, np.float32)

    def add(self, similarities: Floats, first: int, second: int) -> None:
        """The product of two blocks, whose rows begin at ``first`` and at ``second``."""
        places = np.flatnonzero(similarities >= self._floor)
        firsts, seconds = np.divmod(places, similarities.shape[1])
        firsts, seconds = firsts + first, seconds + second
        wanted = self._owners[firsts] != self._owners[seconds]
        if len(self._but):
            wanted &= ~np.isin(self._keys(firsts, seconds), self._but)
        if wanted.any():
            self._merge(firsts[wanted], seconds[wanted], similarities.ravel()[places[wanted]])

    def _merge(self, firsts: Integers, seconds: Integers, similarities: Floats) -> None:
        firsts, seconds = np.concatenate([self._firsts, firsts]), np.concatenate([self._seconds, seconds])
        similarities = np.concatenate([self._similarities, similarities])
        order = np.argsort(-similarities, kind="stable")
        _, likest = np.unique(self._keys(firsts[order], seconds[order]), return_index=True)
        best = order[np.sort(likest)[: self._limit]]  # of each two owners their likest rows
        self._firsts, self._seconds, self._similarities = firsts[best], seconds[best], similarities[best]
        if len(best) == self._limit:
            # From here on a pair has to be better than the last of these.
            self._floor = np.nextafter(self._similarities[-1], np.float32(2))

    def _keys(self, firsts: Integers, seconds: Integers) -> Integers:
        return pair_keys(self._owners[firsts], self._owners[seconds])

    def pairs(self) -> list[Pair]:
        """What was found, best first."""
        found = zip(self._firsts.tolist(), self._seconds.tolist(), self._similarities.tolist(), strict=True)
        return [Pair(first, second, similarity) for first, second, similarity in found]
