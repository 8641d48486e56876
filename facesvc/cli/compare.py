"""``facesvc compare``: say whether the people of two pictures are the same."""

from pathlib import Path
from typing import Annotated, Any

import typer

from facesvc.cli.console import Json, Server, client_of, complain, out, print_json, say, table_of
from facesvc.cli.pictures import read
from facesvc.cli.results import Policy, box_as_json
from facesvc.client import CallError
from facesvc.errors import ImageError
from facesvc.v1 import recognition_pb2

_WITHHELD = -1.0


def compare(
    context: typer.Context,
    reference: Annotated[Path, typer.Argument(metavar="A", help="The person in question; the largest face counts.")],
    picture: Annotated[Path, typer.Argument(metavar="B", help="The picture to look in.")],
    *,
    policy: Policy = "",
    server: Server = "",
    as_json: Json = False,
) -> None:
    """Compare the faces of B with the largest of A; exit 1 when none is the same person."""
    with client_of(context, server) as client:
        max_bytes = client.server_info().limits.max_image_bytes
        pictures = {"reference.data": reference, "image.data": picture}
        try:
            answer = client.compare(*(read(path, max_bytes) for path in pictures.values()), policy=policy)
        except CallError as error:
            if error.field in pictures:
                raise ImageError(f"{pictures[error.field]}: {error}", reason=error.reason) from error
            raise
    if as_json:
        print_json(_as_json(answer))
    else:
        _print(answer, reference, picture)
    raise typer.Exit(0 if any(face.same_person for face in answer.faces) else 1)


def _print(answer: recognition_pb2.CompareResponse, reference: Path, picture: Path) -> None:
    if not answer.HasField("reference_face"):
        complain(f"{reference} shows no face to compare with")
        return
    if not answer.faces:
        complain(f"{picture} shows no face")
        return
    table = table_of("Face", "Similarity", "Distance", "Same person")
    for face in answer.faces:
        box = face.face.box
        table.add_row(
            f"{box.width:.0f} x {box.height:.0f} at {box.left:.0f}, {box.top:.0f}",
            *_numbers(face),
            "yes" if face.same_person else "no",
            style="green" if face.same_person else "",
        )
    out.print(table)
    say(
        f"the same person from a similarity of {answer.threshold:.3f} on: a false-match rate (FMR) of"
        f" {answer.false_match_rate:g}"
    )


def _numbers(face: recognition_pb2.ComparedFace) -> tuple[str, str]:
    """Similarity and distance; who is no administrator is told of strangers that they are below the threshold."""
    if face.similarity <= _WITHHELD:
        return "below", ""
    return f"{face.similarity:.3f}", f"{face.distance:.3f}"


def _as_json(answer: recognition_pb2.CompareResponse) -> dict[str, Any]:
    return {
        "reference_box": box_as_json(answer.reference_face.box) if answer.HasField("reference_face") else None,
        "faces": [
            {
                "box": box_as_json(face.face.box),
                "similarity": face.similarity,
                "distance": face.distance,
                "same_person": face.same_person,
            }
            for face in answer.faces
        ],
        "threshold": answer.threshold,
        "false_match_rate": answer.false_match_rate,
    }
