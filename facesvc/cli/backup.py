"""``facesvc backup``: made by the running server; looked through and restored without one."""

import os
import sys
from collections.abc import Sequence
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from facesvc.backup import Backup, Shelf, keys_at_hand
from facesvc.backup.restore import Restore, Restored
from facesvc.cli.console import (
    Json,
    Server,
    cell,
    client_of,
    complain,
    err,
    out,
    print_json,
    say,
    settings_of,
    table_of,
)
from facesvc.cli.models_get import megabytes
from facesvc.client import Client
from facesvc.config import Settings
from facesvc.database.opening import open_database
from facesvc.errors import InputError, NotFoundError
from facesvc.gallery.keyring import KeySource
from facesvc.gallery.masterkey import sources
from facesvc.v1 import admin_pb2

app = typer.Typer(help="Backups of the gallery, sealed under its master key.", no_args_is_help=True)

LATEST = "latest"

Name = Annotated[str, typer.Argument(metavar="NAME", help="The backup's name, or latest.")]
Folder = Annotated[
    Path | None, typer.Option(metavar="DIR", help="The folder of the backups, without a server; none: as configured.")
]


@app.command()
def create(context: typer.Context, *, server: Server = "", as_json: Json = False) -> None:
    """Make a backup while everything goes on, and read it back."""
    with client_of(context, server) as client, err.status("copying, sealing and reading back"):
        made = _from_message(client.create_backup())
    if as_json:
        print_json(_plain(made))
    else:
        say(f"{made.name}: {made.subject_count:,} people, {megabytes(made.size_bytes)}, {_written(made)} of it new")


@app.command("list")
def list_(context: typer.Context, *, folder: Folder = None, server: Server = "", as_json: Json = False) -> None:
    """List the backups, oldest first."""
    if folder is None:
        with client_of(context, server) as client:
            found = _listed(client)
    else:
        shelf = _shelf(settings_of(context), folder)[0]
        found = [shelf.describe(name) for name in shelf.names()]
    _print(found, as_json=as_json)


@app.command()
def verify(
    context: typer.Context,
    name: Annotated[str, typer.Argument(metavar="NAME", help="The backup's name, or latest; none: all.")] = "",
    *,
    folder: Folder = None,
    as_json: Json = False,
) -> None:
    """Read backups whole and say what is wrong with them, which needs no server; exit status 1 where something is."""
    shelf = _shelf(settings_of(context), folder)[0]
    names = [_named(shelf, name)] if name else shelf.names()
    with err.status("reading"):
        found = [shelf.describe(one, verify=True) for one in names]
    _print(found, as_json=as_json)
    if any(backup.problem for backup in found):
        raise typer.Exit(1)


@app.command()
def restore(
    context: typer.Context,
    name: Name,
    *,
    folder: Folder = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    as_json: Json = False,
) -> None:
    """Put a backup in the place of the gallery; stop the server first.

    It needs the master key. The gallery that is there is kept beside it until the server has started again. Whoever was
    erased since is not brought back. An interruption changes nothing.
    """
    settings = settings_of(context)
    shelf, keys = _shelf(settings, folder)
    name = _named(shelf, name)
    if not yes and not settings.store.url and settings.gallery.path.exists():
        _confirm(settings.gallery.path, shelf.describe(name))
    with err.status("restoring"):
        restored = _restore(shelf, name, settings, keys)
    if as_json:
        print_json(_restored_as_json(restored))
    else:
        _say(restored, settings)


def _restore(shelf: Shelf, name: str, settings: Settings, keys: Sequence[KeySource]) -> Restored:
    way = Restore(shelf, name, keys, datetime.now(UTC), f"user {os.getuid()} at the box")
    if not settings.store.url:
        return way.to_file(settings.gallery.path)
    with closing(open_database(settings.store.url)) as database:
        return way.to_database(database)


def _shelf(settings: Settings, folder: Path | None) -> tuple[Shelf, list[KeySource]]:
    """The backups, and where the keys to them are."""
    folder = folder or settings.backup.folder
    if folder is None:
        raise InputError("say with --folder where the backups are, or set backup.folder", field="folder")
    keys = sources(settings.gallery)
    return Shelf(folder, keys_at_hand(keys)), keys


def _named(shelf: Shelf, name: str) -> str:
    if name != LATEST:
        return name
    names = shelf.names()
    if not names:
        raise NotFoundError(f"there is no backup in {shelf.folder.path}", field="name")
    return names[-1]


def _confirm(path: Path, backup: Backup) -> None:
    if not sys.stdin.isatty():
        raise InputError(f"there is a gallery at {path}: say --yes to restore a backup in its place", field="name")
    say(f"The gallery {path} will be as it was at {_time(backup.create_time)}, with {backup.subject_count:,} people.")
    if not typer.confirm("Restore?"):
        complain("nothing was changed")
        raise typer.Exit(1)


def _say(restored: Restored, settings: Settings) -> None:
    people = f"{restored.subject_count:,} people with {restored.sample_count:,} samples"
    say(f"restored {restored.name} of {_time(restored.create_time)}: {people}")
    if restored.still_erased:
        who = ", ".join(f"{collection_id}/{subject_id}" for collection_id, subject_id in restored.still_erased)
        say(f"erased since, and not brought back: {who}")
    if restored.problem:
        complain(f"the gallery until now could not be read, so whom it erased since is unknown: {restored.problem}")
    if restored.former is not None:
        say(f"the gallery until now is {restored.former} until the server has started again")
    if not settings.store.url:
        say("start the server: `facesvc serve`")


def _listed(client: Client) -> list[Backup]:
    return [_from_message(message) for message in client.list_backups()]


def _from_message(message: admin_pb2.Backup) -> Backup:
    return Backup(
        name=message.name,
        create_time=message.create_time.ToDatetime(UTC),
        subject_count=message.subject_count,
        size_bytes=message.size_bytes,
        new_bytes=message.new_bytes,
        problem=message.problem,
    )


def _print(found: Sequence[Backup], *, as_json: bool) -> None:
    if as_json:
        print_json([_plain(backup) for backup in found])
        return
    table = table_of("backup", "made", "people", "size", "new", "state")
    for one in found:
        figures = (f"{one.subject_count:,}", megabytes(one.size_bytes), _written(one)) if not one.problem else ("",) * 3
        table.add_row(cell(one.name), _time(one.create_time), *figures, cell(one.problem or "whole"))
    out.print(table)


def _written(backup: Backup) -> str:
    return megabytes(backup.new_bytes)


def _time(time: datetime) -> str:
    """A time for people, in the local zone."""
    return time.astimezone().strftime("%Y-%m-%d %H:%M:%S")


def _plain(backup: Backup) -> dict[str, Any]:
    return {
        "name": backup.name,
        "create_time": backup.create_time.isoformat(),
        "subject_count": backup.subject_count,
        "size_bytes": backup.size_bytes,
        "new_bytes": backup.new_bytes,
        "problem": backup.problem,
    }


def _restored_as_json(restored: Restored) -> dict[str, Any]:
    return {
        "name": restored.name,
        "create_time": restored.create_time.isoformat(),
        "subject_count": restored.subject_count,
        "sample_count": restored.sample_count,
        "still_erased": [
            {"collection_id": collection_id, "subject_id": subject_id}
            for collection_id, subject_id in restored.still_erased
        ],
        "problem": restored.problem,
        "former": restored.former,
    }
