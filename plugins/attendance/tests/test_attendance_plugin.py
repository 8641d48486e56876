"""The plugin in a box: what is booked, which days are shown, and what a check says."""

from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any

import pytest
from attendance_making import ANA, BEN, MARCH, Make, arrival, ask, at, book, clock, listed, visit
from facesvc_attendance import PLUGIN, Settings, bookings
from facesvc_attendance import keeping as keeping_module

from facesvc.delivery.kit import MemoryBox, arrived, delivery, left, person, seen
from facesvc.errors import DependencyError, ExhaustedError, InputError, NotFoundError
from facesvc.events.plugin import Answers, Checks, Plugin, TryLaterError
from facesvc.events.records import Event


def test_the_manifest_is_that_of_a_plugin_that_acts(make: Make) -> None:
    plugin: Plugin = make()
    assert isinstance(plugin, Answers)
    assert isinstance(plugin, Checks)
    assert PLUGIN.settings is Settings
    assert PLUGIN.lifetime is None
    assert set(PLUGIN.commands) == set(make()._commands)


async def test_what_is_delivered_twice_is_booked_once(make: Make, box: MemoryBox) -> None:
    plugin = make()
    event = arrived(ANA, at("2026-03-02T08:00"))
    for attempt in (1, 2):
        await plugin.handle(delivery(event, number=7, attempt=attempt))
    (note,) = await box.notes.list()
    assert note.about == ("default", "ana")
    assert note.key == f"booking/2026-03-02T07:00:00.000000Z/{event.event_id}"
    assert "Ana" not in str(note)


async def test_other_events_zones_that_do_not_count_and_what_is_too_old_are_not_booked(
    make: Make, box: MemoryBox
) -> None:
    plugin = make(zones=["desk"], retention_days=10)
    clock(box, "2026-03-02T12:00")
    await book(plugin, seen(ANA, at("2026-03-02T08:00"), zone="desk"), arrived(ANA, at("2026-03-02T08:00")))
    await book(plugin, arrived(ANA, at("2026-02-19T08:00"), zone="desk"))
    assert not await box.notes.list()
    await book(plugin, arrived(ANA, at("2026-02-20T08:00"), zone="desk"))
    assert len(await box.notes.list()) == 1


class Failing:
    """Notes that fail."""

    def __init__(self, error: Exception) -> None:
        self.error = error

    async def put_new(self, *_: Any, **__: Any) -> bool:
        raise self.error

    async def list(self, *_: Any, **__: Any) -> Any:
        raise self.error


@pytest.mark.parametrize("error", [DependencyError("the database is away"), ExhaustedError("too many notes")])
async def test_what_cannot_be_booked_now_is_tried_later(make: Make, box: MemoryBox, error: Exception) -> None:
    box.memory = Failing(error)  # type: ignore[assignment] # stands in for notes that are away
    with pytest.raises(TryLaterError, match="was not booked"):
        await book(make(), arrived(ANA, at("2026-03-02T08:00")))


async def test_of_somebody_who_was_erased_meanwhile_nothing_is_booked(make: Make, box: MemoryBox) -> None:
    box.memory = Failing(NotFoundError("who?"))  # type: ignore[assignment] # stands in for notes of an erased person
    await book(make(), arrived(ANA, at("2026-03-02T08:00")))


async def test_the_same_box_holds_people_of_several_time_zones(make: Make, box: MemoryBox) -> None:
    ito = person("ito", collection_id="tokyo")
    box.people["tokyo", "ito"] = ito
    plugin = make(time_zones={"tokyo": "Asia/Tokyo"})
    clock(box, "2026-03-04T12:00")
    await visit(plugin, "2026-03-02T20:00", "2026-03-02T21:00")
    await visit(plugin, "2026-03-02T20:00", "2026-03-02T21:00", ito)
    ana, other = await listed(plugin)
    assert (ana["date"], other["date"]) == ("2026-03-02", "2026-03-03")
    assert other["first_in"] == "2026-03-03T04:00:00+09:00"
    assert [one["subject_id"] for one in await listed(plugin, collection="tokyo")] == ["ito"]


async def test_a_night_shift_over_the_days_that_are_asked_for(make: Make, box: MemoryBox) -> None:
    plugin = make()
    await visit(plugin, "2026-03-02T22:00", "2026-03-03T06:00")
    clock(box, "2026-03-04T12:00")
    (day,) = await listed(plugin, **{"from": "2026-03-02", "to": "2026-03-02"})
    assert day["present_seconds"] == 8 * 3600
    assert await listed(plugin, **{"from": "2026-03-03", "to": "2026-03-03"}) == []
    halves = make(night_shifts="split")
    for one, wanted in (("2026-03-02", 2), ("2026-03-03", 6)):
        (day,) = await listed(halves, **{"from": one, "to": one})
        assert day["present_seconds"] == wanted * 3600


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"night_shifts": "split"},
        {"day_starts_at": "22:30", "longest_shift_hours": 40},
        {"time_zone": "Pacific/Kiritimati", "shift_gap_hours": 9},
        {"time_zone": "Pacific/Pago_Pago", "day_starts_at": "23:59", "shift_gap_hours": 9, "longest_shift_hours": 30},
    ],
)
async def test_a_day_is_the_same_whichever_days_are_asked_for(
    make: Make, box: MemoryBox, settings: dict[str, Any]
) -> None:
    chance = Random(6)
    plugin = make(**settings)
    start = datetime(2026, 3, 20, tzinfo=UTC)
    events: list[Event] = []
    for who in (ANA, BEN):
        for zone in ("lobby", "desk"):
            until = start
            for _ in range(20):
                since = until + timedelta(minutes=chance.randrange(24 * 60))
                until = since + timedelta(minutes=chance.randrange(8 * 60))
                both = [arrived(who, since, zone=zone), left(who, until, since=since, zone=zone)]
                events += [event for event in both if chance.randrange(9)]
    await book(plugin, *sorted(events, key=lambda event: event.event_time))
    box.clock.time = datetime(2026, 5, 20, tzinfo=UTC)
    span = {"from": "2026-03-10", "to": "2026-05-10"}
    whole = await listed(plugin, **span)
    assert len(whole) >= 20
    for day in {row["date"] for row in whole} | {"2026-03-18", "2026-04-05"}:
        assert await listed(plugin, **{"from": day, "to": day}) == [row for row in whole if row["date"] == day]


async def test_bookings_are_read_from_a_time_to_before_another(box: MemoryBox) -> None:
    times = [at(f"2026-03-02T0{hour}:00") for hour in range(1, 6)]
    made = [arrival(time) for time in times]
    for one in made:
        await box.notes.put(one.key, one.value(), about=one.about)
    await box.notes.put("export/head", {})
    assert [one async for one in bookings.read(box.notes, times[1], times[3])] == made[1:3]
    assert [one async for one in bookings.read(box.notes, times[0], times[4], ("default", "ben"))] == []


async def test_days_of_which_not_all_bookings_are_kept_are_not_shown(make: Make, box: MemoryBox) -> None:
    plugin = make(retention_days=10)
    for day in range(2, 6):
        await visit(plugin, f"2026-03-0{day}T08:00", f"2026-03-0{day}T12:00")
    clock(box, "2026-03-13T12:00")
    answer = await ask(plugin, "days", MARCH)
    assert answer["kept_from"] == "2026-03-04"
    assert [day["date"] for day in answer["days"]] == ["2026-03-04", "2026-03-05"]


async def test_a_note_that_cannot_be_understood_is_named(make: Make, box: MemoryBox) -> None:
    key = "booking/2026-03-02T07:00:00.000000Z/x"
    for value in ("what?", {"number": "1"}, {"number": 1, "leave_time": "soon"}):
        await box.notes.put(key, value, about=("default", "ana"))  # type: ignore[arg-type] # JSON
        with pytest.raises(DependencyError, match=f"the note {key} cannot be understood"):
            await listed(make())


async def test_a_check_without_exports(make: Make, box: MemoryBox) -> None:
    steps = [step async for step in make(day_starts_at="04:00").check()]
    assert [(step.name, step.ok) for step in steps] == [("days", True), ("bookings", True), ("exports", None)]
    assert steps[0].detail == "today is 2026-03-02, from 2026-03-02 04:00:00+01:00 to 2026-03-03 04:00:00+01:00"
    box.memory = Failing(DependencyError("the database is away"))  # type: ignore[assignment] # stands in for notes
    steps = [step async for step in make().check()]
    assert (steps[-1].ok, steps[-1].detail) == (False, "the database is away")


@pytest.mark.slow
async def test_a_month_of_many_people_is_read_page_by_page(
    make: Make, box: MemoryBox, monkeypatch: pytest.MonkeyPatch
) -> None:
    plugin = make()
    staff = [person(f"p{number:03}") for number in range(150)]
    box.people |= {(one.collection_id, one.subject_id): one for one in staff}
    for day in range(1, 23):
        for hour in (8, 13):
            start = datetime(2026, 3, day, hour, tzinfo=UTC)  # all at the same time: pages end between them
            for one in staff:
                await book(plugin, left(one, start + timedelta(hours=4), since=start))
    box.clock.time = datetime(2026, 3, 31, 12, tzinfo=UTC)
    found = await listed(plugin)
    assert len(found) == 150 * 22
    assert {day["present_seconds"] for day in found} == {8 * 3600}
    # A page that is shorter than was asked for is not the end: notes of who is being erased are left out.
    whole = box.notes.list

    async def fewer(*arguments: Any, **named: Any) -> Any:
        return (await whole(*arguments, **named))[:-1] or await whole(*arguments, **named)

    monkeypatch.setattr(box.memory, "list", fewer)
    assert await listed(plugin) == found
    monkeypatch.setattr(keeping_module, "MAX_NOTES", 5000)
    with pytest.raises(InputError, match="ask for fewer days"):
        await listed(plugin)
