"""Which face of this look is which face of the look before.

Association in two stages, as in ByteTrack (Zhang et al., ByteTrack: Multi-Object Tracking by Associating Every
Detection Box, 2022): the faces that the detector is sure of first, then the rest, which can only go on with a track
and never begins one. A pair is likely by the overlap of the face and the place where the track should be by now, both
grown by a buffer, because a quick face overlaps with nothing (Yang et al., Hard to Track Objects with Irregular Motions
and Similar Appearances? Make It Easier by Buffering the Matching Space, 2023).

Where faces meet, overlap tells little: such pairs are *contested*, and decided by how like the face is to what is known
of the track. So is a face that comes back elsewhere from behind something.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment  # type: ignore[import-untyped]  # scipy has no stubs of its own

from facesvc.stream.motion import Motion
from facesvc.stream.policy import Capture
from facesvc.vision.detection import Detection, Floats
from facesvc.vision.geometry import Box, overlaps

# The detector's score from which on a face may begin a track, and take part in the first stage.
_SURE = 0.6
# Boxes are grown by this share of their sides on each side, by more the longer the track was out of sight.
_BUFFER = 0.3
_BUFFER_A_SECOND = 0.5
_LARGEST_BUFFER = 1.0
# Overlap of the grown boxes from which on a pair is possible.
_POSSIBLE = 0.2
# A pair is contested where another one of the same face or track is at least this share as likely.
_CONTESTED = 0.35
# A track that was out of sight for longer may have been taken up by somebody else.
_OUT_OF_SIGHT_S = 0.25
# How fast a face moves at most, in widths of it a second, to come back from behind something.
_FASTEST = 6.0

Likeness = Callable[[str, int], float | None]
"""How like the face of a track is to a detection (by its place): a cosine, None where it is not known."""


@dataclass(frozen=True, slots=True)
class Track:
    """A face that is followed. ``detection`` is the last one, in pixels of the full picture, at ``seen_clock``.

    ``contested`` says that the last detection may be somebody else's: it has to be verified. ``since_clock`` is when
    it began, was contested, or was found again elsewhere: from there on the place alone says whose face it is.
    """

    track_id: str
    start: Capture
    motion: Motion
    detection: Detection
    seen_clock: float
    since_clock: float
    contested: bool = False

    def scaled(self, factor: float) -> "Track":
        """The same in a picture that is ``factor`` times as large."""
        return replace(self, motion=self.motion.scaled(factor), detection=self.detection.scaled(factor))

    def at(self, clock: float) -> "Track":
        """The track as it should be at ``clock``."""
        return replace(self, motion=self.motion.at(clock))


@dataclass(frozen=True, slots=True)
class Step:
    """What a look did: all ``tracks`` followed now, and which detection (by its place) each of the seen has."""

    tracks: tuple[Track, ...]
    seen: dict[str, int]


@dataclass(frozen=True, slots=True)
class Tracker:
    """Follows faces. ``alike`` is the cosine from which on two views show one person."""

    alike: float
    lost_s: float
    max_tracks: int
    new_id: Callable[[], str]

    def step(
        self, tracks: Sequence[Track], detections: Sequence[Detection], capture: Capture, likeness: Likeness
    ) -> Step:
        """The tracks after a look taken at ``capture`` that found ``detections``."""
        clock = capture.clock
        alive = [track for track in tracks if clock - track.seen_clock <= self.lost_s]
        pairs: dict[int, int] = {}
        contested: set[int] = set()
        sure = [n for n, one in enumerate(detections) if one.score >= _SURE]
        self._by_place(alive, detections, sure, clock, likeness, pairs, contested)
        rest = [n for n in range(len(detections)) if n not in sure]
        self._by_place(alive, detections, rest, clock, likeness, pairs, contested)
        in_place = set(pairs)
        self._by_likeness(alive, detections, [n for n in sure if n not in pairs.values()], clock, likeness, pairs)
        followed, seen = [], {}
        for place, track in enumerate(alive):
            if place in pairs:
                seen[track.track_id] = number = pairs[place]
                if place in in_place:
                    track = _seen(track, detections[number], clock, contested=place in contested)  # noqa: PLW2901 - its new state
                else:
                    track = resumed(track, detections[number], clock)  # noqa: PLW2901 - likewise
            followed.append(track)
        taken = set(pairs.values())
        for number in sure:
            if number not in taken and len(seen) < self.max_tracks:
                begun = self.begin(detections[number], capture)
                followed.append(begun)
                seen[begun.track_id] = number
        # Too many: the longest out of sight are given up.
        followed.sort(key=lambda track: (track.track_id in seen, track.seen_clock), reverse=True)
        return Step(tuple(followed[: self.max_tracks]), seen)

    def begin(self, detection: Detection, capture: Capture) -> Track:
        """A new track."""
        motion = Motion(detection.box, 0.0, 0.0, capture.clock)
        return Track(self.new_id(), capture, motion, detection, capture.clock, capture.clock)

    def _by_place(
        self,
        tracks: Sequence[Track],
        detections: Sequence[Detection],
        numbers: Sequence[int],
        clock: float,
        likeness: Likeness,
        pairs: dict[int, int],
        contested: set[int],
    ) -> None:
        """Adds to ``pairs`` (place of the track, number of the detection) what lies where it should."""
        places = [place for place in range(len(tracks)) if place not in pairs]
        if not places or not numbers:
            return
        unseen = [clock - tracks[place].seen_clock for place in places]
        expected = _grown([tracks[place].motion.at(clock).box for place in places], unseen)
        found = _grown([detections[number].box for number in numbers], [0.0] * len(numbers))
        likely = overlaps(np.concatenate([expected, found]))[: len(places), len(places) :].astype(np.float64)
        likely[likely < _POSSIBLE] = 0
        away = np.array([seconds > _OUT_OF_SIGHT_S for seconds in unseen])
        doubtful = _contested(likely) | ((likely > 0) & away[:, None])
        for row, column in np.argwhere(doubtful):
            like = likeness(tracks[places[row]].track_id, numbers[column])
            if like is not None and like >= self.alike:
                likely[row, column] += 1
                doubtful[row, column] = False
            elif like is not None:
                likely[row, column] *= 0 if away[row] else 0.5
        for row, column in zip(*linear_sum_assignment(-likely), strict=True):
            if likely[row, column] > 0:
                pairs[places[row]] = numbers[column]
                if doubtful[row, column]:
                    contested.add(places[row])

    def _by_likeness(
        self,
        tracks: Sequence[Track],
        detections: Sequence[Detection],
        numbers: Sequence[int],
        clock: float,
        likeness: Likeness,
        pairs: dict[int, int],
    ) -> None:
        """Adds to ``pairs`` the faces that are known from tracks out of sight, within their reach."""
        places = [place for place in range(len(tracks)) if place not in pairs]
        if not places or not numbers:
            return
        like = np.zeros((len(places), len(numbers)))
        for row, place in enumerate(places):
            for column, number in enumerate(numbers):
                if within_reach(tracks[place], detections[number], clock):
                    like[row, column] = likeness(tracks[place].track_id, number) or 0.0
        for row, column in zip(*linear_sum_assignment(-np.maximum(like, 0)), strict=True):
            if like[row, column] >= self.alike:
                pairs[places[row]] = numbers[column]


def _seen(track: Track, detection: Detection, clock: float, *, contested: bool) -> Track:
    contested = contested or track.contested
    return replace(
        track,
        motion=track.motion.seen(detection.box, clock),
        detection=detection,
        seen_clock=clock,
        since_clock=clock if contested else track.since_clock,
        contested=contested,
    )


def _contested(likely: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Which possible pairs have a rival in their row or column."""
    possible = likely > 0
    rivals = np.zeros_like(possible)
    for axis in (0, 1):
        if likely.shape[axis] < 2:
            continue
        second = np.sort(likely, axis=axis).take(-2, axis=axis)
        first = likely.max(axis=axis)
        rivals |= np.expand_dims(second > _CONTESTED * first, axis)
    return possible & rivals


def _grown(boxes: Sequence[Box], unseen: Sequence[float]) -> Floats:
    """(N, 4) left top right bottom, each grown by its buffer."""
    grown = []
    for box, seconds in zip(boxes, unseen, strict=True):
        share = min(_BUFFER + _BUFFER_A_SECOND * max(0.0, seconds - _OUT_OF_SIGHT_S), _LARGEST_BUFFER)
        x, y = share * box.width, share * box.height
        grown.append((box.left - x, box.top - y, box.left + box.width + x, box.top + box.height + y))
    return np.array(grown, np.float32)


def resumed(track: Track, detection: Detection, clock: float) -> Track:
    """A track out of sight whose face was known again, wherever that is."""
    return replace(
        track,
        motion=Motion(detection.box, 0.0, 0.0, clock),
        detection=detection,
        seen_clock=clock,
        since_clock=clock,
        contested=False,
    )


def within_reach(track: Track, detection: Detection, clock: float) -> bool:
    """Whether a face can have come to where the detection is since it was last seen."""
    before, now = track.detection.box, detection.box
    width = max(before.width, now.width)
    away = np.hypot(
        before.left + before.width / 2 - now.left - now.width / 2,
        before.top + before.height / 2 - now.top - now.height / 2,
    )
    return bool(away <= width * (1 + _FASTEST * (clock - track.seen_clock)))
