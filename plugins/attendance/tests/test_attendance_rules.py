"""What a day is, at the changes of clocks and with days that do not begin at midnight."""

from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

import pytest
from attendance_making import HOUR, at, rules
from hypothesis import given
from hypothesis import strategies as st

from facesvc.events.attendance import midnight

PLACES = ("Europe/Berlin", "America/Sao_Paulo", "America/St_Johns", "Pacific/Apia", "Australia/Lord_Howe", "UTC")


@pytest.mark.parametrize(
    ("place", "day", "starts_at", "length"),
    [
        ("Europe/Berlin", "2026-03-29", "00:00", 23),
        ("Europe/Berlin", "2026-10-25", "00:00", 25),
        ("Europe/Berlin", "2026-03-28", "04:00", 23),  # the night to the 29th
        ("Europe/Berlin", "2026-03-29", "04:00", 24),
        ("Europe/Berlin", "2026-10-24", "04:00", 25),
        ("Europe/Berlin", "2026-03-28", "02:30", 24),  # until half past two, which is half past three
        ("Europe/Berlin", "2026-03-29", "02:30", 23),
        ("Europe/Berlin", "2026-10-24", "02:30", 24),  # until it is half past two for the first time
        ("Europe/Berlin", "2026-10-25", "02:30", 25),
        ("America/Sao_Paulo", "2018-11-04", "00:00", 23),  # midnight was skipped
        ("America/Sao_Paulo", "2018-02-17", "00:00", 25),
        ("Australia/Lord_Howe", "2026-04-05", "00:00", 24.5),
        ("Pacific/Apia", "2011-12-30", "00:00", 0),  # nobody lived on that day
    ],
)
def test_days_are_as_long_as_the_clocks_of_the_place_say(place: str, day: str, starts_at: str, length: float) -> None:
    of = rules(zone=ZoneInfo(place), day_starts_at=time.fromisoformat(starts_at))
    the_day = date.fromisoformat(day)
    assert (of.end(the_day) - of.begin(the_day)) / HOUR == length


@given(
    seconds=st.integers(0, 21 * 365 * 86400),
    place=st.sampled_from(PLACES),
    starts_at=st.times(),
)
def test_each_moment_lies_on_just_one_day(seconds: int, place: str, starts_at: time) -> None:
    of = rules(zone=ZoneInfo(place), day_starts_at=starts_at)
    moment = datetime(2009, 1, 1, tzinfo=UTC) + timedelta(seconds=seconds)
    day = of.day_of(moment)
    assert of.begin(day) <= moment < of.end(day)
    for offset in range(-3, 3):
        one = day + timedelta(days=offset)
        assert (of.begin(one) <= moment < of.end(one)) == (offset == 0)


@given(day=st.dates(date(2005, 1, 1), date(2030, 1, 1)), place=st.sampled_from(PLACES))
def test_days_from_midnight_to_midnight_are_those_of_the_server(day: date, place: str) -> None:
    assert rules(zone=ZoneInfo(place)).begin(day) == midnight(day, ZoneInfo(place))


def test_before_four_it_is_still_the_day_before() -> None:
    of = rules(day_starts_at=time(4))
    assert of.day_of(at("2026-03-02T03:59")) == date(2026, 3, 1)
    assert of.day_of(at("2026-03-02T04:00")) == date(2026, 3, 2)


def test_clocks_put_back_over_the_start_of_a_day_do_not_bring_back_the_day_before() -> None:
    # In Newfoundland at 0:01 on 1 November 2009 it was 23:01 on 31 October again.
    of = rules(zone=ZoneInfo("America/St_Johns"))
    assert of.day_of(datetime(2009, 11, 1, 2, 45, tzinfo=UTC)) == date(2009, 11, 1)
