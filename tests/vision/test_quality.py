"""Pose, sharpness and light are what was done to the picture."""

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from facesvc.vision.detection import Detection, Floats, Pixels
from facesvc.vision.embed import Embedder
from facesvc.vision.geometry import Box
from facesvc.vision.quality import _HEAD, Quality, assess, head_pose

PARTS = {"size", "sharpness", "light", "pose", "detection"}


def rotated_head(yaw: float, pitch: float, roll: float, scale: float = 40) -> Floats:
    """Landmarks of the mean head, turned to the viewer's right, nodding, tilted clockwise, seen from afar."""
    y, p, r = np.radians([yaw, pitch, roll])
    turn = np.array([[np.cos(y), 0, np.sin(y)], [0, 1, 0], [-np.sin(y), 0, np.cos(y)]])
    nod = np.array([[1, 0, 0], [0, np.cos(p), np.sin(p)], [0, -np.sin(p), np.cos(p)]])
    tilt = np.array([[np.cos(r), -np.sin(r)], [np.sin(r), np.cos(r)]])
    return ((_HEAD @ turn.T @ nod.T)[:, :2] @ tilt.T * scale + 100).astype(np.float32)


def detection(landmarks: Floats, side: float = 100, score: float = 1.0) -> Detection:
    return Detection(Box(0, 0, side, side), landmarks, score)


@pytest.fixture
def chip(embedder: Embedder, astronaut: Pixels, astronaut_face: Detection) -> Pixels:
    return embedder.align(astronaut, astronaut_face.landmarks)


def quality_of(chip: Pixels, side: float = 100, score: float = 1.0, scale: float = 1.0) -> Quality:
    return assess(detection(rotated_head(0, 0, 0), side, score), chip, scale)


@given(st.floats(-70, 70), st.floats(-179, 179))
def test_a_turn_is_found_however_the_head_is_tilted(yaw: float, roll: float) -> None:
    np.testing.assert_allclose(head_pose(rotated_head(yaw, 0, roll)), (yaw, 0, roll), atol=0.05)


@given(st.floats(-60, 60), st.floats(-179, 179))
def test_a_nod_is_found_however_the_head_is_tilted(pitch: float, roll: float) -> None:
    np.testing.assert_allclose(head_pose(rotated_head(0, pitch, roll)), (0, pitch, roll), atol=0.05)


@given(st.floats(-25, 25), st.floats(-25, 25), st.floats(1, 500), st.floats(-100, 100))
def test_both_at_once_are_found_roughly_at_any_size_and_place(
    yaw: float, pitch: float, scale: float, at: float
) -> None:
    found = head_pose(rotated_head(yaw, pitch, 0, scale) + np.float32(at))
    np.testing.assert_allclose(found[:2], (yaw, pitch), atol=8)


@given(st.floats(-50, 50), st.floats(-40, 40), st.floats(-60, 60))
def test_a_mirror_turns_yaw_and_roll_around(yaw: float, pitch: float, roll: float) -> None:
    landmarks = rotated_head(yaw, pitch, roll)
    mirrored = landmarks[[1, 0, 2, 4, 3]] * np.array([-1, 1], np.float32)
    expected = head_pose(landmarks) * np.array([-1, 1, -1])
    np.testing.assert_allclose(head_pose(mirrored), expected, atol=0.05)


def test_the_frontal_template_looks_ahead(embedder: Embedder) -> None:
    assert np.abs(head_pose(embedder.template)).max() < 5


def test_real_heads_look_where_they_look(six: list[Detection]) -> None:
    yaws, _, rolls = zip(*(head_pose(face.landmarks) for face in six), strict=True)
    # In the picture from left to right: the first looks to the right, the fifth to the left, more than all others.
    assert yaws[0] > 0
    assert yaws[4] == min(yaws) < -30
    # The second tilts her head to the left.
    assert rolls[1] < -20


points = st.lists(
    st.tuples(st.floats(-1e4, 1e4, width=32), st.floats(-1e4, 1e4, width=32)) | st.just((3.0, 3.0)),
    min_size=5,
    max_size=5,
)


@settings(deadline=None, max_examples=60)
@given(points, st.integers(0, 255), st.floats(0, 1), st.floats(0.1, 1e4), st.sampled_from([1, 0.5, 0.125]))
def test_whatever_comes_the_score_is_a_share(
    landmarks: list[tuple[float, float]], light: int, score: float, side: float, scale: float
) -> None:
    found = detection(np.array(landmarks, np.float32), side, score)
    quality = assess(found, np.full((150, 150, 3), light, np.uint8), scale)
    assert 0 <= quality.score <= 1
    assert 0 <= quality.sharpness <= 1
    assert 0 <= quality.brightness <= 1
    assert abs(quality.yaw) <= 90
    assert abs(quality.pitch) <= 90
    assert abs(quality.roll) <= 180
    assert quality.weakest in PARTS


def test_landmarks_that_coincide_have_no_pose() -> None:
    assert head_pose(np.full((5, 2), 7, np.float32)) == (0, 0, 0)


def test_a_good_face_is_full_quality(chip: Pixels) -> None:
    assert quality_of(chip).score == 1


def test_blur_takes_sharpness_away(chip: Pixels) -> None:
    blurred = [quality_of(chip)] + [
        quality_of(cv2.GaussianBlur(chip, (0, 0), sigma))  # type: ignore[arg-type]
        for sigma in (0.5, 1, 2, 3, 5, 8)
    ]
    sharpness = [quality.sharpness for quality in blurred]
    assert sharpness == sorted(sharpness, reverse=True)
    assert [quality.score for quality in blurred] == sorted((quality.score for quality in blurred), reverse=True)
    assert blurred[-1].score < 0.2
    assert blurred[-1].weakest == "sharpness"


def test_dark_and_bright(chip: Pixels) -> None:
    dimmed = [quality_of((chip * share).astype(np.uint8)) for share in (1, 0.5, 0.2, 0.1, 0.02)]
    assert [quality.brightness for quality in dimmed] == sorted((q.brightness for q in dimmed), reverse=True)
    assert (dimmed[-2].weakest, dimmed[-1].score) == ("light", 0)
    glaring = quality_of((255 - (255 - chip.astype(int)) // 50).astype(np.uint8))
    assert glaring.brightness > 0.98
    assert glaring.score == 0


def test_size_counts_in_the_full_picture(chip: Pixels) -> None:
    assert quality_of(chip, side=50, scale=0.25).face_pixels == 200
    scores = [quality_of(chip, side) for side in (8, 20, 40, 60, 200)]
    assert [quality.score for quality in scores] == sorted(quality.score for quality in scores)
    assert (scores[0].score, scores[0].weakest, scores[-1].score) == (0, "size", 1)
    found = Detection(Box(0, 0, 70, 30), rotated_head(0, 0, 0), 1.0)
    assert assess(found, chip, 1.0).face_pixels == 30


@pytest.mark.parametrize("sign", [-1, 1])
@pytest.mark.parametrize("axis", [0, 1])
def test_a_head_turned_away_is_worth_less(axis: int, sign: int, chip: Pixels) -> None:
    scores = []
    for angle in (0, 30, 40, 80):
        turned = rotated_head(*(sign * angle if axis == i else 0 for i in range(3)))
        scores.append(assess(detection(turned), chip, 1.0))
    assert [quality.score for quality in scores] == sorted((quality.score for quality in scores), reverse=True)
    assert (scores[0].score, scores[1].weakest, scores[-1].score) == (1, "pose", 0)


def test_a_doubtful_detection_is_worth_less(chip: Pixels) -> None:
    doubtful = quality_of(chip, score=0.7)
    assert (doubtful.weakest, doubtful.score) == ("detection", pytest.approx(0.5))


def test_a_tilted_head_is_worth_as_much(chip: Pixels) -> None:
    assert assess(detection(rotated_head(0, 0, 90)), chip, 1.0).score == 1
