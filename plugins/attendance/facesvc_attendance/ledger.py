"""The ledger: bookings and corrections in the box's notes, and the days that they make."""

import asyncio
import secrets
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, time

from facesvc.errors import DependencyError, ExhaustedError, InputError, NotFoundError
from facesvc.events.plugin import About, Box, Delivery, TryLaterError
from facesvc_attendance import bookings, corrections
from facesvc_attendance.bookings import Booking, booking_of
from facesvc_attendance.corrections import MAX_CORRECTIONS, Correction, Kind, in_force
from facesvc_attendance.days import MARGIN, NOTHING, Day, days_of
from facesvc_attendance.rules import DAY, Rules
from facesvc_attendance.settings import Settings
from facesvc_attendance.stays import Ending, Stay, stays_of

MAX_ROWS = 20_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """Which days, both ends among them, of whom: everybody, a collection's people (``about[0]``), or one person."""

    first: date
    last: date
    about: About = ("", "")

    @property
    def person(self) -> About | None:
        """The one person; None for more."""
        return self.about if self.about[1] else None

    def wants(self, about: About) -> bool:
        """Whether somebody is asked for."""
        return about == self.about if self.about[1] else self.about[0] in {"", about[0]}


class Ledger:
    """What is kept, for one plugin at a time."""

    def __init__(self, settings: Settings, box: Box) -> None:
        self._settings = settings
        self._box = box
        self._correcting = asyncio.Lock()

    async def book(self, delivery: Delivery) -> None:
        """Book what happened, once. Raises ``TryLaterError``."""
        booking = booking_of(delivery)
        if booking is None or not self.rules(booking.about).counts(booking.zone):
            return
        rules = self.rules(booking.about)
        expire_time = rules.end(rules.day_of(booking.arrive_time)) + self._settings.retention
        try:
            await self._box.notes.put_new(booking.key, booking.value(), about=booking.about, expire_time=expire_time)
        except NotFoundError:
            return  # erased meanwhile: nothing is kept of them
        except (DependencyError, ExhaustedError) as error:
            raise TryLaterError(f"an event was not booked: {error}") from error

    def rules(self, about: About) -> Rules:
        """Those of a person's days."""
        return self._settings.rules(about[0])

    def kept_from(self, about: About, now: datetime) -> date:
        """The first day of which all bookings are kept, and those of a stay that began the day before."""
        return self.rules(about).day_of(now - self._settings.retention) + DAY

    async def days(self, asked: Asked) -> list[Day]:
        """The days asked for on which somebody was there or something was corrected, by day and person."""
        booked, corrected = await self.bookings(asked), await self.corrections(asked)
        # In a thread: a month of hundreds of people takes a while, and arrivals go on being booked.
        found = await asyncio.to_thread(self._days, booked, corrected, asked, self._box.now())
        if len(found) > MAX_ROWS:
            raise InputError(f"that is {len(found)} rows, more than {MAX_ROWS}: ask for fewer days", field="from")
        return found

    def _days(
        self, booked: Iterable[Booking], corrected: Iterable[Correction], asked: Asked, now: datetime
    ) -> list[Day]:
        people: dict[About, tuple[list[Booking], list[Correction]]] = {}
        for booking in booked:
            people.setdefault(booking.about, ([], []))[0].append(booking)
        for correction in corrected:
            people.setdefault(correction.about, ([], []))[1].append(correction)
        found = []
        for about, theirs in people.items():
            first = max(asked.first, self.kept_from(about, now))
            days = days_of(about, *theirs, self.rules(about), now)
            found += [day for day in days if first <= day.day <= asked.last]
        return sorted(found, key=lambda day: (day.day, day.about))

    async def bookings(self, asked: Asked) -> list[Booking]:
        """All that the days asked for may need, in the order of the arrivals."""
        start = datetime.combine(asked.first, time.min, UTC) - MARGIN - DAY
        # Wherever the place is and however late a shift began: all of it, and what tells how its stays ended.
        rules = self._settings.rules()
        end = datetime.combine(asked.last, time.min, UTC) + 4 * DAY + max(rules.longest_shift, rules.close_after)
        found = bookings.read(self._box.notes, start, end, asked.person)
        return [one async for one in found if asked.wants(one.about)]

    async def corrections(self, asked: Asked) -> list[Correction]:
        """All that the days asked for may need, day by day."""
        found = corrections.read(self._box.notes, asked.first - MARGIN, asked.last, asked.person)
        return [one async for one in found if asked.wants(one.about)]

    async def correct(self, wanted: Correction) -> tuple[Correction, Day, Day]:
        """Keep a correction, whose number and time are given here; with it the day as it was before and is now.

        Raises ``InputError`` for one that makes no sense, or would not come to what it says.
        """
        if await self._box.person(wanted.about) is None:
            raise NotFoundError(f"there is no person {wanted.about[1]!r} in {wanted.about[0]!r}", field="subject")
        async with self._correcting:
            asked = Asked(first=wanted.day, last=wanted.day, about=wanted.about)
            booked, known = await self.bookings(asked), await self.corrections(asked)
            of_day = [one for one in known if one.day == wanted.day]
            if len(of_day) >= MAX_CORRECTIONS:
                raise InputError(f"{wanted.day} has {MAX_CORRECTIONS} corrections already, more are not kept")
            number = 1 + max((one.number for one in of_day), default=0)
            made = replace(wanted, number=number, time=self._box.now())
            self._check_times(made)
            self._check_target(made, booked, known)
            before = self._day(made, booked, known)
            after = self._day(made, booked, [*known, made])
            _check_effect(made, after, self.rules(made.about))
            await self._keep(made)
        return made, before, after

    def _day(self, made: Correction, booked: Sequence[Booking], known: Sequence[Correction]) -> Day:
        days = days_of(made.about, booked, known, self.rules(made.about), self._box.now())
        empty = Day(made.day, made.about, NOTHING, NOTHING, ())
        return next((day for day in days if day.day == made.day), empty)

    def _check_times(self, made: Correction) -> None:
        rules, now = self.rules(made.about), self._box.now()
        if not self.kept_from(made.about, now) <= made.day <= rules.day_of(now):
            raise InputError(f"{made.day} is not kept any more, or has not been yet", field="day")
        for name, moment in (("start", made.start), ("end", made.end)):
            if moment is None:
                continue
            if moment > now:
                raise InputError(f"{name} has not been yet", field=name)
            if not rules.begin(made.day) - DAY <= moment <= rules.end(made.day) + DAY:
                raise InputError(f"{name} is more than a day away from {made.day}", field=name)
        if made.start is not None and made.end is not None and made.end <= made.start:
            raise InputError("end is not after start", field="end")

    def _check_target(self, made: Correction, booked: Sequence[Booking], known: Sequence[Correction]) -> None:
        valid = in_force(known)
        if made.kind is Kind.STRIKE:
            stays = {stay.stay_id for stay in stays_of(booked, self.rules(made.about), self._box.now())}
            stays |= {one.correction_id for one in valid if one.kind is Kind.ADD}
            stays -= {one.target for one in valid if one.kind is Kind.STRIKE}
            if made.target not in stays:
                message = f"around {made.day} there is no stay {made.target!r}: `days` in JSON shows which there are"
                raise NotFoundError(message, field="target")
        there = {one.correction_id for one in valid if one.day == made.day}
        if made.kind is Kind.UNDO and made.target not in there:
            message = f"{made.day} has no correction {made.target!r} in force: `corrections` shows which there are"
            raise NotFoundError(message, field="target")

    async def _keep(self, made: Correction) -> None:
        rules = self.rules(made.about)
        detail = f"correction {made.correction_id}: {made.kind.value} of {made.day}"
        # Before it is kept: there is none that the log does not know of.
        await self._box.audit("CorrectAttendance", detail, made.about)
        await self._box.notes.put_new(
            made.key(secrets.token_hex(8)),
            made.value(),
            about=made.about,
            expire_time=rules.end(made.day) + self._settings.retention,
        )


def _check_effect(made: Correction, after: Day, rules: Rules) -> None:
    """Refuse what others stand against: a first or last time that would not be so, a stay that would be cut."""
    times, valid = after.times, in_force(after.corrections)
    if made.kind in {Kind.FIRST_IN, Kind.LAST_OUT}:
        first_in = [one.start for one in valid if one.kind is Kind.FIRST_IN]
        last_out = [one.end for one in valid if one.kind is Kind.LAST_OUT]
        if first_in and times.first_in != first_in[-1]:
            raise InputError(_ineffective("first in", after, times.first_in, rules), field="start")
        if last_out and times.last_out != last_out[-1]:
            raise InputError(_ineffective("last out", after, times.last_out, rules), field="end")
    if made.kind is Kind.ADD and not any(_is_whole(stay, made) for stay in times.stays):
        message = (
            f"not all of this stay would lie on {made.day}: its first in or last out is set, the day before goes on"
            " until then, or by the rules of shifts it lies on another day"
        )
        raise InputError(message, field="day")


def _is_whole(stay: Stay, made: Correction) -> bool:
    assert made.start is not None
    assert made.end is not None
    ends = stay.end >= made.end or stay.ending is Ending.DAY_OVER
    return stay.stay_id == made.correction_id and stay.start <= made.start and ends


def _ineffective(what: str, day: Day, instead: datetime | None, rules: Rules) -> str:
    if day.times.first_in is None:
        return f"nothing is booked on {day.day}: add a stay"
    when = "open" if instead is None else rules.local(instead).isoformat(timespec="minutes")
    return f"the {what} of {day.day} would be {when} instead: strike or add stays, or undo what was set before"
