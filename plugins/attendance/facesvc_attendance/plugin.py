"""The plugin: books what happens, answers questions, and writes a file a day where it is asked to."""

import asyncio
import contextlib
import os
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from datetime import date

import structlog
from pydantic import JsonValue

from facesvc.errors import FacesvcError, InputError
from facesvc.events.plugin import Answers, Box, Checks, Delivery, Plugin, Step
from facesvc_attendance import asking
from facesvc_attendance.calendars import as_ical
from facesvc_attendance.corrections import Correction
from facesvc_attendance.exporter import Exporter
from facesvc_attendance.ledger import MAX_ROWS, Asked, Ledger
from facesvc_attendance.manifest import key_id
from facesvc_attendance.people import cards
from facesvc_attendance.settings import Settings
from facesvc_attendance.tables import as_csv, as_json, booking_json, correction_json

LOOK_AGAIN_S = 600.0
"""How often it is looked whether a day is finished."""

_FILE = re.compile(r"(attendance-[0-9]{4}-[0-9]{2}-[0-9]{2}(?:\.r[0-9]{1,3})?)(?:\.csv|\.json|\.sig)?")
_log = structlog.get_logger(__name__)

Sleep = Callable[[float], Awaitable[object]]


class AttendancePlugin(Plugin, Checks, Answers):
    """Attendance by the rules of ``settings``."""

    def __init__(self, settings: Settings, box: Box, *, sleep: Sleep = asyncio.sleep) -> None:
        self._settings = settings
        self._box = box
        self._sleep = sleep
        self._ledger = Ledger(settings, box)
        self._exporter = Exporter(settings, box, self._ledger)
        self._exporting: asyncio.Task[None] | None = None
        self._commands: Mapping[str, Callable[[Mapping[str, str]], Awaitable[JsonValue]]] = {
            "days": self._days,
            "bookings": self._bookings,
            "correct": self._correct,
            "corrections": self._corrections,
            "export": self._export,
            "verify": self._verify,
            "public-key": self._public_key,
        }

    async def start(self) -> None:
        """Begin to export, where that is on. Raises ``ConfigError`` where there is no key for it."""
        if self._settings.export_folder:
            self._exporter.keys()
            self._exporting = asyncio.create_task(self._export_days(), name="attendance-export")

    async def handle(self, delivery: Delivery) -> None:
        """Book an arrival or a departure."""
        await self._ledger.book(delivery)

    async def stop(self) -> None:
        """Export no more."""
        if self._exporting is not None:
            self._exporting.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._exporting
            self._exporting = None

    async def check(self) -> AsyncIterator[Step]:
        """What is a day here, whether notes can be read, and whether an export could be written."""
        rules, now = self._settings.rules(), self._box.now()
        today = rules.day_of(now)
        detail = f"today is {today}, from {rules.local(rules.begin(today))} to {rules.local(rules.end(today))}"
        yield Step(name="days", ok=True, detail=detail)
        try:
            await self._box.notes.list(limit=1)
        except FacesvcError as error:
            yield Step(name="bookings", ok=False, detail=error.message)
            return
        yield Step(name="bookings", ok=True, detail=f"kept for {self._settings.retention_days:g} days")
        if not self._settings.export_folder:
            yield Step(name="exports", ok=None, detail="off: export_folder is empty")
            return
        yield await self._check_exports()

    async def _check_exports(self) -> Step:
        try:
            names = ", ".join(map(key_id, self._exporter.keys()))
            path = self._exporter.folder.path
            there = path if path.exists() else path.parent
            if not (there.is_dir() and os.access(there, os.W_OK | os.X_OK)):
                return Step(name="exports", ok=False, detail=f"{there} is no folder that the server may write to")
            finding = await self._exporter.verify("") if path.exists() else None
        except FacesvcError as error:
            return Step(name="exports", ok=False, detail=error.message)
        if finding is not None and finding.problems:
            return Step(name="exports", ok=False, detail="; ".join(finding.problems[:3]))
        files = finding.files if finding is not None else 0
        return Step(name="exports", ok=True, detail=f"{files} in {path}, as they were written; keys {names}")

    async def call(self, command: str, arguments: Mapping[str, str]) -> JsonValue:
        """Carry out a command; see ``asking.COMMANDS``."""
        asking.check_names(command, arguments)
        return await self._commands[command](arguments)

    async def _days(self, arguments: Mapping[str, str]) -> JsonValue:
        form = arguments.get("format") or "json"
        if form not in {"json", "csv", "ical"}:
            raise InputError("format is json, csv or ical", field="format")
        asked = self._asked(arguments)
        found = await self._ledger.days(asked)
        known = await cards(self._box, (day.about for day in found))
        # In threads: many days take a while, and arrivals go on being booked.
        if form == "csv":
            return await asyncio.to_thread(as_csv, found, known, self._ledger.rules)
        if form == "ical":
            return await asyncio.to_thread(as_ical, found, known, self._box.now())
        shown = (as_json(day, known[day.about], self._ledger.rules(day.about)) for day in found if day.about in known)
        return {
            "from": str(asked.first),
            "to": str(asked.last),
            "kept_from": str(self._ledger.kept_from(asked.about, self._box.now())),
            "days": list(shown),
        }

    async def _bookings(self, arguments: Mapping[str, str]) -> JsonValue:
        asked = self._asked(arguments)
        found = []
        for one in await self._ledger.bookings(asked):
            rules = self._ledger.rules(one.about)
            last = rules.day_of(one.leave_time or one.arrive_time)
            if rules.day_of(one.arrive_time) <= asked.last and asked.first <= last:
                found.append(booking_json(one, rules))
        if len(found) > MAX_ROWS:
            raise InputError(f"that is more than {MAX_ROWS} bookings: ask for fewer days", field="from")
        return {"from": str(asked.first), "to": str(asked.last), "bookings": found}

    async def _correct(self, arguments: Mapping[str, str]) -> JsonValue:
        about = asking.about(arguments)
        rules = self._ledger.rules(about)
        wanted = asking.correction(arguments, rules, self._box.now())
        made, before, after = await self._ledger.correct(wanted)
        known = await cards(self._box, [about])
        return {
            "correction": correction_json(made, rules, after.corrections),
            "before": as_json(before, known[about], rules) if about in known else None,
            "after": as_json(after, known[about], rules) if about in known else None,
        }

    async def _corrections(self, arguments: Mapping[str, str]) -> JsonValue:
        asked = self._asked(arguments)
        found = await self._ledger.corrections(asked)
        found = [one for one in found if asked.first <= one.day <= asked.last]
        of_day: dict[tuple[date, tuple[str, str]], list[Correction]] = {}
        for one in found:
            of_day.setdefault((one.day, one.about), []).append(one)
        shown = [
            correction_json(one, self._ledger.rules(about), theirs)
            for (_, about), theirs in sorted(of_day.items())
            for one in sorted(theirs, key=lambda one: one.number)
        ]
        return {"from": str(asked.first), "to": str(asked.last), "corrections": list(shown)}

    async def _export(self, arguments: Mapping[str, str]) -> JsonValue:
        manifest, new = await self._exporter.export(asking.day("day", asking.needed(arguments, "day")))
        return {"file": f"{manifest.stem}.csv", "rows": manifest.rows, "sequence": manifest.sequence, "new": new}

    async def _verify(self, arguments: Mapping[str, str]) -> JsonValue:
        name = arguments.get("file", "")
        match = _FILE.fullmatch(name)
        if name and not match:
            raise InputError(f"{name!r} is no name of an export such as attendance-2026-03-02.csv", field="file")
        finding = await self._exporter.verify(match[1] if match else "")
        return {
            "ok": not finding.problems,
            "files": finding.files,
            "problems": list(finding.problems),
            "remarks": list(finding.remarks),
        }

    async def _public_key(self, _: Mapping[str, str]) -> JsonValue:
        return {**self._exporter.public_key()}

    def _asked(self, arguments: Mapping[str, str]) -> Asked:
        about = asking.about(arguments)
        today = self._ledger.rules(about).day_of(self._box.now())
        first, last = asking.span(arguments, today)
        return Asked(first=first, last=last, about=about)

    async def _export_days(self) -> None:
        while True:
            try:
                for name in await self._exporter.due():
                    _log.info("attendance exported", file=name)
            except FacesvcError as error:
                _log.warning("attendance not exported", reason=error.reason, error=error.message)
            except Exception:  # noqa: BLE001 - a bug of ours is shown, and does not end the exports
                _log.exception("attendance not exported")
            await self._sleep(LOOK_AGAIN_S)
