"""The demo's camera: it pans, zooms, turns and blurs over still pictures, and knows who stands where in each frame.

No frame holds pixels as they were enrolled: every one is resampled, relit, blurred and noisy, some are mirrored.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import simplejpeg
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]
Matrix = NDArray[np.float64]

_JPEG_QUALITY = 85
_BACKGROUND = (40, 42, 46)
_NOISE_TILES = 4


@dataclass(frozen=True, slots=True)
class Person:
    """Somebody in a picture, at (x, y) in its pixels; a stranger has no ``subject_id``."""

    subject_id: str | None
    x: float
    y: float


@dataclass(frozen=True, slots=True)
class Scene:
    """A picture (H, W, 3) uint8 RGB that the camera moves over for ``frames`` frames, at a zoom within ``zooms``."""

    pixels: Pixels
    people: tuple[Person, ...]
    frames: int
    zooms: tuple[float, float]
    mirrored: bool = False


@dataclass(frozen=True, slots=True)
class Shot:
    """A frame as JPEG, and where each person of its scene stands in it, in pixels of the frame."""

    frame_id: int
    jpeg: bytes
    people: tuple[Person, ...]


def film(scenes: Sequence[Scene], width: int, height: int, seed: int) -> Iterator[Shot]:
    """All scenes, one after the other; the same ``seed`` gives the same frames."""
    random = np.random.default_rng(seed)
    noise = [random.normal(0, 1, (height, width, 3)).astype(np.float32) for _ in range(_NOISE_TILES)]
    frame_id = 0
    for scene in scenes:
        for step in range(scene.frames):
            matrix = _camera(scene, step / max(1, scene.frames - 1), width, height)
            pixels = _look(scene.pixels, matrix, width, height, noise[frame_id % _NOISE_TILES], frame_id)
            jpeg = simplejpeg.encode_jpeg(pixels, quality=_JPEG_QUALITY, colorspace="RGB")
            yield Shot(frame_id, jpeg, tuple(_placed(person, matrix) for person in scene.people))
            frame_id += 1


def _camera(scene: Scene, progress: float, width: int, height: int) -> Matrix:
    """The (2, 3) transform from the picture to the frame at ``progress``, 0 to 1."""
    picture_height, picture_width = scene.pixels.shape[:2]
    wave = math.sin(2 * math.pi * progress)
    zoom = scene.zooms[0] + (scene.zooms[1] - scene.zooms[0]) * (0.5 - 0.5 * math.cos(4 * math.pi * progress))
    # How far the view may move before it leaves the picture.
    room_x = max(0.0, picture_width - width / zoom) / 2
    room_y = max(0.0, picture_height - height / zoom) / 2
    centre_x = picture_width / 2 + room_x * wave
    centre_y = picture_height / 2 + room_y * math.cos(2 * math.pi * progress)
    matrix = cv2.getRotationMatrix2D((centre_x, centre_y), 4 * math.sin(6 * math.pi * progress), zoom)
    matrix[:, 2] += (width / 2 - centre_x, height / 2 - centre_y)
    if scene.mirrored:
        matrix = np.array([[-1.0, 0, width - 1], [0, 1, 0]]) @ np.vstack([matrix, [0, 0, 1]])
    return np.asarray(matrix, np.float64)


def _look(pixels: Pixels, matrix: Matrix, width: int, height: int, noise: NDArray[np.float32], turn: int) -> Pixels:
    """What the camera sees: lamps that flicker, a lens out of focus now and then, a noisy sensor."""
    frame = cv2.warpAffine(pixels, matrix, (width, height), flags=cv2.INTER_LINEAR, borderValue=_BACKGROUND)
    blur = 0.4 + 0.8 * (0.5 + 0.5 * math.sin(turn / 7))
    frame = cv2.GaussianBlur(frame, (0, 0), blur)
    light = 1.0 + 0.2 * math.sin(turn / 11)
    seen: Pixels = np.clip(frame * np.float32(light) + 4 * noise, 0, 255).astype(np.uint8)
    return seen


def _placed(person: Person, matrix: Matrix) -> Person:
    x, y = matrix @ (person.x, person.y, 1.0)
    return Person(person.subject_id, float(x), float(y))
