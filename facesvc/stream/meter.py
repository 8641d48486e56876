"""How busy the workers were lately, and how long was waited for them: averages that fade by age."""

import math
from dataclasses import dataclass

# What is older than this counts for a third.
_FADE_S = 3.0
# So little is left of a wait after twenty seconds in which nobody was given a worker.
_FORGOTTEN = 1e-3


@dataclass(frozen=True, slots=True)
class Load:
    """How it was lately."""

    busy: float
    """Share of the workers' time that was used, 0 to 1."""
    waited_s: float
    """Mean wait of those who were given a worker; 0 where there were none."""


class Meter:
    """Measures ``count`` workers; ``clock`` is seconds that never go back."""

    def __init__(self, count: int, clock: float) -> None:
        self._count = count
        self._clock = clock
        self._running = 0
        self._busy = 0.0
        self._waited_s = 0.0
        self._waits = 0.0

    def began(self, clock: float) -> None:
        """A worker has begun."""
        self._fade(clock)
        self._running += 1

    def ended(self, clock: float) -> None:
        """A worker is free again."""
        self._fade(clock)
        self._running -= 1

    def waited(self, seconds: float, clock: float) -> None:
        """Somebody was given a worker after so long."""
        self._fade(clock)
        self._waited_s += seconds
        self._waits += 1

    def load(self, clock: float) -> Load:
        """How it was lately."""
        self._fade(clock)
        return Load(self._busy, self._waited_s / self._waits if self._waits > _FORGOTTEN else 0.0)

    def _fade(self, clock: float) -> None:
        """Count what has been since the last change, by what ran in it."""
        kept = math.exp(-max(0.0, clock - self._clock) / _FADE_S)
        self._clock = max(self._clock, clock)
        self._busy = kept * self._busy + (1 - kept) * self._running / self._count
        self._waited_s *= kept
        self._waits *= kept
