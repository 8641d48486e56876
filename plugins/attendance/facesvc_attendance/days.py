"""Days made of stays and corrections: first in, last out, time present, breaks. Pure values; the time is passed in.

1. Stays that are struck are left out, those that were added are put in.
2. Each stay goes to a day. Either every day gets its part of it, or a whole shift goes to the day on which it began: a
   shift goes on while the person is back within ``shift_gap``, and until they arrive after ``longest_shift``.
3. A first in or last out that was set moves the start or end of the day's stays.
4. What lies before the end of an earlier day of the same person was counted there, and is not counted again.
5. Stays that overlap count once. An absence longer than ``minimum_break`` is a break; a shorter one counts as present.
   So from first in to last out all is either present or break.

The same days without corrections stand beside them. Which shift a stay belongs to depends on the stays before it: for
days that are right, give the bookings since ``MARGIN`` before; who was never away for ``shift_gap`` in that time is
taken to have begun a shift there.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise

from facesvc.events.plugin import About
from facesvc_attendance.bookings import Booking
from facesvc_attendance.corrections import Correction, Kind, in_force
from facesvc_attendance.rules import DAY, Rules
from facesvc_attendance.stays import MAX_STAY, Ending, Stay, stays_of

MARGIN = MAX_STAY + DAY

Span = tuple[datetime, datetime]
_EVER = datetime.min.replace(tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Times:
    """What somebody's day comes to. Of a day on which nothing is left, both times are None.

    ``last_out`` is None, too, while they are present. ``stays``: parts of them, those that lie on the day.
    """

    first_in: datetime | None
    last_out: datetime | None
    present: timedelta
    breaks: tuple[Span, ...]
    stays: tuple[Stay, ...]

    @property
    def not_seen_leaving(self) -> bool:
        """Whether a stay ended by the rule."""
        return any(stay.ending is Ending.NOT_SEEN for stay in self.stays)

    @property
    def still_present(self) -> bool:
        """Whether a stay has not ended."""
        return any(stay.ending is Ending.PRESENT for stay in self.stays)


@dataclass(frozen=True, slots=True)
class Day:
    """A person's day: with its corrections, what it comes to, and what it would without them."""

    day: date
    about: About
    times: Times
    booked: Times
    corrections: tuple[Correction, ...]

    @property
    def corrected(self) -> bool:
        """Whether corrections made a difference."""
        return self.times != self.booked


NOTHING = Times(None, None, timedelta(), (), ())


def days_of(
    about: About, bookings: Iterable[Booking], corrections: Iterable[Correction], rules: Rules, now: datetime
) -> list[Day]:
    """One person's days, in order; neither bookings nor corrections need be."""
    stays = stays_of(bookings, rules, now)
    known = sorted(corrections, key=lambda one: (one.day, one.number))
    booked = _times(stays, [], rules)
    valid = in_force(known)
    times = _times(_put_right(stays, valid), valid, rules) if valid else booked
    return [
        Day(
            day,
            about,
            times.get(day, NOTHING),
            booked.get(day, NOTHING),
            tuple(one for one in known if one.day == day),
        )
        for day in sorted({*times, *booked, *(one.day for one in known)})
    ]


def _put_right(stays: Iterable[Stay], corrections: Iterable[Correction]) -> list[Stay]:
    """Without stays that are struck, with those that were added, by their starts."""
    struck, added = set(), []
    for one in corrections:
        if one.kind is Kind.STRIKE:
            struck.add(one.target)
        elif one.kind is Kind.ADD and one.start is not None and one.end is not None:
            added.append(Stay(one.correction_id, "", one.start, one.end, Ending.CORRECTED))
    left = [stay for stay in (*stays, *added) if stay.stay_id not in struck]
    return sorted(left, key=lambda stay: (stay.start, stay.stay_id))


def _times(stays: list[Stay], corrections: list[Correction], rules: Rules) -> dict[date, Times]:
    days: dict[date, list[Stay]] = {}
    for day, stay in _each_day(stays, rules) if rules.split_shifts else _by_shift(stays, rules):
        days.setdefault(day, []).append(stay)
    found, counted = {}, _EVER
    for day in sorted(days):
        parts = _moved(days[day], [one for one in corrections if one.day == day])
        parts = [
            replace(part, start=max(part.start, counted))
            for part in parts
            if part.end > counted or part.start >= counted
        ]
        counted = max([counted, *(part.end for part in parts)])
        found[day] = _sum(parts, rules.minimum_break)
    return found


def _each_day(stays: Iterable[Stay], rules: Rules) -> Iterator[tuple[date, Stay]]:
    """Every day with its part."""
    for stay in stays:
        rest, day = stay, rules.day_of(stay.start)
        while rest.end > (finish := rules.end(day)):
            if finish > rest.start:  # not on a day that the place skipped
                yield day, replace(rest, end=finish, ending=Ending.DAY_OVER)
            rest, day = replace(rest, start=finish), day + DAY
        yield day, rest


def _by_shift(stays: Iterable[Stay], rules: Rules) -> Iterator[tuple[date, Stay]]:
    """The day on which the shift began; stays come by their starts."""
    day, began, until = date.min, _EVER, _EVER
    for stay in stays:
        away = stay.start - until
        late = stay.start - began > rules.longest_shift
        if away > rules.shift_gap or (late and away >= timedelta()):
            day, began = rules.day_of(stay.start), stay.start
        until = max(until, stay.end)
        yield day, stay


def _moved(parts: list[Stay], corrections: Iterable[Correction]) -> list[Stay]:
    """The day's parts from the first in to the last out that were set, as far as something is left."""
    first_in = last_out = None
    for one in corrections:
        if one.kind is Kind.FIRST_IN:
            first_in = one.start
        elif one.kind is Kind.LAST_OUT:
            last_out = one.end
    if first_in is not None:
        parts = _from(parts, first_in)
    return parts if last_out is None else _until(parts, last_out)


def _from(parts: list[Stay], first_in: datetime) -> list[Stay]:
    left = [replace(part, start=max(part.start, first_in)) for part in parts if part.end > first_in]
    if not left:
        return parts
    first = min(left, key=lambda part: part.start)
    return [replace(part, start=first_in) if part is first else part for part in left]


def _until(parts: list[Stay], last_out: datetime) -> list[Stay]:
    left = [
        part
        if part.end <= last_out and part.ending is not Ending.PRESENT
        else replace(part, end=last_out, ending=Ending.CORRECTED)
        for part in parts
        if part.start < last_out
    ]
    if not left:
        return parts
    last = max(left, key=lambda part: part.end)
    return [replace(part, end=last_out, ending=Ending.CORRECTED) if part is last else part for part in left]


def _sum(parts: Iterable[Stay], minimum_break: timedelta) -> Times:
    parts = sorted(parts, key=lambda part: (part.start, part.stay_id))
    if not parts:
        return NOTHING
    spans = _spans(parts, minimum_break)
    return Times(
        spans[0][0],
        None if any(part.ending is Ending.PRESENT for part in parts) else spans[-1][1],
        sum((end - start for start, end in spans), timedelta()),
        tuple((before[1], after[0]) for before, after in pairwise(spans)),
        tuple(parts),
    )


def _spans(parts: Iterable[Stay], minimum_break: timedelta) -> list[Span]:
    """What parts cover, which come by their starts, with absences that are no breaks."""
    spans: list[Span] = []
    for part in parts:
        if spans and part.start - spans[-1][1] <= minimum_break:
            spans[-1] = (spans[-1][0], max(spans[-1][1], part.end))
        else:
            spans.append((part.start, part.end))
    return spans
