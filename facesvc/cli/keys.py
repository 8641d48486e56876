"""``facesvc keys``: the master key, under which everything that is known of people is sealed."""

from dataclasses import asdict, dataclass

import typer

from facesvc.cli.console import Json, Server, cell, client_of, err, out, print_json, say, settings_of, table_of
from facesvc.errors import FacesvcError
from facesvc.gallery.keyring import KeySource
from facesvc.gallery.masterkey import KeyFile, present, sources

app = typer.Typer(help="The master key of the gallery.", no_args_is_help=True)


@dataclass(frozen=True)
class _Key:
    source: str
    role: str
    problem: str


@app.command()
def rotate(context: typer.Context, *, server: Server = "", as_json: Json = False) -> None:
    """Exchange the master key for a new one, while everything goes on; Ctrl-C interrupts it, a second try goes on.

    Only where the key is in a file of this box; where not, the answer says how it is exchanged.
    """
    with client_of(context, server) as client, err.status("wrapping all keys anew"):
        count = client.rotate_key()
    if as_json:
        print_json({"key_count": count})
        return
    say(f"{count:,} keys are under a new master key; put a copy of it where the old one was kept")
    say("copies of the backup folder that were made before still need the old one: copy the folder again")


@app.command()
def status(context: typer.Context, *, as_json: Json = False) -> None:
    """Say where the master key comes from, and whether it is there, without a server; exit status 1 where it is not.

    Whether it is the one that the gallery was sealed with shows when the server starts.
    """
    settings = settings_of(context).gallery
    ours = present(settings)
    keys = [_looked_at(source, ours) for source in sources(settings)]
    if as_json:
        print_json([asdict(key) for key in keys])
    else:
        table = table_of("master key", "is", "state")
        for key in keys:
            table.add_row(cell(key.source), cell(key.role), cell(key.problem or "there"))
        out.print(table)
    if any(key.problem for key in keys):
        raise typer.Exit(1)


def _looked_at(source: KeySource, ours: KeySource) -> _Key:
    if isinstance(ours, KeyFile) and source == ours.next:
        role = "the next one, while keys are wrapped anew"
    else:
        role = "in use" if source == ours or str(source) == str(ours) else "the one before"
    try:
        problem = "" if source.read() is not None else "is not there"
    except FacesvcError as error:
        problem = error.message
    return _Key(str(source), role, problem)
