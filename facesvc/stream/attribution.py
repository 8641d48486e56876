"""Whose face is it? A track is a guess by place; a view of the face says whether the guess was right.

A view is added to the first of these that fits:

- its track, where that is named and not contested, or where the view looks like it;
- another track that is out of sight or contested, and that the view looks like: the face came back, or two faces were
  mixed up where they met;
- nobody yet, where the track is contested and the view does not look like it: the name is withheld. After a few such
  views, or at once where the glance changed too, the face gets a track of its own;
- its track, which is new, or unnamed so far.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from facesvc.stream.case import Case
from facesvc.stream.look_faces import LookFaces
from facesvc.stream.policy import Capture, Policy, View, named_by
from facesvc.stream.tracker import Step, Track, Tracker, resumed, within_reach
from facesvc.vision.appearance import SAME_FACE
from facesvc.vision.detection import Floats
from facesvc.vision.pipeline import Face

# Below this share of the threshold a view shows somebody else, and not only another side of the same face.
_CLEARLY_ANOTHER = 0.6


@dataclass(frozen=True, slots=True)
class Followee:
    """A track, what is known of its face, and the face as it was seen last."""

    track: Track
    case: Case
    face: Face

    def scaled(self, factor: float) -> "Followee":
        """In a picture that is ``factor`` times as large; the face keeps its quality."""
        face = replace(self.face, detection=self.face.detection.scaled(factor))
        return replace(self, track=self.track.scaled(factor), face=face)

    def looks_exchanged(self, now: Face) -> bool:
        """Whether its face looks so different at a glance from ``now`` that this may be somebody else's."""
        before = self.face.appearance
        if before is None or now.appearance is None:
            return False
        return float(before @ now.appearance) < SAME_FACE


@dataclass(frozen=True, slots=True)
class Judgement:
    """By what views are judged.

    ``verify_s`` are the seconds between two views of a named face, ``liveness`` scores a detection (by its place), and
    the track ``watched`` is verified by every view.
    """

    policy: Policy
    verify_s: float
    liveness: Callable[[int], float | None]
    watched: str = ""


class Attribution:
    """Who is followed after a look, while its views come in. For one thread."""

    def __init__(
        self,
        known: Mapping[str, Followee],
        step: Step,
        faces: LookFaces,
        tracker: Tracker,
        moment: Capture,
        judgement: Judgement,
    ) -> None:
        """``known`` are those of the look before, ``step`` where they are now; ``moment`` is by the stream's clock."""
        self._known = known
        self._faces = faces
        self._tracker = tracker
        self._moment = moment
        self._judgement = judgement
        self.owners = {number: name for name, number in step.seen.items()}
        """The track of each detection."""
        self.followees: dict[str, Followee] = {}
        """By the id of the track."""
        for track in step.tracks:
            self.followees[track.track_id] = self._followee(track, step.seen.get(track.track_id))

    def _followee(self, track: Track, number: int | None) -> Followee:
        known = self._known.get(track.track_id)
        if number is None:
            assert known is not None
            return replace(known, track=track)
        face = self._faces.face(number)
        watched = track.track_id == self._judgement.watched
        if known is not None and (watched or known.looks_exchanged(face)):
            track = replace(track, contested=True)
        return Followee(track, known.case if known else Case(), face)

    def refresh(self, number: int) -> None:
        """Take over the face of a detection that was looked at more closely."""
        name = self.owners[number]
        self.followees[name] = replace(self.followees[name], face=self._faces.face(number))

    def add(self, number: int, view: View) -> None:
        """A view of a detection: to whom it belongs."""
        followee, vector = self.followees[self.owners[number]], self._faces.vector(number)
        certain = not followee.track.contested or self._is_verified(followee.case, view, vector)
        if followee.case.is_named and certain:
            self._add_to(followee, number, view)
        elif home := self._home_of(followee, view, vector):
            self._move(number, home, view)
        elif followee.case.vectors and not certain:
            self._doubt(followee, number, view)
        else:
            self._add_to(followee, number, view)

    def _is_verified(self, case: Case, view: View, vector: Floats) -> bool:
        """Whether a view is of the face that the case is about: like its last views, and like the person it names.

        Either alone is not enough below the threshold of a name: half hidden by the same head, two faces are alike.
        """
        policy = self._judgement.policy
        if case.is_named and not case.speaks_for(view):
            return False
        like = case.likeness(vector)
        return bool(named_by(view, policy)) or (like is not None and like >= policy.threshold)

    def _add_to(self, followee: Followee, number: int, view: View) -> None:
        judgement = self._judgement
        case = followee.case.unproven() if followee.track.contested else followee.case
        case = case.viewed(
            view,
            self._faces.vector(number),
            judgement.liveness(number),
            followee.face.quality,
            judgement.policy,
            judgement.verify_s,
            self._moment.clock,
        )
        track = replace(followee.track, contested=False)
        self.followees[track.track_id] = replace(followee, track=track, case=case)
        self.owners[number] = track.track_id

    def _home_of(self, followee: Followee, view: View, vector: Floats) -> Followee | None:
        """Whose the face is, if it is not its track's: somebody out of sight, or whose track is contested itself."""
        policy = self._judgement.policy
        best, home = max(policy.threshold, followee.case.likeness(vector) or 0.0), None
        for other in self.followees.values():
            is_open = other.track.seen_clock < self._moment.clock or other.track.contested
            if other is followee or not is_open or not self._reaches(other, followee):
                continue
            like = other.case.likeness(vector)
            if like is None or (other.case.is_named and not other.case.speaks_for(view)):
                continue
            if other.case.is_named and named_by(view, policy):
                return other
            if like >= best:
                best, home = like, other
        return home

    def _reaches(self, home: Followee, followee: Followee) -> bool:
        """Whether a face can have come to where it is from where it was seen for certain."""
        before = self._known.get(home.track.track_id, home).track
        return within_reach(before, followee.track.detection, self._moment.clock)

    def _move(self, number: int, home: Followee, view: View) -> None:
        """Gives a face to the track that it belongs to; one that this was given wrongly begins a track of its own."""
        followee = self.followees[self.owners[number]]
        self._take_from(followee)
        wrong = next((one for one, name in self.owners.items() if name == home.track.track_id), None)
        if wrong is not None:
            begun = Followee(self._tracker.begin(home.track.detection, self._moment), Case(), home.face)
            self.followees[begun.track.track_id] = begun
            self.owners[wrong] = begun.track.track_id
        track = resumed(home.track, followee.track.detection, self._moment.clock)
        self._add_to(Followee(track, home.case.unproven(), followee.face), number, view)

    def _take_from(self, followee: Followee) -> None:
        """Takes a face away from a track: that is where it was before this look, or was never there.

        What stands in its place now is somebody else, so it bears no name until it is seen again.
        """
        name = followee.track.track_id
        before = self._known.get(name)
        if before is None:
            del self.followees[name]
        else:
            track = replace(before.track, contested=True)
            self.followees[name] = replace(before, track=track, case=replace(before.case, unlike=0))

    def _doubt(self, followee: Followee, number: int, view: View) -> None:
        """A contested face does not look like its track: it is watched, and at last given a track of its own.

        At once where the glance says so too: nobody changes that much from one look to the next.
        """
        case = replace(followee.case, unlike=followee.case.unlike + 1)
        before = self._known.get(followee.track.track_id)
        exchanged = before is not None and before.looks_exchanged(followee.face)
        like = case.likeness(self._faces.vector(number)) or 0.0
        if not case.is_another and not (exchanged and like < _CLEARLY_ANOTHER * self._judgement.policy.threshold):
            self.followees[followee.track.track_id] = replace(followee, case=case)
            return
        self._take_from(followee)
        begun = self._tracker.begin(followee.track.detection, self._moment)
        self._add_to(Followee(begun, Case(), followee.face), number, view)
