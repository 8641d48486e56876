"""Thresholds come from the table, between its points in the logarithm of the rate, and never from beyond it."""

import math

import pytest

from facesvc.errors import PreconditionError
from facesvc.models.calibration import Calibration, OperatingPoint
from facesvc.models.default_pack import CALIBRATION

TABLE = Calibration(
    (OperatingPoint(1e-2, 0.5, 0.9), OperatingPoint(1e-3, 0.6, 0.8), OperatingPoint(1e-5, 0.8, 0.4)),
    1_000_000,
    "a test",
)


@pytest.mark.parametrize(
    ("fmr", "similarity", "tmr"),
    [(1e-2, 0.5, 0.9), (1e-3, 0.6, 0.8), (1e-4, 0.7, 0.6), (1e-5, 0.8, 0.4), (math.sqrt(1e-5), 0.55, 0.85)],
)
def test_linear_between_the_points_in_the_logarithm(fmr: float, similarity: float, tmr: float) -> None:
    assert TABLE.similarity_at(fmr) == pytest.approx(similarity, abs=1e-12)
    assert TABLE.tmr_at(fmr) == pytest.approx(tmr, abs=1e-12)


def test_points_of_the_table_are_exact() -> None:
    assert [CALIBRATION.similarity_at(point.fmr) for point in CALIBRATION.points] == [
        point.similarity for point in CALIBRATION.points
    ]


@pytest.mark.parametrize("fmr", [1.0, 0.0101, 0.99e-5, 1e-9, 0.0, -1e-3, math.nan, math.inf])
def test_no_rate_beyond_the_table(fmr: float) -> None:
    for lookup in (TABLE.similarity_at, TABLE.tmr_at):
        with pytest.raises(PreconditionError, match=r"choose one from 1e-05 to 0\.01") as refusal:
            lookup(fmr)
        assert refusal.value.reason == "FMR_UNSUPPORTED"


def test_without_points_there_is_no_rate() -> None:
    with pytest.raises(PreconditionError, match="no calibration") as refusal:
        Calibration((), 0, "nobody").similarity_at(1e-3)
    assert refusal.value.reason == "FMR_UNSUPPORTED"


@pytest.mark.parametrize(
    "second",
    [(1e-2, 0.6, 0.8), (1e-1, 0.6, 0.8), (1e-3, 0.5, 0.8), (1e-3, 0.6, 0.95), (0.0, 0.6, 0.8), (1e-3, 1.1, 0.8)],
)
def test_a_table_that_contradicts_itself_is_refused(second: tuple[float, float, float]) -> None:
    with pytest.raises(ValueError, match="calibration"):
        Calibration((OperatingPoint(1e-2, 0.5, 0.9), OperatingPoint(*second)), 10, "a test")
