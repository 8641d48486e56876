"""Days made of stays: breaks, night shifts, changes of clocks."""

from datetime import date, time, timedelta
from zoneinfo import ZoneInfo

import pytest
from attendance_making import HOUR, arrival, at, days, departure, each, hours, stay
from facesvc_attendance.rules import Rules
from facesvc_attendance.stays import Ending

FOUR = time(4)


def test_nobody_was_there() -> None:
    assert days([]) == []


def test_first_in_last_out_and_breaks() -> None:
    (day,) = days(
        stay(at("2026-03-02T13:00"), at("2026-03-02T17:30")),
        stay(at("2026-03-02T08:00"), at("2026-03-02T12:15")),
    )
    assert day.day == date(2026, 3, 2)
    assert (day.times.first_in, day.times.last_out) == (at("2026-03-02T08:00"), at("2026-03-02T17:30"))
    assert day.times.breaks == ((at("2026-03-02T12:15"), at("2026-03-02T13:00")),)
    assert day.times.present == timedelta(hours=8.75)
    assert not day.corrected
    assert not day.times.not_seen_leaving


@pytest.mark.parametrize(("minutes", "breaks", "present"), [(0, 1, 7.75), (14, 1, 7.75), (15, 0, 8), (16, 0, 8)])
def test_an_absence_that_is_not_longer_than_the_shortest_break_counts_as_present(
    minutes: int, breaks: int, present: float
) -> None:
    (day,) = days(
        stay(at("2026-03-02T08:00"), at("2026-03-02T12:00")),
        stay(at("2026-03-02T12:15"), at("2026-03-02T16:00")),
        minimum_break=timedelta(minutes=minutes),
    )
    assert len(day.times.breaks) == breaks
    assert day.times.present / HOUR == present


def test_two_zones_at_once_count_once_and_make_no_break() -> None:
    (day,) = days(
        stay(at("2026-03-02T08:00"), at("2026-03-02T12:00"), "desk"),
        stay(at("2026-03-02T11:00"), at("2026-03-02T13:00"), "lab"),
        stay(at("2026-03-02T09:00"), at("2026-03-02T10:00"), "lift"),
    )
    assert (day.times.present, day.times.breaks, len(day.times.stays)) == (5 * HOUR, (), 3)


def test_who_is_still_present_has_no_last_out() -> None:
    (day,) = days(
        stay(at("2026-03-02T08:00"), at("2026-03-02T09:00"), "lab"),
        [arrival(at("2026-03-02T08:30"))],
        now=at("2026-03-02T10:00"),
    )
    assert (day.times.last_out, day.times.present, day.times.still_present) == (None, 2 * HOUR, True)


def test_who_was_not_seen_leaving_is_marked() -> None:
    (day,) = days([arrival(at("2026-03-02T08:00"))], close_after=10 * HOUR)
    assert day.times.last_out == at("2026-03-02T18:00")
    assert day.times.not_seen_leaving


NIGHT = (
    stay(at("2026-03-02T22:00"), at("2026-03-03T02:00")),
    stay(at("2026-03-03T02:30"), at("2026-03-03T06:15")),
)


@pytest.mark.parametrize("starts_at", [time(0), time(3), FOUR, time(7)])
def test_a_night_shift_belongs_to_the_day_on_which_it_began(starts_at: time) -> None:
    (day,) = days(*NIGHT, day_starts_at=starts_at)
    assert (day.day, day.times.present) == (date(2026, 3, 2), timedelta(hours=7.75))
    assert (day.times.first_in, day.times.last_out) == (at("2026-03-02T22:00"), at("2026-03-03T06:15"))
    assert day.times.breaks == ((at("2026-03-03T02:00"), at("2026-03-03T02:30")),)


def test_or_each_day_gets_its_part() -> None:
    found = days(*NIGHT, split_shifts=True)
    assert hours(found) == {"2026-03-02": 2, "2026-03-03": 5.75}
    assert (found[0].times.last_out, found[1].times.first_in) == (at("2026-03-03T00:00"), at("2026-03-03T00:00"))
    assert found[0].times.stays[0].ending is Ending.DAY_OVER
    assert hours(days(*NIGHT, split_shifts=True, day_starts_at=FOUR)) == {"2026-03-02": 5.5, "2026-03-03": 2.25}


def test_a_stay_of_days_that_is_split_has_a_row_for_each() -> None:
    found = days(stay(at("2026-03-02T22:00"), at("2026-03-05T01:00")), split_shifts=True)
    assert list(hours(found).values()) == [2, 24, 24, 1]


def test_nights_one_after_another_are_shifts_of_their_own() -> None:
    nights = [stay(start, start + 8 * HOUR) for start in each(at("2026-03-02T22:00"), 5)]
    assert hours(days(*nights)) == {f"2026-03-0{day}": 8.0 for day in range(2, 7)}


def test_who_is_back_within_the_gap_is_on_the_same_shift() -> None:
    late = stay(at("2026-03-02T20:00"), at("2026-03-02T23:30"))
    early = stay(at("2026-03-03T03:00"), at("2026-03-03T05:00"))
    assert hours(days(late, early, shift_gap=3.5 * HOUR)) == {"2026-03-02": 5.5}
    assert hours(days(late, early, shift_gap=3.4 * HOUR)) == {"2026-03-02": 3.5, "2026-03-03": 2}


def test_a_shift_goes_on_from_the_last_of_several_departures() -> None:
    found = days(
        stay(at("2026-03-02T20:00"), at("2026-03-03T04:00"), "desk"),
        stay(at("2026-03-02T21:00"), at("2026-03-02T21:30"), "lab"),
        stay(at("2026-03-03T05:00"), at("2026-03-03T06:00")),
    )
    assert hours(found) == {"2026-03-02": 9}


def test_a_shift_that_lasts_too_long_ends_at_the_next_arrival_but_not_within_a_stay() -> None:
    coming = [stay(start, start + 2 * HOUR) for start in (at("2026-03-02T08:00") + n * 3 * HOUR for n in range(9))]
    found = days(*coming)
    assert [len(day.times.stays) for day in found] == [6, 3]
    assert [len(day.times.stays) for day in days(*coming, longest_shift=18 * HOUR)] == [7, 2]
    assert found[1].times.first_in == at("2026-03-03T02:00")
    long = stay(at("2026-03-02T08:00"), at("2026-03-03T08:00"), "desk")
    assert hours(days(long, stay(at("2026-03-03T02:00"), at("2026-03-03T03:00"), "lab"))) == {"2026-03-02": 24}


@pytest.mark.parametrize(
    ("place", "night", "present"),
    [
        ("Europe/Berlin", "2026-03-28", 7),  # from ten to six, an hour of which was skipped
        ("Europe/Berlin", "2026-10-24", 9),
        ("Europe/Berlin", "2026-03-02", 8),
        ("America/Sao_Paulo", "2018-11-03", 7),
        ("America/Sao_Paulo", "2018-02-17", 9),
    ],
)
@pytest.mark.parametrize("split", [False, True])
def test_night_shifts_at_the_change_of_clocks(place: str, night: str, present: int, *, split: bool) -> None:
    day = date.fromisoformat(night)
    start, end = at(f"{day}T22:00", place), at(f"{day + timedelta(days=1)}T06:00", place)
    found = days(stay(start, end), zone=ZoneInfo(place), split_shifts=split)
    assert sum(hours(found).values()) == present
    assert len(found) == 1 + split


def test_a_day_that_a_country_skipped_is_nobodys() -> None:
    apia = "Pacific/Apia"
    there = stay(at("2011-12-29T12:00", apia), at("2011-12-31T12:00", apia))
    assert hours(days(there, zone=ZoneInfo(apia), split_shifts=True)) == {"2011-12-29": 12, "2011-12-31": 12}


def test_the_same_stay_lies_on_other_days_elsewhere() -> None:
    one = stay(at("2026-03-02T23:00", "UTC"), at("2026-03-02T23:30", "UTC"))
    for zone, day in (("UTC", "2026-03-02"), ("Asia/Tokyo", "2026-03-03"), ("America/New_York", "2026-03-02")):
        assert list(hours(days(one, zone=ZoneInfo(zone)))) == [day]


def test_a_departure_whose_arrival_was_not_booked_counts_all_the_same() -> None:
    assert hours(days([departure(at("2026-03-02T08:00"), at("2026-03-02T09:00"))])) == {"2026-03-02": 1}


def test_rules_have_defaults_for_an_office() -> None:
    of = Rules(zone=ZoneInfo("UTC"))
    assert (of.day_starts_at, of.split_shifts, of.minimum_break) == (time(0), False, timedelta(minutes=5))
