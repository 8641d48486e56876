"""For tests: a real host over a real database, with one plugin, and a server around it that is made up."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from facesvc.database.opening import open_database
from facesvc.delivery.desk import Desk
from facesvc.delivery.host import Host
from facesvc.delivery.kit import Clock
from facesvc.delivery.notes import FactStore, NoteStore, PluginNotes
from facesvc.delivery.roll import Enlisted, enlist_one
from facesvc.delivery.runner import Runner
from facesvc.errors import NotFoundError
from facesvc.events.journal import Journal
from facesvc.events.plugin import About, Box, Manifest, Person
from facesvc.events.records import EnrichedEvent, Event, Stay

_PATIENCE_S = 20.0


class OpenSealer:
    """Keeps what it seals readable, for those who were not forgotten."""

    def __init__(self) -> None:
        self.forgotten: set[About] = set()

    def seal(self, collection_id: str, subject_id: str, plaintext: bytes, *name: str) -> bytes:
        """As ``Sealer``."""
        if (collection_id, subject_id) in self.forgotten:
            raise NotFoundError(f"there is no subject {subject_id!a}", field="subject_id")
        return "/".join(name).encode() + b"\0" + plaintext

    def unseal(self, collection_id: str, subject_id: str, sealed: bytes, *name: str) -> bytes | None:
        """As ``Sealer``."""
        if (collection_id, subject_id) in self.forgotten:
            return None
        place, _, plaintext = sealed.partition(b"\0")
        assert place == "/".join(name).encode(), "it is another row's"
        return plaintext

    def tag(self, purpose: str, data: bytes) -> bytes:
        """As ``Sealer``."""
        raise NotImplementedError


class MadeUpServer:
    """People and stays as a test sets them; see ``desk.Server``."""

    def __init__(self, clock: Clock) -> None:
        self.people: dict[About, Person] = {}
        self.stays: list[Stay] = []
        self.audited: list[tuple[str, str, str, About]] = []
        self.told: list[EnrichedEvent] = []
        self.tell: Callable[[EnrichedEvent], None] = self.told.append
        self.now = clock

    def person(self, about: About) -> Person | None:
        """As ``Server``."""
        return self.people.get(about)

    def present(self) -> Sequence[Stay]:
        """As ``Server``."""
        return self.stays

    def audit(self, actor: str, action: str, detail: str, about: About) -> None:
        """As ``Server``."""
        self.audited.append((actor, action, detail, about))

    def enrol(self, actor: str, about: About, picture: bytes, source: str) -> str:  # noqa: ARG002 - as Server
        """As ``Server``."""
        return "ENROLLED"


class Rig:
    """One box with one plugin. ``start`` and ``stop`` are those of the server; what is on the disk stays.

    ``neighbours`` are more plugins at work; ``url`` names another database than a file in ``folder``.
    """

    def __init__(
        self,
        folder: Path,
        manifest: Manifest[Any],
        settings: Mapping[str, Any],
        *,
        neighbours: Sequence[Enlisted] = (),
        url: str = "",
    ) -> None:
        self.clock = Clock()
        self.server = MadeUpServer(self.clock)
        self.sealer = OpenSealer()
        self.database = open_database(url or folder / "rig.db")
        self.journal = Journal(self.database, self.sealer, self.clock())
        self._enlisted = enlist_one(manifest, settings)
        self._neighbours = neighbours
        self.server.tell = self.append
        self.host: Host | None = None
        self._make_host()

    @property
    def box(self) -> Box:
        """The plugin's box."""
        name = self._enlisted.manifest.name
        notes = PluginNotes(NoteStore(self.database, self.sealer, name, self.clock))
        return Desk(name, self.server, notes, FactStore(self.database, self.sealer))

    @property
    def runner(self) -> Runner:
        """What runs the plugin."""
        assert self.host is not None
        return self.host.runners[0]

    def _make_host(self) -> Host:
        self.host = Host([self._enlisted, *self._neighbours], self.database, self.journal, self.sealer, self.server)
        return self.host

    async def start(self) -> None:
        """Start the plugin, and wait until events are delivered to it."""
        host = self.host or self._make_host()
        host.start()
        await self.until(lambda: self.runner.standing().condition.value == "running")

    async def stop(self) -> None:
        """Stop the plugin."""
        if self.host is not None:
            await asyncio.to_thread(self.host.stop)
            self.host = None

    async def close(self) -> None:
        """Stop, and let go of the database."""
        with suppress(Exception):
            await self.stop()
        self.database.close()

    def append(self, *events: Event) -> None:
        """Events happen."""
        for event in events:
            if event.about:
                about = (event.collection_id, event.about)
                self.server.people.setdefault(about, _person_of(about))
        self.journal.append(events, [])
        if self.host is not None:
            self.host.notify()

    async def settled(self) -> None:
        """Wait until the plugin was given everything that has happened, and nothing waits."""
        await self.until(self.is_settled)

    def is_settled(self) -> bool:
        """Whether that is so."""
        standing = self.runner.standing()
        return standing.place >= self.journal.head and not standing.waiting

    async def until(self, condition: Callable[[], bool | Awaitable[bool]]) -> None:
        """Wait until something is so. Raises ``TimeoutError``."""
        async with asyncio.timeout(_PATIENCE_S):
            while True:
                result = condition()
                if result if isinstance(result, bool) else await result:
                    return
                await asyncio.sleep(0.005)


def _person_of(about: About) -> Person:
    return Person(
        collection_id=about[0],
        subject_id=about[1],
        display_name=about[1].capitalize(),
        external_ids={},
        metadata={},
        recognisable=True,
        consent_purpose="",
    )
