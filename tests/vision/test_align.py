"""A known transform is found again, and a chip shows the face where the template says."""

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from facesvc.vision.align import Matrix, align, similarity_transform, warp
from facesvc.vision.detect_mtcnn import MtcnnDetector
from facesvc.vision.detection import Detection, Floats, Pixels
from facesvc.vision.embed import Embedder

FACE = np.array([(30, 40), (70, 41), (50, 62), (34, 85), (67, 84)], np.float32)


def similarity(angle: float, scale: float, shift: tuple[float, float]) -> Matrix:
    turn = scale * np.exp(1j * np.radians(angle))
    return np.array([[turn.real, -turn.imag, shift[0]], [turn.imag, turn.real, shift[1]]])


def through(points: Floats, matrix: Matrix) -> Floats:
    return (points @ matrix[:, :2].T + matrix[:, 2]).astype(np.float32)


def centred(scale: float, middle: float, side: int, angle: float = 0) -> Matrix:
    """Takes the point (middle, middle) to the centre of the chip."""
    matrix = similarity(angle, scale, (0, 0))
    matrix[:, 2] = (side - 1) / 2 - matrix[:, :2] @ [middle, middle]
    return matrix


shifts = st.floats(-1000, 1000)


@given(st.floats(-180, 180), st.floats(0.05, 20), st.tuples(shifts, shifts))
def test_a_known_transform_is_found(angle: float, scale: float, shift: tuple[float, float]) -> None:
    matrix = similarity(angle, scale, shift)
    found = similarity_transform(FACE, through(FACE, matrix))
    np.testing.assert_allclose(through(FACE, found), through(FACE, matrix), atol=2e-3)
    np.testing.assert_allclose(found[:, :2], matrix[:, :2], atol=1e-4 * max(scale, 1))


@given(st.lists(st.tuples(st.floats(-50, 50), st.floats(-50, 50)), min_size=5, max_size=5))
def test_nothing_near_fits_better(noise: list[tuple[float, float]]) -> None:
    target = FACE + np.array(noise, np.float32)
    best = similarity_transform(FACE, target)

    def error(matrix: Matrix) -> float:
        return float(np.sum((FACE.astype(float) @ matrix[:, :2].T + matrix[:, 2] - target) ** 2))

    for direction in (similarity(0, 1, (0, 0)), similarity(90, 1, (0, 0))):
        for step in (1e-3, -1e-3):
            assert error(best + step * direction) >= error(best) - 1e-6
    for axis in (0, 1):
        for step in (1e-2, -1e-2):
            moved = best.copy()
            moved[axis, 2] += step
            assert error(moved) >= error(best) - 1e-6


def test_a_mirrored_face_is_not_mirrored_back() -> None:
    found = similarity_transform(FACE, FACE * np.array([-1, 1], np.float32))
    assert np.linalg.det(found[:, :2]) > 0


def test_points_that_coincide_are_shifted() -> None:
    point = np.full((5, 2), 7, np.float32)
    np.testing.assert_allclose(similarity_transform(point, FACE), similarity(0, 1, tuple(FACE.mean(axis=0) - 7)))
    collapsed = similarity_transform(FACE, point)
    np.testing.assert_allclose(collapsed, [[0, 0, 7], [0, 0, 7]], atol=1e-6)
    assert warp(np.zeros((9, 9, 3), np.uint8), collapsed, 20).shape == (20, 20, 3)


@pytest.mark.parametrize("scale", [0.05, 0.13, 0.25, 0.3, 0.49])
def test_strong_shrinking_does_not_alias(scale: float) -> None:
    stripes = np.zeros((2000, 2000, 3), np.uint8)
    stripes[:, ::2] = 255
    chip = warp(stripes, centred(scale, 999.5, 80), 80)
    # Black and white stripes of one pixel are grey from afar. Sampling single pixels would show full bands; the mean of
    # three pixels, the fewest that are averaged when it is not two, leaves a third of them.
    assert np.abs(chip.astype(int) - 127).max() <= 128 / 3 + 1


@pytest.mark.parametrize("factor", [3, 4, 5, 10])
def test_shrinking_shows_what_resizing_shows(factor: int, group: Pixels) -> None:
    side = 60
    left, top = 100, 30
    height, width = (
        min(length, start + side * factor) for length, start in zip(group.shape, (top, left), strict=False)
    )
    part = group[top:height, left:width]
    part = part[: part.shape[0] // factor * factor, : part.shape[1] // factor * factor]
    size = (part.shape[1] // factor, part.shape[0] // factor)
    expected = cv2.resize(part, size, interpolation=cv2.INTER_AREA)
    # Pixel centres: the first pixel of the chip is the middle of the first factor x factor pixels.
    place = -(np.array([left, top]) + (factor - 1) / 2) / factor
    chip = warp(group, similarity(0, 1 / factor, (float(place[0]), float(place[1]))), side)
    inner = (slice(2, size[1] - 2), slice(2, size[0] - 2))
    sharp = np.abs(np.diff(expected[inner].astype(int), axis=1)).mean()
    assert np.abs(chip[inner].astype(int) - expected[inner]).mean() < sharp / 2


@pytest.mark.parametrize("angle", [0, 30, 120])
@pytest.mark.parametrize("scale", [0.1, 0.2, 0.3, 0.45, 0.6])
def test_shrinking_moves_nothing(scale: float, angle: float) -> None:
    """In a picture whose values are its coordinates a chip shows where it was taken from."""
    # Even values, so that the mean of two neighbours is not rounded.
    places, side = np.arange(128, dtype=np.uint8) * 2, 8
    picture = np.dstack([*np.meshgrid(places, places), np.zeros((128, 128), np.uint8)])
    matrix = centred(scale, 64, side, angle)
    back = cv2.invertAffineTransform(matrix)
    expected = np.dstack(np.meshgrid(np.arange(side), np.arange(side))) @ back[:, :2].T + back[:, 2]
    difference = warp(picture, matrix, side)[:, :, :2] / 2 - expected
    assert np.abs(difference.mean(axis=(0, 1))).max() < 0.25


@pytest.mark.parametrize("angle", [0, 20, 45, 190])
@pytest.mark.parametrize("scale", [0.07, 0.15, 0.3, 0.49, 0.5, 0.8, 2.0])
def test_inside_the_picture_no_black_is_mixed_in(scale: float, angle: float) -> None:
    white = np.full((1600, 1600, 3), 255, np.uint8)
    assert warp(white, centred(scale, 800, 60, angle), 60).min() == 255


@pytest.mark.parametrize("scale", [0.2, 1.0])
def test_outside_the_picture_is_black(scale: float) -> None:
    white = np.full((100, 100, 3), 255, np.uint8)
    chip = warp(white, similarity(0, scale, (20, 20)), 200)
    edge = 20 + round(100 * scale)
    assert (chip[22 : edge - 2, 22 : edge - 2] == 255).all()
    assert not chip[:18].any()
    assert not chip[edge + 2 :].any()
    assert not warp(white, similarity(0, scale, (5000, 0)), 50).any()


@pytest.mark.parametrize("shape", [(4, 70_000), (70_000, 4)])
def test_pictures_longer_than_cv2s_short_numbers(shape: tuple[int, int]) -> None:
    picture = np.full((*shape, 3), 9, np.uint8)
    picture[-1, -1] = 200
    for scale in (1.0, 0.4):
        matrix = similarity(0, scale, (10 - (shape[1] - 1) * scale, 10 - (shape[0] - 1) * scale))
        assert warp(picture, matrix, 20)[10, 10, 0] > 9


def test_the_landmarks_of_a_face_lie_on_the_template(
    six: list[Detection], group: Pixels, embedder: Embedder, detector: MtcnnDetector
) -> None:
    distances = []
    for face in six:
        landed = through(face.landmarks, similarity_transform(face.landmarks, embedder.template))
        # A similarity cannot bend a face: what is left over is the shape of this one.
        assert np.linalg.norm(landed - embedder.template, axis=1).max() < 0.1 * embedder.side
        np.testing.assert_allclose(landed.mean(axis=0), embedder.template.mean(axis=0), atol=1e-3)
        # Found anew in the chip, the face is where the transform says.
        chip = align(group, face.landmarks, embedder.template, embedder.side)
        np.testing.assert_array_equal(chip, embedder.align(group, face.landmarks))
        found = detector.detect(cv2.copyMakeBorder(chip, *4 * [60], cv2.BORDER_REPLICATE), 60)  # type: ignore[arg-type, list-item]
        assert len(found) == 1
        distances.append(np.linalg.norm(found[0].landmarks - 60 - landed, axis=1).mean())
    # Two of the six look to the side, where a second look differs by more.
    assert np.median(distances) < 0.02 * embedder.side
    assert max(distances) < 0.06 * embedder.side
