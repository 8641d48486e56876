"""The real networks, loaded once, and pictures of real faces."""

import io
from pathlib import Path

import cv2
import numpy as np
import PIL.Image
import pytest
import skimage.data

from facesvc.config import ModelSettings, Settings
from facesvc.engine import Models, load_models
from facesvc.vision.detect_mtcnn import MtcnnDetector
from facesvc.vision.detection import Detection, Pixels
from facesvc.vision.embed import Embedder


@pytest.fixture(scope="session")
def models(pack_cache: Path) -> Models:
    return load_models(Settings(models=ModelSettings(cache_dir=pack_cache)))


@pytest.fixture(scope="session")
def detector(models: Models) -> MtcnnDetector:
    return models.detector


@pytest.fixture(scope="session")
def embedder(models: Models) -> Embedder:
    return models.embedder


@pytest.fixture(scope="session")
def group(group_jpeg: bytes) -> Pixels:
    """Six people."""
    return np.asarray(PIL.Image.open(io.BytesIO(group_jpeg)).convert("RGB"))


@pytest.fixture(scope="session")
def six(detector: MtcnnDetector, group: Pixels) -> list[Detection]:
    """The six faces, from left to right."""
    return sorted(detector.detect(group, 40), key=lambda face: face.box.left)


@pytest.fixture(scope="session")
def astronaut() -> Pixels:
    """One person, 512 x 512."""
    return np.ascontiguousarray(skimage.data.astronaut())


@pytest.fixture(scope="session")
def astronaut_face(detector: MtcnnDetector, astronaut: Pixels) -> Detection:
    (face,) = detector.detect(astronaut, 60)
    return face


@pytest.fixture(scope="session")
def photo(group: Pixels) -> Pixels:
    """A small real picture of odd size, for files of every format."""
    return cv2.resize(group, (93, 61), interpolation=cv2.INTER_AREA)  # type: ignore[return-value]
