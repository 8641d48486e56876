"""What holds for whatever is booked: each minute counts once, and the order of bookings does not matter."""

from datetime import UTC, datetime, time, timedelta
from zoneinfo import ZoneInfo

from attendance_making import ABOUT, arrival, correction, departure, rules
from facesvc_attendance.bookings import Booking
from facesvc_attendance.corrections import Kind
from facesvc_attendance.days import Day, days_of
from facesvc_attendance.rules import Rules
from facesvc_attendance.stays import stays_of
from hypothesis import given, settings
from hypothesis import strategies as st

MINUTE = timedelta(minutes=1)
START = datetime(2026, 3, 27, tzinfo=UTC)  # the clocks of Berlin change on the 29th
NOW = START + timedelta(days=12)

minutes = st.integers(0, 6 * 24 * 60)
zones = st.sampled_from(["lobby", "desk", "lab"])
all_rules = st.builds(
    rules,
    zone=st.sampled_from([ZoneInfo("Europe/Berlin"), ZoneInfo("America/Sao_Paulo"), ZoneInfo("UTC")]),
    day_starts_at=st.sampled_from([time(0), time(2, 30), time(4), time(22)]),
    split_shifts=st.booleans(),
    shift_gap=st.integers(0, 12).map(lambda hours: timedelta(hours=hours)),
    longest_shift=st.integers(1, 48).map(lambda hours: timedelta(hours=hours)),
    close_after=st.integers(1, 30).map(lambda hours: timedelta(hours=hours)),
)


@st.composite
def histories(draw: st.DrawFn) -> list[Booking]:
    """Arrivals and departures, of which some were not booked; numbers grow with the time of telling."""
    found: list[tuple[datetime, str, datetime | None, datetime]] = []
    for zone, begin, length, what in draw(
        st.lists(st.tuples(zones, minutes, st.integers(0, 2000), st.integers(0, 5)), max_size=12)
    ):
        start = START + begin * MINUTE
        end = start + length * MINUTE
        if what != 0:
            found.append((start, zone, None, start))
        if what != 1:
            found.append((end, zone, end, start))
    numbered = enumerate(sorted(found, key=lambda one: one[0]), 1)
    return [
        arrival(start, zone, number=number) if end is None else departure(start, end, zone, number=number)
        for number, (_, zone, end, start) in numbered
    ]


def covered(parts: list[tuple[datetime, datetime]]) -> set[datetime]:
    """The minutes that are covered."""
    return {start + n * MINUTE for start, end in parts for n in range(int((end - start) / MINUTE))}


def present_minutes(day: Day) -> set[datetime]:
    times = day.times
    if times.first_in is None:
        return set()
    last = max(stay.end for stay in times.stays)
    return covered([(times.first_in, last)]) - covered(list(times.breaks))


@settings(deadline=None)
@given(histories(), all_rules)
def test_each_minute_counts_once_and_the_days_add_up_to_the_whole(bookings: list[Booking], of: Rules) -> None:
    found = days_of(ABOUT, bookings, [], of, NOW)
    there = covered([(stay.start, stay.end) for stay in stays_of(bookings, of, NOW)])
    each_day = [present_minutes(day) for day in found]
    assert sum(map(len, each_day)) == len(there)
    assert set().union(*each_day) == there
    assert sum((day.times.present for day in found), timedelta()) == len(there) * MINUTE


@settings(deadline=None)
@given(histories().flatmap(lambda one: st.tuples(st.just(one), st.permutations(one))), all_rules)
def test_the_order_of_bookings_does_not_matter(both: tuple[list[Booking], list[Booking]], of: Rules) -> None:
    assert days_of(ABOUT, both[0], [], of, NOW) == days_of(ABOUT, both[1], [], of, NOW)


@settings(deadline=None)
@given(
    histories(),
    all_rules,
    st.integers(0, 30).map(lambda minutes: minutes * MINUTE),
    st.lists(st.tuples(st.sampled_from([Kind.FIRST_IN, Kind.LAST_OUT, Kind.ADD]), minutes, minutes), max_size=4),
)
def test_from_first_in_to_last_out_all_is_present_or_break_and_days_do_not_overlap(
    bookings: list[Booking], of: Rules, shortest: timedelta, changes: list[tuple[Kind, int, int]]
) -> None:
    of = rules(**{name: getattr(of, name) for name in of.__slots__} | {"minimum_break": shortest})
    corrections = []
    for number, (kind, one, other) in enumerate(changes, 1):
        start, end = START + min(one, other) * MINUTE, START + max(one, other) * MINUTE
        corrections.append(correction(number, kind, str(of.day_of(start)), start=start, end=end))
    until = datetime.min.replace(tzinfo=UTC)
    for day in days_of(ABOUT, bookings, corrections, of, NOW):
        times = day.times
        if times.first_in is None:
            continue
        last = max(stay.end for stay in times.stays)
        away = sum((end - start for start, end in times.breaks), timedelta())
        assert times.present + away == last - times.first_in
        assert all(end - start > shortest for start, end in times.breaks)
        assert times.first_in >= until
        until = last


@settings(deadline=None)
@given(histories(), all_rules, st.integers(0, 40))
def test_days_do_not_depend_on_how_far_back_is_read(bookings: list[Booking], of: Rules, hours: int) -> None:
    """As far as the person was away for long enough somewhere between; here, for two days."""
    later = START + timedelta(days=10, hours=hours)
    last = [arrival(later, number=9001), departure(later, later + 5 * MINUTE, number=9002)]
    alone = days_of(ABOUT, last, [], of, LATER_THAN_ALL)
    assert days_of(ABOUT, [*bookings, *last], [], of, LATER_THAN_ALL)[-1] == alone[-1]


LATER_THAN_ALL = START + timedelta(days=20)
