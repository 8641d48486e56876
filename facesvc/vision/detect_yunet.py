"""YuNet: one box a cell, as an offset of its middle and the logarithm of its size.

Wu, Peng, Yu: YuNet: A Tiny Millisecond-level Face Detector, 2023. Twelve outputs: for each stride two scores, whether
this is a face and whether anything is there, whose geometric mean counts; boxes; and key points.
"""

from collections.abc import Sequence

import numpy as np

from facesvc.vision.detect_grid import STRIDES, Found, centres, fit_together, joined, levels
from facesvc.vision.detection import Floats

# exp() of more than this is a box of a thousand cells: nothing a network says of a face.
_LARGEST_LOG_SIZE = 7.0


class YunetHead:
    """Reads YuNet's outputs."""

    def read(self, outputs: Sequence[Floats], height: int, width: int, score: float) -> Found:
        """As ``Head.read``."""
        parts = []
        scores, boxes, points = (levels(outputs, values, height, width) for values in (1, 4, 10))
        for stride, level_scores, level_boxes, level_points in zip(STRIDES, scores, boxes, points, strict=True):
            complete = (len(level_scores), len(level_boxes), len(level_points)) == (2, 1, 1)
            if not complete or not fit_together([*level_scores, *level_boxes, *level_points]):
                shapes = ", ".join(str(output.shape) for output in outputs)
                raise ValueError(f"these are not the outputs of YuNet for {height} x {width} pixels: {shapes}")
            both = np.sqrt(np.clip(level_scores[0], 0, 1) * np.clip(level_scores[1], 0, 1))[:, 0]
            parts.append(_level(stride, both, level_boxes[0], level_points[0], height, width, score))
        return joined(parts)


def _level(stride: int, scores: Floats, boxes: Floats, points: Floats, height: int, width: int, score: float) -> Found:
    (passed,) = np.nonzero(scores >= score)
    origin = centres(height, width, stride, len(scores))[passed]
    middle = origin + boxes[passed, :2] * stride
    half = np.exp(np.minimum(boxes[passed, 2:], _LARGEST_LOG_SIZE)) * (stride / 2)
    landmarks = origin[:, None] + points[passed].reshape(-1, 5, 2) * stride
    return Found(np.concatenate([middle - half, middle + half], axis=1), landmarks, scores[passed])
