"""The ways of people through a room: in from a side, to and fro, before and behind each other, and out again."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from facesvc.cli.tracking_pairs import ENOUGH
from facesvc.vision.geometry import Box

Floats = NDArray[np.float64]

# A cut-out is a square of so many face heights with the face in its middle; what of it is opaque is an ellipse, whose
# middle and half axes are in face heights too: hair, face and neck. Its outer fifth is soft.
SPRITE_SIDE = 2.2
_MIDDLE_DOWN, _HALF_WIDTH, _HALF_HEIGHT, _SOFT = 0.1, 0.7, 0.9, 0.2
# Walking, in face heights a second (a head is about 24 cm high: 0.25 to 0.8 m/s), and how long one way is kept.
_SPEEDS, _LEG_S = (1.0, 3.5), (1.5, 4.0)
# Where faces are, as shares of the frame's height; the tilt of heads in degrees; how much they come and go in size.
_BAND, _TILT, _BREATH = (0.14, 0.84), 7.0, 0.06
# People have come in after, and begin to leave from, these shares of the time.
_ALL_IN, _LEAVING = 0.25, (0.75, 0.9)
# Nobody is hidden for longer; ways on which somebody is are looked for anew, so often, looking so often a second.
_HIDDEN_S, _TRIES, _LOOKS_A_SECOND = 1.0, 40, 6
# A face is looked at in so many rows and columns of points to see how much of it is hidden.
_POINTS = 9
# The width of most faces over their height.
_ASPECT = 0.75


@dataclass(frozen=True, slots=True)
class Take:
    """What is filmed: frames a second, how long, and between which heights faces are, in pixels.

    ``walk_in``: people come in and leave; else all are there from the first frame to the last.
    """

    width: int = 1280
    height: int = 720
    fps: float = 30.0
    seconds: float = 20.0
    faces: tuple[float, float] = (64.0, 112.0)
    walk_in: bool = True

    @property
    def frames(self) -> int:
        """How many."""
        return round(self.seconds * self.fps)


@dataclass(frozen=True, slots=True)
class Pose:
    """A head in a frame: the middle of its face and the face's height in pixels, its tilt clockwise in degrees."""

    x: float
    y: float
    height: float
    tilt: float

    def box(self, aspect: float) -> Box:
        """The face's box, for a face of that width over its height."""
        width = aspect * self.height
        return Box(self.x - width / 2, self.y - self.height / 2, width, self.height)

    def within(self, x: Floats, y: Floats) -> tuple[Floats, Floats]:
        """Points of the frame as seen from the face, in face heights."""
        turn = math.radians(self.tilt)
        right, down = (x - self.x) / self.height, (y - self.y) / self.height
        return right * math.cos(turn) + down * math.sin(turn), down * math.cos(turn) - right * math.sin(turn)


@dataclass(frozen=True, slots=True)
class Walk:
    """The way of one person: ``times`` (N,) in seconds, ``places`` (N, 2) in pixels, face ``height``, and a phase."""

    times: Floats
    places: Floats
    height: float
    phase: float

    def poses(self, seconds: Floats) -> list[Pose | None]:
        """Where they are at those times; None before they come and after they went."""
        from scipy.interpolate import PchipInterpolator  # type: ignore[import-untyped]  # noqa: PLC0415 - no types; slow to import

        here = (seconds >= self.times[0]) & (seconds <= self.times[-1])
        way = PchipInterpolator(self.times, self.places)(np.clip(seconds, self.times[0], self.times[-1]))
        tilts = _TILT * np.sin(1.3 * seconds + self.phase)
        heights = self.height * (1 + _BREATH * np.sin(0.9 * seconds + 2 * self.phase))
        return [
            Pose(float(x), float(y), float(height), float(tilt)) if there else None
            for there, (x, y), height, tilt in zip(here, way, heights, tilts, strict=True)
        ]


def opacity(right: Floats, down: Floats) -> Floats:
    """How much of what is behind a cut-out it hides, at points seen from its face in face heights: 0 to 1."""
    distance = np.hypot(right / _HALF_WIDTH, (down - _MIDDLE_DOWN) / _HALF_HEIGHT)
    soft: Floats = np.clip((1 - distance) / _SOFT, 0, 1)
    return soft * soft * (3 - 2 * soft)


def shown_of(x: Floats, y: Floats, nearer: Sequence[Pose]) -> Floats:
    """How much is to be seen of points of the frame through those who are ``nearer``: 0 to 1."""
    shown = np.ones_like(x)
    for pose in nearer:
        shown = shown * (1 - opacity(*pose.within(x, y)))
    return shown


def points_of(box: Box) -> tuple[Floats, Floats]:
    """Points of the ellipse in ``box``, evenly spread: x and y."""
    axis = (np.arange(_POINTS) + 0.5) / _POINTS * 2 - 1
    right, down = (one.ravel() for one in np.meshgrid(axis, axis))
    round_ = right * right + down * down <= 1
    return (
        box.left + box.width * (right[round_] + 1) / 2,
        box.top + box.height * (down[round_] + 1) / 2,
    )


def walks_of(count: int, take: Take, random: np.random.Generator) -> list[Walk]:
    """Ways on which nobody is hidden for long, or those on which the fewest are."""
    heights = random.permutation(np.linspace(*take.faces, count))
    rows = random.permutation(np.linspace(*_BAND, count)) * take.height
    begins = random.permutation(np.linspace(0.02, _ALL_IN, count)) * take.seconds
    walks = [_walk(*one, take, random) for one in zip(heights, rows, begins, strict=True)]
    best, fewest = list(walks), count + 1
    for _ in range(_TRIES):
        hidden = _hidden(walks, take)
        if len(hidden) < fewest:
            best, fewest = list(walks), len(hidden)
        if not hidden:
            break
        for number in hidden:
            walks[number] = _walk(heights[number], random.uniform(*_BAND) * take.height, begins[number], take, random)
    return best


def _hidden(walks: Sequence[Walk], take: Take) -> list[int]:
    """Who is hidden for too long at a stretch."""
    seconds = np.arange(0, take.seconds, 1 / _LOOKS_A_SECOND)
    order = sorted(range(len(walks)), key=lambda number: walks[number].height)
    ways = [(number, walks[number].poses(seconds)) for number in order]
    longest, since = [0] * len(walks), [0] * len(walks)
    for at in range(len(seconds)):
        present = [(number, pose) for number, way in ways if (pose := way[at])]
        for rank, (number, pose) in enumerate(present):
            x, y = points_of(pose.box(_ASPECT))
            hides = [one for _, one in present[rank + 1 :] if abs(one.x - pose.x) < 2 * (one.height + pose.height)]
            since[number] = since[number] + 1 if shown_of(x, y, hides).mean() < ENOUGH else 0
            longest[number] = max(longest[number], since[number])
    return [number for number, looks in enumerate(longest) if looks > _HIDDEN_S * _LOOKS_A_SECOND]


def _walk(height: float, row: float, begin: float, take: Take, random: np.random.Generator) -> Walk:
    """In from a side, to and fro near ``row``, and out at the nearer side from some time on."""
    outside = SPRITE_SIDE / 2 * height
    row = float(np.clip(row, 1.2 * height, take.height - 1.2 * height))
    if take.walk_in:
        leave = random.uniform(*_LEAVING) * take.seconds
        x = -outside if random.random() < 0.5 else take.width + outside
    else:
        begin, leave, x = 0.0, take.seconds, random.uniform(0.1, 0.9) * take.width
    times, places = [begin], [(x, row)]
    # Everybody is all in when they first turn round.
    step = outside + random.uniform(1, 3) * height if take.walk_in else 0.0
    while times[-1] < leave:
        seconds, speed = random.uniform(*_LEG_S), random.uniform(*_SPEEDS) * height
        step = step or speed * seconds
        inward = x < 0 or (x <= take.width and random.random() < 0.5)
        x = float(np.clip(x + (step if inward else -step), height, take.width - height))
        times.append(times[-1] + max(0.3, abs(x - places[-1][0]) / speed))
        places.append((x, row + random.uniform(-0.5, 0.5) * height))
        step = 0.0
    if take.walk_in:
        way_out = -outside if x < take.width / 2 else take.width + outside
        times.append(times[-1] + abs(way_out - x) / (_SPEEDS[1] * height))
        places.append((way_out, row))
    return Walk(np.array(times), np.array(places), height, random.uniform(0, 2 * math.pi))
