"""How well a pack was seen to recognise people: the record of a measurement, kept on the box beside the packs."""

import json
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

from facesvc.models import manifest


class TrueMatches(NamedTuple):
    """The share of genuine comparisons that match where strangers do so at the rate ``fmr``."""

    fmr: float
    tmr: float


@dataclass(frozen=True, slots=True)
class Figures:
    """What one evaluation measured, all rates from 0 to 1.

    Verification: mean ``accuracy`` over the folds, its sample ``deviation``, and ``tar``, the share of pairs of one
    person accepted at a false-accept rate of 1e-3. Identification: ``rank_one``, and ``tmr`` at the rates that there
    were enough impostors for, the most tolerant first. ``time`` is when, as RFC 3339.
    """

    accuracy: float
    deviation: float
    tar: float
    rank_one: float
    tmr: tuple[TrueMatches, ...]
    data_set: str
    time: str

    def __post_init__(self) -> None:
        shares = (
            self.accuracy,
            self.deviation,
            self.tar,
            self.rank_one,
            *(rate for point in self.tmr for rate in point),
        )
        if not all(0 <= share <= 1 for share in shares):
            raise ValueError(f"figures: {next(share for share in shares if not 0 <= share <= 1)} is no share")
        if datetime.fromisoformat(self.time).tzinfo is None:
            raise ValueError(f"figures: the time {self.time} has no offset")

    def tmr_at(self, fmr: float) -> float | None:
        """The true-match rate at a rate that was measured, else None."""
        return next((point.tmr for point in self.tmr if point.fmr == fmr), None)


def dump(figures: Figures) -> bytes:
    """The record as JSON."""
    return json.dumps(asdict(figures), indent=1).encode()


def load(path: Path) -> Figures:
    """The record in a file. Raises ``OSError``, or ``ValueError`` that names what is wrong with it."""
    fields = manifest.read(path)
    return Figures(
        accuracy=fields.number("accuracy"),
        deviation=fields.number("deviation"),
        tar=fields.number("tar"),
        rank_one=fields.number("rank_one"),
        tmr=tuple(TrueMatches(*row) for row in fields.rows("tmr", 2)),
        data_set=fields.text("data_set"),
        time=fields.text("time"),
    )
