"""What a frame shows, as it is told: faces with their tracks and decisions, seen or predicted."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from facesvc.stream.policy import Decision
from facesvc.stream.tracker import Track
from facesvc.vision.detection import Detection
from facesvc.vision.geometry import Box
from facesvc.vision.pipeline import Face, StageTimes


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

    @property
    def speed(self) -> float:
        """In widths of the face a second."""
        motion = self.track.motion
        return max(abs(motion.right), abs(motion.down)) / motion.box.width

    def at(self, clock: float) -> "Followed":
        """Where the face should be at ``clock``; its landmarks move with the box.

        A name does not outlive its decision's life without a look, though ``valid_for`` says so too.
        """
        expected = self.track.motion.at(clock).box
        before = self.track.motion.at(self.track.seen_clock).box
        right = expected.left + expected.width / 2 - before.left - before.width / 2
        down = expected.top + expected.height / 2 - before.top - before.height / 2
        seen = self.face.detection
        box = Box(seen.box.left + right, seen.box.top + down, seen.box.width, seen.box.height)
        moved = Detection(box, seen.landmarks + np.array([right, down], np.float32), seen.score)
        face, decision = replace(self.face, detection=moved), self.decision
        if decision is not None and clock - self.track.seen_clock >= decision.policy.lifetime.total_seconds():
            decision = None
        return replace(self, track=self.track.at(clock), face=face, decision=decision, predicted=True)


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


def inside(faces: Sequence[Followed], width: int, height: int) -> list[Followed]:
    """Those whose middle is in a picture of that size."""

    def is_inside(box: Box) -> bool:
        return 0 <= box.left + box.width / 2 < width and 0 <= box.top + box.height / 2 < height

    return [one for one in faces if is_inside(one.face.detection.box)]
