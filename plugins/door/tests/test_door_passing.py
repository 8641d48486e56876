"""From an event to an open door, over a relay on a real socket."""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from door_making import ANA, BEN, CYD, AwayNotes, FakeDriver, Hourglass, door, http, settings, settled, until
from door_relay import Relay
from facesvc_door import PLUGIN, DoorPlugin

from facesvc.delivery.kit import MemoryBox, arrived, delivery, person, seen
from facesvc.errors import DependencyError
from facesvc.events.plugin import Delivery, Role, TryLaterError, UndeliverableError
from facesvc.events.records import SeenEvent

Make = Callable[..., Any]


async def result(box: MemoryBox, event: SeenEvent) -> dict[str, Any]:
    """The acknowledgement of an event."""
    (note,) = await box.notes.list(f"result/{event.event_id}")
    assert isinstance(note.value, dict)
    return note.value


def actions(box: MemoryBox) -> list[str]:
    return [action for action, _, _ in box.audited]


def test_the_manifest_asks_for_decisions_that_are_fit_for_a_door() -> None:
    needs = PLUGIN.needs(settings())
    assert (needs.policy, needs.max_false_match_rate, needs.liveness) == ("access", 1e-5, True)
    assert PLUGIN.role is Role.ACTS
    assert PLUGIN.at_most_once
    assert PLUGIN.heeds_expiry
    assert PLUGIN.kinds == {SeenEvent}
    other = PLUGIN.needs(settings(policy="vault", max_false_match_rate=1e-6, liveness=False))
    assert (other.policy, other.max_false_match_rate, other.liveness) == ("vault", 1e-6, False)


async def test_who_may_pass_is_let_in(make: Make, box: MemoryBox, relay: Relay, sleep: Hourglass) -> None:
    plugin = await make({"pulse_s": 2.5})
    event = seen(ANA, box.clock())
    await plugin.handle(delivery(event, number=7))
    assert relay.pulses == [event.event_id]
    assert relay.calls[-1] == ("/on", {"toggle_after": "2.5", "event": event.event_id})
    assert relay.lit
    ((action, words, about),) = box.audited
    assert (action, about) == ("OpenDoor", ("default", "ana"))
    assert words == f"door front: 2.5 s by decision {event.decision.decision_id} of policy access"
    kept = await result(box, event)
    assert (kept["result"], kept["door"], kept["number"]) == ("OPENED", "front", 7)
    assert kept["decision_id"] == event.decision.decision_id
    await sleep.run_out(2.5)
    await until(lambda: not relay.lit)
    assert relay.paths == ["/off", "/on", "/off"]


async def test_who_may_not_pass_is_refused_with_the_reason(make: Make, box: MemoryBox, relay: Relay) -> None:
    plugin = await make()
    event = seen(BEN, box.clock())
    await plugin.handle(delivery(event))
    assert relay.pulses == []
    ((action, words, about),) = box.audited
    assert (action, about) == ("RefuseDoor", ("default", "ben"))
    assert words.startswith("door front: NO_PERMISSION: no permission")
    assert event.decision.decision_id in words
    kept = await result(box, event)
    assert (kept["result"], kept["reason"]) == ("REFUSED", "NO_PERMISSION")


async def test_no_name_is_written_down(make: Make, box: MemoryBox) -> None:
    plugin = await make()
    for one in (ANA, BEN, CYD):
        await plugin.handle(delivery(seen(replace(one, display_name="Zoe Doe"), box.clock())))
    kept = await box.notes.list()
    assert "Doe" not in str(box.audited) + str(kept)
    assert all(note.about != ("", "") for note in kept if note.key.startswith("result/"))


async def test_another_camera_or_kind_of_event_is_none_of_its(make: Make, box: MemoryBox, relay: Relay) -> None:
    plugin = await make()
    await plugin.handle(delivery(seen(ANA, box.clock(), camera_id="hall")))
    await plugin.handle(delivery(arrived(ANA, box.clock())))
    assert relay.pulses == []
    assert box.audited == []
    assert await box.notes.list() == []


async def test_each_camera_opens_its_own_door(make: Make, box: MemoryBox, relay: Relay) -> None:
    back = door(cameras=["door-2", "door-3"], relay=http(relay.port, off_url=f"http://127.0.0.1:{relay.port}/off"))
    plugin = await make(doors={"back": back})
    event = seen(ANA, box.clock(), camera_id="door-3")
    await plugin.handle(delivery(event))
    assert (await result(box, event))["door"] == "back"


async def test_an_event_opens_once(make: Make, box: MemoryBox, relay: Relay) -> None:
    plugin = await make()
    event = seen(ANA, box.clock())
    await plugin.handle(delivery(event))
    await plugin.handle(delivery(event, attempt=2))
    assert relay.pulses == [event.event_id]
    assert actions(box) == ["OpenDoor", "RefuseDoor"]
    assert "REPLAYED" in box.audited[-1][1]
    assert (await result(box, event))["result"] == "OPENED", "what came of it the first time stays"


async def test_a_decision_opens_once_whatever_event_brings_it(make: Make, box: MemoryBox, relay: Relay) -> None:
    plugin = await make()
    event = seen(ANA, box.clock())
    await plugin.handle(delivery(event))
    await plugin.handle(delivery(replace(event, event_id="another")))
    await plugin.handle(delivery(replace(event, decision=replace(event.decision, decision_id="another"))))
    assert relay.pulses == [event.event_id]


async def test_an_event_opens_once_also_across_a_restart(make: Make, box: MemoryBox, relay: Relay) -> None:
    event = seen(ANA, box.clock())
    first = await make()
    await first.handle(delivery(event))
    await first.stop()
    assert not relay.lit
    second = await make()
    await second.handle(delivery(event))
    assert relay.pulses == [event.event_id]


async def test_of_two_deliveries_at_the_same_time_one_opens(make: Make, box: MemoryBox, relay: Relay) -> None:
    plugin = await make()
    event = seen(ANA, box.clock())
    await asyncio.gather(*(plugin.handle(delivery(event)) for _ in range(5)))
    assert relay.pulses == [event.event_id]


async def test_what_was_refused_opens_nothing_later(make: Make, box: MemoryBox, relay: Relay) -> None:
    plugin = await make()
    await plugin.call("lockdown", {"reason": "drill"})
    event = seen(ANA, box.clock())
    await plugin.handle(delivery(event))
    await plugin.call("release", {"by": "chief", "reason": "over"})
    await plugin.handle(delivery(event, attempt=2))
    assert relay.pulses == []
    assert (await result(box, event))["reason"] == "LOCKED_DOWN"


@pytest.mark.parametrize(("seconds", "pulses"), [(1.999999, 1), (2.0, 0), (60, 0)])
async def test_at_its_expiry_a_decision_is_worth_nothing(
    make: Make, box: MemoryBox, relay: Relay, seconds: float, pulses: int
) -> None:
    plugin = await make()
    event = seen(ANA, box.clock())
    box.clock.advance(seconds)
    await plugin.handle(delivery(event))
    assert len(relay.pulses) == pulses


async def test_what_expires_while_the_relay_is_busy_is_refused(make: Make, box: MemoryBox, relay: Relay) -> None:
    plugin = await make(relay_timeout_s=10)
    relay.held["/on"] = asyncio.Event()
    first, second = seen(ANA, box.clock()), seen(ANA, box.clock())
    relay.asked.clear()
    one = asyncio.create_task(plugin.handle(delivery(first)))
    await relay.asked.wait()
    two = asyncio.create_task(plugin.handle(delivery(second)))
    await until(lambda: actions(box) == ["OpenDoor", "OpenDoor"])
    box.clock.advance(2)
    relay.held["/on"].set()
    await asyncio.gather(one, two)
    assert relay.pulses == [first.event_id]
    assert (await result(box, second))["reason"] == "EXPIRED"
    assert actions(box) == ["OpenDoor", "OpenDoor", "RefuseDoor"]


async def test_a_relay_that_fails_is_said_and_switched_off(make: Make, box: MemoryBox, relay: Relay) -> None:
    plugin = await make()
    relay.status["/on"] = 500
    event = seen(ANA, box.clock())
    with pytest.raises(UndeliverableError, match="the relay answered on with status 500"):
        await plugin.handle(delivery(event))
    await until(lambda: relay.paths == ["/off", "/off"])
    kept = await result(box, event)
    assert (kept["result"], kept["reason"]) == ("FAILED", "RELAY_FAILED")
    assert actions(box) == ["OpenDoor", "RefuseDoor"]
    relay.status.clear()
    await plugin.handle(delivery(event, attempt=2))
    assert relay.pulses == [], "it is not tried again"


async def test_a_relay_that_is_slow_is_switched_off(make: Make, box: MemoryBox, relay: Relay) -> None:
    plugin = await make(relay_timeout_s=0.1)
    relay.held["/on"] = asyncio.Event()
    with pytest.raises(UndeliverableError, match="did not answer in time"):
        await plugin.handle(delivery(seen(ANA, box.clock())))
    await until(lambda: relay.paths == ["/off", "/on", "/off"])
    assert not relay.lit


async def test_cancelled_in_the_middle_of_switching_it_is_switched_off(
    make: Make, box: MemoryBox, relay: Relay
) -> None:
    plugin = await make(relay_timeout_s=10)
    relay.held["/on"] = asyncio.Event()
    relay.asked.clear()
    call = asyncio.create_task(plugin.handle(delivery(seen(ANA, box.clock()))))
    await relay.asked.wait()
    assert relay.lit
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    await until(lambda: not relay.lit)


async def test_stopped_in_the_middle_of_a_pulse_it_is_off(make: Make, box: MemoryBox, relay: Relay) -> None:
    plugin = await make()
    await plugin.handle(delivery(seen(ANA, box.clock())))
    assert relay.lit
    await plugin.stop()
    assert not relay.lit


async def test_a_relay_that_is_away_keeps_no_other_door_closed(make: Make, box: MemoryBox, relay: Relay) -> None:
    plugin = await make(doors={"back": door(cameras=["door-2"], relay=http(1))})
    event = seen(ANA, box.clock())
    await plugin.handle(delivery(event))
    assert relay.pulses == [event.event_id]
    with pytest.raises(UndeliverableError):
        await plugin.handle(delivery(seen(ANA, box.clock(), camera_id="door-2")))


@pytest.mark.parametrize("method", ["get", "put_new"])
async def test_while_the_database_is_away_nothing_opens_and_it_is_tried_again(
    make: Make, box: MemoryBox, relay: Relay, method: str
) -> None:
    plugin = await make()
    assert isinstance(box.memory, AwayNotes)
    box.memory.away = frozenset({method})
    event = seen(ANA, box.clock())
    with pytest.raises(TryLaterError):
        await plugin.handle(delivery(event))
    box.memory.away = frozenset()
    assert relay.pulses == []
    await plugin.handle(delivery(event, attempt=2))
    assert relay.pulses == [event.event_id]


async def test_what_cannot_be_audited_does_not_open(
    make: Make, box: MemoryBox, relay: Relay, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def away(*_: object) -> None:
        raise DependencyError("the database is away")

    plugin = await make()
    monkeypatch.setattr(MemoryBox, "audit", away)
    event = seen(ANA, box.clock())
    with pytest.raises(UndeliverableError):
        await plugin.handle(delivery(event))
    assert relay.pulses == []


async def test_whoever_was_erased_or_disabled_meanwhile_stays_outside(make: Make, box: MemoryBox, relay: Relay) -> None:
    plugin = await make()
    ana, zoe = seen(ANA, box.clock()), seen(person("zoe", metadata=ANA.metadata), box.clock())
    box.people["default", "ana"] = replace(ANA, recognisable=False)
    assert isinstance(box.memory, AwayNotes)
    box.memory.unknown = frozenset({"zoe"})
    await plugin.handle(delivery(ana))
    await plugin.handle(delivery(zoe))
    assert relay.pulses == []
    assert (await result(box, ana))["reason"] == "NOT_RECOGNISABLE"
    assert (await result(box, zoe))["reason"] == "NOT_ENROLLED"
    assert "zoe" not in str(await box.notes.list())


async def test_erasing_somebody_leaves_nothing_about_them(make: Make, box: MemoryBox) -> None:
    plugin = await make({"anti_passback_reset_hours": 8})
    await plugin.handle(delivery(seen(ANA, box.clock())))
    assert {note.key.partition("/")[0] for note in await box.notes.list(about=("default", "ana"))} == {
        "inside",
        "result",
    }
    box.memory.forget(("default", "ana"))
    assert "ana" not in str(await box.notes.list())


def again(one: Any, box: MemoryBox, **changes: Any) -> Delivery:
    """Somebody is seen anew, some time later."""
    box.clock.advance(60)
    return delivery(seen(one, box.clock(), **changes))


async def test_nobody_goes_in_twice_without_going_out(make: Make, box: MemoryBox, relay: Relay) -> None:
    out = door(cameras=["out"], direction="out", area="house", relay=http(relay.port))
    plugin = await make({"anti_passback_reset_hours": 8, "area": "house"}, doors={"exit": out})
    await plugin.handle(again(ANA, box))
    await plugin.handle(again(ANA, box))
    assert len(relay.pulses) == 1
    assert "PASSED_BACK" in box.audited[-1][1]
    await plugin.handle(again(ANA, box, camera_id="out"))
    await plugin.handle(again(ANA, box))
    assert len(relay.pulses) == 3
    box.clock.advance(8 * 3600 - 61)
    await plugin.handle(again(ANA, box))
    assert len(relay.pulses) == 3
    await plugin.handle(again(ANA, box))
    assert len(relay.pulses) == 4, "after eight hours they may"


async def test_who_was_not_let_in_is_not_inside(make: Make, box: MemoryBox, relay: Relay) -> None:
    plugin = await make({"anti_passback_reset_hours": 8})
    relay.status["/on"] = 500
    with pytest.raises(UndeliverableError):
        await plugin.handle(again(ANA, box))
    relay.status.clear()
    await plugin.handle(again(ANA, box))
    assert len(relay.pulses) == 1


async def test_before_the_start_and_after_the_stop_nothing_opens(make: Make, box: MemoryBox, relay: Relay) -> None:
    plugin = await make()
    gate = plugin._keeper.gates["front"]
    plugin._running = False
    event = seen(ANA, box.clock())
    await plugin.handle(delivery(event))
    assert (await result(box, event))["reason"] == "STOPPING"
    await plugin.stop()
    plugin._keeper.gates["front"] = gate
    await plugin.handle(delivery(seen(ANA, box.clock())))
    assert relay.pulses == []
    plugin._keeper.gates.clear()


async def test_what_a_driver_raises_by_mistake_keeps_the_door_closed(make: Make, box: MemoryBox) -> None:
    plugin = await make()
    gate = plugin._keeper.gates["front"]
    real, gate.driver = gate.driver, FakeDriver()
    gate.driver.fails.add("on")
    event = seen(ANA, box.clock())
    with pytest.raises(UndeliverableError, match="driver failed: RuntimeError"):
        await plugin.handle(delivery(event))
    await settled(gate)
    assert not gate.driver.lit
    await real.close()


async def test_the_start_fails_while_nobody_knows_about_the_lockdown(
    box: MemoryBox, sleep: Hourglass, relay: Relay
) -> None:
    assert isinstance(box.memory, AwayNotes)
    box.memory.away = frozenset({"get"})
    plugin = DoorPlugin(settings(doors={"front": door(relay=http(relay.port))}), box, sleep)
    with pytest.raises(DependencyError):
        await plugin.start()
    assert relay.paths == ["/off"], "the relays are off all the same"
    box.memory.away = frozenset()
    await plugin.start()
    event = seen(ANA, box.clock())
    await plugin.handle(delivery(event))
    assert relay.pulses == [event.event_id]
    await plugin.stop()
