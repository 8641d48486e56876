"""A relay with an HTTP interface, on the loopback address, that counts what it is asked for."""

import asyncio
import json
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, urlsplit


@dataclass
class Relay:
    """``calls``: what came, as path and query. ``status``, ``body`` and ``held`` say how it answers a path."""

    port: int = 0
    lit: bool = False
    door_open: Any = False
    calls: list[tuple[str, dict[str, str]]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    methods: list[str] = field(default_factory=list)
    broken: bool = False
    status: dict[str, int] = field(default_factory=dict)
    body: dict[str, bytes] = field(default_factory=dict)
    held: dict[str, asyncio.Event] = field(default_factory=dict)
    asked: asyncio.Event = field(default_factory=asyncio.Event)
    challenge: str = ""

    @property
    def pulses(self) -> list[str]:
        """The events that it was switched on for, in order."""
        return [query["event"] for path, query in self.calls if path == "/on"]

    @property
    def paths(self) -> list[str]:
        return [path for path, _ in self.calls]

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while line := await reader.readline():
                method, target, _ = line.decode().split(" ")
                headers = {}
                while (header := (await reader.readline()).decode().strip()) != "":
                    name, _, value = header.partition(":")
                    headers[name.lower()] = value.strip()
                writer.write(await self._answer(method, target, headers))
                await writer.drain()
        except (ConnectionError, asyncio.CancelledError):
            pass
        finally:
            writer.close()

    async def _answer(self, method: str, target: str, headers: dict[str, str]) -> bytes:
        parts = urlsplit(target)
        path, query = parts.path, {name: values[0] for name, values in parse_qs(parts.query).items()}
        if self.challenge and "authorization" not in headers:
            return f"HTTP/1.1 401 no\r\nWWW-Authenticate: {self.challenge}\r\nContent-Length: 0\r\n\r\n".encode()
        status = self.status.get(path, 500 if self.broken else 200)
        if status == 200:
            self.calls.append((path, query))
            self.headers.append(headers)
            self.methods.append(method)
            if path in {"/on", "/off"}:
                self.lit = path == "/on"
        self.asked.set()
        if path in self.held:
            await self.held[path].wait()
        body = self.body.get(path, json.dumps({"id": 0, "state": self.door_open}).encode())
        extra = "Location: /elsewhere\r\n" if 300 <= status < 400 else ""
        return f"HTTP/1.1 {status} so\r\n{extra}Content-Length: {len(body)}\r\n\r\n".encode() + body


@asynccontextmanager
async def relays(context: ssl.SSLContext | None = None) -> AsyncIterator[Relay]:
    """One that answers until the end."""
    relay = Relay()
    tasks: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        await relay.serve(reader, writer)
        tasks.discard(task)

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
    relay.port = server.sockets[0].getsockname()[1]
    try:
        yield relay
    finally:
        server.close()
        for task in list(tasks):
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
