"""``facesvc models migrate``: change the models of a running server, nobody enrolled again who need not be."""

from typing import Annotated

import typer
from google.protobuf import json_format
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from facesvc.cli.console import Json, Server, client_of, err, print_json, say
from facesvc.client import CallError
from facesvc.errors import InputError
from facesvc.v1 import admin_pb2

_STAGES = {
    admin_pb2.MIGRATION_STAGE_LOADING: "loading the pack",
    admin_pb2.MIGRATION_STAGE_EMBEDDING: "embedding the kept crops",
    admin_pb2.MIGRATION_STAGE_CHECKING: "checking that people recognise themselves",
    admin_pb2.MIGRATION_STAGE_SWITCHED: "switched",
}
# People listed in words; --json has them all.
_LISTED = 20


def migrate(
    context: typer.Context,
    *,
    name: Annotated[str, typer.Argument(help="The pack to change to.")] = "",
    rollback: Annotated[bool, typer.Option("--rollback", help="Back to the pack before the last migration.")] = False,
    skip_missing: Annotated[
        bool, typer.Option("--skip-missing", help="Change even though people without kept crops are not recognised.")
    ] = False,
    server: Server = "",
    as_json: Json = False,
) -> None:
    """Change the models of the running server; its streams go on.

    Everybody is embedded again from the crops that were kept at enrolment (enrollment.keep_crops). Whoever has none is
    listed and must be enrolled again. Ctrl-C stops it and changes nothing; a second try goes on where it stopped.
    """
    if bool(name) == rollback:
        raise InputError("name the pack to change to, or say --rollback", field="name")
    missing: list[admin_pb2.MissingSample] = []
    last = admin_pb2.MigrateGalleryResponse()
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with (
        client_of(context, server) as client,
        Progress(*columns, console=err, transient=True, disable=as_json or not err.is_terminal) as progress,
    ):
        bar = progress.add_task("")
        try:
            for last in client.migrate_gallery(name, rollback=rollback, skip_missing=skip_missing):
                missing = list(last.missing) or missing
                total = last.total_count or None
                progress.update(bar, description=_STAGES.get(last.stage, ""), completed=last.done_count, total=total)
        except CallError:
            _say_who(missing)
            raise
    if as_json:
        print_json(json_format.MessageToDict(last, preserving_proto_field_name=True))
        return
    _say_who(missing)
    pack = last.model_pack
    checked = f"{last.rank_one:.1%} of {last.done_count:,} crops find their own person first"
    say(
        f"{pack.name} is in use: {pack.embedded_sample_count:,} samples under {pack.embedding_contract},"
        f" {checked if last.done_count else 'not checked, for no crops are kept'}"
    )


def _say_who(missing: list[admin_pb2.MissingSample]) -> None:
    """Who would have to be enrolled again."""
    people = sorted({(sample.collection_id, sample.subject_id) for sample in missing})
    if not people:
        return
    more = f" and {len(people) - _LISTED:,} more" if len(people) > _LISTED else ""
    listed = ", ".join(f"{collection_id}/{subject_id}" for collection_id, subject_id in people[:_LISTED])
    say(f"to be enrolled again, for no crop of them is kept: {listed}{more}", to=err)
