"""Counters of streams, and the sums that stay when a stream is gone."""

from dataclasses import fields
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from facesvc.stream.statistics import Statistics, StreamCounters, Totals

T0 = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture
def counters() -> StreamCounters:
    return StreamCounters("s", "door", "lobby", T0)


def use(counters: StreamCounters) -> None:
    """Each of the counters another number."""
    for skipped in (0, 4, -3, 0, 0, 0, 0, 0):
        counters.received(skipped)
    counters.dropped(3)
    counters.processed(0.1, 5)
    counters.processed(0.2, 1)
    counters.predicted()
    for _ in range(5):
        counters.failed()
    counters.results_lost(7)


USED = Totals(
    frames_received=8,
    frames_processed=2,
    frames_dropped=3,
    frames_skipped=4,
    frames_predicted=1,
    frames_failed=5,
    faces_embedded=6,
    results_dropped=7,
)


def test_everything_is_counted(counters: StreamCounters) -> None:
    use(counters)
    counters.follows(15, 0.15)
    assert counters.totals == USED
    assert (counters.tracks, counters.look_interval_s) == (15, 0.15)


def test_sums_are_of_every_counter() -> None:
    totals = Totals(*range(1, len(fields(Totals)) + 1))
    totals.add(totals)
    assert totals == Totals(*range(2, 2 * len(fields(Totals)) + 1, 2))


def test_ages_are_those_of_the_last_results_only(counters: StreamCounters) -> None:
    assert (counters.age_s(0.5), counters.age_s(0.99)) == (0, 0)
    counters.processed(-0.5, 0)  # the camera's clock is ahead
    assert counters.age_s(0.99) == 0
    for age in range(10_000):
        counters.processed(age, 0)
    assert len(counters.ages_s) == 500
    assert (counters.age_s(0.5), counters.age_s(0.99)) == (9749, 9994)


@given(st.lists(st.floats(0, 100), min_size=1, max_size=50), st.floats(0, 1))
def test_the_share_does_not_exceed_the_age(ages: list[float], share: float) -> None:
    counters = StreamCounters("s", "door", "", T0)
    for age in ages:
        counters.processed(age, 0)
    found = counters.age_s(share)
    assert found in ages
    assert sum(age <= found for age in ages) >= share * len(ages) - 1e-9
    assert sum(age < found for age in ages) <= share * len(ages)


def test_totals_include_streams_that_are_gone() -> None:
    statistics = Statistics()
    with statistics.open("1", "door", "lobby", T0) as door:
        use(door)
        with statistics.open("2", "hall", "", T0) as hall:
            hall.received()
            assert statistics.streams() == [door, hall]
            assert statistics.totals().frames_received == 9
        assert statistics.streams() == [door]
    assert not statistics.streams()
    hall_too = statistics.totals()
    assert hall_too.frames_received == 9
    assert hall_too.results_dropped == 7


def test_a_stream_that_fails_is_counted_too() -> None:
    statistics = Statistics()
    counters = statistics.open("1", "door", "", T0)
    counters.__enter__().received()
    assert not counters.__exit__(LookupError, LookupError(), None)
    assert statistics.totals().frames_received == 1
    assert not statistics.streams()
