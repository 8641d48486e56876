"""The real server in a thread of this process, and what a command leaves behind."""

import asyncio
import json
import queue
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from facesvc import config
from facesvc.app import App
from facesvc.config import Settings


@dataclass(frozen=True)
class Result:
    status: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)

    @property
    def json_lines(self) -> list[Any]:
        return [json.loads(line) for line in self.out.splitlines()]


Facesvc = Callable[..., Result]


def matches(line: dict[str, Any]) -> set[str]:
    """The names in one line of ``recognize --json``."""
    return {face["display_name"] for face in line["faces"] if face["outcome"] == "MATCH"}


def settings_for(folder: Path, pack_cache: Path, listen: str = "127.0.0.1:0") -> Settings:
    """Settings of a server with its gallery in ``folder``."""
    settings = config.load()
    return settings.model_copy(
        update={
            "server": settings.server.model_copy(update={"listen": listen}),
            "gallery": settings.gallery.model_copy(update={"path": folder / "gallery.db"}),
            "models": settings.models.model_copy(update={"cache_dir": pack_cache}),
        }
    )


@contextmanager
def serving(settings: Settings) -> Iterator[str]:
    """The server for the time of the block; its address."""
    started: queue.SimpleQueue[str | BaseException] = queue.SimpleQueue()
    stop, loop = asyncio.Event(), asyncio.new_event_loop()

    async def serve() -> None:
        async with App(settings) as app:
            started.put(app.address)
            await stop.wait()

    def run() -> None:
        try:
            with asyncio.Runner(loop_factory=lambda: loop) as runner:
                runner.run(serve())
        except BaseException as error:  # noqa: BLE001 - raised in the thread that waits
            started.put(error)

    thread = threading.Thread(target=run)
    thread.start()
    address = started.get(timeout=60)
    if isinstance(address, BaseException):
        raise address
    try:
        yield address
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join(30)
