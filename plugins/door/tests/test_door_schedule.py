"""Hours of a week."""

from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from facesvc_door.schedule import ALWAYS, Standing, Window, minutes, standing
from hypothesis import given
from hypothesis import strategies as st

MONDAY = date(2026, 3, 2)
DAYTIME = Window(frozenset({0, 1, 2, 3, 4}), minutes("07:00"), minutes("19:00"))
NIGHT = Window(frozenset({4}), minutes("22:00"), minutes("06:00"))  # Friday's


def at(day: int, time: str) -> datetime:
    """A moment of the week of ``MONDAY``; 0 is Monday."""
    return datetime.combine(MONDAY, datetime.min.time()) + timedelta(days=day, minutes=minutes(time))


@pytest.mark.parametrize(
    ("window", "moment", "inside"),
    [
        (DAYTIME, at(0, "06:59"), False),
        (DAYTIME, at(0, "07:00"), True),
        (DAYTIME, at(4, "18:59") + timedelta(seconds=59), True),
        (DAYTIME, at(4, "19:00"), False),
        (DAYTIME, at(5, "12:00"), False),
        (NIGHT, at(4, "21:59"), False),
        (NIGHT, at(4, "22:00"), True),
        (NIGHT, at(5, "05:59"), True),
        (NIGHT, at(5, "06:00"), False),
        (NIGHT, at(4, "05:00"), False),
        (NIGHT, at(5, "23:00"), False),
    ],
)
def test_a_window_has_its_first_minute_and_not_its_last(window: Window, moment: datetime, *, inside: bool) -> None:
    assert (standing([window], moment, frozenset()) is Standing.INSIDE) == inside


def test_a_holiday_is_that_of_the_day_on_which_the_window_began() -> None:
    friday, saturday = MONDAY + timedelta(days=4), MONDAY + timedelta(days=5)
    assert standing([NIGHT], at(5, "01:00"), {saturday}) is Standing.INSIDE
    assert standing([NIGHT], at(5, "01:00"), {friday}) is Standing.HOLIDAY
    assert standing([NIGHT], at(4, "23:00"), {friday}) is Standing.HOLIDAY
    assert standing([NIGHT], at(4, "12:00"), {friday}) is Standing.OUTSIDE


def test_always_is_every_minute_of_the_week() -> None:
    assert all(
        standing(ALWAYS, at(0, "00:00") + timedelta(minutes=one), frozenset()) is Standing.INSIDE
        for one in range(7 * 24 * 60)
    )


@given(
    st.frozensets(st.integers(0, 6), min_size=1),
    st.integers(0, 1439),
    st.integers(1, 1440),
    st.integers(0, 7 * 1440 - 1),
)
def test_a_window_is_the_minutes_from_its_start_to_its_end(
    days: frozenset[int], start: int, end: int, minute: int
) -> None:
    if start == end:
        with pytest.raises(ValueError, match="is none"):
            Window(days, start, end)
        return
    length = (end - start) % 1440 or 1440
    week = {(day * 1440 + start + one) % (7 * 1440) for day in days for one in range(length)}
    local = at(0, "00:00") + timedelta(minutes=minute)
    assert (Window(days, start, end).begun(local) is not None) == (minute in week)


def test_hours_follow_the_clock_on_the_wall() -> None:
    berlin, window = ZoneInfo("Europe/Berlin"), Window(frozenset(range(7)), minutes("07:00"), minutes("08:00"))
    winter, summer = datetime(2026, 3, 28, 6, 30, tzinfo=UTC), datetime(2026, 3, 29, 5, 30, tzinfo=UTC)
    assert standing([window], winter.astimezone(berlin), frozenset()) is Standing.INSIDE
    assert standing([window], summer.astimezone(berlin), frozenset()) is Standing.INSIDE
    # 02:30 comes twice in the night to 25 October; both count.
    night = Window(frozenset({6}), minutes("02:00"), minutes("03:00"))
    for hour in (0, 1):
        local = datetime(2026, 10, 25, hour, 30, tzinfo=UTC).astimezone(berlin)
        assert standing([night], local, frozenset()) is Standing.INSIDE


@pytest.mark.parametrize("text", ["7:00", "07:60", "24:01", "25:00", "0700", "aa:bb", "07:0x", "", "-7:00", "²²:00"])
def test_a_time_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="time of day"):
        minutes(text)


def test_the_end_of_the_day_is_a_time() -> None:
    assert minutes("24:00") == 1440
