"""Attendance for the contract kit: its world is its own notes, in which nothing can fail but the database."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from facesvc_attendance import PLUGIN
from facesvc_attendance.bookings import PREFIX

from facesvc.delivery import kit
from facesvc.events.plugin import Box, Manifest, Person
from facesvc.events.records import Event


class Harness:
    """``kit.Harness``: what takes effect is what is booked."""

    manifest: Manifest[Any] = PLUGIN
    settings: Mapping[str, Any]

    async def begin(self) -> None:
        """No exports, so that nothing but notes is written."""
        self.settings = {"time_zone": "Europe/Berlin"}

    async def end(self) -> None:
        """Nothing is left."""

    def event(self, one: Person, now: datetime) -> Event:
        """Somebody arrived."""
        return kit.arrived(one, now)

    async def break_down(self) -> None:
        """Nothing outside can fail."""

    async def mend(self) -> None:
        """Nothing did."""

    async def effects(self, box: Box) -> list[str]:
        """What is booked, in the order in which it was told."""
        found: list[tuple[Any, Any]] = []
        after = ""
        while page := await box.notes.list(PREFIX, after=after):
            found += [(note.value["number"], note.value["event_id"]) for note in page if isinstance(note.value, dict)]
            after = page[-1].key
        return [event_id for _, event_id in sorted(found)]
