"""``facesvc serve``: run the server until it is told to stop."""

import asyncio
import signal
import sys
from typing import Annotated

import typer

from facesvc.app import App
from facesvc.cli.console import settings_of
from facesvc.config import Settings
from facesvc.security import process


def serve(
    context: typer.Context,
    listen: Annotated[
        str, typer.Option(metavar="HOST:PORT", help="Where to listen; port 0 takes a free one; unix:PATH a socket.")
    ] = "",
    plaintext: Annotated[
        bool, typer.Option("--plaintext", help="No TLS and no questions asked; on this machine only.")
    ] = False,
) -> None:
    """Run the server until SIGTERM or Ctrl-C; prints a line with its address once it answers."""
    settings = settings_of(context)
    changes: dict[str, object] = {"listen": listen} if listen else {}
    changes |= {"plaintext": True} if plaintext else {}
    server = settings.server.model_copy(update=changes)
    process.lock_down()
    if not server.plaintext:  # a trial on somebody's own machine needs no warnings
        process.warn_of_surroundings()
    asyncio.run(_serve(settings.model_copy(update={"server": server})))


async def _serve(settings: Settings) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for signal_number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(signal_number, stop.set)
    app = App(settings)
    async with app:
        sys.stdout.write(f"facesvc is serving on {app.address}\n{app.models_in_words}\n")
        sys.stdout.flush()
        await stop.wait()
