"""Days as a calendar (RFC 5545): an entry for every stay, known again by its UID when it is fetched anew."""

from collections.abc import Iterable, Mapping
from datetime import datetime

from icalendar import Calendar, Event

from facesvc.errors import InputError
from facesvc.events.plugin import About
from facesvc_attendance.days import Day
from facesvc_attendance.people import Card
from facesvc_attendance.stays import Stay
from facesvc_attendance.tables import one_line

MAX_ENTRIES = 20_000


def as_ical(days: Iterable[Day], cards: Mapping[About, Card], now: datetime) -> str:
    """A calendar; who is still present is so until ``now``. Raises ``InputError`` for too many entries."""
    shown = [(day, stay) for day in days if day.about in cards for stay in day.times.stays]
    if len(shown) > MAX_ENTRIES:
        message = f"that is {len(shown)} entries, more than {MAX_ENTRIES}: ask for fewer days, or one person"
        raise InputError(message, field="from")
    calendar = Calendar()
    calendar.add("version", "2.0")
    calendar.add("prodid", "-//facesvc//attendance//EN")
    for day, stay in shown:
        calendar.add_component(_entry(day, stay, cards[day.about], now))
    return str(calendar.to_ical(), "utf-8")


def _entry(day: Day, stay: Stay, card: Card, now: datetime) -> Event:
    entry = Event()
    # The id of a stay that was added is one of the person's only.
    entry.add("uid", f"{stay.stay_id}.{day.day:%Y%m%d}.{'.'.join(day.about)}@attendance.facesvc")
    entry.add("dtstamp", now)
    entry.add("dtstart", stay.start.replace(microsecond=0))
    entry.add("dtend", stay.end.replace(microsecond=0))
    entry.add("summary", one_line(card.display_name or day.about[1]))
    entry.add("description", stay.ending.value)
    entry.add("transp", "TRANSPARENT")
    if stay.zone:
        entry.add("location", one_line(stay.zone))
    return entry
