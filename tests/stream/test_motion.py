"""Where a face should be: constant velocity while it is seen, soon none when it is not."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from facesvc.stream.motion import Motion
from facesvc.vision.geometry import Box

STEP = 0.1
BOX = Box(100, 50, 80, 100)


def centre(box: Box) -> tuple[float, float]:
    return box.left + box.width / 2, box.top + box.height / 2


def at_rest(box: Box = BOX, clock: float = 10.0) -> Motion:
    return Motion(box, 0.0, 0.0, clock)


def walked(looks: int, right: float = 200.0, down: float = -50.0) -> Motion:
    """Seen so many times at that speed, from (100, 500) at 10 s on."""
    motion = at_rest(Box(100, 500, 80, 100))
    for look in range(1, looks):
        box = Box(100 + right * STEP * look, 500 + down * STEP * look, 80, 100)
        motion = motion.seen(box, 10 + STEP * look)
    return motion


def test_a_face_that_was_seen_once_stays_where_it_is() -> None:
    assert at_rest().at(60).box == at_rest().box
    assert not at_rest().steady


def test_the_second_look_tells_the_speed() -> None:
    motion = walked(2)
    assert (motion.right, motion.down) == pytest.approx((200, -50))
    assert motion.steady
    x, y = centre(motion.at(10.2).box)
    # Less than 20 pixels further: part of the way was not believed, and a face that is not seen slows down.
    assert 150 < x < 180
    assert 535 < y < 550


@pytest.mark.parametrize("looks", [3, 5, 20])
def test_a_steady_walk_is_predicted(looks: int) -> None:
    motion = walked(looks)
    assert (motion.right, motion.down) == (pytest.approx(200, rel=0.2), pytest.approx(-50, rel=0.2))
    x, y = centre(motion.at(10 + STEP * looks).box)
    assert x == pytest.approx(140 + 200 * STEP * looks, abs=4)
    assert y == pytest.approx(550 - 50 * STEP * looks, abs=2)


def test_a_turn_is_followed_within_a_few_looks() -> None:
    motion = walked(10)
    left = motion.box.left
    for look in range(1, 7):
        motion = motion.seen(Box(left - 20 * look, motion.box.top, 80, 100), 10.9 + STEP * look)
    assert motion.right == pytest.approx(-200, rel=0.1)


def test_the_trembling_of_boxes_is_no_speed() -> None:
    random = np.random.default_rng(1)
    motion, speeds = at_rest(), []
    for look in range(1, 200):
        right, down = random.uniform(-2, 2, 2)
        motion = motion.seen(Box(100 + right, 50 + down, 80, 100), 10 + STEP * look)
        speeds.append(abs(motion.right))
        assert motion.box.left == pytest.approx(100, abs=4)
    assert np.mean(speeds) < 20


def test_out_of_sight_a_face_slows_down_and_stops() -> None:
    motion = walked(10)
    lefts = [motion.at(motion.clock + seconds).box.left for seconds in (0, 0.1, 0.6, 10, 50)]
    ways = np.diff(lefts)
    assert (ways >= 0).all()
    assert ways[0] == pytest.approx(20, abs=1)
    assert lefts[-1] - lefts[0] == pytest.approx(200 * 1.0, rel=0.15)
    assert lefts[-1] == pytest.approx(lefts[-2], abs=0.1)


def test_earlier_than_the_last_look_it_is_where_it_was_seen() -> None:
    motion = walked(10)
    assert motion.at(motion.clock - 3) == motion.at(motion.clock) == motion


def test_looks_at_the_same_time_say_nothing_of_speed() -> None:
    motion = walked(5)
    again = motion.seen(Box(0, 0, 60, 60), motion.clock + 1e-6)
    assert (again.right, again.down, again.clock) == (motion.right, motion.down, motion.clock)
    assert again.box == Box(0, 0, 60, 60)
    assert motion.seen(Box(0, 0, 60, 60), motion.clock - 1).right == motion.right


def test_sizes_are_smoothed_about_the_centre() -> None:
    motion = at_rest(Box(100, 100, 80, 100)).seen(Box(90, 80, 100, 140), 10.1)
    assert (motion.box.width, motion.box.height) == (90, 120)
    assert centre(motion.box) == (140, 150)


def test_in_a_picture_of_another_size_all_is_scaled() -> None:
    motion = walked(6)
    half = motion.scaled(0.5)
    assert (half.right, half.down, half.clock, half.steady) == (motion.right / 2, motion.down / 2, motion.clock, True)
    assert half.at(motion.clock + 0.3).box.left == pytest.approx(motion.at(motion.clock + 0.3).box.left / 2)
    assert half.box == motion.box.scaled(0.5)


places = st.floats(-1e4, 1e4)
boxes = st.builds(Box, places, places, st.floats(1, 1e3), st.floats(1, 1e3))


@given(st.lists(st.tuples(boxes, st.floats(0, 3)), min_size=1, max_size=12), st.floats(0, 1e5))
def test_whatever_is_seen_a_box_is_expected(seen: list[tuple[Box, float]], ahead: float) -> None:
    motion = at_rest()
    clock = motion.clock
    for box, passed in seen:
        clock += passed
        motion = motion.seen(box, clock)
    expected = motion.at(clock + ahead).box
    assert expected.area > 0
    assert math.isfinite(expected.left)


@given(st.lists(st.tuples(boxes, st.floats(0.01, 1)), max_size=6), places, places)
def test_motion_does_not_depend_on_where_the_origin_is(
    seen: list[tuple[Box, float]], right: float, down: float
) -> None:
    here, there = at_rest(Box(0, 0, 80, 100)), at_rest(Box(right, down, 80, 100))
    clock = here.clock
    for box, passed in seen:
        clock += passed
        here = here.seen(box, clock)
        there = there.seen(Box(box.left + right, box.top + down, box.width, box.height), clock)
    assert (there.right, there.down) == (pytest.approx(here.right, abs=0.01), pytest.approx(here.down, abs=0.01))
    assert there.at(clock + 1).box.left == pytest.approx(here.at(clock + 1).box.left + right, abs=0.01)
