"""How much of the box one caller may have: calls, probes, messages and bytes a second, and calls open at once."""

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from facesvc.config import LimitSettings
from facesvc.errors import ExhaustedError
from facesvc.security.roles import Kind
from facesvc.security.throttle import Bucket, Known

_RETRY_S = 1.0
_DAY_S = 86400.0


class Allowances:
    """What everybody has left, by their names. ``clock`` never goes back."""

    def __init__(self, limits: LimitSettings, clock: Callable[[], float]) -> None:
        self._limits = limits
        self._clock = clock
        self._calls = self._buckets(limits.calls_per_second)
        self._probes = self._buckets(limits.probes_per_second)
        self._daily: Known[Bucket] = Known(lambda: Bucket(limits.probes_per_day / _DAY_S, limits.probes_per_day))
        self._messages = self._buckets(limits.messages_per_second)
        self._bytes = self._buckets(limits.bytes_per_second)
        self._open: Counter[tuple[str, bool]] = Counter()

    @contextmanager
    def call(self, caller: str, kind: Kind, *, streams: bool, trusted: bool = False) -> Iterator[None]:
        """A place for a call, for the time of the block; ``trusted``: may read the templates anyway.

        Raises ``ExhaustedError``.
        """
        key = (caller, streams)
        most = self._limits.max_streams_per_caller if streams else self._limits.max_calls_per_caller
        if self._open[key] >= most:
            what = "streams" if streams else "calls"
            message = f"{caller} has {most} {what} open, and may have no more: end one, or come again"
            raise ExhaustedError(message, retry_delay_s=_RETRY_S, reason=f"TOO_MANY_OPEN_{what.upper()}")
        self._charge(self._calls, caller, 1, "calls")
        if kind is Kind.PROBE:
            self._charge(self._probes, caller, 1, "calls")
            if not trusted:
                self._charge(self._daily, caller, 1, "probes")
        self._open[key] += 1
        try:
            yield
        finally:
            self._open[key] -= 1
            if not self._open[key]:
                del self._open[key]

    def message(self, caller: str, size: int) -> None:
        """One of so many bytes has come. Raises ``ExhaustedError``."""
        self._charge(self._messages, caller, 1, "messages")
        self._charge(self._bytes, caller, size, "bytes")

    def _buckets(self, rate: float) -> Known[Bucket]:
        return Known(lambda: Bucket(rate, rate * self._limits.burst_seconds))

    def _charge(self, buckets: Known[Bucket], caller: str, count: float, what: str) -> None:
        if wait := buckets[caller].take(self._clock(), count):
            message = f"{caller} sends more {what} than the settings allow: come again in {wait:.1f} s"
            raise ExhaustedError(message, retry_delay_s=wait, reason=f"TOO_MANY_{what.upper()}")
