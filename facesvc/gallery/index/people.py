"""The index of one collection under one contract: rows with owners, searched by owner, in the tier that suits its size.

Flat up to some ten thousand rows, coarse beyond (``tiers.Bounds``). A change of tier happens beside the old one, which
answers until then whatever its size (``Rebuild``).
"""

from typing import Self

import numpy as np

from facesvc.errors import InputError
from facesvc.gallery.index.coarse import Coarse
from facesvc.gallery.index.encodings import Codes
from facesvc.gallery.index.flat import Flat
from facesvc.gallery.index.hits import Hit
from facesvc.gallery.index.measure import DEPTHS
from facesvc.gallery.index.places import NOWHERE, Ids
from facesvc.gallery.index.rebuild import Rebuild
from facesvc.gallery.index.rows import Owners, Taken
from facesvc.gallery.index.saved import Trained
from facesvc.gallery.index.scans import Booleans
from facesvc.gallery.index.tiers import Bounds, Tier, TierName
from facesvc.gallery.records import Floats

MAX_OWNERS = 1 << 24
"""Owners are numbers below this one: memory is set aside up to the greatest."""
_BLOCK = 4096  # rows checked at a time
_DAMAGED = 0.1  # of a squared length; rounding to bytes changes one by 0.01 at most


class PeopleIndex:
    """Unit vectors of one dimension: rows under ids of the caller's, each with an owner. Not thread-safe.

    Row ids are any int64; owners are small numbers from 0 on, which the caller may use again once all rows of the owner
    are gone. What was added is found by the next search, what was removed no more, and its bytes are overwritten.
    """

    def __init__(self, dimension: int, bounds: Bounds | None = None) -> None:
        self.dimension = dimension
        self._bounds = bounds or Bounds()
        self._tier: Tier = Flat(dimension)
        self._measured_rows = 0  # how many there were when the sketches were last measured or refused
        self._rebuild: Rebuild | None = None

    def __len__(self) -> int:
        return len(self._tier.rows)

    @property
    def tier(self) -> TierName:
        """The tier that answers."""
        return self._tier.name

    @property
    def code_width(self) -> int:
        """Bytes of a row's codes in the present tier."""
        return self._tier.encoding.width(self.dimension)

    @property
    def rows(self) -> Ids:
        """The ids of all rows, in no order, as a copy."""
        return self._tier.rows.ids.copy()

    def add(self, rows: Ids, owners: Owners, vectors: Floats) -> None:
        """Adds ``rows`` (N,) of ``owners`` (N,) with ``vectors`` (N, D) of unit length.

        A ``ValueError`` where an id is held already or comes twice, an owner is out of bounds or a shape is wrong.
        """
        problem = self._problem(rows, owners)
        if problem or vectors.shape != (len(rows), self.dimension):
            raise ValueError(problem or f"vectors are {vectors.shape}, {(len(rows), self.dimension)} is needed")
        self._add(rows, owners, self._tier.encoding.encode(np.asarray(vectors, np.float32)))

    def remove(self, rows: Ids) -> None:
        """Drops ``rows`` (N,); those that it does not hold are passed over.

        A rebuild that is under way may have copies, until its ``finish``.
        """
        self._tier.remove(rows)
        if self._rebuild:
            self._rebuild.note(rows.copy())

    def search(self, vector: Floats, limit: int, allowed: Booleans | None = None) -> list[Hit]:
        """The ``limit`` owners most similar to ``vector`` (D,), each with the best of their rows, best first.

        All who tie with the last of them are given as well; those with the same similarity stand in the order of their
        rows' ids, and of an owner's rows with the same similarity the lowest id counts. ``allowed`` (M,), with M
        greater than every owner, leaves out those for whom it is False; it is applied before anything is ranked.

        Flat: exact up to the rounding of half floats. Coarse: so is the similarity of whoever is found, up to the
        rounding of a byte; the first is the first of all in more than 999 of 1000 searches for somebody who is held;
        and where few are allowed it is exact altogether.
        """
        return self._tier.search(np.ascontiguousarray(vector, np.float32), limit, allowed)

    @property
    def wants_rebuild(self) -> bool:
        """Whether its size asks for another tier, or has doubled since the sketches were measured."""
        wanted = self._bounds.wanted(len(self), self.tier)
        if wanted == "flat":
            return self.tier != "flat"
        return len(self) >= 2 * self._measured_rows

    def begin_rebuild(self) -> Rebuild:
        """The change to the tier that is wanted at this size; one that is under way is abandoned."""
        self.abandon_rebuild()
        wanted = self._bounds.wanted(len(self), self.tier)
        self._rebuild = Rebuild(self._tier, self.dimension, wanted, max(1, self._bounds.flat_below), self._settle)
        return self._rebuild

    def abandon_rebuild(self) -> None:
        """Leaves everything as it is; whoever runs the rebuild finds its ``finish`` to be True."""
        if self._rebuild:
            self._rebuild.abandoned = True
        self._rebuild = None

    def trained(self) -> bytes:
        """What ``restore`` needs besides the rows: figures about all of them together, of nobody in particular."""
        tier = self._tier
        if isinstance(tier, Coarse):
            return Trained(self.dimension, self._measured_rows, tier.depth, tier.calibration).to_bytes()
        return Trained(self.dimension, self._measured_rows).to_bytes()

    def export(self, rows: Ids) -> Taken:
        """The present ones of ``rows`` (N,), as ``add_codes`` takes them. A row's codes never change within a tier."""
        return self._tier.rows.take(rows)

    @classmethod
    def restore(cls, dimension: int, trained: bytes, bounds: Bounds | None = None) -> Self:
        """An empty index in the tier of the one that ``trained`` is from; an ``InputError`` where it cannot be."""
        known = Trained.from_bytes(trained, dimension)
        index = cls(dimension, bounds)
        index._measured_rows = known.measured_rows
        if known.calibration:
            index._tier = Coarse(dimension, known.calibration, known.depth)
        return index

    def add_codes(self, rows: Ids, owners: Owners, codes: Codes) -> None:
        """Adds what ``export`` gave, of an index in the same tier; best some ten thousand rows at a time.

        An ``InputError`` says what is wrong where it cannot be that; nothing has been added then.
        """
        problem = self._problem(rows, owners) or self._problem_of(codes, len(rows))
        if problem:
            raise InputError(f"the saved index cannot be used: {problem}; build it from the store")
        self._add(rows, owners, codes)

    def _add(self, rows: Ids, owners: Owners, codes: Codes) -> None:
        self._tier.add(rows, owners, codes)
        if self._rebuild:
            self._rebuild.note(rows.copy())

    def _problem(self, rows: Ids, owners: Owners) -> str:
        """What is wrong with rows to be added, in words; empty if nothing is."""
        for name, values in (("rows", rows), ("owners", owners)):
            if values.dtype != np.int64 or values.ndim != 1:
                return f"{name} are {values.dtype} with {values.ndim} axes, int64 with 1 is needed"
        if len(rows) != len(owners):
            return f"there are {len(rows)} rows and {len(owners)} owners"
        if len(owners) and not (owners.min() >= 0 and owners.max() < MAX_OWNERS):
            return f"an owner is not within 0 to {MAX_OWNERS - 1}"
        if len(np.unique(rows)) != len(rows):
            return "a row comes twice"
        if (self._tier.rows.find(rows) != NOWHERE).any():
            return "a row is held already"
        return ""

    def _problem_of(self, codes: Codes, count: int) -> str:
        wanted = (count, self._tier.encoding.width(self.dimension))
        if codes.dtype != np.uint8 or codes.shape != wanted:
            return f"codes are {codes.dtype} {codes.shape}, uint8 {wanted} is needed in the {self.tier} tier"
        for first in range(0, count, _BLOCK):
            vectors = self._tier.encoding.decode(codes[first : first + _BLOCK])
            lengths = np.einsum("nd,nd->n", vectors, vectors)
            if not (np.abs(lengths - 1.0) < _DAMAGED).all():  # false also for what is no number
                return "codes are of no vector of unit length"
        return ""

    def _settle(self, rebuild: Rebuild) -> None:
        """Takes over what a rebuild came to."""
        old, self._rebuild = self._tier, None
        self._measured_rows = rebuild.measured_rows if rebuild.measured else 0
        if rebuild.result is not None:
            self._tier = rebuild.result
        if isinstance(self._tier, Coarse):
            depth = rebuild.measured.depth if rebuild.measured else None
            self._tier.depth = depth or max(DEPTHS)
        if isinstance(old, Coarse) and old is not self._tier:
            old.wipe()
