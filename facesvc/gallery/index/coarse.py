"""The tier for many rows: people first, by sketches, then every row of those who come into question.

The rows of the ``depth`` best units' owners are compared with the query as the flat tier would. Where a filter leaves
few people, theirs are compared and no sketch is looked at.

Rows take 516 bytes at most as long as vectors have up to 512 values: half floats up to 256 values, bytes beyond. Short
vectors need the precision: those of dlib's network lie so close together that among 200,000 people bytes change who is
first in 4 of 1000 searches.
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from facesvc.gallery.index.encodings import BYTES, HALVES, Codes, Encoding
from facesvc.gallery.index.hits import Hit, best_hits
from facesvc.gallery.index.places import Ids
from facesvc.gallery.index.rows import Owners, Rows
from facesvc.gallery.index.scans import Booleans, inner_products
from facesvc.gallery.index.sketches import Calibration, Sketches
from facesvc.gallery.index.units import Units
from facesvc.gallery.records import Floats

DEFAULT_DEPTH = 256
"""Units looked into where it could not be measured how many it takes."""
_HALVES_UP_TO = 256  # values
_DEEPER = 4  # units for each owner wanted, where many are
_FEW_OWNERS = 2000
_SPARE = 1.25  # units asked for over those that a filter leaves on average
_GROWTH = 4
_TOGETHER = 1024  # units sketched at a time
_COMPARED = 1024  # rows compared at a time: about what fits into the cache of a core


class Coarse:
    """Rows in units, with a sketch of each unit."""

    name: Final = "coarse"

    def __init__(self, dimension: int, calibration: Calibration, depth: int = DEFAULT_DEPTH) -> None:
        self.calibration, self.depth = calibration, depth
        self.encoding: Encoding = HALVES if dimension <= _HALVES_UP_TO else BYTES
        self.rows = Rows(self.encoding.width(dimension))
        self._units = Units()
        self._sketches = Sketches(dimension, calibration)

    def add(self, ids: Ids, owners: Owners, codes: Codes) -> None:
        """Adds rows (N, …) whose ids are not held; best many at once, and an owner's together."""
        slots = self.rows.append(ids, owners, codes)
        changed = self._units.add(slots, owners)
        self._sketches.resize(len(self._units))
        self._sketch(changed)

    def remove(self, ids: Ids) -> None:
        """Drops rows; those that are not held are passed over."""
        slots = self.rows.held(ids)
        moved, changed = self._units.remove(slots)
        self._sketches.move(moved.origins, moved.targets)
        self._sketches.resize(len(self._units))
        self._units.renumber(self.rows.remove(slots))
        self._sketch(changed)

    def _sketch(self, units: NDArray[np.int64]) -> None:
        """Sketches the direction of the mean of each of ``units``."""
        for first in range(0, len(units), _TOGETHER):
            part = units[first : first + _TOGETHER]
            slots, starts = self._units.members(part)
            sums = np.add.reduceat(self.encoding.decode(self.rows.codes[slots]), starts, axis=0)
            lengths = np.linalg.norm(sums, axis=1, keepdims=True)
            self._sketches.write(part, sums / np.maximum(lengths, np.finfo(np.float32).tiny))

    def search(self, query: Floats, limit: int, allowed: Booleans | None) -> list[Hit]:
        """Exact among the owners that the sketches bring up; see ``PeopleIndex.search``."""
        owners = self._candidates(query, max(self.depth, _DEEPER * limit), allowed)
        if not len(owners):
            return []
        slots, _ = self._units.members(self._units.chain(owners)[0])
        rows, similarities = self.rows, np.empty(len(slots), np.float32)
        for first in range(0, len(slots), _COMPARED):
            part = slice(first, first + _COMPARED)
            vectors, scales = self.encoding.parts(rows.codes.take(slots[part], axis=0))
            similarities[part] = inner_products(query, vectors) * scales
        return best_hits(rows.owners[slots], rows.ids[slots], similarities, limit)

    def ranking(self, query: Floats, k: int) -> NDArray[np.int32]:
        """The owners of the ``k`` best units, best first; somebody with several is named as often."""
        return self._units.owners[self._sketches.search(query, k)]

    def _candidates(self, query: Floats, depth: int, allowed: Booleans | None) -> Owners:
        """Owners to be compared, each once: of the ``depth`` best units of those allowed, or all if these are few."""
        if allowed is None:
            return np.unique(self.ranking(query, depth)).astype(np.int64)
        allowed = self._units.present(allowed)
        many = int(np.count_nonzero(allowed))
        if many <= _FEW_OWNERS:
            return np.flatnonzero(allowed)
        k = int(_SPARE * depth * max(1.0, len(self._units) / many))
        while True:
            owners = self.ranking(query, k)
            owners = owners[allowed[owners]]
            if len(owners) >= depth or k >= len(self._units):
                return np.unique(owners[:depth]).astype(np.int64)
            k *= _GROWTH

    def sample(self, count: int, least: int, generator: np.random.Generator) -> Ids:
        """Ids of about ``count`` random rows whose owners have at least ``least`` rows, each owner at most once."""
        slots = generator.choice(len(self.rows), min(count, len(self.rows)), replace=False)
        owners, firsts = np.unique(self.rows.owners[slots], return_index=True)
        units, index = self._units.chain(owners.astype(np.int64))
        counts = np.bincount(index, self._units.counts[units], len(owners))
        return generator.permutation(self.rows.ids[slots[firsts[counts >= least]]])

    def vectors_of(self, owner: int) -> Floats:
        """Those of all rows of ``owner``, (N, D)."""
        slots, _ = self._units.members(self._units.chain(np.array([owner]))[0])
        return self.encoding.decode(self.rows.codes[slots])

    def wipe(self) -> None:
        """Overwrites the sketches, before they are let go; the rows' memory goes back to the system by itself."""
        self._sketches.wipe()
