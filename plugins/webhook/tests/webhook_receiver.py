"""A receiver of webhooks on a real socket, which answers as a test wants."""

import asyncio
import json
import ssl
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

TAKEN = b"HTTP/1.1 204 No Content\r\n\r\n"


def answer(status: int, *headers: str, body: bytes = b"") -> bytes:
    """An HTTP/1.1 answer."""
    lines = [f"HTTP/1.1 {status} Because", f"Content-Length: {len(body)}", *headers]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


@dataclass(frozen=True, slots=True)
class Request:
    """What was posted; names of headers in lower case."""

    line: str
    headers: dict[str, str]
    body: bytes

    @property
    def event(self) -> dict[str, Any]:
        """The body as JSON."""
        found: dict[str, Any] = json.loads(self.body)
        return found


@dataclass(slots=True)
class Receiver:
    """Answers each request with the next of ``answers``, else with ``usual``; ``None`` is no answer at all."""

    port: int = 0
    usual: bytes | None = TAKEN
    answers: deque[bytes | None] = field(default_factory=deque)
    trickles: bool = False
    """Whether more and more of the answer comes, a byte at a time."""
    requests: list[Request] = field(default_factory=list)
    taken: list[Request] = field(default_factory=list)
    """Those that were answered with 2xx."""
    connections: int = 0
    names: list[str | None] = field(default_factory=list)
    """What TLS was asked for (SNI)."""
    arrived: asyncio.Event = field(default_factory=asyncio.Event)
    hung_up: asyncio.Event = field(default_factory=asyncio.Event)
    _open: dict[asyncio.StreamWriter, asyncio.Task[None] | None] = field(default_factory=dict)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection."""
        self.connections += 1
        self._open[writer] = asyncio.current_task()
        try:
            while True:
                request = await _read(reader)
                self.requests.append(request)
                self.arrived.set()
                reply = self.answers.popleft() if self.answers else self.usual
                if reply is None:
                    await reader.read()
                    return
                if reply.startswith(b"HTTP/1.1 2"):
                    self.taken.append(request)
                writer.write(reply)
                await writer.drain()
                while self.trickles:
                    writer.write(b"x")
                    await writer.drain()
                    await asyncio.sleep(0.02)
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            self.hung_up.set()
            writer.close()
            del self._open[writer]

    async def hang_up(self) -> None:
        """End all connections."""
        tasks = [task for task in self._open.values() if task is not None]
        for writer in list(self._open):
            writer.transport.abort()
        await asyncio.gather(*tasks)


async def _read(reader: asyncio.StreamReader) -> Request:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    line, *fields = head.strip().split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (one.partition(":") for one in fields)}
    return Request(line, headers, await reader.readexactly(int(headers["content-length"])))


@asynccontextmanager
async def receiving(
    tls: ssl.SSLContext | None = None, *, host: str = "127.0.0.1", port: int = 0
) -> AsyncIterator[Receiver]:
    """A receiver, for the time of the block."""
    receiver = Receiver()
    if tls is not None:
        tls.sni_callback = lambda _, name, __: receiver.names.append(name)
    server = await asyncio.start_server(receiver.serve, host, port, ssl=tls)
    try:
        receiver.port = server.sockets[0].getsockname()[1]
        yield receiver
    finally:
        server.close()
        await receiver.hang_up()
