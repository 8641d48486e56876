"""``facesvc bench gallery``: the index of enrolled people at sizes that no office has, on synthetic people."""

from typing import Annotated

import typer

from facesvc.cli import bench_gallery_import, bench_gallery_work, bench_stages
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
    import_all: Annotated[
        bool,
        typer.Option(
            "--import-all", help=f"Import all to the disk, not {bench_gallery_import.MOST:,}: a million takes 4 GB."
        ),
    ] = False,
    json: Json = False,
) -> None:
    """Build, save, restore and search the index of a gallery of synthetic people, one search at a time on one core.

    A query is a new sample of somebody who is enrolled. Recall counts those who come first where an exact search has
    the right person first. Then a gallery is written to the disk of the temporary folder (TMPDIR names another), and
    searched while more people come. Exit 1 if a bar is not met; there are bars for 512 values and five samples.
    """
    rows: list[Row] = []
    for each in size or DEFAULT_SIZES:
        err.print(f"{each} templates of {dim} values", style="dim")
        people = SyntheticPeople(max(1, each // samples), dim, samples, seed)
        rows += bench_gallery_work.measure(people, queries)
        rows += _imported(people, seed, import_all=import_all)
    report = as_object(rows)
    if json:
        print_json({"machine": bench_stages.machine(), "dimension": dim, "samples": samples, **report})
    else:
        out.print(as_rich(rows, f"gallery of {dim} values, {samples} samples a person"))
    raise typer.Exit(0 if report["met"] else 1)


def _imported(people: SyntheticPeople, seed: int, *, import_all: bool) -> list[Row]:
    """The rows of the import, in the workload of ``people``."""
    dim, samples, size = people.dimension, people.samples, people.count * people.samples
    most = people.count if import_all else bench_gallery_import.MOST // samples
    some = SyntheticPeople(min(people.count, most), dim, samples, seed)
    newcomers = SyntheticPeople(-(-bench_gallery_import.NEWCOMERS // samples), dim, samples, seed + 1)
    err.print(f"{some.count * samples} of them, imported to the disk", style="dim")
    return bench_gallery_import.measure(f"{size:,}", some, newcomers, held=bench_gallery_work.held(people))
