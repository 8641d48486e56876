"""Rows without gaps: whose, under which id, and the bytes of the vector."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from facesvc.gallery.index.encodings import Codes
from facesvc.gallery.index.memory import Growing
from facesvc.gallery.index.places import NOWHERE, Ids, Places, Slots

Owners = NDArray[np.int64]


class Taken(NamedTuple):
    """Copies of rows: ``ids`` and ``owners`` (N,) int64, ``codes`` (N, width) uint8."""

    ids: Ids
    owners: Owners
    codes: Codes


class Moved(NamedTuple):
    """What stood at ``origins`` (N,) int64 stands at ``targets`` (N,) int64 now."""

    origins: NDArray[np.int64]
    targets: NDArray[np.int64]


class Rows:
    """Slots 0 to N−1 are taken. A row that goes leaves its slot to the last one, and its bytes are overwritten."""

    def __init__(self, width: int) -> None:
        self._ids = Growing(np.int64)
        self._owners = Growing(np.int32)
        self._codes = Growing(np.uint8, width)
        self._places = Places()

    def __len__(self) -> int:
        return len(self._ids)

    @property
    def ids(self) -> Ids:
        """The id at each slot, as a view until the next change; likewise the other two."""
        return self._ids.values

    @property
    def owners(self) -> NDArray[np.int32]:
        """Whose row is at each slot."""
        return self._owners.values

    @property
    def codes(self) -> Codes:
        """(N, width)."""
        return self._codes.values

    def find(self, ids: Ids) -> Slots:
        """The slots of ``ids``, ``NOWHERE`` for one that is not held."""
        return self._places.find(ids)

    def held(self, ids: Ids) -> Slots:
        """The slots of those of ``ids`` that are held, each once, in ascending order."""
        slots = self.find(ids)
        return np.unique(slots[slots != NOWHERE])

    def take(self, ids: Ids) -> Taken:
        """Copies of those of ``ids`` that are held."""
        slots = self.find(ids)
        slots = slots[slots != NOWHERE]
        return Taken(self.ids[slots], self.owners[slots].astype(np.int64), self.codes[slots])

    def append(self, ids: Ids, owners: Owners, codes: Codes) -> Slots:
        """Adds rows whose ids are not held, and gives their slots, which follow on the last one."""
        slots = np.arange(len(self), len(self) + len(ids), dtype=np.int32)
        self._ids.append(ids)
        self._owners.append(owners)
        self._codes.append(codes)
        self._places.put(ids, slots)
        return slots

    def remove(self, slots: Slots) -> Moved:
        """Takes rows out, each once in ``slots``; the last ones move into their places."""
        moved = fill_gaps(len(self), slots)
        self._places.drop(self.ids[slots])
        for column in (self._ids, self._owners, self._codes):
            column.values[moved.targets] = column.values[moved.origins]
            column.resize(len(column) - len(slots))
        self._places.move(self.ids[moved.targets], moved.targets.astype(np.int32))
        return moved


def fill_gaps(count: int, gone: NDArray[np.integer]) -> Moved:
    """How what has numbers below ``count`` gets rid of those of ``gone``, each once: what moves where."""
    left = count - len(gone)
    return Moved(np.setdiff1d(np.arange(left, count), gone), gone[gone < left].astype(np.int64))
