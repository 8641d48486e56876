"""So much a second for each, and no guessing of tokens. Times are seconds of a clock that never goes back."""

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Generic, TypeVar

T = TypeVar("T")

MAX_KNOWN = 10_000
_FREE_FAILURES = 5
_FIRST_WAIT_S = 1.0
_LONGEST_WAIT_S = 300.0
_FORGIVEN_AFTER_S = 900.0
_ROUNDING = 1e-6  # who waited for as long as they were told is let in


@dataclass(slots=True)
class Bucket:
    """A bucket of tokens: ``burst`` at once, ``per_second`` in the long run."""

    per_second: float
    burst: float
    left: float = field(init=False)
    filled: float | None = None

    def __post_init__(self) -> None:
        self.left = self.burst

    def take(self, clock: float, count: float = 1.0) -> float:
        """Take so many; 0 where there were enough, else how many seconds there are until there are, and none is taken.

        What is more than a whole bucket is let through when that is full, and paid for afterwards.
        """
        if self.filled is not None:
            self.left = min(self.burst, self.left + (clock - self.filled) * self.per_second)
        self.filled = clock
        needed = min(count, self.burst)
        if needed - self.left > _ROUNDING:
            return (needed - self.left) / self.per_second
        self.left -= count
        return 0.0


class Known(Generic[T]):
    """Something for each of at most ``MAX_KNOWN`` names; whoever was not asked for longest is forgotten first."""

    def __init__(self, make: Callable[[], T], most: int = MAX_KNOWN) -> None:
        self._make = make
        self._most = most
        self._of: OrderedDict[str, T] = OrderedDict()

    def __getitem__(self, name: str) -> T:
        one = self._of.pop(name, None)
        self._of[name] = one = self._make() if one is None else one
        if len(self._of) > self._most:
            self._of.popitem(last=False)
        return one


@dataclass(slots=True)
class Guesser:
    """How often an address has shown a token that is none; after five times it waits, each time twice as long."""

    failures: int = 0
    until: float = 0.0
    last: float = 0.0

    def wait(self, clock: float) -> float:
        """How many seconds the address has to wait before it is listened to again; 0: not at all."""
        if self.failures and clock - self.last > _FORGIVEN_AFTER_S:
            self.failures = 0
        return max(0.0, self.until - clock)

    def failed(self, clock: float) -> None:
        """Once more."""
        self.failures, self.last = self.failures + 1, clock
        if self.failures > _FREE_FAILURES:
            doublings = min(self.failures - _FREE_FAILURES - 1, 30)
            self.until = clock + min(_FIRST_WAIT_S * 2**doublings, _LONGEST_WAIT_S)

    def succeeded(self) -> None:
        """A right one: it was a mistake."""
        self.failures, self.until = 0, 0.0
