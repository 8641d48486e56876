"""The plugin and a scripted Graph, for the contract kit."""

import tempfile
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from facesvc_graph import PLUGIN, GraphPlugin, GraphSettings
from facesvc_graph.scripted import ScriptedGraph
from graph_making import ANA, World, users, write_certificates

from facesvc.delivery import kit
from facesvc.events.plugin import Box, Delivery, Facts, Manifest, Person
from facesvc.events.records import Event


@dataclass
class Recorded:
    """A plugin; ``told`` are the events whose facts it gave."""

    plugin: GraphPlugin
    told: list[str] = field(default_factory=list)

    async def start(self) -> None:
        """As ``Plugin``."""
        await self.plugin.start()

    async def handle(self, delivery: Delivery) -> Facts | None:
        """As ``Plugin``."""
        facts = await self.plugin.handle(delivery)
        if facts is not None:
            self.told.append(delivery.event.event_id)
        return facts

    async def stop(self) -> None:
        """As ``Plugin``."""
        await self.plugin.stop()


class Harness:
    """``kit.Harness``: an event takes effect when there are facts about its person."""

    settings: Mapping[str, Any]

    def __init__(self) -> None:
        self._stack = ExitStack()
        self._told: list[str] = []
        self.manifest: Manifest[Any] = replace(PLUGIN, make=self._make)
        self._graph: ScriptedGraph | None = None

    def _make(self, settings: GraphSettings, box: Box) -> Recorded:
        return Recorded(GraphPlugin(settings, box), self._told)

    async def begin(self) -> None:
        """A Graph over TLS."""
        folder = Path(self._stack.enter_context(tempfile.TemporaryDirectory()))
        certificate, ca_file = write_certificates(folder)
        graph = self._graph = ScriptedGraph(certificate)
        for user in users():
            graph.add(user)
        await graph.start()
        self.settings = World(folder, ca_file, graph).raw()

    async def end(self) -> None:
        """Close the port, remove the files."""
        if self._graph is not None:
            await self._graph.stop()
        self._stack.close()

    def event(self, one: Person, now: datetime) -> Event:
        """Somebody arrived, who has a user."""
        return kit.arrived(replace(one, external_ids={"graph_user_id": ANA}), now)

    async def break_down(self) -> None:
        """Connections are closed without an answer."""
        assert self._graph is not None
        self._graph.outage = True

    async def mend(self) -> None:
        """They are not."""
        assert self._graph is not None
        self._graph.mend()

    async def effects(self, box: Box) -> list[str]:
        """The events that there were facts for."""
        return list(self._told)
