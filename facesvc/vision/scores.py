"""What similarities are worth: error rates of verification and identification, from genuine and impostor scores.

Terms as in ISO/IEC 19795-1: FMR, the share of impostor comparisons at or above a threshold; TMR, the share of genuine
ones. LFW calls them FAR and TAR.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Booleans = NDArray[np.bool_]
Integers = NDArray[np.int64]

# Similarities are tallied to one part in so many. A power of two: the edges of all bins are float32 numbers.
_STEPS = 1 << 20
_BLOCK_SCORES = 1 << 21


@dataclass(frozen=True, slots=True)
class OperatingPoint:
    """A threshold, the false-match rate it was chosen for, and the true-match rate there."""

    fmr: float
    similarity: float
    tmr: float


@dataclass(frozen=True, slots=True)
class CrossValidation:
    """Accuracy on each fold with the threshold that is best on all the others; mean and sample deviation."""

    accuracy: float
    deviation: float


def operating_point(genuine: Floats, impostor: Floats, fmr: float) -> OperatingPoint:
    """The lowest threshold whose share of ``impostor`` scores at or above it is at most ``fmr``.

    Empty ``genuine`` gives a TMR of NaN; ``impostor`` must not be empty.
    """
    allowed = int(np.floor(fmr * len(impostor) + 1e-9))
    ordered = np.sort(impostor)[::-1]
    # Just above the best score that must not match.
    similarity = float(np.nextafter(ordered[allowed], np.float32(2))) if allowed < len(ordered) else -1.0
    tmr = float(np.mean(genuine >= similarity)) if len(genuine) else float("nan")
    return OperatingPoint(fmr, similarity, tmr)


class Tally:
    """How many similarities there were of each size: all that an operating point needs, in 16 MB however many come.

    They are told apart to 1 / 2^20, about 1e-6.
    """

    def __init__(self) -> None:
        self._counts = np.zeros(2 * _STEPS + 1, np.int64)

    @property
    def total(self) -> int:
        """How many were added."""
        return int(self._counts.sum())

    def add(self, scores: Floats) -> None:
        """Count ``scores`` (N,), from -1 to 1; what rounding took beyond counts as the end."""
        bins = np.floor(np.clip(scores, -1, 1) * np.float32(_STEPS)).astype(np.int64) + _STEPS
        self._counts += np.bincount(bins, minlength=len(self._counts))

    def lowest_edge(self, allowed: int) -> float:
        """The lowest threshold that at most ``allowed`` reach; a step above 1 where more of them are 1."""
        reaching = np.cumsum(self._counts[::-1])[::-1]
        # It falls with the edge, so all that are over are at the front.
        over = int(np.sum(reaching > allowed))
        return over / _STEPS - 1

    def share_reaching(self, edge: float) -> float:
        """The share of all at or above a threshold that ``lowest_edge`` gave; NaN of nothing."""
        reaching = int(self._counts[round((edge + 1) * _STEPS) :].sum())
        return reaching / self.total if self.total else float("nan")


def tallied_point(genuine: Tally, impostor: Tally, fmr: float) -> OperatingPoint:
    """As ``operating_point``, with the threshold rounded up to the next edge."""
    similarity = impostor.lowest_edge(int(np.floor(fmr * impostor.total + 1e-9)))
    return OperatingPoint(fmr, similarity, genuine.share_reaching(similarity))


def compare_all(templates: Floats, probes: Floats, people: Integers) -> tuple[Tally, Tally]:
    """Tallies of genuine and of impostor scores: every template against every probe but the one of its own picture.

    :param templates: (N, D), unit vectors; one of each picture.
    :param probes: (N, D), of the same pictures.
    :param people: (N,), who each picture shows.

    Scores are made block by block: 10,000 pictures have 400 MB of them.
    """
    genuine, impostor = Tally(), Tally()
    rows = max(1, _BLOCK_SCORES // max(1, len(people)))
    for start in range(0, len(people), rows):
        scores = templates[start : start + rows] @ probes.T
        same = people[start : start + rows, None] == people[None]
        impostor.add(scores[~same])
        own = np.arange(len(scores))
        same[own, start + own] = False
        genuine.add(scores[same])
    return genuine, impostor


def best_threshold(scores: Floats, same: Booleans) -> float:
    """The threshold with the most right verdicts, the lowest of several; halfway between the two scores that it parts.

    :param scores: (N,), at least one.
    :param same: (N,), whether each is of one person.
    """
    order = np.argsort(scores, kind="stable")
    ordered, labels = scores[order], same[order]
    # With a threshold before position i, all from i on match: right are the genuine there and the impostors before.
    right = np.concatenate([[labels.sum()], labels.sum() + np.cumsum(np.where(labels, -1, 1))])
    # No threshold parts equal scores.
    right[1:-1][ordered[1:] == ordered[:-1]] = -1
    cut = int(np.argmax(right))
    if cut in {0, len(ordered)}:
        return float(ordered[0]) if cut == 0 else float(np.nextafter(ordered[-1], np.inf))
    below, above = ordered[cut - 1], ordered[cut]
    middle = (below + above) / 2
    # There may be no number between two neighbours.
    return float(middle if below < middle else above)


def cross_validate(scores: Floats, same: Booleans, folds: Integers) -> CrossValidation:
    """The LFW protocol: for each fold, the threshold comes from the other folds, so there are at least two.

    All three arrays are (N,).
    """
    accuracies = []
    names = np.unique(folds)
    if len(names) < 2:
        raise ValueError("cross-validation needs scores in at least two folds")
    for fold in names:
        held_out = folds == fold
        threshold = best_threshold(scores[~held_out], same[~held_out])
        accuracies.append(np.mean((scores[held_out] >= threshold) == same[held_out]))
    return CrossValidation(float(np.mean(accuracies)), float(np.std(accuracies, ddof=1)))


def rank_one(gallery: Floats, gallery_labels: Sequence[str], probes: Floats, probe_labels: Sequence[str]) -> float:
    """Share of ``probes`` (P, D) whose nearest of ``gallery`` (G, D) is the same person; vectors of unit length.

    No probes give NaN; ``gallery`` must not be empty. Of several that are equally near the first counts.
    """
    nearest = np.argmax(probes @ gallery.T, axis=1)
    hits = [gallery_labels[place] == label for place, label in zip(nearest, probe_labels, strict=True)]
    return float(np.mean(hits)) if hits else float("nan")
