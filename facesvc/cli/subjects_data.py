"""``facesvc subjects erase`` and ``export``: what a person may ask for."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from facesvc.cli import receipts
from facesvc.cli.console import Collection, Json, Server, SubjectId, client_of, complain, say
from facesvc.cli.private_files import check_new, new_file
from facesvc.errors import InputError
from facesvc.v1 import enrollment_pb2


def erase(
    context: typer.Context,
    subject_id: SubjectId,
    *,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    receipt_file: receipts.ReceiptFile = None,
    collection: Collection = "",
    server: Server = "",
    as_json: Json = False,
) -> None:
    """Forget a person and all samples for ever; prints the receipt."""
    if receipt_file is not None:
        check_new(receipt_file)
    with client_of(context, server) as client:
        if not yes:
            _confirm(client.get_subject(subject_id, collection_id=collection))
        receipt = client.erase_subject(subject_id, collection_id=collection)
    receipts.hand_out(receipt, receipt_file, as_json=as_json)


def export(
    context: typer.Context,
    subject_id: SubjectId,
    file: Annotated[Path, typer.Argument(metavar="FILE.zip", help="A new file, for its owner's eyes only.")],
    *,
    collection: Collection = "",
    server: Server = "",
) -> None:
    """Write everything that is known of a person into a ZIP archive."""
    check_new(file)
    size = 0
    with client_of(context, server) as client, new_file(file) as out:
        for piece in client.export_subject(subject_id, collection_id=collection):
            out.write(piece)
            size += len(piece)
    say(f"wrote {size} bytes about {subject_id} to {file}")


def _confirm(subject: enrollment_pb2.Subject) -> None:
    if not sys.stdin.isatty():
        raise InputError(f"erasing {subject.subject_id} cannot be undone: say --yes where nobody can be asked")
    say(f"{subject.display_name} ({subject.subject_id}) and {subject.sample_count} samples will be forgotten for ever.")
    if not typer.confirm("Erase?"):
        complain("nothing was erased")
        raise typer.Exit(1)
