"""``facesvc gallery``: what is doubtful in a gallery."""

from typing import Annotated

import typer

from facesvc.cli.console import Collection, Json, Server, cell, client_of, out, print_json, say, table_of
from facesvc.v1 import enrollment_pb2

app = typer.Typer(help="The gallery as a whole.", no_args_is_help=True)

_PREFIX = "FINDING_KIND_"


@app.command()
def check(
    context: typer.Context,
    *,
    collection: Collection = "",
    limit: Annotated[int, typer.Option(min=1, max=1000, help="The worst so many.")] = 100,
    server: Server = "",
    as_json: Json = False,
) -> None:
    """Find what is doubtful, the worst first, each with what to do; exit 1 when something was found.

    That is one picture of two people, samples that are not like their person's others, two people who look like one,
    and people who can hardly be recognised, or not at all.
    """
    with client_of(context, server) as client:
        findings = list(client.check_gallery(collection_id=collection, max_findings=limit))
    if as_json:
        print_json([_as_json(finding) for finding in findings])
    elif findings:
        table = table_of("Kind", "Who", "What, and what to do")
        for finding in findings:
            who = " ".join(filter(None, (finding.subject_id, finding.other_subject_id)))
            table.add_row(cell(_kind(finding)), cell(who), cell(finding.message))
        out.print(table)
        if len(findings) == limit:
            say(f"these are the worst {limit}; there may be more")
    else:
        say("nothing is doubtful")
    raise typer.Exit(1 if findings else 0)


def _kind(finding: enrollment_pb2.CheckGalleryResponse) -> str:
    return enrollment_pb2.FindingKind.Name(finding.kind).removeprefix(_PREFIX)


def _as_json(finding: enrollment_pb2.CheckGalleryResponse) -> dict[str, object]:
    return {
        "kind": _kind(finding),
        "subject_id": finding.subject_id,
        "other_subject_id": finding.other_subject_id,
        "sample_ids": list(finding.sample_ids),
        "similarity": finding.similarity,
        "false_match_rate": finding.false_match_rate,
        "message": finding.message,
    }
