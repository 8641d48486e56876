"""Labelled synthetic video: heads that walk through a room, and for every frame who is where and how much of it shows.

Each person is a cut-out of a picture with soft edges. People come in from a side one after the other, wander about,
nearer ones before those further away, and leave. Heads tilt and change their size a little, the light flickers, the
sensor is noisy. All is rendered and encoded beforehand, so that it costs nothing while something is measured; the same
seed gives the same frames.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import simplejpeg
from numpy.typing import NDArray

from facesvc.cli.footage_walks import SPRITE_SIDE, Pose, Take, opacity, points_of, shown_of, walks_of
from facesvc.cli.tracking_pairs import TrueFace
from facesvc.vision.geometry import Box

Pixels = NDArray[np.uint8]
Floats = NDArray[np.float64]

# Larger ones are made so large, in pixels: shrunk by more than a half as they are drawn, details would flicker.
_SPRITE = 280
_NOISE, _NOISE_TILES, _FLICKER, _JPEG_QUALITY = 2.5, 8, 0.03, 80


@dataclass(frozen=True, slots=True)
class Sprite:
    """A head: ``pixels`` (S, S, 3) uint8 RGB with the face in the middle; the face's width over its height."""

    pixels: Pixels
    aspect: float

    @classmethod
    def cut_out(cls, pixels: Pixels, box: Box) -> "Sprite":
        """The head whose face is at ``box`` of a picture; where that ends, its edge goes on."""
        side = SPRITE_SIDE * box.height
        left, top = box.left + box.width / 2 - side / 2, box.top + box.height / 2 - side / 2
        shift = np.array([[1, 0, -left], [0, 1, -top]], np.float64)
        size = (round(side), round(side))
        cut = cv2.warpAffine(pixels, shift, size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        if side > _SPRITE:
            cut = cv2.resize(cut, (_SPRITE, _SPRITE), interpolation=cv2.INTER_AREA)
        return cls(np.asarray(cut, np.uint8), box.width / box.height)


@dataclass(frozen=True, slots=True)
class Actor:
    """Somebody in the video."""

    person: str
    sprite: Sprite


@dataclass(frozen=True, slots=True)
class Footage:
    """JPEG files, and who is where in each of them; who is out of the frame is not listed."""

    take: Take
    frames: tuple[bytes, ...]
    truth: tuple[tuple[TrueFace, ...], ...]

    def then(self, other: "Footage") -> "Footage":
        """This, a cut, and another scene."""
        return Footage(self.take, self.frames + other.frames, self.truth + other.truth)


def film(actors: Sequence[Actor], take: Take, seed: int) -> Footage:
    """The video of all ``actors``; nobody is an empty room."""
    random = np.random.default_rng(seed)
    walks = walks_of(len(actors), take, random)
    seconds = np.arange(take.frames) / take.fps
    order = sorted(range(len(actors)), key=lambda number: walks[number].height)
    poses = [walks[number].poses(seconds) for number in order]
    cast = [actors[number] for number in order]
    room = _Room(take, random)
    frames, truth = [], []
    for number in range(take.frames):
        present = [(actor, pose) for actor, way in zip(cast, poses, strict=True) if (pose := way[number])]
        frames.append(room.shoot(number, present))
        truth.append(_truth(take, present))
    return Footage(take, tuple(frames), tuple(truth))


class _Room:
    """A quiet wall and a camera before it."""

    def __init__(self, take: Take, random: np.random.Generator) -> None:
        size = (take.height, take.width)
        coarse = (random.uniform(90, 140, (6, 10, 1)) + random.uniform(-8, 8, (6, 10, 3))).astype(np.float32)
        wall = cv2.resize(coarse, size[::-1], interpolation=cv2.INTER_CUBIC)
        self._wall = np.clip(wall, 0, 255).astype(np.uint8)
        self._noise = [np.rint(random.normal(0, _NOISE, (*size, 3))).astype(np.int16) for _ in range(_NOISE_TILES)]
        self._take = take

    def shoot(self, number: int, present: Sequence[tuple[Actor, Pose]]) -> bytes:
        """A frame as JPEG, of those who are ``present``, the furthest first."""
        frame = self._wall.copy()
        for actor, pose in present:
            _paste(frame, actor.sprite, pose)
        at = number / self._take.fps
        light = 1 + _FLICKER * math.sin(2 * math.pi * 0.4 * at) + _FLICKER / 3 * math.sin(2 * math.pi * 9.7 * at)
        lit = cv2.convertScaleAbs(frame, alpha=light)
        seen = cv2.add(lit, self._noise[number * 5 % _NOISE_TILES], dtype=cv2.CV_8U)
        encoded: bytes = simplejpeg.encode_jpeg(np.asarray(seen), quality=_JPEG_QUALITY, colorspace="RGB")
        return encoded


def _paste(frame: Pixels, sprite: Sprite, pose: Pose) -> None:
    """Draw a head into (H, W, 3) uint8 RGB."""
    reach = math.ceil(SPRITE_SIDE / 2 * 1.2 * pose.height)
    left, top = max(0, int(pose.x) - reach), max(0, int(pose.y) - reach)
    part = frame[top : max(0, int(pose.y) + reach), left : max(0, int(pose.x) + reach)]
    if 0 in part.shape:
        return
    side = sprite.pixels.shape[0]
    matrix = cv2.getRotationMatrix2D((side / 2, side / 2), -pose.tilt, SPRITE_SIDE * pose.height / side)
    matrix[:, 2] += (pose.x - left - side / 2, pose.y - top - side / 2)
    size = (part.shape[1], part.shape[0])
    head = cv2.warpAffine(sprite.pixels, matrix, size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    rows, columns = np.mgrid[top : top + size[1], left : left + size[0]].astype(np.float64)
    share = opacity(*pose.within(columns, rows))[..., None].astype(np.float32)
    part[:] = np.rint(part + (head.astype(np.float32) - part) * share).astype(np.uint8)


def _truth(take: Take, present: Sequence[tuple[Actor, Pose]]) -> tuple[TrueFace, ...]:
    """Who of those ``present``, the furthest first, has a part of the face in the frame."""
    faces = []
    for rank, (actor, pose) in enumerate(present):
        box = pose.box(actor.sprite.aspect)
        x, y = points_of(box)
        inside = ((x >= 0) & (x < take.width) & (y >= 0) & (y < take.height)).astype(np.float64)
        shown = inside * shown_of(x, y, [nearer for _, nearer in present[rank + 1 :]])
        if inside.any():
            faces.append(TrueFace(actor.person, box, float(inside.mean()), float(shown.mean())))
    return tuple(faces)
