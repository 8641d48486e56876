"""A head that does as it is told passes; a picture does not, nor somebody else, nor who is late or does otherwise."""

import itertools
import random
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from facesvc.stream.challenge import Challenge, Progress, Prompt, State, View, draw_movements
from facesvc.vision.quality import _HEAD, evenness, head_pose

Points = np.ndarray[Any, np.dtype[np.float64]]
TURNS = {Prompt.TURN_LEFT: 40.0, Prompt.TURN_RIGHT: -40.0}
LOOK = 0.1  # seconds from one look to the next


def rotation(axis: tuple[float, float, float], degrees: float) -> Points:
    """By the right hand about an axis (Rodrigues)."""
    x, y, z = np.array(axis) / np.linalg.norm(axis)
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    angle = np.radians(degrees)
    return np.asarray(np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * cross @ cross)


def head(yaw: float, pitch: float = 0) -> Points:
    """The mean head (5, 3), turned to the viewer's right and nodding downwards."""
    return np.asarray(_HEAD @ rotation((0, 1, 0), yaw).T @ rotation((1, 0, 0), pitch).T)


def picture(yaw: float = 0, pitch: float = 0) -> Points:
    """A flat picture of such a head, (5, 3)."""
    flat = head(yaw, pitch) * [1, 1, 0]
    return np.asarray(flat - flat[:4].mean(axis=0))


def seen(points: Points, distance: float = 8.0) -> Points:
    """Where a camera at ``distance``, in distances of the eyes, sees them, (5, 2) in pixels of any frame."""
    return np.asarray(300 + 800 * points[:, :2] / (distance - points[:, 2:]))


def view(landmarks: Points, clock: float, face_pixels: float = 100, **changes: Any) -> View:
    yaw, pitch, _ = head_pose(landmarks.astype(np.float32))
    values = {"track_id": "t", "same_person": True, **changes}
    return View(
        yaw=yaw,
        pitch=pitch,
        evenness=evenness(landmarks.astype(np.float32)),
        face_pixels=face_pixels,
        clock=clock,
        **values,
    )


def turned(yaw: float, clock: float, face_pixels: float = 100, **changes: Any) -> View:
    values = {"track_id": "t", "same_person": True, "pitch": 0.0, "evenness": 1.0, **changes}
    return View(yaw=yaw, face_pixels=face_pixels, clock=clock, **values)


def challenge(*movements: Prompt, time_limit: float = 15) -> Challenge:
    return Challenge("c", "t", movements, time_limit, 0.0)


def told(one: Challenge, views: Iterable[View]) -> list[Progress]:
    return [progress for progress in map(one.look, views) if progress]


def play(one: Challenge, actor: Callable[[Prompt, float], View], seconds: float = 20) -> Progress:
    """Let somebody do what the prompts ask for, a look at a time; how it ended."""
    progress = one.progress(0.0)
    for clock in np.arange(LOOK, seconds, LOOK):
        progress = one.look(actor(progress.prompt, float(clock))) or progress
        if progress.state is not State.RUNNING:
            return progress
    raise AssertionError("it never ended")


def obedient(distance: float, pitch: float = 0) -> Callable[[Prompt, float], View]:
    """Somebody who turns by 120 degrees a second and comes closer by a head's width a second."""
    yaw, size = 0.0, 100.0

    def act(prompt: Prompt, clock: float) -> View:
        nonlocal yaw, size
        yaw += float(np.clip(TURNS.get(prompt, 0.0) - yaw, -12, 12))
        size += 10 if prompt is Prompt.COME_CLOSER else 0
        return view(seen(head(yaw, pitch), distance), clock, size)

    return act


@given(st.integers(0, 10**6), st.integers(1, 5), st.floats(6, 100), st.floats(-15, 15))
def test_a_head_that_does_as_it_is_told_passes(seed: int, steps: int, distance: float, pitch: float) -> None:
    movements = draw_movements(steps, random.Random(seed))
    end = play(challenge(*movements), obedient(distance, pitch))
    assert (end.state, end.steps_done, end.steps_total, end.prompt) == (State.PASSED, steps, steps, Prompt.NOTHING)


@given(st.integers(0, 10**6), st.integers(1, 5), st.floats(2.5, 100), st.floats(-80, 80))
def test_a_flat_picture_that_is_turned_instead_fails(seed: int, steps: int, distance: float, most: float) -> None:
    def act(prompt: Prompt, clock: float) -> View:
        angle = {Prompt.TURN_LEFT: most, Prompt.TURN_RIGHT: -most}.get(prompt, 0.0)
        size = 130 if prompt is Prompt.COME_CLOSER else 100
        return view(seen(picture() @ rotation((0, 1, 0), angle).T, distance), clock, size)

    end = play(challenge(*draw_movements(steps, random.Random(seed))), act)
    assert (end.state, end.reason) == (State.FAILED, "CHALLENGE_TIMED_OUT")


def tilted_pictures(distance: float, yaw: float, pitch: float) -> Iterator[View]:
    """A flat picture of a head, tilted by up to 70 degrees about axes all around."""
    flat = picture(yaw, pitch)
    yield view(seen(flat, distance), 0)
    for axis, angle in itertools.product(
        range(0, 180, 15), (-70, -60, -50, -45, -40, -30, -15, 15, 30, 40, 45, 50, 60, 70)
    ):
        way = (float(np.cos(np.radians(axis))), float(np.sin(np.radians(axis))), 0.0)
        yield view(seen(flat @ rotation(way, angle).T, distance), 0)


def passes_as(views: Iterable[View], prompt: Prompt, straight_yaw: float = 0) -> list[View]:
    """Those that would count as having followed the prompt, each held for as long as it takes."""
    passing = []
    for one in views:
        asked = challenge(prompt)
        told(asked, [turned(straight_yaw, 0.0)] * 3)
        if told(asked, [one] * 3) and asked.running:
            passing.append(one)
    return passing


@pytest.mark.parametrize(
    ("distance", "most"),
    [(2.5, 27), *(pytest.param(*one, marks=pytest.mark.slow) for one in ((4, 21), (8, 18))), (100, 15)],
)
def test_no_flat_picture_turns_as_far_as_is_asked(distance: float, most: float) -> None:
    largest = 0.0
    for yaw, pitch in itertools.product((0, 5, 10, 15, 20, 25, 30), (-30, -20, 0, 20, 30)):
        views = list(tilted_pictures(distance, yaw, pitch))
        straight = [one.yaw for one in views if told(challenge(Prompt.TURN_LEFT), [one] * 3)]
        if not straight:
            continue
        assert not passes_as(views, Prompt.TURN_LEFT, min(straight))
        assert not passes_as(views, Prompt.TURN_RIGHT, max(straight))
        usable = [one.yaw for one in views if one.evenness >= 0.7]
        largest = max(largest, max(usable) - min(straight), max(straight) - min(usable))
    assert most - 3 < largest < most


def test_evenness_is_what_tells_a_picture_from_a_head() -> None:
    flat = picture(20, -30)
    axis = (float(np.cos(np.radians(80))), float(np.sin(np.radians(80))), 0.0)
    yaws = [view(seen(flat @ rotation(axis, angle).T, 2.5), 0).yaw for angle in range(-70, 71, 5)]
    assert max(yaws) - min(yaws) > 30
    for angle in (20, 45, 70):
        narrowed = picture()[:, :2] * [np.cos(np.radians(angle)), 1]
        assert evenness(narrowed.astype(np.float32)) == pytest.approx(np.cos(np.radians(angle)), abs=1e-4)
        assert evenness(head(angle)[:, :2].astype(np.float32)) == pytest.approx(1, abs=1e-4)
    assert evenness(np.full((5, 2), 7, np.float32)) == 0


@pytest.mark.parametrize(("prompt", "sign"), [(Prompt.TURN_LEFT, 1), (Prompt.TURN_RIGHT, -1)])
def test_left_and_right_are_the_persons_own(prompt: Prompt, sign: int) -> None:
    # Positive yaw is a turn to the viewer's right, which is the left of who faces the viewer.
    assert passes_as([turned(sign * 35, 0)], prompt)
    assert not passes_as([turned(-sign * 35, 0)], prompt)


@pytest.mark.parametrize("prompt", [Prompt.TURN_LEFT, Prompt.TURN_RIGHT, Prompt.COME_CLOSER])
def test_a_wrong_movement_fails(prompt: Prompt) -> None:
    one = challenge(prompt)
    away = 35 if prompt is not Prompt.TURN_LEFT else -35
    *_, end = told(one, [turned(0, 0)] * 3 + [turned(away, 0)] * 3)
    assert (end.state, end.reason, end.prompt) == (State.FAILED, "CHALLENGE_WRONG_MOVEMENT", Prompt.NOTHING)
    assert end.message.startswith("asked to ")
    assert one.look(turned(0, 1)) is None
    assert one.wait(99) is None


def test_what_is_turned_only_once_never_passes() -> None:
    one = challenge(Prompt.TURN_LEFT)
    assert told(one, [turned(35, n * LOOK) for n in range(50)]) == []
    assert told(one, [turned(0, 5 + n * LOOK) for n in range(3)])[-1].prompt is Prompt.TURN_LEFT
    (done,) = told(one, [turned(35, 6 + n * LOOK) for n in range(30)])
    assert (done.state, done.prompt, done.steps_done) == (State.RUNNING, Prompt.LOOK_STRAIGHT, 1)


def test_a_step_takes_three_looks_and_one_bad_landmark_changes_nothing() -> None:
    one = challenge(Prompt.TURN_LEFT, Prompt.TURN_RIGHT)
    told(one, [turned(0, 0)] * 3)
    jump_and_back = [turned(35, 1), turned(35, 1), turned(5, 1)] * 10
    assert told(one, jump_and_back) == []
    assert told(one, [turned(-35, 1), turned(-35, 1), turned(0, 1)] * 10) == []
    nearly = [turned(35, 2), turned(26, 2), turned(35, 2), turned(26, 2), turned(35, 2)]
    assert [progress.steps_done for progress in told(one, nearly)] == [1]


def test_straight_ahead_is_straight_ahead_for_three_looks() -> None:
    one = challenge(Prompt.TURN_LEFT)
    unfit = [turned(0, 0), turned(0, 0), turned(20, 0), turned(0, 0), turned(0, 0, pitch=35)]
    assert told(one, unfit * 5) == []
    assert told(one, [turned(0, 0, evenness=0.6)] * 5) == []
    assert told(one, [turned(9, 0), turned(12, 0), turned(-9, 0), turned(0, 0)])


def test_turns_are_counted_from_where_straight_was() -> None:
    assert passes_as([turned(32, 0)], Prompt.TURN_LEFT, straight_yaw=0)
    assert not passes_as([turned(32, 0)], Prompt.TURN_LEFT, straight_yaw=8)


@pytest.mark.parametrize(("growth", "yaw", "comes"), [(1.3, 0, True), (1.3, 26, False), (1.2, 0, False)])
def test_closer_is_a_quarter_larger_and_not_turned(growth: float, yaw: float, comes: bool) -> None:  # noqa: FBT001 - a case
    assert bool(passes_as([turned(yaw, 0, 100 * growth)], Prompt.COME_CLOSER)) == comes


@pytest.mark.parametrize("change", [{"track_id": "other"}, {"same_person": False}])
def test_somebody_else_fails_it_at_any_time_to_the_end(change: dict[str, Any]) -> None:
    straight, left = [turned(0, 0)] * 3, [turned(35, 0)] * 3
    whole = [*straight, *left, *straight]
    for place in range(len(whole)):
        one = challenge(Prompt.TURN_LEFT)
        *_, end = told(one, [*whole[:place], turned(whole[place].yaw, 0, **change), *whole[place + 1 :]])
        assert (end.state, end.reason) == (State.FAILED, "CHALLENGE_FACE_LOST")


def test_a_short_gap_is_none_and_a_long_one_is_the_end() -> None:
    one = challenge(Prompt.TURN_LEFT)
    told(one, [turned(0, 0)] * 3)
    assert one.wait(0.9) is None
    assert one.look(turned(0, 0.95)) is None
    assert one.wait(1.9) is None
    end = one.wait(2.0)
    assert end
    assert (end.state, end.reason, end.time_left) == (State.FAILED, "CHALLENGE_FACE_LOST", 13)
    gone = challenge(Prompt.TURN_LEFT)
    assert [progress.reason for progress in told(gone, [turned(0, 0), turned(0, 1.1)])] == ["CHALLENGE_FACE_LOST"]


def test_the_time_is_for_all_movements() -> None:
    one = challenge(Prompt.TURN_LEFT, time_limit=2)
    told(one, [turned(0, 1.0)] * 3 + [turned(35, 1.5)] * 3)
    end = one.look(turned(0, 2.0))
    assert end
    assert (end.state, end.reason, end.steps_done, end.time_left) == (State.FAILED, "CHALLENGE_TIMED_OUT", 1, 0)
    assert "2 seconds" in end.message


def test_a_view_from_before_the_last_one_is_not_looked_at() -> None:
    one = challenge(Prompt.TURN_LEFT)
    told(one, [turned(0, 1.0)] * 2)
    assert told(one, [turned(0, 0.5)] * 3) == []


def test_each_change_is_told_once_with_the_prompt_that_follows() -> None:
    one = challenge(Prompt.TURN_RIGHT, Prompt.COME_CLOSER)
    assert one.progress(0).prompt is Prompt.LOOK_STRAIGHT
    straight, right, close = [turned(0, 1)] * 3, [turned(-35, 2)] * 3, [turned(0, 3, 130)] * 3
    progress = told(one, [*straight, *right, *[turned(0, 2)] * 3, *close, *[turned(0, 4)] * 3])
    assert [(p.prompt, p.steps_done, p.time_left, p.state) for p in progress] == [
        (Prompt.TURN_RIGHT, 0, 14, State.RUNNING),
        (Prompt.LOOK_STRAIGHT, 1, 13, State.RUNNING),
        (Prompt.COME_CLOSER, 1, 13, State.RUNNING),
        (Prompt.LOOK_STRAIGHT, 2, 12, State.RUNNING),
        (Prompt.NOTHING, 2, 11, State.PASSED),
    ]


@pytest.mark.parametrize(("steps", "orders"), [(1, 2), (2, 8), (3, 20), (4, 48), (5, 112)])
def test_every_order_can_be_drawn_and_closer_is_asked_once_and_never_alone(steps: int, orders: int) -> None:
    source = random.Random(1)
    drawn = {draw_movements(steps, source) for _ in range(100 * orders)}
    assert len(drawn) == orders
    assert all(len(order) == steps and order.count(Prompt.COME_CLOSER) <= min(1, steps - 1) for order in drawn)


@pytest.mark.parametrize("steps", [0, 6, -1])
def test_a_number_of_steps_that_is_none_is_a_bug(steps: int) -> None:
    with pytest.raises(ValueError, match="1 to 5 steps"):
        draw_movements(steps, random.Random(1))


views = st.builds(
    View,
    track_id=st.sampled_from(["t"] * 9 + ["u"]),
    yaw=st.floats(-90, 90) | st.sampled_from([0.0, 35.0, -35.0]) | st.just(float("nan")),
    pitch=st.floats(-90, 90) | st.just(0.0),
    evenness=st.floats(0, 1) | st.just(1.0),
    face_pixels=st.floats(0, 1e5),
    clock=st.floats(0, 20),
    same_person=st.sampled_from([True] * 9 + [False]),
)


@given(st.lists(views, max_size=60))
def test_whatever_comes_it_ends_once_and_steps_are_only_added(stream: list[View]) -> None:
    one = challenge(Prompt.TURN_LEFT, Prompt.COME_CLOSER)
    progress = told(one, stream)
    steps = [p.steps_done for p in progress]
    assert steps == sorted(steps)
    assert all(p.state is State.RUNNING for p in progress[:-1])
    assert all((p.state is State.FAILED) == bool(p.reason) == bool(p.message) for p in progress)
    assert all((p.state is State.PASSED) <= (p.steps_done == 2) for p in progress)
