"""Corrections: what each does to a day, what is refused, and that bookings stay as they are."""

from datetime import timedelta
from typing import Any

import pytest
from attendance_making import (
    ANA,
    HOUR,
    MARCH,
    Make,
    arrival,
    ask,
    at,
    book,
    clock,
    correction,
    days,
    hours,
    stay,
    visit,
)
from facesvc_attendance.corrections import MAX_CORRECTIONS, Kind, in_force
from facesvc_attendance.plugin import AttendancePlugin
from facesvc_attendance.stays import Ending

from facesvc.delivery.kit import MemoryBox, arrived
from facesvc.errors import InputError, NotFoundError

MORNING = stay(at("2026-03-02T08:00"), at("2026-03-02T12:00"))
AFTERNOON = stay(at("2026-03-02T13:00"), at("2026-03-02T17:00"))


def first_in(number: int, text: str) -> Any:
    return correction(number, Kind.FIRST_IN, start=at(text))


def last_out(number: int, text: str) -> Any:
    return correction(number, Kind.LAST_OUT, end=at(text))


def undo(number: int, target: int) -> Any:
    return correction(number, Kind.UNDO, target=f"2026-03-02.{target}")


@pytest.mark.parametrize(
    ("text", "present"), [("07:00", 9), ("08:00", 8), ("09:00", 7), ("12:00", 5), ("12:30", 4.5), ("14:00", 3)]
)
def test_a_first_in_moves_the_start_of_the_day(text: str, present: float) -> None:
    (day,) = days(MORNING, AFTERNOON, corrections=[first_in(1, f"2026-03-02T{text}")])
    assert (day.times.first_in, day.times.last_out) == (at(f"2026-03-02T{text}"), at("2026-03-02T17:00"))
    assert day.times.present / HOUR == present
    assert (day.booked.first_in, day.booked.present) == (at("2026-03-02T08:00"), 8 * HOUR)


@pytest.mark.parametrize(
    ("text", "present"), [("19:00", 10), ("16:00", 7), ("13:00", 5), ("12:30", 4.5), ("12:00", 4), ("09:00", 1)]
)
def test_a_last_out_moves_the_end_of_the_day(text: str, present: float) -> None:
    (day,) = days(MORNING, AFTERNOON, corrections=[last_out(1, f"2026-03-02T{text}")])
    assert (day.times.first_in, day.times.last_out) == (at("2026-03-02T08:00"), at(f"2026-03-02T{text}"))
    assert day.times.present / HOUR == present


def test_a_last_out_ends_what_was_not_seen_to_end() -> None:
    (day,) = days([arrival(at("2026-03-02T08:00"))], corrections=[last_out(1, "2026-03-02T16:00")])
    assert (day.times.last_out, day.times.not_seen_leaving) == (at("2026-03-02T16:00"), False)
    assert day.times.stays[0].ending is Ending.CORRECTED
    assert day.booked.not_seen_leaving
    now = at("2026-03-02T15:00")
    coming = [arrival(at("2026-03-02T08:00")), arrival(at("2026-03-02T09:00"), "lab")]
    (day,) = days(coming, corrections=[last_out(1, "2026-03-02T15:00")], now=now)
    assert (day.times.last_out, day.times.still_present) == (now, False)


def test_of_two_the_later_one_holds_as_if_the_first_were_not_there() -> None:
    (day,) = days(MORNING, AFTERNOON, corrections=[first_in(2, "2026-03-02T07:00"), first_in(1, "2026-03-02T15:00")])
    assert day.times.present == 9 * HOUR
    assert [one.number for one in day.corrections] == [1, 2]


def test_an_added_stay_counts_where_nothing_was_booked_too() -> None:
    added = correction(1, Kind.ADD, start=at("2026-03-02T12:00"), end=at("2026-03-02T14:00"))
    (day,) = days(MORNING, AFTERNOON, corrections=[added])
    assert (day.times.present, day.times.breaks, len(day.times.stays)) == (9 * HOUR, (), 3)
    (alone,) = days([], corrections=[added])
    assert (alone.times.present, alone.booked.first_in) == (2 * HOUR, None)
    assert alone.times.stays[0].stay_id == "2026-03-02.1"


def test_a_struck_stay_does_not_count_and_the_day_is_shown_beside_it() -> None:
    strike = correction(1, Kind.STRIKE, target=MORNING[0].event_id)
    (day,) = days(MORNING, AFTERNOON, corrections=[strike])
    assert (day.times.first_in, day.times.present, day.booked.present) == (at("2026-03-02T13:00"), 4 * HOUR, 8 * HOUR)
    (empty,) = days(MORNING, corrections=[strike])
    assert (empty.times.first_in, empty.times.present, empty.booked.present) == (None, timedelta(), 4 * HOUR)


def test_an_undone_correction_does_nothing_until_the_undoing_is_undone() -> None:
    set_in = first_in(1, "2026-03-02T07:00")
    assert in_force([set_in, undo(2, 1)]) == [undo(2, 1)]
    assert in_force([undo(3, 2), set_in, undo(2, 1)]) == [set_in, undo(3, 2)]
    assert in_force([undo(4, 3), undo(3, 2), set_in, undo(2, 1)]) == [undo(2, 1), undo(4, 3)]
    (day,) = days(MORNING, corrections=[set_in, undo(2, 1)])
    assert (day.times, len(day.corrections)) == (day.booked, 2)


def test_time_that_a_correction_gives_to_one_day_is_not_counted_on_the_next_too() -> None:
    tomorrow = stay(at("2026-03-03T08:00"), at("2026-03-03T12:00"))
    within = stay(at("2026-03-03T08:15"), at("2026-03-03T08:30"), "lab")
    found = days(AFTERNOON, tomorrow, within, corrections=[last_out(1, "2026-03-03T09:00")])
    assert hours(found) == {"2026-03-02": 20, "2026-03-03": 3}
    assert len(found[1].times.stays) == 1


async def correct(plugin: AttendancePlugin, **arguments: str) -> Any:
    given = {"subject": "ana", "day": "2026-03-02", "by": "hr", "reason": "badge forgotten", **arguments}
    return await ask(plugin, "correct", {name: value for name, value in given.items() if value})


async def test_a_correction_is_kept_with_who_when_and_why_and_audited_without_a_name(
    make: Make, box: MemoryBox
) -> None:
    plugin = make()
    await visit(plugin, "2026-03-02T08:00", "2026-03-02T12:00")
    clock(box, "2026-03-03T10:00")
    answer = await correct(plugin, kind="last-out", end="2026-03-02T17:00", reason="was with Ben")
    assert answer["before"]["last_out"] == "2026-03-02T12:00:00+01:00"
    assert answer["after"]["last_out"] == "2026-03-02T17:00:00+01:00"
    assert answer["after"]["booked"]["present_seconds"] == 4 * 3600
    listed = (await ask(plugin, "corrections", {"from": "2026-03-01"}))["corrections"]
    assert listed == [answer["correction"]]
    assert (listed[0]["by"], listed[0]["reason"], listed[0]["time"]) == (
        "hr",
        "was with Ben",
        "2026-03-03T10:00:00+01:00",
    )
    assert box.audited == [("CorrectAttendance", "correction 2026-03-02.1: last-out of 2026-03-02", ("default", "ana"))]
    bookings = (await ask(plugin, "bookings", {"from": "2026-03-01"}))["bookings"]
    assert {one["leave_time"] for one in bookings} == {"2026-03-02T12:00:00+01:00", None}


async def test_undo_is_a_correction_too(make: Make, box: MemoryBox) -> None:
    plugin = make()
    await visit(plugin, "2026-03-02T08:00", "2026-03-02T12:00")
    clock(box, "2026-03-03T10:00")
    await correct(plugin, kind="add", start="2026-03-02T13:00", end="2026-03-02T15:00")
    answer = await correct(plugin, kind="undo", target="2026-03-02.1")
    assert answer["after"]["present_seconds"] == 4 * 3600
    shown = answer["after"]["corrections"]
    assert [(one["correction_id"], one["in_force"]) for one in shown] == [
        ("2026-03-02.1", False),
        ("2026-03-02.2", True),
    ]
    with pytest.raises(NotFoundError, match=r"no correction '2026-03-02\.1' in force"):
        await correct(plugin, kind="undo", target="2026-03-02.1")
    with pytest.raises(NotFoundError, match=r"2026-03-03 has no correction '2026-03-02\.2'"):
        await correct(plugin, kind="undo", day="2026-03-03", target="2026-03-02.2")
    assert (await ask(plugin, "days", {**MARCH, "format": "csv"})).endswith(",\n")  # none is in force
    again = await correct(plugin, kind="undo", target="2026-03-02.2")
    assert (await ask(plugin, "days", {**MARCH, "format": "csv"})).endswith(",2026-03-02.1 add: badge forgotten (hr)\n")
    assert again["after"]["present_seconds"] == 6 * 3600


async def test_a_stay_is_struck_by_its_id_once(make: Make, box: MemoryBox) -> None:
    plugin = make()
    await visit(plugin, "2026-03-02T08:00", "2026-03-02T12:00")
    clock(box, "2026-03-03T10:00")
    (day,) = (await ask(plugin, "days", {"from": "2026-03-01"}))["days"]
    stay_id = day["stays"][0]["stay_id"]
    answer = await correct(plugin, kind="strike", target=stay_id)
    assert (answer["after"]["first_in"], answer["after"]["present_seconds"]) == (None, 0)
    with pytest.raises(NotFoundError, match="there is no stay"):
        await correct(plugin, kind="strike", target=stay_id)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"kind": "last-in", "start": "2026-03-02T08:00"}, "kind is one of first-in, last-out"),
        ({"kind": "first-in"}, "first-in needs start"),
        ({"kind": "first-in", "start": "2026-03-02T08:00", "end": "2026-03-02T09:00"}, "and no other"),
        ({"kind": "first-in", "start": "8:00"}, "'8:00' is no time"),
        ({"kind": "first-in", "start": "2026-03-02T08:00", "reason": ""}, "reason is needed"),
        ({"kind": "first-in", "start": "2026-03-02T08:00", "reason": "  "}, "reason is needed"),
        ({"kind": "first-in", "start": "2026-03-02T08:00", "by": ""}, "by is needed"),
        ({"kind": "first-in", "start": "2026-03-02T08:00", "subject": ""}, "subject is needed"),
        ({"kind": "first-in", "start": "2026-03-02T08:00", "reason": "a\nb"}, "reason has control characters"),
        ({"kind": "first-in", "start": "2026-03-02T08:00", "reason": "x" * 501}, "more than 500"),
        ({"kind": "first-in", "start": "2026-03-02T08:00", "subject": "zoe"}, "there is no person 'zoe'"),
        ({"kind": "first-in", "start": "2026-03-02T08:00", "day": "2026-02-30"}, "'2026-02-30' is no day"),
        ({"kind": "first-in", "start": "2026-03-01T08:00", "day": "2026-03-01"}, "nothing is booked on 2026-03-01"),
        ({"kind": "first-in", "start": "2026-03-02T18:00"}, "would be 2026-03-02T08:00\\+01:00 instead"),
        ({"kind": "last-out", "end": "2026-03-02T07:00"}, "would be 2026-03-02T17:00\\+01:00 instead"),
        ({"kind": "last-out", "end": "2026-03-04T07:00"}, "end has not been yet"),
        ({"kind": "add", "start": "2026-02-27T07:00", "end": "2026-03-02T08:00"}, "more than a day away"),
        ({"kind": "add", "start": "2026-03-02T09:00", "end": "2026-03-02T09:00"}, "end is not after start"),
        (
            {"kind": "add", "start": "2026-03-03T08:00", "end": "2026-03-03T09:00"},
            "not all of this stay would lie on 2026-03-02",
        ),
        ({"kind": "first-in", "start": "2026-03-09T08:00", "day": "2026-03-09"}, "has not been yet"),
        ({"kind": "first-in", "start": "2025-03-02T08:00", "day": "2025-03-02"}, "is not kept any more"),
        ({"kind": "strike", "target": "e0"}, "no stay 'e0'"),
        ({"kind": "undo", "target": "2026-03-02.1"}, "no correction"),
        ({"kind": "undo", "target": "2026-03-02.1", "colour": "red"}, "does not take 'colour'"),
    ],
)
async def test_what_makes_no_sense_is_refused_and_nothing_is_kept(
    make: Make, box: MemoryBox, arguments: dict[str, str], message: str
) -> None:
    plugin = make()
    await visit(plugin, "2026-03-02T08:00", "2026-03-02T17:00")
    clock(box, "2026-03-03T10:00")
    with pytest.raises(InputError, match=message):
        await correct(plugin, **arguments)
    assert not await box.notes.list("correction/")
    assert not box.audited


@pytest.mark.parametrize(
    ("text", "message"),
    [("2026-03-29T02:30", "is skipped because the clocks change"), ("2026-10-25T02:30", "comes twice")],
)
async def test_a_time_that_the_clocks_skip_or_repeat_has_to_say_its_distance_from_utc(
    make: Make, box: MemoryBox, text: str, message: str
) -> None:
    plugin = make(retention_days=3660)
    day = text[:10]
    await visit(plugin, f"{day}T01:00", f"{day}T12:00")
    clock(box, "2026-11-03T10:00")
    with pytest.raises(InputError, match=message):
        await correct(plugin, kind="first-in", day=day, start=text)
    answer = await correct(plugin, kind="first-in", day=day, start=f"{text}+02:00")
    assert answer["correction"]["start"] in {"2026-03-29T01:30:00+01:00", "2026-10-25T02:30:00+02:00"}


async def test_what_would_make_an_earlier_correction_moot_is_refused(make: Make, box: MemoryBox) -> None:
    plugin = make()
    await visit(plugin, "2026-03-02T08:00", "2026-03-02T19:00")
    clock(box, "2026-03-03T10:00")
    await correct(plugin, kind="last-out", end="2026-03-02T17:00")
    with pytest.raises(InputError, match="last out of 2026-03-02 would be 2026-03-02T19:00"):
        await correct(plugin, kind="first-in", start="2026-03-02T18:00")
    for start in ("16:00", "18:00"):
        with pytest.raises(InputError, match="its first in or last out is set"):
            await correct(plugin, kind="add", start=f"2026-03-02T{start}", end="2026-03-02T20:00")
    await correct(plugin, kind="undo", target="2026-03-02.1")
    await correct(plugin, kind="first-in", start="2026-03-02T18:00")
    await correct(plugin, kind="last-out", end="2026-03-02T20:00")
    answer = await correct(plugin, kind="add", start="2026-03-02T18:30", end="2026-03-02T19:30")
    assert answer["after"]["present_seconds"] == 2 * 3600


async def test_a_stay_over_the_start_of_a_day_may_be_added_where_days_are_split(make: Make, box: MemoryBox) -> None:
    plugin = make(night_shifts="split")
    clock(box, "2026-03-03T10:00")
    answer = await correct(plugin, kind="add", start="2026-03-02T22:00", end="2026-03-03T06:00")
    assert answer["after"]["present_seconds"] == 2 * 3600
    (_, second) = (await ask(plugin, "days", {"from": "2026-03-01"}))["days"]
    assert second["present_seconds"] == 6 * 3600


async def test_a_day_has_so_many_corrections_at_most(make: Make, box: MemoryBox) -> None:
    plugin = make()
    await visit(plugin, "2026-03-02T08:00", "2026-03-02T12:00")
    clock(box, "2026-03-03T10:00")
    for _ in range(MAX_CORRECTIONS):
        await correct(plugin, kind="first-in", start="2026-03-02T07:00")
    with pytest.raises(InputError, match="has 50 corrections already"):
        await correct(plugin, kind="first-in", start="2026-03-02T07:00")


async def test_nothing_is_left_of_who_is_erased(make: Make, box: MemoryBox) -> None:
    plugin = make()
    await visit(plugin, "2026-03-02T08:00", "2026-03-02T12:00")
    clock(box, "2026-03-03T10:00")
    await correct(plugin, kind="first-in", start="2026-03-02T07:00")
    box.memory.forget(("default", "ana"))
    assert not await box.notes.list()
    assert not (await ask(plugin, "days", {"from": "2026-03-01"}))["days"]


async def test_a_correction_goes_when_the_bookings_of_its_day_do(make: Make, box: MemoryBox) -> None:
    plugin = make(retention_days=10)
    await visit(plugin, "2026-03-02T08:00", "2026-03-02T12:00")
    clock(box, "2026-03-03T10:00")
    await correct(plugin, kind="first-in", start="2026-03-02T07:00")
    clock(box, "2026-03-12T23:59")
    assert len(await box.notes.list()) == 3
    clock(box, "2026-03-13T00:00")
    assert not await box.notes.list()


async def test_the_correction_of_an_open_day(make: Make, box: MemoryBox) -> None:
    plugin = make()
    await book(plugin, arrived(ANA, at("2026-03-02T09:00")))
    clock(box, "2026-03-02T15:00")
    answer = await correct(plugin, kind="first-in", start="2026-03-02T08:00")
    assert (answer["after"]["last_out"], answer["after"]["present_seconds"]) == (None, 7 * 3600)
