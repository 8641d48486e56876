"""``facesvc receipts``: what was signed when somebody was erased, fetched and checked."""

import base64
import json
from pathlib import Path
from typing import Annotated, Any

import typer
from google.protobuf.json_format import MessageToDict, ParseDict, ParseError

from facesvc.cli import times
from facesvc.cli.console import Json, Server, client_of, complain, print_json, say
from facesvc.cli.private_files import check_new, new_file
from facesvc.errors import InputError
from facesvc.gallery.crypto import is_signed
from facesvc.v1 import enrollment_pb2

app = typer.Typer(help="Receipts of erasures.", no_args_is_help=True)

# What of a receipt is not signed, because it is what is signed, or how.
_UNSIGNED = frozenset({"document", "signature", "public_key"})

ReceiptFile = Annotated[
    Path | None, typer.Option("--receipt", metavar="FILE", help="Write the receipt to this file, which is new.")
]


@app.command()
def show(
    context: typer.Context,
    receipt_id: Annotated[str, typer.Argument(metavar="RECEIPT", help="The receipt's id.")],
    *,
    file: ReceiptFile = None,
    server: Server = "",
    as_json: Json = False,
) -> None:
    """Fetch the receipt of an earlier erasure."""
    if file is not None:
        check_new(file)
    with client_of(context, server) as client:
        receipt = client.get_erasure_receipt(receipt_id)
    hand_out(receipt, file, as_json=as_json)


@app.command()
def verify(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A receipt, as --receipt or --json wrote it.")],
    *,
    public_key: Annotated[
        str, typer.Option(metavar="BASE64", help="The key of the gallery, where it is known: others are refused.")
    ] = "",
    as_json: Json = False,
) -> None:
    """Check the signature of a receipt, without a server; exit status 1 where it does not hold."""
    receipt = _read(file)
    problem = _problem(receipt, public_key)
    if as_json:
        print_json({"good": not problem, "problem": problem, **plain(receipt)})
    elif problem:
        complain(f"{file}: {problem}")
    else:
        say(f"the receipt is as it was signed under the key {base64.b64encode(receipt.public_key).decode()}")
        _print(receipt)
    if problem:
        raise typer.Exit(1)


def hand_out(receipt: enrollment_pb2.ErasureReceipt, file: Path | None, *, as_json: bool) -> None:
    """Print a receipt, and write it to a file where there is to be one."""
    if file is not None:
        with new_file(file) as out:
            out.write(json.dumps(plain(receipt), ensure_ascii=False, indent=1).encode() + b"\n")
    if as_json:
        print_json(plain(receipt))
    else:
        _print(receipt)


def plain(receipt: enrollment_pb2.ErasureReceipt) -> dict[str, Any]:
    """A receipt as the API writes it in JSON."""
    return MessageToDict(receipt, preserving_proto_field_name=True, always_print_fields_with_no_presence=True)


def _print(receipt: enrollment_pb2.ErasureReceipt) -> None:
    time = times.in_words(receipt.erase_time)
    say(f"erased {receipt.subject_id} and {len(receipt.sample_ids)} samples at {time}")
    say(
        f"with them {receipt.crop_count} kept pictures, {receipt.event_count} events"
        f" and {receipt.plugin_note_count} notes of plugins"
    )
    if receipt.backup_names:
        say(f"unreadable now in the backups {', '.join(receipt.backup_names)}")
    for backup in receipt.unreached_backups:
        complain(f"still readable in a backup, destroy it: {backup}")
    if receipt.box_ids:
        say(f"forgotten by {', '.join(receipt.box_ids)}")
    say(f"receipt {receipt.receipt_id}")


def _read(file: Path) -> enrollment_pb2.ErasureReceipt:
    try:
        value = json.loads(file.read_bytes())
        return ParseDict(value, enrollment_pb2.ErasureReceipt())
    except OSError as error:
        raise InputError(f"{file} cannot be read: {error.strerror or error}") from error
    except (ValueError, RecursionError, ParseError) as error:
        raise InputError(f"{file} is not a receipt: {error}") from error


def _problem(receipt: enrollment_pb2.ErasureReceipt, public_key: str) -> str:
    """Why the receipt proves nothing; empty where it does."""
    if public_key and base64.b64encode(receipt.public_key).decode() != public_key:
        return "it is signed under another key than the gallery's"
    if not is_signed(receipt.document.encode(), receipt.signature, receipt.public_key):
        return "the signature is not that of the document"
    said = plain(receipt)
    try:
        signed = json.loads(receipt.document)
        signed["erase_time"] = _time_in(signed)
    except (ValueError, RecursionError, KeyError, TypeError):
        return "what was signed is no receipt"
    if different := sorted(name for name in said.keys() - _UNSIGNED if said[name] != signed.get(name)):
        return f"it says something else than what was signed, of {', '.join(different)}"
    return ""


def _time_in(signed: dict[str, Any]) -> str:
    """The time of a document as the API writes it."""
    receipt = enrollment_pb2.ErasureReceipt()
    receipt.erase_time.FromJsonString(signed["erase_time"])
    return receipt.erase_time.ToJsonString()
