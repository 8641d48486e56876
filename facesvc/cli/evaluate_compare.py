"""``facesvc evaluate --compare``: packs side by side, what they recognise and what they cost."""

import statistics
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
from rich.table import Table

from facesvc.cli.console import cell
from facesvc.cli.evaluation import Evaluation
from facesvc.cli.samples import GROUP, sample_picture
from facesvc.errors import InputError
from facesvc.models.calibration import supports
from facesvc.models.packs import Pack
from facesvc.vision.detection import MinimumFace
from facesvc.vision.pipeline import Pipeline

TMR_RATES = (1e-3, 1e-4, 1e-5)
_TAR_RATE = 1e-3
# A group as a camera sees it; so many rounds and pictures that a median of them stands still.
_FRAME_FACE = MinimumFace(60.0)
_CHIP_FACE = MinimumFace(40.0)
_FRAMES = 15
_CHIPS = 100
_MAX_FACES = 32


@dataclass(frozen=True, slots=True)
class Cost:
    """Medians in one thread: milliseconds to embed one face, and to find those of one frame."""

    face_ms: float
    frame_ms: float


@dataclass(frozen=True, slots=True)
class Row:
    """All about one pack."""

    pack: Pack
    evaluation: Evaluation
    cost: Cost

    @property
    def size_bytes(self) -> int:
        """What it takes on the disk."""
        return sum(file.size_bytes for file in self.pack.files)


def costs(pipelines: Sequence[Pipeline], pictures: Sequence[Path]) -> list[Cost]:
    """What each pipeline costs; faces come from ``pictures``, evenly chosen, and frames are the bundled group.

    The pipelines take turns, so that whatever else the machine does hits all of them alike; their networks were loaded
    with one thread.
    """
    group = sample_picture(GROUP)
    frames: list[list[float]] = [[] for _ in pipelines]
    faces: list[list[float]] = [[] for _ in pipelines]
    with _one_thread():
        for pipeline in pipelines:
            pipeline.embed(group, _FRAME_FACE, _MAX_FACES)  # the first run of a network is slower than all others
        for _ in range(_FRAMES):
            for pipeline, times in zip(pipelines, frames, strict=True):
                times.append(pipeline.detect(group, _FRAME_FACE, _MAX_FACES).times.seconds["detect"])
        for path in pictures[:: max(1, len(pictures) // _CHIPS)]:
            data = path.read_bytes()
            for pipeline, times in zip(pipelines, faces, strict=True):
                analysis = pipeline.embed(data, _CHIP_FACE, _MAX_FACES)
                times.extend([analysis.times.seconds["embed"] / len(analysis.faces)] if analysis.faces else [])
    if not all(faces):
        raise InputError("a pack found no face in any of the pictures: nothing can be timed", field="compare")
    return [
        Cost(1000 * statistics.median(face), 1000 * statistics.median(frame))
        for face, frame in zip(faces, frames, strict=True)
    ]


def as_object(row: Row) -> dict[str, Any]:
    """A pack's line, for programs."""
    verified, identified = row.evaluation.verification, row.evaluation.identification
    tmr = {f"{point.fmr:.0e}": point.tmr for point in identified.points if point.fmr in TMR_RATES} if identified else {}
    return {
        "pack": row.pack.name,
        "accuracy": verified.accuracy,
        "accuracy_std": verified.deviation,
        "tar": _tar(row),
        "rank1": identified.rank_one if identified else None,
        "tmr": tmr,
        "impostor_pairs": len(identified.scores.impostor) if identified else 0,
        "missed": len(row.evaluation.missed),
        "face_ms": round(row.cost.face_ms, 3),
        "frame_ms": round(row.cost.frame_ms, 3),
        "size_bytes": row.size_bytes,
        "licences": row.pack.licences,
    }


def as_rich(rows: Sequence[Row]) -> Table:
    """The packs as columns: there are more figures than packs."""
    table = Table("figure", title="Packs side by side", caption="* too few impostor pairs to tell; times: one thread")
    for row in rows:
        table.add_column(cell(row.pack.name), justify="right", overflow="fold")
    for label, values in _lines(rows):
        table.add_row(label, *(cell(value) for value in values))
    return table


def _lines(rows: Sequence[Row]) -> Iterator[tuple[str, list[str]]]:
    verified = [row.evaluation.verification for row in rows]
    yield "accuracy", [f"{each.accuracy:.2%} ± {100 * each.deviation:.2f}" for each in verified]
    yield f"TAR at FAR {_TAR_RATE:.0e}", [f"{_tar(row):.2%}" for row in rows]
    if rows[0].evaluation.identification:
        yield "rank 1", [f"{each.rank_one:.2%}" for row in rows if (each := row.evaluation.identification)]
        for rate in TMR_RATES:
            yield f"TMR at FMR {rate:.0e}", [_tmr(row, rate) for row in rows]
    yield "pictures without a face", [str(len(row.evaluation.missed)) for row in rows]
    yield "ms a face", [f"{row.cost.face_ms:.1f}" for row in rows]
    yield "ms a frame", [f"{row.cost.frame_ms:.1f}" for row in rows]
    yield "MB on disk", [f"{row.size_bytes / 1e6:.1f}" for row in rows]
    yield "licences", ["; ".join(row.pack.licences) for row in rows]


def _tar(row: Row) -> float:
    return next(point.tmr for point in row.evaluation.verification.points if point.fmr == _TAR_RATE)


def _tmr(row: Row, rate: float) -> str:
    identified = row.evaluation.identification
    assert identified
    tmr = next(point.tmr for point in identified.points if point.fmr == rate)
    return f"{tmr:.2%}{'' if supports(len(identified.scores.impostor), rate) else ' *'}"


@contextmanager
def _one_thread() -> Iterator[None]:
    """Keeps opencv, which scales and turns pictures, to one thread as well."""
    before = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        yield
    finally:
        cv2.setNumThreads(before)
