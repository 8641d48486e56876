"""One camera's stream: its faces are followed from frame to frame, and embedded only when that tells something new.

``look`` is the expensive part and runs in a worker thread, one look of a stream at a time. What it leaves behind is a
frozen snapshot, from which ``predict`` answers any frame in between at once, on whatever thread.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime

import numpy as np

from facesvc.stream.case import Case, Due, forgotten, same_subject_twice
from facesvc.stream.policy import Capture, Decision, Outcome, Policy, View, decide, named_by
from facesvc.stream.recognizer import Question, Recognizer
from facesvc.stream.tracker import Step, Track, Tracker, resumed, within_reach
from facesvc.vision.appearance import SAME_FACE
from facesvc.vision.detection import Detection, Floats
from facesvc.vision.geometry import Box
from facesvc.vision.pipeline import Face, StageTimes
from facesvc.vision.scene_cut import is_cut, thumbnail

# A face that a look has missed is shown where it should be for so long, unless that is outside of the picture.
_SHOWN_UNSEEN_S = 0.15
# A new face that cannot be told from one that is out of sight is not shown before it is so old.
_UNTOLD_S = 1.0
# Below this share of the threshold a view shows somebody else, and not only another side of the same face.
_CLEARLY_ANOTHER = 0.6
# Nobody is followed beyond so many times the faces that a frame may have: those out of sight count too.
_TRACKS_A_FACE = 2
# Every face before the camera is settled and walks slower than this, in widths of it a second: half the looks do.
_CALM_SPEED = 0.5


@dataclass(frozen=True, slots=True)
class Followed:
    """A face in a frame; ``predicted`` says that the box is where it should be, not where it was seen.

    ``face`` is in pixels of the full picture, without a vector. ``decision`` is the one that holds; None for none.
    ``doubted`` says that the last view of it did not look like the person of the track.
    """

    track: Track
    face: Face
    decision: Decision | None
    predicted: bool
    doubted: bool = False


@dataclass(frozen=True, slots=True)
class Seen:
    """What a frame shows, largest face first; ``embedded`` counts the faces that were embedded for it."""

    width: int
    height: int
    faces: tuple[Followed, ...]
    omitted: int = 0
    minimum_face: float = 0.0
    embedded: int = 0
    predicted: bool = False
    times: StageTimes = field(default_factory=StageTimes)


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
class _Followee:
    track: Track
    case: Case
    face: Face

    def scaled(self, factor: float) -> "_Followee":
        """In a picture that is ``factor`` times as large; the face keeps its quality."""
        face = replace(self.face, detection=self.face.detection.scaled(factor))
        return replace(self, track=self.track.scaled(factor), face=face)


@dataclass(frozen=True, slots=True)
class _State:
    """What a look leaves behind: whom it followed (by track id), what it saw, and when."""

    contract_id: str = ""
    thumbnail: Floats | None = None
    followees: Mapping[str, _Followee] = field(default_factory=dict)
    seen: Seen = field(default_factory=lambda: Seen(0, 0, ()))
    clock: float = 0.0


class Session:
    """The faces before one camera."""

    def __init__(self, question: Question, lost_s: float) -> None:
        """``lost_s`` is how long a face may be out of sight and still be the same when it comes back."""
        self._question = question
        self._lost_s = lost_s
        self._state = _State()

    @property
    def tracks(self) -> int:
        """How many faces are followed, those out of sight included."""
        return len(self._state.followees)

    @property
    def clock(self) -> float:
        """When the last frame was taken that was looked at."""
        return self._state.clock

    @property
    def seen(self) -> Seen:
        """What the last look saw."""
        return self._state.seen

    @property
    def is_calm(self) -> bool:
        """Whether everybody's case is settled, and nobody moves much."""
        return all(
            followed.decision is not None and followed.decision.settled and _speed(followed.track) < _CALM_SPEED
            for followed in self._state.seen.faces
        )

    def look(
        self, recognizer: Recognizer, data: bytes, policy: Policy, capture: Capture, clock: float, pace: Pace
    ) -> Seen:
        """What an encoded frame shows. Raises ``ImageError``; then nothing has changed.

        :param clock: when it was taken, by a clock that only goes forward within this stream.
        """
        question = replace(self._question, policy=policy)
        self._state = _Look(self._state, recognizer, question, self._lost_s, capture, clock, pace).run(data)
        return self._state.seen

    def predict(self, clock: float) -> Seen:
        """What a frame taken at ``clock`` shows as far as the last look tells."""
        state = self._state  # once: a look may end at any moment
        seen, longest = state.seen, min(self._lost_s, max(_SHOWN_UNSEEN_S, clock - state.clock))
        faces = [_moved(followed, clock) for followed in seen.faces if clock - followed.track.seen_clock <= longest]
        return replace(
            seen, faces=tuple(_inside(faces, seen)), embedded=0, omitted=0, predicted=True, times=StageTimes()
        )


class _Look:
    """One look at one frame."""

    def __init__(
        self,
        before: _State,
        recognizer: Recognizer,
        question: Question,
        lost_s: float,
        capture: Capture,
        clock: float,
        pace: Pace,
    ) -> None:
        self._before = before
        self._recognizer = recognizer
        self._tracker = Tracker(
            question.policy.threshold, lost_s, _TRACKS_A_FACE * question.max_faces, recognizer.new_id
        )
        self._pipeline = recognizer.pipeline
        self._question = question
        self._policy = question.policy
        self._capture = capture
        self._clock = clock
        self._pace = pace
        self._times = StageTimes()
        self._begun = recognizer.pipeline.clock()
        # By the place of the detection.
        self._faces: dict[int, Face] = {}
        self._refined: dict[int, Detection] = {}
        self._embedded: dict[int, Floats] = {}

    def run(self, data: bytes) -> _State:
        minimum = self._question.minimum_face
        smallest = replace(minimum, pixels=min(minimum.pixels * self._pace.minimum_face_factor, 4096.0))
        self._scene = self._pipeline.scan(data, smallest, self._question.max_faces, self._times, rough=True)
        small = thumbnail(self._scene.image.pixels)
        self._known = self._carried_over()
        step = self._followed()
        if self._before.thumbnail is not None and is_cut(self._before.thumbnail, small) and not self._go_on(step):
            self._known = {}
            step = self._followed()
        followees = self._decided(self._viewed(step))
        # Faces that turned out to be others' began tracks too: beyond the limit the longest out of sight are given up.
        latest = sorted(followees, key=lambda one: one.track.seen_clock, reverse=True)[: self._tracker.max_tracks]
        by_track = {followee.track.track_id: followee for followee in latest}
        return _State(self._recognizer.contract_id, small, by_track, self._seen(followees), self._clock)

    def _carried_over(self) -> Mapping[str, _Followee]:
        """Who was followed before; without vectors after a change of models, and as large as frames are now."""
        before, image = self._before, self._scene.image
        if before.seen.width not in {0, image.width}:
            factor = image.width / before.seen.width
            followees = {name: one.scaled(factor) for name, one in before.followees.items()}
            before = replace(before, followees=followees)
        if before.contract_id != self._recognizer.contract_id:
            return {name: replace(one, case=forgotten(one.case)) for name, one in before.followees.items()}
        return before.followees

    def _followed(self) -> Step:
        scale = 1 / self._scene.image.scale
        detections = [detection.scaled(scale) for detection in self._scene.detections]
        tracks = [followee.track for followee in self._known.values()]
        moment = Capture(self._capture.time, self._clock)
        return self._tracker.step(tracks, detections, moment, self._likeness)

    def _go_on(self, step: Step) -> bool:
        """Whether most faces of the look before are where they should be: a crowd that walks changes a picture too."""
        before = [one for one in self._known.values() if one.track.seen_clock == self._before.clock]
        numbers = [step.seen.get(one.track.track_id) for one in before]
        going_on = sum(
            number is not None and not _is_exchanged(one.face, self._face(number))
            for one, number in zip(before, numbers, strict=True)
        )
        return going_on > len(before) / 2

    def _likeness(self, track_id: str, number: int) -> float | None:
        followee = self._known.get(track_id)
        if followee is None or not followee.case.vectors or not self._is_fit(number):
            return None
        return followee.case.likeness(self._vector(number))

    def _face(self, number: int) -> Face:
        """A detection with its quality, from its rough landmarks unless somebody wanted to know better."""
        if number not in self._faces:
            detection = self._refined.get(number, self._scene.detections[number])
            self._faces[number] = self._pipeline.face(self._scene, detection, self._times, embed=False)
        return self._faces[number]

    def _is_fit(self, number: int) -> bool:
        """Whether a detection is worth embedding, by its good landmarks where it is so by its rough ones."""
        if self._face(number).quality.score >= self._policy.minimum_quality and number not in self._refined:
            self._refined[number] = self._pipeline.refine(self._scene, self._scene.detections[number], self._times)
            del self._faces[number]
        return self._face(number).quality.score >= self._policy.minimum_quality

    def _vector(self, number: int) -> Floats:
        """Of a detection that is fit."""
        if number not in self._embedded:
            face = self._pipeline.face(self._scene, self._refined[number], self._times, embed=True)
            assert face.vector is not None
            self._embedded[number] = face.vector
        return self._embedded[number]

    def _viewed(self, step: Step) -> dict[str, _Followee]:
        """Everybody who is followed now, with the views that were due."""
        followees, due = {}, []
        for track in step.tracks:
            known = self._known.get(track.track_id)
            case = known.case if known else Case()
            if track.track_id not in step.seen:
                assert known is not None
                followees[track.track_id] = replace(known, track=track)
                continue
            number = step.seen[track.track_id]
            face = self._face(number)
            watched = track.track_id == self._pace.watched
            if known is not None and (watched or _is_exchanged(known.face, face)):
                track = replace(track, contested=True)  # noqa: PLW2901 - what is found out about it
            followees[track.track_id] = _Followee(track, case, face)
            reason = case.due(face.quality, self._policy, self._clock, contested=track.contested)
            if reason is not None:
                due.append((reason, case.next_clock, track.track_id))
        chosen = [name for reason, _, name in sorted(due) if self._affordable(step.seen[name], reason)]
        for _, _, name in due:
            followees[name] = replace(followees[name], face=self._face(step.seen[name]))
        self._view(chosen, step, followees)
        return followees

    def _affordable(self, number: int, reason: Due) -> bool:
        """Embeds a face, unless this look has taken so long that the frame grows old; the rest waits for the next."""
        spent = self._pipeline.clock() - self._begun
        if number not in self._embedded and spent > self._pace.embedding_budget_s and reason is not Due.CONTESTED:
            return False
        if not self._is_fit(number):
            return False
        self._vector(number)
        return True

    def _view(self, names: Sequence[str], step: Step, followees: dict[str, _Followee]) -> None:
        """Adds the views of the named tracks, which may turn out to be of others."""
        started = self._pipeline.clock()
        numbers = [step.seen[name] for name in names]
        vectors = [self._vector(number) for number in numbers]
        found = self._recognizer.search(vectors, self._question)
        self._times.add("search", self._pipeline.clock() - started)
        owners = {number: name for name, number in step.seen.items()}
        for number, vector, candidates in zip(numbers, vectors, found, strict=True):
            view, name = View(self._capture, candidates), owners[number]
            followee = replace(followees[name], face=self._face(number))
            followees[name] = followee
            certain = not followee.track.contested or self._verified(followee, view, vector)
            if followee.case.is_named and certain:
                followees[name] = self._with_view(followee, view, vector, number)
            elif home := self._home_of(followee, view, vector, followees):
                self._without(followee, followees)
                self._vacate(followees[home], step, owners, followees)
                followees[home] = self._resumed(followees[home], followee, view, vector, number)
                owners[number] = home
            elif followee.case.vectors and not certain:
                self._doubt(followee, view, vector, number, followees)
            else:
                followees[name] = self._with_view(followee, view, vector, number)

    def _verified(self, followee: _Followee, view: View, vector: Floats) -> bool:
        like = followee.case.likeness(vector)
        named = bool(named_by(view, self._policy)) and followee.case.speaks_for(view)
        return named or (like is not None and like >= self._policy.threshold)

    def _with_view(self, followee: _Followee, view: View, vector: Floats, number: int) -> _Followee:
        detection = self._scene.detections[number]
        score = self._recognizer.liveness_of(self._scene.image.pixels, detection, self._times)
        case = followee.case.viewed(
            view, vector, score, followee.face.quality, self._policy, self._pace.verify_s, self._clock
        )
        return replace(followee, track=replace(followee.track, contested=False), case=case)

    def _home_of(self, followee: _Followee, view: View, vector: Floats, followees: Mapping[str, _Followee]) -> str:
        """The track that a face belongs to, if it is not its own: of one out of sight, or one that is contested itself.

        Empty where there is none.
        """
        best, home = self._policy.threshold, ""
        for name, other in followees.items():
            open_ = other.track.seen_clock < self._clock or other.track.contested
            if name == followee.track.track_id or not open_ or not self._reaches(other, followee):
                continue
            like = other.case.likeness(vector)
            if like is None:
                continue
            if named_by(view, self._policy) and other.case.is_named and other.case.speaks_for(view):
                like = max(like, self._policy.threshold)
            if like >= best:
                best, home = like, name
        return home

    def _reaches(self, home: _Followee, followee: _Followee) -> bool:
        """Whether a face can have come to where it is from where it was seen for certain."""
        before = self._known.get(home.track.track_id, home).track
        return within_reach(before, followee.track.detection, self._clock)

    def _vacate(self, home: _Followee, step: Step, owners: dict[int, str], followees: dict[str, _Followee]) -> None:
        """The face that a contested track was given in this look, wrongly, begins one of its own."""
        number = step.seen.get(home.track.track_id)
        if number is None or owners[number] != home.track.track_id:
            return
        begun = self._tracker.begin(home.track.detection, Capture(self._capture.time, self._clock))
        followees[begun.track_id] = _Followee(begun, Case(), home.face)
        owners[number] = begun.track_id

    def _resumed(self, home: _Followee, followee: _Followee, view: View, vector: Floats, number: int) -> _Followee:
        track = resumed(home.track, followee.track.detection, self._clock)
        return self._with_view(_Followee(track, home.case, followee.face), view, vector, number)

    def _without(self, followee: _Followee, followees: dict[str, _Followee]) -> None:
        """Takes a face away from a track: that is where it was before this look, or was never there.

        What stands in its place now is somebody else, so it bears no name until it is seen again.
        """
        name = followee.track.track_id
        before = self._known.get(name)
        if before is None:
            del followees[name]
        else:
            track = replace(before.track, contested=True)
            followees[name] = replace(before, track=track, case=replace(before.case, unlike=0))

    def _doubt(
        self, followee: _Followee, view: View, vector: Floats, number: int, followees: dict[str, _Followee]
    ) -> None:
        """A contested face does not look like its track: it is watched, and at last given a track of its own.

        At once where the glance says so too: nobody changes that much from one look to the next.
        """
        case = replace(followee.case, unlike=followee.case.unlike + 1)
        followees[followee.track.track_id] = replace(followee, case=case)
        before = self._known.get(followee.track.track_id)
        exchanged = before is not None and _is_exchanged(before.face, followee.face)
        like = followee.case.likeness(vector) or 0.0
        if not case.is_another and not (exchanged and like < _CLEARLY_ANOTHER * self._policy.threshold):
            return
        self._without(followee, followees)
        begun = self._tracker.begin(followee.track.detection, Capture(self._capture.time, self._clock))
        followees[begun.track_id] = self._with_view(_Followee(begun, Case(), followee.face), view, vector, number)

    def _decided(self, followees: dict[str, _Followee]) -> list[_Followee]:
        """Everybody with the decision that holds now."""
        everybody = list(followees.values())
        seen = [
            place for place, one in enumerate(everybody) if one.track.seen_clock == self._clock and not self._waits(one)
        ]
        started = self._pipeline.clock()
        made = decide(
            [everybody[place].case.evidence(everybody[place].face.quality) for place in seen],
            self._policy,
            self._capture,
            self._recognizer.moment,
            self._recognizer.new_id,
        )
        for place, decision in zip(seen, made, strict=True):
            one = everybody[place]
            everybody[place] = replace(one, case=one.case.concluded(decision, self._clock))
        for loser in same_subject_twice([everybody[place].case for place in seen]):
            one = everybody[seen[loser]]
            everybody[seen[loser]] = replace(one, track=replace(one.track, contested=True))
        self._times.add("search", self._pipeline.clock() - started)
        return everybody

    def _waits(self, one: _Followee) -> bool:
        """Whether a face is fit and was not embedded yet: nothing can be said of it."""
        return not one.case.views and one.face.quality.score >= self._policy.minimum_quality

    def _may_be_one_of(self, hidden: Sequence[Track], one: _Followee) -> bool:
        """Whether a new face has not been seen well enough yet to tell it from one that is out of sight."""
        if one.case.is_named or self._clock - one.track.start.clock >= _UNTOLD_S:
            return False
        return any(within_reach(track, one.track.detection, self._clock) for track in hidden)

    def _seen(self, followees: Sequence[_Followee]) -> Seen:
        image = self._scene.image
        hidden_tracks = [one.track for one in followees if one.track.seen_clock < self._clock]
        faces = [
            Followed(one.track, one.face, _announced(one), predicted=False, doubted=one.case.unlike > 0)
            for one in followees
            if one.track.seen_clock == self._clock and not self._may_be_one_of(hidden_tracks, one)
        ]
        hidden = [
            _moved(Followed(one.track, one.face, _announced(one), predicted=True), self._clock)
            for one in followees
            if 0 < self._clock - one.track.seen_clock <= _SHOWN_UNSEEN_S
        ]
        seen = Seen(
            image.width,
            image.height,
            (),
            self._scene.omitted,
            self._scene.minimum_face,
            len(self._embedded),
            times=self._times,
        )
        faces += _inside(hidden, seen)
        faces.sort(key=lambda followed: followed.face.detection.box.area, reverse=True)
        return replace(seen, faces=tuple(faces))


def _is_exchanged(before: Face, now: Face) -> bool:
    """Whether a track's face looks so different from one look to the next that it may be somebody else's."""
    if before.appearance is None or now.appearance is None:
        return False
    return float(before.appearance @ now.appearance) < SAME_FACE


def _announced(one: _Followee) -> Decision | None:
    """The decision of a track; a name is withheld while it is contested whose face this is."""
    decision = one.case.decision
    if decision is not None and decision.outcome is Outcome.MATCH and one.track.contested:
        return None
    return decision


def _moved(followed: Followed, clock: float) -> Followed:
    """A face where it should be at ``clock``; its landmarks move with the box."""
    track, face = followed.track, followed.face
    expected = track.motion.at(clock).box
    before = track.motion.at(track.seen_clock).box
    right = expected.left + expected.width / 2 - before.left - before.width / 2
    down = expected.top + expected.height / 2 - before.top - before.height / 2
    seen = face.detection
    box = Box(seen.box.left + right, seen.box.top + down, seen.box.width, seen.box.height)
    moved = Detection(box, seen.landmarks + np.array([right, down], np.float32), seen.score)
    decision = followed.decision
    if decision is not None and decision.outcome is Outcome.MATCH and decision.valid_for(clock) <= 0:
        decision = None
    return Followed(track.at(clock), replace(face, detection=moved), decision, predicted=True)


def _inside(faces: Sequence[Followed], seen: Seen) -> list[Followed]:
    """Those whose middle is in the picture."""

    def inside(box: Box) -> bool:
        return 0 <= box.left + box.width / 2 < seen.width and 0 <= box.top + box.height / 2 < seen.height

    return [one for one in faces if inside(one.face.detection.box)]


def _speed(track: Track) -> float:
    """In widths of the face a second."""
    motion = track.motion
    return max(abs(motion.right), abs(motion.down)) / motion.box.width


@dataclass(slots=True)
class FrameClock:
    """Seconds that only go forward within one stream, as even as the camera's own times where these can be followed."""

    _time: datetime | None = None
    _clock: float = 0.0

    # The network delays frames by less, and a camera's clock that runs ahead of or behind ours by more was set.
    LARGEST_DRIFT_S = 2.0

    def of(self, capture_time: datetime, arrival_clock: float) -> float:
        """When a frame was taken, given what its camera says and when it arrived."""
        clock = arrival_clock
        if self._time is not None:
            passed = (capture_time - self._time).total_seconds()
            followed = self._clock + passed
            if passed > 0 and abs(followed - arrival_clock) <= self.LARGEST_DRIFT_S:
                clock = followed
            clock = max(clock, self._clock + 1e-6)
        self._time, self._clock = capture_time, clock
        return clock
