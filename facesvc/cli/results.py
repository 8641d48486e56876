"""Results of recognition in words and as JSON."""

from collections.abc import Iterable
from typing import Annotated, Any

import typer
from rich.table import Table

from facesvc.cli.console import cell
from facesvc.cli.draw import name_of, outcome_name
from facesvc.v1 import common_pb2, recognition_pb2

Policy = Annotated[str, typer.Option("--policy", help="Name of the policy to decide by; empty: presence.")]

_STYLES = {common_pb2.OUTCOME_MATCH: "green", common_pb2.OUTCOME_SPOOF: "red"}


def similarity_of(face: recognition_pb2.RecognizedFace) -> float | None:
    """The similarity to the match, or else to the best candidate; None where nobody is enrolled."""
    decision = face.decision
    if decision.HasField("subject"):
        return decision.subject.similarity
    return decision.candidates[0].similarity if decision.candidates else None


def faces_in_words(faces: Iterable[recognition_pb2.RecognizedFace]) -> str:
    """Everybody in one line, such as ``Jane Doe 0.95, unknown 0.41``; ``nobody`` where there is no face."""
    return ", ".join(f"{name_of(face)} {_number(similarity_of(face))}".rstrip() for face in faces) or "nobody"


def faces_table(faces: Iterable[recognition_pb2.RecognizedFace], *, candidates: bool) -> Table:
    """A row a face: who, how similar, which outcome; with ``candidates`` also whom else it could be."""
    table = Table.grid(padding=(0, 2))
    for face in faces:
        decision = face.decision
        is_match = decision.outcome == common_pb2.OUTCOME_MATCH
        others = (f"{one.display_name or one.subject_id} {one.similarity:.3f}" for one in decision.candidates)
        table.add_row(
            "",
            cell(outcome_name(decision.outcome), _STYLES.get(decision.outcome, "yellow")),
            cell(_number(similarity_of(face))),
            cell(name_of(face) if is_match else decision.low_quality_reason),
            cell(f"candidates: {', '.join(others)}" if candidates else "", "dim"),
        )
    return table


def answer_as_json(answer: recognition_pb2.SearchResponse | recognition_pb2.FrameResult) -> dict[str, Any]:
    """A picture or frame for programs."""
    return {
        "width": answer.width,
        "height": answer.height,
        "faces": [face_as_json(face) for face in answer.faces],
        "faces_omitted": answer.faces_omitted,
    }


def box_as_json(box: common_pb2.BoundingBox) -> dict[str, float]:
    """A box, in pixels."""
    return {"left": box.left, "top": box.top, "width": box.width, "height": box.height}


def face_as_json(face: recognition_pb2.RecognizedFace) -> dict[str, Any]:
    """A face and its decision."""
    decision = face.decision
    return {
        "box": box_as_json(face.face.box),
        "detection_score": face.face.detection_score,
        "quality": face.face.quality.score,
        "outcome": outcome_name(decision.outcome),
        "subject_id": decision.subject.subject_id,
        "display_name": decision.subject.display_name,
        "similarity": similarity_of(face),
        "threshold": decision.threshold,
        "low_quality_reason": decision.low_quality_reason,
        "decision_id": decision.decision_id,
        "sample_id": decision.subject.sample_id,
        "candidates": [
            {
                "subject_id": one.subject_id,
                "display_name": one.display_name,
                "similarity": one.similarity,
                "sample_id": one.sample_id,
            }
            for one in decision.candidates
        ],
    }


def _number(similarity: float | None) -> str:
    return "" if similarity is None else f"{similarity:.3f}"
