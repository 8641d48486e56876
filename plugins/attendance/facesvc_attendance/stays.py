"""Stays made of bookings: who was in a zone from when to when. Pure values; the time is passed in.

In a zone somebody arrives and leaves in turn, in the order in which that was told:

=================  ==============================================  ====================================
after an arrival   what is made of it                              how it ended
=================  ==============================================  ====================================
a departure        a stay with the departure's times               seen leaving
anything else      a stay until then, ``close_after`` at most      not seen leaving
nothing, lately    a stay until now                                still present
nothing            a stay of ``close_after``                       not seen leaving
=================  ==============================================  ====================================

A departure whose arrival was not booked is a stay too: it says when the person had come. Where the wall clock was set
during a stay, its times differ from the arrival's, and are those that are right about how long it was. No stay is
longer than ``MAX_STAY``: one that began longer ago is not looked for.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import Enum

from facesvc_attendance.bookings import Booking
from facesvc_attendance.rules import Rules

MAX_STAY = timedelta(days=7)
MAX_SET = timedelta(days=1)
"""A clock that is set by more than this is broken, and a departure so far away that of another stay."""


class Ending(Enum):
    """How a stay, or the part of it that lies on a day, ended."""

    LEFT = "seen leaving"
    PRESENT = "still present"
    NOT_SEEN = "not seen leaving"
    DAY_OVER = "the day was over"
    CORRECTED = "corrected"


@dataclass(frozen=True, slots=True)
class Stay:
    """Somebody's time in a zone; ``zone`` is empty for one that a correction added."""

    stay_id: str
    zone: str
    start: datetime
    end: datetime
    ending: Ending


def stays_of(bookings: Iterable[Booking], rules: Rules, now: datetime) -> list[Stay]:
    """One person's stays, by their starts; the order in which the bookings come does not matter."""
    zones: dict[str, list[Booking]] = {}
    for one in bookings:
        if rules.counts(one.zone):
            zones.setdefault(one.zone, []).append(one)
    found = [stay for theirs in zones.values() for stay in _in_zone(theirs, rules, now)]
    return sorted(found, key=lambda stay: (stay.start, stay.stay_id))


def _in_zone(bookings: list[Booking], rules: Rules, now: datetime) -> Iterator[Stay]:
    arrival: Booking | None = None
    for one in sorted(bookings, key=lambda one: (one.number, one.event_id)):
        same = arrival is not None and one.leave_time is not None and _belong(arrival, one)
        if arrival is not None and not same:
            closing = min(one.arrive_time, arrival.arrive_time + rules.close_after)
            yield _stay(arrival.event_id, arrival, closing, Ending.NOT_SEEN)
        if one.leave_time is not None:
            yield _stay(arrival.event_id if arrival and same else one.event_id, one, one.leave_time, Ending.LEFT)
        arrival = one if one.leave_time is None else None
    if arrival is not None:
        closing = arrival.arrive_time + rules.close_after
        ending = Ending.PRESENT if now < closing else Ending.NOT_SEEN
        yield _stay(arrival.event_id, arrival, min(now, closing), ending)


def _belong(arrival: Booking, departure: Booking) -> bool:
    """Whether a departure can be that of an arrival, with a clock that was set in between."""
    return abs(departure.arrive_time - arrival.arrive_time) <= MAX_SET


def _stay(stay_id: str, booking: Booking, end: datetime, ending: Ending) -> Stay:
    """From a booking's arrival on; not shorter than nothing, nor longer than can be."""
    start = booking.arrive_time
    if end > start + MAX_STAY:
        end, ending = start + MAX_STAY, Ending.NOT_SEEN
    return Stay(stay_id, booking.zone, start, max(start, end), ending)
