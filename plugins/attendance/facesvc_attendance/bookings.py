"""Bookings: every arrival and departure as it was told, never changed, each a note about the person.

A departure is kept under the time of its arrival, as the arrival itself: so the notes of some days hold all that is
needed of the stays that began on them. The event's id makes one note of what is delivered twice.
"""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import datetime

from pydantic import JsonValue

from facesvc.events.plugin import About, Delivery, Note, Notes
from facesvc.events.records import ArrivedEvent, LeftEvent
from facesvc_attendance.keeping import between, damaged, fields, integer, moment

PREFIX = "booking/"


@dataclass(frozen=True, slots=True, kw_only=True)
class Booking:
    """An arrival, or a departure where there is a ``leave_time``. ``number`` is that of the delivery."""

    event_id: str
    number: int
    about: About
    zone: str
    camera_id: str
    arrive_time: datetime
    leave_time: datetime | None

    @property
    def key(self) -> str:
        """Of the note."""
        return f"{PREFIX}{_stamp(self.arrive_time)}/{self.event_id}"

    def value(self) -> JsonValue:
        """Of the note."""
        return {
            "event_id": self.event_id,
            "number": self.number,
            "zone": self.zone,
            "camera_id": self.camera_id,
            "arrive_time": self.arrive_time.isoformat(),
            "leave_time": None if self.leave_time is None else self.leave_time.isoformat(),
        }


def booking_of(delivery: Delivery) -> Booking | None:
    """What there is to book of an event; None for other kinds of events."""
    event = delivery.event
    if not isinstance(event, ArrivedEvent | LeftEvent):
        return None
    return Booking(
        event_id=event.event_id,
        number=delivery.number,
        about=(event.collection_id, event.subject_id),
        zone=event.zone,
        camera_id=event.camera_id,
        arrive_time=event.arrive_time,
        leave_time=event.leave_time if isinstance(event, LeftEvent) else None,
    )


async def read(notes: Notes, start: datetime, end: datetime, about: About | None = None) -> AsyncIterator[Booking]:
    """Bookings of stays that began from ``start`` to before ``end``, of everybody where ``about`` is None."""
    async for note in between(notes, PREFIX, _stamp(start), _stamp(end), about):
        yield _booking(note)


def _booking(note: Note) -> Booking:
    value = fields(note)
    try:
        left = value["leave_time"]
        return Booking(
            event_id=str(value["event_id"]),
            number=integer(value["number"]),
            about=note.about,
            zone=str(value["zone"]),
            camera_id=str(value["camera_id"]),
            arrive_time=moment(value["arrive_time"]),
            leave_time=None if left is None else moment(left),
        )
    except (KeyError, ValueError) as error:
        raise damaged(note) from error


def _stamp(time: datetime) -> str:
    """A time in UTC; all have the same length, so that their order is that of their letters."""
    return time.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
