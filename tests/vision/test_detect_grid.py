"""How a picture is laid before a network and what is made of its answers; the network and its head are scripted."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from facesvc.vision.detect_grid import Found, GridDetector, GridInput
from facesvc.vision.detect_scrfd import ScrfdHead
from facesvc.vision.detection import Floats, Pixels

NONE = Found(np.zeros((0, 4), np.float32), np.zeros((0, 5, 2), np.float32), np.zeros(0, np.float32))
POINTS = np.array([(0.3, 0.4), (0.7, 0.4), (0.5, 0.6), (0.35, 0.8), (0.65, 0.8)], np.float32)
PLAIN = GridInput((0, 0, 0), 1.0, "RGB", None, 40.0, 20.0)
FIXED = GridInput((0, 0, 0), 1.0, "RGB", 640, 40.0, 20.0)


def found(*boxes: tuple[float, float, float, float], scores: Sequence[float] = ()) -> Found:
    """Faces in boxes (left, top, right, bottom), each less sure than the one before."""
    corners = np.array(boxes, np.float32).reshape(-1, 4)
    with np.errstate(all="ignore"):
        points = corners[:, None, :2] + POINTS * (corners[:, None, 2:] - corners[:, None, :2])
    given = scores if len(scores) else [0.9 - 0.001 * n for n in range(len(boxes))]
    return Found(corners, points.astype(np.float32), np.array(given, np.float32))


@dataclass
class Script:
    """A network that remembers what it saw, and a head that says ``answer`` of it, asked for faces of ``score``."""

    answer: Callable[[int, int], Found] = lambda *_: NONE
    score: float = 0.5
    seen: list[Floats] = field(default_factory=list)

    def __call__(self, blob: Floats) -> tuple[Floats, ...]:
        self.seen.append(blob)
        return ()

    def read(self, outputs: Sequence[Floats], height: int, width: int, score: float) -> Found:
        assert not outputs
        assert self.seen[-1].shape == (1, 3, height, width)
        assert score == self.score
        return self.answer(height, width)


def detector(script: Script, given: GridInput = PLAIN, *, coarse_look: bool = False) -> GridDetector:
    return GridDetector(script, script, given, coarse_look=coarse_look)


def picture(height: int, width: int, value: int = 200) -> Pixels:
    return np.full((height, width, 3), value, np.uint8)


@pytest.mark.parametrize(
    ("shape", "minimum", "canvas", "view"),
    [
        ((480, 640), 40, (480, 640), (480, 640)),
        ((480, 640), 80, (256, 320), (240, 320)),
        ((100, 100), 20, (224, 224), (200, 200)),
        # Never more than twice as large.
        ((100, 100), 12, (224, 224), (200, 200)),
        ((1, 1), 12, (32, 32), (2, 2)),
        ((1, 1), 4096, (32, 32), (1, 1)),
        ((1, 5000), 12, (32, 10016), (2, 10000)),
        ((5000, 1), 400, (512, 32), (500, 1)),
        ((4000, 6000), 500, (320, 480), (320, 480)),
        ((333, 500), 40, (352, 512), (333, 500)),
    ],
)
def test_the_smallest_face_wanted_gets_the_size_at_which_it_is_found(
    shape: tuple[int, int], minimum: float, canvas: tuple[int, int], view: tuple[int, int]
) -> None:
    script = Script()
    assert detector(script).detect(picture(*shape), minimum) == []
    (blob,) = script.seen
    assert blob.shape[2:] == canvas
    # The picture is in the corner, the rest is black.
    assert (blob[0, :, : view[0], : view[1]] == 200).all()
    assert blob.sum() == 3 * 200 * view[0] * view[1]
    assert blob.dtype == np.float32


@pytest.mark.parametrize(
    ("shape", "minimum", "view", "smallest"),
    [
        ((480, 640), 40, (480, 640), 40),
        ((480, 640), 24, (480, 640), 40),
        ((480, 640), 80, (240, 320), 80),
        ((1080, 1920), 24, (360, 640), 120),
        ((1080, 1920), 200, (216, 384), 200),
        ((1, 1), 12, (2, 2), 20),
        ((1, 5000), 12, (1, 640), 312.5),
        ((8000, 100), 40, (640, 8), 500),
    ],
)
def test_a_fixed_input_has_room_for_so_much_and_says_so(
    shape: tuple[int, int], minimum: float, view: tuple[int, int], smallest: float
) -> None:
    script = Script()
    fixed = detector(script, FIXED)
    fixed.detect(picture(*shape), minimum)
    (blob,) = script.seen
    assert blob.shape == (1, 3, 640, 640)
    assert blob[0, 0].any(axis=1).sum() == view[0]
    assert blob[0, 0].any(axis=0).sum() == view[1]
    assert fixed.smallest_face(shape[1], shape[0], minimum) == pytest.approx(smallest)
    assert (fixed.detail, fixed.scanned_face) == (40, 40)


def test_a_free_input_shows_every_face_that_twice_the_picture_does() -> None:
    free = detector(Script())
    assert free.smallest_face(4000, 3000, 40) == 40
    assert free.smallest_face(4000, 3000, 20) == 20
    assert free.smallest_face(100, 100, 12) == 20


@pytest.mark.parametrize(("order", "expected"), [("RGB", (19 / 2, 36 / 2, 53 / 2)), ("BGR", (53 / 2, 36 / 2, 19 / 2))])
def test_the_mean_goes_and_the_rest_is_divided(order: str, expected: tuple[float, ...]) -> None:
    script = Script()
    pixels = np.full((32, 32, 3), (20, 40, 60), np.uint8)
    mean = (1.0, 4.0, 7.0) if order == "RGB" else (7.0, 4.0, 1.0)
    detector(script, GridInput(mean, 2.0, order, None, 40.0, 20.0)).detect(pixels, 40)
    np.testing.assert_allclose(script.seen[0][0, :, 5, 5], expected)


def test_faces_are_in_pixels_of_the_picture() -> None:
    script = Script(lambda *_: found((10, 20, 60, 90)))
    (face,) = detector(script).detect(picture(480, 640), 80)
    assert (face.box.left, face.box.top, face.box.width, face.box.height) == (20, 40, 100, 140)
    np.testing.assert_allclose(face.landmarks, (np.array([10, 20]) + POINTS * [50, 70]) * 2, rtol=1e-6)
    # The sides of a view are whole pixels, so both directions have a scale of their own.
    (face,) = detector(script).detect(picture(101, 333), 80)
    assert face.box.width == pytest.approx(50 * 333 / 166)
    assert face.box.height == pytest.approx(70 * 101 / 50)
    np.testing.assert_allclose(
        face.landmarks, (np.array([10, 20]) + POINTS * [50, 70]) * [333 / 166, 101 / 50], rtol=1e-6
    )


def test_smaller_faces_than_wanted_are_left_out_whichever_side_is_long() -> None:
    script = Script(lambda *_: found((0, 0, 39, 39), (100, 0, 120, 41), (200, 0, 241, 20), scores=(0.9, 0.8, 0.7)))
    faces = detector(script).detect(picture(480, 640), 40)
    assert [face.box.left for face in faces] == [100, 200]


def test_each_face_comes_once_the_surest_first() -> None:
    script = Script(lambda *_: found((0, 0, 100, 100), (5, 5, 105, 105), (300, 0, 400, 100), scores=(0.6, 0.8, 0.7)))
    faces = detector(script).detect(picture(480, 640), 40)
    assert [(face.box.left, face.score) for face in faces] == [(5, pytest.approx(0.8)), (300, pytest.approx(0.7))]


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 3e38, -3e38, 1e6])
@pytest.mark.parametrize("place", ["box", "point", "score"])
def test_what_is_no_place_is_dropped_and_the_others_stay(value: float, place: str) -> None:
    def answer(*_: int) -> Found:
        said = found((0, 0, 100, 100), (200, 200, 300, 300))
        if place == "box":
            said.boxes[0, 2] = value
        elif place == "point":
            said.landmarks[0, 4, 1] = value
        else:
            said.scores[0] = value if not np.isfinite(value) else np.nan
        return said

    (face,) = detector(Script(answer)).detect(picture(480, 640), 40)
    assert face.box.left == 200


def test_a_box_without_a_size_is_no_face() -> None:
    script = Script(lambda *_: found((100, 0, 0, 100), (0, 100, 100, 0), (50, 50, 50, 150)))
    assert detector(script).detect(picture(480, 640), 40) == []


def test_a_score_is_one_at_most() -> None:
    (face,) = detector(Script(lambda *_: found((0, 0, 99, 99), scores=[1.5]))).detect(picture(480, 640), 40)
    assert face.score == 1


def test_no_more_boxes_than_can_be_compared_are() -> None:
    boxes = [
        (50.0 * column, 50.0 * row, 50.0 * column + 45, 50.0 * row + 45) for row in range(50) for column in range(60)
    ]
    faces = detector(Script(lambda *_: found(*boxes, scores=np.linspace(0.5, 0.9, 3000)))).detect(picture(9, 9), 20)
    assert len(faces) == 2000
    assert faces[0].score == pytest.approx(0.9)


def test_a_face_that_fills_the_frame_is_seen_in_the_coarse_look() -> None:
    def answer(_: int, width: int) -> Found:
        return found((20, 10, 140, 110)) if width == 160 else found((600, 20, 640, 60))

    script = Script(answer)
    faces = detector(script, coarse_look=True).detect(picture(480, 640), 40)
    assert [blob.shape[2:] for blob in script.seen] == [(480, 640), (128, 160)]
    assert sorted((face.box.left, face.box.width) for face in faces) == [(80, 480), (600, 40)]
    without = Script(answer)
    assert [face.box.width for face in detector(without).detect(picture(480, 640), 40)] == [40]
    assert len(without.seen) == 1


def test_a_face_that_both_looks_see_is_one() -> None:
    def answer(_: int, width: int) -> Found:
        scale = width / 640
        return found((100 * scale, 100 * scale, 300 * scale, 300 * scale), scores=[0.6 if width == 640 else 0.8])

    (face,) = detector(Script(answer), coarse_look=True).detect(picture(480, 640), 40)
    assert face.score == pytest.approx(0.8)
    assert face.box.width == pytest.approx(200)


def test_what_is_too_large_for_the_first_look_is_left_to_the_coarse_one() -> None:
    def answer(_: int, width: int) -> Found:
        return NONE if width < 1280 else found((0, 0, 399, 300), (500, 0, 800, 401), scores=(0.7, 0.9))

    script = Script(answer)
    faces = detector(script, coarse_look=True).detect(picture(720, 1280), 40)
    assert [face.box.left for face in faces] == [0]
    # Nobody else would see it.
    assert [face.box.left for face in detector(Script(answer)).detect(picture(720, 1280), 40)] == [500, 0]
    # The coarse look shows faces of 400 pixels as 40, and never less than the whole as 160.
    detector(script, coarse_look=True).detect(picture(1000, 4000), 40)
    assert [blob.shape[2:] for blob in script.seen] == [(736, 1280), (96, 160), (1024, 4000), (128, 416)]


@pytest.mark.parametrize(
    ("shape", "minimum", "looks"), [((160, 640), 40, 1), ((161, 640), 40, 2), ((480, 640), 160, 1), ((90, 90), 12, 2)]
)
def test_a_picture_that_is_small_already_is_looked_at_once(shape: tuple[int, int], minimum: float, looks: int) -> None:
    script = Script()
    detector(script, coarse_look=True).detect(picture(*shape), minimum)
    assert len(script.seen) == looks


numbers = st.floats(width=32) | st.sampled_from([0.5, 1.0, 4.0])


@settings(max_examples=60, deadline=None)
@given(data=st.data(), height=st.integers(1, 70), width=st.integers(1, 70), minimum=st.floats(12, 200))
def test_a_network_may_say_anything(data: st.DataObject, height: int, width: int, minimum: float) -> None:
    def network(blob: Floats) -> tuple[np.ndarray[Any, Any], ...]:
        rows, columns = blob.shape[2] // 32, blob.shape[3] // 32
        outputs = []
        for cells in (16 * rows * columns, 4 * rows * columns, rows * columns):
            for values in (1, 4, 10):
                few = data.draw(st.lists(numbers, min_size=1, max_size=8))
                outputs.append(np.resize(np.array(few, np.float32), (2 * cells, values)))
        return tuple(outputs)

    faces = GridDetector(network, ScrfdHead(), PLAIN).detect(picture(height, width), minimum)
    assert all(max(face.box.width, face.box.height) >= minimum for face in faces)
    assert all(0.5 <= face.score <= 1 for face in faces)
