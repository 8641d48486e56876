"""What waits for the disk: events in order, and stays as they are now."""

from collections import deque
from dataclasses import dataclass, field

from facesvc.events.records import Event, SeenEvent, Stay

_BATCH = 500


@dataclass(slots=True)
class Batch:
    """What is being written together."""

    events: list[Event] = field(default_factory=list)
    stays: dict[str, Stay] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.events) + len(self.stays)

    def forget(self, collection_id: str, subject_id: str) -> None:
        """Drop what is said of somebody."""
        key = (collection_id, subject_id)
        self.events = [one for one in self.events if (one.collection_id, one.about) != key]
        self.stays = {name: one for name, one in self.stays.items() if (one.collection_id, one.subject_id) != key}


class Backlog:
    """Takes everything, gives it back in batches, and a batch again until it was written.

    Bounded: of more than ``most`` events the oldest that only says who was seen is dropped, else the oldest; of stays
    only the newest state is kept, and of more than ``most`` the oldest is dropped. ``dropped`` counts both.
    """

    def __init__(self, most: int) -> None:
        self.dropped = 0
        self._most = most
        self._events: deque[Event] = deque()
        self._stays: dict[str, Stay] = {}
        self._writing = Batch()

    def __len__(self) -> int:
        return len(self._events) + len(self._stays) + len(self._writing)

    def add(self, event: Event) -> None:
        """One more, at the end."""
        self._events.append(event)
        if len(self._events) > self._most:
            self._events.remove(next((one for one in self._events if isinstance(one, SeenEvent)), self._events[0]))
            self.dropped += 1

    def put(self, stay: Stay) -> None:
        """A stay as it is now."""
        self._stays[stay.stay_id] = stay
        if len(self._stays) > self._most:
            del self._stays[next(iter(self._stays))]
            self.dropped += 1

    def batch(self) -> Batch:
        """What is to be written next; the same until ``written``. May be empty."""
        if not self._writing:
            events = [self._events.popleft() for _ in range(min(_BATCH, len(self._events)))]
            stays = {name: self._stays.pop(name) for name in list(self._stays)[:_BATCH]}
            self._writing = Batch(events, stays)
        return self._writing

    def written(self) -> None:
        """The batch is on the disk."""
        self._writing = Batch()

    def forget(self, collection_id: str, subject_id: str) -> None:
        """Drop what waits to be said of somebody."""
        waiting = Batch(list(self._events), self._stays)
        waiting.forget(collection_id, subject_id)
        self._events, self._stays = deque(waiting.events), waiting.stays
        self._writing.forget(collection_id, subject_id)
