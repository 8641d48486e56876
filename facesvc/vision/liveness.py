"""Whether a face is a living one or a picture held up, from one view of it: passive liveness.

Networks of this kind look at the face with much around it, for the edge of a sheet or of a screen gives it away, and at
its grain. Two ways to cut it out are known:

* ``GrownBox``: MiniFASNet of Silent-Face-Anti-Spoofing (https://github.com/minivision-ai/Silent-Face-Anti-Spoofing).
  The box of the face, grown about its centre, is shifted until it lies inside the picture. One network has 2.7, another
  4.0 of it; the score is their mean.
* ``AlignedFace``: the liveness add-on of insightface 2.1. The face is turned upright into a chip that shows about twice
  its box; where that would be mostly beyond the picture, nothing can be said.

A score is 0 (an attack) to 1 (genuine) and no probability. A single view says little: take the mean over a track.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import cv2
import numpy as np

from facesvc.vision.align import similarity_transform
from facesvc.vision.detection import Detection, Floats, Network, Pixels
from facesvc.vision.geometry import Box

SIDE = 80
"""Pixels of the square that the networks of both families are shown."""

# MiniFASNet's classes are a flat picture, a living face, a screen.
_GENUINE = 1

# insightface/addons/liveness.py, version 2.1: where the landmarks go, in pixels of the chip, and how much of the chip
# may lie beyond the picture.
_TEMPLATE = np.array([(32.03, 38.06), (47.89, 37.98), (40.01, 47.08), (33.50, 56.36), (46.63, 56.29)], np.float32)
_MOST_BEYOND = 0.30


class View(Protocol):
    """One network, and what it is shown of a face."""

    def score(self, pixels: Pixels, face: Detection) -> float | None:
        """As ``Liveness.score``."""
        ...


@dataclass(frozen=True, slots=True)
class Liveness:
    """The networks of a pack; there is at least one. Calls may run side by side in several threads."""

    views: Sequence[View]

    def score(self, pixels: Pixels, face: Detection) -> float | None:
        """How genuine one face looks, 0 to 1: the mean over the networks. None where one of them cannot say.

        :param pixels: (H, W, 3) uint8 RGB, contiguous, the whole picture: what is around a face counts.
        :param face: in pixels of that picture.
        """
        scores = [view.score(pixels, face) for view in self.views]
        known = [score for score in scores if score is not None]
        return sum(known) / len(known) if len(known) == len(scores) else None


@dataclass(frozen=True, slots=True)
class GrownBox:
    """A network of MiniFASNet, (1, 3, 80, 80) float32 BGR 0 to 255 in, logits (1, 3) out; ``scale`` is its own."""

    network: Network
    scale: float

    def score(self, pixels: Pixels, face: Detection) -> float:
        """Of any face: there is always a window."""
        left, top, right, bottom = window(face.box, self.scale, pixels.shape[1], pixels.shape[0])
        # Not averaged when it shrinks: the networks learnt from pictures that were sampled like this.
        shown = cv2.resize(pixels[top:bottom, left:right], (SIDE, SIDE), interpolation=cv2.INTER_LINEAR)
        logits = self.network(cv2.dnn.blobFromImage(shown, swapRB=True))[0][0]  # type: ignore[arg-type]  # cv2 says no dtype
        shares = np.exp(logits.astype(np.float64) - float(logits.max()))
        return float(shares[_GENUINE] / shares.sum())


@dataclass(frozen=True, slots=True)
class AlignedFace:
    """The network of insightface, (1, 3, 80, 80) float32 RGB 0 to 1 in, the share of genuine (1,) out."""

    network: Network

    def score(self, pixels: Pixels, face: Detection) -> float | None:
        """None for a face so near the edge that too much of what the network wants to see is not in the picture."""
        matrix = similarity_transform(face.landmarks, _TEMPLATE)
        ones: Floats = np.ones(pixels.shape[:2], np.float32)
        beyond = 1 - float(cv2.warpAffine(ones, matrix, (SIDE, SIDE), flags=cv2.INTER_LINEAR).mean())
        if beyond > _MOST_BEYOND:
            return None
        chip = cv2.warpAffine(pixels, matrix, (SIDE, SIDE), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        genuine = self.network(cv2.dnn.blobFromImage(chip, 1 / 255))[0]  # type: ignore[arg-type]  # cv2 says no dtype
        return float(np.clip(genuine[0], 0, 1))


def window(box: Box, scale: float, width: int, height: int) -> tuple[int, int, int, int]:
    """Left, top, right and bottom (the last two exclusive) of ``box`` grown, inside a picture of that size.

    It is grown by ``scale`` about its centre, by less where it would be larger than the picture, and shifted to where
    no side lies outside. A picture of one pixel is its own window. This is the arithmetic of Silent-Face-Anti-Spoofing
    (``CropImage``), to the pixel: its last column is the one that the right edge falls into.
    """
    # A box has a size, and a picture of one pixel leaves nothing of it.
    scale = min(scale, (width - 1) / box.width, (height - 1) / box.height)
    left, right = _inside(box.left + box.width / 2, box.width * scale, width - 1)
    top, bottom = _inside(box.top + box.height / 2, box.height * scale, height - 1)
    return int(left), int(top), int(right) + 1, int(bottom) + 1


def _inside(centre: float, length: float, last: int) -> tuple[float, float]:
    """Where a stretch about ``centre`` starts and ends once it is shifted to within 0 and ``last``."""
    start, end = centre - length / 2, centre + length / 2
    if start < 0:
        start, end = 0.0, end - start
    if end > last:
        start, end = max(0.0, start - (end - last)), float(last)
    return start, end
