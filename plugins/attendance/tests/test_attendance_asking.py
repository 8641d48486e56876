"""Arguments and settings that cannot be used."""

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
from attendance_making import Make
from facesvc_attendance import Settings
from facesvc_attendance.asking import COMMANDS
from pydantic import ValidationError

from facesvc.errors import InputError


@pytest.mark.parametrize(
    ("command", "arguments", "message"),
    [
        ("weeks", {}, "there is no command 'weeks'"),
        ("days", {"form": "csv"}, "days does not take 'form'"),
        ("days", {"format": "xml"}, "json, csv or ical"),
        ("days", {"from": "yesterday"}, "'yesterday' is no day"),
        ("days", {"from": "20260302"}, "is no day"),
        ("days", {"from": "9999-12-31", "to": "9999-12-31"}, "is no day"),
        ("days", {"from": "2026-03-03", "to": "2026-03-02"}, "is after to"),
        ("days", {"from": "2000-03-03", "to": "2026-03-02"}, "ten years"),
        ("days", {"subject": "a\x00"}, "subject has control characters"),
        ("bookings", {"subject": "x" * 501}, "more than 500"),
        ("export", {}, "day is needed"),
        ("verify", {"file": "../../etc/passwd"}, "is no name of an export"),
        ("public-key", {"format": "pem"}, "it takes no arguments"),
    ],
)
async def test_arguments_that_cannot_be_used(make: Make, command: str, arguments: dict[str, str], message: str) -> None:
    with pytest.raises(InputError, match=message):
        await make().call(command, arguments)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"time_zone": "Berlin"}, "is no time zone"),
        ({"time_zone": "../etc/passwd"}, "is no time zone"),
        ({"time_zone": ""}, "is no time zone"),
        ({"time_zones": {"tokyo": "Tokyo"}}, "is no time zone"),
        ({"day_starts_at": "24:00"}, "day_starts_at"),
        ({"day_starts_at": "4:00"}, "day_starts_at"),
        ({"close_after_hours": 0}, "close_after_hours"),
        ({"close_after_hours": 48}, "export_after_hours is at least"),
        ({"retention_days": 1e9}, "retention_days"),
        ({"export_folder": "exports", "signing_key": "env:KEY"}, "no absolute path"),
        ({"export_folder": "/exports"}, "export_folder needs signing_key"),
        ({"signing_key": "-----BEGIN PRIVATE KEY-----"}, "never what it is"),
        ({"timezone": "UTC"}, "timezone"),
    ],
)
def test_settings_that_cannot_be_used(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        Settings.model_validate(settings)


def test_the_readme_names_every_setting_and_every_command_and_its_examples_are_valid() -> None:
    readme = (Path(__file__).parent.parent / "README.md").read_text()
    for name in (*Settings.model_fields, *COMMANDS):
        assert f"| `{name}` |" in readme
    examples = re.findall(r"```toml\n(.*?)```", readme, re.DOTALL)
    assert len(examples) == 2
    for example in examples:
        Settings.model_validate(tomllib.loads(example)["plugins"]["attendance"])
