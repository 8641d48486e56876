"""One look at one frame: detect, follow, embed whoever is due, decide. Runs in a worker thread."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from facesvc.stream.attribution import Attribution, Followee, Judgement
from facesvc.stream.case import Due, forgotten, revoked, same_subject_twice
from facesvc.stream.look_faces import LookFaces
from facesvc.stream.policy import Capture, Decision, Outcome, View, decide
from facesvc.stream.recognizer import Question, Recognizer
from facesvc.stream.shown import Followed, Seen, inside
from facesvc.stream.tracker import Step, Track, Tracker, within_reach
from facesvc.vision.detection import Floats
from facesvc.vision.pipeline import StageTimes
from facesvc.vision.scene_cut import is_cut, thumbnail

SHOWN_UNSEEN_S = 0.15
"""A face that a look has missed is shown where it should be for so long, unless that is outside of the picture."""
# A new face that cannot be told from one that is out of sight is not shown before it is so old.
_UNTOLD_S = 1.0
# Nobody is followed beyond so many times the faces that a frame may have: those out of sight count too.
_TRACKS_A_FACE = 2


@dataclass(frozen=True, slots=True)
class Pace:
    """How much is done.

    ``verify_s`` are the seconds between two views of a named face, ``minimum_face_factor`` multiplies the smallest
    face, and a look that has taken ``embedding_budget_s`` begins to embed no further face. The track ``watched`` is
    embedded at every look.
    """

    verify_s: float
    minimum_face_factor: float = 1.0
    embedding_budget_s: float = 0.5
    watched: str = ""


@dataclass(frozen=True, slots=True)
class State:
    """What a look leaves behind: whom it followed (by track id), what it saw, and when."""

    contract_id: str = ""
    thumbnail: Floats | None = None
    followees: Mapping[str, Followee] = field(default_factory=dict)
    seen: Seen = field(default_factory=lambda: Seen(0, 0, ()))
    clock: float = 0.0


class Look:
    """One look at one frame, after the state ``before``; ``clock`` is the stream's."""

    def __init__(
        self,
        before: State,
        recognizer: Recognizer,
        question: Question,
        lost_s: float,
        capture: Capture,
        clock: float,
        pace: Pace,
    ) -> None:
        most = _TRACKS_A_FACE * question.max_faces
        self._before = before
        self._recognizer = recognizer
        self._tracker = Tracker(question.policy.threshold, lost_s, most, recognizer.new_id)
        self._pipeline = recognizer.pipeline
        self._question = question
        self._policy = question.policy
        self._capture = capture
        self._clock = clock
        self._moment = Capture(capture.time, clock)
        self._pace = pace
        self._times = StageTimes()
        self._begun = recognizer.pipeline.clock()

    def run(self, data: bytes) -> State:
        """What the look leaves behind. Raises ``ImageError``."""
        minimum = self._question.minimum_face
        smallest = replace(minimum, pixels=min(minimum.pixels * self._pace.minimum_face_factor, 4096.0))
        self._scene = self._pipeline.scan(data, smallest, self._question.max_faces, self._times, rough=True)
        self._faces = LookFaces(self._pipeline, self._scene, self._policy.minimum_quality, self._times)
        small = thumbnail(self._scene.image.pixels)
        self._known = self._carried_over()
        step = self._follow()
        if self._before.thumbnail is not None and is_cut(self._before.thumbnail, small) and not self._goes_on(step):
            self._known = {}
            step = self._follow()
        attribution = Attribution(self._known, step, self._faces, self._tracker, self._moment, self._judgement())
        self._view(attribution)
        followees = self._decided(list(attribution.followees.values()))
        # Faces that turned out to be others' began tracks too: beyond the limit the longest out of sight are given up.
        latest = sorted(followees, key=lambda one: one.track.seen_clock, reverse=True)[: self._tracker.max_tracks]
        by_track = {followee.track.track_id: followee for followee in latest}
        return State(self._recognizer.contract_id, small, by_track, self._seen(followees), self._clock)

    def _carried_over(self) -> Mapping[str, Followee]:
        """Who was followed before; without vectors after a change of models, and as large as frames are now."""
        before, followees = self._before, self._before.followees
        if before.seen.width not in {0, self._scene.image.width}:
            factor = self._scene.image.width / before.seen.width
            followees = {name: one.scaled(factor) for name, one in followees.items()}
        if before.contract_id != self._recognizer.contract_id:
            return {name: replace(one, case=forgotten(one.case)) for name, one in followees.items()}
        return {name: self._unless_revoked(one) for name, one in followees.items()}

    def _unless_revoked(self, one: Followee) -> Followee:
        """Nobody is named a moment longer who was erased or disabled."""
        named = one.case.decision.subject if one.case.decision else None
        if named is None or self._recognizer.recognises(self._question.collection_id, named.subject_id):
            return one
        return replace(one, case=revoked(one.case))

    def _follow(self) -> Step:
        tracks = [followee.track for followee in self._known.values()]
        return self._tracker.step(tracks, self._faces.detections, self._moment, self._likeness)

    def _likeness(self, track_id: str, number: int) -> float | None:
        followee = self._known.get(track_id)
        if followee is None or not followee.case.vectors or not self._faces.is_fit(number):
            return None
        return followee.case.likeness(self._faces.vector(number))

    def _goes_on(self, step: Step) -> bool:
        """Whether most faces of the look before are where they should be: a crowd that walks changes a picture too."""
        before = [one for one in self._known.values() if one.track.seen_clock == self._before.clock]
        numbers = [step.seen.get(one.track.track_id) for one in before]
        going_on = sum(
            number is not None and not one.looks_exchanged(self._faces.face(number))
            for one, number in zip(before, numbers, strict=True)
        )
        return going_on > len(before) / 2

    def _judgement(self) -> Judgement:
        pixels, detections = self._scene.image.pixels, self._scene.detections

        def liveness(number: int) -> float | None:
            return self._recognizer.liveness_of(pixels, detections[number], self._times)

        return Judgement(self._policy, self._pace.verify_s, liveness, self._pace.watched)

    def _view(self, attribution: Attribution) -> None:
        """Embeds whoever is due, and finds out who they are."""
        due = []
        for number, name in attribution.owners.items():
            followee = attribution.followees[name]
            contested = followee.track.contested
            reason = followee.case.due(followee.face.quality, self._policy, self._clock, contested=contested)
            if reason is not None:
                due.append((reason, followee.case.next_clock, number))
        chosen = [number for reason, _, number in sorted(due) if self._is_affordable(number, reason)]
        for _, _, number in due:
            attribution.refresh(number)
        started = self._pipeline.clock()
        found = self._recognizer.search([self._faces.vector(number) for number in chosen], self._question)
        self._times.add("search", self._pipeline.clock() - started)
        for number, candidates in zip(chosen, found, strict=True):
            attribution.add(number, View(self._capture, candidates))

    def _is_affordable(self, number: int, reason: Due) -> bool:
        """Embeds a face, unless this look has taken so long that the frame grows old; the rest waits for the next."""
        spent = self._pipeline.clock() - self._begun
        late = spent > self._pace.embedding_budget_s and reason is not Due.CONTESTED
        if (late and not self._faces.is_embedded(number)) or not self._faces.is_fit(number):
            return False
        self._faces.vector(number)
        return True

    def _decided(self, followees: list[Followee]) -> list[Followee]:
        """Everybody with the decision that holds now."""
        seen = [
            place for place, one in enumerate(followees) if one.track.seen_clock == self._clock and not self._waits(one)
        ]
        started = self._pipeline.clock()
        made = decide(
            [followees[place].case.evidence(followees[place].face.quality) for place in seen],
            self._policy,
            self._capture,
            self._recognizer.moment,
            self._recognizer.new_id,
        )
        for place, decision in zip(seen, made, strict=True):
            one = followees[place]
            followees[place] = replace(one, case=one.case.concluded(decision, self._clock))
        losers = same_subject_twice([followees[place].case for place in seen], self._clock)
        self._losers = {followees[seen[loser]].track.track_id for loser in losers}
        self._times.add("search", self._pipeline.clock() - started)
        return followees

    def _waits(self, one: Followee) -> bool:
        """Whether a face is fit and was not embedded yet: nothing can be said of it."""
        return not one.case.views and one.face.quality.score >= self._policy.minimum_quality

    def _seen(self, followees: Sequence[Followee]) -> Seen:
        image = self._scene.image
        open_tracks = [one.track for one in followees if one.track.seen_clock < self._clock or one.track.contested]
        faces = [
            self._shown(one)
            for one in followees
            if one.track.seen_clock == self._clock and not self._may_be_one_of(open_tracks, one)
        ]
        shown_before = {followed.track.track_id for followed in self._before.seen.faces}
        missed = [
            one
            for one in followees
            if 0 < self._clock - one.track.seen_clock <= SHOWN_UNSEEN_S and one.track.track_id in shown_before
        ]
        faces += inside([self._shown(one).at(self._clock) for one in missed], image.width, image.height)
        faces.sort(key=lambda followed: followed.face.detection.box.area, reverse=True)
        return Seen(
            image.width,
            image.height,
            tuple(faces),
            self._scene.omitted,
            self._scene.minimum_face,
            self._faces.embedded,
            times=self._times,
        )

    def _shown(self, one: Followee) -> Followed:
        return Followed(one.track, one.face, self._told(one), predicted=False, doubted=one.case.unlike > 0)

    def _may_be_one_of(self, open_tracks: Sequence[Track], one: Followee) -> bool:
        """Whether a face has not been seen well enough to tell it from one out of sight, or mixed up, close by.

        That is so for one that is mixed up itself, and for a new one that bears no name yet.
        """
        mixed_up = one.track.contested and bool(one.case.vectors)
        new = not one.case.is_named and self._clock - one.track.since_clock < _UNTOLD_S
        if not (mixed_up or new):
            return False
        others = [track for track in open_tracks if track.track_id != one.track.track_id]
        return any(within_reach(track, one.track.detection, self._clock) for track in others)

    def _told(self, one: Followee) -> Decision | None:
        """The decision of a track; a name is withheld while it is contested whose face this is, or whose name."""
        decision = one.case.decision
        if decision is None or decision.outcome is not Outcome.MATCH:
            return decision
        return None if one.track.contested or one.track.track_id in self._losers else decision
