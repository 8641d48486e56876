"""Where a row is: from the ids that the caller gives out to slots, in 12 bytes a row.

A dictionary takes ten times as much. Most ids stand in a sorted array; the newest in a dictionary, which is merged in
when it has become an eighth of the whole, so that adding stays cheap: a merge at a million takes some 20 ms.
"""

import numpy as np
from numpy.typing import NDArray

Ids = NDArray[np.int64]
Slots = NDArray[np.int32]

_LEAST = 1024  # newest ids that a merge is worth while for
_PART = 8
NOWHERE = -1


class Places:
    """The slot of each id."""

    def __init__(self) -> None:
        self._ids: Ids = np.zeros(0, np.int64)
        self._slots: Slots = np.zeros(0, np.int32)
        self._newest: dict[int, int] = {}
        self._dropped = 0  # of those in the array, where they stand on with NOWHERE

    def find(self, ids: Ids) -> Slots:
        """The slots of ``ids`` (N,) int64, ``NOWHERE`` for one that is not held."""
        slots = np.full(len(ids), NOWHERE, np.int32)
        if len(self._ids):
            at = np.minimum(np.searchsorted(self._ids, ids), len(self._ids) - 1)
            slots = np.where(self._ids[at] == ids, self._slots[at], slots)
        if self._newest:
            for index in np.flatnonzero(slots == NOWHERE).tolist():
                slots[index] = self._newest.get(int(ids[index]), NOWHERE)
        return slots

    def put(self, ids: Ids, slots: Slots) -> None:
        """Enters ``ids`` (N,), none of which is held."""
        if len(ids) < self._limit:
            self._newest.update(zip(ids.tolist(), slots.tolist(), strict=True))
            self._merge_if_due()
        else:
            self._merge(ids, slots)

    def move(self, ids: Ids, slots: Slots) -> None:
        """Changes the slots of ``ids``, which are held."""
        older = self._older(ids)
        self._slots[np.searchsorted(self._ids, ids[older])] = slots[older]
        self._newest.update(zip(ids[~older].tolist(), slots[~older].tolist(), strict=True))

    def drop(self, ids: Ids) -> None:
        """Forgets ``ids``, which are held."""
        older = self._older(ids)
        self._slots[np.searchsorted(self._ids, ids[older])] = NOWHERE
        for row_id in ids[~older].tolist():
            del self._newest[row_id]
        self._dropped += int(np.count_nonzero(older))
        self._merge_if_due()

    def _older(self, ids: Ids) -> NDArray[np.bool_]:
        """Which of ``ids`` stand in the array, not in the dictionary."""
        newest = self._newest
        return np.fromiter((row_id not in newest for row_id in ids.tolist()), np.bool_, len(ids))

    @property
    def size(self) -> int:
        """Entries, those of dropped ids included."""
        return len(self._ids) + len(self._newest)

    @property
    def _limit(self) -> int:
        return max(_LEAST, len(self._ids) // _PART)

    def _merge_if_due(self) -> None:
        if max(len(self._newest), self._dropped) >= self._limit:
            self._merge(np.zeros(0, np.int64), np.zeros(0, np.int32))

    def _merge(self, ids: Ids, slots: Slots) -> None:
        newest = np.fromiter(self._newest.keys(), np.int64, len(self._newest))
        places = np.fromiter(self._newest.values(), np.int32, len(self._newest))
        held = self._slots != NOWHERE
        every = np.concatenate([self._ids[held], newest, ids])
        order = np.argsort(every, kind="stable")
        self._ids, self._slots = every[order], np.concatenate([self._slots[held], places, slots])[order]
        self._newest, self._dropped = {}, 0
