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
# So much better in quality is worth another view.
_CLEARLY_BETTER = 0.2
# Views without a name beyond those that the policy needs come after so long, then after twice as long each time.
_FIRST_PAUSE_S = 0.5
# A decision is made again after this share of its life at the latest.
_SHARE_OF_LIFE = 0.6
# A decision is fresh for this share of its life: it was renewed when it was due.
_FRESH_SHARE = 0.8
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

    ``vectors`` are (D,) float32 of unit length, ``scores`` those of the liveness model for the last views (None: it
    could not tell). ``unlike`` counts the views of a contested track that did not look like it. Clocks are seconds of
    the clock that is never set.
    """

    views: tuple[View, ...] = ()
    vectors: tuple[Floats, ...] = ()
    scores: tuple[float | None, ...] = ()
    decision: Decision | None = None
    decided_clock: float = 0.0
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
        # The same picture sent again is the same view.
        earlier = self.views[:-1] if self.views and self.views[-1].capture.time == view.capture.time else self.views
        views = (*earlier, view)[-policy.frames :]
        scores = (*self.scores, score)[-policy.frames :]
        enough = agrees and _is_enough(views, scores, policy) and not _is_suspicious(score, policy)
        misses = 0 if enough else self.misses + 1
        longest = min(verify_s, _SHARE_OF_LIFE * policy.lifetime.total_seconds())
        pause = 0.0
        if enough:
            pause = longest
        elif _is_suspicious(score, policy):
            pause = 0.0
        elif misses >= policy.frames:
            pause = min(longest, _FIRST_PAUSE_S * 2.0 ** (misses - policy.frames))
        return replace(
            self,
            views=views,
            vectors=(*self.vectors, vector)[-_KEPT_VECTORS:],
            scores=scores,
            next_clock=clock + pause,
            best_quality=max(self.best_quality, quality.score),
            misses=misses,
            unlike=0,
        )

    def unproven(self) -> "Case":
        """As if nothing were known of its liveness: somebody else, or a picture, may have taken the face's place."""
        return replace(self, scores=())

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
            return replace(self, decision=made, decided_clock=clock)
        life = present.policy.lifetime.total_seconds()
        if present.outcome is Outcome.MATCH:
            contradicted = made.outcome in {Outcome.AMBIGUOUS, Outcome.SPOOF}
            renewed = made.outcome is Outcome.MATCH and made.expire_clock > present.expire_clock
            if contradicted or renewed:
                return replace(self, decision=made, decided_clock=clock)
            if clock - self.decided_clock < life:
                return self
            decision = made if made.outcome is not Outcome.MATCH else None
            return replace(self, decision=decision, decided_clock=clock, views=(), scores=(), misses=0)
        same = present.outcome is made.outcome and present.settled == made.settled
        if same and present.frames_looked_at == made.frames_looked_at and present.valid_for(clock) > 0:
            return self
        return replace(self, decision=made, decided_clock=clock)


def forgotten(case: Case) -> Case:
    """A case that begins anew, after a change of models: its vectors compare with nothing any more."""
    return replace(revoked(case), vectors=())


def revoked(case: Case) -> Case:
    """A case whose person is not to be named any more, erased or disabled; the track goes on."""
    return replace(case, views=(), scores=(), decision=None, next_clock=0.0, best_quality=0.0, misses=0, unlike=0)


def same_subject_twice(cases: Sequence[Case], clock: float) -> set[int]:
    """Places of the cases whose person is seen in another of ``cases``: decided later, or with more similarity."""
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
        rank, others_rank = _standing(case, clock), _standing(cases[rival], clock)
        loser = rival if rank > others_rank else place
        best[subject.subject_id] = place if loser == rival else rival
        losers.add(loser)
    return losers


def _standing(case: Case, clock: float) -> tuple[bool, float]:
    """What a claim to a name is worth: one renewed lately beats one that is carried, then the likeness counts."""
    decision = case.decision
    if decision is None or decision.subject is None:
        return False, 0.0
    fresh = clock - case.decided_clock < _FRESH_SHARE * decision.policy.lifetime.total_seconds()
    return fresh, decision.subject.similarity


def _is_suspicious(score: float | None, policy: Policy) -> bool:
    return policy.liveness_required and score is not None and score < policy.liveness_threshold


def _is_enough(views: Sequence[View], scores: Sequence[float | None], policy: Policy) -> bool:
    """Whether as many views as the policy needs say what the last one does, and as many were scored."""
    if policy.liveness_required and len(scores) - scores.count(None) < policy.matches:
        return False
    name = named_by(views[-1], policy)
    return sum(named_by(view, policy) == name for view in views) >= policy.matches


def _mean(scores: Sequence[float | None]) -> LivenessScore | None:
    known = [score for score in scores if score is not None]
    return LivenessScore(sum(known) / len(known), len(known)) if known else None
