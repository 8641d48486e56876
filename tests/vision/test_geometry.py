"""Boxes and their overlaps, against the arithmetic written out."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from facesvc.vision.detection import Detection, Floats, MinimumFace
from facesvc.vision.geometry import Box, non_maximum_suppression, overlaps

Corners = tuple[float, float, float, float]

# Multiples of an eighth, so that float32 and Python's floats agree to the last bit of the areas.
coordinates = st.integers(-400, 400).map(lambda value: value / 8)
corners = st.tuples(coordinates, coordinates, coordinates, coordinates).map(
    lambda c: (min(c[0], c[2]), min(c[1], c[3]), max(c[0], c[2]) + 1, max(c[1], c[3]) + 1)
)
scored = st.lists(st.tuples(corners, st.sampled_from([0.25, 0.5, 0.75, 1.0])), max_size=12)


def overlap(a: Corners, b: Corners, *, of_smaller: bool) -> float:
    width, height = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    shared = max(width, 0) * max(height, 0)
    area_a, area_b = ((c[2] - c[0]) * (c[3] - c[1]) for c in (a, b))
    return shared / (min(area_a, area_b) if of_smaller else area_a + area_b - shared)


def survivors(boxes: list[Corners], scores: list[float], threshold: float, *, of_smaller: bool) -> list[int]:
    kept: list[int] = []
    for i in sorted(range(len(boxes)), key=lambda i: -scores[i]):
        if all(np.float32(overlap(boxes[i], boxes[j], of_smaller=of_smaller)) <= threshold for j in kept):
            kept.append(i)
    return kept


def array(boxes: list[Corners]) -> Floats:
    return np.array(boxes, np.float32).reshape(-1, 4)


@given(scored, st.booleans())
def test_overlaps_are_the_shared_areas(drawn: list[tuple[Corners, float]], of_smaller: bool) -> None:  # noqa: FBT001
    boxes = [box for box, _ in drawn]
    expected = [[overlap(a, b, of_smaller=of_smaller) for b in boxes] for a in boxes]
    found = overlaps(array(boxes), of_smaller=of_smaller)
    np.testing.assert_allclose(found, np.array(expected).reshape(found.shape), rtol=1e-6)
    assert found.dtype == np.float32


@given(scored, st.sampled_from([0.0, 0.3, 0.5, 0.7, 1.0]), st.booleans())
def test_suppression_keeps_what_the_loop_keeps(
    drawn: list[tuple[Corners, float]],
    threshold: float,
    of_smaller: bool,  # noqa: FBT001
) -> None:
    boxes, scores = [box for box, _ in drawn], [score for _, score in drawn]
    kept = non_maximum_suppression(array(boxes), np.array(scores, np.float32), threshold, of_smaller=of_smaller)
    assert kept.tolist() == survivors(boxes, scores, threshold, of_smaller=of_smaller)


def test_no_boxes() -> None:
    none = np.empty((0, 4), np.float32)
    assert overlaps(none).shape == (0, 0)
    assert non_maximum_suppression(none, np.empty(0, np.float32), 0.5).shape == (0,)


def test_boxes_without_area_share_nothing() -> None:
    assert not overlaps(array([(3, 3, 3, 3), (5, 5, 4, 9), (0, 0, 9, 0)])).any()


def test_a_box_inside_another() -> None:
    pair = array([(0, 0, 10, 10), (2, 2, 4, 4)])
    assert overlaps(pair)[0, 1] == np.float32(0.04)
    assert overlaps(pair, of_smaller=True)[0, 1] == 1


@pytest.mark.parametrize("bad", [0.0, -1.0, math.nan, math.inf])
def test_a_box_refuses_a_size_that_is_none(bad: float) -> None:
    for size in ((bad, 1.0), (1.0, bad)):
        with pytest.raises(ValueError, match="needs a width and a height"):
            Box(0, 0, *size)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_box_refuses_a_place_that_is_none(bad: float) -> None:
    for place in ((bad, 1.0), (1.0, bad)):
        with pytest.raises(ValueError, match="needs a place"):
            Box(*place, 1, 1)


@pytest.mark.parametrize(
    "landmarks", [np.zeros((4, 2), np.float32), np.zeros((5, 2)), np.full((5, 2), np.nan, np.float32)]
)
def test_a_detection_refuses_landmarks_that_are_none(landmarks: Floats) -> None:
    with pytest.raises(ValueError, match="landmarks must be"):
        Detection(Box(0, 0, 1, 1), landmarks, 1.0)


def test_scaling() -> None:
    face = Detection(Box(1, 2, 3, 4), np.arange(10, dtype=np.float32).reshape(5, 2), 0.5).scaled(2)
    assert face.box == Box(2, 4, 6, 8)
    assert face.box.area == 48
    assert face.landmarks.tolist() == (2 * np.arange(10).reshape(5, 2)).tolist()
    assert (face.landmarks.dtype, face.score) == (np.float32, 0.5)


@pytest.mark.parametrize(
    ("minimum", "expected"), [(MinimumFace(), 40.0), (MinimumFace(12, 0.5), 300.0), (MinimumFace(400, 0.5), 400.0)]
)
def test_the_larger_minimum_counts(minimum: MinimumFace, expected: float) -> None:
    assert minimum.in_frame(800, 600) == minimum.in_frame(600, 800) == expected
