"""Which box of an answer stands for which face, where it is known who was where.

A box stands for a face where the two overlap by half (intersection over union). Nobody has to see a face of which less
than half is to be seen: it may be found or not, as in the MOT challenges.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from facesvc.vision.geometry import Box

ENOUGH = 0.5
"""The overlap that makes a box a face's, and the share of a face that has to be visible before it counts."""


@dataclass(frozen=True, slots=True)
class TrueFace:
    """A face that is there: whose, where, and the shares of it that are inside the frame and that are to be seen."""

    person: str
    box: Box
    inside: float
    visible: float

    @property
    def counts(self) -> bool:
        """Whether enough is to be seen that it has to be found."""
        return self.visible >= ENOUGH


@dataclass(frozen=True, slots=True)
class FoundFace:
    """A face in an answer; ``name`` is the person's id, empty where none was given.

    ``predicted``: it was not seen in that frame, this is where it should be.
    """

    track_id: str
    name: str
    box: Box
    predicted: bool = False


@dataclass(frozen=True, slots=True)
class Answer:
    """What was said of the frame with that number, ``age_s`` seconds after it was taken."""

    frame: int
    faces: tuple[FoundFace, ...]
    age_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Frame:
    """A frame with an answer, less what need not be seen."""

    faces: tuple[TrueFace, ...]
    found: tuple[FoundFace, ...]
    shared: NDArray[np.float64]


def overlap(first: Box, second: Box) -> float:
    """Intersection over union, 0 to 1."""
    width = min(first.left + first.width, second.left + second.width) - max(first.left, second.left)
    height = min(first.top + first.height, second.top + second.height) - max(first.top, second.top)
    shared = max(0.0, width) * max(0.0, height)
    return shared / (first.area + second.area - shared)


def frames_of(truth: Sequence[Sequence[TrueFace]], answers: Iterable[Answer]) -> Iterator[Frame]:
    """The frames that were answered, without faces that need not be seen and what was found of them."""
    for answer in answers:
        faces = truth[answer.frame]
        shared = _overlaps(faces, answer.faces)
        needless = {j for i, j in _best(shared) if not faces[i].counts}
        kept = [j for j in range(len(answer.faces)) if j not in needless]
        wanted = [i for i, face in enumerate(faces) if face.counts]
        yield Frame(tuple(faces[i] for i in wanted), tuple(answer.faces[j] for j in kept), shared[np.ix_(wanted, kept)])


def _overlaps(faces: Sequence[TrueFace], found: Sequence[FoundFace]) -> NDArray[np.float64]:
    shared = [[overlap(face.box, one.box) for one in found] for face in faces]
    return np.array(shared, np.float64).reshape(len(faces), len(found))


def _best(shared: NDArray[np.float64]) -> list[tuple[int, int]]:
    """Pairs of row and column that overlap enough: as many as possible, and of those the best together."""
    possible = shared >= ENOUGH
    return [(i, j) for i, j in assigned(np.where(possible, 1 + shared, 0)) if possible[i, j]]


def assigned(worth: NDArray[Any]) -> list[tuple[int, int]]:
    """The pairs of row and column that are worth most together."""
    from scipy.optimize import linear_sum_assignment  # type: ignore[import-untyped]  # noqa: PLC0415 - no types; slow to import

    rows, columns = linear_sum_assignment(worth, maximize=True)
    return list(zip(rows.tolist(), columns.tolist(), strict=True))


def pairings(frames: Iterable[Frame]) -> Iterator[list[tuple[int, int]]]:
    """CLEAR MOT: a pairing of the frame before stays where it still holds; the rest is paired anew."""
    before: dict[str, str] = {}
    for frame in frames:
        tracked = {one.track_id: j for j, one in enumerate(frame.found)}
        kept = [
            (i, j)
            for i, face in enumerate(frame.faces)
            if (j := tracked.get(before.get(face.person, ""), -1)) >= 0 and frame.shared[i, j] >= ENOUGH
        ]
        rest = frame.shared.copy()
        for i, j in kept:
            rest[i, :] = rest[:, j] = 0
        pairs = kept + _best(rest)
        held = {frame.faces[i].person: frame.found[j].track_id for i, j in pairs}
        # Somebody who is hidden keeps the track that they had, until somebody else has it.
        before = {person: track for person, track in before.items() if track not in held.values()} | held
        yield pairs
