"""An event, to the stream."""

import asyncio
from collections.abc import Callable

from facesvc.events.link import Link, Sleep
from facesvc.events.plugin import Box, Delivery, Facts, Plugin
from facesvc_nats.client import Client
from facesvc_nats.messages import message
from facesvc_nats.settings import NatsSettings
from facesvc_nats.stream import ensure


class Nats(Plugin):
    """Publishes events, each until the stream has acknowledged it."""

    def __init__(self, settings: NatsSettings, box: Box, *, sleep: Sleep = asyncio.sleep) -> None:
        del box  # nothing is kept here
        self.settings = settings
        self._link = Link(settings, lambda: Client(settings), self._serve, sleep=sleep)

    async def start(self) -> None:
        """Connect, and see to the stream."""
        await self._link.open()

    async def handle(self, delivery: Delivery) -> Facts | None:
        """Publish one. The stream keeps the first of several with one id."""
        await self._link.client.send(message(self.settings, delivery))
        return None

    async def stop(self) -> None:
        """Disconnect."""
        await self._link.close()

    async def _serve(self, client: Client, up: Callable[[], None]) -> None:
        await ensure(client, self.settings)
        up()
        await client.lost()
