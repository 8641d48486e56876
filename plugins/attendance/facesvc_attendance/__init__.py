"""Attendance: first in, last out and breaks, for each day and person, with corrections and signed daily exports.

Arrivals and departures are booked as notes about the person, so that they are erased with them; days are worked out
when somebody asks. A correction is a note beside them, with who, when and why.

Reading order, which is the import order: ``rules`` (what a day is), ``settings``, ``keeping`` (notes by their time),
``bookings``, ``corrections``, ``stays`` (made of bookings), ``days`` (made of stays and corrections; the heart, pure),
``ledger`` (all of these, in the box's notes), ``people``, ``tables`` and ``calendars`` (days as JSON, CSV, iCalendar),
``manifest`` (what is signed), ``folder``, ``verifying``, ``exporter`` (a file a day), ``asking`` (arguments of
commands), ``plugin``.
"""

from facesvc.events.plugin import Manifest, Role
from facesvc.events.records import ArrivedEvent, LeftEvent
from facesvc_attendance.asking import COMMANDS
from facesvc_attendance.plugin import AttendancePlugin
from facesvc_attendance.settings import Settings

PLUGIN = Manifest(
    name="attendance",
    summary="First in, last out and breaks for each day and person; corrections, CSV, iCalendar, signed daily exports.",
    role=Role.ACTS,
    settings=Settings,
    make=AttendancePlugin,
    kinds=frozenset({ArrivedEvent, LeftEvent}),
    commands=COMMANDS,
)

__all__ = ["PLUGIN", "AttendancePlugin", "Settings"]
