"""What can be asked of the doors: ``facesvc plugins call door COMMAND KEY=VALUE …``."""

import asyncio
import secrets
from collections.abc import Awaitable, Callable, Mapping
from types import MappingProxyType

from pydantic import JsonValue

from facesvc.errors import DependencyError, InputError, NotFoundError, PreconditionError
from facesvc_door.alarms import Book, Kind
from facesvc_door.arguments import Arguments
from facesvc_door.drivers.log import LogDriver
from facesvc_door.gate import Gate
from facesvc_door.passing import Doorkeeper, RefusedError

HELP: Mapping[str, str] = MappingProxyType(
    {
        "status": "how the doors are, and whether all are closed",
        "lockdown": "reason=… [by=ID]: close all doors until somebody releases them",
        "release": "by=ID reason=…: end the lock-down",
        "duress": "[door=NAME] [by=ID] [reason=…]: raise the alarm that somebody is forced; opens nothing",
        "alarms": "[door=NAME] [limit=50]: the last alarms, the newest first",
        "open": "door=NAME by=ID reason=…: open a door by hand; not in a lock-down",
        "result": "event_id=ID: whether a door opened for an event, and why not",
        "leave": "subject_id=ID by=ID [area=NAME] [collection_id=default]: for anti-passback, they are not inside",
        "test": "door=NAME: reach a relay without switching it; one of the driver log is pulsed",
    }
)
MAX_ALARMS = 1000


class Commands:
    """Each method that is a command takes its arguments and gives what is printed."""

    def __init__(self, keeper: Doorkeeper, book: Book, openings: Callable[[str], bool | None]) -> None:
        self._keeper = keeper
        self._box = keeper.box
        self._book = book
        self._openings = openings
        self._commands: Mapping[str, Callable[[Arguments], Awaitable[JsonValue]]] = {
            "status": self._status,
            "lockdown": self._lockdown,
            "release": self._release,
            "duress": self._duress,
            "alarms": self._alarms,
            "open": self._open,
            "result": self._result,
            "leave": self._leave,
            "test": self._test,
        }

    async def call(self, command: str, arguments: Mapping[str, str]) -> JsonValue:
        """Carry it out. Raises ``InputError`` for a command or arguments that are none."""
        method = self._commands.get(command)
        if method is None:
            raise InputError(f"doors know the commands {', '.join(self._commands)}", field="command")
        return await method(Arguments(command, arguments))

    async def _status(self, arguments: Arguments) -> JsonValue:
        arguments.end()
        doors: dict[str, JsonValue] = {}
        for name, gate in self._keeper.gates.items():
            is_open = self._openings(name)
            doors[name] = {
                "relay": "UNCERTAIN" if not gate.ready else "ON" if gate.lit else "OFF",
                "driver": self._keeper.settings.doors[name].relay.driver,
                "contact": "UNKNOWN" if is_open is None else "OPEN" if is_open else "CLOSED",
            }
        closed = await self._keeper.lockdown.asked()
        return {"locked_down": closed, "lockdown": await self._keeper.lockdown.kept(), "doors": doors}

    async def _lockdown(self, arguments: Arguments) -> JsonValue:
        reason, by = arguments.text("reason"), arguments.id("by", needed=False)
        arguments.end()
        return await self._close_all(by, reason)

    async def _close_all(self, by: str, reason: str) -> dict[str, JsonValue]:
        lockdown = self._keeper.lockdown
        lockdown.holds = True  # first of all, and whatever happens next
        gates = list(self._keeper.gates.values())
        done = await asyncio.gather(*(gate.cut() for gate in gates))
        try:
            new = await lockdown.write(by, reason, self._box.now())
            await self._box.audit("LockDoors", f"all doors closed{_by(by)}: {reason}")
        except DependencyError as error:
            raise DependencyError(
                f"the doors are closed, but not across a restart: that could not be written, {error.message}; try again"
            ) from error
        unsure: list[JsonValue] = [gate.name for gate, off in zip(gates, done, strict=True) if not off]
        return {"locked_down": True, "new": new, "relays_not_confirmed_off": unsure}

    async def _release(self, arguments: Arguments) -> JsonValue:
        by, reason = arguments.id("by"), arguments.text("reason")
        arguments.end()
        await self._box.audit("ReleaseDoors", f"doors released{_by(by)}: {reason}")
        return {"locked_down": False, "was_locked_down": await self._keeper.lockdown.release()}

    async def _duress(self, arguments: Arguments) -> JsonValue:
        door, by = arguments.id("door", needed=False), arguments.id("by", needed=False)
        reason = arguments.text("reason", needed=False)
        arguments.end()
        if door:
            self._gate(door)
        answer: dict[str, JsonValue] = {"recorded": True, "locked_down": self._keeper.lockdown.holds}
        try:
            if self._keeper.settings.duress_closes_all:
                answer |= await self._close_all(by, "duress")
        finally:
            await self._book.add(Kind.DURESS, door, f"{Kind.DURESS.value}{_by(by)}{': ' + reason if reason else ''}")
        return answer

    async def _alarms(self, arguments: Arguments) -> JsonValue:
        door, limit = arguments.id("door", needed=False), arguments.number("limit", 50, MAX_ALARMS)
        arguments.end()
        if door:
            self._gate(door)
        return {"alarms": list(await self._book.last(limit, door))}

    async def _open(self, arguments: Arguments) -> JsonValue:
        door, by, reason = arguments.id("door"), arguments.id("by"), arguments.text("reason")
        arguments.end()
        self._gate(door)
        if await self._keeper.lockdown.asked():
            await self._box.audit("RefuseDoor", f"door {door}: LOCKED_DOWN: asked for by hand{_by(by)}: {reason}")
            raise PreconditionError("all doors are closed: release them first", reason="LOCKED_DOWN")
        await self._box.audit("OpenDoor", f"door {door}: by hand{_by(by)}: {reason}")
        await self._pulse(door)
        return {"door": door, "opened_for_seconds": self._keeper.settings.doors[door].pulse_s}

    async def _pulse(self, door: str) -> None:
        def allowed() -> None:
            if self._keeper.stopping() or self._keeper.lockdown.holds:
                raise RefusedError("all doors were closed a moment ago", reason="LOCKED_DOWN")

        try:
            seconds = self._keeper.settings.doors[door].pulse_s
            await self._gate(door).open(seconds, f"manual-{secrets.token_hex(8)}", allowed)
        except Exception as error:
            reason = error.reason if isinstance(error, RefusedError) else "RELAY_FAILED"
            await self._box.audit(
                "RefuseDoor", f"door {door}: {reason}: asked for by hand, the relay was not switched on"
            )
            if isinstance(error, TimeoutError):
                raise DependencyError(f"the relay of door {door} did not answer in time", reason=reason) from error
            raise

    async def _result(self, arguments: Arguments) -> JsonValue:
        event_id = arguments.id("event_id")
        arguments.end()
        key = f"result/{event_id}"
        for note in await self._box.notes.list(key, limit=10):
            if note.key == key:
                return note.value
        raise NotFoundError("no result is kept for this event", field="event_id")

    async def _leave(self, arguments: Arguments) -> JsonValue:
        subject_id, by = arguments.id("subject_id"), arguments.id("by")
        area, collection = arguments.id("area", needed=False), arguments.id("collection_id", needed=False) or "default"
        arguments.end()
        areas = {door.area or name for name, door in self._keeper.settings.doors.items()}
        if area and area not in areas:
            raise NotFoundError(f"the doors have the areas {', '.join(sorted(areas))}", field="area")
        about = (collection, subject_id)
        chosen = [area] if area else sorted(areas)
        left: list[JsonValue] = [one for one in chosen if await self._box.notes.delete(f"inside/{one}", about=about)]
        await self._box.audit("ForgetInside", f"anti-passback forgets where they are{_by(by)}", about)
        return {"left": left}

    async def _test(self, arguments: Arguments) -> JsonValue:
        door = arguments.id("door")
        arguments.end()
        gate = self._gate(door)
        if isinstance(gate.driver, LogDriver):
            await self._box.audit("OpenDoor", f"door {door}: a test of the driver log, which switches nothing")
            await self._pulse(door)
            return {"door": door, "detail": "pulsed; look into the log"}
        async with asyncio.timeout(self._keeper.settings.relay_timeout_s * 2):
            return {"door": door, "detail": await gate.driver.check()}

    def _gate(self, door: str) -> Gate:
        gate = self._keeper.gates.get(door)
        if gate is None:
            raise NotFoundError(f"there is no such door; there are {', '.join(self._keeper.gates)}", field="door")
        return gate


def _by(by: str) -> str:
    return f" by {by}" if by else ""
