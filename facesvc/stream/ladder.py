"""What a box does less of when it is overloaded or hot: a ladder, climbed step by step and left with hysteresis.

It goes up (does less) when the workers were busy and frames waited, or when the box was too hot, for some seconds. It
goes down when there is room to spare: as every rung says how much work it asks for, the load of the rung below can be
told beforehand, and is not tried where it would not fit. Where that turns out wrong it is not tried again before there
is clearly less to do, or a long time has passed: with a load that stays as it is the ladder comes to rest.

No rung touches thresholds or policies: a box under load sees less often, and never believes more easily.
"""

from dataclasses import dataclass
from datetime import datetime
from math import inf


@dataclass(frozen=True, slots=True)
class Rung:
    """How much is done: each factor multiplies what the settings say."""

    step: int
    look_interval_factor: float
    """Of the time between two looks at a camera."""
    verify_factor: float
    """Of the time after which a face is embedded again."""
    minimum_face_factor: float
    """Of the smallest face that is looked for, and so of the size that pictures are shrunk to."""
    measures: str
    """The same in words."""

    @property
    def work(self) -> float:
        """What it asks for, 1 for full service, by its looks and their size.

        The time of a look falls with the face by something between not at all (decoding, embedding) and the square
        (detection).
        """
        return 1.0 / (self.look_interval_factor * self.minimum_face_factor)


RUNGS = (
    Rung(0, 1.0, 1.0, 1.0, "full service"),
    Rung(1, 1.5, 1.0, 1.0, "looks 1.5 times less often"),
    Rung(2, 2.0, 2.0, 1.0, "looks and verifies 2 times less often"),
    Rung(3, 3.0, 2.0, 1.5, "looks 3 times and verifies 2 times less often, for faces from 1.5 times the size"),
    Rung(4, 4.0, 3.0, 1.5, "looks 4 times and verifies 3 times less often, for faces from 1.5 times the size"),
    Rung(5, 6.0, 4.0, 2.0, "looks 6 times and verifies 4 times less often, for faces from 2 times the size"),
)
"""The ladder, from full service upwards."""

# Busy and waited for is overloaded; busy with a file, while no camera waits long, is not. 50 ms is half of the time
# between two looks, as the settings come.
_OVERLOADED = 0.9
_WAITED_S = 0.05
# The load from which on the rung below is thought of, and the load that it may mean.
_SPARE = 0.65
_FITS = 0.8
# Below the hottest that is allowed.
_COOLER_CELSIUS = 5.0
# For so long it must have been so.
_PERSISTS_S = 3.0
# The least time from one step up to the next, in which averages follow, and metal.
_SETTLES_S = 8.0
_COOLS_S = 20.0
# So long a rung is kept before the one below is tried.
_RESTS_S = 10.0
# A try has failed where the ladder has to go up again within this time; heat takes minutes to show.
_PROVEN_S = 300.0
# It is repeated with so much less to do, as a share of what there was, or after this time.
_LESS = 0.85
_FORGIVEN_S = 1800.0


@dataclass(frozen=True, slots=True)
class _Try:
    """A step down: to where, when, and how busy full service would have been, as far as could be told."""

    step: int
    clock: float
    demand: float


class Ladder:
    """The rung in force. ``clock`` is seconds that never go back; ``now`` is only reported."""

    def __init__(self, hottest_celsius: float) -> None:
        self._hottest = hottest_celsius
        self._since: float | None = None
        self._changed_at = -inf
        self._last: _Try | None = None
        self._failed: _Try | None = None
        self.rung = RUNGS[0]
        self.reason = ""
        """Why it was taken, in words; empty before the first change."""
        self.changes = 0
        self.step_time: datetime | None = None

    def update(
        self, busy: float, waited_s: float, temperature_celsius: float | None, clock: float, now: datetime
    ) -> Rung:
        """The rung from now on, by the share of time the workers were busy, how long was waited for them, and heat.

        Call it about once a second.
        """
        hot = temperature_celsius is not None and temperature_celsius > self._hottest
        overloaded = busy > _OVERLOADED and waited_s > _WAITED_S
        rested_s = clock - self._changed_at
        if hot or overloaded:
            settled = rested_s >= (_SETTLES_S if overloaded else _COOLS_S)
            if self._persists(clock) and settled and self.rung is not RUNGS[-1]:
                heat = f"at {temperature_celsius:.0f} degrees it is over the {self._hottest:g} allowed" if hot else ""
                load = f"busy {busy:.0%} of the time, frames waited {waited_s * 1000:.0f} ms" if overloaded else ""
                self._up(" and ".join(filter(None, (heat, load))), clock, now)
            return self.rung
        self._since = None
        if self.rung.step and rested_s >= _RESTS_S and self._cool(temperature_celsius) and self._fits(busy, clock):
            self._down(busy, clock, now)
        return self.rung

    def _persists(self, clock: float) -> bool:
        if self._since is None:
            self._since = clock
        return clock - self._since >= _PERSISTS_S

    def _cool(self, temperature_celsius: float | None) -> bool:
        return temperature_celsius is None or temperature_celsius <= self._hottest - _COOLER_CELSIUS

    def _fits(self, busy: float, clock: float) -> bool:
        """Whether the rung below can be carried, as far as can be told."""
        below, demand = RUNGS[self.rung.step - 1], busy / self.rung.work
        if busy >= _SPARE or demand * below.work >= _FITS:
            return False
        failed = self._failed
        if failed is None or below.step > failed.step:
            return True
        return demand < _LESS * failed.demand or clock - failed.clock > _FORGIVEN_S

    def _worst(self, failed: _Try, clock: float) -> _Try:
        """Of a try that failed and those before it: a load that swings fails at the bottom of the swing, once."""
        before = self._failed
        if before is None or clock - before.clock > _FORGIVEN_S:
            return failed
        return _Try(max(failed.step, before.step), failed.clock, min(failed.demand, before.demand))

    def _up(self, reason: str, clock: float, now: datetime) -> None:
        last = self._last
        if last is not None and clock - last.clock < _PROVEN_S:
            self._failed = self._worst(last, clock)
        self._change(RUNGS[self.rung.step + 1], reason, clock, now)

    def _down(self, busy: float, clock: float, now: datetime) -> None:
        below = RUNGS[self.rung.step - 1]
        self._last = _Try(below.step, clock, busy / self.rung.work)
        self._change(below, f"busy only {busy:.0%} of the time", clock, now)

    def _change(self, rung: Rung, reason: str, clock: float, now: datetime) -> None:
        self.rung, self.reason, self.step_time = rung, reason, now
        self.changes += 1
        self._changed_at = clock
        self._since = None
