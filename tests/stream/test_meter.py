"""Averages of the last seconds."""

import pytest

from facesvc.stream.meter import Meter


def test_busy_is_the_share_of_all_workers() -> None:
    meter = Meter(2, 0.0)
    assert meter.load(10.0).busy == 0
    meter.began(10.0)
    assert meter.load(60.0).busy == pytest.approx(0.5)
    meter.began(60.0)
    assert meter.load(120.0).busy == pytest.approx(1.0)
    for _ in range(2):
        meter.ended(120.0)
    assert meter.load(123.0).busy == pytest.approx(0.368, abs=0.001)
    assert meter.load(200.0).busy == pytest.approx(0, abs=1e-6)


def test_short_jobs_count_by_their_time() -> None:
    meter = Meter(1, 0.0)
    for number in range(1000):
        meter.began(number * 0.1)
        meter.ended(number * 0.1 + 0.03)
    assert meter.load(100.0).busy == pytest.approx(0.3, abs=0.02)


def test_the_mean_wait_fades() -> None:
    meter = Meter(1, 0.0)
    assert meter.load(0.0).waited_s == 0
    for _ in range(3):
        meter.waited(0.4, 0.0)
    assert meter.load(1.0).waited_s == pytest.approx(0.4)
    meter.waited(0.0, 30.0)
    assert meter.load(30.0).waited_s < 0.001
    meter.waited(0.5, 30.0)
    assert meter.load(100.0).waited_s == 0


def test_a_clock_that_is_read_by_two_does_no_harm() -> None:
    meter = Meter(1, 5.0)
    meter.began(5.0)
    meter.ended(4.999)
    assert meter.load(4.998).busy == 0
