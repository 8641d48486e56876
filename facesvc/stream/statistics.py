"""What was done, in numbers: of each open stream, and of all streams since the start."""

import math
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime

# Of so many last results the ages are kept: a minute of looks, and enough for a 99th percentile.
_AGES = 500


@dataclass(slots=True)
class Totals:
    """Counts since some beginning."""

    frames_received: int = 0
    frames_processed: int = 0
    """Looked at."""
    frames_dropped: int = 0
    """Replaced by newer ones, or too old when their turn came."""
    frames_skipped: int = 0
    """Not sent for lack of credits, as the camera says."""
    frames_predicted: int = 0
    """Answered from tracks."""
    frames_failed: int = 0
    """Could not be looked at."""
    faces_embedded: int = 0
    results_dropped: int = 0
    """Made, and lost by a slow reader."""

    def add(self, other: "Totals") -> None:
        """Count what ``other`` has counted."""
        self.frames_received += other.frames_received
        self.frames_processed += other.frames_processed
        self.frames_dropped += other.frames_dropped
        self.frames_skipped += other.frames_skipped
        self.frames_predicted += other.frames_predicted
        self.frames_failed += other.frames_failed
        self.faces_embedded += other.faces_embedded
        self.results_dropped += other.results_dropped


@dataclass(slots=True)
class StreamCounters:
    """What a stream has done. To be used on one thread."""

    stream_id: str
    camera_id: str
    zone: str
    start_time: datetime
    totals: Totals = field(default_factory=Totals)
    tracks: int = 0
    """Followed at this moment."""
    look_interval_s: float = 0.0
    """Between two looks, as it is now."""
    ages_s: deque[float] = field(default_factory=lambda: deque(maxlen=_AGES))
    """Of the last results of looks, from capture to result."""

    def received(self, skipped: int = 0) -> None:
        """A frame has arrived; ``skipped`` before it were not sent. A camera that counts backwards is not believed."""
        self.totals.frames_received += 1
        self.totals.frames_skipped += max(0, skipped)

    def dropped(self, frames: int) -> None:
        """So many frames will never be looked at."""
        self.totals.frames_dropped += frames

    def processed(self, age_s: float, faces_embedded: int) -> None:
        """A frame was looked at; its result is so old, by a clock that may be another: never below zero."""
        self.totals.frames_processed += 1
        self.totals.faces_embedded += faces_embedded
        self.ages_s.append(max(0.0, age_s))

    def predicted(self) -> None:
        """A frame was answered from tracks."""
        self.totals.frames_predicted += 1

    def failed(self) -> None:
        """A frame could not be looked at."""
        self.totals.frames_failed += 1

    def results_lost(self, results: int) -> None:
        """So many results were not read in time."""
        self.totals.results_dropped += results

    def follows(self, tracks: int, look_interval_s: float) -> None:
        """How it is now."""
        self.tracks, self.look_interval_s = tracks, look_interval_s

    def age_s(self, share: float) -> float:
        """The age that this share of the last results does not exceed (nearest rank); 0 where there is none."""
        ages = sorted(self.ages_s)
        return ages[max(0, math.ceil(share * len(ages)) - 1)] if ages else 0.0


class Statistics:
    """All streams. Bounded by those that are open: of closed ones only the sums are kept."""

    def __init__(self) -> None:
        self._open: dict[str, StreamCounters] = {}
        self._closed = Totals()

    @contextmanager
    def open(self, stream_id: str, camera_id: str, zone: str, now: datetime) -> Iterator[StreamCounters]:
        """The counters of a stream, for the time of the block."""
        counters = StreamCounters(stream_id, camera_id, zone, now)
        self._open[stream_id] = counters
        try:
            yield counters
        finally:
            del self._open[stream_id]
            self._closed.add(counters.totals)

    def streams(self) -> list[StreamCounters]:
        """The open ones, in the order in which they were opened."""
        return list(self._open.values())

    def totals(self) -> Totals:
        """Since the start, of open streams and closed ones."""
        totals = Totals()
        totals.add(self._closed)
        for counters in self._open.values():
            totals.add(counters.totals)
        return totals
