"""Which similarity belongs to which false-match rate: a table measured once for each pack."""

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from facesvc.errors import PreconditionError


class OperatingPoint(NamedTuple):
    """One line of the table: the rates of false and true matches where ``similarity`` is the threshold."""

    fmr: float
    similarity: float
    tmr: float


@dataclass(frozen=True, slots=True)
class Calibration:
    """Operating points, the most tolerant first; none at all for a pack that was never measured.

    Between two points the threshold is linear in the logarithm of the false-match rate. Outside of them nothing is
    known: a table from ``impostor_pairs`` comparisons says nothing about rates much below 1/impostor_pairs.
    """

    points: tuple[OperatingPoint, ...]
    impostor_pairs: int
    source: str

    def __post_init__(self) -> None:
        for point in self.points:
            if not (0 < point.fmr <= 1 and -1 <= point.similarity <= 1 and 0 <= point.tmr <= 1):
                raise ValueError(f"calibration: {tuple(point)} is not (false-match rate, similarity, true-match rate)")
        for before, after in pairwise(self.points):
            if not (after.fmr < before.fmr and after.similarity > before.similarity and after.tmr <= before.tmr):
                raise ValueError(f"calibration: {tuple(after)} is not stricter than {tuple(before)} before it")
        if self.impostor_pairs < 0:
            raise ValueError(f"calibration: {self.impostor_pairs} impostor pairs")

    def similarity_at(self, fmr: float) -> float:
        """The threshold at which strangers match at the rate ``fmr``.

        Raises ``PreconditionError`` (``FMR_UNSUPPORTED``) for a rate outside of the table.
        """
        return self._interpolated(fmr, [point.similarity for point in self.points])

    def tmr_at(self, fmr: float) -> float:
        """The share of genuine comparisons that match there; raises as ``similarity_at`` does."""
        return self._interpolated(fmr, [point.tmr for point in self.points])

    def _interpolated(self, fmr: float, values: list[float]) -> float:
        if not self.points:
            raise PreconditionError(
                "this pack has no calibration: its false-match rates are unknown; use a pack that has one",
                reason="FMR_UNSUPPORTED",
            )
        most, least = self.points[0].fmr, self.points[-1].fmr
        if not least <= fmr <= most:
            raise PreconditionError(
                f"a false-match rate of {fmr:g} was not measured for this pack: choose one from {least:g} to {most:g} "
                f"({self.impostor_pairs} impostor pairs, {self.source})",
                reason="FMR_UNSUPPORTED",
            )
        # np.interp wants rising abscissas, and the table's rates fall.
        decades = [math.log10(point.fmr) for point in reversed(self.points)]
        return float(np.interp(math.log10(fmr), decades, values[::-1]))
