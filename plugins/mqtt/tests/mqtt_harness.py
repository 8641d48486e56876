"""The plugin and a real broker, for the contract kit."""

from collections.abc import Mapping
from contextlib import AsyncExitStack
from datetime import datetime
from typing import Any

from facesvc_mqtt import PLUGIN
from mqtt_broker import Ear, Line, brokers, listening

from facesvc.delivery import kit
from facesvc.events.plugin import Box, Manifest, Person
from facesvc.events.records import Event


class Harness:
    """``kit.Harness``: what takes effect is what somebody else hears from the broker."""

    manifest: Manifest[Any] = PLUGIN
    settings: Mapping[str, Any]

    def __init__(self) -> None:
        self._stack = AsyncExitStack()
        self._line: Line | None = None
        self._ear: Ear | None = None

    async def begin(self) -> None:
        """A broker, somebody who listens to it, and a line to it. Skips the test where there is no broker."""
        broker = await self._stack.enter_async_context(brokers())
        self._ear = await self._stack.enter_async_context(listening(broker.port))
        self._line = Line(broker.port)
        await self._line.mend()
        self._stack.push_async_callback(self._line.cut)
        self.settings = {
            "host": "127.0.0.1",
            "port": self._line.port,
            "tls": False,
            "people": "all",
            "reconnect_min_s": 0.05,
            "reconnect_max_s": 0.05,
        }

    async def end(self) -> None:
        """Stop the broker."""
        await self._stack.aclose()

    def event(self, one: Person, now: datetime) -> Event:
        """Somebody arrived."""
        return kit.arrived(one, now)

    async def break_down(self) -> None:
        """Nobody gets through to the broker."""
        assert self._line is not None
        await self._line.cut()

    async def mend(self) -> None:
        """They do."""
        assert self._line is not None
        await self._line.mend()

    async def effects(self, box: Box) -> list[str]:  # they are outside
        """What was heard."""
        assert self._ear is not None
        return [one["event_id"] for one in await self._ear.events()]
