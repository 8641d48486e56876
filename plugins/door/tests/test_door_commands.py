"""What can be asked of the doors: lock-down, duress, opening by hand, alarms, results."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from door_making import ANA, AwayNotes, Hourglass, door, http, until
from door_relay import Relay
from facesvc_door import PLUGIN, DoorPlugin
from facesvc_door.commands import HELP

from facesvc.delivery.kit import MemoryBox, delivery, seen
from facesvc.errors import DependencyError, InputError, NotFoundError, PreconditionError, UnavailableError
from facesvc.events.plugin import Answers, Checks

Make = Callable[..., Any]
RELEASE = {"by": "chief", "reason": "it is over"}


async def steps(plugin: DoorPlugin) -> list[tuple[str, bool | None, str]]:
    return [(step.name, step.ok, step.detail) async for step in plugin.check()]


async def test_it_answers_and_checks(make: Make) -> None:
    plugin = await make()
    assert isinstance(plugin, Answers)
    assert isinstance(plugin, Checks)
    assert set(PLUGIN.commands) == set(HELP) == set(plugin._commands._commands)


async def test_one_call_closes_all(make: Make, box: MemoryBox, relay: Relay, sleep: Hourglass) -> None:
    plugin = await make(doors={"back": door(cameras=["door-2"], relay=http(relay.port))})
    await plugin.handle(delivery(seen(ANA, box.clock())))
    assert relay.lit
    answer = await plugin.call("lockdown", {"reason": "fire drill", "by": "guard-3"})
    assert answer == {"locked_down": True, "new": True, "relays_not_confirmed_off": []}
    assert not relay.lit, "a pulse that was under way has ended"
    pulses = len(relay.pulses)
    for camera in ("door-1", "door-2"):
        await plugin.handle(delivery(seen(ANA, box.clock(), camera_id=camera)))
    with pytest.raises(PreconditionError, match="release them first"):
        await plugin.call("open", {"door": "front", "by": "guard-3", "reason": "I forgot"})
    assert len(relay.pulses) == pulses
    assert [action for action, _, _ in box.audited] == ["OpenDoor", "LockDoors", *["RefuseDoor"] * 3]
    assert box.audited[1][1] == "all doors closed by guard-3: fire drill"
    status = await plugin.call("status", {})
    assert status["locked_down"]
    assert status["lockdown"] == {"time": box.clock().isoformat(), "by": "guard-3", "reason": "fire drill"}
    assert (await plugin.call("release", RELEASE)) == {"locked_down": False, "was_locked_down": True}
    await plugin.handle(delivery(seen(ANA, box.clock())))
    assert len(relay.pulses) == pulses + 1


async def test_a_lockdown_survives_a_restart(make: Make, box: MemoryBox, relay: Relay) -> None:
    first = await make()
    await first.call("lockdown", {"reason": "drill"})
    await first.stop()
    second = await make()
    await second.handle(delivery(seen(ANA, box.clock())))
    assert relay.pulses == []
    again = await second.call("lockdown", {"reason": "another"})
    assert not again["new"]
    assert (await second.call("status", {}))["lockdown"]["reason"] == "drill"
    await second.call("release", RELEASE)
    await second.stop()
    third = await make()
    await third.handle(delivery(seen(ANA, box.clock())))
    assert len(relay.pulses) == 1


async def test_a_lockdown_of_another_box_counts(make: Make, box: MemoryBox, relay: Relay) -> None:
    one, other = await make(), await make()
    await other.call("lockdown", {"reason": "drill"})
    await one.handle(delivery(seen(ANA, box.clock())))
    assert relay.pulses == []


async def test_a_lockdown_comes_in_time_for_who_is_about_to_pass(
    make: Make, box: MemoryBox, relay: Relay, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the judgement and the relay there is the audit log: the lock-down comes while it is written."""
    plugin = await make()
    audit = MemoryBox.audit

    async def slow(self: MemoryBox, action: str, *rest: Any) -> None:
        await audit(self, action, *rest)
        if action == "OpenDoor":
            await plugin.call("lockdown", {"reason": "now"})

    monkeypatch.setattr(MemoryBox, "audit", slow)
    event = seen(ANA, box.clock())
    await plugin.handle(delivery(event))
    assert relay.pulses == []
    assert (await plugin.call("result", {"event_id": event.event_id}))["reason"] == "LOCKED_DOWN"


async def test_a_lockdown_that_cannot_be_written_closes_all_the_same(make: Make, box: MemoryBox, relay: Relay) -> None:
    plugin = await make()
    assert isinstance(box.memory, AwayNotes)
    box.memory.away = frozenset({"put_new"})
    with pytest.raises(DependencyError, match="not across a restart"):
        await plugin.call("lockdown", {"reason": "drill"})
    box.memory.away = frozenset()
    await plugin.handle(delivery(seen(ANA, box.clock())))
    assert relay.pulses == []


async def test_a_lockdown_says_which_relay_did_not_confirm(make: Make, box: MemoryBox, relay: Relay) -> None:
    plugin = await make()
    relay.broken = True
    answer = await plugin.call("lockdown", {"reason": "drill"})
    assert answer["relays_not_confirmed_off"] == ["front"]
    await until(lambda: any("RELAY_STUCK" in words for _, words, _ in box.audited))
    relay.broken = False


async def test_duress_opens_nothing_raises_the_alarm_and_closes_all(make: Make, box: MemoryBox, relay: Relay) -> None:
    plugin = await make()
    answer = await plugin.call("duress", {"door": "front", "by": "reader-1", "reason": "code 9"})
    assert answer["recorded"]
    assert answer["locked_down"]
    await plugin.handle(delivery(seen(ANA, box.clock())))
    assert relay.pulses == []
    (alarm,) = (await plugin.call("alarms", {}))["alarms"]
    assert (alarm["kind"], alarm["door"]) == ("DURESS", "front")
    assert alarm["words"] == "somebody is under duress by reader-1: code 9"
    assert ("DoorAlarm", "door front: DURESS: somebody is under duress by reader-1: code 9") in [
        entry[:2] for entry in box.audited
    ]


async def test_a_silent_duress_leaves_the_doors_as_they_are(make: Make, box: MemoryBox, relay: Relay) -> None:
    plugin = await make(duress_closes_all=False)
    assert (await plugin.call("duress", {})) == {"recorded": True, "locked_down": False}
    assert relay.pulses == []
    await plugin.handle(delivery(seen(ANA, box.clock())))
    assert len(relay.pulses) == 1
    (alarm,) = (await plugin.call("alarms", {"door": "front"}))["alarms"]
    assert alarm["door"] == "", "it is about all doors, this one too"


async def test_a_door_is_opened_by_hand(make: Make, box: MemoryBox, relay: Relay, sleep: Hourglass) -> None:
    plugin = await make()
    answer = await plugin.call("open", {"door": "front", "by": "desk-1", "reason": "a parcel"})
    assert answer == {"door": "front", "opened_for_seconds": 3.0}
    assert len(relay.pulses) == 1
    assert relay.pulses[0].startswith("manual-")
    assert box.audited == [("OpenDoor", "door front: by hand by desk-1: a parcel", ("", ""))]
    await sleep.run_out(3)
    await until(lambda: not relay.lit)


async def test_a_relay_that_fails_by_hand_is_said(make: Make, box: MemoryBox, relay: Relay) -> None:
    plugin = await make(relay_timeout_s=0.1)
    relay.status["/on"] = 500
    with pytest.raises(DependencyError, match="status 500"):
        await plugin.call("open", {"door": "front", "by": "desk-1", "reason": "a parcel"})
    relay.status.clear()
    relay.held["/on"] = asyncio.Event()
    with pytest.raises(DependencyError, match="did not answer in time"):
        await plugin.call("open", {"door": "front", "by": "desk-1", "reason": "a parcel"})
    assert [action for action, _, _ in box.audited] == ["OpenDoor", "RefuseDoor"] * 2


async def test_the_result_of_an_event_can_be_asked_for(make: Make, box: MemoryBox) -> None:
    plugin = await make()
    event = seen(ANA, box.clock())
    await plugin.handle(delivery(event))
    assert (await plugin.call("result", {"event_id": event.event_id}))["result"] == "OPENED"
    with pytest.raises(NotFoundError):
        await plugin.call("result", {"event_id": event.event_id[:-1]})


async def test_somebody_who_slipped_out_can_come_in_again(make: Make, box: MemoryBox, relay: Relay) -> None:
    plugin = await make({"anti_passback_reset_hours": 8, "area": "house"})
    await plugin.handle(delivery(seen(ANA, box.clock())))
    assert (await plugin.call("leave", {"subject_id": "ana", "by": "desk-1"})) == {"left": ["house"]}
    assert (await plugin.call("leave", {"subject_id": "ana", "by": "desk-1"})) == {"left": []}
    await plugin.handle(delivery(seen(ANA, box.clock())))
    assert len(relay.pulses) == 2
    with pytest.raises(NotFoundError, match="house"):
        await plugin.call("leave", {"subject_id": "ana", "by": "desk-1", "area": "garden"})


async def test_a_test_switches_no_real_relay(make: Make, box: MemoryBox, relay: Relay) -> None:
    plugin = await make(doors={"dry": door(cameras=["door-2"])})
    before = list(relay.paths)
    assert "can be reached" in (await plugin.call("test", {"door": "front"}))["detail"]
    assert relay.paths == before
    assert (await plugin.call("test", {"door": "dry"})) == {"door": "dry", "detail": "pulsed; look into the log"}


async def test_the_status_says_how_the_doors_are(make: Make, box: MemoryBox, relay: Relay, sleep: Hourglass) -> None:
    url = f"http://127.0.0.1:{relay.port}/input"
    plugin = await make({"relay": http(relay.port, input_url=url)}, doors={"dead": door(cameras=["x"], relay=http(1))})
    await until(lambda: "/input" in relay.paths and 0.5 in sleep.lasts())
    await until(lambda: plugin._watches.get("front") is not None)
    await plugin.handle(delivery(seen(ANA, box.clock())))
    assert (await plugin.call("status", {})) == {
        "locked_down": False,
        "lockdown": None,
        "doors": {
            "front": {"relay": "ON", "driver": "http", "contact": "CLOSED"},
            "dead": {"relay": "UNCERTAIN", "driver": "http", "contact": "UNKNOWN"},
        },
    }


@pytest.mark.parametrize(
    ("command", "arguments"),
    [
        ("dance", {}),
        ("status", {"x": "1"}),
        ("lockdown", {}),
        ("lockdown", {"reason": " "}),
        ("lockdown", {"reason": "a\nb"}),
        ("lockdown", {"reason": "a\x1b[31m"}),
        ("lockdown", {"reason": "x" * 201}),
        ("lockdown", {"reason": "x", "by": "Jane Doe"}),
        ("release", {"reason": "x"}),
        ("release", {"by": "x"}),
        ("open", {"door": "front", "by": "x"}),
        ("open", {"door": "front", "reason": "x"}),
        ("open", {"door": "nowhere", "by": "x", "reason": "x"}),
        ("open", {"door": "front", "by": "x", "reason": "x", "seconds": "3600"}),
        ("duress", {"door": "nowhere"}),
        ("alarms", {"limit": "0"}),
        ("alarms", {"limit": "1001"}),
        ("alarms", {"limit": "²"}),
        ("alarms", {"limit": "-1"}),
        ("alarms", {"door": "nowhere"}),
        ("result", {"event_id": "a/b"}),
        ("test", {"door": "nowhere"}),
    ],
)
async def test_what_cannot_be_used_is_refused_and_nothing_happens(
    make: Make, box: MemoryBox, relay: Relay, command: str, arguments: dict[str, str]
) -> None:
    plugin = await make()
    with pytest.raises(InputError) as refused:
        await plugin.call(command, arguments)
    assert refused.value.message.isprintable()
    assert relay.paths == ["/off"]
    assert box.audited == []
    assert not (await plugin.call("status", {}))["locked_down"]


async def test_doors_that_are_not_started_say_so(make: Make) -> None:
    plugin = await make()
    await plugin.stop()
    with pytest.raises(UnavailableError):
        await plugin.call("open", {"door": "front", "by": "x", "reason": "x"})


async def test_the_check_goes_from_relay_to_relay_and_switches_none(make: Make, relay: Relay) -> None:
    url = f"http://127.0.0.1:{relay.port}/input"
    dry = door(cameras=["a"])
    plugin = await make(
        {"relay": http(relay.port, input_url=url)},
        doors={"dry": dry, "dead": door(cameras=["b"], relay=http(1)), "never": door(cameras=["c"])},
    )
    before = [path for path in relay.paths if path != "/input"]
    found = await steps(plugin)
    assert [one[:2] for one in found] == [
        ("relay of door front (http)", True),
        ("relay of door dry (log)", True),
        ("relay of door dead (http)", False),
    ]
    assert found[0][2] == "answers; the door is closed"
    assert "cannot be reached" in found[2][2]
    assert [path for path in relay.paths if path != "/input"] == before
