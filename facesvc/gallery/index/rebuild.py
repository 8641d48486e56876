"""The change to another tier, beside the one that answers meanwhile.

The new tier is filled from the old one a few thousand rows at a time, each time under the lock for about a millisecond.
Whatever changes after that is noted by id and brought over again: first without the lock, in rounds that grow
shorter, the last few rows under it.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

import numpy as np

from facesvc.gallery.index.coarse import Coarse
from facesvc.gallery.index.flat import Flat
from facesvc.gallery.index.measure import Measured, measure
from facesvc.gallery.index.places import Ids
from facesvc.gallery.index.sketches import Calibration
from facesvc.gallery.index.tiers import Tier, TierName

_BLOCK = 4096  # rows copied under the lock at a time
_CALIBRATION_ROWS = 16_384
_FINISH_ROWS = 500  # that are brought over under the lock at the end: some 20 ms
_SEED = 11

Lock = AbstractContextManager[object]


class Rebuild:
    """One change of tier. ``run`` works in any thread, without the lock that the index's callers hold.

    The caller: ``rebuild = index.begin_rebuild()`` under the lock; then ``rebuild.run(lock)`` without it and
    ``rebuild.finish()`` with it, both again until ``finish`` gives True. The lock must be the one under which the index
    is used.
    """

    def __init__(
        self, tier: Tier, dimension: int, wanted: TierName, fewest: int, settle: Callable[["Rebuild"], None]
    ) -> None:
        """``fewest``: with less rows than these nothing coarse is made, for nothing could be measured of it."""
        self._old, self._dimension, self._wanted, self._settle = tier, dimension, wanted, settle
        self._fewest = fewest
        self._touched: list[Ids] = []
        self._built = False
        self.abandoned = False
        self.result: Tier | None = None
        """The tier to use from now on, maybe the old one; None where no good one could be built."""
        self.measured: Measured | None = None
        """What was measured of the sketches, where there are any."""
        self.measured_rows = 0
        """On so many rows; others may have come since."""

    def note(self, ids: Ids) -> None:
        """Rows were added or removed; the index calls this, under the lock."""
        self._touched.append(ids)

    def run(self, lock: Lock) -> None:
        """All that takes long: builds and measures the new tier, and follows what changes in the old one."""
        if not self._built:
            self.result = self._coarse(lock) if self._wanted == "coarse" else self._flat(lock)
            self._built = True
        while self._replaces and not self.abandoned:
            with lock:
                touched = self._drain()
                if len(touched) <= _FINISH_ROWS:
                    self.note(touched)
                    return
            self._bring(touched, lock)

    def finish(self) -> bool:
        """Changes over, under the lock, in less than 100 ms; False where so much has changed that ``run`` is due."""
        if self.abandoned:
            return True
        if not self._built:
            return False
        if self._replaces:
            touched = self._drain()
            if len(touched) > _FINISH_ROWS:
                self.note(touched)
                return False
            self._bring(touched, nullcontext())
        self._settle(self)
        self._old = self.result or self._old  # lets the other one go
        return True

    @property
    def _replaces(self) -> bool:
        return self.result is not None and self.result is not self._old

    def _coarse(self, lock: Lock) -> Tier | None:
        """The old tier, if it is coarse and good enough; else a new one, if that is."""
        with lock:
            self.measured_rows = len(self._old.rows)
        if self.measured_rows < self._fewest:
            return None  # nearly all were removed since it began
        if isinstance(self._old, Coarse):
            self.measured = measure(self._old, lock)
            if self.measured.depth is not None:
                return self._old
        with lock:
            ids = self._old.rows.ids
            slots = np.random.default_rng(_SEED).choice(len(ids), min(_CALIBRATION_ROWS, len(ids)), replace=False)
            codes = self._old.rows.codes[slots]
        tier = Coarse(self._dimension, Calibration.of(self._old.encoding.decode(codes)))
        self._fill(tier, lock)
        if self.abandoned:
            return None
        self.measured = measure(tier, nullcontext())
        if self.measured.depth is None:
            return None
        tier.depth = self.measured.depth
        return tier

    def _flat(self, lock: Lock) -> Tier:
        tier = Flat(self._dimension)
        self._fill(tier, lock)
        return tier

    def _fill(self, tier: Tier, lock: Lock) -> None:
        """Brings over all rows that there are now, an owner's together."""
        with lock:
            self._touched.clear()
            ids, owners = self._old.rows.ids.copy(), self._old.rows.owners.copy()
        ids = ids[np.argsort(owners, kind="stable")]
        for first in range(0, len(ids), _BLOCK):
            if self.abandoned:
                return
            self._copy(tier, ids[first : first + _BLOCK], lock)

    def _bring(self, touched: Ids, lock: Lock) -> None:
        """Makes ``touched`` rows in the new tier what they are in the old one."""
        assert self.result is not None  # there is something to bring over only to a new tier
        for first in range(0, len(touched), _BLOCK):
            part = touched[first : first + _BLOCK]
            self.result.remove(part)
            self._copy(self.result, part, lock)

    def _copy(self, tier: Tier, ids: Ids, lock: Lock) -> None:
        with lock:
            taken = self._old.rows.take(ids)
        if tier.encoding is self._old.encoding:
            tier.add(*taken)
        else:
            tier.add(taken.ids, taken.owners, tier.encoding.encode(self._old.encoding.decode(taken.codes)))

    def _drain(self) -> Ids:
        touched = np.unique(np.concatenate([np.zeros(0, np.int64), *self._touched]))
        self._touched.clear()
        return touched
