"""The README says what is so."""

import json
import re
import tomllib
from pathlib import Path

from facesvc_door.commands import HELP
from facesvc_door.drivers.gpio import GpioRelay
from facesvc_door.drivers.http import HttpRelay
from facesvc_door.drivers.modbus import ModbusRelay
from facesvc_door.drivers.osdp import OsdpRelay
from facesvc_door.rules import RULES
from facesvc_door.settings import Door, DoorSettings
from pydantic import BaseModel

TEXT = (Path(__file__).resolve().parents[1] / "README.md").read_text()


def rows(after: str) -> dict[str, str]:
    """The first two columns of the table that follows, without the code marks."""
    table = TEXT.partition(after)[2].partition("| --- |")[2].partition("\n\n")[0]
    cells = [line.split("|")[1:3] for line in table.splitlines()[1:]]
    return {first.strip().strip("`"): second.strip().strip("`") for first, second in cells}


def defaults(model: type[BaseModel]) -> dict[str, str]:
    """As the README writes them."""
    return {
        name: json.dumps(field.default)
        for name, field in model.model_fields.items()
        if isinstance(field.default, (str, bool, int, float)) and field.default != ""
    }


def test_the_example_can_be_used() -> None:
    (block,) = re.findall(r"```toml\n(.*?)```", TEXT, re.DOTALL)
    given = DoorSettings.model_validate(tomllib.loads(block)["plugins"]["door"])
    assert set(given.doors) == {"front", "exit"}


def test_every_setting_is_in_its_table_with_its_default() -> None:
    for after, model in (("Of `[plugins.door]`", DoorSettings), ("Of `[plugins.door.doors.NAME]`", Door)):
        table = rows(after)
        assert set(table) == set(model.model_fields)
        for name, default in defaults(model).items():
            assert json.loads(table[name]) == json.loads(default), name


def test_every_setting_of_a_relay_is_named() -> None:
    table = rows("Of `relay`, by `driver`")
    assert set(table) == {"http", "modbus", "gpio", "osdp", "log"}
    for model in (HttpRelay, ModbusRelay, GpioRelay, OsdpRelay):
        named = table[model.__name__.removesuffix("Relay").lower()]
        assert all(f"`{name}" in f"`{named}" for name in model.model_fields if name != "driver"), named


def test_every_command_is_in_its_table() -> None:
    table = rows("## Commands")
    assert set(table) == set(HELP)
    for command, arguments in table.items():
        named = set(re.findall(r"([a-z_]+)=", HELP[command]))
        assert set(re.findall(r"[a-z_]+", arguments)) == named, command


def test_the_reasons_that_need_somebody_are_explained() -> None:
    explained = {rule.reason for rule in RULES if f"`{rule.reason}`" in TEXT}
    assert explained >= {
        "NO_PERMISSION",
        "OUTSIDE_HOURS",
        "HOLIDAY",
        "EXPIRED",
        "TOO_OLD",
        "PASSED_BACK",
        "LOCKED_DOWN",
    }
