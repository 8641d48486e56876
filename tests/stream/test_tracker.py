"""Who is who from look to look; faces are made up, and so is how like they are."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import count

import numpy as np
import pytest
from evidence import CLOCK0, capture
from hypothesis import given
from hypothesis import strategies as st

from facesvc.stream.tracker import Step, Track, Tracker, resumed, within_reach
from facesvc.vision.detection import Detection
from facesvc.vision.geometry import Box

LANDMARKS = np.array([(0.3, 0.4), (0.7, 0.4), (0.5, 0.6), (0.35, 0.8), (0.65, 0.8)], np.float32)
LOOKS = 10  # a second
SIZE = 80.0


def detection(x: float, y: float = 300.0, score: float = 0.9, size: float = SIZE) -> Detection:
    """A face about that centre."""
    box = Box(x - size / 2, y - size / 2, size, size)
    corner = np.array([box.left, box.top], np.float32)
    return Detection(box, (corner + LANDMARKS * np.float32(size)).astype(np.float32), score)


Where = Callable[[float], tuple[float, float] | None]
"""The centre of somebody's face at a time; None while it is hidden."""


@dataclass
class Room:
    """People who walk on given paths, and who is given which track; ``tell`` says whether faces can be told apart."""

    lost_s: float = 2.0
    max_tracks: int = 30
    tell: bool = True
    seconds: float = 0.0
    asked: int = 0
    tracks: tuple[Track, ...] = ()
    owners: dict[str, str] = field(default_factory=dict)
    """Who began each track."""
    ids: dict[str, list[str]] = field(default_factory=dict)
    """All tracks that somebody was given, in order."""

    def __post_init__(self) -> None:
        numbers = count()
        self.tracker = Tracker(0.5, self.lost_s, self.max_tracks, lambda: f"track-{next(numbers)}")

    def look(self, faces: Sequence[tuple[str, Detection]]) -> Step:
        def likeness(track_id: str, number: int) -> float | None:
            self.asked += 1
            return (0.8 if self.owners[track_id] == faces[number][0] else 0.1) if self.tell else None

        step = self.tracker.step(self.tracks, [face for _, face in faces], capture(self.seconds), likeness)
        for track_id, number in step.seen.items():
            name = faces[number][0]
            self.owners.setdefault(track_id, name)
            if self.ids.setdefault(name, [track_id])[-1] != track_id:
                self.ids[name].append(track_id)
        self.tracks = step.tracks
        self.seconds += 1 / LOOKS
        return step

    def film(self, seconds: float, **people: Where) -> None:
        """Looks at people for so long."""
        for _ in range(round(seconds * LOOKS)):
            places = [(name, where(self.seconds)) for name, where in people.items()]
            self.look([(name, detection(*place)) for name, place in places if place is not None])


def walk(x: float, speed: float, y: float = 300.0, hidden: tuple[float, float] = (0, 0)) -> Where:
    """To the right from ``x``, at ``speed`` pixels a second; not seen between two times."""
    return lambda seconds: None if hidden[0] < seconds < hidden[1] else (x + speed * seconds, y)


def test_each_of_many_keeps_a_track() -> None:
    room = Room()
    people = {f"p{n}": walk(100 + 150 * (n % 5), 60 * (-1) ** n, 100 + 150 * (n // 5)) for n in range(15)}
    room.film(1.0, **people)
    assert all(len(ids) == 1 for ids in room.ids.values())
    assert len(room.tracks) == len(set(sum(room.ids.values(), []))) == 15  # noqa: RUF017 - few


def test_far_from_each_other_nobody_has_to_be_told_apart() -> None:
    room = Room()
    room.film(3.0, a=walk(100, 50), b=walk(600, -50), c=walk(350, 0, 700))
    assert room.asked == 0
    assert not any(track.contested for track in room.tracks)


@pytest.mark.parametrize("speed", [60, 150, 300, 600])
@pytest.mark.parametrize("apart", [0, 30])
def test_paths_that_cross_keep_their_tracks(speed: float, apart: float) -> None:
    room = Room()
    seconds = 600 / speed
    room.film(seconds, a=walk(100, speed), b=walk(700, -speed, 300 + apart))
    assert room.ids == {"a": ["track-0"], "b": ["track-1"]}
    if apart < SIZE / 3:
        assert room.asked > 0


@pytest.mark.parametrize("apart", [30, 60])
def test_two_who_change_places_between_two_looks_keep_their_tracks(apart: float) -> None:
    room = Room()
    room.look([("a", detection(300)), ("b", detection(300 + apart))])
    room.look([("a", detection(300 + apart)), ("b", detection(300))])
    assert room.ids == {"a": ["track-0"], "b": ["track-1"]}


def test_two_who_meet_and_turn_back_keep_their_tracks() -> None:
    room = Room()
    room.film(4.0, a=lambda t: (300 - 100 * abs(t - 2), 300), b=lambda t: (320 + 100 * abs(t - 2), 300))
    assert room.ids == {"a": ["track-0"], "b": ["track-1"]}


def test_where_faces_met_and_cannot_be_told_apart_both_are_contested() -> None:
    room = Room(tell=False)
    room.film(6.0, a=walk(100, 100), b=walk(700, -100), c=walk(400, 0, 700))
    assert [track.contested for track in room.tracks] == [True, True, False]
    assert len(room.tracks) == 3


def test_a_contested_track_is_so_until_somebody_says_otherwise() -> None:
    room = Room(tell=False)
    room.film(6.0, a=walk(100, 100), b=walk(700, -100))
    room.tell = True
    room.film(3.0, a=walk(100, 100), b=walk(700, -100))
    assert all(track.contested for track in room.tracks)


@pytest.mark.parametrize("speed", [0, 60, 200])
def test_behind_something_for_a_second_a_face_is_the_same_afterwards(speed: float) -> None:
    room = Room()
    room.film(4.0, a=walk(100, speed, hidden=(1.25, 2.35)))
    assert room.ids == {"a": ["track-0"]}
    # That it is the same was looked at, once.
    assert room.asked == 1
    assert not room.tracks[0].contested


def test_while_hidden_a_track_waits_where_it_should_be() -> None:
    room = Room()
    room.film(1.1, a=walk(100, 200))
    step = room.look([])
    (track,) = step.tracks
    assert step.seen == {}
    assert track.seen_clock == pytest.approx(CLOCK0 + 1.0)
    assert track.at(CLOCK0 + 1.1).motion.box.left > track.motion.box.left + 15


def test_a_face_that_comes_back_elsewhere_is_known_by_its_likeness() -> None:
    room = Room()
    room.film(3.0, a=lambda t: (100, 300) if t < 1 else None if t < 1.95 else (450, 200))
    assert room.ids == {"a": ["track-0"]}
    (track,) = room.tracks
    assert track.detection.box.left == 410
    assert track.seen_clock == pytest.approx(CLOCK0 + 2.9)


def test_it_goes_on_from_there_and_not_from_where_it_was() -> None:
    room = Room()
    room.film(2.1, a=lambda t: (100, 300) if t < 1 else None if t < 1.95 else (450, 200))
    (track,) = room.tracks
    assert (track.motion.box.left, track.motion.right) == (410, 0)


@pytest.mark.parametrize(("where", "tell"), [((450.0, 200.0), False), ((4000.0, 200.0), True)])
def test_one_that_is_not_known_or_too_far_away_is_new(where: tuple[float, float], tell: bool) -> None:  # noqa: FBT001 - a column
    room = Room(tell=tell)
    room.film(3.0, a=lambda t: (100, 300) if t < 1 else None if t < 1.95 else where)
    assert room.ids["a"] == ["track-0", "track-1"]


def test_somebody_else_in_the_same_place_is_new() -> None:
    room = Room()
    room.film(3.0, a=walk(100, 0, hidden=(1.05, 9)), b=walk(100, 0, hidden=(-1, 1.55)))
    assert room.ids == {"a": ["track-0"], "b": ["track-1"]}


def test_who_cannot_be_told_from_whom_it_replaced_is_contested() -> None:
    room = Room(tell=False)
    room.film(3.0, a=walk(100, 0, hidden=(1.05, 9)), b=walk(100, 0, hidden=(-1, 1.55)))
    assert room.ids == {"a": ["track-0"], "b": ["track-0"]}
    assert room.tracks[0].contested


@pytest.mark.parametrize(("hidden_s", "ids"), [(1.9, 1), (2.2, 2)])
def test_out_of_sight_for_too_long_a_track_ends(hidden_s: float, ids: int) -> None:
    room = Room(lost_s=2.0)
    room.film(6.0, a=walk(300, 0, hidden=(1.05, 1.0 + hidden_s)))
    assert len(room.ids["a"]) == ids
    assert len(room.tracks) == 1


def test_a_doubtful_face_goes_on_with_a_track_and_never_begins_one() -> None:
    room = Room()
    assert room.look([("a", detection(100, score=0.45))]).tracks == ()
    room.look([("a", detection(100, score=0.7))])
    for _ in range(5):
        step = room.look([("a", detection(100, score=0.31)), ("ghost", detection(600, score=0.45))])
        assert step.seen == {"track-0": 0}
        assert step.tracks[0].detection.score == 0.31


def test_the_sure_choose_first() -> None:
    room = Room()
    room.look([("a", detection(100))])
    # The doubtful one lies better, yet the sure one is the face.
    step = room.look([("ghost", detection(100, score=0.4)), ("a", detection(120))])
    assert step.seen == {"track-0": 1}
    assert len(step.tracks) == 1


def test_a_doubtful_face_elsewhere_is_not_taken_for_one_that_is_hidden() -> None:
    room = Room()
    room.film(1.0, a=walk(100, 0))
    assert room.look([("a", detection(450, score=0.4))]).seen == {}


def test_a_quick_face_that_overlaps_with_nothing_is_followed() -> None:
    room = Room(tell=False)
    room.film(2.0, a=walk(100, SIZE * LOOKS))
    assert room.ids == {"a": ["track-0"]}


def test_no_more_are_followed_than_may_be() -> None:
    room = Room(max_tracks=4)
    crowd = [(f"p{n}", detection(100 + 150 * n)) for n in range(9)]
    step = room.look(crowd)
    assert len(step.tracks) == len(step.seen) == 4
    assert len(room.look(crowd[4:]).tracks) == 4
    # Once the first are given up there is room again.
    room.seconds += 3
    assert room.look(crowd[4:8]).seen.values() == {0, 1, 2, 3} or len(room.tracks) == 4
    assert len(room.tracks) == 4


def test_the_start_stays_the_first_look() -> None:
    room = Room()
    room.film(2.0, a=walk(100, 100))
    assert room.tracks[0].start == capture(0)


def test_a_resumed_track_goes_on_wherever_the_face_is_certain_again() -> None:
    room = Room(tell=False)
    room.film(6.0, a=walk(100, 100), b=walk(700, -100))
    track = resumed(room.tracks[0], detection(900), CLOCK0 + 7)
    assert (track.track_id, track.contested, track.seen_clock) == ("track-0", False, CLOCK0 + 7)
    assert (track.motion.box, track.motion.right) == (detection(900).box, 0)
    assert track.start == room.tracks[0].start


@pytest.mark.parametrize(("x", "seconds", "reached"), [
    (179, 0, True), (181, 0, False), (100 + 80 * 6, 1, True), (100 + 80 * 7.1, 1, False), (100 + 80 * 7.1, 1.1, True),
])  # fmt: skip
def test_how_far_a_face_gets(x: float, seconds: float, reached: bool) -> None:  # noqa: FBT001 - a column
    track = Room().tracker.begin(detection(100), capture())
    assert within_reach(track, detection(x), CLOCK0 + seconds) == reached
    assert within_reach(track, detection(100, 300 + x - 100), CLOCK0 + seconds) == reached


def test_near_faces_get_further() -> None:
    track = Room().tracker.begin(detection(100), capture())
    assert within_reach(track, detection(300, size=200), CLOCK0)


faces = st.lists(
    st.builds(detection, st.floats(0, 1200), st.floats(0, 700), st.floats(0.3, 1), st.floats(20, 300)), max_size=8
)


@given(
    st.lists(st.tuples(faces, st.floats(0, 1)), max_size=6),
    st.functions(like=lambda track_id, number: None, returns=st.none() | st.floats(-1, 1), pure=True),
)
def test_whatever_is_seen_each_face_has_one_track_at_most_and_each_track_one_face(
    looks: list[tuple[list[Detection], float]], like: Callable[[str, int], float | None]
) -> None:
    numbers = count()
    tracker = Tracker(0.5, 0.8, 6, lambda: f"track-{next(numbers)}")
    tracks: tuple[Track, ...] = ()
    seconds = 0.0
    for found, passed in looks:
        seconds += passed
        before = {track.track_id for track in tracks}
        step = tracker.step(tracks, found, capture(seconds), like)
        tracks = step.tracks
        ids = [track.track_id for track in tracks]
        assert len(set(ids)) == len(ids) <= 6
        assert set(step.seen) <= set(ids)
        assert len(set(step.seen.values())) == len(step.seen)
        for track in tracks:
            if track.track_id in step.seen:
                assert track.detection is found[step.seen[track.track_id]]
                assert track.seen_clock == CLOCK0 + seconds
            else:
                assert track.track_id in before
                assert CLOCK0 + seconds - track.seen_clock <= 0.8
            if track.track_id not in before:
                assert track.detection.score >= 0.5


@given(st.permutations(range(6)))
def test_the_order_of_the_faces_does_not_matter(order: list[int]) -> None:
    room, other = Room(), Room()
    first = [(f"p{n}", detection(100 + 120 * n)) for n in range(6)]
    then = [(f"p{n}", detection(110 + 120 * n, 310)) for n in range(6)]
    room.look(first)
    other.look(first)
    room.look(then)
    other.look([then[n] for n in order])
    assert room.ids == other.ids
