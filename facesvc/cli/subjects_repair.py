"""``facesvc subjects merge``, ``split`` and ``correct``: what turns out to be wrong in a gallery, set right."""

import sys
from typing import Annotated

import typer
from google.protobuf.json_format import MessageToDict

from facesvc.cli.console import Collection, Json, Server, SubjectId, client_of, complain, print_json, say
from facesvc.errors import InputError
from facesvc.v1 import enrollment_pb2

SampleId = Annotated[str, typer.Argument(metavar="SAMPLE", help="The sample's id, as `subjects show` lists it.")]


def merge(
    context: typer.Context,
    subject_id: Annotated[str, typer.Argument(metavar="KEEP", help="Who stays.")],
    merged_id: Annotated[str, typer.Argument(metavar="OTHER", help="The same person's other entry, which is erased.")],
    *,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    collection: Collection = "",
    server: Server = "",
    as_json: Json = False,
) -> None:
    """Make one person of two entries: the samples of OTHER become those of KEEP."""
    with client_of(context, server) as client:
        if not yes:
            both = [client.get_subject(one, collection_id=collection) for one in (subject_id, merged_id)]
            _confirm(*both)
        merged = client.merge_subjects(subject_id, merged_id, collection_id=collection)
    if as_json:
        print_json(MessageToDict(merged, preserving_proto_field_name=True, always_print_fields_with_no_presence=True))
        return
    say(f"{merged_id} is {subject_id} now, who has {merged.subject.sample_count} samples")
    say(f"receipt {merged.receipt.receipt_id}")


def split(
    context: typer.Context,
    subject_id: SubjectId,
    sample_ids: Annotated[
        list[str], typer.Argument(metavar="SAMPLE...", help="Samples of somebody else, as `subjects show` lists them.")
    ],
    *,
    to: Annotated[
        str, typer.Option(metavar="ID", help="Whose they are, known or new; empty: a new person, whose id is chosen.")
    ] = "",
    name: Annotated[str, typer.Option(help="The new person's name, for people to read.")] = "",
    collection: Collection = "",
    server: Server = "",
    as_json: Json = False,
) -> None:
    """Make some samples of a person those of somebody else."""
    with client_of(context, server) as client:
        other = client.split_subject(
            subject_id, sample_ids, new_subject_id=to, display_name=name, collection_id=collection
        )
    if as_json:
        print_json(MessageToDict(other, preserving_proto_field_name=True, always_print_fields_with_no_presence=True))
    else:
        say(f"{other.subject_id} has {other.sample_count} samples now")


def correct(
    context: typer.Context,
    subject_id: SubjectId,
    sample_id: SampleId,
    *,
    actual: Annotated[
        str, typer.Option(metavar="ID", help="Whom the sample shows; empty: nobody who is known, and it is removed.")
    ] = "",
    decision: Annotated[str, typer.Option(metavar="ID", help="The decision that was wrong, for the record.")] = "",
    collection: Collection = "",
    server: Server = "",
) -> None:
    """Say that a match was wrong because the sample it was made by does not show the person: "this was not her".

    `facesvc recognize --json` tells which sample a face was most like.
    """
    with client_of(context, server) as client:
        client.correct_match(
            subject_id, sample_id, actual_subject_id=actual, decision_id=decision, collection_id=collection
        )
    say(f"sample {sample_id} is {actual}'s now" if actual else f"sample {sample_id} of {subject_id} is gone")


def _confirm(kept: enrollment_pb2.Subject, merged: enrollment_pb2.Subject) -> None:
    if not sys.stdin.isatty():
        raise InputError("merging two people cannot be undone: say --yes where nobody can be asked")
    say(
        f"{merged.display_name} ({merged.subject_id}) and {kept.display_name} ({kept.subject_id}) will be one person,"
        f" {kept.subject_id}; {merged.subject_id} is erased."
    )
    if not typer.confirm("Merge?"):
        complain("nothing was changed")
        raise typer.Exit(1)
