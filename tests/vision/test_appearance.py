"""A glance is enough to see that it is another face, and the light or the exact place do not matter."""

import cv2
import numpy as np
import pytest

from facesvc.vision.appearance import SAME_FACE, appearance
from facesvc.vision.detection import Detection, Pixels
from facesvc.vision.embed import Embedder


def likeness(one: Pixels, other: Pixels) -> float:
    return float(appearance(one) @ appearance(other))


@pytest.fixture(scope="module")
def chips(embedder: Embedder, group: Pixels, six: list[Detection]) -> list[Pixels]:
    """Six people."""
    return [embedder.align(group, face.landmarks) for face in six]


@pytest.mark.parametrize("side", [112, 150, 9])
def test_it_is_a_vector_of_length_one_and_mean_nought(side: int) -> None:
    chip = np.random.default_rng(0).integers(0, 255, (side, side, 3), np.uint8)
    glance = appearance(chip)
    assert (glance.shape, glance.dtype) == ((64,), np.float32)
    assert float(np.linalg.norm(glance)) == pytest.approx(1, abs=1e-5)
    assert float(glance.mean()) == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("value", [0, 127, 255])
def test_without_contrast_it_is_nought_and_like_nothing(value: int, chips: list[Pixels]) -> None:
    plain = np.full((112, 112, 3), value, np.uint8)
    assert not appearance(plain).any()
    assert likeness(plain, chips[0]) == 0


def test_everybody_is_told_from_everybody_else(chips: list[Pixels]) -> None:
    table = np.array([[likeness(one, other) for other in chips] for one in chips])
    np.testing.assert_allclose(table.diagonal(), 1, atol=1e-5)
    assert table[~np.eye(len(chips), dtype=bool)].max() < SAME_FACE


@pytest.mark.parametrize("number", range(6))
def test_light_noise_and_landmarks_that_tremble_do_not_matter(
    number: int, chips: list[Pixels], embedder: Embedder, group: Pixels, six: list[Detection]
) -> None:
    chip, random = chips[number], np.random.default_rng(number)
    darker = (chip * 0.6 + 10).astype(np.uint8)
    noisy = np.clip(chip + random.normal(0, 12, chip.shape), 0, 255).astype(np.uint8)
    blurred = np.asarray(cv2.GaussianBlur(chip, (0, 0), 2.0), np.uint8)
    for seen in (darker, noisy, blurred):
        assert likeness(chip, seen) > 0.98
    landmarks = six[number].landmarks
    width = six[number].box.width
    trembling = [
        embedder.align(group, (landmarks + random.normal(0, 0.015 * width, (5, 2))).astype(np.float32))
        for _ in range(20)
    ]
    assert np.mean([likeness(chip, seen) > SAME_FACE for seen in trembling]) >= 0.9


def test_what_is_beside_the_face_does_not_matter(chips: list[Pixels]) -> None:
    chip = chips[0]
    edge = chip.shape[0] // 8
    framed = np.zeros_like(chip)
    framed[edge:-edge, edge:-edge] = chip[edge:-edge, edge:-edge]
    assert likeness(chip, framed) == pytest.approx(1, abs=1e-5)
    assert likeness(chip, np.ascontiguousarray(chip[::-1])) < SAME_FACE
