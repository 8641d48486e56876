"""Thresholds come from the table, between its points in the logarithm of the rate; beyond it only where asked to."""

import json
import math
from dataclasses import asdict

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from facesvc.errors import PreconditionError
from facesvc.models.calibration import (
    Calibration,
    OperatingPoint,
    bounds,
    supported_rates,
    supports,
)
from facesvc.models.default_pack import CALIBRATION
from facesvc.models.manifest import Fields
from facesvc.models.packs import read_calibration

TABLE = Calibration(
    (OperatingPoint(1e-2, 0.5, 0.9), OperatingPoint(1e-3, 0.6, 0.8), OperatingPoint(1e-5, 0.8, 0.4)),
    1_000_000,
    1_000,
    "a test",
)


@pytest.mark.parametrize(
    ("fmr", "similarity", "tmr"),
    [(1e-2, 0.5, 0.9), (1e-3, 0.6, 0.8), (1e-4, 0.7, 0.6), (1e-5, 0.8, 0.4), (math.sqrt(1e-5), 0.55, 0.85)],
)
def test_linear_between_the_points_in_the_logarithm(fmr: float, similarity: float, tmr: float) -> None:
    for extrapolate in (False, True):
        assert TABLE.similarity_at(fmr, extrapolate=extrapolate) == pytest.approx(similarity, abs=1e-12)
        assert TABLE.tmr_at(fmr, extrapolate=extrapolate) == pytest.approx(tmr, abs=1e-12)
    assert not TABLE.extrapolates(fmr)


def test_points_of_the_table_are_exact() -> None:
    assert [CALIBRATION.similarity_at(point.fmr) for point in CALIBRATION.points] == [
        point.similarity for point in CALIBRATION.points
    ]


@pytest.mark.parametrize("fmr", [1.0, 0.0101, 0.99e-5, 1e-9, 0.0, -1e-3, math.nan, math.inf])
def test_no_rate_beyond_the_table(fmr: float) -> None:
    for lookup in (TABLE.similarity_at, TABLE.tmr_at, TABLE.false_match_bounds_at, TABLE.true_match_bounds_at):
        with pytest.raises(PreconditionError, match=r"choose one from 1e-05 to 0\.01") as refusal:
            lookup(fmr)
        assert refusal.value.reason == "FMR_UNSUPPORTED"


def test_no_rate_that_there_were_too_few_pairs_for() -> None:
    # The same points; 20,000 pairs say nothing below 1.5e-4.
    few = Calibration(TABLE.points, 20_000, 1_000, "a test")
    assert few.similarity_at(1e-3) == 0.6
    for fmr in (9e-4, 2e-4, 1e-5):
        with pytest.raises(PreconditionError, match=r"choose one from 0\.001 to 0\.01"):
            few.similarity_at(fmr)
    assert few.similarity_at(1e-4, extrapolate=True) == pytest.approx(0.7)  # from the two points that count


def test_without_points_there_is_no_rate() -> None:
    uncalibrated = Calibration((), 0, 0, "nobody")
    for extrapolate in (False, True):
        with pytest.raises(PreconditionError, match="no calibration") as refusal:
            uncalibrated.similarity_at(1e-3, extrapolate=extrapolate)
        assert refusal.value.reason == "FMR_UNSUPPORTED"
    assert not uncalibrated.extrapolates(1e-3)


def test_the_line_through_the_last_two_points_is_drawn_out() -> None:
    assert TABLE.similarity_at(1e-6, extrapolate=True) == pytest.approx(0.9)
    assert TABLE.tmr_at(1e-6, extrapolate=True) == pytest.approx(0.2)
    assert TABLE.extrapolates(1e-6)
    assert (TABLE.similarity_at(1e-12, extrapolate=True), TABLE.tmr_at(1e-12, extrapolate=True)) == (1.0, 0.0)


@pytest.mark.parametrize("fmr", [0.0101, 1.0, 0.0, -1e-3, math.nan, math.inf])
def test_nothing_is_drawn_out_to_more_tolerant_rates(fmr: float) -> None:
    with pytest.raises(PreconditionError):
        TABLE.similarity_at(fmr, extrapolate=True)
    assert not TABLE.extrapolates(fmr)


def test_one_point_is_no_line() -> None:
    single = Calibration(TABLE.points[:1], 1_000, 10, "a test")
    with pytest.raises(PreconditionError, match=r"from 0\.01 to 0\.01"):
        single.similarity_at(1e-3, extrapolate=True)


@pytest.mark.parametrize(
    "second",
    [(1e-2, 0.6, 0.8), (1e-1, 0.6, 0.8), (1e-3, 0.5, 0.8), (1e-3, 0.6, 0.95), (0.0, 0.6, 0.8), (1e-3, 1.1, 0.8)],
)
def test_a_table_that_contradicts_itself_is_refused(second: tuple[float, float, float]) -> None:
    with pytest.raises(ValueError, match="calibration"):
        Calibration((OperatingPoint(1e-2, 0.5, 0.9), OperatingPoint(*second)), 10, 10, "a test")


@pytest.mark.parametrize("pairs", [(-1, 0), (0, -1)])
def test_negative_pairs_are_refused(pairs: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="pairs"):
        Calibration((), *pairs, "a test")


def test_points_that_say_nothing_new_are_left_out() -> None:
    points = [OperatingPoint(*point) for point in ((1e-1, 0.5, 1), (1e-2, 0.5, 1), (1e-3, 0.6, 1), (1e-4, 1.01, 0))]
    assert Calibration.measured(points, 10**6, 10, "a test").points == (points[0], points[2])


@pytest.mark.parametrize(
    ("pairs", "rates"),
    [
        (1, [1.0]),
        (24, [3 / 24]),
        (300, [1e-1, 3e-2, 1e-2]),
        (302, [1e-1, 3e-2, 3 / 302]),
        (1000, [0.1, 0.03, 0.01, 3e-3]),
    ],
)
def test_rates_of_a_table_end_where_the_pairs_do(pairs: int, rates: list[float]) -> None:
    assert supported_rates(pairs) == pytest.approx(rates)
    assert all(supports(pairs, rate) for rate in rates) or pairs < 3
    assert not supports(pairs, rates[-1] * 0.9)


@pytest.mark.parametrize(
    ("count", "trials", "lower", "upper"),
    [
        # Exact limits as printed in tables of the binomial distribution (Documenta Geigy, 7th edition).
        (1, 10, 0.0025, 0.4450),
        (5, 20, 0.0866, 0.4910),
        (10, 100, 0.0490, 0.1762),
        (50, 100, 0.3983, 0.6017),
        (90, 100, 0.8238, 0.9510),
        # The rule of three, where none or all were counted.
        (0, 100, 0.0, 0.03),
        (100, 100, 0.97, 1.0),
        (0, 2, 0.0, 1.0),
        (2, 2, 0.0, 1.0),
        (0, 0, 0.0, 1.0),
    ],
)
def test_bounds_are_those_of_the_tables(count: int, trials: int, lower: float, upper: float) -> None:
    assert bounds(count, trials) == pytest.approx((lower, upper), abs=6e-5)


def test_bounds_of_rare_errors_are_those_of_poisson() -> None:
    # Garwood, Fiducial Limits for the Poisson Distribution, Biometrika 28, 1936: 3 counted, 0.6187 to 8.7673 expected.
    for trials in (10**7, 10**9):
        assert np.multiply(bounds(3, trials), trials) == pytest.approx((0.6187, 8.7673), abs=1e-4)
    # Where scipy 1.17 inverts the beta distribution to twice the right value.
    assert np.multiply(bounds(1000, 999_500_000), 999_500_000) == pytest.approx((938.97, 1063.95), abs=0.05)


@pytest.mark.parametrize("rate", [0.02, 0.1, 0.5, 0.97])
def test_bounds_hold_in_19_of_20_experiments(rate: float) -> None:
    counts = np.random.default_rng(7).binomial(200, rate, 4000).tolist()
    held = [lower <= rate <= upper for lower, upper in (bounds(count, 200) for count in counts)]
    assert np.mean(held) >= 0.95


@given(st.integers(1, 10**9), st.floats(0, 1))
def test_bounds_contain_the_estimate_and_more_pairs_narrow_them(trials: int, share: float) -> None:
    count = round(share * trials)
    lower, upper = bounds(count, trials)
    assert 0 <= lower <= count / trials <= upper <= 1
    more = bounds(10 * count, 10 * trials)
    assert more[1] - more[0] < upper - lower


@given(st.floats(1e-5, 1e-2), st.integers(300_000, 10**9), st.integers(1, 10**6))
def test_bounds_of_a_table_contain_its_rates(fmr: float, impostor: int, genuine: int) -> None:
    table = Calibration(TABLE.points, impostor, genuine, "a test")
    lower, upper = table.false_match_bounds_at(fmr)
    assert lower < fmr < upper
    worst, best = table.true_match_bounds_at(fmr)
    assert worst <= table.tmr_at(fmr) <= best


def test_bounds_at_a_point_are_those_of_its_counts() -> None:
    assert CALIBRATION.false_match_bounds_at(CALIBRATION.points[-1].fmr) == bounds(3, CALIBRATION.impostor_pairs)
    assert TABLE.false_match_bounds_at(1e-3) == bounds(1000, 1_000_000)
    assert TABLE.true_match_bounds_at(1e-3) == bounds(800, 1_000)
    assert Calibration(TABLE.points, 10**6, 0, "a test").true_match_bounds_at(1e-3) == (0, 1)


def test_beyond_the_table_no_better_bound_than_its_last_one_is_claimed() -> None:
    assert TABLE.false_match_bounds_at(1e-8, extrapolate=True) == (0, TABLE.false_match_bounds_at(1e-5)[1])


def test_extrapolation_is_only_on_request() -> None:
    for lookup in (TABLE.similarity_at, TABLE.tmr_at, TABLE.false_match_bounds_at):
        with pytest.raises(PreconditionError):
            lookup(1e-6)


def test_a_table_comes_back_as_it_was_written() -> None:
    written = json.loads(json.dumps(asdict(TABLE)))
    assert read_calibration(Fields(written, "the table")) == TABLE
    del written["genuine_pairs"]
    with pytest.raises(ValueError, match="'genuine_pairs' in the table is missing"):
        read_calibration(Fields(written, "the table"))
