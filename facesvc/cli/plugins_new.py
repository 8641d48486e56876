"""``facesvc plugins new``: a plugin to start from, which works and has its tests.

The files of ``plugin_skeleton`` are templates (``string.Template``), each with ``.txt`` after its name so that no tool
takes it for what it will be; NAME in a path is the plugin's name as Python writes it.
"""

import re
from collections.abc import Iterator
from importlib.resources import files
from importlib.resources.abc import Traversable
from importlib.util import find_spec
from pathlib import Path, PurePosixPath
from string import Template
from typing import Annotated

import typer

from facesvc.cli.console import printable, say
from facesvc.delivery.roll import installed
from facesvc.errors import AlreadyExistsError, InputError

_NAME = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")
_MAX_NAME_LENGTH = 40
OURS = ("attendance", "door", "graph", "mqtt", "nats", "webhook")
"""Plugins of this project: another of that name could never be installed beside them."""


def new(
    name: Annotated[str, typer.Argument(metavar="NAME", help="What it is called: a-z, 0-9 and hyphens.")],
    folder: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Where to write it.", show_default="./NAME")
    ] = None,
) -> None:
    """Write a plugin to start from: a distribution that works, with its tests. Nothing is overwritten."""
    _check_name(name)
    target = folder or Path(name)
    contents = skeleton(name)
    if there := [str(path) for path in contents if (target / path).exists()]:
        raise AlreadyExistsError(f"{target} has {', '.join(there)} already: choose another --folder", field="folder")
    for path, text in contents.items():
        (target / path).parent.mkdir(parents=True, exist_ok=True)
        with (target / path).open("x", encoding="utf-8") as file:
            file.write(text)
    say(f"{target} is a plugin that greets who arrives; now make it yours:")
    say(f"  pip install -e {target} pytest pytest-asyncio")
    say(f"  (cd {target} && pytest)")
    say(f"  and [plugins.{name}] in the settings of the server")


def skeleton(name: str) -> dict[PurePosixPath, str]:
    """The files of a new plugin, by their paths in its folder."""
    word = name.replace("-", "_")
    values = {"name": name, "word": word, "module": f"facesvc_{word}"}
    return {
        PurePosixPath(str(path).replace("NAME", word).removesuffix(".txt")): Template(text).substitute(values)
        for path, text in _templates(files("facesvc.cli") / "plugin_skeleton", PurePosixPath())
    }


def _templates(folder: Traversable, place: PurePosixPath) -> Iterator[tuple[PurePosixPath, str]]:
    for entry in sorted(folder.iterdir(), key=lambda one: one.name):
        path = place / entry.name
        if entry.is_dir():
            yield from _templates(entry, path)
        else:
            yield path, entry.read_text(encoding="utf-8")


def _check_name(name: str) -> None:
    if not _NAME.fullmatch(name) or len(name) > _MAX_NAME_LENGTH:
        raise InputError(
            f"{printable(name)!r} is no name for a plugin: 1 to {_MAX_NAME_LENGTH} lower-case letters, digits and"
            " single hyphens, a letter first",
            field="name",
        )
    taken = {*OURS, *(one.name for one in installed())}
    if name in taken or find_spec(f"facesvc_{name.replace('-', '_')}") is not None:
        raise AlreadyExistsError(f"there is a plugin {name} already: choose another name", field="name")
