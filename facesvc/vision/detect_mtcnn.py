"""MTCNN: three networks, each looking closer at what the one before let through.

Zhang, Zhang, Li, Qiao: Joint Face Detection and Alignment Using Multitask Cascaded Convolutional Networks, 2016.
P-Net scans an image pyramid in which faces of 12 pixels are found; R-Net and O-Net judge the crops it proposes, and
O-Net adds five landmarks. Windows are squares that may reach beyond the frame; what is outside is mid-grey.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import numpy as np

from facesvc.vision.detection import Detection, Floats, Network, Pixels
from facesvc.vision.geometry import Box, non_maximum_suppression

PNET_SIDE, RNET_SIDE, ONET_SIDE = 12, 24, 48
_PNET_STRIDE = 2
# P-Net needs about 100 bytes for each pixel that it sees at once, so this makes 26 MB; larger strips are no faster.
_STRIP_PIXELS = 1 << 18
# The pyramid's step of the paper: areas halve from level to level.
_PYRAMID_STEP = 0.709
# Crops a network sees at once: what they need stays in the cache, and 240 at once take twice as long and 40 MB more.
_BATCH = 8
# A window is sampled from pixels up to so many times as dense as the network sees; denser ones are averaged first.
_LARGEST_SHRINK = 8
_GREY = (127.5, 127.5, 127.5)
_SCALE = 1 / 128


@dataclass(frozen=True, slots=True)
class Thresholds:
    """Scores that a window needs to pass each network, and the overlap that is tolerated after it."""

    pnet: float = 0.7
    rnet: float = 0.7
    onet: float = 0.7
    level_overlap: float = 0.5
    overlap: float = 0.7


@dataclass(frozen=True, slots=True)
class _Windows:
    """Candidate faces: ``boxes`` (N, 4) float32 left top right bottom, ``scores`` (N,) float32."""

    boxes: Floats
    scores: Floats

    def best(self, most: int) -> "_Windows":
        """The ``most`` windows of the highest score, in any order."""
        if len(self.scores) <= most:
            return self
        order = np.argpartition(-self.scores, most)[:most]
        return _Windows(self.boxes[order], self.scores[order])

    def keep(self, overlap: float, most: int, *, of_smaller: bool = False) -> "_Windows":
        kept = non_maximum_suppression(self.boxes, self.scores, overlap, of_smaller=of_smaller)[:most]
        return _Windows(self.boxes[kept], self.scores[kept])


class MtcnnDetector:
    """Finds faces with three networks given as callables (see ``facesvc.models.mtcnn`` for their shapes)."""

    detail: float = ONET_SIDE
    scanned_face: float = PNET_SIDE

    def __init__(
        self,
        pnet: Network,
        rnet: Network,
        onet: Network,
        thresholds: Thresholds = Thresholds(),
        most_windows: int = 256,
    ) -> None:
        self._pnet = pnet
        self._rnet = rnet
        self._onet = onet
        self._thresholds = thresholds
        self._most_windows = most_windows

    def smallest_face(self, width: int, height: int, minimum_face: float) -> float:  # noqa: ARG002 - as Detector has it
        """As ``Detector.smallest_face``: always ``minimum_face``, for the pyramid is as high as need be."""
        return minimum_face

    def detect(self, pixels: Pixels, minimum_face: float, *, rough: bool = False) -> list[Detection]:  # noqa: ARG002 - a cascade has no rough look
        """Faces whose box has a side of at least ``minimum_face`` pixels, best score first.

        :param pixels: (H, W, 3) uint8 RGB, contiguous.
        :return: boxes and landmarks in pixels of ``pixels``; an empty list when there is none.
        """
        pyramid = _Pyramid(pixels)
        windows = self._refine(pyramid, self._propose(pyramid, minimum_face))
        found = self._finish(pyramid, windows)
        # The smallest windows find somewhat smaller faces too, by chance.
        return [one for one in found if max(one.box.width, one.box.height) >= minimum_face]

    def refine(self, pixels: Pixels, detection: Detection, minimum_face: float) -> Detection:  # noqa: ARG002 - as Detector has it
        """As ``Detector.refine``: the landmarks are as good as they get."""
        return detection

    def _propose(self, pyramid: "_Pyramid", minimum_face: float) -> _Windows:
        """P-Net over the pyramid: many windows, most of them wrong."""
        boxes, scores = [np.empty((0, 4), np.float32)], [np.empty(0, np.float32)]
        for scale in pyramid.scales(minimum_face):
            level = self._scan(*pyramid.padded(scale), scale)
            boxes.append(level.boxes)
            scores.append(level.scores)
        windows = _Windows(np.concatenate(boxes), np.concatenate(scores))
        return windows.best(2 * self._most_windows).keep(self._thresholds.overlap, self._most_windows)

    def _scan(self, pixels: Pixels, border: int, scale: float) -> _Windows:
        offsets, scores = self._scan_strips(pixels)
        rows, columns = np.nonzero(scores > self._thresholds.pnet)
        corners = (np.stack([columns, rows], axis=1).astype(np.float32) * _PNET_STRIDE - border) / np.float32(scale)
        side = np.float32(PNET_SIDE / scale)
        boxes = np.concatenate([corners, corners + side], axis=1) + offsets[:, rows, columns].T * side
        windows = _Windows(boxes, scores[rows, columns]).best(2 * self._most_windows)
        return windows.keep(self._thresholds.level_overlap, self._most_windows)

    def _scan_strips(self, pixels: Pixels) -> tuple[Floats, Floats]:
        """P-Net's offsets (4, rows, columns) and scores (rows, columns), in memory that does not grow with the picture.

        A strip overlaps the next by what the windows of one row need beyond their stride.
        """
        height, width = pixels.shape[:2]
        step = max(_STRIP_PIXELS // width // _PNET_STRIDE, 1) * _PNET_STRIDE
        overlap = PNET_SIDE - _PNET_STRIDE
        strips = [pixels[top : top + step + overlap] for top in range(0, max(height - overlap, 1), step)]
        offsets, scores = zip(*(self._pnet(_blob([strip])) for strip in strips), strict=True)
        return np.concatenate(offsets, axis=2)[0], np.concatenate(scores, axis=2)[0, 0]

    def _refine(self, pyramid: "_Pyramid", windows: _Windows) -> _Windows:
        """R-Net: drop most windows, move the rest."""
        if not len(windows.boxes):
            return windows
        squares = _squares(windows.boxes)
        offsets, scores = _in_batches(self._rnet, pyramid.crops(squares, RNET_SIDE))
        passed = scores[:, 0] > self._thresholds.rnet
        boxes = _moved(squares[passed], offsets[passed])
        return _Windows(boxes, scores[passed, 0]).keep(self._thresholds.overlap, self._most_windows)

    def _finish(self, pyramid: "_Pyramid", windows: _Windows) -> list[Detection]:
        """O-Net: the verdict, the box and the landmarks; those are relative to the window, not to the moved box."""
        if not len(windows.boxes):
            return []
        squares = _squares(windows.boxes)
        offsets, points, scores = _in_batches(self._onet, pyramid.crops(squares, ONET_SIDE))
        sides = squares[:, 2:] - squares[:, :2]
        landmarks = points.reshape(-1, 2, 5).transpose(0, 2, 1) * sides[:, None] + squares[:, None, :2]
        boxes = _moved(squares, offsets)
        passed = np.flatnonzero(scores[:, 0] > self._thresholds.onet)
        kept = non_maximum_suppression(boxes[passed], scores[passed, 0], self._thresholds.overlap, of_smaller=True)
        return [
            Detection(_box(boxes[i]), np.ascontiguousarray(landmarks[i], np.float32), float(scores[i, 0]))
            for i in passed[kept]
        ]


class _Pyramid:
    """A picture and its halves, so that smaller views of it cost no more than they show.

    Halving averages four pixels into one, which cv2 does fast; from there bilinear sampling is enough.
    """

    def __init__(self, pixels: Pixels) -> None:
        self._levels = [pixels]

    def scales(self, minimum_face: float) -> Iterator[float]:
        """Scales at which a face of 12 pixels is one of ``minimum_face`` or more, up to twice the frame."""
        scale = PNET_SIDE / minimum_face
        while min(self._levels[0].shape[:2]) * scale >= PNET_SIDE / 2:
            yield scale
            scale *= _PYRAMID_STEP

    def padded(self, scale: float) -> tuple[Pixels, int]:
        """The whole picture, resized by ``scale``, and the width of the grey border around it.

        The smallest views get one, so that a face which fills the frame, or more than that, lies within a window.
        """
        height, width = self._levels[0].shape[:2]
        size = (max(1, round(width * scale)), max(1, round(height * scale)))
        view = cv2.resize(self._level(scale), size, interpolation=cv2.INTER_LINEAR)
        border = PNET_SIDE // 2 if min(size) < 2 * PNET_SIDE else 0
        if border:
            view = cv2.copyMakeBorder(view, border, border, border, border, cv2.BORDER_CONSTANT, value=_GREY)
        return view, border  # type: ignore[return-value]

    def crops(self, squares: Floats, side: int) -> list[Pixels]:
        """Each of ``squares`` (N, 4) as (side, side, 3) uint8.

        Cut at whole pixels of the full picture and sampled without smoothing, as the networks saw it in training:
        sub-pixel or averaged crops lost half a point of accuracy on LFW.
        """
        crops = []
        for square in squares:
            # Windows of many times the side are cut from a half of the picture, or a border around them would be huge.
            frame = self._level(min(1.0, _LARGEST_SHRINK * side / max(1.0, float(square[2] - square[0]))))
            scale = frame.shape[1] / self._levels[0].shape[1]
            crops.append(_crop(frame, np.rint(square * scale).astype(int).tolist(), side))
        return crops

    def _level(self, scale: float) -> Pixels:
        """The smallest half that is not smaller than ``scale``."""
        wanted = max(0, int(-np.log2(min(scale, 1.0))))
        while len(self._levels) <= wanted and min(self._levels[-1].shape[:2]) >= 2 * PNET_SIDE:
            self._levels.append(cv2.resize(self._levels[-1], None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA))  # type: ignore[arg-type]
        return self._levels[min(wanted, len(self._levels) - 1)]


def _crop(frame: Pixels, square: list[int], side: int) -> Pixels:
    height, width = frame.shape[:2]
    # At least one pixel of the frame, also where a window was moved out of it.
    left, top = min(square[0], width - 1), min(square[1], height - 1)
    right, bottom = max(square[2], left + 1, 1), max(square[3], top + 1, 1)
    inside = frame[max(top, 0) : bottom, max(left, 0) : right]
    outside = [max(0, edge) for edge in (-top, bottom - height, -left, right - width)]
    if any(outside):
        inside = cv2.copyMakeBorder(inside, *outside, cv2.BORDER_CONSTANT, value=_GREY)  # type: ignore[call-overload]
    return cv2.resize(inside, (side, side), interpolation=cv2.INTER_LINEAR)  # type: ignore[return-value]


def _in_batches(network: Network, crops: list[Pixels]) -> list[Floats]:
    """What ``network`` says of all ``crops``, a few at a time."""
    batches = [network(_blob(crops[start : start + _BATCH])) for start in range(0, len(crops), _BATCH)]
    return [np.concatenate(outputs) for outputs in zip(*batches, strict=True)]


def _blob(images: list[Pixels]) -> Floats:
    """(N, 3, H, W) float32, (x - 127.5) / 128."""
    return cv2.dnn.blobFromImages(images, _SCALE, mean=_GREY)  # type: ignore[return-value]


def _squares(boxes: Floats) -> Floats:
    """Each box grown to a square about its centre."""
    centres = (boxes[:, :2] + boxes[:, 2:]) / 2
    half = np.max(boxes[:, 2:] - boxes[:, :2], axis=1, keepdims=True) / 2
    return np.concatenate([centres - half, centres + half], axis=1)


def _moved(squares: Floats, offsets: Floats) -> Floats:
    """Each window's corners moved by ``offsets`` (N, 4), in units of its side."""
    side = squares[:, 2:3] - squares[:, 0:1]
    moved: Floats = squares + offsets * side
    return moved


def _box(corners: Floats) -> Box:
    left, top, right, bottom = (float(value) for value in corners)
    return Box(left, top, max(right - left, 1.0), max(bottom - top, 1.0))
