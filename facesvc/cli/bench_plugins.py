"""``facesvc bench plugins``: from a match to a plugin's call, and what becomes of events when a receiver dies."""

from typing import Annotated

import typer
from structlog.testing import capture_logs

from facesvc.cli import bench_plugins_receiver, bench_plugins_work, bench_stages
from facesvc.cli.bench_streams_report import as_object, as_rich
from facesvc.cli.console import Json, err, out, print_json

_FEWEST = 100


def plugins(
    *,
    seconds: Annotated[float, typer.Option(min=1, help="How long events come at a pace.")] = 20.0,
    rate: Annotated[float, typer.Option(min=1, max=1000, help="That pace, events a second.")] = 20.0,
    events: Annotated[int, typer.Option(min=_FEWEST, help="So many for a receiver that dies.")] = 10_000,
    dies_every: Annotated[int, typer.Option(min=10, help="It dies each time it got so many.")] = 500,
    json: Json = False,
) -> None:
    """Measure how soon a plugin gets an event, how many a second, and that none is lost where its receiver dies.

    All through a real journal, outbox and host on SQLite in the temporary folder (TMPDIR names another). Events are
    written and told of as the server's observer does it, but for the hop through its event loop. The receiver is behind
    a socket, and dies in the middle of a call. Exit 1 if a bar is not met; that of the time is for a quiet box.
    """
    err.print(f"{rate:g} events a second for {seconds:g} s", style="dim")
    rows = bench_plugins_work.paced(rate, seconds)
    err.print(f"{events} events flat out", style="dim")
    rows += bench_plugins_work.flat_out(events)
    err.print(f"{events} events to a receiver that dies every {dies_every}", style="dim")
    with capture_logs():  # that the plugin fails is the plan, and no news
        rows += bench_plugins_receiver.measure(events, dies_every)
    report = as_object(rows)
    if json:
        print_json({"machine": bench_stages.machine(), **report})
    else:
        out.print(as_rich(rows, "from a match to a plugin"))
    raise typer.Exit(0 if report["met"] else 1)
