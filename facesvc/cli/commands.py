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
from facesvc.cli import console, lazy
from facesvc.config import DEFAULT_CONFIG

_COMMANDS = "facesvc.commands"
"""The entry-point group of what plugins add: typer apps, which are given the settings as the context's object."""

_PLACES = {
    "init": "init:init",
    "serve": "serve:serve",
    "demo": "demo:demo",
    "enroll": "enroll:enroll",
    "subjects": "subjects:app",
    "encodings": "encodings:app",
    "gallery": "gallery:app",
    "receipts": "receipts:app",
    "audit": "audit:app",
    "backup": "backup:app",
    "keys": "keys:app",
    "token": "tokens:app",
    "certs": "certs:app",
    "plugins": "plugins:app",
    "recognize": "recognize:recognize",
    "camera": "camera:camera",
    "watch": "watch:watch",
    "presence": "presence:presence",
    "events": "events:events",
    "attendance": "attendance:attendance",
    "statistics": "statistics:statistics",
    "compare": "compare:compare",
    "evaluate": "evaluate:evaluate",
    "models": "models:app",
    "bench": "bench:app",
    "doctor": "doctor:doctor",
}

app = typer.Typer(
    cls=lazy.group(_PLACES, lambda: entry_points(group=_COMMANDS)),
    help="On-premise face recognition: frames in over gRPC, names out.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


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
            show_default=f"{DEFAULT_CONFIG}, where it is there",
        ),
    ] = None,
    log_level: Annotated[str, typer.Option(help="debug, info, warning or error.")] = "warning",
    _: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and leave.")
    ] = False,
) -> None:
    """Settings and logs, before any command."""
    _set_up_logs(log_level)
    if config_file is None and DEFAULT_CONFIG.exists():
        config_file = DEFAULT_CONFIG
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
    console.run(app)
