"""What is told to a reader at its own pace: a bounded queue that loses the oldest, and the count of what was lost."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from typing import Generic, TypeVar

T = TypeVar("T")


class Outbox(Generic[T]):
    """Holds at most ``limit`` items that may be lost, and as many that may not be. Belongs on one event loop."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._items: deque[tuple[T, bool]] = deque()
        self._lost = 0
        self._closed = False
        self._changed = asyncio.Event()

    def put(self, item: T, *, losable: bool = True) -> T | None:
        """Leave an item; the older one that was lost to make room, if any. After ``close`` it is ignored.

        Whoever puts more than ``limit`` items that may not be lost loses the oldest of these all the same.
        """
        if self._closed:
            return None
        self._items.append((item, losable))
        lost = None
        if sum(kept is losable for _, kept in self._items) > self._limit:
            oldest = next(place for place, (_, kept) in enumerate(self._items) if kept is losable)
            lost = self._items[oldest][0]
            del self._items[oldest]
            self._lost += losable
        self._changed.set()
        return lost

    def close(self) -> None:
        """No more items will come; those that wait are still read."""
        self._closed = True
        self._changed.set()

    def take_lost(self) -> int:
        """How many losable items were lost since this was asked last."""
        lost, self._lost = self._lost, 0
        return lost

    async def read(self) -> AsyncIterator[T]:
        """All items in order, until it is closed and empty."""
        while True:
            while self._items:
                yield self._items.popleft()[0]
            if self._closed:
                return
            self._changed.clear()
            await self._changed.wait()
