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
    """The threshold with the most right verdicts; halfway between the two scores that it parts."""
    order = np.argsort(scores, kind="stable")
    ordered, labels = scores[order], same[order]
    # With a threshold before position i, all from i on match: right are the genuine there and the impostors before.
    right = np.concatenate([[labels.sum()], labels.sum() + np.cumsum(np.where(labels, -1, 1))])
    cut = int(np.argmax(right))
    edges = np.concatenate([[ordered[0] - 1e-6], ordered, [ordered[-1] + 1e-6]])
    return float((edges[cut] + edges[cut + 1]) / 2)


def cross_validate(scores: Floats, same: Booleans, folds: Integers) -> CrossValidation:
    """The LFW protocol: for each fold, the threshold comes from the other folds. All three arrays are (N,)."""
    accuracies = []
    for fold in np.unique(folds):
        held_out = folds == fold
        threshold = best_threshold(scores[~held_out], same[~held_out])
        accuracies.append(np.mean((scores[held_out] >= threshold) == same[held_out]))
    deviation = float(np.std(accuracies, ddof=1)) if len(accuracies) > 1 else 0.0
    return CrossValidation(float(np.mean(accuracies)), deviation)


def rank_one(gallery: Floats, gallery_labels: Sequence[str], probes: Floats, probe_labels: Sequence[str]) -> float:
    """Share of ``probes`` (P, D) whose nearest of ``gallery`` (G, D) is the same person; vectors of unit length."""
    nearest = np.argmax(probes @ gallery.T, axis=1)
    hits = [gallery_labels[place] == label for place, label in zip(nearest, probe_labels, strict=True)]
    return float(np.mean(hits)) if hits else float("nan")
