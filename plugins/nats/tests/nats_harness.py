"""The plugin and a real server, for the contract kit."""

from collections.abc import Mapping
from contextlib import AsyncExitStack
from datetime import datetime
from typing import Any

from facesvc_nats import PLUGIN
from nats_server import Server, body, kept, servers

from facesvc.delivery import kit
from facesvc.events.plugin import Box, Manifest, Person
from facesvc.events.records import Event


class Harness:
    """``kit.Harness``: what takes effect is what the stream keeps."""

    manifest: Manifest[Any] = PLUGIN
    settings: Mapping[str, Any]

    def __init__(self) -> None:
        self._stack = AsyncExitStack()
        self._server: Server | None = None

    async def begin(self) -> None:
        """A server. Skips the test where there is none."""
        self._server = await self._stack.enter_async_context(servers())
        self.settings = {
            "servers": [self._server.address],
            "site": "berlin",
            "tls": False,
            "create_stream": True,
            "reconnect_min_s": 0.05,
            "reconnect_max_s": 0.05,
        }

    async def end(self) -> None:
        """Stop it."""
        await self._stack.aclose()

    def event(self, one: Person, now: datetime) -> Event:
        """Somebody arrived."""
        return kit.arrived(one, now)

    async def break_down(self) -> None:
        """The server is killed."""
        assert self._server is not None
        await self._server.stop(kill=True)

    async def mend(self) -> None:
        """It is started anew, and has what it had acknowledged."""
        assert self._server is not None
        await self._server.start()

    async def effects(self, box: Box) -> list[str]:
        """What the stream has; a stream that nobody made has nothing."""
        del box
        assert self._server is not None
        return [body(one)["id"] for one in await kept(self._server)]
