"""Several photos of each person in the group picture, made from it."""

from pathlib import Path

import cv2
import numpy as np
import simplejpeg

from facesvc.config import Settings
from facesvc.engine import load_models
from facesvc.vision.decode import Image
from facesvc.vision.detection import Pixels

# Turn in degrees, light, blur.
_VIEWS = ((0.0, 1.0, 0.1), (5.0, 0.85, 0.6), (-6.0, 1.15, 0.8), (3.0, 1.05, 0.4))


def portraits(group_jpeg: bytes, pack_cache: Path) -> list[Pixels]:
    """The six people of the group from left to right, each about 2 faces wide and high."""
    group = Image.of(simplejpeg.decode_jpeg(group_jpeg, "RGB")).pixels
    models = load_models(Settings.model_validate({"models": {"cache_dir": pack_cache}}))
    found = []
    for face in sorted(models.detector.detect(group, 60.0), key=lambda face: face.box.left):
        side = round(2.0 * face.box.height)
        left = round(face.box.left + face.box.width / 2 - side / 2)
        top = round(face.box.top + face.box.height / 2 - side / 2)
        scene = cv2.copyMakeBorder(group, side, side, side, side, cv2.BORDER_REFLECT)
        found.append(scene[top + side : top + 2 * side, left + side : left + 2 * side].astype(np.uint8))
    return found


def view_of(pixels: Pixels, number: int) -> bytes:
    """Another photo of the same scene, from 1 to 4: turned, lit and blurred a little, as JPEG."""
    turn, light, blur = _VIEWS[number - 1]
    side = pixels.shape[0]
    matrix = cv2.getRotationMatrix2D((side / 2, side / 2), turn, 150 / side)
    matrix[:, 2] += 75 - side / 2
    turned = cv2.warpAffine(pixels, matrix, (150, 150), borderMode=cv2.BORDER_REPLICATE)
    lit = np.clip(cv2.GaussianBlur(turned, (0, 0), blur) * light, 0, 255).astype(np.uint8)
    return bytes(simplejpeg.encode_jpeg(np.ascontiguousarray(lit), quality=92))
