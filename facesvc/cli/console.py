"""What the commands share: where they print, the settings they run under, and the server they talk to."""

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from facesvc.config import Settings

out = Console()
"""Results."""
err = Console(stderr=True)
"""Progress and complaints."""

Json = Annotated[bool, typer.Option("--json", help="Print JSON for programs instead of a table.")]
Server = Annotated[
    str, typer.Option("--server", metavar="HOST:PORT", help="Where the server listens; empty: as configured.")
]
Collection = Annotated[str, typer.Option("--collection", help="The gallery of people to use.")]


def settings_of(context: typer.Context) -> Settings:
    """The settings that the command runs under."""
    settings = context.obj
    assert isinstance(settings, Settings)
    return settings


def address_of(context: typer.Context, server: str) -> str:
    """The address of the server: as given on the command line, else as configured."""
    return server or settings_of(context).server.listen


def print_json(value: Any) -> None:
    """One JSON value on one line of standard output, for programs."""
    sys.stdout.write(json.dumps(value, ensure_ascii=False, default=_plain) + "\n")
    sys.stdout.flush()


def _plain(value: Any) -> Any:
    if isinstance(value, Path):
        return str(value)
    raise TypeError(f"{type(value).__name__} has no JSON form")
