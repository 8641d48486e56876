"""A scripted Graph over TLS for the tests, with people in it, and plugins in front of it."""

import asyncio
import itertools
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import trustme
from facesvc_graph import GraphPlugin, GraphSettings
from facesvc_graph.client import Client
from facesvc_graph.replies import Part, Workload
from facesvc_graph.scripted import SECRET, ScriptedGraph
from facesvc_graph.scripted_people import JPEG, ScriptedUser

from facesvc.delivery import kit
from facesvc.delivery.kit import MemoryBox
from facesvc.events.plugin import Facts, Person

_NUMBERS = itertools.count(1)


def user_id(number: int) -> str:
    """The object id of a user."""
    return f"00000000-0000-4000-8000-{number:012}"


ANA = user_id(1)
BEN = user_id(2)
GET_ANA = Part("GET", f"/users/{ANA}", Workload.DIRECTORY, "User.Read.All")
GET_BEN = Part("GET", f"/users/{BEN}", Workload.DIRECTORY, "User.Read.All")


def view_part(user: str = ANA) -> Part:
    """A request to Outlook."""
    return Part(
        "GET", f"/users/{user}/calendarView", Workload.OUTLOOK, "Calendars.Read", prefer='outlook.timezone="UTC"'
    )


@dataclass(slots=True)
class World:
    """Graph, a box, and what both are made of."""

    folder: Path
    ca_file: Path
    graph: ScriptedGraph
    box: MemoryBox = field(default_factory=lambda: MemoryBox(name="graph"))

    @property
    def now(self) -> datetime:
        """The time of day."""
        return self.box.now()

    def raw(self, **changes: Any) -> dict[str, Any]:
        """As in ``[plugins.graph]``."""
        secret = self.folder / "secret"
        secret.touch(0o600)
        secret.write_text(SECRET)
        given = {"client_secret_file": str(secret), **changes}
        return self.graph.settings(given.pop("ca_file", self.ca_file), **given)

    def settings(self, **changes: Any) -> GraphSettings:
        """Validated."""
        return GraphSettings.model_validate(self.raw(**changes))

    def client(self, **changes: Any) -> Client:
        """One that leaves Graph alone for exactly as long as it should."""
        return Client(self.settings(**changes), self.box.now, chance=lambda: 0.5)

    def person(self, subject_id: str = "ana", user: str = ANA, **changes: Any) -> Person:
        """Somebody in the gallery."""
        given = {"external_ids": {"graph_user_id": user}, **changes}
        one = replace(kit.person(subject_id), **given)
        self.box.people[one.collection_id, one.subject_id] = one
        return one

    def enter(self, *people: Person) -> None:
        """They are present."""
        self.box.stays += [kit.stay(one, self.now) for one in people]

    def leave(self, one: Person) -> None:
        """They are not."""
        self.box.stays = [stay for stay in self.box.stays if stay.subject_id != one.subject_id]

    async def arrive(self, plugin: GraphPlugin, one: Person) -> Facts | None:
        """They are present, and the plugin hears of it."""
        self.enter(one)
        return await plugin.handle(kit.delivery(kit.arrived(one, self.now), number=next(_NUMBERS)))

    def meet(self, subject: str, start: float, end: float, user: str = ANA, **more: Any) -> None:
        """An event, so many minutes from now."""
        self.graph.people[user].meet(
            subject, self.now + timedelta(minutes=start), self.now + timedelta(minutes=end), **more
        )

    @asynccontextmanager
    async def plugin(self, **changes: Any) -> AsyncIterator[GraphPlugin]:
        """One that has started, whose rounds come when a test says so."""
        one = GraphPlugin(self.settings(**changes), self.box, sleep=_never)
        await one.start()
        try:
            yield one
        finally:
            await one.stop()


async def _never(_: float) -> None:
    await asyncio.Event().wait()


def write_certificates(folder: Path) -> tuple[Path, Path]:
    """A certificate with its key of 127.0.0.1, and that of the authority which signed it."""
    authority = trustme.CA()
    ca_file, certificate = folder / "ca.pem", folder / "server.pem"
    authority.cert_pem.write_to_path(ca_file)
    authority.issue_cert("127.0.0.1", "localhost").private_key_and_cert_chain_pem.write_to_path(certificate)
    return certificate, ca_file


def users() -> Sequence[ScriptedUser]:
    """Ana has a photo, Ben has not."""
    return (
        ScriptedUser(
            ANA, "Ana Lima", "ana@contoso.example", "ana.lima@contoso.example", "Engineer", "Research", photo=JPEG
        ),
        ScriptedUser(BEN, "Ben Roe", "ben@contoso.example", "ben.roe@contoso.example"),
    )
