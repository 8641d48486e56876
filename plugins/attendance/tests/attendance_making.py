"""Bookings, corrections and rules to make days of."""

from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, date, datetime, timedelta
from itertools import count
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from facesvc_attendance import AttendancePlugin
from facesvc_attendance.bookings import Booking
from facesvc_attendance.corrections import Correction, Kind
from facesvc_attendance.days import Day, days_of
from facesvc_attendance.rules import Rules

from facesvc.delivery.kit import MemoryBox, arrived, delivery, left, person
from facesvc.events.records import Event

Make = Callable[..., AttendancePlugin]

BERLIN = ZoneInfo("Europe/Berlin")
ANA = person("ana", display_name="Ana Ruiz", external_ids={"employee_no": "0042"})
BEN = person("ben", display_name="=cmd|' /C calc'!A0")
ABOUT = ("default", "ana")
LATER = datetime(2030, 1, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)
MARCH = {"from": "2026-03-01", "to": "2026-03-31"}
FIRST = "attendance-2026-03-02"
"""The first export."""

_numbers = count(1)


def at(text: str, zone: str = "Europe/Berlin") -> datetime:
    """A time by the clock of a place, in UTC."""
    return datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone)).astimezone(UTC)


def rules(**changes: Any) -> Rules:
    """Those of Berlin, without a shortest break."""
    return Rules(**{"zone": BERLIN, "minimum_break": timedelta(), **changes})


def arrival(time: datetime, zone: str = "lobby", *, number: int = 0) -> Booking:
    """Somebody came."""
    number = number or next(_numbers)
    return Booking(
        event_id=f"e{number}",
        number=number,
        about=ABOUT,
        zone=zone,
        camera_id="door-1",
        arrive_time=time,
        leave_time=None,
    )


def departure(since: datetime, time: datetime, zone: str = "lobby", *, number: int = 0) -> Booking:
    """Somebody went."""
    number = number or next(_numbers)
    return Booking(
        event_id=f"e{number}",
        number=number,
        about=ABOUT,
        zone=zone,
        camera_id="door-1",
        arrive_time=since,
        leave_time=time,
    )


def stay(start: datetime, end: datetime, zone: str = "lobby") -> list[Booking]:
    """Somebody came and went."""
    return [arrival(start, zone), departure(start, end, zone)]


def correction(number: int, kind: Kind, day: str = "2026-03-02", **changes: Any) -> Correction:
    """A correction of Ana's day."""
    given = {"by": "hr", "reason": "forgot", "time": LATER, **changes}
    return Correction(number=number, about=ABOUT, day=date.fromisoformat(day), kind=kind, **given)


def days(*bookings: list[Booking], corrections: Any = (), now: datetime = LATER, **changes: Any) -> list[Day]:
    """Ana's days."""
    return days_of(ABOUT, [one for several in bookings for one in several], corrections, rules(**changes), now)


def hours(found: list[Day]) -> dict[str, float]:
    """Of the time present, by day."""
    return {str(day.day): day.times.present / HOUR for day in found}


async def book(plugin: AttendancePlugin, *events: Event) -> None:
    """Deliver events."""
    for event in events:
        await plugin.handle(delivery(event, number=next(_numbers)))


async def ask(plugin: AttendancePlugin, command: str, arguments: Mapping[str, str]) -> Any:
    """What a command answers, as JSON."""
    return await plugin.call(command, arguments)


async def visit(plugin: AttendancePlugin, start: str, end: str, who: Any = ANA, zone: str = "lobby") -> None:
    """Somebody comes and goes, by the clock of Berlin."""
    since, until = at(start), at(end)
    await book(plugin, arrived(who, since, zone=zone), left(who, until, since=since, zone=zone))


def clock(box: MemoryBox, text: str) -> None:
    """Set the time by the clock of Berlin."""
    box.clock.time = at(text)


def each(start: datetime, number: int) -> Iterator[datetime]:
    """So many days, one after another."""
    return (start + timedelta(days=offset) for offset in range(number))


async def turn(plugin: AttendancePlugin) -> list[str]:
    """What the loop does now and then."""
    return await plugin._exporter.due()


async def verify(plugin: AttendancePlugin, file: str = "") -> dict[str, Any]:
    answer: dict[str, Any] = await ask(plugin, "verify", {"file": file})
    return answer


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def modes(folder: Path) -> set[int]:
    return {path.stat().st_mode & 0o777 for path in folder.iterdir()}


def new_key(path: Path) -> str:
    """A key as `openssl genpkey` writes it; where it is, as a setting."""
    pem = Ed25519PrivateKey.generate().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    path.touch(0o600)
    path.write_bytes(pem)
    return f"file:{path}"


async def listed(plugin: AttendancePlugin, **arguments: str) -> list[Any]:
    """The days of March, or others."""
    listed: list[Any] = (await ask(plugin, "days", {**MARCH, **arguments}))["days"]
    return listed
