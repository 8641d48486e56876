"""The ladder: up when there is too much to do or it is too hot, down when the rung below fits, and then at rest."""

import itertools
import math
import random
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from facesvc.stream.ladder import RUNGS, Ladder, Rung

T0 = datetime(2026, 1, 1, tzinfo=UTC)
OVERLOADED = (1.0, 0.2, None)
QUIET = (0.1, 0.0, None)


class Seconds:
    """A ladder that is told of one second after another."""

    def __init__(self) -> None:
        self.ladder = Ladder(85.0)
        self.clock = 100.0

    def pass_(self, seconds: float, busy: float, waited_s: float, celsius: float | None) -> list[int]:
        """The steps that it took."""
        steps = []
        for _ in range(round(seconds)):
            before = self.ladder.rung.step
            rung = self.ladder.update(busy, waited_s, celsius, self.clock, T0 + timedelta(seconds=self.clock))
            if rung.step != before:
                steps.append(rung.step)
            self.clock += 1
        return steps


@pytest.fixture
def box() -> Seconds:
    return Seconds()


def test_every_rung_asks_for_less_than_the_one_below() -> None:
    assert [rung.step for rung in RUNGS] == list(range(len(RUNGS)))
    assert [rung.work for rung in RUNGS] == sorted((rung.work for rung in RUNGS), reverse=True)
    for lower, higher in pairwise(RUNGS):
        assert higher.look_interval_factor > lower.look_interval_factor
        assert higher.verify_factor >= lower.verify_factor
        assert higher.minimum_face_factor >= lower.minimum_face_factor
        assert higher.measures != lower.measures


def test_full_service_is_all_that_the_settings_say() -> None:
    full = RUNGS[0]
    assert (full.look_interval_factor, full.verify_factor, full.minimum_face_factor, full.work) == (1, 1, 1, 1)


def test_a_short_burst_changes_nothing(box: Seconds) -> None:
    for _ in range(20):
        assert not box.pass_(3, *OVERLOADED)
        assert not box.pass_(2, *QUIET)
    assert (box.ladder.changes, box.ladder.reason, box.ladder.step_time) == (0, "", None)


@pytest.mark.parametrize(("busy", "waited_s"), [(1.0, 0.0), (0.89, 0.5), (0.5, 0.5)])
def test_busy_without_waiting_or_waiting_without_being_busy_is_no_overload(
    box: Seconds, busy: float, waited_s: float
) -> None:
    assert not box.pass_(600, busy, waited_s, None)


def test_overload_climbs_step_by_step_to_the_top(box: Seconds) -> None:
    assert box.pass_(4, *OVERLOADED) == [1]
    assert not box.pass_(7, *OVERLOADED)
    assert box.pass_(600, *OVERLOADED) == [2, 3, 4, 5]
    assert box.ladder.changes == 5


def test_a_change_is_explained_and_dated(box: Seconds) -> None:
    box.pass_(4, 0.97, 0.12, None)
    ladder = box.ladder
    assert ladder.reason == "busy 97% of the time, frames waited 120 ms"
    assert ladder.step_time == T0 + timedelta(seconds=103)
    box.pass_(20, 0.2, 0.0, None)
    assert ladder.reason == "busy only 20% of the time"
    box.pass_(60, 0.97, 0.12, 91.0)
    assert ladder.reason == "at 91 degrees it is over the 85 allowed and busy 97% of the time, frames waited 120 ms"


def test_heat_climbs_and_holds_until_it_is_five_degrees_cooler(box: Seconds) -> None:
    assert box.pass_(4, 0.1, 0.0, 85.1) == [1]
    assert box.ladder.reason == "at 85 degrees it is over the 85 allowed"
    assert not box.pass_(19, 0.1, 0.0, 90.0)
    assert box.pass_(1, 0.1, 0.0, 90.0) == [2]
    assert not box.pass_(600, 0.1, 0.0, 85.0)
    assert not box.pass_(600, 0.1, 0.0, 80.1)
    assert box.pass_(20, 0.1, 0.0, 80.0) == [1, 0]


def test_a_sensor_that_is_lost_does_not_hold_the_box_down(box: Seconds) -> None:
    box.pass_(4, 0.1, 0.0, 90.0)
    assert box.pass_(20, 0.1, 0.0, None) == [0]


@pytest.mark.parametrize(("busy", "steps"), [(0.66, []), (0.54, []), (0.53, [0])])
def test_a_step_down_is_tried_where_it_would_fit(box: Seconds, busy: float, steps: list[int]) -> None:
    """Rung 1 does two thirds of the work: 0.53 of it would be 0.8 at full service."""
    box.pass_(4, *OVERLOADED)
    assert box.pass_(60, busy, 0.0, None) == steps


def test_a_rung_is_kept_for_a_while(box: Seconds) -> None:
    box.pass_(4, *OVERLOADED)
    assert not box.pass_(9, *QUIET)
    assert box.pass_(1, *QUIET) == [0]


def test_a_try_that_failed_waits_for_less_to_do_or_half_an_hour(box: Seconds) -> None:
    def failed() -> None:
        box.pass_(15, *OVERLOADED)
        assert box.pass_(30, 0.3, 0.0, None) == [1, 0]
        assert box.pass_(4, *OVERLOADED) == [1]

    failed()
    assert not box.pass_(1700, 0.3, 0.0, None)
    assert box.pass_(30, 0.2, 0.0, None) == [0]
    box = Seconds()
    failed()
    assert box.pass_(1900, 0.3, 0.0, None) == [0]


def test_a_try_that_failed_says_nothing_of_the_rungs_above(box: Seconds) -> None:
    assert box.pass_(15, *OVERLOADED) == [1, 2]
    assert box.pass_(8, 0.3, 0.0, None) == [1]
    assert box.pass_(30, *OVERLOADED) == [2, 3, 4]
    steps = []
    for _ in range(600):  # as much to do as at the try
        steps += box.pass_(1, 0.6 * box.ladder.rung.work, 0.0, None)
    assert steps == [3, 2]


def test_a_load_that_swings_is_not_followed_for_ever() -> None:
    """A minute's swing between a third and nearly twice of what the box can do: for a while, then it stays up."""
    swing = itertools.count()
    *_, (_, ladder) = run(lambda rung: (1 + 0.7 * math.sin(math.tau * next(swing) / 60)) * rung.work, 1790)
    assert ladder.changes <= 20


def test_a_load_that_comes_back_much_later_is_no_failure(box: Seconds) -> None:
    for _ in range(3):
        assert box.pass_(4, *OVERLOADED) == [1]
        assert box.pass_(400, 0.3, 0.0, None) == [0]


def run(
    demand: Callable[[Rung], float],
    seconds: int,
    *,
    swing: float = 0.0,
    heat: Callable[[float], float] = lambda busy: 40.0,
    tau: float = 60,
) -> Iterator[tuple[int, Ladder]]:
    """Every second of a box that would be ``demand`` busy with a rung, and in the long run ``heat`` degrees hot."""
    noise = random.Random(7)
    ladder = Ladder(85.0)
    busy = waited = 0.0
    celsius = 40.0
    for second in range(seconds):
        wanted = demand(ladder.rung) * noise.uniform(1 - swing, 1 + swing)
        done = min(1.0, wanted)
        wait = 0.3 if wanted > 1 else 0.0
        busy, waited = busy + (done - busy) * 0.28, waited + (wait - waited) * 0.28  # as the meter averages
        celsius += (heat(done) - celsius) * (1 - math.exp(-1 / tau))
        ladder.update(busy, waited, celsius, float(second), T0)
        yield second, ladder


def settles(states: Iterator[tuple[int, Ladder]], most_changes: int) -> Ladder:
    """It has come to rest after ten of thirty minutes."""
    before = 0
    for second, ladder in states:
        if second == 600:
            before = ladder.changes
    assert ladder.changes == before
    assert ladder.changes <= most_changes
    return ladder


@given(st.floats(0, 30))
def test_a_box_whose_load_follows_the_rung_settles(demand: float) -> None:
    rung = settles(run(lambda rung: demand * rung.work, 1800), len(RUNGS)).rung
    assert demand * rung.work <= 1 or rung is RUNGS[-1]
    below = RUNGS[max(0, rung.step - 1)]
    assert rung is RUNGS[0] or demand * below.work > 0.7  # and not higher than it must


@given(st.lists(st.floats(0.02, 1.4), min_size=6, max_size=6))
def test_it_settles_whatever_the_rungs_really_cost(loads: list[float]) -> None:
    falling = sorted(loads, reverse=True)
    settles(run(lambda rung: falling[rung.step], 1790), 24)


@given(st.floats(0, 30), st.floats(0, 0.3))
def test_noise_makes_few_changes(demand: float, swing: float) -> None:
    *_, (_, ladder) = run(lambda rung: demand * rung.work, 3590, swing=swing)
    assert ladder.changes <= 20  # in an hour


@given(st.floats(0.1, 5), st.floats(45, 200), st.floats(10, 200))
def test_a_hot_box_cools_down_and_changes_seldom(demand: float, hottest: float, tau: float) -> None:
    """Metal is slow, so a try takes minutes to fail; then half an hour passes before the next."""

    def heat(busy: float) -> float:
        return 40 + (hottest - 40) * busy

    *_, (_, ladder) = run(lambda rung: demand * rung.work, 3590, heat=heat, tau=tau)
    assert ladder.changes <= 40  # in an hour
    assert heat(min(1.0, demand * ladder.rung.work)) <= 90 or ladder.rung is RUNGS[-1]
