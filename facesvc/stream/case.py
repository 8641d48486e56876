"""What is known of one followed face, and when it is worth another view.

Embedding is the dear part, so a face is not embedded thirty times a second but, by the first row that fits:

==============  ============================================================================================
a view is due   when
==============  ============================================================================================
NEW             there is none yet
CONTESTED       the track may have gone over to somebody else: two faces met, or this one was out of sight
VERIFY          the last one that agreed with the decision is so old that the decision would soon expire
OPEN            the policy has not seen as many views as it needs; after these, at growing intervals
BETTER          the face is not named, and is seen clearly better than ever before
==============  ============================================================================================

Only a view that is fit counts: a face below the policy's quality is not embedded at all.
"""

import enum
from collections.abc import Sequence
from dataclasses import dataclass, replace

from facesvc.stream.policy import Decision, Evidence, LivenessScore, Outcome, Policy, View, named_by
from facesvc.vision.detection import Floats
from facesvc.vision.quality import Quality

# A face is compared with its last few views, as heads turn.
_KEPT_VECTORS = 3
# The liveness of a track is that of its last few views: a picture held up after the person has gone must not live on.
_KEPT_SCORES = 8
# So much better in quality is worth another view.
_CLEARLY_BETTER = 0.2
# Views without a name beyond those that the policy needs come after so long, then after twice as long each time.
_FIRST_PAUSE_S = 0.5
# A decision is made again after this share of its life at the latest.
_SHARE_OF_LIFE = 0.6
# A contested face that is unlike its track in so many views is another one.
_UNLIKE_VIEWS = 3


class Due(enum.IntEnum):
    """Why a view is due, the most urgent first."""

    NEW = 0
    CONTESTED = 1
    VERIFY = 2
    OPEN = 3
    BETTER = 4


@dataclass(frozen=True, slots=True)
class Case:
    """The views of a track, oldest first, what was concluded from them, and when the next is due.

    ``vectors`` are (D,) float32 of unit length, ``scores`` those of the liveness model. ``unlike`` counts the views of
    a contested track that did not look like it. Clocks are seconds of the clock that is never set.
    """

    views: tuple[View, ...] = ()
    vectors: tuple[Floats, ...] = ()
    scores: tuple[float, ...] = ()
    decision: Decision | None = None
    agreed_clock: float = 0.0
    next_clock: float = 0.0
    best_quality: float = 0.0
    misses: int = 0
    unlike: int = 0

    def due(self, quality: Quality, policy: Policy, clock: float, *, contested: bool) -> Due | None:
        """Why this face should be embedded now; None if it should not."""
        if quality.score < policy.minimum_quality:
            return None
        if not self.views:
            return Due.NEW
        if contested:
            return Due.CONTESTED
        if clock >= self.next_clock:
            return Due.VERIFY if self.is_named else Due.OPEN
        if not self.is_named and quality.score >= self.best_quality + _CLEARLY_BETTER:
            return Due.BETTER
        return None

    @property
    def is_named(self) -> bool:
        """Whether it is somebody."""
        return self.decision is not None and self.decision.outcome is Outcome.MATCH

    def evidence(self, quality: Quality) -> Evidence:
        """For ``decide``."""
        return Evidence(quality, self.views, _mean(self.scores))

    def likeness(self, vector: Floats) -> float | None:
        """The cosine to the most similar view; None where there is none."""
        return max((float(vector @ known) for known in self.vectors), default=None)

    def viewed(
        self,
        view: View,
        vector: Floats,
        score: float | None,
        quality: Quality,
        policy: Policy,
        verify_s: float,
        clock: float,
    ) -> "Case":
        """After another view; ``score`` is that of the liveness model, if there is one.

        :param verify_s: seconds between two views of a face that is named.
        """
        agrees = bool(named_by(view, policy)) and not (self.is_named and not self.speaks_for(view))
        views = (*self.views, view)[-policy.frames :]
        scores = self.scores if score is None else (*self.scores, score)[-max(_KEPT_SCORES, policy.matches) :]
        enough = agrees and _is_enough(views, scores, policy)
        misses = 0 if enough else self.misses + 1
        longest = min(verify_s, _SHARE_OF_LIFE * policy.lifetime.total_seconds())
        pause = 0.0
        if enough:
            pause = longest
        elif misses >= policy.frames:
            pause = min(longest, _FIRST_PAUSE_S * 2.0 ** (misses - policy.frames))
        return replace(
            self,
            views=views,
            vectors=(*self.vectors, vector)[-_KEPT_VECTORS:],
            scores=scores,
            agreed_clock=clock if agrees else self.agreed_clock,
            next_clock=clock + pause,
            best_quality=max(self.best_quality, quality.score),
            misses=misses,
            unlike=0,
        )

    def speaks_for(self, view: View) -> bool:
        """Whether a view's best candidate is the person whom the case names."""
        named = self.decision.subject if self.decision else None
        return bool(named and view.candidates and view.candidates[0].subject_id == named.subject_id)

    @property
    def is_another(self) -> bool:
        """Whether a contested face has been unlike its track for long enough to be somebody else's."""
        return self.unlike >= _UNLIKE_VIEWS

    def concluded(self, made: Decision, clock: float) -> "Case":
        """With the decision that holds from now on: ``made``, or the present one while nothing speaks against it.

        A match holds until it expires, also where a view of it fails: a head that is turned is still the same person's.
        Once it has expired what led to it is forgotten.
        """
        present = self.decision
        if present is None:
            return replace(self, decision=made)
        life = present.policy.lifetime.total_seconds()
        if present.outcome is Outcome.MATCH:
            contradicted = made.outcome in {Outcome.AMBIGUOUS, Outcome.SPOOF}
            renewed = made.outcome is Outcome.MATCH and made.expire_clock > present.expire_clock
            if contradicted or renewed:
                return replace(self, decision=made, agreed_clock=clock if made.subject else self.agreed_clock)
            if clock - self.agreed_clock < life:
                return self
            return replace(self, decision=made if made.outcome is not Outcome.MATCH else None, views=(), misses=0)
        same = present.outcome is made.outcome and present.settled == made.settled
        if same and present.frames_looked_at == made.frames_looked_at and present.valid_for(clock) > 0:
            return self
        return replace(self, decision=made)


def forgotten(case: Case) -> Case:
    """A case that begins anew, after a change of models: its vectors compare with nothing any more."""
    return replace(case, views=(), vectors=(), decision=None, next_clock=0.0, best_quality=0.0, misses=0, unlike=0)


def same_subject_twice(cases: Sequence[Case]) -> set[int]:
    """Places of the cases whose person is seen, with more similarity, in another of ``cases``."""
    best: dict[str, int] = {}
    losers = set()
    for place, case in enumerate(cases):
        if not case.is_named or case.decision is None or case.decision.subject is None:
            continue
        subject = case.decision.subject
        rival = best.get(subject.subject_id)
        if rival is None:
            best[subject.subject_id] = place
            continue
        other = cases[rival].decision
        assert other is not None
        assert other.subject is not None
        loser = rival if subject.similarity > other.subject.similarity else place
        best[subject.subject_id] = place if loser == rival else rival
        losers.add(loser)
    return losers


def _is_enough(views: Sequence[View], scores: Sequence[float], policy: Policy) -> bool:
    """Whether as many views as the policy needs say what the last one does, and as many were scored."""
    if policy.liveness_required and len(scores) < policy.matches:
        return False
    name = named_by(views[-1], policy)
    return sum(named_by(view, policy) == name for view in views) >= policy.matches


def _mean(scores: Sequence[float]) -> LivenessScore | None:
    return LivenessScore(sum(scores) / len(scores), len(scores)) if scores else None
