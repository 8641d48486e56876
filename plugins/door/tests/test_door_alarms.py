"""Doors held open or forced, contacts that fail, and the book of alarms."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from door_making import ANA, AwayNotes, FakeDriver, Hourglass, http, settled, until
from door_relay import Relay
from facesvc_door.alarms import Book, Kind, Watch, missed, read

from facesvc.delivery.kit import NOW, MemoryBox, delivery, seen

Make = Callable[..., Any]


def run(*readings: tuple[float, str], allowed: tuple[float, float] = (-1, -1)) -> list[tuple[float, str]]:
    """The alarms of readings at so many seconds: "open", "closed" or "failed"; ``allowed``: from when until when."""
    watch, told = Watch(), []
    for seconds, reading in readings:
        if reading == "failed":
            watch, kinds = missed(watch)
        else:
            watch, kinds = read(
                watch,
                is_open=reading == "open",
                allowed=allowed[0] <= seconds <= allowed[1],
                now=NOW + timedelta(seconds=seconds),
                held_after=timedelta(seconds=30),
            )
        told += [(seconds, kind.name) for kind in kinds]
    return told


@pytest.mark.parametrize(
    ("readings", "allowed", "told"),
    [
        ([(0, "closed"), (1, "open"), (2, "closed")], (0, 5), []),
        ([(0, "closed"), (1, "open")], (2, 5), [(1, "FORCED")]),
        ([(0, "open"), (1, "open")], (-1, -1), []),  # nobody knows who opened it before the start
        ([(0, "open"), (29, "open"), (30, "open"), (31, "open")], (-1, -1), [(30, "HELD")]),
        ([(0, "closed"), (1, "open"), (31, "open"), (35, "open")], (0, 5), [(31, "HELD")]),
        ([(0, "closed"), (1, "open"), (5, "open"), (34, "open"), (35, "open")], (0, 5), [(35, "HELD")]),
        ([(0, "open"), (30, "open"), (40, "closed"), (41, "closed")], (-1, -1), [(30, "HELD"), (40, "CLOSED_AGAIN")]),
        # A contact that flutters is one alarm a minute.
        (
            [(0, "closed"), (1, "open"), (2, "closed"), (3, "open"), (4, "closed"), (61, "open")],
            (-1, -1),
            [(1, "FORCED"), (61, "FORCED")],
        ),
        ([(0, "failed"), (1, "failed"), (2, "closed")], (-1, -1), []),
        (
            [(0, "failed"), (1, "failed"), (2, "failed"), (3, "failed"), (4, "closed"), (5, "open")],
            (-1, -1),
            [(2, "INPUT_LOST"), (4, "INPUT_BACK"), (5, "FORCED")],
        ),
        # Opened while the contact could not be read.
        (
            [(0, "closed"), (1, "failed"), (2, "failed"), (3, "failed"), (4, "open")],
            (-1, -1),
            [(3, "INPUT_LOST"), (4, "INPUT_BACK"), (4, "FORCED")],
        ),
    ],
)
def test_what_readings_mean(
    readings: list[tuple[float, str]], allowed: tuple[float, float], told: list[tuple[float, str]]
) -> None:
    assert run(*readings, allowed=allowed) == told


async def test_the_newest_alarm_comes_first(box: MemoryBox) -> None:
    book = Book(box, timedelta(days=1))
    for kind, door in ((Kind.FORCED, "front"), (Kind.HELD, "back"), (Kind.DURESS, ""), (Kind.HELD, "front")):
        await book.add(kind, door)
    box.clock.advance(5)
    await book.add(Kind.FORCED, "back")
    kinds = [f"{one['kind']} {one['door']}" for one in await book.last(10) if isinstance(one, dict)]
    assert kinds == ["FORCED back", "HELD front", "DURESS ", "HELD back", "FORCED front"]
    assert len(await book.last(3, "front")) == 3
    assert len(await book.last(1)) == 1
    box.clock.advance(86400)
    assert await book.last(10) == []
    assert len(box.audited) == 5
    assert box.audited[0] == (
        "DoorAlarm",
        "door front: FORCED: the door was opened, and the relay had not let it",
        ("", ""),
    )


async def test_an_alarm_waits_for_the_database(box: MemoryBox) -> None:
    book = Book(box, timedelta(days=1))
    assert isinstance(box.memory, AwayNotes)
    box.memory.away = frozenset({"put"})
    await book.add(Kind.FORCED, "front")
    box.clock.advance(5)
    await book.add(Kind.HELD, "front")
    assert box.audited == []
    box.memory.away = frozenset()
    await book.write()
    found = await book.last(10)
    assert [one["kind"] for one in found if isinstance(one, dict)] == ["HELD", "FORCED"]
    assert found[1]["time"] == NOW.isoformat()  # type: ignore[index,call-overload]  # a JSON object
    assert len(box.audited) == 2


async def next_reading(relay: Relay, sleep: Hourglass) -> None:
    """Wait until the contact was read once more."""
    before = relay.paths.count("/input")
    await sleep.run_out(0.5)
    await until(lambda: relay.paths.count("/input") > before and sleep.lasts().count(0.5) == 2)


async def test_a_contact_is_read_over_its_socket(make: Make, box: MemoryBox, relay: Relay, sleep: Hourglass) -> None:
    front = {"relay": http(relay.port, input_url=f"http://127.0.0.1:{relay.port}/input"), "held_after_s": 20}
    plugin = await make(front)
    await until(lambda: sleep.lasts().count(0.5) == 2)
    await plugin.handle(delivery(seen(ANA, box.clock())))
    relay.door_open = True
    await next_reading(relay, sleep)
    assert (await plugin.call("alarms", {}))["alarms"] == [], "it was let open"
    await sleep.run_out(3)
    await settled(plugin._keeper.gates["front"])
    box.clock.advance(60)
    await next_reading(relay, sleep)
    relay.door_open = False
    await next_reading(relay, sleep)
    relay.door_open = True
    await next_reading(relay, sleep)
    relay.body["/input"] = b"<html>"
    for _ in range(3):
        await next_reading(relay, sleep)
    kinds = [one["kind"] for one in (await plugin.call("alarms", {"door": "front"}))["alarms"]]
    assert kinds == ["INPUT_LOST", "FORCED", "CLOSED_AGAIN", "HELD"]


async def test_a_door_with_a_handle_inside_is_not_forced(
    make: Make, box: MemoryBox, relay: Relay, sleep: Hourglass
) -> None:
    front = {"relay": http(relay.port, input_url=f"http://127.0.0.1:{relay.port}/input"), "forced_alarm": False}
    plugin = await make(front)
    await until(lambda: sleep.lasts().count(0.5) == 2)
    box.clock.advance(60)  # some time after the start
    relay.door_open = True
    await next_reading(relay, sleep)
    assert (await plugin.call("alarms", {}))["alarms"] == []
    box.clock.advance(30)
    await next_reading(relay, sleep)
    assert [one["kind"] for one in (await plugin.call("alarms", {}))["alarms"]] == ["HELD"]


async def test_a_relay_that_stays_on_is_an_alarm(make: Make, box: MemoryBox, relay: Relay, sleep: Hourglass) -> None:
    plugin = await make()
    await plugin.handle(delivery(seen(ANA, box.clock())))
    relay.broken = True
    await sleep.run_out(3)
    await until(lambda: len(box.audited) == 2)
    assert box.audited[-1][1].startswith("door front: RELAY_STUCK")
    relay.broken = False


async def test_a_contact_that_says_nothing_yet_is_no_alarm(make: Make, sleep: Hourglass) -> None:
    plugin = await make()
    gate = plugin._keeper.gates["front"]
    real, gate.driver = gate.driver, FakeDriver()
    for _ in range(5):
        await plugin._read(gate)
    assert plugin._watches == {}
    await real.close()
