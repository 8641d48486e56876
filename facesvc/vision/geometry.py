"""Boxes and the arithmetic on them. Coordinates are pixels, x to the right, y down."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Box:
    """An axis-parallel rectangle, in pixels of one image; it may reach beyond the image."""

    left: float
    top: float
    width: float
    height: float

    def __post_init__(self) -> None:
        if not (0 < self.width < math.inf and 0 < self.height < math.inf):
            raise ValueError(f"a box needs a width and a height, not {self.width} x {self.height}")
        if not (math.isfinite(self.left) and math.isfinite(self.top)):
            raise ValueError(f"a box needs a place, not {self.left}, {self.top}")

    @property
    def area(self) -> float:
        """Square pixels."""
        return self.width * self.height

    def scaled(self, factor: float) -> "Box":
        """The same box in an image that is ``factor`` times as large."""
        return Box(self.left * factor, self.top * factor, self.width * factor, self.height * factor)


def overlaps(boxes: Floats, *, of_smaller: bool = False) -> Floats:
    """How much each two of ``boxes`` (N, 4), left top right bottom, share: (N, N) float32 in 0 to 1.

    The measure is intersection over union, or over the smaller of the two: 1 for a box inside another.
    """
    left, top, right, bottom = boxes.T
    area = (right - left) * (bottom - top)
    width = np.minimum(right[:, None], right) - np.maximum(left[:, None], left)
    height = np.minimum(bottom[:, None], bottom) - np.maximum(top[:, None], top)
    intersection = np.maximum(width, 0) * np.maximum(height, 0)
    whole = np.minimum(area[:, None], area) if of_smaller else area[:, None] + area - intersection
    shared: Floats = intersection / np.maximum(whole, 1e-6)
    return shared


def non_maximum_suppression(
    boxes: Floats, scores: Floats, threshold: float, *, of_smaller: bool = False
) -> NDArray[np.intp]:
    """Indices of the boxes that stay, best score first; of two that overlap above ``threshold`` the better stays.

    :param boxes: (N, 4) float32, left top right bottom; time and memory grow with N squared.
    :param scores: (N,) float32.
    """
    order = np.argsort(-scores, kind="stable")
    compatible = overlaps(boxes[order], of_smaller=of_smaller) <= threshold
    alive = np.ones(len(order), bool)
    for rank in range(len(order)):
        if alive[rank]:
            alive[rank + 1 :] &= compatible[rank, rank + 1 :]
    return order[alive]
