"""All plugins at work. ``Host`` is the way in, for everybody outside this package."""

import time
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import wait
from datetime import datetime, timedelta
from functools import partial

from pydantic import JsonValue

from facesvc.database import Database, migrate
from facesvc.delivery import notes, outbox
from facesvc.delivery.desk import Desk, Server
from facesvc.delivery.notes import FactStore, NoteStore, PluginNotes
from facesvc.delivery.outbox import Entry, Outbox, State
from facesvc.delivery.roll import Enlisted
from facesvc.delivery.runner import Runner
from facesvc.delivery.schema import DELIVERY
from facesvc.errors import InputError, NotFoundError
from facesvc.events.journal import Journal
from facesvc.events.plugin import About, Facts
from facesvc.events.records import Event
from facesvc.events.sealer import Sealer

_STOP_S = 3.5
_FORGET_S = 3.0
_REPLAYED_TOGETHER = 1000
_SET_ASIDE = (State.DEAD, State.EXPIRED, State.UNCERTAIN)


class Host:
    """Runs plugins over one database. Every method blocks, and may be called from any thread.

    Raises ``DependencyError`` where the database cannot be used.
    """

    def __init__(
        self,
        enlisted: Iterable[Enlisted],
        database: Database,
        journal: Journal,
        sealer: Sealer,
        server: Server,
    ) -> None:
        migrate(database, DELIVERY, server.now())
        self._database = database
        self._facts = FactStore(database, sealer)
        self._server = server
        self.runners = [self._runner(one, journal, sealer) for one in enlisted]

    def _runner(self, enlisted: Enlisted, journal: Journal, sealer: Sealer) -> Runner:
        name, now = enlisted.manifest.name, self._server.now
        kept = PluginNotes(NoteStore(self._database, sealer, name, now))
        desk = Desk(name, self._server, kept, self._facts)

        async def publish(event: Event, facts: Facts) -> None:
            await desk.publish((event.collection_id, event.about), facts)

        box = Outbox(self._database, journal, name)
        box.enlist()
        return Runner(enlisted, box, desk, publish, now)

    def start(self) -> None:
        """Begin; does not wait for the plugins."""
        for runner in self.runners:
            runner.start()

    def stop(self) -> None:
        """End all of them, each in its time, together within some seconds."""
        for runner in self.runners:
            runner.ask_to_stop()
        deadline = time.monotonic() + _STOP_S
        for runner in self.runners:
            runner.join(max(0.0, deadline - time.monotonic()))

    def notify(self) -> None:
        """There are news in the journal. Does not wait."""
        for runner in self.runners:
            runner.notify()

    def facts(self, about: About, now: datetime) -> Mapping[str, Facts]:
        """What may be shown of a person, by plugin."""
        return self._facts.of(about, now)

    def forget(self, about: About) -> int:
        """Forget somebody who is erased, or was by another box; how many notes and facts there were of them.

        A plugin that does not answer is not waited for longer than some seconds: what it keeps in memory it may keep
        until it does, what is on the disk is gone.
        """
        count = notes.forget(self._database, about)
        told = [future for runner in self.runners if (future := runner.forget(about)) is not None]
        wait(told, _FORGET_S)
        # Once more: something of them may just have been on its way to the disk.
        return count + notes.forget(self._database, about)

    def sweep(self, about: About) -> None:
        """Remove what was still written of somebody while they were being erased; nobody can read it any more."""
        notes.forget(self._database, about)

    def forget_old(self, now: datetime, retention: timedelta) -> None:
        """Remove notes and facts whose time is over, and what was set aside longer ago than ``retention``."""
        notes.forget_expired(self._database, now)
        outbox.forget_before(self._database, now - retention)

    def runner(self, name: str) -> Runner:
        """The runner of a plugin. Raises ``NotFoundError``."""
        for runner in self.runners:
            if runner.name == name:
                return runner
        running = ", ".join(runner.name for runner in self.runners) or "none"
        raise NotFoundError(f"no plugin {name!a} is at work here; there are {running}", field="plugin")

    def call(self, name: str, command: str, arguments: Mapping[str, str]) -> JsonValue:
        """Ask a plugin. Raises as ``Runner.call``, and ``NotFoundError``."""
        return self.runner(name).call(command, arguments)

    def set_aside(self, name: str, state: State, limit: int, after: int = 0) -> Sequence[Entry]:
        """Events that are dead, expired or uncertain, in order."""
        if state not in _SET_ASIDE:
            raise InputError("only dead, expired and uncertain events are set aside", field="state")
        return self.runner(name).outbox.list_entries(state, limit, after)

    def replay(self, name: str, sequences: Sequence[int], now: datetime) -> int:
        """Deliver dead or uncertain events again, all dead ones where none is named; how many that are."""
        runner = self.runner(name)
        count, after = 0, 0
        if sequences:
            count = runner.outbox.replay(sequences, now)
        else:
            dead = partial(runner.outbox.list_entries, State.DEAD, _REPLAYED_TOGETHER)
            while page := dead(after):
                after = page[-1].sequence
                count += runner.outbox.replay([one.sequence for one in page], now)
        runner.reload()
        return count
