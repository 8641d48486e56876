"""What the commands share: where they print, the settings they run under, and the server they talk to."""

import json
import os
import re
import sys
import unicodedata
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Column, Table
from rich.text import Text

from facesvc.client import CallError, Client, Credentials
from facesvc.config import ClientSettings, Settings
from facesvc.errors import ConfigError, FacesvcError

out = Console()
"""Results."""
err = Console(stderr=True)
"""Progress and complaints."""

Json = Annotated[bool, typer.Option("--json", help="Print JSON for programs instead of a table.")]
Server = Annotated[
    str, typer.Option("--server", metavar="HOST:PORT", help="Where the server listens; empty: as configured.")
]
SubjectId = Annotated[str, typer.Argument(metavar="ID", help="The person's subject_id.")]
Collection = Annotated[str, typer.Option("--collection", help="The gallery of people to use.")]

# Control characters, halves of a surrogate pair, line and paragraph breaks. And what has no width or turns the
# direction of the text around, by which one name can be made to look like another (https://www.unicode.org/reports/tr36/),
# but for the joiners that some scripts are written with, and that hold emoji together.
_UNPRINTABLE = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})
_JOINERS = frozenset("\u200c\u200d")
# The same of what JSON leaves as it is.
_STEERING = re.compile(
    "[\x7f-\x9f\xad\u061c\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb\U000e0000-\U000e007f]"
)


def run(app: typer.Typer, arguments: Sequence[str] | None = None) -> None:
    """Run a command line (none: that of the process); what cannot be carried out is one line and exit status 2."""
    try:
        app(arguments)
    except (FacesvcError, CallError, OSError) as error:
        complain(f"facesvc: {error}", style="red")
        sys.exit(2)


def settings_of(context: typer.Context) -> Settings:
    """The settings that the command runs under."""
    settings = context.obj
    assert isinstance(settings, Settings)
    return settings


def address_of(context: typer.Context, server: str) -> str:
    """The address of the server: as given on the command line, else as configured."""
    settings = settings_of(context)
    return server or settings.client.address or settings.server.listen


def client_of(context: typer.Context, server: str) -> Client:
    """A client of the server. Raises ``ConfigError`` where what it is to show cannot be read."""
    return Client(address_of(context, server), credentials=credentials_of(settings_of(context).client))


def credentials_of(settings: ClientSettings) -> Credentials | None:
    """What the commands show to the server; None for plain text. Raises ``ConfigError``."""
    if settings.ca_file is None:
        return None
    try:
        token = os.environ.get("FACESVC_TOKEN", "") or (settings.token_file.read_text() if settings.token_file else "")
        return Credentials(ca=settings.ca_file.read_bytes(), token=token.strip())
    except OSError as error:
        raise ConfigError(f"client: {error.filename} cannot be read: {error.strerror}") from error


def printable(text: str) -> str:
    """Text of somebody else's (a name, a file's name) in one line, without what could steer the terminal."""
    line = " ".join(text.splitlines())
    return "".join(one for one in line if one in _JOINERS or unicodedata.category(one) not in _UNPRINTABLE)


def cell(text: str, style: str = "") -> Text:
    """A text as a table's cell, exactly as it stands: no markup, no emoji codes, no control characters."""
    return Text(printable(text), style=style)


def table_of(*columns: str) -> Table:
    """A table whose cells are folded where they are too long, never cut: ids are there to be copied."""
    return Table(*(Column(name, overflow="fold") for name in columns))


def say(text: str, *, style: str = "", to: Console = out) -> None:
    """One line, exactly as it stands."""
    to.print(cell(text, style), soft_wrap=True)


def complain(text: str, *, style: str = "yellow") -> None:
    """One line about what is not as it should be."""
    say(text, style=style, to=err)


def print_json(value: Any) -> None:
    """One JSON value on one line of standard output, for programs.

    What UTF-8 cannot hold is escaped, and what could steer a terminal, or that some take for the end of a line.
    """
    text = json.dumps(value, ensure_ascii=False, default=_plain)
    line = _STEERING.sub(lambda found: json.dumps(found[0])[1:-1], text) + "\n"
    sys.stdout.write(line.encode("utf-8", "backslashreplace").decode("utf-8"))
    sys.stdout.flush()


def _plain(value: Any) -> Any:
    if isinstance(value, Path):
        return str(value)
    raise TypeError(f"{type(value).__name__} has no JSON form")
