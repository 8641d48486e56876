"""One plugin at work: a thread, in it an event loop, in that the plugin and its courier.

Whatever a plugin does, blocks or breaks is in its own thread: recognition and the other plugins go on.
"""

import asyncio
import math
import random
import threading
import time
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from concurrent.futures import CancelledError, Future
from concurrent.futures import TimeoutError as FutureTimeoutError
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime
from enum import Enum
from typing import Any, TypeVar

import structlog
from pydantic import JsonValue

from facesvc.delivery.breaker import wait_after
from facesvc.delivery.calling import Calls, in_words
from facesvc.delivery.courier import Courier
from facesvc.delivery.handover import Tally
from facesvc.delivery.outbox import Outbox
from facesvc.delivery.roll import Enlisted
from facesvc.delivery.threads import Threads
from facesvc.errors import DependencyError, FacesvcError, PreconditionError, UnavailableError
from facesvc.events.plugin import About, Answers, Box, Facts, Plugin
from facesvc.events.records import Event

R = TypeVar("R")

_START_S = 30.0
_STOP_S = 1.0
_SILENT_S = 5.0
_BEAT_S = 1.0
_CALL_S = 60.0
_THREADS = 16

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
    """Its event loop does not turn, or its calls do not end: something in it blocks."""
    STOPPED = "stopped"


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """How a plugin is, and what it has done since it was started; ``place``: up to which event all are settled."""

    condition: Condition
    problem: str = ""
    waiting: int = 0
    place: int = 0
    tally: Tally
    latencies_s: tuple[float, ...] = ()


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
        self._ending = threading.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stopping = asyncio.Event()
        self._starting: asyncio.Future[None] | None = None
        self._plugin: Plugin | None = None
        self._courier: Courier | None = None
        self._condition = Condition.STARTING
        self._problem = ""
        self._failures = 0
        self._beat = math.inf  # when the loop was last seen to turn, by the clock

    @property
    def name(self) -> str:
        """The plugin's."""
        return self.enlisted.manifest.name

    def start(self) -> None:
        """Begin; does not wait for the plugin."""
        self._beat = time.monotonic()
        self._thread.start()

    def ask_to_stop(self) -> None:
        """Begin to stop."""
        self._ending.set()
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

    def forget(self, about: About) -> "Future[None] | None":
        """Somebody was erased; what tells when that is done, None where nothing is at work.

        Where the plugin blocks it is done when it no longer does.
        """
        courier = self._courier
        return None if courier is None else self._submit(courier.forget(about))

    def call(self, command: str, arguments: Mapping[str, str]) -> JsonValue:
        """Ask the plugin. Raises ``FacesvcError``: what it raises, ``UnavailableError`` where it does not answer."""
        commands = self.enlisted.manifest.commands
        plugin: object = self._plugin
        if command not in commands:
            known = ", ".join(sorted(commands)) or "none"
            raise PreconditionError(f"plugin {self.name} has no command {command!a}; it has {known}")
        if not isinstance(plugin, Answers):
            raise UnavailableError(f"plugin {self.name} does not answer: {self._problem or 'it is not started'}")
        future = self._submit(Calls().within(_CALL_S, plugin.call, command, arguments))
        if future is None:
            raise UnavailableError(f"plugin {self.name} is not running")
        try:
            return future.result(_CALL_S)
        except (FutureTimeoutError, CancelledError) as error:
            future.cancel()
            raise UnavailableError(f"plugin {self.name} did not answer within {_CALL_S:g} s") from error
        except FacesvcError:
            raise
        except Exception as error:
            message = f"plugin {self.name} failed at {command}: {in_words(error)}"
            raise DependencyError(message, reason="PLUGIN_FAILED") from error

    def standing(self) -> Standing:
        """How it is."""
        courier, condition, problem = self._courier, self._condition, self._problem
        if condition in {Condition.STARTING, Condition.RUNNING} and time.monotonic() - self._beat > _SILENT_S:
            condition, problem = Condition.SILENT, problem or "something in it blocks its event loop"
        if courier is None:
            return Standing(condition=condition, problem=problem, tally=Tally())
        if condition is Condition.RUNNING and courier.is_stuck:
            condition, problem = Condition.SILENT, "its calls do not end, although they were cancelled"
        elif condition is Condition.RUNNING and courier.is_resting:
            condition = Condition.RESTING
        return Standing(
            condition=condition,
            problem=problem,
            waiting=courier.waiting,
            place=courier.place,
            tally=replace(courier.tally),
            latencies_s=tuple(courier.latencies_s),
        )

    def _post(self, work: Callable[[], object]) -> None:
        loop = self._loop
        if loop is not None:
            with suppress(RuntimeError):  # it is closed
                loop.call_soon_threadsafe(work)

    def _submit(self, work: Coroutine[Any, Any, R]) -> "Future[R] | None":
        loop = self._loop
        if loop is not None:
            with suppress(RuntimeError):  # it is closed
                return asyncio.run_coroutine_threadsafe(work, loop)
        work.close()
        return None

    def _begin_to_stop(self) -> None:
        self._stopping.set()
        if self._starting is not None:
            self._starting.cancel()
        if self._courier is not None:
            self._courier.stop()

    def _main(self) -> None:
        while not self._ending.is_set():
            try:
                asyncio.run(self._live())
            except BaseException as error:  # noqa: BLE001 - a task of the plugin may raise SystemExit
                self._ending.wait(self._failed(error))
        self._condition = Condition.STOPPED

    async def _live(self) -> None:
        self._stopping = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._loop.set_default_executor(Threads(_THREADS, f"plugin-{self.name}"))
        pulse = asyncio.create_task(self._pulse())
        while not self._ending.is_set():
            try:
                await self._work()
            except Exception as error:  # noqa: BLE001 - whatever a plugin raises
                with suppress(TimeoutError):
                    async with asyncio.timeout(self._failed(error)):
                        await self._stopping.wait()
        pulse.cancel()

    async def _pulse(self) -> None:
        while True:
            self._beat = time.monotonic()
            await asyncio.sleep(_BEAT_S)

    def _failed(self, error: BaseException) -> float:
        """It does not start, or ended by a bug; how long to wait before it is tried again."""
        self._failures += 1
        self._condition, self._problem = Condition.FAILED, in_words(error)
        traceback = None if isinstance(error, FacesvcError) else error
        _log.warning("a plugin does not work", plugin=self.name, error=self._problem, exc_info=traceback)
        return wait_after(self._failures, None, self._draw).total_seconds()

    async def _work(self) -> None:
        """Make the plugin, start it, and deliver to it until it is to stop."""
        plugin = self.enlisted.manifest.make(self.enlisted.settings, self._box)
        calls = Calls(self.notify)
        try:
            self._starting = asyncio.ensure_future(calls.within(_START_S, plugin.start))
            await asyncio.wait({self._starting})
            if self._stopping.is_set():
                return
            await self._starting
            self._courier = Courier(
                plugin,
                self.enlisted.wants,
                self.outbox,
                self.enlisted.pace,
                calls,
                self._publish,
                now=self._now,
                clock=time.monotonic,
                draw=self._draw,
            )
            self._plugin = plugin
            self._condition, self._problem = Condition.RUNNING, ""
            await self._courier.run()
        finally:
            self._plugin = self._courier = self._starting = None
            await self._let_go(plugin, calls)

    async def _let_go(self, plugin: Plugin, calls: Calls) -> None:
        try:
            await calls.within(_STOP_S, plugin.stop)
        except Exception as error:  # noqa: BLE001 - whatever a plugin raises
            _log.warning("a plugin did not stop well", plugin=self.name, error=in_words(error))
