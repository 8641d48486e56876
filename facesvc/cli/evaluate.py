"""``facesvc evaluate``: the error rates of a pack, measured on Labeled Faces in the Wild. Needs no server."""

import time
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from facesvc.cli.console import Json, err, out, print_json, settings_of
from facesvc.cli.evaluation import Evaluation, Identification, Look, figures, looks
from facesvc.cli.evaluation_plot import check_plottable, draw
from facesvc.cli.lfw import Photo, Protocol, read_protocol
from facesvc.config import Settings
from facesvc.engine import image_limits, load_models
from facesvc.vision.detection import MinimumFace
from facesvc.vision.scores import OperatingPoint


def evaluate(
    context: typer.Context,
    lfw: Annotated[Path, typer.Option(metavar="DIR", help="The folder with pairs.txt and images/.")],
    pack: Annotated[str, typer.Option(help="The model pack to measure; empty: as configured.")] = "",
    minimum_face: Annotated[float, typer.Option(help="Side of the smallest face looked for, in pixels.")] = 40.0,
    as_json: Json = False,
    plot: Annotated[
        Path | None, typer.Option(metavar="FILE.png", help="Draw ROC and score histograms into this file.")
    ] = None,
) -> None:
    """Measure how well a model pack recognises the people of LFW.

    Verification by pairs.txt and, where identification.txt is there, identification of everybody by one gallery photo.
    """
    settings = _with_pack(settings_of(context), pack)
    minimum = MinimumFace(minimum_face)
    if plot:
        check_plottable(plot)
    protocol = read_protocol(lfw)
    started = time.perf_counter()
    result = figures(protocol, _look_at_all(settings, lfw, protocol, minimum, show=not as_json))
    seconds = time.perf_counter() - started
    name = settings.models.pack
    if plot:
        draw(result, _title(name, lfw, result), plot)
    if as_json:
        print_json(as_object(result, name, len(protocol.pair_photos()), seconds))
    else:
        out.print(_table(result, name, protocol, seconds))


def as_object(result: Evaluation, pack: str, images: int, seconds: float) -> dict[str, Any]:
    """The figures as one JSON object; ``images`` is the number of distinct pictures that the pairs are made of."""
    verified, identified = result.verification, result.identification
    return {
        "pack": pack,
        "accuracy": verified.accuracy,
        "accuracy_std": verified.deviation,
        "tar": _by_rate(verified.points, "tmr"),
        "tar_similarity": _by_rate(verified.points, "similarity"),
        "rank1": identified.rank_one if identified else None,
        "tmr": _by_rate(identified.points, "tmr") if identified else {},
        "tmr_similarity": _by_rate(identified.points, "similarity") if identified else {},
        "impostor_pairs": len(identified.scores.impostor) if identified else 0,
        "calibration": [[point.fmr, point.similarity, point.tmr] for point in _calibration(identified)],
        "missed": len(result.missed),
        "images": images,
        "seconds": round(seconds, 3),
    }


def _with_pack(settings: Settings, pack: str) -> Settings:
    models = settings.models.model_copy(update={"pack": pack or settings.models.pack})
    return settings.model_copy(update={"models": models})


def _look_at_all(
    settings: Settings, folder: Path, protocol: Protocol, minimum: MinimumFace, *, show: bool
) -> dict[Photo, Look]:
    """What was made of each picture, with a progress bar meanwhile."""
    models = load_models(settings)
    pipeline = models.pipeline(image_limits(settings))
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), _Rate(), TimeRemainingColumn())
    with Progress(*columns, console=err, transient=True, disable=not (show and err.is_terminal)) as progress:
        found = looks(pipeline, folder, protocol, minimum, models.concurrency.workers)
        return dict(progress.track(found, total=len(protocol.photos()), description="looking at pictures"))


class _Rate(ProgressColumn):
    """Pictures a second."""

    def render(self, task: Task) -> Text:
        return Text(f"{task.speed or 0:.0f}/s", style="progress.data.speed")


def _calibration(identified: Identification | None) -> tuple[OperatingPoint, ...]:
    return identified.calibration() if identified else ()


def _by_rate(points: tuple[OperatingPoint, ...], field: str) -> dict[str, float]:
    return {f"{point.fmr:.0e}": getattr(point, field) for point in points}


def _title(pack: str, folder: Path, result: Evaluation) -> str:
    return f"pack {pack} on {folder.resolve().name}: accuracy {_accuracy(result)}"


def _accuracy(result: Evaluation) -> str:
    return f"{result.verification.accuracy:.2%} ± {100 * result.verification.deviation:.2f}"


def _table(result: Evaluation, pack: str, protocol: Protocol, seconds: float) -> Table:
    identified = result.identification
    table = Table(
        "figure",
        "value",
        "at similarity",
        title=f"Pack {pack}",
        caption=f"{len(protocol.photos()):,} pictures in {seconds:.0f} s",
    )
    table.columns[1].justify = table.columns[2].justify = "right"
    table.add_row(f"accuracy over {len(protocol.pairs):,} pairs", _accuracy(result))
    for point in result.verification.points:
        table.add_row(f"TAR at FAR {point.fmr:.0e}", f"{point.tmr:.2%}", f"{point.similarity:.4f}")
    if identified:
        table.add_section()
        table.add_row(f"rank 1 among {len(protocol.people):,} people, one photo each", f"{identified.rank_one:.2%}")
        pairs = len(identified.scores.impostor)
        for point in identified.points:
            note = "" if point.fmr * pairs >= 1 else " (too few impostor pairs to tell)"
            table.add_row(f"TMR at FMR {point.fmr:.0e}{note}", f"{point.tmr:.2%}", f"{point.similarity:.4f}")
        table.add_row("impostor pairs", f"{pairs:,}")
    table.add_section()
    table.add_row("pictures without a face", str(len(result.missed)))
    return table
