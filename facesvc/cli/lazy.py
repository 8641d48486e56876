"""Commands that are imported when they are asked for: a small one does not wait for what only large ones need."""

from collections.abc import Callable, Iterable, Mapping
from importlib import import_module
from importlib.metadata import EntryPoint
from typing import Any

import typer
from typer.core import TyperGroup
from typer.main import get_command, get_group

from facesvc.cli.console import complain

OURS = "facesvc.cli"


def group(places: Mapping[str, str], added: Callable[[], Iterable[EntryPoint]]) -> type[TyperGroup]:
    """A group of commands by their names.

    ``places``: ``MODULE:NAME`` in this package, of a function or a typer app. ``added``: what installed plugins bring,
    typer apps; one that cannot be loaded is told of, and the rest goes on.
    """

    class Group(TyperGroup):
        def __init__(self, **attributes: Any) -> None:
            super().__init__(**attributes)
            self._added = {entry.name: entry for entry in added() if entry.name not in places}
            for name in (*places, *self._added):
                self.commands[name] = _UNLOADED

        def get_command(self, ctx: Any, cmd_name: str) -> Any:
            if self.commands.get(cmd_name) is _UNLOADED:
                found = _ours(places[cmd_name]) if cmd_name in places else _of_a_plugin(self._added[cmd_name])
                if found is None:
                    del self.commands[cmd_name]
                else:
                    found.name = cmd_name
                    self.commands[cmd_name] = found
            return super().get_command(ctx, cmd_name)

    return Group


_UNLOADED: Any = object()
"""Stands for a command that nobody has asked for yet."""


def _ours(place: str) -> Any:
    module, _, name = place.partition(":")
    found = getattr(import_module(f"{OURS}.{module}"), name)
    return get_group(found) if isinstance(found, typer.Typer) else get_command(_alone(found))


def _alone(function: Callable[..., Any]) -> typer.Typer:
    app = typer.Typer(add_completion=False)
    app.command()(function)
    return app


def _of_a_plugin(entry: EntryPoint) -> Any:
    try:
        own, problem = entry.load(), ""
    except Exception as error:  # noqa: BLE001 - whatever importing somebody's package raises
        own, problem = None, str(error)
    if isinstance(own, typer.Typer):
        return get_group(own)
    words = f"the commands of plugin {entry.name} cannot be loaded: {problem or 'they are no typer app'}"
    complain(f"facesvc: {words}", style="yellow")
    return None
