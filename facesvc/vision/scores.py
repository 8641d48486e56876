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
