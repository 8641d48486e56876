"""What is known of faces, made up: the one place where tests of decisions and of followed faces build views of them."""

from datetime import UTC, datetime, timedelta

from facesvc.gallery import Candidate
from facesvc.stream.policy import Capture, Moment, Policy, View
from facesvc.vision.quality import PARTS, Quality, QualityParts

T0 = datetime(2026, 1, 1, tzinfo=UTC)
CLOCK0 = 1000.0
POLICY = Policy(
    "test", 1e-3, threshold=0.9, margin=0.01, minimum_quality=0.5, lifetime=timedelta(seconds=5), matches=1, frames=5
)
ACCESS = Policy(
    "access",
    1e-5,
    threshold=0.9,
    margin=0.01,
    minimum_quality=0.5,
    lifetime=timedelta(seconds=2),
    matches=3,
    frames=5,
    liveness_required=True,
    liveness_threshold=0.5,
)


def quality(score: float = 0.9, weakest: str = "size") -> Quality:
    """A face whose ``weakest`` part has that score; all else of it is perfect."""
    parts = QualityParts(**{part: score if part == weakest else 1.0 for part in PARTS})
    return Quality(score, 80.0, 0.2, 0.4, 7.0, -3.0, 0.0, parts)


GOOD = quality()
POOR = quality(0.4)


def candidate(subject_id: str, similarity: float) -> Candidate:
    """Somebody who is enrolled."""
    return Candidate(subject_id, subject_id.title(), similarity, "sample", {})


def capture(seconds: float = 0.0) -> Capture:
    """A picture taken so long after the start."""
    return Capture(T0 + timedelta(seconds=seconds), CLOCK0 + seconds)


def moment(seconds: float = 0.0) -> Moment:
    """So long after the start, by both clocks."""
    return Moment(T0 + timedelta(seconds=seconds), CLOCK0 + seconds)


def view(*candidates: tuple[str, float], seconds: float = 0.0) -> View:
    """A view taken so long after the start, with these people and their similarities."""
    return View(capture(seconds), [candidate(*one) for one in candidates])


def views(said: str, *, start: float = 0.0, similarity: float = 0.95) -> list[View]:
    """A view for each letter, a second apart: of the person with that name, ``-`` of nobody, ``?`` torn between two."""
    meaning = {"-": [("x", 0.5)], "?": [("x", similarity), ("y", similarity - 0.001)]}
    return [
        view(*meaning.get(letter, [(letter, similarity)]), seconds=start + place) for place, letter in enumerate(said)
    ]
