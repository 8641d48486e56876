"""SCRFD: distances from the middle of each cell to the edges of a face, for two anchors a cell.

Guo, Deng, Lattas, Zafeiriou: Sample and Computation Redistribution for Efficient Face Detection, 2021. Exports have
three outputs a stride, or two: scores, boxes and, in most, key points, in units of the stride. Where a network has no
key points they are put where those of a mean face lie within the box.
"""

from collections.abc import Sequence

import numpy as np

from facesvc.vision.detect_grid import STRIDES, Found, centres, fit_together, joined, levels
from facesvc.vision.detection import Floats

# Where the five landmarks lie in the boxes of frontal faces, as shares of width and height: means over LFW.
_LANDMARKS_IN_BOX = np.array([(0.31, 0.40), (0.69, 0.40), (0.50, 0.59), (0.35, 0.77), (0.65, 0.77)], np.float32)


class ScrfdHead:
    """Reads SCRFD's outputs: 9, or 6 without key points; with a batch axis or without one."""

    def read(self, outputs: Sequence[Floats], height: int, width: int, score: float) -> Found:
        """As ``Head.read``."""
        parts = []
        scores, boxes, points = (levels(outputs, values, height, width) for values in (1, 4, 10))
        for stride, level_scores, level_boxes, level_points in zip(STRIDES, scores, boxes, points, strict=True):
            one_of_each = len(level_scores) == len(level_boxes) == 1 and len(level_points) <= 1
            if not one_of_each or not fit_together([*level_scores, *level_boxes, *level_points]):
                shapes = ", ".join(str(output.shape) for output in outputs)
                raise ValueError(f"these are not the outputs of SCRFD for {height} x {width} pixels: {shapes}")
            parts.append(_level(stride, level_scores[0][:, 0], level_boxes[0], level_points, height, width, score))
        return joined(parts)


def _level(
    stride: int, scores: Floats, boxes: Floats, points: list[Floats], height: int, width: int, score: float
) -> Found:
    (passed,) = np.nonzero(scores >= score)
    origin = centres(height, width, stride, len(scores))[passed]
    edges = boxes[passed] * stride
    corners = np.concatenate([origin - edges[:, :2], origin + edges[:, 2:]], axis=1)
    if points:
        landmarks = origin[:, None] + points[0][passed].reshape(-1, 5, 2) * stride
    else:
        landmarks = corners[:, None, :2] + _LANDMARKS_IN_BOX * (corners[:, None, 2:] - corners[:, None, :2])
    return Found(corners, landmarks, scores[passed])
