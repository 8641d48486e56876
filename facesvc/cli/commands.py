"""The table of commands, and what is the same for all: settings, logs, errors in one line."""

import logging
import sys
from importlib.metadata import entry_points
from pathlib import Path
from typing import Annotated

import structlog
import typer
from structlog.typing import EventDict, Processor

from facesvc import __version__, config
from facesvc.cli import (
    attendance,
    audit,
    backup,
    bench,
    camera,
    certs,
    compare,
    console,
    demo,
    doctor,
    encodings,
    enroll,
    evaluate,
    events,
    gallery,
    init,
    keys,
    models,
    models_calibrate,
    models_migrate,
    models_quantize,
    plugins,
    presence,
    receipts,
    recognize,
    serve,
    statistics,
    subjects,
    subjects_data,
    subjects_repair,
    tokens,
    watch,
)

_COMMANDS = "facesvc.commands"
"""The entry-point group of what plugins add: typer apps, which are given the settings as the context's object."""

app = typer.Typer(
    help="On-premise face recognition: frames in over gRPC, names out.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command()(init.init)
app.command()(serve.serve)
app.command()(demo.demo)
app.command()(enroll.enroll)
subjects.app.command()(subjects_data.erase)
subjects.app.command()(subjects_data.export)
subjects.app.command()(subjects_repair.merge)
subjects.app.command()(subjects_repair.split)
subjects.app.command()(subjects_repair.correct)
app.add_typer(subjects.app, name="subjects")
app.add_typer(encodings.app, name="encodings")
app.add_typer(gallery.app, name="gallery")
app.add_typer(receipts.app, name="receipts")
app.add_typer(audit.app, name="audit")
app.add_typer(backup.app, name="backup")
app.add_typer(keys.app, name="keys")
app.add_typer(tokens.app, name="token")
app.add_typer(certs.app, name="certs")
app.add_typer(plugins.app, name="plugins")
app.command()(recognize.recognize)
app.command()(camera.camera)
app.command()(watch.watch)
app.command()(presence.presence)
app.command()(events.events)
app.command()(attendance.attendance)
app.command()(statistics.statistics)
app.command()(compare.compare)
app.command()(evaluate.evaluate)
models.app.command()(models_calibrate.calibrate)
models.app.command()(models_migrate.migrate)
models.app.command("quantize")(models_quantize.quantize)
app.add_typer(models.app, name="models")
app.add_typer(bench.app, name="bench")
app.command()(doctor.doctor)


def _version(show: bool) -> None:  # noqa: FBT001 - typer's form of a callback
    if show:
        typer.echo(f"facesvc {__version__}")
        raise typer.Exit


@app.callback()
def root(
    context: typer.Context,
    config_file: Annotated[
        Path | None,
        typer.Option(
            "--config",
            help="Settings as TOML.",
            envvar="FACESVC_CONFIG",
            show_default=f"{init.DEFAULT_CONFIG}, where it is there",
        ),
    ] = None,
    log_level: Annotated[str, typer.Option(help="debug, info, warning or error.")] = "warning",
    _: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and leave.")
    ] = False,
) -> None:
    """Settings and logs, before any command."""
    _set_up_logs(log_level)
    if config_file is None and init.DEFAULT_CONFIG.exists():
        config_file = init.DEFAULT_CONFIG
    context.obj = config.load(config_file)


def _set_up_logs(level: str) -> None:
    number = logging.getLevelNamesMapping().get(level.upper())
    if number is None:
        raise typer.BadParameter(f"{level!r} is none of debug, info, warning, error", param_hint="--log-level")
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso"),
            structlog.processors.format_exc_info,
            *_written(to_terminal=sys.stderr.isatty()),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )


def _written(*, to_terminal: bool) -> list[Processor]:
    """How an entry of the log becomes a line: for eyes, or for programs, where JSON escapes whatever is odd."""
    return [_harmless, structlog.dev.ConsoleRenderer()] if to_terminal else [structlog.processors.JSONRenderer()]


def _harmless(_: object, __: str, entry: EventDict) -> EventDict:
    """An entry without what could steer the terminal: error texts and ids come from outside."""
    return {
        name: "\n".join(map(console.printable, value.splitlines())) if isinstance(value, str) else value
        for name, value in entry.items()
    }


def run() -> None:
    """Run the command that was asked for; what went wrong is one line on standard error."""
    add_commands_of_plugins(app)
    console.run(app)


def add_commands_of_plugins(to: typer.Typer) -> None:
    """Mount what installed plugins bring; one that cannot be loaded is told of, and the rest goes on."""
    taken = set(typer.main.get_group(to).commands)
    for entry in entry_points(group=_COMMANDS):
        if entry.name in taken:
            continue
        try:
            own, problem = entry.load(), ""
        except Exception as error:  # noqa: BLE001 - whatever importing somebody's package raises
            own, problem = None, str(error)
        if isinstance(own, typer.Typer):
            to.add_typer(own, name=entry.name)
        else:
            words = f"the commands of plugin {entry.name} cannot be loaded: {problem or 'they are no typer app'}"
            console.complain(f"facesvc: {words}", style="yellow")
