"""Attacks on a camera, made of still pictures: a printed photo that is held up, and a replay on a screen.

They stand in for recordings that nobody may hand around. What gives a real attack away is there by its cause: the flat
sheet is moved and tilted before a pinhole camera, it has an edge and something behind it; a screen has a bezel, glare,
and stripes of three colours whose beat with the camera's grid is the moire. What is not there: hands, the grain of a
printer, the shutter of a camera. So a network that sees through these may be deceived by real ones, and the reverse.
"""

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from facesvc.vision.detection import Pixels
from facesvc.vision.geometry import Box

Floats = NDArray[np.float32]

WIDTH, HEIGHT = 640, 480
"""Of the frames, in pixels."""
# The picture that is shown: this many boxes of the face high, where there is so much of it.
_SHOWN_BOXES = 2.6
# As high as this share of the frame: somebody holds it at arm's length.
_SHEET_SHARE = 0.78
_FILLING_BOXES = 4.0
# So large that no edge comes into view, however it sways.
_FILLING_SHARE = 1.4
_FOCAL_LENGTH = 1.1 * WIDTH
_BLUR = 0.6  # of the camera's lens, standard deviation in pixels
_NOISE = 2.0  # of its sensor, in grey values
# A tablet of 480 rows: each of its pixels is three stripes of colour and a dark line.
_SCREEN_ROWS, _SUBPIXELS = 480, 3
_STRIPE_LEAST = 0.25  # of a stripe's colour is in the two beside it


@dataclass(frozen=True, slots=True)
class _Pose:
    """Where the sheet is in one frame: turned by radians, shifted by pixels from the middle of the frame."""

    yaw: float
    pitch: float
    roll: float
    right: float
    down: float


def held_up(pixels: Pixels, face: Box, frames: int, seed: int) -> Iterator[Pixels]:
    """A printed photo with a white border, moved and tilted: ``frames`` of (480, 640, 3) uint8 RGB.

    :param pixels: (H, W, 3) uint8 RGB, the picture of the victim.
    :param face: in pixels of that picture.
    """
    random = np.random.default_rng(seed)
    shown = _cut(pixels, face)
    sheet = _printed(_framed(shown, (250.0, 250.0, 250.0)))
    background = _room(random)
    for pose in _poses(random, frames):
        yield _photographed(_laid(background, sheet, _SHEET_SHARE, pose, random), random)


def close_up(pixels: Pixels, face: Box, frames: int, seed: int) -> Iterator[Pixels]:
    """As ``held_up``, so near that the sheet fills the frame: its edge gives nothing away."""
    random = np.random.default_rng(seed)
    sheet = _printed(_filling(pixels, face))
    for pose in _poses(random, frames):
        yield _photographed(_laid(_room(random), sheet, _FILLING_SHARE, pose, random), random)


def replayed(pixels: Pixels, face: Box, frames: int, seed: int) -> Iterator[Pixels]:
    """As ``held_up``, on a screen: a dark bezel, glare, moire, slightly out of focus and bluish."""
    random = np.random.default_rng(seed)
    shown = _on_screen(_cut(pixels, face))
    sheet = _framed(shown, (14.0, 14.0, 16.0))
    sheet += _glare(sheet.shape[0], sheet.shape[1], random)
    background = _room(random)
    for pose in _poses(random, frames):
        yield _photographed(_laid(background, sheet, _SHEET_SHARE, pose, random), random)


def filmed(pixels: Pixels, face: Box, frames: int, seed: int) -> Iterator[Pixels]:
    """No attack: the picture itself before the same camera, as genuine as a still can be.

    It tells what is refused for being an attack from what is refused for how attacks are made here.
    """
    random = np.random.default_rng(seed)
    whole = _filling(pixels, face).astype(np.float32)
    for pose in _poses(random, frames):
        still = replace(pose, yaw=0, pitch=0, roll=0, right=pose.right / 4, down=pose.down / 4)
        yield _photographed(_laid(_room(random), whole, _FILLING_SHARE, still, random), random)


ATTACKS: Mapping[str, Callable[[Pixels, Box, int, int], Iterator[Pixels]]] = {
    "held-up photo": held_up,
    "close-up photo": close_up,
    "screen replay": replayed,
}
"""Every kind of attack, by its name."""


def _cut(pixels: Pixels, face: Box) -> Pixels:
    """The face with what is around it, as somebody would print it."""
    height, width = pixels.shape[:2]
    half = _SHOWN_BOXES * face.height / 2
    x, y = face.left + face.width / 2, face.top + face.height / 2
    left, right = max(0, round(x - 0.8 * half)), min(width, round(x + 0.8 * half))
    top, bottom = max(0, round(y - half)), min(height, round(y + half))
    return pixels[top:bottom, left:right]


def _framed(shown: NDArray[np.uint8] | Floats, colour: tuple[float, float, float]) -> Floats:
    """With a border of that colour, a twentieth of its height."""
    wide = max(2, round(0.05 * shown.shape[0]))
    framed = cv2.copyMakeBorder(shown, wide, wide, wide, wide, cv2.BORDER_CONSTANT, value=colour)
    return np.asarray(framed, np.float32)


def _filling(pixels: Pixels, face: Box) -> Pixels:
    """A part of the picture that has the shape of a frame, with the face as near its middle as can be."""
    height, width = pixels.shape[:2]
    high = int(min(height, width * HEIGHT / WIDTH, _FILLING_BOXES * face.height))
    wide = min(width, high * WIDTH // HEIGHT)
    left = int(np.clip(face.left + face.width / 2 - wide / 2, 0, width - wide))
    top = int(np.clip(face.top + face.height / 2 - high / 2, 0, height - high))
    return pixels[top : top + high, left : left + wide]


def _printed(picture: NDArray[np.integer | np.floating]) -> Floats:
    """On paper, which is no white lamp, with ink, which is no black hole."""
    return np.asarray(28 + 0.80 * picture.astype(np.float32), np.float32)


def _on_screen(shown: Pixels) -> Floats:
    """A picture as a screen shows it: stripes of red, green and blue, with a dark line between two rows."""
    columns = round(_SCREEN_ROWS * shown.shape[1] / shown.shape[0])
    plain = cv2.resize(shown, (columns, _SCREEN_ROWS), interpolation=cv2.INTER_AREA).astype(np.float32)
    drawn = plain.repeat(_SUBPIXELS, axis=0).repeat(_SUBPIXELS, axis=1)
    mask = np.full((_SUBPIXELS, _SUBPIXELS, 3), _STRIPE_LEAST, np.float32)
    for colour in range(3):
        mask[:, colour, colour] = 1
    mask[-1] *= 0.5
    lit = drawn * np.tile(mask, (_SCREEN_ROWS, columns, 1))
    # As bright on the whole as the picture, bluer, and never quite black.
    lit *= np.array([0.94, 1.0, 1.08], np.float32) / mask.mean()
    screen: Floats = np.clip(lit + 8, 0, 255 / mask.mean())
    return screen


def _glare(height: int, width: int, random: np.random.Generator) -> Floats:
    """The reflection of a lamp, (height, width, 1)."""
    x, y = random.uniform(0.1, 0.9) * width, random.uniform(0.0, 0.4) * height
    rows, columns = np.ogrid[:height, :width]
    away = ((columns - x) / (0.22 * width)) ** 2 + ((rows - y) / (0.12 * height)) ** 2
    return np.asarray(90 * np.exp(-away), np.float32)[..., None]


def _room(random: np.random.Generator) -> Floats:
    """Something behind the sheet: large soft patches of muted colours, out of focus, and a few straight edges."""
    patches = random.uniform(60, 190, (6, 8, 3)).astype(np.float32)
    room = cv2.resize(patches.mean(axis=2, keepdims=True) * 0.7 + patches * 0.3, (WIDTH, HEIGHT))
    for _ in range(5):
        left, top = int(random.uniform(0, WIDTH)), int(random.uniform(0, HEIGHT))
        shade = random.uniform(40, 210, 3).tolist()
        cv2.rectangle(room, (left, top), (left + int(random.uniform(30, 200)), HEIGHT), shade, -1)
    return np.asarray(cv2.GaussianBlur(room, (0, 0), 3), np.float32)


def _poses(random: np.random.Generator, frames: int) -> Iterator[_Pose]:
    """A hand that sways: each angle and shift goes to and fro at a pace of its own."""
    phases, paces = random.uniform(0, 2 * math.pi, 5), random.uniform(0.2, 0.6, 5)
    for frame in range(frames):
        sway = np.sin(phases + paces * frame)
        yield _Pose(0.30 * sway[0], 0.18 * sway[1], 0.10 * sway[2], 30 * sway[3], 14 * sway[4])


def _laid(background: Floats, sheet: Floats, share: float, pose: _Pose, random: np.random.Generator) -> Floats:
    """The sheet, ``share`` of the frame high, before the background: as a pinhole camera sees it, under one lamp."""
    rows, columns = sheet.shape[:2]
    high = share * HEIGHT
    half = np.array([high * columns / rows / 2, high / 2])
    corners = np.array([(-1, -1), (1, -1), (1, 1), (-1, 1)], np.float64) * half
    space = np.column_stack([corners, np.zeros(4)]) @ _turned(pose).T
    nearness = _FOCAL_LENGTH / (_FOCAL_LENGTH + space[:, 2:])
    seen = space[:, :2] * nearness + (WIDTH / 2 + pose.right, HEIGHT / 2 + pose.down)
    # Drawn twice as large, so that edges are smooth and a screen's grid beats with the camera's.
    source = np.array([(0, 0), (columns, 0), (columns, rows), (0, rows)], np.float32)
    matrix = cv2.getPerspectiveTransform(source, (2 * seen).astype(np.float32))
    size = (2 * WIDTH, 2 * HEIGHT)
    drawn = cv2.warpPerspective(sheet, matrix, size, flags=cv2.INTER_LINEAR)
    cover = cv2.warpPerspective(np.ones((rows, columns), np.float32), matrix, size, flags=cv2.INTER_LINEAR)
    drawn, cover = (cv2.resize(each, (WIDTH, HEIGHT), interpolation=cv2.INTER_AREA) for each in (drawn, cover))
    left, right = random.uniform(0.9, 1.05, 2).tolist()
    lamp = np.linspace(left, right, WIDTH, dtype=np.float32)[None, :, None]
    return np.asarray(background * (1 - cover[..., None]) + drawn * lamp, np.float32)


def _turned(pose: _Pose) -> NDArray[np.float64]:
    """The rotation of the sheet, (3, 3)."""
    (sy, sp, sr), (cy, cp, cr) = (
        [turn(angle) for angle in (pose.yaw, pose.pitch, pose.roll)] for turn in (math.sin, math.cos)
    )
    yaw = np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
    pitch = np.array([[1, 0, 0], [0, cp, -sp], [0, sp, cp]])
    roll = np.array([[cr, -sr, 0], [sr, cr, 0], [0, 0, 1]])
    rotation: NDArray[np.float64] = yaw @ pitch @ roll
    return rotation


def _photographed(light: Floats, random: np.random.Generator) -> Pixels:
    """What a camera makes of the light: its lens blurs a little, its sensor adds noise, then it is a JPEG."""
    noisy = cv2.GaussianBlur(light, (0, 0), _BLUR) + random.normal(0, _NOISE, light.shape)
    frame = np.clip(noisy, 0, 255).astype(np.uint8)
    _, encoded = cv2.imencode(".jpg", frame, [cv2.IMWRITE_JPEG_QUALITY, 90])
    return np.asarray(cv2.imdecode(encoded, cv2.IMREAD_COLOR), np.uint8)
