"""How well faces were followed and named, where it is known who was where: values in, figures out.

Tracks are scored twice, as is customary. *Identity* (Ristani, Solera, Zou, Cucchiara, Tomasi: Performance Measures and
a Data Set for Multi-Target, Multi-Camera Tracking, 2016) gives each person the one track that fits best over the whole
video and counts the frames in which the two agree. *CLEAR MOT* (Bernardin, Stiefelhagen: Evaluating Multiple Object
Tracking Performance: The CLEAR MOT Metrics, 2008) goes from frame to frame, keeps a pairing for as long as it holds,
and counts how often a person's track becomes another one.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np

from facesvc.cli.tracking_pairs import ENOUGH, Answer, Frame, TrueFace, assigned, frames_of, overlap, pairings
from facesvc.vision.geometry import Box


@dataclass(frozen=True, slots=True)
class Tracks:
    """Scores of tracks over all frames that were answered.

    ``switches`` are the frames in which a person's track became another one, with the person; ``fragments`` is a count.
    """

    idf1: float
    idp: float
    idr: float
    recall: float
    precision: float
    switches: tuple[tuple[int, str], ...]
    fragments: int


@dataclass(frozen=True, slots=True)
class Names:
    """Scores of names, face by face and frame by frame, and the distinct errors as (person, name given).

    A name is wrong where it is given to a face that was seen and is somebody else's, or nobody's. That a box is not on
    its bearer's face, because it was predicted or does not fit, is a matter of boxes: these are ``adrift``, a share of
    all that are named.
    """

    precision: float
    recall: float
    adrift: float
    wrong_frames: int
    wrong: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Naming:
    """Seconds from coming into view to being named rightly, of ``named`` people; ``never`` lists the others."""

    named: int
    never: tuple[str, ...]
    p50_s: float
    p99_s: float
    longest_s: float


@dataclass(frozen=True, slots=True)
class Happening:
    """Something of a ``kind`` that happened, or should have, to a person, ``at_s`` seconds into the video."""

    kind: str
    person: str
    at_s: float


@dataclass(frozen=True, slots=True)
class Events:
    """Scores of events, and what was missing and what was too much."""

    precision: float
    recall: float
    missing: tuple[Happening, ...]
    extra: tuple[Happening, ...]


def tracks(truth: Sequence[Sequence[TrueFace]], answers: Iterable[Answer]) -> Tracks:
    """``truth`` has a list of faces for each frame; ``answers`` are in the order of the frames."""
    kept = list(answers)
    frames = list(frames_of(truth, kept))
    faces, found = sum(len(one.faces) for one in frames), sum(len(one.found) for one in frames)
    agreeing = _agreeing(frames)
    paired, fragments = 0, 0
    switches: list[tuple[int, str]] = []
    last: dict[str, str] = {}
    broken: set[str] = set()
    for answer, frame, pairs in zip(kept, frames, pairings(frames), strict=True):
        paired += len(pairs)
        held = {frame.faces[i].person: frame.found[j].track_id for i, j in pairs}
        switches += [(answer.frame, person) for person, track in held.items() if last.get(person, track) != track]
        fragments += len(broken & held.keys())
        broken = (broken | {face.person for face in frame.faces if face.person in last}) - held.keys()
        last |= held
    return Tracks(
        idf1=_share(2 * agreeing, faces + found),
        idp=_share(agreeing, found),
        idr=_share(agreeing, faces),
        recall=_share(paired, faces),
        precision=_share(paired, found),
        switches=tuple(switches),
        fragments=fragments,
    )


def names(truth: Sequence[Sequence[TrueFace]], answers: Iterable[Answer], enrolled: frozenset[str]) -> Names:
    """Whether faces bear the right name; ``enrolled`` are the people who have one."""
    kept = list(answers)
    frames = list(frames_of(truth, kept))
    right, adrift, wrong = 0, 0, Counter[tuple[str, str]]()
    for answer, frame, pairs in zip(kept, frames, pairings(frames), strict=True):
        whose = {j: frame.faces[i].person for i, j in pairs}
        places = {face.person: face.box for face in truth[answer.frame]}
        for j, one in enumerate(frame.found):
            if not one.name:
                continue
            if whose.get(j) == one.name:
                right += 1
            elif one.predicted or (j not in whose and _touch(one.box, places.get(one.name))):
                adrift += 1
            else:
                wrong[whose.get(j, "nobody"), one.name] += 1
    to_name = sum(face.person in enrolled for frame in frames for face in frame.faces)
    named = right + adrift + wrong.total()
    return Names(
        _share(right, right + wrong.total()),
        _share(right, to_name),
        adrift / named if named else 0.0,
        wrong.total(),
        tuple(sorted(wrong)),
    )


def naming(
    truth: Sequence[Sequence[TrueFace]], answers: Iterable[Answer], enrolled: frozenset[str], fps: float
) -> Naming:
    """From the frame in which half of a face is to be seen for the first time to when its right name was there.

    Somebody who goes and comes back counts once: the first time is the hard one.
    """
    entered: dict[str, int] = {}
    for number, faces in enumerate(truth):
        for face in faces:
            if face.counts and face.person in enrolled:
                entered.setdefault(face.person, number)
    took: dict[str, float] = {}
    kept = list(answers)
    frames = list(frames_of(truth, kept))
    for answer, frame, pairs in zip(kept, frames, pairings(frames), strict=True):
        for i, j in pairs:
            person = frame.faces[i].person
            if frame.found[j].name == person and person in entered:
                took.setdefault(person, (answer.frame - entered[person]) / fps + answer.age_s)
    times = sorted(took.values()) or [float("nan")]
    p50, p99 = np.percentile(times, (50, 99))
    return Naming(len(took), tuple(sorted(entered.keys() - took.keys())), float(p50), float(p99), times[-1])


def events(expected: Sequence[Happening], got: Sequence[Happening], tolerance_s: float) -> Events:
    """Each that was expected is paired with the one of its kind and person that is nearest in time, within reason."""
    by_kind: dict[tuple[str, str], list[Happening]] = defaultdict(list)
    for one in sorted(got, key=lambda one: one.at_s):
        by_kind[one.kind, one.person].append(one)
    missing = []
    for wanted in expected:
        candidates = by_kind[wanted.kind, wanted.person]
        nearest = min(candidates, key=lambda one: abs(one.at_s - wanted.at_s), default=None)
        if nearest is None or abs(nearest.at_s - wanted.at_s) > tolerance_s:
            missing.append(wanted)
        else:
            candidates.remove(nearest)
    extra = tuple(one for candidates in by_kind.values() for one in candidates)
    matched = len(expected) - len(missing)
    return Events(_share(matched, len(got)), _share(matched, len(expected)), tuple(missing), extra)


def _touch(first: Box, second: Box | None) -> bool:
    return second is not None and overlap(first, second) > 0


def _agreeing(frames: Iterable[Frame]) -> int:
    """Identity true positives: frames in which people and the tracks that fit them best agree."""
    counts = Counter[tuple[str, str]]()
    for frame in frames:
        for i, j in zip(*np.nonzero(frame.shared >= ENOUGH), strict=True):
            counts[frame.faces[i].person, frame.found[j].track_id] += 1
    people, ids = _Numbers(), _Numbers()
    numbered = [(people[person], ids[track], count) for (person, track), count in counts.items()]
    together = np.zeros((len(people.known), len(ids.known)), np.int64)
    for i, j, count in numbered:
        together[i, j] = count
    return int(sum(together[i, j] for i, j in assigned(together)))


@dataclass(slots=True)
class _Numbers:
    """Numbers for names, from 0."""

    known: dict[str, int] = field(default_factory=dict)

    def __getitem__(self, name: str) -> int:
        return self.known.setdefault(name, len(self.known))


def _share(part: float, whole: float) -> float:
    """1 of nothing: nothing is wrong with it."""
    return part / whole if whole else 1.0
