"""What a plugin is given of the server: its notes, and the server's own knowledge, asked for from the plugin's loop."""

import asyncio
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Protocol

from pydantic import JsonValue
from ulid import ULID

from facesvc.delivery.notes import FactStore, PluginNotes
from facesvc.errors import ExhaustedError
from facesvc.events.plugin import NOBODY, About, Box, Facts, Notes, Person
from facesvc.events.records import EnrichedEvent, Stay

_BURST = 2000
_MAX_TOLD = 2000  # characters of JSON
_PER_SECOND = 200


class Server(Protocol):
    """What the host needs of the rest of the server. Every method may be called from any thread; all but one block."""

    def now(self) -> datetime:
        """The time of day, UTC."""
        ...

    def person(self, about: About) -> Person | None:
        """Somebody who is enrolled."""
        ...

    def present(self) -> Sequence[Stay]:
        """Who is present on this box."""
        ...

    def tell(self, event: EnrichedEvent) -> None:
        """Put an event into the journal, soon; does not wait."""
        ...

    def audit(self, actor: str, action: str, detail: str, about: About) -> None:
        """An entry in the audit log."""
        ...

    def enrol(self, actor: str, about: About, picture: bytes, source: str) -> str:
        """Enrol a face; the verdict."""
        ...


@dataclass(slots=True)
class _Allowance:
    """A bucket of tokens: so many at once, and so many a second."""

    left: float = _BURST
    filled: float = 0.0

    def take(self, clock: float) -> bool:
        """Whether there was one."""
        self.left = min(_BURST, self.left + (clock - self.filled) * _PER_SECOND)
        self.filled = clock
        if self.left < 1:
            return False
        self.left -= 1
        return True


def _told(values: Mapping[str, JsonValue]) -> dict[str, JsonValue]:
    """What goes into the journal: no pictures, which whoever wants them has beside the presence."""
    return {name: value for name, value in values.items() if len(json.dumps(value)) <= _MAX_TOLD}


class Desk(Box):
    """The box of one plugin."""

    def __init__(self, plugin: str, server: Server, notes: PluginNotes, facts: FactStore) -> None:
        self._plugin = plugin
        self._server = server
        self._notes = notes
        self._facts = facts
        self._allowance = _Allowance(filled=time.monotonic())

    @property
    def notes(self) -> Notes:
        """As ``Box``."""
        return self._notes

    def now(self) -> datetime:
        """As ``Box``."""
        return self._server.now()

    async def person(self, about: About) -> Person | None:
        """As ``Box``."""
        return await asyncio.to_thread(lambda: self._server.person(about))

    async def present(self) -> Sequence[Stay]:
        """As ``Box``."""
        return await asyncio.to_thread(self._server.present)

    async def publish(self, about: About, facts: Facts) -> None:
        """As ``Box``. Raises ``ExhaustedError`` from a plugin that does so without an end."""
        self._refuse_flood()
        await asyncio.to_thread(lambda: self._publish(about, facts))

    def _refuse_flood(self) -> None:
        if not self._allowance.take(time.monotonic()):
            message = f"the plugin {self._plugin} publishes or audits more than {_PER_SECOND} times a second"
            raise ExhaustedError(message)

    def _publish(self, about: About, facts: Facts) -> None:
        kept = self._facts.put(self._plugin, about, facts)
        person = self._server.person(about)
        if kept is None or person is None:
            return
        now = self._server.now()
        self._server.tell(
            EnrichedEvent(
                event_id=str(ULID.from_datetime(now)),
                event_time=now,
                camera_id="",
                zone="",
                collection_id=about[0],
                subject_id=about[1],
                display_name=person.display_name,
                external_ids=person.external_ids,
                plugin=self._plugin,
                values=_told(kept.values),
                summary=kept.summary,
                fetch_time=kept.fetch_time.astimezone(UTC),
                expire_time=kept.expire_time.astimezone(UTC),
            )
        )

    async def facts(self, about: About) -> Mapping[str, Facts]:
        """As ``Box``."""
        return await asyncio.to_thread(lambda: self._facts.of(about, self._server.now()))

    async def audit(self, action: str, detail: str, about: About = NOBODY) -> None:
        """As ``Box``. Raises as ``publish``."""
        self._refuse_flood()
        await asyncio.to_thread(lambda: self._server.audit(f"plugin {self._plugin}", action, detail, about))

    async def enrol(self, about: About, picture: bytes, source: str) -> str:
        """As ``Box``."""
        return await asyncio.to_thread(lambda: self._server.enrol(f"plugin {self._plugin}", about, picture, source))
