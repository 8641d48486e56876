"""What deploy/SECURITY.md names is there: tests, settings with their defaults, commands."""

import ast
import re
import shlex
import tomllib
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import typer

from facesvc.cli import commands
from facesvc.config import Settings

ROOT = Path(__file__).resolve().parents[2]
TEXT = (ROOT / "deploy" / "SECURITY.md").read_text()
ATTACKERS = ("network", "tls", "flood", "visitor", "insider", "stolen_box", "tampering")


@cache
def names_in(path: Path) -> set[str]:
    tree = ast.parse(path.read_text())
    return {
        node.name
        for node in tree.body
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_")
    }


def named() -> set[tuple[str, str]]:
    """The tests that the document names, as file and name."""
    return set(re.findall(r"`([\w/.]+\.py)::(\w+)`", TEXT))


def file_of(name: str) -> Path:
    return (ROOT if "/" in name else ROOT / "tests" / "attackers") / name


def test_every_test_that_is_named_exists() -> None:
    found = named()
    assert len(found) > 50
    assert [f"{file}::{name}" for file, name in sorted(found) if name not in names_in(file_of(file))] == []


@pytest.mark.parametrize("attacker", ATTACKERS)
def test_every_attack_is_in_the_document(attacker: str) -> None:
    file = f"test_{attacker}.py"
    assert names_in(file_of(file)) == {name for where, name in named() if where == file}


def defaults() -> dict[str, Any]:
    settings = Settings.model_construct()
    return {
        f"{section}.{name}": getattr(getattr(settings, section), name)
        for section in Settings.model_fields
        if section not in {"policies", "plugins"}
        for name in type(getattr(settings, section)).model_fields
    }


def test_every_setting_has_the_default_that_is_stated() -> None:
    known = defaults()
    stated = dict(re.findall(r"^\| `(\w+\.\w+)` \| `([^`]*)` \|", TEXT, re.MULTILINE))
    assert len(stated) > 20
    for name, value in stated.items():
        assert known[name] == tomllib.loads(f"value = {value}")["value"], name


def test_every_setting_that_is_named_exists() -> None:
    sections = "|".join(Settings.model_fields)
    found = set(re.findall(rf"`((?:{sections})\.\w+)\b", TEXT))
    assert len(found) > 20
    assert found - defaults().keys() == set()


def said() -> list[str]:
    """The commands, in blocks and in the text."""
    blocks = "".join(re.findall(r"^```console\n(.*?)^```", TEXT, re.DOTALL | re.MULTILINE))
    lines = [line.partition("#")[0].strip() for line in blocks.splitlines()]
    return [*(line for line in lines if line.startswith("facesvc ")), *re.findall(r"`(facesvc [^`]*)`", TEXT)]


@pytest.mark.parametrize("command", sorted(set(said())))
def test_every_command_parses(command: str) -> None:
    words = [word for word in shlex.split(command, comments=True)[1:] if word not in {"--config", "NEW/facesvc.toml"}]
    found: Any = typer.main.get_command(commands.app)
    while hasattr(found, "get_command") and words:
        found = found.get_command(None, words.pop(0))
        assert found is not None, command
    if words:  # else it is only named
        found.make_context("facesvc", words)


def test_there_are_commands() -> None:
    assert len(set(said())) > 15
