"""Arguments of commands: texts from outside, of which nothing is believed."""

import re
import unicodedata
from collections.abc import Mapping
from datetime import UTC, date, datetime, timedelta
from types import MappingProxyType

from facesvc.errors import InputError
from facesvc_attendance.corrections import Correction, Kind
from facesvc_attendance.rules import Rules

DEFAULT_COLLECTION = "default"
MAX_TEXT = 500
_DAY = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_TIME = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}(:[0-9]{2})?(Z|[+-][0-9]{2}:[0-9]{2})?")
_YEARS = range(1990, 2200)

COMMANDS: Mapping[str, str] = MappingProxyType(
    {
        "days": "first in, last out, breaks by day and person: from, to, subject, collection, format=json|csv|ical",
        "bookings": "arrivals and departures as they were booked: from, to, subject, collection",
        "correct": "correct a day: subject, collection, day, kind=first-in|last-out|add|strike|undo, start, end,"
        " target, by, reason",
        "corrections": "who corrected what, when and why: from, to, subject, collection",
        "export": "write the signed file of a finished day, anew if something changed: day",
        "verify": "whether exported files are as they were written: file (empty: all of the folder)",
        "public-key": "the key with which others verify exports",
    }
)
_SPAN = ("from", "to", "subject", "collection")
_NAMES: Mapping[str, frozenset[str]] = {
    "days": frozenset({*_SPAN, "format"}),
    "bookings": frozenset(_SPAN),
    "correct": frozenset(
        {"subject", "collection", "day", "kind", "start", "end", "target", "by", "reason"},
    ),
    "corrections": frozenset(_SPAN),
    "export": frozenset({"day"}),
    "verify": frozenset({"file"}),
    "public-key": frozenset(),
}
_NEEDS: Mapping[Kind, frozenset[str]] = {
    Kind.FIRST_IN: frozenset({"start"}),
    Kind.LAST_OUT: frozenset({"end"}),
    Kind.ADD: frozenset({"start", "end"}),
    Kind.STRIKE: frozenset({"target"}),
    Kind.UNDO: frozenset({"target"}),
}


def check_names(command: str, arguments: Mapping[str, str]) -> None:
    """Raises ``InputError`` for a command that there is not, or arguments that it does not take."""
    if command not in _NAMES:
        raise InputError(f"there is no command {command[:50]!r}: {', '.join(_NAMES)}", field="command")
    for name, value in arguments.items():
        if name not in _NAMES[command]:
            known = ", ".join(sorted(_NAMES[command])) or "no arguments"
            raise InputError(f"{command} does not take {name[:50]!r}; it takes {known}", field=name[:50])
        _text(name, value)


def _text(name: str, value: str) -> None:
    if len(value) > MAX_TEXT:
        raise InputError(f"{name} has more than {MAX_TEXT} characters", field=name)
    if any(unicodedata.category(letter) in {"Cc", "Cs", "Zl", "Zp"} for letter in value):
        raise InputError(f"{name} has control characters or more than one line", field=name)


def needed(arguments: Mapping[str, str], name: str) -> str:
    """An argument that has to be there."""
    value = arguments.get(name, "").strip()
    if not value:
        raise InputError(f"{name} is needed", field=name)
    return value


def day(name: str, text: str) -> date:
    """A day such as ``2026-03-02``."""
    try:
        found = date.fromisoformat(text) if _DAY.fullmatch(text) else None
    except ValueError:
        found = None
    if found is None or found.year not in _YEARS:
        raise InputError(f"{name}: {text!r} is no day: write one such as 2026-03-02", field=name)
    return found


def moment(name: str, text: str, rules: Rules) -> datetime:
    """A time in UTC, of the place's clock where it does not say its distance from UTC."""
    try:
        found = datetime.fromisoformat(text) if _TIME.fullmatch(text) else None
    except ValueError:
        found = None
    if found is None or found.year not in _YEARS:
        message = f"{name}: {text!r} is no time: write one such as 2026-03-02T08:30 or 2026-03-02T08:30+01:00"
        raise InputError(message, field=name)
    if found.tzinfo is not None:
        return found.astimezone(UTC)
    first, second = (found.replace(tzinfo=rules.zone, fold=fold).astimezone(UTC) for fold in (0, 1))
    if first != second:
        # PEP 495: of a time that the clocks skip, the second is the earlier one.
        what = "comes twice" if first < second else "is skipped"
        message = f"{name}: {text} {what} because the clocks change: add the distance from UTC, such as +01:00"
        raise InputError(message, field=name)
    return first


def span(arguments: Mapping[str, str], today: date) -> tuple[date, date]:
    """``from`` and ``to``, both included; this month until today where they are empty."""
    last = day("to", arguments["to"]) if arguments.get("to") else today
    first = day("from", arguments["from"]) if arguments.get("from") else last.replace(day=1)
    if first > last:
        raise InputError(f"from ({first}) is after to ({last})", field="from")
    if last - first > timedelta(days=3700):
        raise InputError("between from and to are more than ten years", field="from")
    return first, last


def about(arguments: Mapping[str, str]) -> tuple[str, str]:
    """Collection and subject; without a subject the collection may be empty: all."""
    subject = arguments.get("subject", "")
    return arguments.get("collection", "") or (DEFAULT_COLLECTION if subject else ""), subject


def correction(arguments: Mapping[str, str], rules: Rules, now: datetime) -> Correction:
    """What ``correct`` asks for, without its number."""
    kinds = {kind.value: kind for kind in Kind}
    kind = kinds.get(needed(arguments, "kind"))
    if kind is None:
        raise InputError(f"kind is one of {', '.join(kinds)}", field="kind")
    needed(arguments, "subject")
    given = {name for name in ("start", "end", "target") if arguments.get(name)}
    if given != _NEEDS[kind]:
        raise InputError(
            f"{kind.value} needs {' and '.join(sorted(_NEEDS[kind]))}, and no other of these", field="kind"
        )
    return Correction(
        number=0,
        about=about(arguments),
        day=day("day", needed(arguments, "day")),
        kind=kind,
        start=moment("start", arguments["start"], rules) if "start" in given else None,
        end=moment("end", arguments["end"], rules) if "end" in given else None,
        target=arguments.get("target", ""),
        by=needed(arguments, "by"),
        reason=needed(arguments, "reason"),
        time=now,
    )
