"""Which similarity belongs to which false-match rate: a table measured for each pack, and how far it can be trusted."""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple, Self

import numpy as np

from facesvc.errors import PreconditionError

RATES = (1e-1, 3e-2, 1e-2, 3e-3, 1e-3, 3e-4, 1e-4, 3e-5, 1e-5, 3e-6, 1e-6)
"""The false-match rates that tables are made for."""
# Hanley and Lippman-Hand, If Nothing Goes Wrong, Is Everything All Right?, JAMA 249, 1983: no error in n trials bounds
# the rate at 3/n with 95 % confidence. A rate below that was not measured.
RULE_OF_THREE = 3
# Rates are written down rounded, and 3/n times n is not always 3.
_ROUNDING = 1e-3

Bounds = tuple[float, float]
"""Between which a rate really lies, with 95 % confidence."""


class OperatingPoint(NamedTuple):
    """One line of the table: the rates of false and true matches where ``similarity`` is the threshold."""

    fmr: float
    similarity: float
    tmr: float


def supports(impostor_pairs: int, fmr: float) -> bool:
    """Whether so many comparisons of two people are enough to speak of the rate ``fmr``."""
    return impostor_pairs * fmr >= RULE_OF_THREE - _ROUNDING


def supported_rates(impostor_pairs: int) -> tuple[float, ...]:
    """The rates of a table from so many comparisons (one at least), the most tolerant first; the last is the least."""
    least = min(1.0, RULE_OF_THREE / impostor_pairs)
    # One that is all but the least says nothing of its own.
    return (*(rate for rate in RATES if rate > least * 1.01), least)


_VERY_MANY = 10_000_000


def bounds(count: int, trials: int) -> Bounds:
    """The share that ``count`` of ``trials`` stand for, at 95 % confidence.

    Clopper and Pearson, The Use of Confidence or Fiducial Limits, Biometrika 26, 1934: exact for independent trials;
    the rule of three where none or all were counted. Comparisons that share pictures are not independent, so the truth
    can lie further off than this says.

    Of rare errors among very many trials it is the limit for those (Garwood, Fiducial Limits for the Poisson
    Distribution, Biometrika 28, 1936), which is a little wider: scipy 1.17 inverts the beta distribution wrongly there.
    """
    from scipy.special import betaincinv, gammaincinv  # type: ignore[import-untyped]  # noqa: PLC0415 - 0.2 s to import

    if not trials:
        return 0.0, 1.0
    rule = min(1.0, RULE_OF_THREE / trials)
    if trials > _VERY_MANY and 0 < count < trials / 1000:
        return float(gammaincinv(count, 0.025)) / trials, float(gammaincinv(count + 1, 0.975)) / trials
    lower = float(betaincinv(count, trials - count + 1, 0.025)) if count else 0.0
    upper = float(betaincinv(count + 1, trials - count, 0.975)) if count < trials else 1.0
    return (1 - rule if count == trials else lower, rule if not count else upper)


@dataclass(frozen=True, slots=True)
class Calibration:
    """Operating points, the most tolerant first; none at all for a pack that was never measured.

    Between two points the threshold is linear in the logarithm of the false-match rate. Below 3 / ``impostor_pairs``
    nothing was measured; whoever asks for it gets the line through the last two points drawn out, which is a guess.
    """

    points: tuple[OperatingPoint, ...]
    impostor_pairs: int
    genuine_pairs: int
    source: str

    def __post_init__(self) -> None:
        for point in self.points:
            if not (0 < point.fmr <= 1 and -1 <= point.similarity <= 1 and 0 <= point.tmr <= 1):
                raise ValueError(f"calibration: {tuple(point)} is not (false-match rate, similarity, true-match rate)")
        for before, after in pairwise(self.points):
            if not _stricter(before, after):
                raise ValueError(f"calibration: {tuple(after)} is not stricter than {tuple(before)} before it")
        if self.impostor_pairs < 0 or self.genuine_pairs < 0:
            raise ValueError(f"calibration: {self.impostor_pairs} impostor and {self.genuine_pairs} genuine pairs")

    @classmethod
    def measured(cls, points: Iterable[OperatingPoint], impostor_pairs: int, genuine_pairs: int, source: str) -> Self:
        """The table of what was measured, less the points that say nothing new.

        Where scores are equal, two rates can have one threshold: the more tolerant rate is kept, at which it is true
        of both. A threshold above 1 parts nobody: pictures of two people were the same.
        """
        kept: list[OperatingPoint] = []
        for point in points:
            if point.similarity <= 1 and (not kept or _stricter(kept[-1], point)):
                kept.append(point)
        return cls(tuple(kept), impostor_pairs, genuine_pairs, source)

    def similarity_at(self, fmr: float, *, extrapolate: bool = False) -> float:
        """The threshold at which strangers match at the rate ``fmr``; never above 1.

        Raises ``PreconditionError`` (``FMR_UNSUPPORTED``) for a rate that was not measured; with ``extrapolate`` only
        where there is no line to draw out.
        """
        return min(1.0, self._value_at(fmr, lambda point: point.similarity, extrapolate=extrapolate))

    def tmr_at(self, fmr: float, *, extrapolate: bool = False) -> float:
        """The share of genuine comparisons that match there; raises as ``similarity_at`` does."""
        return max(0.0, self._value_at(fmr, lambda point: point.tmr, extrapolate=extrapolate))

    def false_match_bounds_at(self, fmr: float, *, extrapolate: bool = False) -> Bounds:
        """Where the real false-match rate lies at that threshold; raises as ``similarity_at`` does.

        Beyond the table nothing was counted: all that is known is that a stricter threshold than the last one has no
        more false matches than that.
        """
        points = self._points_for(fmr, extrapolate=extrapolate)
        if self.extrapolates(fmr):
            return 0.0, self.false_match_bounds_at(points[-1].fmr)[1]
        # A threshold lets through as many impostors as its rate allows, and never a part of one.
        return bounds(math.floor(fmr * self.impostor_pairs + _ROUNDING), self.impostor_pairs)

    def true_match_bounds_at(self, fmr: float) -> Bounds:
        """Where the real true-match rate lies at that threshold; raises as ``similarity_at`` does."""
        return bounds(round(self.tmr_at(fmr) * self.genuine_pairs), self.genuine_pairs)

    def extrapolates(self, fmr: float) -> bool:
        """Whether ``fmr`` lies below what was measured, and there is a line that can be drawn out to it."""
        points = self._supported()
        return len(points) > 1 and 0 < fmr < points[-1].fmr

    def _supported(self) -> tuple[OperatingPoint, ...]:
        return tuple(point for point in self.points if supports(self.impostor_pairs, point.fmr))

    def _points_for(self, fmr: float, *, extrapolate: bool) -> tuple[OperatingPoint, ...]:
        points = self._supported()
        if not points:
            raise PreconditionError(
                "this pack has no calibration: its false-match rates are unknown; use a pack that has one, or measure"
                " it with `facesvc models calibrate`",
                reason="FMR_UNSUPPORTED",
            )
        most, least = points[0].fmr, points[-1].fmr
        if not (least <= fmr <= most or (extrapolate and self.extrapolates(fmr))):
            raise PreconditionError(
                f"a false-match rate of {fmr:g} was not measured for this pack: choose one from {least:g} to {most:g} "
                f"({self.impostor_pairs} impostor pairs, {self.source})",
                reason="FMR_UNSUPPORTED",
            )
        return points

    def _value_at(self, fmr: float, value: Callable[[OperatingPoint], float], *, extrapolate: bool) -> float:
        points = self._points_for(fmr, extrapolate=extrapolate)
        decade = math.log10(fmr)
        # np.interp wants rising abscissas, and the table's rates fall.
        decades, values = [math.log10(point.fmr) for point in points[::-1]], [value(point) for point in points[::-1]]
        if self.extrapolates(fmr):
            return values[0] + (decade - decades[0]) * (values[1] - values[0]) / (decades[1] - decades[0])
        return float(np.interp(decade, decades, values))


def _stricter(before: OperatingPoint, after: OperatingPoint) -> bool:
    return after.fmr < before.fmr and after.similarity > before.similarity and after.tmr <= before.tmr
