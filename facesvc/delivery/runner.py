"""One plugin at work: a thread, in it an event loop, in that the plugin and its courier.

Whatever a plugin does, blocks or breaks is in its own thread: recognition and the other plugins go on.
"""

import asyncio
import random
import threading
import time
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeoutError
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from typing import Any, TypeVar

import structlog
from pydantic import JsonValue

from facesvc.delivery.breaker import wait_after
from facesvc.delivery.courier import Courier, Tally
from facesvc.delivery.outbox import Outbox
from facesvc.delivery.roll import Enlisted
from facesvc.errors import DependencyError, FacesvcError, PreconditionError, UnavailableError
from facesvc.events.plugin import About, Answers, Box, Facts, Plugin
from facesvc.events.records import Event

R = TypeVar("R")

_START_S = 30.0
_STOP_S = 3.0
_SILENT_S = 5.0
_CALL_S = 60.0

_log = structlog.get_logger(__name__)


class Condition(Enum):
    """How a plugin is."""

    STARTING = "starting"
    FAILED = "failed"
    """Its ``start`` raised; tried again."""
    RUNNING = "running"
    RESTING = "resting"
    """The other side fails; it is left alone for a while."""
    SILENT = "silent"
    """Its event loop does not turn: something in it blocks."""
    STOPPED = "stopped"


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """How a plugin is, and what it has done since the start; ``place``: up to which event all are settled."""

    condition: Condition
    problem: str
    waiting: int
    place: int
    tally: Tally
    latencies_s: tuple[float, ...]


class Runner:
    """Runs one plugin from ``start`` to ``stop``. Every method may be called from any thread."""

    def __init__(
        self,
        enlisted: Enlisted,
        outbox: Outbox,
        box: Box,
        publish: Callable[[Event, Facts], Awaitable[None]],
        now: Callable[[], datetime],
    ) -> None:
        self.enlisted = enlisted
        self.outbox = outbox
        self._box = box
        self._publish = publish
        self._now = now
        self._draw = random.Random()  # noqa: S311 - spreads retries
        self._thread = threading.Thread(target=self._main, name=f"plugin-{self.name}", daemon=True)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._ready = threading.Event()
        self._stopping = asyncio.Event()
        self._plugin: Plugin | None = None
        self._courier: Courier | None = None
        self._condition = Condition.STARTING
        self._problem = ""

    @property
    def name(self) -> str:
        """The plugin's."""
        return self.enlisted.manifest.name

    def start(self) -> None:
        """Begin; does not wait for the plugin."""
        self._thread.start()
        self._ready.wait()

    def ask_to_stop(self) -> None:
        """Begin to stop."""
        self._post(self._begin_to_stop)

    def join(self, timeout_s: float) -> bool:
        """Wait for the end; whether it came. A plugin that blocks is left behind, and ends with the process."""
        if self._thread.ident is not None:
            self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def notify(self) -> None:
        """There may be news in the journal."""
        if (courier := self._courier) is not None:
            self._post(courier.notify)

    def reload(self) -> None:
        """What waits was changed on the disk."""
        if (courier := self._courier) is not None:
            self._post(courier.reload)

    def forget(self, about: About) -> None:
        """Somebody was erased. Raises ``UnavailableError`` where the plugin does not answer."""
        courier = self._courier
        if courier is not None:
            self._run(courier.forget(about), _STOP_S)

    def call(self, command: str, arguments: Mapping[str, str]) -> JsonValue:
        """Ask the plugin. Raises what it raises, and ``UnavailableError`` where it is not there to answer."""
        commands = self.enlisted.manifest.commands
        plugin: object = self._plugin
        if command not in commands:
            known = ", ".join(sorted(commands)) or "none"
            raise PreconditionError(f"plugin {self.name} has no command {command!a}; it has {known}")
        if not isinstance(plugin, Answers):
            raise UnavailableError(f"plugin {self.name} does not answer: {self._problem or 'it is not started'}")
        return self._run(plugin.call(command, arguments), _CALL_S)

    def _run(self, work: Coroutine[Any, Any, R], timeout_s: float) -> R:
        loop = self._loop
        if loop is None or loop.is_closed():
            work.close()
            raise UnavailableError(f"plugin {self.name} is not running")
        future: Future[R] = asyncio.run_coroutine_threadsafe(work, loop)
        try:
            return future.result(timeout_s)
        except FutureTimeoutError as error:
            future.cancel()
            raise UnavailableError(f"plugin {self.name} did not answer within {timeout_s:g} s") from error

    def standing(self) -> Standing:
        """How it is."""
        courier, condition = self._courier, self._condition
        if courier is None:
            return Standing(
                condition=condition, problem=self._problem, waiting=0, place=0, tally=Tally(), latencies_s=()
            )
        if condition is Condition.RUNNING:
            if time.monotonic() - courier.beat > _SILENT_S:
                condition = Condition.SILENT
            elif courier.breaker.is_open:
                condition = Condition.RESTING
        return Standing(
            condition=condition,
            problem=self._problem,
            waiting=courier.waiting,
            place=courier.place,
            tally=courier.tally,
            latencies_s=tuple(courier.latencies_s.copy()),
        )

    def _post(self, work: Callable[[], object]) -> None:
        loop = self._loop
        if loop is not None and not loop.is_closed():
            with suppress(RuntimeError):  # it was closed between the two
                loop.call_soon_threadsafe(work)

    def _begin_to_stop(self) -> None:
        self._stopping.set()
        if self._courier is not None:
            self._courier.stop()

    def _main(self) -> None:
        try:
            asyncio.run(self._live())
        except Exception:  # noqa: BLE001 - the end of this plugin, and of nothing else
            _log.exception("a plugin ended by a bug of ours: restart the server", plugin=self.name)
            self._problem = "it ended by a bug of facesvc"
        finally:
            self._condition = Condition.STOPPED
            self._ready.set()

    async def _live(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._ready.set()
        failures = 0
        while not self._stopping.is_set():
            try:
                await self._work()
            except Exception as error:  # noqa: BLE001 - whatever a plugin raises
                failures += 1
                self._condition, self._problem = Condition.FAILED, _in_words(error)
                _log.warning("a plugin does not start", plugin=self.name, error=self._problem)
                await self._pause(wait_after(failures, None, self._draw).total_seconds())

    async def _work(self) -> None:
        """Make the plugin, start it, and deliver to it until it is to stop."""
        plugin = self.enlisted.manifest.make(self.enlisted.settings, self._box)
        try:
            await asyncio.wait_for(plugin.start(), _START_S)
            courier = Courier(
                plugin,
                self.enlisted.wants,
                self.outbox,
                self.enlisted.pace,
                self._publish,
                now=self._now,
                clock=time.monotonic,
                draw=self._draw,
            )
            self._plugin, self._courier = plugin, courier
            self._condition, self._problem = Condition.RUNNING, ""
            if not self._stopping.is_set():
                await courier.run()
        finally:
            self._plugin = None
            await self._let_go(plugin)

    async def _let_go(self, plugin: Plugin) -> None:
        try:
            await asyncio.wait_for(plugin.stop(), _STOP_S)
        except Exception as error:  # noqa: BLE001 - whatever a plugin raises
            _log.warning("a plugin did not stop well", plugin=self.name, error=_in_words(error))

    async def _pause(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._stopping.wait()
        except TimeoutError:
            pass


def _in_words(error: Exception) -> str:
    if isinstance(error, FacesvcError | DependencyError):
        return error.message
    return "it took too long" if isinstance(error, TimeoutError) else f"{type(error).__name__}: {error}"
