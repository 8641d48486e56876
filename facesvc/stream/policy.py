"""What is concluded about a face, and how long that holds.

A threshold is stated as a false-match rate (FMR): the share of strangers whose similarity to one enrolled person
reaches it. A face is judged by the last *n* views of it that are fit to decide on, its evidence; a picture gives one
view, a track one for each time that it was embedded. A view *names* a person who is its best candidate, reaches the
threshold, and is ahead of the second by the margin. Each face of a frame gets exactly one outcome, by the first row
that fits:

==============  ========================================================================================
outcome         when
==============  ========================================================================================
LOW_QUALITY     there is no view that is fit
UNKNOWN         the policy requires liveness, and fewer than *k* views were scored: not settled
SPOOF           the policy requires liveness, and the mean score of the track is below the bar
MATCH           *k* views name the same person, and fewer name any other
AMBIGUOUS       *k* views name one person and as many another, or *k* views are torn between two people
UNKNOWN         all else; settled once there are *n* views
==============  ========================================================================================

Nobody is in a frame twice: of two faces that match one person the more similar keeps the name, the other is UNKNOWN.

A decision expires counted from the capture of the newest view that it rests on, by a clock that is never set: a step of
the wall clock does not prolong it.
"""

import enum
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from facesvc.gallery import Candidate
from facesvc.vision.quality import Quality

# Views of the frame itself, whatever the clocks' last digits say.
_SAME_MOMENT_S = 1e-3


class Outcome(enum.Enum):
    """What was concluded about one face."""

    MATCH = "MATCH"
    AMBIGUOUS = "AMBIGUOUS"
    UNKNOWN = "UNKNOWN"
    LOW_QUALITY = "LOW_QUALITY"
    SPOOF = "SPOOF"


@dataclass(frozen=True, slots=True)
class Policy:
    """A way to decide, with its error rate already translated into the ``threshold`` of the pack in use.

    A person is named after ``matches`` of ``frames`` views agree. ``liveness_threshold`` is the mean score from which
    on a face passes as a living one, where ``liveness_required``.
    """

    name: str
    false_match_rate: float
    threshold: float
    margin: float
    minimum_quality: float
    lifetime: timedelta
    matches: int = 1
    frames: int = 1
    liveness_required: bool = False
    liveness_threshold: float = 0.5

    @property
    def of_one_picture(self) -> "Policy":
        """The same where one view is all there will ever be."""
        return replace(self, frames=1)


@dataclass(frozen=True, slots=True)
class Capture:
    """When a picture was taken: by the wall clock, and by one that is never set (seconds)."""

    time: datetime
    clock: float


@dataclass(frozen=True, slots=True)
class View:
    """One look at a face that is fit to decide on; the candidates stand best first."""

    capture: Capture
    candidates: Sequence[Candidate]


@dataclass(frozen=True, slots=True)
class LivenessScore:
    """Mean score of a face over ``frames`` views, 0 (an attack) to 1 (genuine)."""

    score: float
    frames: int


@dataclass(frozen=True, slots=True)
class Evidence:
    """What is known of one face: its quality as last seen, the fit views of it, oldest first, and its liveness."""

    quality: Quality
    views: Sequence[View]
    liveness: LivenessScore | None = None


@dataclass(frozen=True, slots=True)
class Decision:
    """A conclusion about one face; ``subject`` is set for a match only.

    After ``expire_time``, counted from the picture, it is worth nothing: one about an old picture is born expired.
    ``expire_clock`` is the same by the clock that is never set. ``frames_agreeing`` of ``frames_looked_at`` views speak
    for the outcome; an UNKNOWN that is not ``settled`` may become a MATCH with the next view.
    """

    decision_id: str
    outcome: Outcome
    subject: Candidate | None
    candidates: Sequence[Candidate]
    policy: Policy
    capture_time: datetime
    decision_time: datetime
    expire_time: datetime
    expire_clock: float
    frames_looked_at: int
    frames_agreeing: int
    settled: bool
    liveness: LivenessScore | None = None
    low_quality_reason: str = ""

    def valid_for(self, clock: float) -> float:
        """Seconds that are left of its life; nought once it has expired."""
        return max(0.0, self.expire_clock - clock)


@dataclass(frozen=True, slots=True)
class Moment:
    """Now: by the wall clock, and by the one that is never set (seconds)."""

    time: datetime
    clock: float


@dataclass(frozen=True, slots=True)
class _Finding:
    """A row of the table for one face; ``basis`` is the newest view that speaks for it."""

    outcome: Outcome
    agreeing: int = 0
    settled: bool = False
    basis: View | None = None


def false_positive_identification_rate(false_match_rate: float, subjects: int) -> float:
    """The chance that a stranger is given some name in a gallery of ``subjects``: 1 - (1 - FMR)^N."""
    return 1.0 - (1.0 - false_match_rate) ** subjects


def decide(
    faces: Sequence[Evidence], policy: Policy, capture: Capture, now: Moment, new_id: Callable[[], str]
) -> list[Decision]:
    """One decision for each face of a frame taken at ``capture``, in the same order."""
    findings = [_find(face, policy, capture) for face in faces]
    winners = _best_face_of_each_subject(findings)
    return [
        _decision(face, finding if place in winners else _lost(finding), policy, capture, now, new_id())
        for place, (face, finding) in enumerate(zip(faces, findings, strict=True))
    ]


def _decision(
    face: Evidence, finding: _Finding, policy: Policy, capture: Capture, now: Moment, decision_id: str
) -> Decision:
    newest = face.views[-1] if face.views else None
    basis = finding.basis or newest
    taken = basis.capture if basis else capture
    # An old picture says nothing about now; a camera whose clock is ahead gains nothing by it.
    age = timedelta(seconds=max(0.0, now.clock - taken.clock))
    return Decision(
        decision_id=decision_id,
        outcome=finding.outcome,
        subject=basis.candidates[0] if basis and finding.outcome is Outcome.MATCH else None,
        candidates=basis.candidates if basis else (),
        policy=policy,
        capture_time=taken.time,
        decision_time=now.time,
        expire_time=min(taken.time, now.time - age) + policy.lifetime,
        expire_clock=min(taken.clock, now.clock) + policy.lifetime.total_seconds(),
        frames_looked_at=len(_counted(face.views, policy, capture)),
        frames_agreeing=finding.agreeing,
        settled=finding.settled,
        liveness=face.liveness,
        low_quality_reason=quality_in_words(face.quality) if finding.outcome is Outcome.LOW_QUALITY else "",
    )


def _counted(views: Sequence[View], policy: Policy, capture: Capture) -> Sequence[View]:
    """The last *n* views, as far as they are of about now: not older than so many lives, nor newer than the frame."""
    oldest = capture.clock - policy.frames * policy.lifetime.total_seconds()
    return [view for view in views[-policy.frames :] if oldest <= view.capture.clock <= capture.clock + _SAME_MOMENT_S]


def _find(face: Evidence, policy: Policy, capture: Capture) -> _Finding:
    views = _counted(face.views, policy, capture)
    settled = len(views) >= policy.frames
    if not views:
        return _Finding(Outcome.UNKNOWN if face.views else Outcome.LOW_QUALITY, settled=policy.frames == 1)
    if policy.liveness_required and not _lives(face, policy):
        scored = face.liveness is not None and face.liveness.frames >= policy.matches
        return _Finding(Outcome.SPOOF, len(views), settled=True) if scored else _Finding(Outcome.UNKNOWN)
    named = [named_by(view, policy) for view in views]
    votes = Counter(name for name in named if name).most_common(2)
    if votes and votes[0][1] >= policy.matches:
        (name, count), *second = votes
        if second and second[0][1] == count:
            return _Finding(Outcome.AMBIGUOUS, count, settled)
        basis = next(view for view, said in zip(reversed(views), reversed(named), strict=True) if said == name)
        # What would have expired by now is not concluded anew.
        lives = capture.clock - basis.capture.clock < policy.lifetime.total_seconds()
        return _Finding(Outcome.MATCH, count, settled=True, basis=basis) if lives else _Finding(Outcome.UNKNOWN, count)
    torn = sum(_is_torn(view, policy) for view in views)
    if torn >= policy.matches:
        return _Finding(Outcome.AMBIGUOUS, torn, settled)
    return _Finding(Outcome.UNKNOWN, len(views) - sum(map(bool, named)), settled)


def _lives(face: Evidence, policy: Policy) -> bool:
    scored = face.liveness
    return scored is not None and scored.frames >= policy.matches and scored.score >= policy.liveness_threshold


def named_by(view: View, policy: Policy) -> str:
    """The person whom a view names; empty where it names nobody."""
    if not _reaches(view, policy) or _is_torn(view, policy):
        return ""
    return view.candidates[0].subject_id


def _reaches(view: View, policy: Policy) -> bool:
    return bool(view.candidates) and view.candidates[0].similarity >= policy.threshold


def _is_torn(view: View, policy: Policy) -> bool:
    if not _reaches(view, policy) or len(view.candidates) < 2:
        return False
    return view.candidates[0].similarity - view.candidates[1].similarity < policy.margin


def _lost(finding: _Finding) -> _Finding:
    """What a face is whose name went to another one of the same frame."""
    return replace(finding, outcome=Outcome.UNKNOWN) if finding.outcome is Outcome.MATCH else finding


def _best_face_of_each_subject(findings: Sequence[_Finding]) -> set[int]:
    """Places of the faces that keep their name; of two that are equally like one person the first does."""
    best: dict[str, tuple[float, int]] = {}
    for place, finding in enumerate(findings):
        if finding.outcome is not Outcome.MATCH or finding.basis is None:
            continue
        candidate = finding.basis.candidates[0]
        rival = best.get(candidate.subject_id)
        if rival is None or candidate.similarity > rival[0]:
            best[candidate.subject_id] = (candidate.similarity, place)
    return {place for _, place in best.values()}


def quality_in_words(quality: Quality) -> str:
    """What is wrong with a face that is not fit to decide on."""
    return {
        "size": f"the face is only {quality.face_pixels:.0f} pixels wide",
        "sharpness": "the face is blurred",
        "light": f"the face is too {'dark' if quality.brightness < 0.5 else 'bright'}",
        "pose": f"the head is turned away (yaw {quality.yaw:.0f}, pitch {quality.pitch:.0f} degrees)",
        "detection": "the detector is not sure that this is a face",
    }[quality.weakest]
