"""Days as JSON and as CSV. Times are those of the place, with their distance from UTC."""

import csv
import io
import unicodedata
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime

from pydantic import JsonValue

from facesvc.events.plugin import About
from facesvc_attendance.bookings import Booking
from facesvc_attendance.corrections import Correction, Kind, in_force
from facesvc_attendance.days import Day, Span, Times
from facesvc_attendance.people import Card
from facesvc_attendance.rules import Rules

RulesOf = Callable[[About], Rules]

COLUMNS = (
    "date",
    "collection_id",
    "subject_id",
    "employee_no",
    "display_name",
    "first_in",
    "last_out",
    "present_seconds",
    "break_seconds",
    "breaks",
    "stays",
    "still_present",
    "not_seen_leaving",
    "booked_first_in",
    "booked_last_out",
    "booked_present_seconds",
    "corrections",
)
# What makes a spreadsheet take a cell for a formula (https://owasp.org/www-community/attacks/CSV_Injection), and the
# wide forms of these letters, which some take for the same.
_FORMULAS = frozenset("=+-@\uff1d\uff0b\uff0d\uff20")


def as_csv(days: Iterable[Day], cards: Mapping[About, Card], rules_of: RulesOf) -> str:
    """A line of ``COLUMNS``, then one for every day of somebody who has a card."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    writer.writerows(_row(day, cards[day.about], rules_of(day.about)) for day in days if day.about in cards)
    return text.getvalue()


def _row(day: Day, card: Card, rules: Rules) -> tuple[object, ...]:
    times, booked = day.times, day.booked
    valid = (one for one in in_force(day.corrections) if one.kind is not Kind.UNDO)
    said = (f"{one.correction_id} {one.kind.value}: {one.reason} ({one.by})" for one in valid)
    return (
        day.day,
        *map(safe, (*day.about, card.employee_no, card.display_name)),
        _local(times.first_in, rules) or "",
        _local(times.last_out, rules) or "",
        seconds(times),
        sum(round((end - start).total_seconds()) for start, end in times.breaks),
        " ".join(f"{_local(start, rules)}/{_local(end, rules)}" for start, end in times.breaks),
        len(times.stays),
        _yes(times.still_present),
        _yes(times.not_seen_leaving),
        _local(booked.first_in, rules) or "",
        _local(booked.last_out, rules) or "",
        seconds(booked),
        safe("; ".join(said)),
    )


def safe(text: str) -> str:
    """A text of one line that no spreadsheet takes for a formula: with an apostrophe before what would make it one."""
    text = one_line(text)
    # Some programs look past blanks, and past what has no width.
    seen = next((one for one in text if not one.isspace() and unicodedata.category(one) != "Cf"), "")
    return f"'{text}" if seen in _FORMULAS else text


def one_line(text: str) -> str:
    """A text with blanks for its control characters."""
    return "".join(" " if unicodedata.category(letter) in {"Cc", "Zl", "Zp"} else letter for letter in text)


def seconds(times: Times) -> int:
    """The time present, in whole seconds."""
    return round(times.present.total_seconds())


def as_json(day: Day, card: Card, rules: Rules) -> JsonValue:
    """A day of somebody."""
    return {
        "date": str(day.day),
        "collection_id": day.about[0],
        "subject_id": day.about[1],
        "employee_no": card.employee_no,
        "display_name": card.display_name,
        **_summary(day.times, rules),
        "breaks": [_span(one, rules) for one in day.times.breaks],
        "stays": [
            {
                "stay_id": stay.stay_id,
                "zone": stay.zone,
                **_span((stay.start, stay.end), rules),
                "ending": stay.ending.value,
            }
            for stay in day.times.stays
        ],
        "still_present": day.times.still_present,
        "not_seen_leaving": day.times.not_seen_leaving,
        "booked": _summary(day.booked, rules),
        "corrections": [correction_json(one, rules, day.corrections) for one in day.corrections],
    }


def correction_json(one: Correction, rules: Rules, known: Iterable[Correction]) -> JsonValue:
    """A correction, and whether no other of those that are known undid it."""
    return {
        "correction_id": one.correction_id,
        "collection_id": one.about[0],
        "subject_id": one.about[1],
        "day": str(one.day),
        "kind": one.kind.value,
        "start": _local(one.start, rules),
        "end": _local(one.end, rules),
        "target": one.target,
        "by": one.by,
        "reason": one.reason,
        "time": _local(one.time, rules),
        "in_force": one in in_force(known),
    }


def booking_json(one: Booking, rules: Rules) -> JsonValue:
    """A booking as it was made."""
    return {
        "event_id": one.event_id,
        "collection_id": one.about[0],
        "subject_id": one.about[1],
        "kind": "arrived" if one.leave_time is None else "left",
        "zone": one.zone,
        "camera_id": one.camera_id,
        "arrive_time": _local(one.arrive_time, rules),
        "leave_time": _local(one.leave_time, rules),
    }


def _summary(times: Times, rules: Rules) -> dict[str, JsonValue]:
    return {
        "first_in": _local(times.first_in, rules),
        "last_out": _local(times.last_out, rules),
        "present_seconds": seconds(times),
    }


def _span(span: Span, rules: Rules) -> dict[str, JsonValue]:
    return {"start": _local(span[0], rules), "end": _local(span[1], rules)}


def _local(moment: datetime | None, rules: Rules) -> str | None:
    return None if moment is None else rules.local(moment).isoformat(timespec="seconds")


def _yes(flag: bool) -> str:  # noqa: FBT001 - it is what it is about
    return "yes" if flag else "no"
