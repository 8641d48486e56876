"""What is concluded about a face, and how long that holds.

A threshold is stated as a false-match rate (FMR): the share of strangers whose similarity to one enrolled person
reaches it. Each face of a frame gets exactly one outcome, by the first row that fits:

==============  ========================================================================================
outcome         when
==============  ========================================================================================
LOW_QUALITY     the face is not fit to decide on
UNKNOWN         the best candidate is below the threshold, or there is none
AMBIGUOUS       the second candidate is within the margin of the best: naming either would be a guess
UNKNOWN         another face of the same frame is more like the best candidate: nobody is there twice
MATCH           all else
==============  ========================================================================================
"""

import enum
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from facesvc.gallery import Candidate
from facesvc.vision.quality import Quality


class Outcome(enum.Enum):
    """What was concluded about one face."""

    MATCH = "MATCH"
    AMBIGUOUS = "AMBIGUOUS"
    UNKNOWN = "UNKNOWN"
    LOW_QUALITY = "LOW_QUALITY"
    SPOOF = "SPOOF"


@dataclass(frozen=True, slots=True)
class Policy:
    """A way to decide, with its error rate already translated into the ``threshold`` of the pack in use."""

    name: str
    false_match_rate: float
    threshold: float
    margin: float
    minimum_quality: float
    lifetime: timedelta


@dataclass(frozen=True, slots=True)
class Evidence:
    """What is known of one face: its quality, and the candidates, best first."""

    quality: Quality
    candidates: Sequence[Candidate]


@dataclass(frozen=True, slots=True)
class Decision:
    """A conclusion about one face; ``subject`` is set for a match only.

    After ``expire_time``, counted from the picture, it is worth nothing: one about an old picture is born expired.
    """

    decision_id: str
    outcome: Outcome
    subject: Candidate | None
    candidates: Sequence[Candidate]
    policy: Policy
    capture_time: datetime
    decision_time: datetime
    expire_time: datetime
    low_quality_reason: str = ""


def false_positive_identification_rate(false_match_rate: float, subjects: int) -> float:
    """The chance that a stranger is given some name in a gallery of ``subjects``: 1 - (1 - FMR)^N."""
    return 1.0 - (1.0 - false_match_rate) ** subjects


def decide(
    faces: Sequence[Evidence],
    policy: Policy,
    *,
    capture_time: datetime,
    now: datetime,
    new_id: Callable[[], str],
) -> list[Decision]:
    """One decision for each face of a frame, in the same order."""
    outcomes = [_outcome(face, policy) for face in faces]
    winners = _best_face_of_each_subject(faces, outcomes)
    decisions = []
    for place, (face, outcome) in enumerate(zip(faces, outcomes, strict=True)):
        settled = Outcome.UNKNOWN if outcome is Outcome.MATCH and place not in winners else outcome
        decisions.append(
            Decision(
                new_id(),
                settled,
                face.candidates[0] if settled is Outcome.MATCH else None,
                face.candidates,
                policy,
                capture_time,
                now,
                # An old picture says nothing about now; a camera whose clock is ahead gains nothing by it.
                min(capture_time, now) + policy.lifetime,
                _quality_in_words(face.quality) if settled is Outcome.LOW_QUALITY else "",
            )
        )
    return decisions


def _outcome(face: Evidence, policy: Policy) -> Outcome:
    if face.quality.score < policy.minimum_quality:
        return Outcome.LOW_QUALITY
    if not face.candidates or face.candidates[0].similarity < policy.threshold:
        return Outcome.UNKNOWN
    if len(face.candidates) > 1 and face.candidates[0].similarity - face.candidates[1].similarity < policy.margin:
        return Outcome.AMBIGUOUS
    return Outcome.MATCH


def _best_face_of_each_subject(faces: Sequence[Evidence], outcomes: Sequence[Outcome]) -> set[int]:
    """Places of the faces that keep their name; of two that are equally like one person the first does."""
    best: dict[str, int] = {}
    for place, (face, outcome) in enumerate(zip(faces, outcomes, strict=True)):
        if outcome is not Outcome.MATCH:
            continue
        candidate = face.candidates[0]
        rival = best.get(candidate.subject_id)
        if rival is None or candidate.similarity > faces[rival].candidates[0].similarity:
            best[candidate.subject_id] = place
    return set(best.values())


def _quality_in_words(quality: Quality) -> str:
    return {
        "size": f"the face is only {quality.face_pixels:.0f} pixels wide",
        "sharpness": "the face is blurred",
        "light": f"the face is too {'dark' if quality.brightness < 0.5 else 'bright'}",
        "pose": f"the head is turned away (yaw {quality.yaw:.0f}, pitch {quality.pitch:.0f} degrees)",
        "detection": "it is hardly a face",
    }[quality.weakest]
