"""Crops: what is kept of a face is enough to embed it again."""

import io

import numpy as np
import PIL.Image
import pytest

from facesvc.engine import Models
from facesvc.vision.crop import kept_crop
from facesvc.vision.decode import ImageLimits
from facesvc.vision.detection import MinimumFace
from facesvc.vision.geometry import Box


def size(crop: bytes) -> tuple[int, int]:
    picture = PIL.Image.open(io.BytesIO(crop))
    assert picture.format == "JPEG"
    return picture.size


@pytest.mark.parametrize(
    ("box", "expected"),
    [
        (Box(100, 100, 50, 40), (100, 100)),  # twice the longer side
        (Box(0, 0, 50, 50), (75, 75)),  # cut off at the edge of the frame
        (Box(-30, 280, 40, 40), (30, 40)),
        (Box(50, 50, 300, 200), (205, 192)),  # shrunk: the face is 192 pixels, and the frame is smaller than the margin
        (Box(-500, -500, 10, 10), (1, 1)),  # a box that lies outside still gives a picture
    ],
)
def test_twice_the_face_within_the_frame(box: Box, expected: tuple[int, int]) -> None:
    assert size(kept_crop(np.zeros((300, 320, 3), np.uint8), box)) == expected


def test_colours_stay_in_their_order() -> None:
    red = np.zeros((100, 100, 3), np.uint8)
    red[..., 0] = 200
    crop = np.asarray(PIL.Image.open(io.BytesIO(kept_crop(red, Box(30, 30, 40, 40)))))
    assert np.abs(crop.reshape(-1, 3).mean(axis=0) - (200, 0, 0)).max() < 3


def test_everybody_is_found_again_in_their_crop(models: Models, group_jpeg: bytes) -> None:
    pipeline = models.pipeline(ImageLimits())
    faces = pipeline.embed(group_jpeg, MinimumFace(40), 32).faces
    assert len(faces) == 6
    for face in faces:
        crop = pipeline.crop(group_jpeg, face.detection)
        again = pipeline.find(crop)
        assert again is not None
        similarities = [float(again.vector @ other.vector) for other in faces]
        assert max(similarities) == float(again.vector @ face.vector) > 0.94
        assert len(crop) < 60_000


def test_a_crop_without_a_face(models: Models) -> None:
    pipeline = models.pipeline(ImageLimits())
    assert pipeline.find(kept_crop(np.full((200, 200, 3), 90, np.uint8), Box(50, 50, 100, 100))) is None
