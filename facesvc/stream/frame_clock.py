"""When frames were taken, by a clock that only goes forward, whatever the camera's clock does."""

from dataclasses import dataclass
from datetime import datetime

# The network delays frames by less. A camera's clock that drifts is followed so far and no further; one that jumps
# further from one frame to the next was set.
_LARGEST_DRIFT_S = 2.0


@dataclass(slots=True)
class FrameClock:
    """Seconds that only go forward within one stream, as even as the camera's own times where these can be followed."""

    _time: datetime | None = None
    _arrival_clock: float = 0.0
    _clock: float = 0.0

    def of(self, capture_time: datetime, arrival_clock: float) -> float:
        """When a frame was taken, given what its camera says and when it arrived."""
        clock = arrival_clock
        if self._time is not None:
            passed = (capture_time - self._time).total_seconds()
            if passed > 0 and abs(passed - (arrival_clock - self._arrival_clock)) <= _LARGEST_DRIFT_S:
                earliest, latest = arrival_clock - _LARGEST_DRIFT_S, arrival_clock + _LARGEST_DRIFT_S
                clock = min(max(self._clock + passed, earliest), latest)
            clock = max(clock, self._clock + 1e-6)
        self._time, self._arrival_clock, self._clock = capture_time, arrival_clock, clock
        return clock
