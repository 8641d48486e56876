"""Stays made of bookings: pairs, what is missing, and clocks that were set."""

from datetime import timedelta

from attendance_making import HOUR, arrival, at, departure, rules, stay
from facesvc_attendance.bookings import Booking
from facesvc_attendance.stays import MAX_STAY, Ending, Stay, stays_of

EIGHT, NOON, FIVE = at("2026-03-02T08:00"), at("2026-03-02T12:00"), at("2026-03-02T17:00")


def stays(*bookings: Booking, **changes: object) -> list[Stay]:
    return stays_of(bookings, rules(**changes), FIVE)


def test_nobody_came() -> None:
    assert stays() == []


def test_an_arrival_and_a_departure_are_a_stay_that_keeps_its_id() -> None:
    came, went = stay(EIGHT, NOON)
    assert stays(came) == [Stay(came.event_id, "lobby", EIGHT, FIVE, Ending.PRESENT)]
    assert stays(went, came) == [Stay(came.event_id, "lobby", EIGHT, NOON, Ending.LEFT)]


def test_a_departure_alone_says_when_the_stay_began() -> None:
    went = departure(EIGHT, NOON)
    assert stays(went) == [Stay(went.event_id, "lobby", EIGHT, NOON, Ending.LEFT)]


def test_who_is_not_seen_leaving_is_closed_by_the_rule() -> None:
    (closed,) = stays(arrival(EIGHT), close_after=3 * HOUR)
    assert (closed.end, closed.ending) == (EIGHT + 3 * HOUR, Ending.NOT_SEEN)
    (just,) = stays(arrival(EIGHT), close_after=9 * HOUR)
    assert just.ending is Ending.NOT_SEEN
    (still,) = stays(arrival(EIGHT), close_after=9.01 * HOUR)
    assert (still.end, still.ending) == (FIVE, Ending.PRESENT)


def test_who_arrives_again_was_gone_by_then() -> None:
    first, second = stays(arrival(EIGHT), arrival(NOON))
    assert (first.end, first.ending) == (NOON, Ending.NOT_SEEN)
    assert (second.start, second.ending) == (NOON, Ending.PRESENT)


def test_zones_are_told_apart() -> None:
    found = stays(arrival(EIGHT, "lab"), arrival(EIGHT + HOUR, "desk"), departure(EIGHT, NOON, "lab"))
    assert [(one.zone, one.ending) for one in found] == [("lab", Ending.LEFT), ("desk", Ending.PRESENT)]


def test_only_zones_that_count() -> None:
    found = stays(*stay(EIGHT, NOON, "canteen"), *stay(EIGHT, FIVE, "desk"), zones=frozenset({"desk"}))
    assert [one.zone for one in found] == ["desk"]


def test_where_the_clock_was_set_back_the_departure_is_right_about_how_long_it_was() -> None:
    came = arrival(NOON, number=7001)
    went = departure(EIGHT, EIGHT + HOUR, number=7002)  # told later, by a clock that was set back meanwhile
    assert stays(went, came) == [Stay(came.event_id, "lobby", EIGHT, EIGHT + HOUR, Ending.LEFT)]


def test_a_departure_a_day_away_is_that_of_another_stay() -> None:
    came, went = arrival(EIGHT), departure(EIGHT + 25 * HOUR, EIGHT + 26 * HOUR)
    first, second = stays(came, went)
    assert (first.stay_id, first.ending, first.end) == (came.event_id, Ending.NOT_SEEN, EIGHT + 16 * HOUR)
    assert (second.stay_id, second.ending) == (went.event_id, Ending.LEFT)


def test_a_clock_that_was_set_back_makes_no_negative_time() -> None:
    (one,) = stays(arrival(FIVE + HOUR))
    assert (one.start, one.end) == (FIVE + HOUR, FIVE + HOUR)
    (other,) = stays(departure(NOON, EIGHT))
    assert (other.start, other.end) == (NOON, NOON)


def test_no_stay_is_longer_than_one_that_is_looked_for() -> None:
    (one,) = stays(departure(EIGHT, EIGHT + MAX_STAY + timedelta(hours=1)))
    assert (one.end - one.start, one.ending) == (MAX_STAY, Ending.NOT_SEEN)
