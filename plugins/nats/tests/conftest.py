"""What the tests of NATS share: a server, and plugins that are stopped at the end."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any

import pytest
from facesvc_nats.checking import CheckedNats
from nats_making import settings
from nats_server import Server, servers

from facesvc.delivery.kit import MemoryBox


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    async with servers() as one:
        yield one


@pytest.fixture
async def make(server: Server) -> AsyncIterator[Callable[..., Awaitable[CheckedNats]]]:
    """One that has started; its arguments are settings."""
    async with AsyncExitStack() as stack:

        async def started(**changes: Any) -> CheckedNats:
            one = CheckedNats(settings(server.address, **changes), MemoryBox(name="nats"))
            stack.push_async_callback(one.stop)
            await one.start()
            return one

        yield started
