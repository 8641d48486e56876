"""What is kept of an enrolled face, so that it can be embedded again by models that nobody knows yet.

Detectors differ in what they call the box of a face, and embedders in how much around it they look at; so a square of
twice the box is kept, at a size that no embedder needs more of, as a JPEG that has lost hardly anything.
"""

import cv2
import numpy as np

from facesvc.vision.detection import Pixels
from facesvc.vision.geometry import Box

_MARGIN = 2.0
# Chips show a face about 100 pixels wide.
_FACE_PIXELS = 192.0
_JPEG_QUALITY = 95
SEARCHED_SHARE = 0.25
"""The face in a crop is at least this share of its shorter side, also where the frame's edge cut the crop off."""


def kept_crop(pixels: Pixels, box: Box) -> bytes:
    """The JPEG of a face: at most 384 x 384 pixels, less at the edge of the frame.

    :param pixels: (H, W, 3) uint8 RGB.
    :param box: the face, in pixels of that picture.
    """
    side = max(box.width, box.height)
    x, y, half = box.left + box.width / 2, box.top + box.height / 2, side * _MARGIN / 2
    height, width = pixels.shape[:2]
    left, top = int(np.clip(x - half, 0, width - 1)), int(np.clip(y - half, 0, height - 1))
    right, bottom = int(np.clip(x + half, left + 1, width)), int(np.clip(y + half, top + 1, height))
    part = pixels[top:bottom, left:right]
    if side > _FACE_PIXELS:
        scale = _FACE_PIXELS / side
        size = (max(1, round(part.shape[1] * scale)), max(1, round(part.shape[0] * scale)))
        part = cv2.resize(part, size, interpolation=cv2.INTER_AREA)  # type: ignore[assignment]
    # cv2 writes blue, green, red; 4:4:4, for colours are as good a hint as any.
    quality = [
        cv2.IMWRITE_JPEG_QUALITY,
        _JPEG_QUALITY,
        cv2.IMWRITE_JPEG_SAMPLING_FACTOR,
        cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444,
    ]
    written, encoded = cv2.imencode(".jpg", cv2.cvtColor(part, cv2.COLOR_RGB2BGR), quality)
    assert written
    return encoded.tobytes()
