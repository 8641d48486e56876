"""Real faces in a real picture, cut, moved, turned and spoilt."""

import cv2
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from facesvc.app import Models
from facesvc.vision import detect_mtcnn
from facesvc.vision.detect_mtcnn import PNET_SIDE, MtcnnDetector
from facesvc.vision.detection import LANDMARKS, Detection, Floats, Network, Pixels
from facesvc.vision.geometry import Box, overlaps

# From here on nothing but faces is found in the picture, wherever it is moved to.
MINIMUM = 80
# Examples share the networks.
few = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def corners(box: Box) -> tuple[float, float, float, float]:
    return box.left, box.top, box.left + box.width, box.top + box.height


def iou(a: Box, b: Box) -> float:
    return float(overlaps(np.array([corners(a), corners(b)], np.float32))[0, 1])


def nearest(face: Detection, found: list[Detection]) -> Detection:
    assert found
    return max(found, key=lambda other: iou(face.box, other.box))


def moved(face: Detection, right: float, down: float, scale: float = 1) -> Detection:
    """Where ``face`` is in a picture that was scaled and then moved."""
    box = face.box.scaled(scale)
    landmarks = face.landmarks * np.float32(scale) + np.array([right, down], np.float32)
    return Detection(Box(box.left + right, box.top + down, box.width, box.height), landmarks, face.score)


def assert_sane(faces: list[Detection]) -> None:
    for face in faces:
        assert np.isfinite([*corners(face.box), *face.landmarks.flat]).all()
        assert 0 < face.score <= 1
        assert isinstance(face.score, float)
    assert [face.score for face in faces] == sorted((face.score for face in faces), reverse=True)


def assert_five_of_six(expected: list[Detection], found: list[Detection]) -> None:
    """Each face is there, and nearly in place but for one head, which is tilted so far that its box wavers."""
    shared, distances = [], []
    for face in expected:
        match = nearest(face, found)
        shared.append(iou(match.box, face.box))
        distances.append(np.abs(match.landmarks - face.landmarks).max() / face.box.width)
    assert min(shared) >= 0.6
    assert sorted(shared)[1] >= 0.8
    assert sorted(distances)[-2] < 0.12


def test_six_people_have_six_faces(six: list[Detection], group: Pixels) -> None:
    assert len(six) == 6
    height, width = group.shape[:2]
    for face in six:
        left, top, right, bottom = corners(face.box)
        assert 0 <= left < right <= width
        assert 0 <= top < bottom <= height
        assert ((face.landmarks > [left, top]) & (face.landmarks < [right, bottom])).all()
        points = dict(zip(LANDMARKS, face.landmarks.tolist(), strict=True))
        assert points["left_eye"][0] < points["right_eye"][0]
        assert points["left_mouth"][0] < points["right_mouth"][0]
        assert max(points["left_eye"][1], points["right_eye"][1]) < points["nose"][1]
        assert points["nose"][1] < min(points["left_mouth"][1], points["right_mouth"][1])
        assert face.score > 0.9
    together = overlaps(np.array([corners(face.box) for face in six], np.float32))
    assert (together - np.eye(6) < 0.1).all()


def test_twice_the_same(detector: MtcnnDetector, group: Pixels) -> None:
    once, again = detector.detect(group, MINIMUM), detector.detect(group, MINIMUM)
    assert_sane(once)
    assert [(face.box, face.score) for face in once] == [(face.box, face.score) for face in again]


@pytest.mark.parametrize("minimum", [20, 80, 110, 130, 150, 200, 500])
def test_the_minimum_is_obeyed(minimum: float, detector: MtcnnDetector, group: Pixels, six: list[Detection]) -> None:
    found = detector.detect(group, minimum)
    assert all(max(face.box.width, face.box.height) >= minimum for face in found)
    # A tenth above it nobody is missed.
    for face in six:
        if max(face.box.width, face.box.height) > 1.1 * minimum:
            assert iou(nearest(face, found).box, face.box) > 0.6


@pytest.mark.parametrize(
    "shape",
    [(0, 0), (0, 9), (9, 0), (1, 1), (5, 5), (6, 6), (11, 12), (12, 12), (2000, 13), (13, 2000), (1, 3000), (25, 7)],
)
@pytest.mark.parametrize("minimum", [PNET_SIDE, 40])
def test_pictures_too_small_or_thin_for_a_face(shape: tuple[int, int], minimum: float, detector: MtcnnDetector) -> None:
    rng = np.random.default_rng(2)
    assert detector.detect(rng.integers(0, 256, (*shape, 3)).astype(np.uint8), minimum) == []


@pytest.mark.parametrize("value", [0, 127, 255])
def test_nobody_in_an_even_picture(value: int, detector: MtcnnDetector) -> None:
    assert detector.detect(np.full((240, 320, 3), value, np.uint8), 24) == []


def test_nobody_where_no_face_is(detector: MtcnnDetector, group: Pixels, six: list[Detection]) -> None:
    below = int(max(corners(face.box)[3] for face in six)) + 200
    assert detector.detect(np.ascontiguousarray(group[below:]), 40) == []


@pytest.mark.parametrize("margin", [1.0, 0.3, 0.1, 0.0, -0.05])
def test_a_face_that_fills_the_frame_or_more(
    margin: float, detector: MtcnnDetector, group: Pixels, six: list[Detection]
) -> None:
    """Cut with a border of ``margin`` times the box; below nought tighter than the box."""
    distances = []
    for face in six:
        left, top, right, bottom = corners(face.box)
        side = max(face.box.width, face.box.height) * margin
        x, y = max(0, round(left - side)), max(0, round(top - side))
        cut = np.ascontiguousarray(group[y : round(bottom + side), x : round(right + side)])
        expected = moved(face, -x, -y)
        found = nearest(expected, detector.detect(cut, MINIMUM))
        assert iou(found.box, expected.box) > 0.6
        distances.append(np.abs(found.landmarks - expected.landmarks).max() / face.box.width)
    # The tilted head again.
    assert sorted(distances)[-2] < 0.1


@pytest.mark.parametrize(("right", "down"), [(1, 0), (7, 13), (40, 3), (101, 57)])
def test_faces_move_with_the_picture(
    right: int, down: int, detector: MtcnnDetector, group: Pixels, six: list[Detection]
) -> None:
    found = detector.detect(cv2.copyMakeBorder(group, down, 0, right, 0, cv2.BORDER_REPLICATE), MINIMUM)  # type: ignore[arg-type]
    assert len(found) == len(six)
    assert_five_of_six([moved(face, right, down) for face in six], found)


@pytest.mark.parametrize("scale", [0.4, 0.7, 1.3, 2.0])
def test_faces_grow_with_the_picture(
    scale: float, detector: MtcnnDetector, group: Pixels, six: list[Detection]
) -> None:
    size = tuple(round(length * scale) for length in group.shape[1::-1])
    found = detector.detect(cv2.resize(group, size, interpolation=cv2.INTER_AREA), MINIMUM * scale)  # type: ignore[arg-type]
    assert len(found) == len(six)
    assert_five_of_six([moved(face, 0, 0, scale) for face in six], found)


def test_a_mirrored_picture_has_mirrored_faces(detector: MtcnnDetector, group: Pixels, six: list[Detection]) -> None:
    found = detector.detect(np.ascontiguousarray(group[:, ::-1]), MINIMUM)
    assert len(found) == len(six)
    for face in six:
        left, top, right, _ = corners(face.box)
        box = Box(group.shape[1] - right, top, right - left, face.box.height)
        # Left and right change places.
        points = face.landmarks[[1, 0, 2, 4, 3]] * [-1, 1] + [group.shape[1] - 1, 0]
        match = max(found, key=lambda other: iou(box, other.box))
        assert iou(match.box, box) >= 0.75
        assert np.abs(match.landmarks - points).mean() < 0.1 * box.width


@few
@given(arrays(np.uint8, st.tuples(st.integers(1, 70), st.integers(1, 70), st.just(3))), st.floats(PNET_SIDE, 100))
def test_noise(detector: MtcnnDetector, pixels: Pixels, minimum: float) -> None:
    assert_sane(detector.detect(pixels, minimum))


def test_windows_outside_the_frame_are_grey_where_nothing_is() -> None:
    frame = np.full((130, 140, 3), 200, np.uint8)
    pyramid = detect_mtcnn._Pyramid(frame)
    inside, across = pyramid.crops(np.array([(5, 5, 25, 25), (-20, 0, 20, 40)], np.float32), 24)
    assert (inside == 200).all()
    assert set(np.unique(across[2:-2, :10])) <= {127, 128}
    assert (across[2:-2, 14:] == 200).all()
    # Beside the frame, above it, far beyond it.
    for square in [(-90, 0, -70, 20), (500, 0, 520, 20), (0, -90, 20, -70), (0, 500, 20, 520), (-90, 500, -70, 520)]:
        (crop,) = pyramid.crops(np.array([square], np.float32), 24)
        assert crop.shape == (24, 24, 3)
        assert (crop == 200).mean() < 0.1
    nothing, corner = pyramid.crops(np.array([(7, 7, 7, 7), (135, -9, 160, 16)], np.float32), 24)
    assert nothing.shape == corner.shape == (24, 24, 3)


def test_strips_of_a_large_view_give_the_windows_of_the_whole(
    detector: MtcnnDetector, group: Pixels, monkeypatch: pytest.MonkeyPatch
) -> None:
    for height, width in [(12, 12), (13, 300), (97, 120), (100, 121), (231, 64)]:
        view = np.ascontiguousarray(group[100 : 100 + height, 300 : 300 + width])
        monkeypatch.setattr(detect_mtcnn, "_STRIP_PIXELS", 1 << 30)
        whole = detector._scan_strips(view)
        for pixels in (1, 1000, 5000):
            monkeypatch.setattr(detect_mtcnn, "_STRIP_PIXELS", pixels)
            for part, expected in zip(detector._scan_strips(view), whole, strict=True):
                np.testing.assert_allclose(part, expected, atol=1e-5)


def test_no_network_sees_more_than_a_strip(models: Models, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(detect_mtcnn, "_STRIP_PIXELS", 1 << 14)
    seen = []

    def watched(blob: Floats) -> tuple[Floats, ...]:
        seen.append(blob.shape[2] * blob.shape[3])
        return detector._pnet(blob)

    detector = models.detector
    watcher = MtcnnDetector(watched, detector._rnet, detector._onet)
    width = 500
    watcher.detect(np.zeros((700, width, 3), np.uint8), PNET_SIDE)
    assert max(seen) <= (1 << 14) + PNET_SIDE * width


def test_many_windows_are_bounded(models: Models) -> None:
    """A network that calls everything a face cannot make the next one see more than ``most_windows``."""
    counts: dict[str, int] = {"rnet": 0, "onet": 0}

    def eager(blob: Floats) -> tuple[Floats, ...]:
        rows, columns = ((length + 1) // 2 - 5 for length in blob.shape[2:])
        return np.zeros((1, 4, rows, columns), np.float32), np.ones((1, 1, rows, columns), np.float32)

    def counted(role: str, *widths: int) -> Network:
        def network(blob: Floats) -> tuple[Floats, ...]:
            counts[role] += len(blob)
            return *(np.zeros((len(blob), width), np.float32) for width in widths), np.ones((len(blob), 1), np.float32)

        return network

    detector = MtcnnDetector(eager, counted("rnet", 4), counted("onet", 4, 10), most_windows=20)
    found = detector.detect(np.zeros((300, 300, 3), np.uint8), PNET_SIDE)
    assert 0 < len(found) <= counts["onet"] <= counts["rnet"] <= 20
    assert_sane(found)
