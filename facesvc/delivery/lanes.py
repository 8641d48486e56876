"""What waits for one plugin, in lanes: whatever is about one person goes one after the other, lanes side by side."""

import heapq
from collections import OrderedDict, deque
from collections.abc import Iterator
from dataclasses import dataclass, field

from facesvc.delivery.outbox import Entry, Lane
from facesvc.events.records import Event


@dataclass(slots=True)
class Item:
    """One event that is to be delivered. ``event`` is None where it has to be read again, ``entry`` what is on disk."""

    sequence: int
    event: Event | None = None
    entry: Entry | None = None
    errors: int = 0

    @property
    def tries(self) -> int:
        """How often it was tried."""
        return self.entry.attempts if self.entry else 0


@dataclass(slots=True)
class _Queue:
    items: deque[Item] = field(default_factory=deque)
    busy: bool = False
    held: bool = False
    """The first one failed: nothing comes before it is tried again."""


def lane_of(event: Event) -> Lane:
    """Whom it is about, or which camera saw it where nobody is named."""
    return (event.collection_id, event.about) if event.about else ("", event.camera_id)


class Lanes:
    """All that waits. Times are seconds of a clock that never goes back."""

    def __init__(self) -> None:
        self._queues: dict[Lane, _Queue] = {}
        self._ready: OrderedDict[Lane, None] = OrderedDict()
        self._sleeping: list[tuple[float, Lane]] = []
        self._sequences: set[int] = set()

    def __len__(self) -> int:
        return len(self._sequences)

    def __contains__(self, sequence: int) -> bool:
        return sequence in self._sequences

    def add(self, lane: Lane, item: Item) -> bool:
        """One more, in its order; whether it has to wait for one that failed."""
        queue = self._queues.setdefault(lane, _Queue())
        self._sequences.add(item.sequence)
        if queue.items and item.sequence < queue.items[-1].sequence:
            first = [queue.items.popleft()] if queue.busy else []
            queue.items = deque([*first, *sorted([*queue.items, item], key=lambda one: one.sequence)])
        else:
            queue.items.append(item)
        if not queue.busy and not queue.held:
            self._ready[lane] = None
        return queue.held

    def hold(self, lane: Lane, until: float) -> None:
        """The first of a lane failed: try it again then."""
        queue = self._queues[lane]
        queue.busy, queue.held = False, True
        self._ready.pop(lane, None)
        heapq.heappush(self._sleeping, (until, lane))

    def is_first(self, lane: Lane, item: Item) -> bool:
        """Whether it is the next of its lane, and not being tried."""
        queue = self._queues[lane]
        return queue.items[0] is item and not queue.busy

    def behind(self, lane: Lane) -> Iterator[Item]:
        """All but the first of a lane."""
        items = iter(self._queues[lane].items)
        next(items)
        return items

    def wake(self, clock: float) -> None:
        """Those whose time has come are ready."""
        while self._sleeping and self._sleeping[0][0] <= clock:
            _, lane = heapq.heappop(self._sleeping)
            if (queue := self._queues.get(lane)) and queue.held and not queue.busy:
                self._ready[lane] = None

    def next_wake(self) -> float | None:
        """When the next one is ready; None where none sleeps."""
        return self._sleeping[0][0] if self._sleeping else None

    @property
    def is_ready(self) -> bool:
        """Whether ``take`` has something to give."""
        return bool(self._ready)

    def take(self) -> tuple[Lane, Item]:
        """The first of the lane that is ready for longest; the lane is busy until ``finish`` or ``hold``."""
        lane, _ = self._ready.popitem(last=False)
        queue = self._queues[lane]
        queue.busy = True
        return lane, queue.items[0]

    def give_back(self, lane: Lane) -> None:
        """The first was not tried after all."""
        self._queues[lane].busy = False
        self._ready[lane] = None

    def finish(self, lane: Lane) -> None:
        """The first of a lane is dealt with."""
        queue = self._queues[lane]
        queue.busy = queue.held = False
        self._sequences.discard(queue.items.popleft().sequence)
        if queue.items:
            self._ready[lane] = None
        else:
            del self._queues[lane]

    def forget(self, lane: Lane) -> list[Item]:
        """Drop what waits in a lane, but for one that is being tried; what was dropped."""
        queue = self._queues.get(lane)
        if queue is None:
            return []
        kept = [queue.items.popleft()] if queue.busy else []
        dropped = list(queue.items)
        self._sequences.difference_update(one.sequence for one in dropped)
        queue.items = deque(kept)
        if not kept:
            del self._queues[lane]
            self._ready.pop(lane, None)
        return dropped
