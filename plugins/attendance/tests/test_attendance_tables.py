"""Days as JSON, as CSV and as a calendar."""

import csv
import io
from datetime import UTC, datetime
from typing import Any

import pytest
from attendance_making import ANA, BEN, MARCH, Make, ask, at, book, clock, listed, visit
from facesvc_attendance.calendars import as_ical
from facesvc_attendance.tables import COLUMNS, safe
from hypothesis import given
from hypothesis import strategies as st
from icalendar import Calendar

from facesvc.delivery.kit import MemoryBox, arrived, left


async def test_days_as_json(make: Make, box: MemoryBox) -> None:
    plugin = make()
    await visit(plugin, "2026-03-02T08:00", "2026-03-02T12:00")
    await visit(plugin, "2026-03-02T13:00", "2026-03-02T17:00", zone="desk")
    await book(plugin, arrived(BEN, at("2026-03-02T09:00")))
    clock(box, "2026-03-02T18:00")
    ana, ben = await listed(plugin)
    assert {name: value for name, value in ana.items() if name != "stays"} == {
        "date": "2026-03-02",
        "collection_id": "default",
        "subject_id": "ana",
        "employee_no": "0042",
        "display_name": "Ana Ruiz",
        "first_in": "2026-03-02T08:00:00+01:00",
        "last_out": "2026-03-02T17:00:00+01:00",
        "present_seconds": 8 * 3600,
        "breaks": [{"start": "2026-03-02T12:00:00+01:00", "end": "2026-03-02T13:00:00+01:00"}],
        "still_present": False,
        "not_seen_leaving": False,
        "booked": {
            "first_in": "2026-03-02T08:00:00+01:00",
            "last_out": "2026-03-02T17:00:00+01:00",
            "present_seconds": 8 * 3600,
        },
        "corrections": [],
    }
    assert [(one["zone"], one["ending"]) for one in ana["stays"]] == [
        ("lobby", "seen leaving"),
        ("desk", "seen leaving"),
    ]
    assert (ben["last_out"], ben["still_present"], ben["present_seconds"]) == (None, True, 9 * 3600)
    assert [one["subject_id"] for one in await listed(plugin, subject="ben")] == ["ben"]
    assert await listed(plugin, collection="madrid") == []
    assert await listed(plugin, **{"from": "2026-03-03"}) == []


async def test_csv_has_no_formulas(make: Make, box: MemoryBox) -> None:
    plugin = make()
    await visit(plugin, "2026-03-02T08:00", "2026-03-02T17:00", BEN)
    clock(box, "2026-03-03T12:00")
    await ask(
        plugin,
        "correct",
        {
            "subject": "ben",
            "day": "2026-03-02",
            "kind": "first-in",
            "start": "2026-03-02T07:30",
            "by": "@hr",
            "reason": "=1+1",
        },
    )
    text = await ask(plugin, "days", {**MARCH, "format": "csv"})
    (row,) = csv.DictReader(io.StringIO(text))
    assert tuple(row) == COLUMNS
    assert row["display_name"] == "'=cmd|' /C calc'!A0"
    assert (row["date"], row["first_in"]) == ("2026-03-02", "2026-03-02T07:30:00+01:00")
    assert (row["present_seconds"], row["booked_present_seconds"]) == (str(int(9.5 * 3600)), str(9 * 3600))
    assert row["corrections"] == "2026-03-02.1 first-in: =1+1 (@hr)"


@pytest.mark.parametrize(
    ("text", "cell"),
    [("=1", "'=1"), (" =1", "' =1"), ("\t@x", "' @x"), ("a=1", "a=1"), ("a\u2028b\nc", "a b c"), ("", "")],
)
def test_cells(text: str, cell: str) -> None:
    assert safe(text) == cell


@given(st.text(max_size=20))
def test_no_text_becomes_a_formula_or_a_second_line(text: str) -> None:
    cell = safe(text)
    assert not cell.lstrip().startswith(("=", "+", "-", "@", "\uff1d", "\uff0b", "\uff0d", "\uff20"))
    assert len(cell.splitlines()) <= 1
    assert len(cell) - len(text) in {0, 1}


async def test_a_calendar_with_an_entry_for_each_stay_that_keeps_its_uid(make: Make, box: MemoryBox) -> None:
    plugin = make()
    since = at("2026-03-02T22:00")
    await book(plugin, arrived(ANA, since, zone="desk, 2nd; floor"))
    clock(box, "2026-03-03T01:00")

    async def entries() -> list[Any]:
        text = await ask(plugin, "days", {**MARCH, "format": "ical"})
        assert all(len(line.encode()) <= 75 for line in text.split("\r\n"))
        return list(Calendar.from_ical(text).walk("VEVENT"))

    (open_entry,) = await entries()
    assert open_entry.decoded("dtend") == at("2026-03-03T01:00")
    assert open_entry["description"] == "still present"
    await book(plugin, left(ANA, at("2026-03-03T06:00"), since=since, zone="desk, 2nd; floor"))
    clock(box, "2026-03-03T12:00")
    (entry,) = await entries()
    assert (entry["uid"], entry["summary"], entry["location"]) == (open_entry["uid"], "Ana Ruiz", "desk, 2nd; floor")
    assert (entry.decoded("dtstart"), entry.decoded("dtend")) == (since, at("2026-03-03T06:00"))
    assert entry.decoded("dtstamp") == box.now()


def test_an_empty_calendar_is_one() -> None:
    assert Calendar.from_ical(as_ical([], {}, datetime(2026, 3, 2, tzinfo=UTC))).walk("VEVENT") == []


async def test_bookings_are_listed_as_they_were_made(make: Make, box: MemoryBox) -> None:
    plugin = make()
    await visit(plugin, "2026-03-02T22:00", "2026-03-03T06:00")
    clock(box, "2026-03-04T12:00")
    answer = await ask(plugin, "bookings", {"from": "2026-03-03", "subject": "ana"})
    assert [(one["kind"], one["arrive_time"]) for one in answer["bookings"]] == [("left", "2026-03-02T22:00:00+01:00")]
