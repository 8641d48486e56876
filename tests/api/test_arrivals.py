"""When frames were taken, as far as a camera can be believed."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from api.conftest import Start, Vision
from api.pictures import grey

from facesvc.api.arrivals import Arrivals
from facesvc.client import frame

T0 = datetime(2026, 1, 1, tzinfo=UTC)


class Times:
    """Both clocks, set by hand."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def now(self) -> datetime:
        return T0 + timedelta(seconds=self.seconds)

    def clock(self) -> float:
        return 1000 + self.seconds


@pytest.mark.parametrize("off_s", [-3600.0, -0.2, 0.0, 0.2, 50.0])
async def test_a_delay_counts_whatever_the_cameras_clock_says(start: Start, vision: Vision, off_s: float) -> None:
    running, times = await start(vision=vision), Times()
    arrivals = Arrivals(replace(running.service, now=times.now, clock=times.clock))
    off = timedelta(seconds=off_s)
    arrivals.arrive(frame(0, grey(), times.now() + off))
    times.seconds = 10
    delayed = arrivals.arrive(frame(1, grey(), times.now() + off - timedelta(seconds=4)))
    assert delayed.clock - delayed.capture.clock == pytest.approx(4 + max(0.0, -off_s))


async def test_a_clock_that_was_set_back_is_believed_again(start: Start, vision: Vision) -> None:
    running, times = await start(vision=vision), Times()
    arrivals = Arrivals(replace(running.service, now=times.now, clock=times.clock))
    arrivals.arrive(frame(0, grey(), times.now() + timedelta(seconds=50)))
    times.seconds = 1
    corrected = arrivals.arrive(frame(1, grey(), times.now()))
    assert corrected.clock - corrected.capture.clock == pytest.approx(0)
