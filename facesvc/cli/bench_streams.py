"""``facesvc bench streams``: many people, many cameras, too many frames, none at all, and what is known to be true."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated

import typer

from facesvc.cli import bench_stages, bench_streams_truth, bench_streams_work
from facesvc.cli.bench_streams_report import Row, as_object, as_rich
from facesvc.cli.bench_streams_stage import Stage
from facesvc.cli.bench_streams_work import Figures
from facesvc.cli.console import Json, out, print_json, settings_of
from facesvc.errors import InputError

WORKLOADS = ("crowd", "cameras", "overload", "idle", "truth", "faceanalysis")


def streams(
    context: typer.Context,
    *,
    pack: Annotated[str, typer.Option(metavar="NAME", help="The model pack to measure; empty: as configured.")] = "",
    shared: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Cast people of this data set (as for `facesvc evaluate`), by two photos."),
    ] = None,
    seconds: Annotated[float, typer.Option(min=5, max=300, help="How long the video of the crowd is.")] = 60.0,
    overload_seconds: Annotated[float, typer.Option(min=5, help="How long the server is overloaded.")] = 300.0,
    only: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help=f"Only this workload: {', '.join(WORKLOADS)}. Repeatable.")
    ] = None,
    json: Json = False,
) -> None:
    """Play labelled synthetic videos to a fresh server at the pace of a camera, and hold the figures against the bars.

    Exit 1 if a bar is not met.
    """
    chosen = tuple(only or WORKLOADS)
    if unknown := set(chosen) - set(WORKLOADS):
        raise InputError(f"there is no workload {min(unknown)!r}: {', '.join(WORKLOADS)}", field="only")
    settings = settings_of(context)
    models = settings.models.model_copy(update={"pack": pack or settings.models.pack})
    stage, figures = Stage(settings.model_copy(update={"models": models}), shared, seconds), Figures()
    workloads: dict[str, Callable[[], Iterator[Row]]] = {
        "crowd": lambda: bench_streams_work.crowd(stage, figures),
        "cameras": lambda: bench_streams_work.cameras(stage),
        "overload": lambda: bench_streams_work.overload(stage, overload_seconds),
        "idle": lambda: bench_streams_work.idle(stage),
        "truth": lambda: bench_streams_truth.truth(stage),
        "faceanalysis": lambda: bench_streams_work.faceanalysis(stage, figures),
    }
    rows = [row for name in WORKLOADS if name in chosen for row in workloads[name]()]
    report = as_object(rows)
    if json:
        print_json({"machine": bench_stages.machine(), "pack": models.pack, **report})
    else:
        out.print(as_rich(rows, f"streams on {bench_stages.machine()['cores']} cores"))
    raise typer.Exit(0 if report["met"] else 1)
