"""What every detector family returns, and what it is asked for."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from facesvc.errors import InputError
from facesvc.vision.geometry import Box

Floats = NDArray[np.float32]
Pixels = NDArray[np.uint8]

Network = Callable[[Floats], tuple[NDArray[Any], ...]]
"""A neural network: one batch in, its outputs in declared order."""

LANDMARKS = ("left_eye", "right_eye", "nose", "left_mouth", "right_mouth")
"""Order of the five points, left and right as the viewer sees them."""


@dataclass(frozen=True, slots=True)
class Detection:
    """One face found: box and ``landmarks`` (5, 2) float32 x, y in pixels of the image; ``score`` 0 to 1."""

    box: Box
    landmarks: Floats
    score: float

    def __post_init__(self) -> None:
        if self.landmarks.shape != (5, 2) or self.landmarks.dtype != np.float32:
            raise ValueError(f"landmarks must be (5, 2) float32, not {self.landmarks.shape} {self.landmarks.dtype}")
        if not np.isfinite(self.landmarks).all():
            raise ValueError(f"landmarks must be finite, not {self.landmarks.tolist()}")

    def scaled(self, factor: float) -> "Detection":
        """The same face in an image that is ``factor`` times as large."""
        return Detection(self.box.scaled(factor), self.landmarks * np.float32(factor), self.score)


@dataclass(frozen=True, slots=True)
class MinimumFace:
    """The smallest face worth finding: the larger of ``pixels`` and ``fraction`` of the frame's shorter side."""

    pixels: float = 40.0
    fraction: float = 0.0

    def __post_init__(self) -> None:
        if not 12 <= self.pixels <= 4096:
            message = f"the minimum face must be 12 to 4096 pixels, not {self.pixels}"
            raise InputError(message, field="options.minimum_face_pixels")
        if not 0 <= self.fraction <= 1:
            raise InputError(f"must be 0 to 1, not {self.fraction}", field="options.minimum_face_fraction")

    def in_frame(self, width: int, height: int) -> float:
        """Side of the smallest face in a frame of that size, in pixels."""
        return max(self.pixels, self.fraction * min(width, height))
