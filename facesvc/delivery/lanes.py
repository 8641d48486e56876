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
    dropped: bool = False
    """Whom it is about was erased while it was being tried: nothing is to be written of it."""

    @property
    def tries(self) -> int:
        """How often it was tried."""
        return self.entry.attempts if self.entry else 0


@dataclass(slots=True)
class _Queue:
    items: deque[Item] = field(default_factory=deque)
    busy: bool = False
    held: bool = False
    """The first one failed, or takes long: what comes after it is better written down."""
    until: float = 0.0

    def add(self, item: Item) -> None:
        """In its order, but behind one that is being tried."""
        if self.items and item.sequence < self.items[-1].sequence:
            first = [self.items.popleft()] if self.busy else []
            self.items = deque([*first, *sorted([*self.items, item], key=_sequence)])
        else:
            self.items.append(item)

    def let_go(self) -> None:
        """The first is no longer being tried, and behind one that was added before it."""
        self.busy = False
        if len(self.items) > 1 and self.items[1].sequence < self.items[0].sequence:
            self.items = deque(sorted(self.items, key=_sequence))


def _sequence(item: Item) -> int:
    return item.sequence


def lane_of(event: Event) -> Lane:
    """Whom it is about, or which camera saw it where nobody is named."""
    return (event.collection_id, event.about) if event.about else ("", event.camera_id)


class Lanes:
    """All that waits. Times are seconds of a clock that never goes back."""

    def __init__(self) -> None:
        self._queues: dict[Lane, _Queue] = {}
        self._ready: OrderedDict[Lane, None] = OrderedDict()
        self._sleeping: list[tuple[float, Lane]] = []
        self._begun: dict[Lane, float] = {}
        self._sequences: set[int] = set()

    def __len__(self) -> int:
        return len(self._sequences)

    def __contains__(self, sequence: int) -> bool:
        return sequence in self._sequences

    @property
    def sequences(self) -> set[int]:
        """The numbers of all."""
        return set(self._sequences)

    def add(self, lane: Lane, item: Item) -> bool:
        """One more, in its order; whether it has to wait for one that failed, or takes long."""
        queue = self._queues.setdefault(lane, _Queue())
        self._sequences.add(item.sequence)
        queue.add(item)
        if not queue.busy and not queue.held:
            self._ready[lane] = None
        return queue.held

    def hold(self, lane: Lane, until: float) -> None:
        """The first of a lane failed: try it again then."""
        queue = self._queues[lane]
        queue.let_go()
        queue.held, queue.until = True, until
        self._begun.pop(lane, None)
        self._ready.pop(lane, None)
        heapq.heappush(self._sleeping, (until, lane))

    def is_first(self, lane: Lane, item: Item) -> bool:
        """Whether it is the next of its lane, and not being tried."""
        queue = self._queues[lane]
        return queue.items[0] is item and not queue.busy

    def of(self, lane: Lane) -> Iterator[Item]:
        """All of a lane, in order."""
        return iter(self._queues[lane].items)

    def slow(self, since: float) -> list[Lane]:
        """The lanes, each once, whose first has been tried since then or longer: what is behind it has to wait."""
        found = [lane for lane, begun in self._begun.items() if begun <= since and not self._queues[lane].held]
        for lane in found:
            self._queues[lane].held = True
        return found

    def wake(self, clock: float) -> None:
        """Those whose time has come are ready."""
        while self._sleeping and self._sleeping[0][0] <= clock:
            until, lane = heapq.heappop(self._sleeping)
            queue = self._queues.get(lane)
            if queue and queue.held and not queue.busy and queue.until == until:
                self._ready[lane] = None

    def next_wake(self) -> float | None:
        """When the next one is ready; None where none sleeps."""
        return self._sleeping[0][0] if self._sleeping else None

    @property
    def is_ready(self) -> bool:
        """Whether ``take`` has something to give."""
        return bool(self._ready)

    def take(self, clock: float) -> tuple[Lane, Item]:
        """The first of the lane that is ready for longest; the lane is busy until ``finish`` or ``hold``."""
        lane, _ = self._ready.popitem(last=False)
        queue = self._queues[lane]
        queue.busy = True
        self._begun[lane] = clock
        return lane, queue.items[0]

    def give_back(self, lane: Lane) -> None:
        """The first was not tried after all."""
        self._queues[lane].let_go()
        self._begun.pop(lane, None)
        self._ready[lane] = None

    def finish(self, lane: Lane) -> None:
        """The first of a lane is dealt with."""
        queue = self._queues[lane]
        queue.busy = queue.held = False
        self._begun.pop(lane, None)
        self._sequences.discard(queue.items.popleft().sequence)
        if queue.items:
            self._ready[lane] = None
        else:
            del self._queues[lane]

    def forget(self, lane: Lane) -> list[Item]:
        """Drop what waits in a lane, but for one that is being tried, which is marked; what was dropped."""
        queue = self._queues.get(lane)
        if queue is None:
            return []
        kept = [queue.items.popleft()] if queue.busy else []
        dropped = list(queue.items)
        self._sequences.difference_update(one.sequence for one in dropped)
        queue.items = deque(kept)
        for one in kept:
            one.dropped = True
        if not kept:
            del self._queues[lane]
            self._ready.pop(lane, None)
        return dropped
