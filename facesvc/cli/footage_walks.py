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
# People come in and begin to leave within these shares of the time, but within so many seconds of its ends.
_COMING, _COMING_S, _GOING, _GOING_S = 0.25, 6.0, 0.2, 4.0
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
    begins = random.permutation(np.linspace(0, min(_COMING * take.seconds, _COMING_S), count))
    walkers = [_Walker(*one, take, random) for one in zip(heights, rows, begins, strict=True)]
    walks = [walker.begin() for walker in walkers]
    best, fewest = list(walks), count + 1
    for _ in range(_TRIES):
        hidden = _hidden(walks, take)
        if len(hidden) < fewest:
            best, fewest = list(walks), len(hidden)
        if not hidden:
            break
        for number, since in hidden.items():
            walks[number] = walkers[number].turn(walks[number], since - _LEG_S[1] / 2)
    return best


def _hidden(walks: Sequence[Walk], take: Take) -> dict[int, float]:
    """Who is hidden for too long at a stretch, by their number, and when that begins for the first time."""
    seconds = np.arange(0, take.seconds, 1 / _LOOKS_A_SECOND)
    order = sorted(range(len(walks)), key=lambda number: walks[number].height)
    ways = [(number, walks[number].poses(seconds)) for number in order]
    since, found = [0] * len(walks), dict[int, float]()
    for at in range(len(seconds)):
        present = [(number, pose) for number, way in ways if (pose := way[at])]
        for rank, (number, pose) in enumerate(present):
            x, y = points_of(pose.box(_ASPECT))
            hides = [one for _, one in present[rank + 1 :] if abs(one.x - pose.x) < one.height + pose.height]
            since[number] = since[number] + 1 if shown_of(x, y, hides).mean() < ENOUGH else 0
            if since[number] > _HIDDEN_S * _LOOKS_A_SECOND:
                found.setdefault(number, float(seconds[at]) - _HIDDEN_S)
    return found


class _Walker:
    """Somebody with a face of that height who comes in ``begin`` seconds after the beginning and keeps near ``row``."""

    def __init__(self, height: float, row: float, begin: float, take: Take, random: np.random.Generator) -> None:
        self._height, self._begin, self._take, self._random = height, begin, take, random
        self._row = float(np.clip(row, 1.2 * height, take.height - 1.2 * height))
        self._outside = SPRITE_SIDE / 2 * height
        self._leave = take.seconds - min(_GOING * take.seconds, _GOING_S) * random.uniform(0.5, 1.5)
        self._phase = random.uniform(0, 2 * math.pi)

    def begin(self) -> Walk:
        """In from a side, or anywhere from the first moment on; then to and fro, and out."""
        random, take = self._random, self._take
        if not take.walk_in:
            return self._go_on([0.0], [(random.uniform(0.1, 0.9) * take.width, self._row)])
        left = random.random() < 0.5
        # Everybody is all in when they first turn round.
        step = 2 * self._outside + random.uniform(0.5, 3) * self._height
        speed = random.uniform(*_SPEEDS) * self._height
        outside, inside = (-self._outside, step) if left else (take.width + self._outside, take.width - step)
        places = [(outside, self._row), (inside, self._row)]
        return self._go_on([self._begin, self._begin + step / speed], places)

    def turn(self, walk: Walk, at: float) -> Walk:
        """The same way until shortly before then, and another one after that."""
        kept = int(np.searchsorted(walk.times, at))
        if kept < 2:
            return self.begin()
        return self._go_on(walk.times[:kept].tolist(), [(float(x), float(y)) for x, y in walk.places[:kept]])

    def _go_on(self, times: list[float], places: list[tuple[float, float]]) -> Walk:
        """To and fro near the row, and out at the nearer side from some time on."""
        random, take, height = self._random, self._take, self._height
        while times[-1] < (self._leave if take.walk_in else take.seconds):
            before = places[-1][0]
            seconds, speed = random.uniform(*_LEG_S), random.uniform(*_SPEEDS) * height
            step = speed * seconds * random.choice((-1, 1))
            x = float(np.clip(before + step, height, take.width - height))
            times.append(times[-1] + max(0.3, abs(x - before) / speed))
            places.append((x, self._row + random.uniform(-0.5, 0.5) * height))
        if take.walk_in:
            x = places[-1][0]
            way_out = -self._outside if x < take.width / 2 else take.width + self._outside
            times.append(times[-1] + abs(way_out - x) / (_SPEEDS[1] * height))
            places.append((way_out, self._row))
        return Walk(np.array(times), np.array(places), height, self._phase)
