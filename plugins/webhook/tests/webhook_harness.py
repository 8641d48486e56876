"""The webhook and a receiver, for the contract kit."""

import tempfile
from collections.abc import Mapping
from contextlib import AsyncExitStack
from datetime import datetime
from pathlib import Path
from typing import Any

from facesvc_webhook import PLUGIN
from webhook_receiver import TAKEN, Receiver, answer, receiving

from facesvc.delivery import kit
from facesvc.events.plugin import Box, Manifest, Person
from facesvc.events.records import Event

SECRET = "a secret of the tests, long enough"


class Harness:
    """``kit.Harness``: what takes effect is what the receiver answers with 204."""

    manifest: Manifest[Any] = PLUGIN
    settings: Mapping[str, Any]

    def __init__(self) -> None:
        self._stack = AsyncExitStack()
        self._receiver = Receiver()

    async def begin(self) -> None:
        """A receiver on a port of its own, and a secret in a file."""
        folder = Path(self._stack.enter_context(tempfile.TemporaryDirectory()))
        secret = folder / "secret"
        secret.touch(0o600)
        secret.write_text(SECRET)
        self._receiver = await self._stack.enter_async_context(receiving())
        self.settings = {
            "url": f"http://127.0.0.1:{self._receiver.port}/events",
            "secret": f"file:{secret}",
            "allow_private": True,
        }

    async def end(self) -> None:
        """Close the port, remove the file."""
        await self._stack.aclose()

    def event(self, one: Person, now: datetime) -> Event:
        """Somebody arrived."""
        return kit.arrived(one, now)

    async def break_down(self) -> None:
        """The receiver answers 503."""
        self._receiver.usual = answer(503)

    async def mend(self) -> None:
        """It answers 204."""
        self._receiver.usual = TAKEN

    async def effects(self, box: Box) -> list[str]:
        """What the receiver took."""
        return [one.event["id"] for one in self._receiver.taken]
