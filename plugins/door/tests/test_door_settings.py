"""The settings, and how they are refused."""

from importlib.metadata import entry_points
from typing import Any

import pytest
from door_making import OFFICE, door, http, settings
from facesvc_door import PLUGIN
from facesvc_door.drivers import build
from facesvc_door.drivers.log import LogDriver
from pydantic import ValidationError

from facesvc.events.plugin import GROUP

OSDP = {"driver": "osdp", "serial_port": "/dev/ttyS0", "address": 1, "key": "env:KEY"}


def test_the_server_finds_it() -> None:
    (entry,) = entry_points(group=GROUP, name="door")
    assert entry.load() is PLUGIN


def test_what_is_left_out_is_careful() -> None:
    given = settings()
    assert (given.policy, given.max_false_match_rate, given.liveness) == ("access", 1e-5, True)
    assert (given.max_age_s, given.max_ahead_s, given.duress_closes_all) == (2, 0.5, True)
    front = given.doors["front"]
    assert (front.collection, front.pulse_s, front.anti_passback_reset_hours) == ("default", 3, 0)
    assert front.forced_alarm


async def test_a_door_for_trying_out_switches_nothing() -> None:
    one = build("front", settings().doors["front"].relay)
    assert isinstance(one, LogDriver)
    assert not one.has_input
    await one.on(3, "event")
    await one.off()
    assert await one.is_open() is None
    await one.close()


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"doors": {}}, "doors"),
        ({"doors": {"Front Door": door()}}, "doors"),
        ({"doors": {"front": door(cameras=[])}}, "cameras"),
        ({"doors": {"a": door(), "b": door()}}, "'door-1' belongs to the doors a and b"),
        ({"doors": {"a": door(cameras=["x", "x"])}}, "only to one"),
        ({"doors": {"a": door(relay={"driver": "magic"})}}, "driver"),
        ({"doors": {"a": door(relay={})}}, "driver"),
        ({"doors": {"a": door(pulse_s=0)}}, "pulse_s"),
        ({"doors": {"a": door(pulse_s=61)}}, "pulse_s"),
        ({"doors": {"a": door(pulse_s=float("nan"))}}, "pulse_s"),
        ({"doors": {"a": door(permissions=[{"schedule": "always"}])}}, "groups or subjects"),
        ({"doors": {"a": door(permissions=[{"groups": ["x"]}])}}, "schedule"),
        ({"doors": {"a": door(permissions=[{"groups": ["x"], "schedule": "office"}])}}, "schedules] office"),
        ({"doors": {"a": door(permissions=[{"groups": [""], "schedule": "always"}])}}, "groups"),
        ({"doors": {"a": door(direction="out")}}, "leads out"),
        ({"doors": {"a": door(direction="sideways")}}, "direction"),
        ({"doors": {"a": door(time_zone="Europe/Nowhere")}}, "time zone"),
        ({"doors": {"a": door(relay=OSDP), "b": door(cameras=["b"], relay=OSDP)}}, "share a serial port"),
        ({"doors": {"a": door(relay={**OSDP, "key": ""})}}, "key"),
        ({"doors": {"a": door(relay={**OSDP, "key": "00" * 16})}}, "never what it is"),
        ({"doors": {"a": door(relay={**OSDP, "serial_port": "/etc/passwd"})}}, "serial_port"),
        ({"doors": {"a": door(relay={"driver": "gpio", "chip": "../x", "line": 1})}}, "chip"),
        ({"doors": {"a": door(relay={"driver": "modbus", "host": "a b", "coil": 1})}}, "host"),
        ({"doors": {"a": door(relay={"driver": "modbus", "host": "a", "coil": 65536})}}, "coil"),
        ({"doors": {str(n): door(cameras=[str(n)]) for n in range(65)}}, "doors"),
        ({"schedules": {"always": [OFFICE]}}, "built in"),
        ({"schedules": {"x": [{**OFFICE, "start": "7"}]}}, "HH:MM"),
        ({"schedules": {"x": [{**OFFICE, "end": "07:00"}]}}, "is none"),
        ({"schedules": {"x": [{**OFFICE, "start": "24:00"}]}}, "is none"),
        ({"schedules": {"x": [{**OFFICE, "days": ["monday"]}]}}, "days"),
        ({"schedules": {"x": [{**OFFICE, "days": []}]}}, "days"),
        ({"holidays": ["2026-02-30"]}, "holidays"),
        ({"time_zone": "../../etc/passwd"}, "time zone"),
        ({"time_zone": ""}, "time zone"),
        ({"max_false_match_rate": 1e-4}, "max_false_match_rate"),
        ({"max_false_match_rate": 0}, "max_false_match_rate"),
        ({"policy": ""}, "policy"),
        ({"max_age_s": 11}, "max_age_s"),
        ({"polcy": "access"}, "polcy"),
    ],
)
def test_what_makes_no_sense_is_refused(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError) as refused:
        settings(**changes)
    assert said in str(refused.value)
    assert "00" * 16 not in str(refused.value), "a secret in the wrong place is not repeated"


def test_a_schedule_over_midnight_and_to_the_end_of_the_day_is_one() -> None:
    night = {"days": ["fri"], "start": "22:00", "end": "06:00"}
    late = {"days": ["sat"], "start": "22:00", "end": "24:00"}
    (first, second) = settings(schedules={"x": [night, late]}).windows("x")
    assert (first.start, first.end, first.days) == (1320, 360, frozenset({4}))
    assert (second.start, second.end) == (1320, 1440)


def test_a_password_is_never_part_of_the_settings() -> None:
    given = settings(doors={"a": door(relay=http(80, auth="bearer", password="env:RELAY_TOKEN"))})
    assert "env:RELAY_TOKEN" in repr(given)
