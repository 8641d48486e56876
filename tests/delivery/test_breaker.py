"""How long to wait after a failure, when a plugin is left alone, and when an event is given up."""

import random
from datetime import timedelta

import pytest

from facesvc.delivery.breaker import LONGEST_WAIT, Breaker, wait_after
from facesvc.delivery.outbox import State
from facesvc.delivery.pace import Pace
from facesvc.errors import DependencyError, ExhaustedError
from facesvc.events.plugin import TryLaterError, UndeliverableError

DRAW = random.Random(1)
NONE = timedelta(0)


@pytest.mark.parametrize(
    ("attempts", "longest"), [(1, 1), (2, 2), (3, 4), (8, 128), (9, 256), (10, 300), (10_000, 300)]
)
def test_a_wait_doubles_up_to_five_minutes_less_a_random_part(attempts: int, longest: float) -> None:
    waits = [wait_after(attempts, None, DRAW).total_seconds() for _ in range(200)]
    assert longest / 2 <= min(waits) < longest * 0.6
    assert longest * 0.9 < max(waits) <= longest


def test_what_the_other_side_asks_for_is_heeded_up_to_an_hour() -> None:
    assert wait_after(1, timedelta(minutes=7), DRAW) == timedelta(minutes=7)
    assert wait_after(1, timedelta(days=7), DRAW) == timedelta(hours=1)
    assert wait_after(20, timedelta(seconds=1), DRAW) >= LONGEST_WAIT / 2


def opened(at: float = 0.0) -> Breaker:
    breaker = Breaker()
    for _ in range(5):
        assert breaker.admits(at)
        breaker.failed(at)
    return breaker


def test_it_opens_after_five_failures_in_a_row() -> None:
    breaker = Breaker()
    for _ in range(4):
        breaker.failed(0)
    assert breaker.admits(0)
    breaker.succeeded()
    for _ in range(4):
        breaker.failed(0)
    assert breaker.admits(0)
    breaker.failed(0)
    assert breaker.is_open
    assert not breaker.admits(0.999)
    assert breaker.until() == 1


def test_it_lets_one_through_after_a_pause_and_closes_when_that_one_is_well() -> None:
    breaker = opened()
    assert breaker.admits(1)
    assert not breaker.admits(1)
    assert breaker.until() is None
    breaker.succeeded()
    assert breaker.admits(1)
    assert breaker.admits(1)
    assert not breaker.is_open


def test_the_pause_doubles_up_to_a_minute() -> None:
    breaker, clock, pauses = opened(), 0.0, []
    for _ in range(8):
        until = breaker.until()
        assert until is not None
        pauses.append(until - clock)
        clock = until
        assert breaker.admits(clock)
        breaker.failed(clock)
    assert pauses == [1, 2, 4, 8, 16, 32, 60, 60]


def test_many_that_fail_at_the_same_moment_count_once() -> None:
    breaker = opened()
    for _ in range(59):  # they were under way when it opened
        breaker.failed(0.5)
    assert breaker.until() == 1


def test_one_that_was_not_tried_after_all_leaves_the_way_to_the_next() -> None:
    breaker = opened()
    assert breaker.admits(1)
    breaker.left_alone()
    assert breaker.is_open
    assert breaker.admits(1)


@pytest.mark.parametrize("at_most_once", [False, True])
def test_what_becomes_of_an_event_that_failed(*, at_most_once: bool) -> None:
    pace = Pace(attempts=3, give_up_after=timedelta(hours=1))

    def after(error: Exception, errors: int = 0, waited: timedelta = NONE) -> State:
        return pace.state_after(error, errors=errors, waited=waited, at_most_once=at_most_once)

    unforeseen = State.UNCERTAIN if at_most_once else State.WAITING
    assert after(TryLaterError("later"), errors=2) is State.WAITING
    assert after(UndeliverableError("never")) is State.DEAD
    # What its box raises says nothing of whether it was done.
    for error in (RuntimeError(), TimeoutError(), DependencyError("no database"), ExhaustedError("too many")):
        assert after(error, errors=2) is unforeseen
        assert after(error, errors=3) is (State.UNCERTAIN if at_most_once else State.DEAD)
    assert after(TryLaterError("later"), waited=timedelta(minutes=59)) is State.WAITING
    assert after(TryLaterError("later"), waited=timedelta(hours=1)) is State.DEAD
