"""Days made of stays: who came first in, last out, and was there for how long.

A day is what lies between two midnights of a time zone, 23 or 25 hours of it where the clocks change. A stay over
midnight belongs to both days, each with its part. Stays of one person may overlap, in two zones say: time that is
covered twice counts once. Somebody who is still present was there until now, and has no last out today.

All arithmetic is done in UTC: that of Python on two times of one zone forgets that the clocks change.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, time, timedelta, tzinfo

from facesvc.events.records import Stay

_DAY = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Attendance:
    """One person on one day; ``last_out`` is None while they are present."""

    day: date
    subject_id: str
    display_name: str
    first_in: datetime
    last_out: datetime | None
    present: timedelta
    stays: int


@dataclass(frozen=True, slots=True)
class _Part:
    """What of a stay lies on a day."""

    stay: Stay
    start: datetime
    end: datetime
    ongoing: bool

    def until(self, midnight: datetime) -> "_Part":
        """What of it lies before a midnight."""
        return self if self.end <= midnight else replace(self, end=midnight, ongoing=False)


def midnight(day: date, zone: tzinfo) -> datetime:
    """When a day begins, in UTC; where the clocks skip midnight, when they do."""
    return datetime.combine(day, time.min, zone).astimezone(UTC)


def attendances(
    stays: Iterable[Stay], zone: tzinfo, now: datetime, start: datetime | None = None, end: datetime | None = None
) -> Iterator[Attendance]:
    """Days in order, and within a day people by their id, of ``stays``, which come in the order of their arrivals.

    Only what lies from ``start`` to before ``end`` counts, each open where it is None. Reads no further in ``stays``
    than to the end of the day that is asked for.
    """
    parts = (part for stay in stays if (part := _part(stay, now, start, end)) is not None)
    upcoming = next(parts, None)
    begun: list[_Part] = []  # on days before, in the order of their starts, like the rest
    while first := begun[0] if begun else upcoming:
        day = _day_of(first.start, zone)
        finish = midnight(day + _DAY, zone)
        while upcoming is not None and upcoming.start < finish:
            begun.append(upcoming)
            upcoming = next(parts, None)
        yield from _people(day, [part.until(finish) for part in begun])
        begun = [replace(part, start=finish) for part in begun if part.end > finish]


def _day_of(moment: datetime, zone: tzinfo) -> date:
    """The day between whose midnights a moment lies: not the next one's, where clocks are put back over midnight."""
    day = moment.astimezone(zone).date()
    return day + _DAY if midnight(day + _DAY, zone) <= moment else day


def _part(stay: Stay, now: datetime, start: datetime | None, end: datetime | None) -> _Part | None:
    """What of a stay counts; None where nothing does."""
    left = now if stay.leave_time is None else stay.leave_time
    begin = stay.arrive_time if start is None else max(stay.arrive_time, start)
    if (end is not None and begin >= end) or (stay.arrive_time < begin and left <= begin):
        return None
    finish = max(begin, left if end is None else min(left, end))
    return _Part(stay, begin, finish, ongoing=stay.leave_time is None and (end is None or now < end))


def _people(day: date, parts: Iterable[_Part]) -> Iterator[Attendance]:
    people: dict[str, list[_Part]] = {}
    for part in parts:
        people.setdefault(part.stay.subject_id, []).append(part)
    for subject_id in sorted(people):
        theirs = people[subject_id]
        yield Attendance(
            day,
            subject_id,
            max(theirs, key=lambda part: part.stay.arrive_time).stay.display_name,
            theirs[0].start,
            None if any(part.ongoing for part in theirs) else max(part.end for part in theirs),
            _covered(theirs),
            len(theirs),
        )


def _covered(parts: Iterable[_Part]) -> timedelta:
    """How much time parts cover together; they come in the order of their starts."""
    total, until = timedelta(), datetime.min.replace(tzinfo=UTC)
    for part in parts:
        total += max(timedelta(), part.end - max(part.start, until))
        until = max(until, part.end)
    return total
