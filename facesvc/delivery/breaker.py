"""When to try again: how long to wait after a failure, and when to leave the other side alone for a while."""

import random
from dataclasses import dataclass
from datetime import timedelta

FIRST_WAIT = timedelta(seconds=1)
LONGEST_WAIT = timedelta(minutes=5)
_FAILURES = 5
FIRST_PAUSE_S = 1.0
_LONGEST_PAUSE_S = 60.0
_MAX_DOUBLINGS = 20


def wait_after(attempts: int, asked: timedelta | None, draw: random.Random) -> timedelta:
    """How long to wait after the last of ``attempts`` failures: twice as long each time, up to five minutes.

    A random part of up to a half keeps those that failed together from coming again together; ``asked`` is what the
    other side said, and is waited for in any case, up to an hour.
    """
    doubled = min(FIRST_WAIT * (1 << min(attempts - 1, _MAX_DOUBLINGS)), LONGEST_WAIT)
    waited = doubled * (1 - draw.random() / 2)
    return waited if asked is None else max(waited, min(asked, timedelta(hours=1)))


@dataclass(slots=True)
class Breaker:
    """Opens after five failures in a row, and then lets one try through after a pause that grows up to a minute.

    Times are seconds of a clock that never goes back. (M. Nygard, "Release It!", the circuit breaker.)
    """

    failures: int = 0
    _until: float = 0.0
    _trying: bool = False

    @property
    def is_open(self) -> bool:
        """Whether the last tries failed."""
        return self.failures >= _FAILURES

    def admits(self, clock: float) -> bool:
        """Whether something may be tried now; of an open one this is asked once for each try."""
        if not self.is_open:
            return True
        if self._trying or clock < self._until:
            return False
        self._trying = True
        return True

    def until(self) -> float | None:
        """From when on an open one lets the next try through; None where nothing waits for that."""
        return self._until if self.is_open and not self._trying else None

    def left_alone(self) -> None:
        """It was not tried after all."""
        self._trying = False

    def succeeded(self) -> None:
        """The other side is well."""
        self.failures, self._trying = 0, False

    def failed(self, clock: float) -> None:
        """It is not. What was begun before it was left alone says nothing new."""
        if self.is_open and clock < self._until:
            return
        self.failures += 1
        self._trying = False
        doublings = min(self.failures - _FAILURES, _MAX_DOUBLINGS)
        if doublings >= 0:
            self._until = clock + min(FIRST_PAUSE_S * 2**doublings, _LONGEST_PAUSE_S)
