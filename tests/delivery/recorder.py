"""A plugin that does nothing but remember what it was given, and its harness."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from datetime import datetime, timedelta
from typing import Any

from pydantic import JsonValue

from facesvc.delivery.kit import Harness, seen
from facesvc.errors import InputError
from facesvc.events.plugin import (
    About,
    Box,
    Delivery,
    Facts,
    Manifest,
    Needs,
    Person,
    PluginSettings,
    Role,
    TryLaterError,
)
from facesvc.events.records import Event, SeenEvent


class Settings(PluginSettings):
    greeting: str = "hello"
    policy: str = ""


class World:
    """What the plugin acts on."""

    def __init__(self) -> None:
        self.effects: list[str] = []
        self.attempts: list[tuple[str, int]] = []
        self.forgotten: list[About] = []
        self.broken: BaseException | None = None
        self.start_errors: list[BaseException] = []
        self.stopped = 0
        self.on_handle: Callable[[Delivery], Awaitable[None] | None] = lambda delivery: None
        self.on_stop: Callable[[], None] = lambda: None


class Recorder:
    def __init__(self, world: World, box: Box, role: Role) -> None:
        self._world = world
        self._box = box
        self._role = role

    async def start(self) -> None:
        if self._world.start_errors:
            raise self._world.start_errors.pop()

    async def handle(self, delivery: Delivery) -> Facts | None:
        event_id = delivery.event.event_id
        self._world.attempts.append((event_id, delivery.attempt))
        waiting = self._world.on_handle(delivery)
        await (asyncio.sleep(0) if waiting is None else waiting)
        if self._world.broken is not None:
            raise self._world.broken
        self._world.effects.append(event_id)
        if self._role is Role.ACTS:
            return None
        now = self._box.now()
        values = {"event_id": event_id}
        return Facts(values=values, summary="here", fetch_time=now, expire_time=now + timedelta(seconds=60))

    async def stop(self) -> None:
        self._world.stopped += 1
        self._world.on_stop()

    async def forget(self, about: About) -> None:
        self._world.forgotten.append(about)

    async def call(self, command: str, arguments: Mapping[str, str]) -> JsonValue:
        if "who" not in arguments:
            raise InputError("say who", field="who")
        return {command: arguments["who"]}


def manifest_of(world: World, *, role: Role = Role.ACTS, **changes: Any) -> Manifest[Settings]:
    given: dict[str, Any] = {
        "name": "recorder",
        "summary": "Remembers.",
        "role": role,
        "settings": Settings,
        "make": lambda settings, box: Recorder(world, box, role),
        "kinds": frozenset({SeenEvent}),
        "needs": lambda settings: Needs(policy=settings.policy),
        "commands": {"greet": "says hello"},
    }
    return Manifest(**(given | changes))


class RecorderHarness(Harness):
    def __init__(self, **changes: Any) -> None:
        self.world = World()
        self.manifest = manifest_of(self.world, **changes)
        self.settings: Mapping[str, Any] = {}

    async def begin(self) -> None:
        pass

    async def end(self) -> None:
        pass

    def event(self, one: Person, now: datetime) -> Event:
        return seen(one, now)

    async def break_down(self) -> None:
        self.world.broken = TryLaterError("it is broken")

    async def mend(self) -> None:
        self.world.broken = None

    async def effects(self, box: Box) -> list[str]:
        return list(self.world.effects)
