"""What the tests of doors share: a box, a relay on a real socket, and plugins that are stopped at the end."""

from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from typing import Any

import pytest
from door_making import ANA, BEN, CYD, AwayNotes, Hourglass, door, http, people, settings
from door_relay import Relay, relays
from facesvc_door import DoorPlugin

from facesvc.delivery.kit import MemoryBox


@pytest.fixture
def box() -> MemoryBox:
    """With Ana of the staff, Ben of the cleaners, and Cyd of no group."""
    box = MemoryBox(name="door", people=dict(people(ANA, BEN, CYD)))
    box.memory = AwayNotes(box.clock)
    return box


@pytest.fixture
def sleep() -> Hourglass:
    return Hourglass()


@pytest.fixture
async def relay() -> AsyncIterator[Relay]:
    async with relays() as one:
        yield one


@pytest.fixture
async def make(box: MemoryBox, sleep: Hourglass, relay: Relay) -> AsyncIterator[Callable[..., Any]]:
    """Starts doors; ``front`` has the relay. Arguments are settings, ``front`` some of the door's."""
    async with AsyncExitStack() as stack:

        async def started(front: dict[str, Any] | None = None, **changes: Any) -> DoorPlugin:
            doors = {"front": door(relay=http(relay.port)) | (front or {}), **changes.pop("doors", {})}
            one = DoorPlugin(settings(doors=doors, **changes), box, sleep)
            stack.push_async_callback(one.stop)
            await one.start()
            return one

        yield started
