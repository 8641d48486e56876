"""Newest frame wins: a place for one item that a newer one replaces, and the count of those it replaced."""

import asyncio
from dataclasses import dataclass
from typing import Generic, TypeVar

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Delivery(Generic[T]):
    """An item, and how many were dropped since the delivery before."""

    item: T
    dropped: int


class Mailbox(Generic[T]):
    """Holds at most one item. One writer and one reader, both on the same event loop."""

    def __init__(self) -> None:
        self._item: T | None = None
        self._dropped = 0
        self.closed = asyncio.Event()
        """Whether no more items will come."""
        self._changed = asyncio.Event()

    def put(self, item: T, *, counted: bool = True) -> T | None:
        """Leave an item; one that was still waiting is dropped, counted and returned. After ``close`` it is ignored.

        Not ``counted`` is for a caller who finds another use for it.
        """
        if self.closed.is_set():
            return None
        replaced, self._item = self._item, item
        self._dropped += counted and replaced is not None
        self._changed.set()
        return replaced

    def close(self) -> None:
        """No more items will come; one that waits is still delivered."""
        self.closed.set()
        self._changed.set()

    async def ready(self) -> bool:
        """Wait until there is an item; False once the mailbox is closed and empty."""
        while self._item is None:
            if self.closed.is_set():
                return False
            self._changed.clear()
            await self._changed.wait()
        return True

    def take(self) -> Delivery[T]:
        """The item that waits, newest at this moment. Only after ``ready`` said True."""
        item, self._item = self._item, None
        dropped, self._dropped = self._dropped, 0
        if item is None:
            raise LookupError("the mailbox is empty")
        return Delivery(item, dropped)
