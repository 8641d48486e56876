"""Detectors that look at the whole picture at once: each cell of three grids says whether a face is there, and where.

SCRFD and YuNet are such detectors; what their outputs mean is written in a *head* of their own (``detect_scrfd``,
``detect_yunet``). Here is what they share: the picture is scaled so that the smallest face wanted has the size at which
the network still finds it, laid onto a black canvas whose sides are multiples of the largest stride, and faces that
were found several times are merged.

A network trained on faces of up to about half its input overlooks one that fills the frame, so a second, coarse look
at the same picture follows where the first one sees it large.

Small faces are found long before their landmarks are good. A *rough* look shows the picture at the size at which faces
are found, for a fraction of the price; those that somebody wants to recognise are then *refined*, each by a look at its
own surroundings.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from facesvc.vision.detection import Detection, Floats, Network, Pixels
from facesvc.vision.geometry import Box, non_maximum_suppression, overlaps

STRIDES = (8, 16, 32)
# Overlap above which two boxes are one face, and the score that a face needs; in a rough look less of it, which is for
# who follows faces to judge: half hidden and blurred ones score low.
_OVERLAP = 0.4
_SCORE = 0.5
_ROUGH_SCORE = 0.3
# Whatever is further away than this, in pixels of the input, is nothing that a network says of a face.
_FARTHEST = 1e5
# Boxes that go into the suppression at most: far more than a picture has faces, few enough for N squared.
_MOST_BOXES = 2000
# Enlarging adds no detail; twice is what brings a face of 12 pixels to where the networks find it.
_LARGEST_SCALE = 2.0
# The coarse look: its longer side in network pixels at least, taken where the first look's shorter side is longer.
_COARSE_SIDE = 160
# In pixels of the input: what is larger belongs to the coarse look. In a face of 700 and more YuNet sees several of
# about 500, with scores up to 0.8.
_LARGEST_FACE = 400
# A face is refined in a square of twice its size, shown about so many times as large as the smallest face: 128 pixels
# for SCRFD, 192 for YuNet, whose landmarks gain by it (of 91 faces of LFW, 45 pixels wide, the mean similarity to a
# picture from near rises from 0.865 at 128 to 0.894; by a fine look it is 0.883). The refined box overlaps the rough
# one by so much at least.
_REFINED_SCALE = 3.4
_REFINED_MARGIN = 2.0
_REFINED_OVERLAP = 0.3


@dataclass(frozen=True, slots=True)
class Found:
    """Faces in pixels of the network's input: ``boxes`` (N, 4) left top right bottom, ``landmarks`` (N, 5, 2), scores.

    All are float32; ``scores`` (N,) are 0 to 1.
    """

    boxes: Floats
    landmarks: Floats
    scores: Floats

    def only(self, which: NDArray[Any]) -> "Found":
        """Those of an index or a mask, in its order."""
        return Found(self.boxes[which], self.landmarks[which], self.scores[which])


class Head(Protocol):
    """What the outputs of a family of networks mean."""

    def read(self, outputs: Sequence[Floats], height: int, width: int, score: float) -> Found:
        """Faces of at least ``score`` in an input of ``height`` x ``width`` pixels, multiples of 32; unordered.

        Raises ``ValueError`` for outputs that this family does not have.
        """
        ...


@dataclass(frozen=True, slots=True)
class GridInput:
    """What a network is given: pixels in ``colour_order`` less ``mean``, over ``std``.

    ``side`` is that of a square input where the graph allows no other size. ``smallest_face`` is the size, in pixels
    of the input, from which on faces are found and their landmarks are good; ``rough_face`` that from which on they are
    found.
    """

    mean: tuple[float, float, float]
    std: float
    colour_order: str
    side: int | None
    smallest_face: float
    rough_face: float


class GridDetector:
    """Finds faces with one network and the head that reads it. Calls may run side by side in several threads."""

    def __init__(self, network: Network, head: Head, given: GridInput, *, coarse_look: bool = True) -> None:
        self._network = network
        self._head = head
        self._given = given
        self._coarse_look = coarse_look

    @property
    def detail(self) -> float:
        """As ``Detector.detail``: no face has to be shown to the network any larger."""
        return self._given.smallest_face

    @property
    def scanned_face(self) -> float:
        """As ``Detector.scanned_face``."""
        return self._given.smallest_face

    def smallest_face(self, width: int, height: int, minimum_face: float) -> float:
        """As ``Detector.smallest_face``: more than ``minimum_face`` where a fixed input cannot show it large enough."""
        return max(minimum_face, self._given.smallest_face / self._largest_scale(width, height))

    def detect(self, pixels: Pixels, minimum_face: float, *, rough: bool = False) -> list[Detection]:
        """Faces whose box has a side of at least ``minimum_face`` pixels, best score first.

        :param pixels: (H, W, 3) uint8 RGB, contiguous.
        :param rough: landmarks need not be good, and scores may be as low as 0.3; a fixed input takes as long as ever.
        :return: boxes and landmarks in pixels of ``pixels``; an empty list when there is none.
        """
        height, width = pixels.shape[:2]
        scale = self._scale(width, height, minimum_face, rough=rough)
        score = _ROUGH_SCORE if rough else _SCORE
        looks = [self._look(pixels, scale, score)]
        if self._coarse_look and min(height, width) * scale > _COARSE_SIDE:
            # Faces as large as the first look may show them are large enough in the second.
            coarse = max(_COARSE_SIDE / max(height, width), scale * self._given.smallest_face / _LARGEST_FACE)
            looks = [_up_to(_LARGEST_FACE / scale, looks[0]), self._look(pixels, coarse, score)]
        found = _merged(joined(looks))
        faces = map(_detection, found.boxes, found.landmarks, found.scores)
        return [face for face in faces if max(face.box.width, face.box.height) >= minimum_face]

    def refine(self, pixels: Pixels, detection: Detection, minimum_face: float) -> Detection:
        """A face that a rough look at the same picture found, with good landmarks; as it is where it is not seen again.

        :param minimum_face: what the rough look was asked for; a face that it saw large enough is not looked at again.
        """
        height, width = pixels.shape[:2]
        box = detection.box
        side = max(box.width, box.height)
        if side * self._scale(width, height, minimum_face, rough=True) >= self._given.smallest_face:
            return detection
        reach = side * _REFINED_MARGIN / 2
        x, y = box.left + box.width / 2, box.top + box.height / 2
        left, top = max(0, round(x - reach)), max(0, round(y - reach))
        # A face may lie beyond the picture.
        right, bottom = max(0, round(x + reach)), max(0, round(y + reach))
        part = np.ascontiguousarray(pixels[top:bottom, left:right])
        if 0 in part.shape:
            return detection
        found = self._look(part, min(self._refined_side / max(part.shape[:2]), 2 * _LARGEST_SCALE), _ROUGH_SCORE)
        return _best_overlap(detection, found, np.array([left, top], np.float32))

    @property
    def _refined_side(self) -> int:
        """What a face is refined in, in pixels of the input: no black beside it."""
        return STRIDES[-1] * round(_REFINED_SCALE * self._given.smallest_face / STRIDES[-1])

    def _scale(self, width: int, height: int, minimum_face: float, *, rough: bool) -> float:
        """How large a picture is shown; roughly only where that is cheaper."""
        given = self._given
        shown = given.rough_face if rough and given.side is None else given.smallest_face
        return min(shown / minimum_face, self._largest_scale(width, height))

    def _largest_scale(self, width: int, height: int) -> float:
        side = self._given.side
        return _LARGEST_SCALE if side is None else min(_LARGEST_SCALE, side / max(width, height))

    def _look(self, pixels: Pixels, scale: float, score: float) -> Found:
        """Faces of at least ``score``, in pixels of the picture, as seen at ``scale``."""
        height, width = pixels.shape[:2]
        # A side that should be whole is not one less because its scale was rounded.
        size = (max(1, int(width * scale + 1e-6)), max(1, int(height * scale + 1e-6)))
        canvas = self._canvas(_resized(pixels, size))
        given = self._given
        blob = cv2.dnn.blobFromImage(canvas, 1 / given.std, mean=given.mean, swapRB=given.colour_order == "BGR")
        outputs = self._network(blob)  # type: ignore[arg-type]
        # What a damaged network says may be beyond any number; it is dropped.
        with np.errstate(over="ignore", invalid="ignore"):
            found = self._head.read(outputs, canvas.shape[0], canvas.shape[1], score)
            found = found.only(_plausible(found))
        zoom = np.array([width / size[0], height / size[1]], np.float32)
        return Found(found.boxes * np.tile(zoom, 2), found.landmarks * zoom, found.scores)

    def _canvas(self, view: Pixels) -> Pixels:
        """``view`` in the upper left corner of what the network takes; the rest is black."""
        height, width = view.shape[:2]
        side, largest = self._given.side, STRIDES[-1]
        canvas_height, canvas_width = (
            (side, side) if side else (-(-height // largest) * largest, -(-width // largest) * largest)
        )
        if (canvas_height, canvas_width) == (height, width):
            return view
        canvas = np.zeros((canvas_height, canvas_width, 3), np.uint8)
        canvas[:height, :width] = view
        return canvas


def joined(parts: Sequence[Found]) -> Found:
    """All faces of all ``parts``."""
    boxes, landmarks, scores = (
        np.concatenate([getattr(part, name) for part in parts]) for name in ("boxes", "landmarks", "scores")
    )
    return Found(boxes, landmarks, scores)


def _merged(found: Found) -> Found:
    """Each face once, best score first: of a face that both looks saw, the one that was surer of it."""
    best = np.argsort(-found.scores, kind="stable")[:_MOST_BOXES]
    return found.only(best[non_maximum_suppression(found.boxes[best], found.scores[best], _OVERLAP)])


def _best_overlap(detection: Detection, found: Found, corner: Floats) -> Detection:
    """The one of ``found`` (in a part of the picture that begins at ``corner``) that is the face of ``detection``."""
    box = detection.box
    boxes = found.boxes + np.tile(corner, 2)
    wanted = np.array([[box.left, box.top, box.left + box.width, box.top + box.height]], np.float32)
    shared = overlaps(np.concatenate([wanted, boxes]))[0, 1:]
    if not len(shared) or shared.max() < _REFINED_OVERLAP:
        return detection
    best = int(shared.argmax())
    return _detection(boxes[best], found.landmarks[best] + corner, max(found.scores[best], np.float32(detection.score)))


def _up_to(size: float, found: Found) -> Found:
    """Those whose sides are no longer than ``size``."""
    return found.only(np.max(found.boxes[:, 2:] - found.boxes[:, :2], axis=1, initial=0) <= size)


def _plausible(found: Found) -> NDArray[np.bool_]:
    """Which boxes have a size and a place: a damaged network may give any number, and none at all."""
    numbers = np.concatenate([found.boxes, found.landmarks.reshape(-1, 10)], axis=1)
    sizes = found.boxes[:, 2:] - found.boxes[:, :2]
    plausible: NDArray[np.bool_] = (np.abs(numbers) <= _FARTHEST).all(axis=1) & (sizes > 0).all(axis=1)
    return plausible & np.isfinite(found.scores)


def _resized(pixels: Pixels, size: tuple[int, int]) -> Pixels:
    height, width = pixels.shape[:2]
    if size == (width, height):
        return pixels
    # Bilinear sampling, as in training, down to a half; below that it would skip pixels.
    interpolation = cv2.INTER_AREA if size[0] * 2 < width else cv2.INTER_LINEAR
    return cv2.resize(pixels, size, interpolation=interpolation)  # type: ignore[return-value]


def _detection(box: Floats, landmarks: Floats, score: float) -> Detection:
    left, top, right, bottom = (float(edge) for edge in box)
    size = max(right - left, 1.0), max(bottom - top, 1.0)
    return Detection(Box(left, top, *size), np.ascontiguousarray(landmarks, np.float32), min(float(score), 1.0))


def levels(outputs: Sequence[Floats], values: int, height: int, width: int) -> list[list[Floats]]:
    """The outputs with ``values`` values a box, each as (N, values), for the strides 8, 16 and 32.

    Exporters differ in the order of the outputs and in whether there is a batch axis; the shapes tell them apart, for
    every stride has another number of boxes. A stride of which there is nothing has an empty list.
    """
    flat = [output.reshape(-1, values).astype(np.float32) for output in outputs if output.shape[-1:] == (values,)]
    found = []
    for stride in STRIDES:
        cells = (height // stride) * (width // stride)
        # One box a cell, or two. The next stride has a quarter of the cells, as sides are multiples of the largest
        # stride, so no two strides are mixed up.
        found.append([output for output in flat if len(output) in (cells, 2 * cells)])
    return found


def fit_together(parts: Sequence[Floats]) -> bool:
    """Whether all say something of as many boxes."""
    return len({len(part) for part in parts}) == 1


def centres(height: int, width: int, stride: int, boxes: int) -> Floats:
    """The upper left corner of the cell of each of ``boxes`` boxes, (boxes, 2) float32 x, y, in input pixels."""
    rows, columns = height // stride, width // stride
    grid = np.stack(np.meshgrid(np.arange(columns), np.arange(rows)), axis=-1).reshape(-1, 2) * stride
    return np.repeat(grid, boxes // len(grid), axis=0).astype(np.float32)
