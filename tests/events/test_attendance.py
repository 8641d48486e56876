"""Days made of stays: midnights, changes of the clock, overlaps, and who is still there."""

from collections.abc import Iterable
from datetime import UTC, date, datetime, timedelta, tzinfo
from zoneinfo import ZoneInfo

import pytest
from events.making import stay
from hypothesis import given
from hypothesis import strategies as st

from facesvc.events.attendance import Attendance, attendances, midnight
from facesvc.events.records import Stay

BERLIN = ZoneInfo("Europe/Berlin")
LATER = datetime(2030, 1, 1, tzinfo=UTC)


def local(text: str, zone: tzinfo = BERLIN) -> datetime:
    """A time of a zone in UTC."""
    return datetime.fromisoformat(text).replace(tzinfo=zone).astimezone(UTC)


def days(*stays: Stay, zone: tzinfo = BERLIN, now: datetime = LATER, **window: datetime) -> list[Attendance]:
    return list(attendances(sorted(stays, key=lambda one: one.arrive_time), zone, now, **window))


def hours(found: Iterable[Attendance]) -> list[float]:
    return [one.present.total_seconds() / 3600 for one in found]


def test_nobody_was_there() -> None:
    assert days() == []


def test_first_in_last_out_and_the_time_between_without_the_gaps() -> None:
    morning = stay(local("2026-03-02T08:00"), local("2026-03-02T12:00"))
    afternoon = stay(local("2026-03-02T12:30"), local("2026-03-02T17:00"))
    (day,) = days(afternoon, morning)
    assert (day.day, day.subject_id, day.stays) == (date(2026, 3, 2), "jane", 2)
    assert (day.first_in, day.last_out) == (morning.arrive_time, afternoon.leave_time)
    assert day.present == timedelta(hours=8.5)


def test_two_zones_at_once_count_once() -> None:
    desk = stay(local("2026-03-02T08:00"), local("2026-03-02T12:00"), zone="desk")
    lab = stay(local("2026-03-02T11:00"), local("2026-03-02T13:00"), zone="lab")
    within = stay(local("2026-03-02T09:00"), local("2026-03-02T10:00"), zone="lift")
    (day,) = days(desk, lab, within)
    assert (day.present, day.stays) == (timedelta(hours=5), 3)


def test_a_stay_over_midnight_belongs_to_both_days_each_with_its_part() -> None:
    night = stay(local("2026-03-02T22:00"), local("2026-03-03T06:00"))
    first, second = days(night)
    assert (first.first_in, first.last_out) == (night.arrive_time, local("2026-03-03T00:00"))
    assert (second.first_in, second.last_out) == (local("2026-03-03T00:00"), night.leave_time)
    assert hours([first, second]) == [2, 6]


def test_a_stay_of_days_has_a_row_for_each() -> None:
    assert hours(days(stay(local("2026-03-02T22:00"), local("2026-03-05T01:00")))) == [2, 24, 24, 1]


def test_a_stay_until_midnight_does_not_touch_the_next_day() -> None:
    (day,) = days(stay(local("2026-03-02T22:00"), local("2026-03-03T00:00")))
    assert (day.day, day.last_out) == (date(2026, 3, 2), local("2026-03-03T00:00"))


@pytest.mark.parametrize(
    ("zone", "around", "expected"),
    [
        ("Europe/Berlin", "2026-03-29", [24, 23, 24]),  # clocks forward at two
        ("Europe/Berlin", "2026-10-25", [24, 25, 24]),  # clocks back at three
        ("America/Sao_Paulo", "2018-11-04", [24, 23, 24]),  # midnight is skipped
        ("America/Sao_Paulo", "2018-02-17", [24, 25, 24]),  # the last hour of the day comes twice
        ("America/St_Johns", "2009-10-31", [24, 24, 25]),  # back from 0:01 to 23:01 the day before
        ("Australia/Lord_Howe", "2026-04-05", [24, 24.5, 24]),  # by half an hour
        ("Asia/Kathmandu", "2026-04-05", [24, 24, 24]),
        ("UTC", "2026-03-29", [24, 24, 24]),
    ],
)
def test_days_are_as_long_as_their_clocks_say(zone: str, around: str, expected: list[float]) -> None:
    place, middle = ZoneInfo(zone), date.fromisoformat(around)
    start = midnight(middle - timedelta(days=1), place)
    end = midnight(middle + timedelta(days=2), place)
    found = days(stay(start, end), zone=place)
    assert sum(hours(found)) == pytest.approx((end - start).total_seconds() / 3600)
    assert [one.day for one in found] == [middle + timedelta(days=offset) for offset in (-1, 0, 1)]
    assert hours(found) == pytest.approx(expected)


def test_clocks_that_are_put_back_over_midnight_do_not_bring_back_the_day_before() -> None:
    # At 0:01 on 1 November 2009 it was 23:01 on 31 October again. The day has begun by then, and goes on.
    newfoundland = ZoneInfo("America/St_Johns")
    again = datetime(2009, 11, 1, 2, 45, tzinfo=UTC)
    assert again.astimezone(newfoundland).date() == date(2009, 10, 31)
    assert [one.day for one in days(stay(again, again + timedelta(hours=2)), zone=newfoundland)] == [date(2009, 11, 1)]


def test_a_day_that_a_country_skipped_is_nobodys() -> None:
    apia = ZoneInfo("Pacific/Apia")
    found = days(stay(local("2011-12-29T12:00", apia), local("2011-12-31T12:00", apia)), zone=apia)
    assert [one.day.day for one in found] == [29, 31]
    assert hours(found) == [12, 12]


def test_the_same_stay_lies_on_other_days_elsewhere() -> None:
    one = stay(datetime(2026, 3, 2, 22, tzinfo=UTC), datetime(2026, 3, 3, 2, tzinfo=UTC))
    assert [day.day.day for day in days(one, zone=UTC)] == [2, 3]
    assert [day.day.day for day in days(one, zone=ZoneInfo("Asia/Tokyo"))] == [3]
    assert [day.day.day for day in days(one, zone=ZoneInfo("America/New_York"))] == [2]


def test_who_is_present_has_no_last_out_and_is_counted_until_now() -> None:
    (day,) = days(stay(local("2026-03-02T08:00")), now=local("2026-03-02T09:30"))
    assert (day.last_out, day.present) == (None, timedelta(hours=1.5))


def test_who_is_present_since_yesterday_was_out_at_midnight() -> None:
    first, second = days(stay(local("2026-03-02T20:00")), now=local("2026-03-03T01:00"))
    assert (first.last_out, second.last_out) == (local("2026-03-03T00:00"), None)


def test_present_in_one_zone_is_present() -> None:
    gone = stay(local("2026-03-02T08:00"), local("2026-03-02T09:00"), zone="lab")
    (day,) = days(gone, stay(local("2026-03-02T08:30")), now=local("2026-03-02T10:00"))
    assert (day.last_out, day.present) == (None, timedelta(hours=2))


def test_a_clock_that_was_set_back_makes_no_negative_time() -> None:
    (day,) = days(stay(local("2026-03-02T08:00")), now=local("2026-03-02T07:00"))
    assert (day.present, day.last_out) == (timedelta(0), None)


def test_only_what_lies_in_the_window_counts() -> None:
    one = stay(local("2026-03-02T08:00"), local("2026-03-02T17:00"))
    (day,) = days(one, start=local("2026-03-02T10:00"), end=local("2026-03-02T12:00"))
    assert (day.first_in, day.last_out) == (local("2026-03-02T10:00"), local("2026-03-02T12:00"))
    assert day.present == timedelta(hours=2)
    assert days(one, end=one.arrive_time) == []
    assert days(one, start=local("2026-03-02T17:00")) == []


def test_a_window_of_the_past_does_not_say_that_somebody_is_present() -> None:
    (day,) = days(stay(local("2026-03-02T08:00")), now=local("2026-03-02T17:00"), end=local("2026-03-02T12:00"))
    assert (day.last_out, day.present) == (local("2026-03-02T12:00"), timedelta(hours=4))


def test_a_window_of_the_future_is_empty() -> None:
    assert days(stay(local("2026-03-02T08:00")), now=local("2026-03-02T09:00"), start=local("2026-03-02T10:00")) == []


def test_people_come_by_their_id_and_days_by_their_date() -> None:
    found = days(
        stay(local("2026-03-03T08:00"), local("2026-03-03T09:00"), "ann"),
        stay(local("2026-03-02T08:00"), local("2026-03-02T09:00"), "joe"),
        stay(local("2026-03-02T10:00"), local("2026-03-02T11:00"), "ann"),
    )
    assert [(one.day.day, one.subject_id) for one in found] == [(2, "ann"), (2, "joe"), (3, "ann")]


def test_the_name_is_the_last_one() -> None:
    (day,) = days(
        stay(local("2026-03-02T08:00"), local("2026-03-02T17:00"), display_name="Jane Doe"),
        stay(local("2026-03-02T10:00"), local("2026-03-02T11:00"), display_name="Jane Roe"),
    )
    assert day.display_name == "Jane Roe"


def test_no_more_stays_are_read_than_the_day_needs() -> None:
    def stays() -> Iterable[Stay]:
        yield stay(local("2026-03-02T08:00"), local("2026-03-02T09:00"))
        yield stay(local("2026-03-03T08:00"), local("2026-03-03T09:00"))
        raise AssertionError("read too far")

    assert next(iter(attendances(stays(), BERLIN, LATER))).day == date(2026, 3, 2)


MINUTES = st.integers(0, 14 * 24 * 60)


@given(
    st.lists(st.tuples(MINUTES, MINUTES, st.sampled_from(["ann", "joe"])), max_size=20),
    st.sampled_from(["Europe/Berlin", "America/Sao_Paulo", "Asia/Tokyo", "UTC"]),
)
def test_each_minute_is_counted_once_on_one_day(spans: list[tuple[int, int, str]], name: str) -> None:
    zone, begin = ZoneInfo(name), datetime(2018, 2, 10, 3, tzinfo=UTC)
    stays, minutes = [], set()
    for first, second, who in spans:
        start, end = sorted((first, second))
        stays.append(stay(begin + timedelta(minutes=start), begin + timedelta(minutes=end), who))
        minutes |= {(who, minute) for minute in range(start, end)}
    found = days(*stays, zone=zone)
    assert [(one.day, one.subject_id) for one in found] == sorted({(one.day, one.subject_id) for one in found})
    for who in ("ann", "joe"):
        total = sum((one.present for one in found if one.subject_id == who), timedelta())
        assert total == timedelta(minutes=sum(1 for person, _ in minutes if person == who))
    for one in found:
        assert midnight(one.day, zone) <= one.first_in < midnight(one.day + timedelta(days=1), zone)
        assert one.last_out is not None
        assert one.first_in <= one.last_out <= midnight(one.day + timedelta(days=1), zone)
