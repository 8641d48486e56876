"""A connection that is kept up: made anew after a pause that grows, for as long as the plugin runs."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from random import SystemRandom

from facesvc.errors import FacesvcError
from facesvc.events.plugin import TryLaterError
from facesvc_mqtt.client import Client
from facesvc_mqtt.settings import MqttSettings

_log = logging.getLogger(__name__)
_RANDOM = SystemRandom()
Serve = Callable[[Client, Callable[[], None]], Awaitable[None]]
"""What is done with a connection; it calls its second argument when others may use it, and ends when it is lost."""
Sleep = Callable[[float], Awaitable[None]]


def pause(settings: MqttSettings, failures: int, part: float) -> float:
    """Seconds before the next attempt: twice as many each time, of which ``part`` (0 to 1) chooses from half on."""
    longest = min(settings.reconnect_max_s, settings.reconnect_min_s * 2.0 ** min(failures - 1, 30))
    return longest * (0.5 + part / 2)


class Link:
    """Keeps a connection, and says what is wrong while there is none."""

    def __init__(
        self,
        settings: MqttSettings,
        make: Callable[[], Client],
        serve: Serve,
        *,
        sleep: Sleep = asyncio.sleep,
        part: Callable[[], float] = _RANDOM.random,
    ) -> None:
        self._settings = settings
        self._make = make
        self._serve = serve
        self._sleep = sleep
        self._part = part
        self._client: Client | None = None
        self._trouble = "not started"
        self._task: asyncio.Task[None] | None = None

    @property
    def client(self) -> Client:
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
