"""A plugin that a test scripts, put to work in a real server."""

import asyncio
import threading
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import pytest
from pydantic import JsonValue

from facesvc.delivery.roll import Enlisted, enlist_one
from facesvc.errors import InputError
from facesvc.events.plugin import (
    About,
    Box,
    Delivery,
    Facts,
    Manifest,
    PluginSettings,
    Role,
    UndeliverableError,
)
from facesvc.events.records import ArrivedEvent, SeenEvent


class Script:
    """What the plugin does, and what it was asked; shared by all that are made from one manifest."""

    box: Box
    """What the plugin was given, once it is made."""

    def __init__(self) -> None:
        self.events: list[tuple[str, str]] = []
        """Kind and subject of all that was dealt with."""
        self.deliveries: list[Delivery] = []
        self.forgotten: list[About] = []
        self.refused: set[str] = set()
        """Subjects whose events it does not take."""
        self.refusal = "it is refused"
        self.keeps = False
        """Whether it keeps a note about everybody of whom it hears."""
        self.summary = "Available"
        self.begun = threading.Event()
        self.answer: JsonValue = None
        self.error: Exception | None = None
        """Raised by every call; an ``OSError`` by ``start``."""
        self.forget_error: Exception | None = None
        self.blocking = threading.Event()
        """Until it is set, a plugin that blocks does."""
        self.blocks = False
        self.holds = False
        """Whether it waits with whatever it is given, without blocking."""


class Scripted:
    def __init__(self, script: Script, box: Box, role: Role) -> None:
        self._script = script
        self._box = script.box = box
        self._role = role

    async def start(self) -> None:
        if isinstance(self._script.error, OSError):
            raise self._script.error

    async def handle(self, delivery: Delivery) -> Facts | None:
        script, event = self._script, delivery.event
        script.begun.set()
        if script.blocks:
            script.blocking.wait(60)
        while script.holds:  # noqa: ASYNC110 - another thread says when
            await asyncio.sleep(0.002)
        if event.about in script.refused:
            raise UndeliverableError(script.refusal)
        about = (event.collection_id, event.about)
        if script.keeps:
            await self._box.notes.put(event.event_id, "was here", about=about)
        script.deliveries.append(delivery)
        script.events.append((type(event).__name__.removesuffix("Event"), event.about))
        if self._role is Role.ACTS:
            return None
        now = self._box.now()
        values = {"until": "15:00"}
        return Facts(values=values, summary=script.summary, fetch_time=now, expire_time=now + timedelta(hours=1))

    async def stop(self) -> None:
        pass

    async def forget(self, about: About) -> None:
        self._script.forgotten.append(about)
        if self._script.forget_error is not None:
            raise self._script.forget_error

    async def call(self, command: str, arguments: Mapping[str, str]) -> JsonValue:
        if command == "hang":
            self._script.begun.set()
            await asyncio.sleep(3600)
        if "wrong" in arguments:
            raise InputError("no such door", field="wrong")
        if self._script.error is not None:
            raise self._script.error
        return self._script.answer if command == "answer" else dict(arguments)


def manifest_of(script: Script, *, role: Role = Role.ACTS, **changes: Any) -> Manifest[PluginSettings]:
    """Wants to hear who was seen and who arrived; answers ``echo``, ``answer`` and ``hang``."""
    given: dict[str, Any] = {
        "name": "scripted",
        "summary": "Does what a test says.",
        "role": role,
        "settings": PluginSettings,
        "make": lambda _, box: Scripted(script, box, role),
        "kinds": frozenset({SeenEvent, ArrivedEvent}),
        "commands": {"echo": "gives back", "answer": "what the test says", "hang": "never ends"},
    }
    return Manifest(**(given | changes))


def enlist(monkeypatch: pytest.MonkeyPatch, *manifests: Manifest[Any], **delivery: float) -> None:
    """Every server that is made from now on has these at work."""

    def enlisted(*_: object) -> list[Enlisted]:
        return [enlist_one(one, {"delivery": delivery}, version="1.2.3") for one in manifests]

    monkeypatch.setattr("facesvc.app.enlist", enlisted)
