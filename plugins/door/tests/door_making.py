"""What the tests of doors are made of: settings, drivers that do what a test says, and a sleep that it ends."""

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

from facesvc_door.gate import Gate
from facesvc_door.settings import DoorSettings

from facesvc.delivery.kit import MemoryNotes, person
from facesvc.errors import DependencyError, NotFoundError
from facesvc.events.plugin import NOBODY, Person

ANA = person("ana", metadata={"group": "staff, lab"})
BEN = person("ben", metadata={"group": "cleaners"})
CYD = person("cyd")
OFFICE = {"days": ["mon", "tue", "wed", "thu", "fri"], "start": "07:00", "end": "19:00"}


def door(**changes: Any) -> dict[str, Any]:
    """A door that staff may pass at any time; it only writes to the log."""
    return {
        "cameras": ["door-1"],
        "permissions": [{"groups": ["staff"], "schedule": "always"}],
        "relay": {"driver": "log"},
        **changes,
    }


def http(port: int, **changes: Any) -> dict[str, Any]:
    """A relay as in ``door_relay``."""
    return {
        "driver": "http",
        "on_url": f"http://127.0.0.1:{port}/on?toggle_after={{seconds}}&event={{event_id}}",
        "off_url": f"http://127.0.0.1:{port}/off",
        **changes,
    }


def values(**changes: Any) -> dict[str, Any]:
    """``[plugins.door]`` with one door, ``front``."""
    return {"doors": {"front": door()}, **changes}


def settings(**changes: Any) -> DoorSettings:
    return DoorSettings.model_validate(values(**changes))


async def until(condition: Callable[[], bool]) -> None:
    """Wait until something is so that other tasks or threads bring about."""
    async with asyncio.timeout(20):
        while not condition():  # noqa: ASYNC110 - of threads and sockets, which set no Event
            await asyncio.sleep(0.002)


class Hourglass:
    """A sleep that lasts until a test says that the time has run out."""

    def __init__(self) -> None:
        self.sleeping: list[tuple[float, asyncio.Future[None]]] = []

    async def __call__(self, seconds: float) -> None:
        one = (seconds, asyncio.get_running_loop().create_future())
        self.sleeping.append(one)
        try:
            await one[1]
        finally:
            self.sleeping.remove(one)

    def lasts(self) -> list[float]:
        return [seconds for seconds, _ in self.sleeping]

    async def run_out(self, seconds: float) -> None:
        """Whoever sleeps for so long wakes up; somebody has to."""
        await until(lambda: seconds in self.lasts())
        for lasts, future in self.sleeping:
            if lasts == seconds and not future.done():
                future.set_result(None)


async def settled(gate: Gate) -> None:
    """Wait until the relay is off, where it is about to be."""
    for name in ("_pulse", "_settling"):
        task = getattr(gate, name)
        if task is not None:
            await asyncio.wait([task])


class FakeDriver:
    """Does what a test says, and remembers what it was told."""

    def __init__(self) -> None:
        self.told: list[str] = []
        self.lit = False
        self.fails: set[str] = set()
        self.hangs: set[str] = set()
        self.waits: dict[str, asyncio.Event] = {}
        self.has_input = False
        self.contact: bool | None = None
        self.closed = False
        self.began = asyncio.Event()

    async def _do(self, what: str) -> None:
        self.told.append(what)
        if what in {"on", "off"} and what not in self.fails:
            self.lit = what == "on"
        self.began.set()
        if what in self.hangs:
            await asyncio.Event().wait()
        if what in self.waits:
            await self.waits[what].wait()
        if what in self.fails:
            raise RuntimeError("by the test")

    async def on(self, seconds: float, reference: str) -> None:
        assert seconds > 0
        assert reference
        await self._do("on")

    async def off(self) -> None:
        await self._do("off")

    async def is_open(self) -> bool | None:
        await self._do("input")
        return self.contact

    async def check(self) -> str:
        await self._do("check")
        return "there"

    async def close(self) -> None:
        self.closed = True


class AwayNotes(MemoryNotes):
    """Notes of a database that is away whenever ``away`` names the method."""

    away: frozenset[str] = frozenset()
    unknown: frozenset[str] = frozenset()
    """Subjects whom the database does not know (any more)."""

    def _look(self, method: str) -> None:
        if method in self.away:
            raise DependencyError("the database is away")

    async def put(self, *arguments: Any, **named: Any) -> None:
        self._look("put")
        if named.get("about", NOBODY)[1] in self.unknown:
            raise NotFoundError("there is no such subject")
        await super().put(*arguments, **named)

    async def put_new(self, *arguments: Any, **named: Any) -> bool:
        self._look("put_new")
        return await super().put_new(*arguments, **named)

    async def get(self, *arguments: Any, **named: Any) -> Any:
        self._look("get")
        return await super().get(*arguments, **named)


def people(*some: Person) -> Mapping[tuple[str, str], Person]:
    return {(one.collection_id, one.subject_id): one for one in some}
