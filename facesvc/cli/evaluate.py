"""``facesvc evaluate``: the error rates of packs, measured on Labeled Faces in the Wild. Needs no server."""

import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from facesvc.cli import evaluate_compare
from facesvc.cli.console import Json, complain, out, print_json, printable, settings_of
from facesvc.cli.evaluate_liveness import evaluate_liveness
from facesvc.cli.evaluation import Evaluation, Identification, figures, looks
from facesvc.cli.evaluation_plot import check_plottable, draw
from facesvc.cli.lfw import IDENTIFICATION, Protocol, read_protocol
from facesvc.cli.models_calibrate import (
    LEAST_USEFUL_RATE,
    as_objects,
    keep,
    load_for_measuring,
    percent_bounds,
)
from facesvc.cli.progress import tracked
from facesvc.config import Settings
from facesvc.engine import Models, image_limits, library
from facesvc.errors import DependencyError, InputError
from facesvc.models.calibration import bounds, supports
from facesvc.models.figures import Figures, TrueMatches
from facesvc.vision.detection import MinimumFace
from facesvc.vision.scores import OperatingPoint

_TAR_RATE = 1e-3


@dataclass(frozen=True, slots=True)
class Task:
    """What is to be measured, and on what."""

    settings: Settings
    folder: Path
    protocol: Protocol
    minimum: MinimumFace
    calibrate: bool
    show: bool


def evaluate(
    context: typer.Context,
    lfw: Annotated[Path | None, typer.Option(metavar="DIR", help="The folder with pairs.txt and images/.")] = None,
    liveness: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Measure a liveness pack instead, on the genuine* and spoof_KIND* in here."),
    ] = None,
    pack: Annotated[str, typer.Option(help="The pack to measure; empty: the active one.")] = "",
    compare: Annotated[str, typer.Option(metavar="A,B,...", help="Measure these packs instead, side by side.")] = "",
    minimum_face: Annotated[float, typer.Option(help="Side of the smallest face looked for, in pixels.")] = 40.0,
    calibrate: Annotated[
        bool, typer.Option("--calibrate", help="Keep which similarity belongs to which false-match rate.")
    ] = False,
    as_json: Json = False,
    plot: Annotated[
        Path | None, typer.Option(metavar="FILE.png", help="Draw ROC and score histograms into this file.")
    ] = None,
) -> None:
    """Measure how well a model pack recognises the people of LFW, or a liveness pack tells them from pictures.

    Verification by pairs.txt and, where identification.txt is there, identification of everybody by one gallery photo.
    With --liveness: attacks that pass and genuine faces that do not, on still pictures and on attacks made of them; the
    people of LFW are looked at as well where --lfw is there too.
    """
    settings, minimum = settings_of(context), MinimumFace(minimum_face)
    if liveness:
        _liveness(settings, liveness, lfw, pack, alone=not (compare or calibrate or plot), as_json=as_json)
        return
    if lfw is None:
        raise InputError("name what to measure on: --lfw DIR, or --liveness DIR for a liveness pack", field="lfw")
    if compare and (pack or plot):
        raise InputError("--compare goes with neither --pack nor --plot", field="compare")
    packs = _names(compare) if compare else [library(settings).active(pack or settings.models.pack)]
    for name in packs:
        library(settings).path(name)
    if plot:
        check_plottable(plot)
    task = Task(settings, lfw, read_protocol(lfw), minimum, calibrate, show=not as_json)
    if calibrate:
        _check_calibratable(task.protocol)
    if compare:
        _side_by_side(task, packs, as_json=as_json)
        return
    started = time.perf_counter()
    models = load_for_measuring(settings, packs[0])
    result = _measured(task, models)
    seconds = time.perf_counter() - started
    if plot:
        draw(result, _title(packs[0], lfw, result), plot)
    if as_json:
        print_json(as_object(result, packs[0], len(task.protocol.pair_photos()), seconds))
    else:
        out.print(_table(result, packs[0], task.protocol, seconds))


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
        "genuine_pairs": len(identified.scores.genuine) if identified else 0,
        "calibration": as_objects(identified.calibration("this run")) if identified else [],
        "missed": len(result.missed),
        "images": images,
        "seconds": round(seconds, 3),
    }


def record_of(result: Evaluation, identified: Identification, data_set: str, now: datetime) -> Figures:
    """What is kept of a full run; rates that there were too few impostors for are not."""
    return Figures(
        accuracy=result.verification.accuracy,
        deviation=result.verification.deviation,
        tar=next(point.tmr for point in result.verification.points if point.fmr == _TAR_RATE),
        rank_one=identified.rank_one,
        tmr=tuple(
            TrueMatches(point.fmr, point.tmr)
            for point in identified.points
            if supports(len(identified.scores.impostor), point.fmr)
        ),
        data_set=data_set,
        time=now.isoformat(timespec="seconds"),
    )


def _liveness(settings: Settings, folder: Path, lfw: Path | None, pack: str, *, alone: bool, as_json: bool) -> None:
    if not alone:
        raise InputError("--liveness goes with --pack and --lfw only", field="liveness")
    evaluate_liveness(settings, folder, (lfw, read_protocol(lfw)) if lfw else None, pack, as_json=as_json)


def _names(compare: str) -> list[str]:
    names = [name.strip() for name in compare.split(",")]
    if len(names) < 2 or len(set(names)) < len(names):
        raise InputError(f"--compare takes two packs or more, each once, with commas: not {compare!a}", field="compare")
    return names


def _check_calibratable(protocol: Protocol) -> None:
    """Refuses in a moment what would be refused after all pictures were looked at."""
    probes = sum(len(person.probes) for person in protocol.people)
    pairs = probes * (len(protocol.people) - 1)
    if not pairs:
        raise InputError(f"--calibrate needs {IDENTIFICATION} beside pairs.txt", field="calibrate")
    if not supports(pairs, LEAST_USEFUL_RATE):
        raise InputError(
            f"{pairs} comparisons of two people are too few for a false-match rate of {LEAST_USEFUL_RATE:g}: name more"
            f" people or probes in {IDENTIFICATION}",
            field="calibrate",
        )


def _side_by_side(task: Task, packs: list[str], *, as_json: bool) -> None:
    """One pack after the other for the rates; all of them together for the times, so that noise hits them alike."""
    results = [_measured(task, load_for_measuring(task.settings, name)) for name in packs]
    models = [load_for_measuring(task.settings, name) for name in packs]
    paths = [photo.within(task.folder) for photo in task.protocol.photos()]
    costs = evaluate_compare.costs([each.pipeline(image_limits(task.settings)) for each in models], paths)
    rows = [
        evaluate_compare.Row(each.pack, result, cost) for each, result, cost in zip(models, results, costs, strict=True)
    ]
    if as_json:
        print_json([evaluate_compare.as_object(row) for row in rows])
    else:
        out.print(evaluate_compare.as_rich(rows))


def _measured(task: Task, models: Models) -> Evaluation:
    """The figures of a pack, which are kept on this box as well."""
    pipeline, total = models.pipeline(image_limits(task.settings)), len(task.protocol.photos())
    found = looks(pipeline, task.folder, task.protocol, task.minimum, models.concurrency.workers)
    seen = dict(tracked(found, total, what=f"{models.pack.name}: looking at pictures", show=task.show))
    result = figures(task.protocol, seen)
    if result.identification:
        _keep(task, models, result, result.identification)
    return result


def _keep(task: Task, models: Models, result: Evaluation, identified: Identification) -> None:
    data_set = printable(task.folder.resolve().name) or "a folder"
    record = record_of(result, identified, data_set, datetime.now(UTC))
    try:
        library(task.settings).record(models.pack.contract_id, record)
    except DependencyError as error:
        # The figures are there all the same.
        complain(f"not kept: {error.message}")
    if task.calibrate:
        people, probes = len(task.protocol.people), sum(len(person.probes) for person in task.protocol.people)
        source = f"{data_set}, {people:,} people with one photo each against {probes:,} other photos"
        keep(task.settings, models, identified.calibration(source))


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
        "95 % bounds",
        "at similarity",
        title=f"Pack {pack}",
        caption=f"{len(protocol.photos()):,} pictures in {seconds:.0f} s",
    )
    for column in table.columns[1:]:
        column.justify = "right"
    table.add_row(f"accuracy over {len(protocol.pairs):,} pairs", _accuracy(result))
    for point in result.verification.points:
        _add(
            table,
            "TAR at FAR",
            point,
            len(result.verification.scores.genuine),
            len(result.verification.scores.impostor),
        )
    if identified:
        pairs, genuine = len(identified.scores.impostor), len(identified.scores.genuine)
        table.add_section()
        rank_one = bounds(round(identified.rank_one * genuine), genuine)
        title = f"rank 1 among {len(protocol.people):,} people, one photo each"
        table.add_row(title, f"{identified.rank_one:.2%}", percent_bounds(rank_one))
        for point in identified.points:
            _add(table, "TMR at FMR", point, genuine, pairs)
        table.add_row("impostor pairs", f"{pairs:,}")
    table.add_section()
    table.add_row("pictures without a face", str(len(result.missed)))
    return table


def _add(table: Table, what: str, point: OperatingPoint, genuine: int, impostor: int) -> None:
    note = "" if supports(impostor, point.fmr) else " (too few impostor pairs to tell)"
    within = percent_bounds(bounds(round(point.tmr * genuine), genuine))
    table.add_row(f"{what} {point.fmr:.0e}{note}", f"{point.tmr:.2%}", within, f"{point.similarity:.4f}")
