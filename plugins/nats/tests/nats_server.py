"""A real server with JetStream, on a port that stays the same; what it keeps outlives a restart."""

import asyncio
import json
import shutil
import socket
import tempfile
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import nats
import pytest
from nats.js import api

MISSING = "the server is not installed here: the Debian package nats-server"


def binary() -> str:
    found = shutil.which("nats-server") or shutil.which("/usr/sbin/nats-server")
    if found is None:
        pytest.skip(MISSING)
    return found


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port: int = one.getsockname()[1]
        return port


class Server:
    """nats-server with lines of its configuration."""

    def __init__(self, folder: Path, *lines: str, jetstream: bool = True) -> None:
        self.port = free_port()
        self._config = folder / "nats.conf"
        store = f'jetstream {{ store_dir: "{folder}/store" }}' if jetstream else ""
        self._config.write_text("\n".join([f"listen: 127.0.0.1:{self.port}", store, *lines, ""]))
        self._process: asyncio.subprocess.Process | None = None
        self._draining: asyncio.Task[None] | None = None
        self.log: list[str] = []

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    async def start(self) -> None:
        self._process = await asyncio.create_subprocess_exec(
            binary(), "-c", str(self._config), stderr=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.DEVNULL
        )
        assert self._process.stderr is not None
        while line := (await self._process.stderr.readline()).decode():
            self.log.append(line)
            if "Server is ready" in line:
                self._draining = asyncio.create_task(self._drain(self._process.stderr))
                return
        raise AssertionError("".join(self.log))

    async def stop(self, *, kill: bool = False) -> None:
        process, self._process = self._process, None
        if process is not None:
            if kill:
                process.kill()
            else:
                process.terminate()
            await process.wait()
            if self._draining is not None:
                await self._draining

    async def _drain(self, pipe: asyncio.StreamReader) -> None:
        while line := (await pipe.readline()).decode():
            self.log.append(line)


@asynccontextmanager
async def servers(*lines: str, jetstream: bool = True) -> AsyncIterator[Server]:
    with tempfile.TemporaryDirectory() as folder:
        server = Server(Path(folder), *lines, jetstream=jetstream)
        await server.start()
        try:
            yield server
        finally:
            await server.stop(kill=True)


@asynccontextmanager
async def admin(server: Server, **how: Any) -> AsyncIterator[nats.js.JetStreamContext]:
    """Somebody who may do everything."""
    client = await nats.connect(f"nats://{server.address}", connect_timeout=20, **how)
    try:
        yield client.jetstream()
    finally:
        await client.close()


async def kept(server: Server, stream: str = "FACESVC", **how: Any) -> Sequence[api.RawStreamMsg]:
    """Everything in a stream, in its order."""
    async with admin(server, **how) as context:
        state = (await context.stream_info(stream)).state
        return [await context.get_msg(stream, number) for number in range(max(1, state.first_seq), state.last_seq + 1)]


def body(message: api.RawStreamMsg) -> dict[str, Any]:
    assert message.data is not None
    parsed: dict[str, Any] = json.loads(message.data)
    return parsed
