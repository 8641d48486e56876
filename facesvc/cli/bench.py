"""``facesvc bench``: what each stage and the whole cost, here and now."""

from dataclasses import asdict
from typing import Annotated, Any

import typer
from rich.table import Table

from facesvc.cli import (
    bench_gallery,
    bench_migration,
    bench_plugins,
    bench_security,
    bench_stages,
    bench_stream,
    bench_streams,
    bench_tune,
)
from facesvc.cli.console import Json, err, out, print_json, say, settings_of
from facesvc.config import Settings

app = typer.Typer(invoke_without_command=True)
app.command()(bench_streams.streams)
app.command()(bench_gallery.gallery)
app.command()(bench_plugins.plugins)
app.command()(bench_security.security)


@app.callback()
def bench(
    context: typer.Context,
    *,
    rounds: Annotated[int, typer.Option(min=3, help="How often each stage is measured.")] = 40,
    idle: Annotated[float, typer.Option(min=1, help="Seconds to watch an open stream without frames.")] = 5.0,
    soak: Annotated[int, typer.Option(min=0, help="Stream so many frames and watch the server's memory.")] = 0,
    pack: Annotated[str, typer.Option(metavar="NAME", help="The model pack to measure; empty: as configured.")] = "",
    tune: Annotated[
        bool, typer.Option("--tune", help="Find the better of the modes throughput and latency, and write it down.")
    ] = False,
    migrate: Annotated[
        str, typer.Option(metavar="NAME", help="Change to this pack under a running stream and watch for gaps.")
    ] = "",
    json: Json = False,
) -> None:
    """Measure every stage, the stream end to end, memory and idle cost; ratios are taken within one call.

    With --tune something else is measured: one frame alone, and frames a second with all workers busy, in both modes.
    The better one is what the server then uses for that pack on this machine, as long as models.mode is "auto".
    """
    if context.invoked_subcommand:
        return
    settings = _with_pack(settings_of(context), pack)
    if tune:
        err.print("measuring both modes", style="dim")
        found = bench_tune.tune(settings, rounds)
        if json:
            print_json(asdict(found))
        else:
            _print_tuning(found)
        return
    if migrate:
        err.print(f"streaming while the models change to {migrate}", style="dim")
        migrated = bench_migration.measure(settings, migrate)
        if json:
            print_json(asdict(migrated))
        else:
            _print_migration(migrated)
        return
    err.print("measuring the stages", style="dim")
    concurrency, stages = bench_stages.measure(settings, rounds)
    report: dict[str, Any] = {"machine": {**bench_stages.machine(), **asdict(concurrency)}}
    report["stages"] = [{**asdict(stage), "ratio": stage.ratio} for stage in stages]

    def measure(bench: bench_stream.StreamBench) -> None:
        err.print("measuring the stream", style="dim")
        report["stream"] = asdict(bench.latency(rounds))
        report["idle"] = asdict(bench.idle(idle))
        if soak:
            err.print(f"streaming {soak} frames", style="dim")
            report["soak"] = asdict(bench.soak(soak))

    bench_stream.with_server(settings, measure)
    if json:
        print_json(report)
    else:
        _print(report)


def _with_pack(settings: Settings, pack: str) -> Settings:
    models = settings.models.model_copy(update={"pack": pack or settings.models.pack})
    return settings.model_copy(update={"models": models})


def _print_tuning(found: bench_tune.Tuning) -> None:
    columns = ("mode", "workers", "threads", "frame p50 ms", "p95 ms", "frames/s")
    table = Table(title=f"pack {found.pack} on {found.cores} cores")
    for column in columns:
        table.add_column(column, justify="left" if column == "mode" else "right")
    for mode in found.figures:
        times = (f"{mode.p50_ms:.1f}", f"{mode.p95_ms:.1f}", f"{mode.frames_per_second:.1f}")
        table.add_row(mode.mode, str(mode.workers), str(mode.threads), *times)
    out.print(table)
    say(f"{found.mode}: {found.why}")


def _print_migration(found: bench_migration.MigrationResult) -> None:
    title = f"{found.samples} samples embedded again in {found.seconds:.1f} s, {found.rank_one:.1%} find themselves"
    table = Table("ms between results", "frames", "median", "longest", title=title)
    for name, gaps in (("before", found.before), ("meanwhile", found.during), ("after", found.after)):
        table.add_row(name, str(gaps.frames), f"{gaps.median_ms:.0f}", f"{gaps.longest_ms:.0f}")
    out.print(table)
    say(f"{found.matches} matches, {found.wrong_names} wrong, {found.errors} errors")


def _print(report: dict[str, Any]) -> None:
    machine = report["machine"]
    out.print(
        f"{machine['cpu']}, {machine['cores']} cores, load {machine['load_average']}; onnxruntime"
        f" {machine['onnxruntime']}, {machine['threads']} threads a network, {machine['workers']} workers",
        highlight=False,
    )
    table = Table(title=f"stages, medians (detection at a minimum face of {bench_stages.MINIMUM_FACE:.0f} pixels)")
    for column in ("stage", "ms", "networks alone", "ratio"):
        table.add_column(column, justify="left" if column == "stage" else "right")
    for stage in report["stages"]:
        networks = f"{stage['networks_ms']:.2f}" if stage["networks_ms"] else ""
        ratio = f"{stage['ratio']:.2f}" if stage["ratio"] else ""
        table.add_row(stage["name"], f"{stage['stage_ms']:.2f}", networks, ratio)
    out.print(table)
    stream, idle = report["stream"], report["idle"]
    whole = Table(title="through gRPC", show_header=False)
    whole.add_row(f"stages of a frame with {stream['faces']} faces", f"{stream['stages_ms']:.1f} ms")
    whole.add_row("end to end", f"{stream['end_to_end_ms']:.1f} ms")
    whole.add_row("added", f"{100 * stream['overhead']:.1f} %")
    whole.add_row("server's resident memory", f"{stream['resident_mb']:.0f} MB")
    whole.add_row("idle with a stream open", f"{100 * idle['core_share']:.2f} % of a core")
    if soak := report.get("soak"):
        whole.add_row(f"memory over {soak['frames']} frames", f"{soak['first_mb']:.0f} to {soak['last_mb']:.0f} MB")
        whole.add_row("slope of the second half", f"{soak['slope_kb_a_frame']:.3f} KB a frame")
    out.print(whole)
