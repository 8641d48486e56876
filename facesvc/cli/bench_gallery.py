"""``facesvc bench gallery``: the index of enrolled people at sizes that no office has, on synthetic people."""

from typing import Annotated

import typer

from facesvc.cli import bench_gallery_work, bench_stages
from facesvc.cli.bench_streams_report import Row, as_object, as_rich
from facesvc.cli.console import Json, err, out, print_json
from facesvc.cli.synthetic_people import SyntheticPeople

DEFAULT_SIZES = (10_000, 100_000)


def gallery(
    *,
    size: Annotated[
        list[int] | None,
        typer.Option(min=100, max=5_000_000, help="So many templates; repeatable. A million takes two minutes, 2 GB."),
    ] = None,
    dim: Annotated[int, typer.Option(min=2, max=4096, help="Values of a vector.")] = 512,
    samples: Annotated[int, typer.Option(min=1, max=100, help="Templates of each person.")] = 5,
    queries: Annotated[int, typer.Option(min=50, help="Searches that are timed.")] = 2000,
    seed: Annotated[int, typer.Option(help="Which synthetic people.")] = 1,
    json: Json = False,
) -> None:
    """Build, save, restore and search the index of a gallery of synthetic people, one search at a time on one core.

    A query is a new sample of somebody who is enrolled. Recall counts those who come first where an exact search has
    the right person first. Exit 1 if a bar is not met; there are bars for 512 values and five samples.
    """
    rows: list[Row] = []
    for each in size or DEFAULT_SIZES:
        err.print(f"{each} templates of {dim} values", style="dim")
        people = SyntheticPeople(max(1, each // samples), dim, samples, seed)
        rows += bench_gallery_work.measure(people, queries)
    report = as_object(rows)
    if json:
        print_json({"machine": bench_stages.machine(), "dimension": dim, "samples": samples, **report})
    else:
        out.print(as_rich(rows, f"gallery of {dim} values, {samples} samples a person"))
    raise typer.Exit(0 if report["met"] else 1)
