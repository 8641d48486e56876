"""Doors and a relay on a real socket, for the contract kit."""

from collections.abc import Mapping
from contextlib import AsyncExitStack
from datetime import datetime
from typing import Any

from door_making import door, http
from door_relay import Relay, relays
from facesvc_door import PLUGIN

from facesvc.delivery import kit
from facesvc.events.plugin import Box, Manifest, Person
from facesvc.events.records import Event


class Harness:
    """``kit.Harness``: what takes effect is a pulse, which the relay is told the event of."""

    manifest: Manifest[Any] = PLUGIN
    settings: Mapping[str, Any]

    def __init__(self) -> None:
        self._stack = AsyncExitStack()
        self._relay: Relay | None = None

    async def begin(self) -> None:
        """A relay that counts."""
        self._relay = await self._stack.enter_async_context(relays())
        who = [{"subjects": ["ana", "bea", "ben", "cyd"], "schedule": "always"}]
        front = door(relay=http(self._relay.port), permissions=who, pulse_s=0.1)
        # The kit makes events that are some seconds ahead.
        self.settings = {"doors": {"front": front}, "max_ahead_s": 5, "max_age_s": 10}

    async def end(self) -> None:
        """Stop the relay."""
        await self._stack.aclose()

    def event(self, one: Person, now: datetime) -> Event:
        """Somebody before the door."""
        return kit.seen(one, now)

    async def break_down(self) -> None:
        """The relay refuses everything."""
        assert self._relay is not None
        self._relay.broken = True

    async def mend(self) -> None:
        """It works again."""
        assert self._relay is not None
        self._relay.broken = False

    async def effects(self, box: Box) -> list[str]:
        """The pulses that the relay counted; each opened door has its note."""
        assert self._relay is not None
        notes = await box.notes.list("result/")
        opened = {note.key.partition("/")[2] for note in notes if _result(note.value) == "OPENED"}
        return [one for one in self._relay.pulses if one in opened]


def _result(value: Any) -> str:
    return str(value["result"])
