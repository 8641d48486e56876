"""Pictures made for tests."""

import io
from typing import Any

import numpy as np
import PIL.Image


def encoded(pixels: np.ndarray[Any, Any], kind: str = "JPEG", **options: Any) -> bytes:
    """``pixels`` as a file."""
    file = io.BytesIO()
    PIL.Image.fromarray(pixels).save(file, kind, **options)
    return file.getvalue()


def grey(width: int = 320, height: int = 240) -> bytes:
    """A picture with nobody in it, for a scripted vision."""
    return encoded(np.full((height, width, 3), 120, np.uint8))


def textured(seed: int = 0, side: int = 240) -> bytes:
    """A picture that passes as sharp, for a scripted vision."""
    pixels = np.random.default_rng(seed).integers(40, 200, (side, side, 3)).astype(np.uint8)
    return encoded(pixels, quality=95)
