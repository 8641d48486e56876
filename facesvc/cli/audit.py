"""``facesvc audit``: who did what with people's data, and whether the log of it is as it was written."""

from itertools import islice
from typing import Annotated

import typer

from facesvc.cli import times
from facesvc.cli.console import Json, Server, client_of, complain, print_json, say
from facesvc.client import Client
from facesvc.errors import InputError
from facesvc.v1 import admin_pb2

_HASH_BYTES = 32

app = typer.Typer(help="Who did what with people's data.", no_args_is_help=True)


@app.command("list")
def list_(
    context: typer.Context,
    *,
    begin: times.From = "",
    end: times.To = "",
    action: Annotated[str, typer.Option(metavar="CALL", help="Only this, such as EraseSubject.")] = "",
    subject: Annotated[str, typer.Option(metavar="ID", help="Only about this person, known or erased.")] = "",
    limit: Annotated[int, typer.Option(min=0, help="Stop after so many entries; 0: never.")] = 0,
    server: Server = "",
    as_json: Json = False,
) -> None:
    """Print what was done, oldest first, a line an entry."""
    start_time, end_time = times.beginning(begin), times.end(end)
    with client_of(context, server) as client:
        found = client.list_audit(start_time=start_time, end_time=end_time, action=action, subject_id=subject)
        for entry in islice(found, limit or None):
            if as_json:
                print_json(_as_json(entry))
            else:
                say(_in_words(entry))


@app.command()
def verify(
    context: typer.Context,
    *,
    known: Annotated[
        str, typer.Option("--contains", metavar="HASH", help="A last hash from before, which has to be in the log.")
    ] = "",
    server: Server = "",
    as_json: Json = False,
) -> None:
    """Find out whether the log is as it was written; exit status 1 where it is not.

    Keep the last hash somewhere else: with --contains it proves later that the log was not put back to an older state.
    """
    wanted = _hash_of(known)
    with client_of(context, server) as client:
        found = client.verify_audit()
        missing = bool(wanted) and not _contains(client, wanted)
    is_good = not found.broken_sequence and not missing
    if as_json:
        print_json(
            {
                "good": is_good,
                "entry_count": found.entry_count,
                "broken_sequence": found.broken_sequence,
                "message": found.message,
                "last_hash": found.last_hash.hex(),
                "contains": None if not wanted else not missing,
            }
        )
    else:
        (complain if found.broken_sequence else say)(found.message)
        if missing:
            complain(
                f"no entry has the hash {known}: the log was put back to an earlier state, or it is past retention"
            )
        say(f"entries {found.entry_count}, last hash {found.last_hash.hex()}")
    if not is_good:
        raise typer.Exit(1)


def _hash_of(text: str) -> bytes:
    try:
        digest = bytes.fromhex(text)
    except ValueError:
        digest = b"?"
    if len(digest) not in {0, _HASH_BYTES}:
        raise InputError(f"{text!r} is no hash: it has {2 * _HASH_BYTES} hexadecimal digits")
    return digest


def _contains(client: Client, wanted: bytes) -> bool:
    return any(entry.hash == wanted for entry in client.list_audit(page_size=1000))


def _in_words(entry: admin_pb2.AuditEntry) -> str:
    about = "/".join(part for part in (entry.collection_id, entry.subject_id) if part)
    detail = f"({entry.detail})" if entry.detail else ""
    words = (f"{entry.sequence:>6}", times.in_words(entry.time), entry.action, about, detail, f"by {entry.actor}")
    return "  ".join(word for word in words if word)


def _as_json(entry: admin_pb2.AuditEntry) -> dict[str, object]:
    return {
        "sequence": entry.sequence,
        "time": entry.time.ToJsonString(),
        "actor": entry.actor,
        "action": entry.action,
        "collection_id": entry.collection_id,
        "subject_id": entry.subject_id,
        "detail": entry.detail,
        "hash": entry.hash.hex(),
    }
