"""Pictures to make a pack int8 with, and to try it on: of installed packages, of a folder, and mosaics of faces."""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from facesvc.cli.pictures import mention_skipped, pictures_and_others, pixels_of, read
from facesvc.cli.samples import GROUP, GUEST, astronaut, sample_picture
from facesvc.errors import ImageError, InputError
from facesvc.vision.detection import Detection

Pixels = NDArray[np.uint8]

MOST_PICTURES = 300
"""Of a folder; with more nothing got better, and the quantiser holds all their faces."""
SIDE = 640
"""Of a frame; a larger picture is made smaller."""

_HELD_OUT = 5  # every so manieth picture of a folder is tried on, not calibrated with
_CELLS = (2, 3, 4, 6)  # faces in a row of a mosaic: from half the frame to a ninth of it and less
_LIGHT = (0.6, 1.3)
_TURNS = (-12, 0, 12)  # degrees


def bundled() -> list[Pixels]:
    """Seven people: six in one picture, one in another."""
    return [pixels_of(sample_picture(name)) for name in (GROUP, GUEST)]


def portraits() -> list[Pixels]:
    """One more person, to try a pack on: turned a little, and mirrored."""
    pixels = astronaut()
    centre = pixels.shape[1] / 2, pixels.shape[0] / 2
    size = pixels.shape[1], pixels.shape[0]
    turned = [cv2.warpAffine(pixels, cv2.getRotationMatrix2D(centre, turn, 1), size) for turn in _TURNS]
    return [np.ascontiguousarray(view, np.uint8) for one in turned for view in (one, one[:, ::-1])]


def in_folder(folder: Path) -> tuple[list[Path], list[Path]]:
    """Pictures of a folder to calibrate with, and others to try the result on: 300 at most, from all over the folder.

    Raises ``InputError`` for a folder that is none or has no pictures.
    """
    if not folder.is_dir():
        raise InputError(f"{folder} is no folder: name one with pictures of faces", field="images")
    found, others = pictures_and_others(folder)
    mention_skipped(folder, others)
    chosen = spread(found, MOST_PICTURES)
    if not chosen:
        raise InputError(f"{folder} holds no pictures: name a folder with pictures of faces", field="images")
    held_out = chosen[_HELD_OUT - 1 :: _HELD_OUT]
    return [path for path in chosen if path not in set(held_out)], held_out


def opened(paths: Iterable[Path], max_bytes: int) -> Iterator[Pixels]:
    """The pictures in files, one after the other. Raises ``InputError`` that names the file that is none."""
    for path in paths:
        try:
            yield pixels_of(read(path, max_bytes))
        except ImageError as error:
            raise InputError(f"{path}: {error.message}", field="images", reason=error.reason) from error


def spread(paths: Sequence[Path], most: int) -> list[Path]:
    """At most so many of them, evenly from all over."""
    step = max(1.0, len(paths) / most)
    return [paths[int(at * step)] for at in range(min(len(paths), most))]


def fitted(pixels: Pixels) -> Pixels:
    """The picture, made smaller where its longer side has more than 640 pixels."""
    scale = SIDE / max(pixels.shape[:2])
    if scale >= 1:
        return pixels
    size = max(1, round(pixels.shape[1] * scale)), max(1, round(pixels.shape[0] * scale))
    return np.ascontiguousarray(cv2.resize(pixels, size, interpolation=cv2.INTER_AREA), np.uint8)


def surroundings(pixels: Pixels, face: Detection) -> Pixels:
    """A face with as much again around it, as far as the picture reaches; 320 pixels at most."""
    box = face.box
    rows = slice(max(0, int(box.top - box.height / 2)), int(box.top + 1.5 * box.height))
    columns = slice(max(0, int(box.left - box.width / 2)), int(box.left + 1.5 * box.width))
    part, side = pixels[rows, columns], SIDE // min(_CELLS)
    scale = min(1.0, side / max(part.shape[:2]))
    size = max(1, round(part.shape[1] * scale)), max(1, round(part.shape[0] * scale))
    return np.ascontiguousarray(cv2.resize(part, size, interpolation=cv2.INTER_AREA), np.uint8)


def mosaics(crops: Sequence[Pixels], count: int, seed: int) -> Iterator[Pixels]:
    """Frames of 640 x 640 full of faces from ``crops``, of many sizes, lit differently, some mirrored."""
    generator = np.random.default_rng(seed)
    for number in range(count):
        cells = _CELLS[number % len(_CELLS)]
        side = SIDE // cells
        frame = np.zeros((SIDE, SIDE, 3), np.uint8)
        for cell in range(cells**2):
            crop = crops[int(generator.integers(len(crops)))]
            lit = np.clip(cv2.resize(crop, (side, side)) * generator.uniform(*_LIGHT), 0, 255).astype(np.uint8)
            top, left = cell // cells * side, cell % cells * side
            frame[top : top + side, left : left + side] = lit[:, ::-1] if generator.random() < 0.5 else lit
        yield frame
