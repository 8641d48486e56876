"""For plugins that keep a connection up: it is made anew after a pause that grows, for as long as the plugin runs."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from random import SystemRandom
from typing import Generic, Protocol, TypeVar

from facesvc.errors import FacesvcError
from facesvc.events.plugin import TryLaterError

_log = logging.getLogger(__name__)
_RANDOM = SystemRandom()
Sleep = Callable[[float], Awaitable[None]]


class Connection(Protocol):
    """What is kept up. Raises a ``FacesvcError`` in words where it cannot be, or is lost."""

    def connected(self) -> AbstractAsyncContextManager[object]:
        """Connected inside the block."""
        ...


C = TypeVar("C", bound=Connection)


class LinkSettings(Protocol):
    """How long to wait: between two attempts at least and at most, and for the end of one."""

    @property
    def reconnect_min_s(self) -> float:
        """Before the second attempt."""
        ...

    @property
    def reconnect_max_s(self) -> float:
        """After many."""
        ...

    @property
    def timeout_s(self) -> float:
        """For one operation."""
        ...


def pause(settings: LinkSettings, failures: int, part: float) -> float:
    """Seconds before the next attempt: twice as many each time, of which ``part`` (0 to 1) chooses from half on."""
    longest = min(settings.reconnect_max_s, settings.reconnect_min_s * 2.0 ** min(failures - 1, 30))
    return longest * (0.5 + part / 2)


class Link(Generic[C]):
    """Keeps a connection, and says what is wrong while there is none.

    ``serve`` is what is done with a connection; it calls its second argument when others may use it, and ends when it
    is lost.
    """

    def __init__(
        self,
        settings: LinkSettings,
        make: Callable[[], C],
        serve: Callable[[C, Callable[[], None]], Awaitable[None]],
        *,
        sleep: Sleep = asyncio.sleep,
        part: Callable[[], float] = _RANDOM.random,
    ) -> None:
        self._settings = settings
        self._make = make
        self._serve = serve
        self._sleep = sleep
        self._part = part
        self._client: C | None = None
        self._trouble = "not started"
        self._task: asyncio.Task[None] | None = None

    @property
    def client(self) -> C:
        """The connection. Raises ``TryLaterError`` while there is none."""
        if self._client is None:
            raise TryLaterError(self._trouble)
        return self._client

    async def open(self) -> None:
        """Until there is a connection. Raises what went wrong at the first attempt; nothing is tried further then."""
        first: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._task = asyncio.create_task(self._keep(first))
        try:
            await asyncio.wait({first, self._task}, return_when=asyncio.FIRST_COMPLETED)
            if self._task.done():
                await self._task
            await first
        except BaseException:
            await self.close()
            raise

    async def close(self) -> None:
        """Let go of the connection; again is nothing."""
        task, self._task = self._task, None
        self._client = None
        if task is not None:
            while not task.done():
                # ``asyncio.wait_for`` may lose the word, up to Python 3.11 (bpo-37658).
                task.cancel()
                await asyncio.wait({task}, timeout=2 * self._settings.timeout_s)
            if not task.cancelled():
                task.exception()  # which ``open`` has told, or the log

    async def _keep(self, first: "asyncio.Future[None]") -> None:
        failures = 0

        def up() -> None:
            nonlocal failures
            failures = 0
            self._client = client
            if not first.done():
                first.set_result(None)

        while True:
            try:
                client = self._make()
                async with client.connected():
                    await self._serve(client, up)
            except FacesvcError as error:
                self._trouble = str(error)
                if not first.done():
                    raise
                _log.warning("%s", error)
            finally:
                self._client = None
            failures += 1
            await self._sleep(pause(self._settings, failures, self._part()))
