"""Which rows belong together: an owner's rows in units of up to eight.

A unit is what has one sketch. The mean of five samples of a person has a cosine of 0.69 to a new one where each sample
has 0.55, so that a sketch of the mean finds more surely than one of each row, and there are five times fewer. Somebody
with many samples gets several units, since nobody has one look.

Units are numbered without gaps. An owner's units form a chain from the newest on, of which only the newest has empty
places.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from facesvc.gallery.index.memory import Growing
from facesvc.gallery.index.rows import Moved, Owners, fill_gaps
from facesvc.gallery.index.scans import Booleans

PLACES = 8
_NONE = -1

Numbers = NDArray[np.int64]


class Members(NamedTuple):
    """The slots of groups of rows, group by group: ``slots`` (N,), and ``starts`` (G,), where each group begins."""

    slots: Numbers
    starts: Numbers


class Units:
    """The units of all owners, by slots of ``Rows``."""

    def __init__(self) -> None:
        self._slots = Growing(np.int32, PLACES)
        self._owners = Growing(np.int32)
        self._counts = Growing(np.int32)  # of places taken, always the first ones
        self._next = Growing(np.int32)  # of the same owner
        self._newest = Growing(np.int32)  # unit of each owner, plus one: new ones begin with 0, none
        self._unit_of = Growing(np.int32)  # of each slot

    def __len__(self) -> int:
        return len(self._owners)

    @property
    def owners(self) -> NDArray[np.int32]:
        """Whose unit each is, as a view until the next change."""
        return self._owners.values

    @property
    def counts(self) -> NDArray[np.int32]:
        """How many rows each has, likewise."""
        return self._counts.values

    def newest(self, owners: Owners) -> Numbers:
        """The newest unit of each of ``owners`` (N,), −1 for one who has none."""
        units, known = np.full(len(owners), _NONE, np.int64), owners < len(self._newest)
        units[known] = self._newest.values[owners[known]] - 1
        return units

    def present(self, allowed: Booleans) -> Booleans:
        """``allowed`` (M,), False also for owners who have no unit."""
        present: Booleans = self._newest.values != 0
        present[: len(allowed)] &= allowed[: len(present)]
        present[len(allowed) :] = False
        return present

    def chain(self, owners: Owners) -> tuple[Numbers, Numbers]:
        """All units of ``owners`` (N,), each once there, and for each unit the index of its owner in ``owners``."""
        following, units, indices = self._next.values, [], []
        unit, index = self.newest(owners), np.arange(len(owners))
        while len(unit):
            held = unit != _NONE
            unit, index = unit[held], index[held]
            units.append(unit)
            indices.append(index)
            unit = following[unit].astype(np.int64)
        if not units:
            return unit, index
        return np.concatenate(units), np.concatenate(indices)

    def members(self, units: Numbers) -> Members:
        """The slots of ``units`` (N,)."""
        slots, counts = self._slots.values[units], self.counts[units]
        return Members(slots[slots != _NONE].astype(np.int64), np.cumsum(counts) - counts)

    def add(self, slots: NDArray[np.integer], owners: Owners) -> Numbers:
        """Adds rows (N,) at new ``slots``, which follow on the last one; the units that have changed, each once."""
        self._unit_of.resize(len(self._unit_of) + len(slots))
        return self._place(slots, owners)

    def remove(self, slots: NDArray[np.integer]) -> tuple[Moved, Numbers]:
        """Takes out the rows at ``slots``, each once there: units that have other numbers now, and those that changed.

        What is left to the owners is put together anew. The slots are what they were, until ``renumber``.
        """
        owners = np.unique(self.owners[self._unit_of.values[slots]]).astype(np.int64)
        units, index = self.chain(owners)
        members = self.members(units).slots
        whose = np.repeat(owners[index], self.counts[units])
        left = np.isin(members, slots, invert=True)
        self._newest.values[owners] = 0
        moved = self._drop(units)
        return moved, self._place(members[left], whose[left])

    def renumber(self, moved: Moved) -> None:
        """Slots have changed; those beyond the last one are no more."""
        units = self._unit_of.values[moved.origins]
        row, place = np.nonzero(self._slots.values[units] == moved.origins[:, None])
        self._slots.values[units[row], place] = moved.targets[row]
        self._unit_of.values[moved.targets] = units
        self._unit_of.resize(int(self.counts.sum()))

    def _drop(self, units: Numbers) -> Moved:
        """Drops ``units``, to which nothing points any more."""
        moved = fill_gaps(len(self), units)
        self._point(moved)
        for column in (self._slots, self._owners, self._counts, self._next):
            column.values[moved.targets] = column.values[moved.origins]
            column.resize(len(column) - len(units))
        members = self.members(moved.targets).slots
        self._unit_of.values[members] = np.repeat(moved.targets, self.counts[moved.targets])
        return moved

    def _point(self, moved: Moved) -> None:
        """Whatever points to units that are going to move points to where they will be."""
        owners = np.unique(self.owners[moved.origins]).astype(np.int64)
        chain, _ = self.chain(owners)
        for pointers, where, first in ((self._newest, owners, 1), (self._next, chain, 0)):
            numbers = pointers.values[where] - first
            at = np.minimum(np.searchsorted(moved.origins, numbers), max(0, len(moved.origins) - 1))
            hit = np.flatnonzero(moved.origins[at] == numbers) if len(moved.origins) else at[:0]
            pointers.values[where[hit]] = moved.targets[at[hit]] + first

    def _place(self, slots: NDArray[np.integer], owners: Owners) -> Numbers:
        """Finds places for rows of ``owners`` (N,); the units that have changed, each once."""
        order = np.argsort(owners, kind="stable")
        slots, owners = slots[order], owners[order]
        who, starts, counts = np.unique(owners, return_index=True, return_counts=True)
        if len(who) and who[-1] >= len(self._newest):
            self._newest.resize(int(who[-1]) + 1)
        newest = self.newest(who)
        free = np.zeros(len(who), np.int64)
        free[newest != _NONE] = PLACES - self.counts[newest[newest != _NONE]]
        fresh = -(-np.maximum(counts - free, 0) // PLACES)  # new units of each owner
        first = len(self) + np.cumsum(fresh) - fresh
        self._open(who, newest, fresh, first)
        rank = np.arange(len(slots)) - np.repeat(starts, counts) - np.repeat(free, counts)
        full = np.repeat(newest, counts), rank + PLACES
        new = np.repeat(first, counts) + rank // PLACES, rank % PLACES
        units, places = (np.where(rank < 0, *pair) for pair in zip(full, new, strict=True))
        self._slots.values[units, places] = slots
        self._unit_of.values[slots] = units
        changed, taken = np.unique(units, return_counts=True)
        self.counts[changed] += taken.astype(np.int32)
        return changed

    def _open(self, who: Owners, newest: Numbers, fresh: Numbers, first: Numbers) -> None:
        """Appends ``fresh`` (N,) empty units for each of ``who``, numbered from ``first`` (N,) on, and chains them."""
        total = int(fresh.sum())
        rank = np.arange(total) - np.repeat(np.cumsum(fresh) - fresh, fresh)
        before = np.where(rank == 0, np.repeat(newest, fresh), len(self) + np.arange(total) - 1)
        self._slots.append(np.full((total, PLACES), _NONE, np.int32))
        self._owners.append(np.repeat(who, fresh))
        self._counts.append(np.zeros(total, np.int32))
        self._next.append(before)
        grown = fresh > 0
        self._newest.values[who[grown]] = (first + fresh)[grown]
