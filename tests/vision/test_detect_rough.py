"""A rough look finds faces at half the price; refined they have good landmarks. Network and head are scripted."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from vision.test_detect_grid import FIXED, PLAIN, POINTS, Script, detector, found, picture

from facesvc.vision.detect_grid import GridInput
from facesvc.vision.detection import Detection
from facesvc.vision.geometry import Box


@pytest.mark.parametrize(
    ("network", "shape", "minimum", "view"),
    [
        (PLAIN, (480, 640), 40, (240, 320)),
        (PLAIN, (480, 640), 80, (120, 160)),
        (PLAIN, (100, 100), 20, (100, 100)),
        (PLAIN, (100, 100), 12, (166, 166)),
        # A fixed input costs the same however little of it is used.
        (FIXED, (480, 640), 40, (480, 640)),
        (FIXED, (480, 640), 80, (240, 320)),
    ],
)
def test_a_rough_look_shows_faces_as_large_as_they_have_to_be_to_be_found(
    network: GridInput, shape: tuple[int, int], minimum: float, view: tuple[int, int]
) -> None:
    script = Script(score=0.3)
    detector(script, network).detect(picture(*shape), minimum, rough=True)
    (blob,) = script.seen
    assert (blob[0, 0].any(axis=1).sum(), blob[0, 0].any(axis=0).sum()) == view


def test_a_rough_look_keeps_the_doubtful_and_is_in_pixels_of_the_picture() -> None:
    script = Script(lambda *_: found((10, 20, 60, 90), (100, 20, 150, 90), scores=(0.31, 0.9)), score=0.3)
    faces = detector(script).detect(picture(480, 640), 40, rough=True)
    assert [face.score for face in faces] == pytest.approx([0.9, 0.31])
    assert [(face.box.left, face.box.width) for face in faces] == [(200, 100), (20, 100)]


def test_a_rough_look_has_a_coarse_one_too() -> None:
    script = Script(score=0.3)
    detector(script, coarse_look=True).detect(picture(720, 1280), 40, rough=True)
    assert [blob.shape[2:] for blob in script.seen] == [(384, 640), (96, 160)]


def face_in(left: float, top: float, side: float, score: float = 0.6) -> Detection:
    box = Box(left, top, side, side)
    return Detection(box, (np.array([left, top]) + POINTS * side).astype(np.float32), score)


@pytest.mark.parametrize(("side", "again"), [(40, True), (79, True), (80, False), (300, False)])
def test_only_a_face_that_was_shown_small_is_looked_at_again(side: float, again: bool) -> None:  # noqa: FBT001 - a column
    script = Script(score=0.3)
    face = face_in(200, 200, side)
    # Asked for 40 pixels, the rough look showed the picture at half its size.
    assert detector(script).refine(picture(480, 640), face, 40) is face
    assert len(script.seen) == again


def test_a_fixed_input_has_shown_every_face_it_found_well() -> None:
    script = Script(score=0.3)
    detector(script, FIXED).refine(picture(480, 640), face_in(200, 200, 40), 40)
    assert script.seen == []


def test_a_face_is_refined_in_its_surroundings_and_stays_in_pixels_of_the_picture() -> None:
    # The surroundings are 100 pixels wide and shown 128 wide: the face, seen 2 pixels further right, is 64 wide there.
    zoom = 1.28
    script = Script(lambda *_: found((27 * zoom, 25 * zoom, 77 * zoom, 75 * zoom), scores=[0.8]), score=0.3)
    pixels = picture(480, 640, 0)
    pixels[200:300, 300:400] = 200
    refined = detector(script).refine(pixels, face_in(325, 225, 50), 40)
    (blob,) = script.seen
    assert blob.shape == (1, 3, 128, 128)
    assert (blob == 200).all()
    assert (refined.box.left, refined.box.top) == (pytest.approx(327), pytest.approx(225))
    assert (refined.box.width, refined.box.height) == (pytest.approx(50), pytest.approx(50))
    np.testing.assert_allclose(refined.landmarks, np.array([327, 225]) + POINTS * 50, rtol=1e-5)
    assert refined.score == pytest.approx(0.8)


def test_a_small_face_is_enlarged_but_not_without_end() -> None:
    script = Script(score=0.3)
    detector(script).refine(picture(480, 640), face_in(200, 200, 12), 12)
    (blob,) = script.seen
    assert blob[0, 0].any(axis=0).sum() == 96


def test_refined_a_face_is_no_less_sure_than_it_was() -> None:
    script = Script(lambda *_: found((32, 32, 96, 96), scores=[0.35]), score=0.3)
    assert detector(script).refine(picture(480, 640), face_in(325, 225, 50, 0.6), 40).score == pytest.approx(0.6)


def test_the_neighbour_is_not_the_face() -> None:
    # A surer face beside it, and one that hardly overlaps.
    beside = Script(lambda *_: found((70, 32, 134, 96), (33, 32, 97, 96), scores=(0.99, 0.4)), score=0.3)
    assert detector(beside).refine(picture(480, 640), face_in(325, 225, 50), 40).box.left == pytest.approx(325, abs=2)
    away = Script(lambda *_: found((70, 70, 134, 134), scores=[0.99]), score=0.3)
    face = face_in(325, 225, 50)
    assert detector(away).refine(picture(480, 640), face, 40) is face


def test_at_the_edge_of_the_picture_its_surroundings_are_smaller() -> None:
    # 40 pixels of the face are in the picture, and 25 beside it: shown twice as large less a little.
    zoom = 128 / 75
    script = Script(lambda *_: found((0, 0, 50 * zoom, 50 * zoom)), score=0.3)
    refined = detector(script).refine(picture(480, 640), face_in(0, 0, 50), 40)
    assert (refined.box.left, refined.box.top) == (0, 0)
    assert refined.box.width == pytest.approx(50)
    script = Script(score=0.3)
    detector(script).refine(picture(480, 640), face_in(620, 450, 50), 40)
    (blob,) = script.seen
    # 45 pixels remain to the right and 55 below.
    assert blob[0, 0].any(axis=1).sum() == 128
    assert blob[0, 0].any(axis=0).sum() == int(45 * 128 / 55)


@pytest.mark.parametrize(("left", "top"), [(-200, 100), (700, 100), (100, -200), (100, 600), (-200, -200)])
def test_a_face_beyond_the_picture_is_as_it_is(left: float, top: float) -> None:
    script = Script(score=0.3)
    face = face_in(left, top, 50)
    assert detector(script).refine(picture(480, 640), face, 40) is face
    assert script.seen == []


@settings(max_examples=100, deadline=None)
@given(
    left=st.floats(-1e5, 1e5),
    top=st.floats(-1e5, 1e5),
    side=st.floats(1e-3, 1e5),
    height=st.integers(1, 90),
    width=st.integers(1, 90),
    minimum=st.floats(12, 4096),
)
def test_any_face_can_be_refined(left: float, top: float, side: float, height: int, width: int, minimum: float) -> None:
    script = Script(lambda *_: found((0, 0, 50, 50), (20, 20, 90, 90)), score=0.3)
    refined = detector(script).refine(picture(height, width), face_in(left, top, side), minimum)
    assert np.isfinite(refined.landmarks).all()
    # Never at a price worth speaking of.
    assert all(blob.size <= 3 * 128 * 128 for blob in script.seen)
