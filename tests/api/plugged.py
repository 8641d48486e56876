"""A real server with the scripted plugin at work, and questions about it; tests import the fixtures."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any

import pytest
import pytest_asyncio
from api.conftest import Running, Start, Vision, with_retention
from api.scripted_plugin import Script, enlist, manifest_of
from api.test_events import written

from facesvc.client import CallError
from facesvc.config import Settings
from facesvc.delivery.outbox import State
from facesvc.delivery.runner import Condition
from facesvc.events.audit import Asked
from facesvc.v1 import plugins_pb2

Plug = Callable[..., Awaitable[Running]]


@pytest.fixture
def settings(settings: Settings) -> Settings:
    """Nothing is forgotten for its age: made-up events are old."""
    return with_retention(settings, 3660)


@pytest.fixture
def script() -> Script:
    return Script()


@pytest_asyncio.fixture
async def plug(start: Start, script: Script, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Plug]:
    """Starts a server with the scripted plugin at work: ``plug(vision=None, **changes of its manifest)``."""
    async with AsyncExitStack() as stack:
        stack.callback(script.blocking.set)

        async def plug(vision: Vision | None = None, **changes: Any) -> Running:
            enlist(monkeypatch, manifest_of(script, **changes))
            running = await start(vision=vision)
            plugins = running.service.plugins
            stack.push_async_callback(asyncio.to_thread, plugins.stop)
            stack.callback(script.blocking.set)
            await asyncio.to_thread(plugins.start)
            return running

        yield plug


async def until(condition: Callable[[], Any]) -> None:
    async with asyncio.timeout(20):
        while not condition():  # noqa: ASYNC110 - what is waited for sets no event
            await asyncio.sleep(0.002)


async def status(running: Running) -> plugins_pb2.PluginStatus:
    (found,) = await running.client.list_plugins()
    return found


async def settled(running: Running) -> None:
    """The plugin runs, was given all that has happened, and that is written down."""
    await written(running)
    (runner,) = running.service.plugins.runners
    sql = "SELECT sequence FROM plugin_places"
    database, journal = running.service.plugins._database, running.service.journal
    await until(lambda: runner.standing().condition is Condition.RUNNING)
    await until(lambda: not runner.standing().waiting and database.select(sql) == [(journal.head,)])


def counts(running: Running) -> dict[State, int]:
    (runner,) = running.service.plugins.runners
    return runner.outbox.counts()


async def letters(running: Running, **asked: Any) -> list[plugins_pb2.DeadLetter]:
    return [one async for one in running.client.list_dead_letters("scripted", **asked)]


async def refused(asked: Awaitable[Any]) -> CallError:
    with pytest.raises(CallError) as caught:
        await asked
    return caught.value


def audited(running: Running, action: str) -> list[str]:
    return [entry.detail for entry in running.service.audit.list_entries(Asked(action=action), 100)]
