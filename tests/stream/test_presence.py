"""Each row of the presence table, and what holds whatever happens."""

from collections.abc import Iterator
from datetime import timedelta
from itertools import count

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sightings import ENTRY, EXIT, INSIDE, T0, at, sighting

from facesvc.stream.policy import Outcome
from facesvc.stream.presence import (
    OUT_OF_VIEW_S,
    TABLE,
    Camera,
    Change,
    Direction,
    Happening,
    Patience,
    Presences,
    State,
    Told,
)

PATIENCE = Patience(arrive_s=0.5, leave_s=30.0, absent_s=14 * 3600.0)
STEP = 0.125  # between two looks, exact in binary


class Room:
    """A zone, its people, and both clocks; the wall may be set."""

    def __init__(self, patience: Patience = PATIENCE, most: int = 100) -> None:
        ids = count()
        self.presences = Presences(patience, lambda: f"stay-{next(ids)}", most)
        self.clock = 0.0
        self.wall = T0
        self.told: list[tuple[Told, str]] = []
        self.changes: list[Change] = []

    def passes(self, seconds: float) -> None:
        self.clock += seconds
        self.wall += timedelta(seconds=seconds)

    def see(self, camera: Camera = INSIDE, name: str = "jane", **fields: object) -> None:
        self._take(self.presences.note(sighting(name, camera, seen_time=self.wall, **fields), self.clock))  # type: ignore[arg-type]

    def tick(self) -> None:
        self._take(self.presences.pass_time(self.wall, self.clock))

    def watch(self, seconds: float, camera: Camera = INSIDE, name: str = "jane") -> None:
        """Somebody is in view for so long."""
        for _ in range(round(seconds / STEP) + 1):
            self.see(camera, name)
            self.passes(STEP)
        self.passes(-STEP)

    def state(self, name: str = "jane") -> State:
        found = {one.subject_id: one.state for one in self.presences.everybody()}
        return found.get(name, State.ABSENT)

    def _take(self, changes: list[Change]) -> None:
        self.changes += changes
        self.told += [(change.told, change.presence.subject_id) for change in changes]


def test_the_table_has_every_row() -> None:
    assert set(TABLE) == set(State)
    assert all(set(row) == set(Happening) for row in TABLE.values())


def test_nobody_arrives_or_leaves_twice() -> None:
    there = {State.PRESENT, State.LEAVING}
    for state, row in TABLE.items():
        for after, told in row.values():
            assert (told is Told.ARRIVED) == (state not in there and after in there)
            assert (told is Told.LEFT) == (state in there and after not in there)


def test_seen_once_is_no_arrival() -> None:
    room = Room()
    room.see()
    assert (room.state(), room.told) == (State.SEEN, [])
    room.passes(OUT_OF_VIEW_S)
    room.tick()
    assert (room.state(), room.told) == (State.ABSENT, [])


def test_two_glimpses_with_nothing_between_are_no_arrival() -> None:
    room = Room()
    room.see()
    room.passes(10)
    room.see()  # and no tick came between
    assert (room.state(), room.told) == (State.SEEN, [])


def test_seen_for_long_enough_is_an_arrival_since_the_first_sight() -> None:
    room = Room()
    room.watch(0.4)
    assert room.told == []
    room.passes(STEP)
    room.see()
    assert (room.state(), room.told) == (State.PRESENT, [(Told.ARRIVED, "jane")])
    (arrival,) = room.changes
    assert arrival.presence.arrive_time == T0
    assert arrival.time == room.wall
    assert arrival.presence.stay_id == "stay-0"


def test_somebody_who_stays_arrives_once() -> None:
    room = Room()
    room.watch(60)
    assert room.told == [(Told.ARRIVED, "jane")]


def test_out_of_view_is_leaving_and_then_left_since_the_last_sight() -> None:
    room = Room()
    room.watch(1)
    seen_last = room.wall
    room.passes(OUT_OF_VIEW_S)
    room.tick()
    assert room.state() is State.LEAVING
    room.passes(30 - OUT_OF_VIEW_S)
    room.tick()
    assert (room.state(), room.told[1:]) == (State.ABSENT, [(Told.LEFT, "jane")])
    assert room.changes[-1].presence.last_seen_time == seen_last
    assert room.changes[-1].time == room.wall


def test_hidden_for_a_moment_has_not_left() -> None:
    room = Room()
    room.watch(1)
    for _ in range(10):
        room.passes(29)
        room.tick()
        assert room.state() is State.LEAVING
        room.see()
        assert room.state() is State.PRESENT
    assert room.told == [(Told.ARRIVED, "jane")]


def test_any_camera_of_the_zone_keeps_somebody_there() -> None:
    room = Room()
    room.watch(1)
    room.passes(20)
    room.see(Camera("other", "lobby", Direction.INSIDE))
    room.passes(20)
    room.tick()
    assert room.told == [(Told.ARRIVED, "jane")]
    (one,) = room.presences.everybody()
    assert one.camera_id == "other"


def test_an_entry_is_an_arrival_at_once_and_out_of_view_is_no_leaving() -> None:
    room = Room()
    room.see(ENTRY)
    room.passes(13 * 3600)
    room.tick()
    assert (room.state(), room.told) == (State.PRESENT, [(Told.ARRIVED, "jane")])


def test_who_came_by_an_entry_is_absent_at_last() -> None:
    room = Room()
    room.see(ENTRY)
    room.passes(3600)
    room.see()
    room.passes(14 * 3600 - 1)
    room.tick()
    assert room.state() is State.PRESENT
    room.passes(1)
    room.tick()
    assert room.told[1:] == [(Told.LEFT, "jane")]
    assert room.changes[-1].presence.last_seen_time == at(3600)


def test_who_was_inside_already_is_held_by_an_entry() -> None:
    room = Room()
    room.watch(1)
    room.see(ENTRY)
    room.passes(3600)
    room.tick()
    assert room.told == [(Told.ARRIVED, "jane")]


@pytest.mark.parametrize("came_by", [INSIDE, ENTRY])
def test_an_exit_is_a_leaving_at_once(came_by: Camera) -> None:
    room = Room()
    room.watch(1, came_by)
    room.passes(600 if came_by is ENTRY else 5)
    room.see(EXIT)
    assert (room.state(), room.told[1:]) == (State.ABSENT, [(Told.LEFT, "jane")])
    assert room.changes[-1].presence.last_seen_time == room.wall
    assert room.changes[-1].presence.camera_id == "door-out"


def test_an_exit_that_sees_somebody_who_is_not_there_tells_nothing() -> None:
    room = Room()
    room.watch(5, EXIT)
    assert (room.state(), room.told) == (State.ABSENT, [])
    room.see()
    room.see(EXIT)
    assert (room.state(), room.told) == (State.ABSENT, [])


def test_who_comes_back_arrives_anew() -> None:
    room = Room()
    room.watch(1)
    room.passes(30)
    room.tick()
    room.watch(1)
    assert [told for told, _ in room.told] == [Told.ARRIVED, Told.LEFT, Told.ARRIVED]
    assert [change.presence.stay_id for change in room.changes] == ["stay-0", "stay-0", "stay-1"]


def test_zones_and_galleries_are_apart() -> None:
    room = Room()
    room.watch(1)
    room.watch(1, Camera("gate", "yard", Direction.INSIDE))
    room.see(collection_id="guests")
    found = {(one.collection_id, one.zone, one.state) for one in room.presences.everybody()}
    assert found == {
        ("default", "lobby", State.PRESENT),
        ("default", "yard", State.PRESENT),
        ("guests", "lobby", State.SEEN),
    }


def test_a_camera_without_a_zone_takes_no_part() -> None:
    room = Room()
    room.watch(5, Camera("hall", "", Direction.INSIDE))
    room.see(Camera("hall", "", Direction.ENTRY))
    assert (room.presences.everybody(), room.told) == ([], [])


@pytest.mark.parametrize("outcome", [one for one in Outcome if one is not Outcome.MATCH])
def test_only_a_match_says_who_is_there(outcome: Outcome) -> None:
    room = Room()
    for _ in range(20):
        room.see(ENTRY, outcome=outcome)
    assert room.presences.everybody() == []


@pytest.mark.parametrize("hours", [-3, 3])
def test_a_wall_clock_that_is_set_neither_prolongs_nor_shortens_a_stay(hours: int) -> None:
    room = Room()
    room.watch(60)
    room.wall += timedelta(hours=hours)
    room.tick()
    assert room.state() is State.PRESENT
    room.watch(60)
    room.passes(29)
    room.tick()
    assert room.state() is State.LEAVING
    room.passes(1)
    room.tick()
    left = room.changes[-1]
    assert left.told is Told.LEFT
    assert left.presence.last_seen_time == room.wall - timedelta(seconds=30)
    assert left.presence.last_seen_time - left.presence.arrive_time == timedelta(seconds=120)


def test_frames_that_waited_do_not_move_the_arrival() -> None:
    room = Room()
    room.see()
    room.passes(10)
    for late in (0.0, 1.5, 0.3):
        room.presences.note(sighting(seen_time=room.wall - timedelta(seconds=late)), room.clock)
        room.passes(1)
    (one,) = room.presences.everybody()
    assert one.arrive_time == at(10)


def test_at_most_so_many_are_remembered() -> None:
    room = Room(most=10)
    for number in range(30):
        room.see(ENTRY, f"visitor-{number}")
    assert len(room.presences.everybody()) == 10
    left = [name for told, name in room.told if told is Told.LEFT]
    assert left == [f"visitor-{number}" for number in range(20)]


def test_the_one_unseen_for_longest_goes_first() -> None:
    room = Room(most=2)
    for name in ("ann", "bob", "ann", "cid"):
        room.see(ENTRY, name)
    assert [name for told, name in room.told if told is Told.LEFT] == ["bob"]


def test_who_is_forgotten_never_was_there() -> None:
    room = Room()
    room.watch(1)
    room.watch(1, name="joe")
    room.presences.forget("default", "jane")
    room.passes(60)
    room.tick()
    assert [name for told, name in room.told if told is Told.LEFT] == ["joe"]


def test_who_was_there_before_a_restart_goes_on_with_their_stay() -> None:
    room = Room()
    room.watch(1)
    (before,) = room.presences.everybody()
    again = Room()
    again.presences.restore([before])
    again.clock, again.wall = room.clock + 5, room.wall + timedelta(seconds=5)
    again.see()
    assert again.told == []
    again.passes(30)
    again.tick()
    assert again.changes[-1].presence.stay_id == before.stay_id
    assert again.changes[-1].presence.arrive_time == T0


CAMERAS = st.sampled_from([INSIDE, ENTRY, EXIT])
MOMENTS = st.lists(
    st.tuples(
        st.sampled_from([0.05, 0.3, 1.0, 1.9, 2.0, 5.0, 29.9, 30.0, 31.0, 3600.0]),
        st.none() | CAMERAS,
        st.sampled_from(["jane", "joe"]),
        st.sampled_from([0.0, 0.0, 0.0, -7200.0, 86400.0]),
    ),
    max_size=60,
)


def played(moments: list[tuple[float, Camera | None, str, float]], *, ticks: bool) -> Room:
    room = Room()
    for pause, camera, name, step in moments:
        room.passes(pause)
        room.wall += timedelta(seconds=step)
        if camera is not None:
            room.see(camera, name)
        if ticks:
            room.tick()
    room.passes(1e6)
    room.tick()
    return room


def stays(room: Room) -> Iterator[tuple[str, float]]:
    """Who stayed for how long, in the order of their leaving."""
    for change in room.changes:
        if change.told is Told.LEFT:
            presence = change.presence
            yield presence.subject_id, (presence.last_seen_time - presence.arrive_time).total_seconds()


@given(MOMENTS)
def test_arrivals_and_leavings_take_turns_and_stays_are_sound(
    moments: list[tuple[float, Camera | None, str, float]],
) -> None:
    room = played(moments, ticks=True)
    for name in ("jane", "joe"):
        told = [told for told, who in room.told if who == name]
        assert told == [Told.ARRIVED, Told.LEFT] * (len(told) // 2)
    # A wall clock that was set changes no length by the step, the shortest of which is two hours.
    for _, lasted in stays(room):
        assert 0 <= lasted <= sum(pause for pause, *_ in moments) + 2.0


@given(MOMENTS)
def test_it_does_not_matter_how_often_time_is_let_pass(moments: list[tuple[float, Camera | None, str, float]]) -> None:
    often, seldom = played(moments, ticks=True), played(moments, ticks=False)
    for name in ("jane", "joe"):
        assert [told for told, who in often.told if who == name] == [told for told, who in seldom.told if who == name]
    assert sorted(stays(often)) == sorted(stays(seldom))
