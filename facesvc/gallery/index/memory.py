"""Memory for what is held of people: it grows in place, and what is taken out of it is overwritten.

Each array is an anonymous mapping of its own. The kernel moves it when it grows (mremap), so no old copy stays behind
in the heap and half a gigabyte is never copied; what is given back leaves the process; and a core dump leaves it out
(MADV_DONTDUMP).
"""

import mmap
from typing import Any

import numpy as np
from numpy.typing import NDArray

_LEAST = 1 << 16  # bytes; a multiple of every page size in use
_SPARE = 1.5  # capacity over need; pages that were never written take up no memory
_SHRINK = 4  # capacity over need from which on some is given back


class Growing:
    """An array (N,) or (N, width) whose length changes at its end. What ``resize`` adds is zero."""

    def __init__(self, dtype: type[np.generic], width: int | None = None) -> None:
        self._dtype = np.dtype(dtype)
        self._shape = () if width is None else (width,)
        self._item = self._dtype.itemsize * (width or 1)
        self._count = 0
        self._map(_LEAST)

    def __len__(self) -> int:
        return self._count

    @property
    def values(self) -> NDArray[Any]:
        """All of it, as a view that must not be kept beyond the next ``resize``."""
        return self._all[: self._count]

    def resize(self, count: int) -> None:
        """Changes the length; what falls off the end is overwritten with zeros first."""
        self._all[count : self._count] = 0
        need = count * self._item
        if need > len(self._memory) or _SHRINK * max(need, _LEAST) < len(self._memory):
            self._remap(max(_LEAST, int(_SPARE * need)))
        self._count = count

    def append(self, values: NDArray[Any]) -> None:
        """Adds (n,) or (n, width) at the end."""
        before = self._count
        self.resize(before + len(values))
        self._all[before : self._count] = values

    def _map(self, size: int) -> None:
        self._memory = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        self._memory.madvise(mmap.MADV_DONTDUMP)
        self._view()

    def _view(self) -> None:
        capacity = len(self._memory) // self._item
        flat = np.frombuffer(self._memory, self._dtype, capacity * self._item // self._dtype.itemsize)
        self._all = flat.reshape(capacity, *self._shape)

    def _remap(self, size: int) -> None:
        del self._all  # a mapping with a view cannot be moved
        try:
            self._memory.resize(size)
        except BufferError:  # somebody else still has a view, as the traceback of an error may
            before = np.frombuffer(self._memory, np.uint8)
            self._map(size)
            kept = min(size, len(before))
            np.frombuffer(self._memory, np.uint8)[:kept] = before[:kept]
            before[:] = 0
        self._view()
