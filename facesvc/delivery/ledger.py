"""What becomes of events, from when they are read until it is on the disk: a courier's side of its outbox."""

import asyncio
from collections.abc import Callable, Iterable
from datetime import datetime

from facesvc.delivery.outbox import Entry, Outbox
from facesvc.events.plugin import About
from facesvc.events.records import Event

WINDOW = 128
_FLUSH_S = 0.2


class Ledger:
    """Keeps count of what is open, and writes down the rest from time to time. All on one event loop.

    An event is *open* from ``read`` until it is dealt with or written down; at most ``WINDOW`` are. The place is before
    the first of them, so that what is open at a crash is read again. Raises ``DependencyError`` where the database
    cannot be used; then nothing is forgotten, and written by a later ``flush``.
    """

    def __init__(self, outbox: Outbox, now: Callable[[], datetime], clock: Callable[[], float]) -> None:
        self._outbox = outbox
        self._now = now
        self._clock = clock
        self.place = 0
        self._written_place = 0
        self._read_to = 0
        self._open: set[int] = set()
        self._known: set[int] = set()  # after what was read, and not new
        self._done: list[int] = []
        self._entries: list[Entry] = []
        self._flush_at = 0.0
        self._writing = asyncio.Lock()

    async def open(self) -> None:
        """Take up where the server ended."""
        self.place, self._known = await asyncio.to_thread(self._outbox.open, self._now())
        self._written_place = self._read_to = self.place

    @property
    def certain_place(self) -> int:
        """The place, or an earlier one while something is still to be written down."""
        return self._written_place if self._entries or self._writing.locked() else self.place

    @property
    def has_room(self) -> bool:
        """Whether more may be read before the next ``flush``."""
        return len(self._open) + len(self._entries) < WINDOW

    async def read(self) -> tuple[list[tuple[int, Event]], int, bool]:
        """New events, which are open from now on; how many were missed; and whether there may be more."""
        limit = WINDOW - len(self._open)
        events, up_to, missed = await asyncio.to_thread(self._outbox.read, self._read_to, limit)
        new = [(sequence, event) for sequence, event in events if sequence not in self._known]
        self._known.difference_update(sequence for sequence, _ in events)
        self._open.update(sequence for sequence, _ in new)
        self._read_to = max(self._read_to, up_to)
        self._move()
        return new, missed, bool(missed) or len(events) == limit

    async def find(self, sequence: int) -> Event | None:
        """An event that was read before."""
        return await asyncio.to_thread(self._outbox.event, sequence)

    @property
    def unwritten(self) -> set[int]:
        """Of which the disk does not know yet what became of them."""
        return {*self._done, *(entry.sequence for entry in self._entries)}

    async def waiting(self, after: int, limit: int) -> list[Entry]:
        """At most so many of those that wait on the disk, in order, with numbers after ``after``."""
        found = await asyncio.to_thread(self._outbox.waiting, after, limit)
        self._known.update(entry.sequence for entry in found if entry.sequence > self._read_to)
        return found

    def is_open(self, sequence: int) -> bool:
        """Whether it is neither dealt with nor written down."""
        return sequence in self._open

    def close(self, sequence: int) -> None:
        """Nothing is to be written of an open one."""
        self._open.discard(sequence)
        self._move()

    def finish(self, sequence: int) -> None:
        """One that is on the disk was dealt with."""
        self._done.append(sequence)
        self.close(sequence)

    def write_down(self, entry: Entry) -> None:
        """To be on the disk soon."""
        self._entries.append(entry)
        self.close(entry.sequence)

    async def write_now(self, entry: Entry) -> None:
        """To be on the disk when this returns, and all before it."""
        await self._write(entry)
        self.close(entry.sequence)

    async def forget(self, about: About, sequences: Iterable[int]) -> None:
        """Nothing is written of somebody from when this returns; ``sequences`` are theirs."""
        self._open.difference_update(sequences)
        self._move()
        self._entries = [one for one in self._entries if (one.collection_id, one.subject_id) != about]
        async with self._writing:
            pass  # what is just being written

    @property
    def flush_time(self) -> float | None:
        """From when on ``flush`` writes, by the clock; None where there is nothing to write."""
        if self._entries:
            return self._clock()
        return self._flush_at if self._done or self.place != self._written_place else None

    async def flush(self, *, now: bool = False) -> None:
        """Write down what is due: entries at once, what was simply dealt with all together a moment later."""
        due = self.flush_time
        if due is not None and (now or due <= self._clock()):
            await self._write()

    async def _write(self, *more: Entry) -> None:
        async with self._writing:
            done, entries, place = self._done, [*self._entries, *more], self.place
            before, self._done, self._entries = self._entries, [], []
            try:
                await asyncio.to_thread(self._outbox.settle, place, done, entries)
            except BaseException:
                self._done, self._entries = done + self._done, before + self._entries
                raise
        self._written_place = place
        self._flush_at = self._clock() + _FLUSH_S

    def _move(self) -> None:
        self.place = min(self._open) - 1 if self._open else self._read_to
