"""A real broker, a line to it that can be cut, and somebody who writes down what they hear."""

import asyncio
import json
import shutil
import socket
import tempfile
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import aiomqtt
import pytest
from paho.mqtt.subscribeoptions import SubscribeOptions

MISSING = "the broker is not installed here: the Debian package mosquitto"
END = "test/end"


def binary(name: str = "mosquitto") -> str:
    found = shutil.which(name) or shutil.which(f"/usr/sbin/{name}")
    if found is None:
        pytest.skip(MISSING)
    return found


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port: int = one.getsockname()[1]
        return port


class Broker:
    """mosquitto on a port that stays the same; what is retained outlives a restart."""

    def __init__(self, folder: Path, *lines: str) -> None:
        self.port = free_port()
        self._config = folder / "mosquitto.conf"
        common = ["user root", "persistence true", f"persistence_location {folder}/", "log_dest stderr"]
        self._config.write_text("\n".join([*common, f"listener {self.port} 127.0.0.1", *lines, ""]))
        self._process: asyncio.subprocess.Process | None = None
        self._draining: asyncio.Task[None] | None = None
        self.log: list[str] = []

    async def start(self) -> None:
        self._process = await asyncio.create_subprocess_exec(
            binary(), "-c", str(self._config), stderr=asyncio.subprocess.PIPE
        )
        assert self._process.stderr is not None
        while line := (await self._process.stderr.readline()).decode():
            self.log.append(line)
            if line.rstrip().endswith("running"):
                self._draining = asyncio.create_task(self._drain(self._process.stderr))
                return
        raise AssertionError("".join(self.log))

    async def stop(self, *, kill: bool = False) -> None:
        process, self._process = self._process, None
        if process is not None:
            if kill:
                process.kill()
            else:
                process.terminate()  # it writes down what it is to keep
            await process.wait()
            if self._draining is not None:
                await self._draining

    async def _drain(self, pipe: asyncio.StreamReader) -> None:
        while line := (await pipe.readline()).decode():
            self.log.append(line)


class Line:
    """A TCP proxy before a port, to be cut as a cable is: without a word."""

    def __init__(self, target: int) -> None:
        self.port = free_port()
        self._target = target
        self._server: asyncio.Server | None = None
        self._open: set[asyncio.StreamWriter] = set()

    async def mend(self) -> None:
        self._server = await asyncio.start_server(self._pass, "127.0.0.1", self.port)

    async def cut(self) -> None:
        if self._server is not None:
            self._server.close()
            for one in list(self._open):
                one.transport.abort()
            await self._server.wait_closed()
            self._server = None

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self._target)
        except OSError:
            writer.close()
            return
        self._open |= {writer, far_writer}
        await asyncio.gather(self._pump(reader, far_writer), self._pump(far_reader, writer))
        self._open -= {writer, far_writer}

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while data := await reader.read(1 << 16):
                writer.write(data)
                await writer.drain()
        writer.close()


class Ear:
    """Hears everything, and can speak."""

    def __init__(self, client: aiomqtt.Client) -> None:
        self.client = client
        self.heard: list[aiomqtt.Message] = []

    async def until(self, met: Callable[[aiomqtt.Message], bool]) -> aiomqtt.Message:
        """Listen up to such a message, which may have been heard already."""
        for one in self.heard:
            if met(one):
                return one
        async for one in self.client.messages:
            self.heard.append(one)
            if met(one):
                return one
        raise AssertionError("the connection ended")

    async def all(self) -> Sequence[aiomqtt.Message]:
        """Everything that the broker took before."""
        await self.client.publish(END, b"end", qos=1)
        self.heard = [one for one in self.heard if one.topic.value != END]
        await self.until(lambda one: one.topic.value == END)
        return [one for one in self.heard if one.topic.value != END]

    async def events(self) -> list[dict[str, Any]]:
        return [json.loads(text(one)) for one in await self.all() if one.topic.value.endswith("/event")]

    async def at(self, topic: str) -> list[str]:
        """What was said there."""
        return [text(one) for one in await self.all() if one.topic.value == topic]


@asynccontextmanager
async def listening(port: int, *, user: str | None = None, password: str | None = None) -> AsyncIterator[Ear]:
    options = SubscribeOptions(qos=1, retainAsPublished=True)
    client = aiomqtt.Client(
        "127.0.0.1", port, protocol=aiomqtt.ProtocolVersion.V5, username=user, password=password, timeout=20
    )
    async with client:
        await client.subscribe("#", options=options)
        yield Ear(client)
    if client._disconnected.done():
        client._disconnected.exception()  # a broker that was stopped on purpose


@asynccontextmanager
async def brokers(*lines: str) -> AsyncIterator[Broker]:
    """One that takes anybody, unless the lines of its configuration say otherwise."""
    with tempfile.TemporaryDirectory() as folder:
        broker = Broker(Path(folder), *(lines or ("allow_anonymous true",)))
        await broker.start()
        try:
            yield broker
        finally:
            await broker.stop(kill=True)


def text(message: aiomqtt.Message) -> str:
    assert isinstance(message.payload, bytes)
    return message.payload.decode()
