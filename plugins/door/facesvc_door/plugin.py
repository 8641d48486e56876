"""The doors of this box together: their relays, the lock-down, the watch over their contacts."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from datetime import timedelta

import structlog
from pydantic import JsonValue

from facesvc.errors import FacesvcError, UnavailableError
from facesvc.events.plugin import Box, Delivery, Step
from facesvc_door.alarms import Book, Kind, Watch, missed, read
from facesvc_door.commands import Commands
from facesvc_door.drivers import build
from facesvc_door.gate import Gate, Sleep
from facesvc_door.lockdown import Lockdown
from facesvc_door.passing import Doorkeeper
from facesvc_door.settings import DoorSettings

_log = structlog.get_logger(__name__)


class DoorPlugin:
    """Plugin, ``Checks`` and ``Answers``."""

    def __init__(self, settings: DoorSettings, box: Box, sleep: Sleep = asyncio.sleep) -> None:
        self._settings = settings
        self._box = box
        self._sleep = sleep
        self._running = False
        self._book = Book(box, timedelta(days=settings.keep_days))
        self._watches: dict[str, Watch] = {}
        self._tasks: list[asyncio.Task[None]] = []
        self._keeper = Doorkeeper(settings, box, Lockdown(box.notes), {}, lambda: not self._running)
        self._commands = Commands(self._keeper, self._book, lambda door: self._watches.get(door, Watch()).is_open)

    async def start(self) -> None:
        """Switch all relays off, then find out whether the lock-down holds. A relay that is away delays no other."""
        await self.stop()
        gates = self._keeper.gates
        for name, door in self._settings.doors.items():
            gates[name] = Gate(
                name,
                build(name, door.relay),
                timeout_s=self._settings.relay_timeout_s,
                now=self._box.now,
                sleep=self._sleep,
                trouble=self._relay_stuck,
            )
        await asyncio.gather(*(gate.start() for gate in gates.values()))
        await self._keeper.lockdown.begin()
        self._running = True
        self._tasks = [asyncio.create_task(self._watch(gate)) for gate in gates.values() if gate.driver.has_input]
        self._tasks.append(asyncio.create_task(self._write_alarms()))

    async def handle(self, delivery: Delivery) -> None:
        """Open the door, or not."""
        await self._keeper.handle(delivery)

    async def stop(self) -> None:
        """Switch all relays off and let go of them."""
        self._running = False
        tasks, self._tasks = self._tasks, []
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        gates = list(self._keeper.gates.values())
        ended = await asyncio.gather(*(gate.stop() for gate in gates), return_exceptions=True)
        for gate, error in zip(gates, ended, strict=True):
            if isinstance(error, Exception):
                _log.warning("a relay was not let go of in order", door=gate.name, error=type(error).__name__)
        self._keeper.gates.clear()
        self._keeper.lockdown.holds = True

    async def check(self) -> AsyncIterator[Step]:
        """Reach each relay, without switching it."""
        for name, door in self._settings.doors.items():
            step = f"relay of door {name} ({door.relay.driver})"
            try:
                driver = build(name, door.relay)
                try:
                    async with asyncio.timeout(2 * self._settings.relay_timeout_s):
                        found = await driver.check()
                finally:
                    await driver.close()
            except TimeoutError:
                yield Step(name=step, ok=False, detail="it does not answer in time: is the address right, is it on?")
                return
            except FacesvcError as error:
                yield Step(name=step, ok=False, detail=error.message)
                return
            yield Step(name=step, ok=True, detail=found)

    async def call(self, command: str, arguments: Mapping[str, str]) -> JsonValue:
        """Carry out a command."""
        if not self._running:
            raise UnavailableError("the doors are not started; facesvc plugins list says why")
        return await self._commands.call(command, arguments)

    async def _relay_stuck(self, door: str) -> None:
        await self._book.add(Kind.RELAY_STUCK, door)

    async def _watch(self, gate: Gate) -> None:
        """Read a door's contact again and again."""
        while True:
            try:
                await self._read(gate)
            except Exception as error:  # noqa: BLE001 - a mistake of ours must not end the watch
                _log.error("a door's contact was not looked at", door=gate.name, error=type(error).__name__)
            await self._sleep(self._settings.poll_interval_s)

    async def _read(self, gate: Gate) -> None:
        door = self._settings.doors[gate.name]
        watch = self._watches.get(gate.name, Watch())
        try:
            async with asyncio.timeout(self._settings.relay_timeout_s):
                is_open = await gate.driver.is_open()
        except Exception as error:  # noqa: BLE001 - whatever a driver raises, the next reading comes
            _log.debug("a door's contact was not read", door=gate.name, error=type(error).__name__)
            after, alarms = missed(watch)
        else:
            if is_open is None:
                return
            after, alarms = read(
                watch,
                is_open=is_open,
                allowed=gate.may_be_open(door.open_within_s),
                now=self._box.now(),
                held_after=timedelta(seconds=door.held_after_s),
            )
        self._watches[gate.name] = after
        for kind in alarms:
            if kind is not Kind.FORCED or door.forced_alarm:
                await self._book.add(kind, gate.name)

    async def _write_alarms(self) -> None:
        """Those that could not be written when they came."""
        while True:
            await self._sleep(self._settings.poll_interval_s)
            await self._book.write()
