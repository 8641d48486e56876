"""One door's relay: on for a while, and off again whatever happens.

A pulse that somebody is let in by ends in a task of the gate's own, so that it does not depend on the call that began
it. Somebody who comes while the relay is on prolongs the pulse. Whenever it is not certain that the relay is off - at
the start, after a switching that failed, took too long or was cancelled - the gate is not ready: it switches off again
and again until the relay confirms it, and refuses everybody until then.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta

import structlog

from facesvc_door.drivers.driver import Driver, RelayError

_log = structlog.get_logger(__name__)

Sleep = Callable[[float], Awaitable[None]]
FIRST_RETRY_S = 0.5
LAST_RETRY_S = 30.0
STOP_TRIES = 3


class Gate:
    """``trouble`` is told once when a relay cannot be switched off, until it could be."""

    def __init__(
        self,
        name: str,
        driver: Driver,
        *,
        timeout_s: float,
        now: Callable[[], datetime],
        sleep: Sleep = asyncio.sleep,
        trouble: Callable[[str], Awaitable[None]],
    ) -> None:
        self.name = name
        self.driver = driver
        self.ready = False
        """Whether the relay is known to be off, or on by a pulse of ours."""
        self.lit = False
        """Whether the relay may be on."""
        self._timeout_s = timeout_s
        self._now = now
        self._sleep = sleep
        self._trouble = trouble
        self._one = asyncio.Lock()
        self._stopped = False
        self._off_time: datetime | None = None
        self._pulse: asyncio.Task[None] | None = None
        self._settling: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Switch off, before anything else; where that fails it goes on in the background."""
        self.lit = True
        try:
            async with self._one:
                await self._switch_off()
        except Exception as error:  # noqa: BLE001 - whatever a relay raises, it is to be switched off
            self._failed(error)
            self._settle()

    async def open(self, seconds: float, reference: str, allowed: Callable[[], None]) -> None:
        """Switch on for so long; returns when the relay has confirmed it.

        ``allowed`` is asked last, with nothing between it and the relay, and raises where the door has to stay closed.
        """
        async with self._one:
            if not self.ready:
                await self._switch_off()
            if self._stopped:
                raise RelayError("the door's relay is being let go of", reason="STOPPING")
            allowed()
            self._drop_pulse()
            self.lit = True
            try:
                async with asyncio.timeout(self._timeout_s):
                    await self.driver.on(seconds, reference)
            except BaseException:  # a call that was cancelled may have switched it on, too
                self._settle()
                raise
            self._pulse = asyncio.create_task(self._end_after(seconds))

    async def cut(self) -> bool:
        """Switch off now, in the middle of a pulse too; whether the relay confirmed it. Else it goes on trying."""
        async with self._one:
            self._drop_pulse()
            try:
                await self._switch_off()
            except Exception as error:  # noqa: BLE001 - see start
                self._failed(error)
                self._settle()
                return False
        return True

    def may_be_open(self, within_s: float) -> bool:
        """Whether a door that opens now was let open: during a pulse, or so long after it."""
        return self.lit or (self._off_time is not None and self._now() - self._off_time <= timedelta(seconds=within_s))

    async def stop(self) -> None:
        """Switch off, and let go of the relay."""
        self._stopped = True
        if self._settling is not None:
            self._settling.cancel()
            await asyncio.wait([self._settling])
        try:
            for _ in range(STOP_TRIES):
                with contextlib.suppress(Exception):
                    async with self._one:
                        self._drop_pulse()  # of a call that was under way
                        await self._switch_off()
                    break
            else:
                _log.error("the relay may still be on: it does not confirm that it is off", door=self.name)
        finally:
            await self.driver.close()

    async def _switch_off(self) -> None:
        """Under the lock."""
        self.ready = False
        async with asyncio.timeout(self._timeout_s):
            await self.driver.off()
        if self.lit:
            self._off_time = self._now()
        self.lit = False
        self.ready = True

    async def _end_after(self, seconds: float) -> None:
        await self._sleep(seconds)
        self._settle()

    def _drop_pulse(self) -> None:
        if self._pulse is not None:
            self._pulse.cancel()
            self._pulse = None

    def _settle(self) -> None:
        """Switch off in the background, until it worked."""
        self.ready = False
        if not self._stopped and (self._settling is None or self._settling.done()):
            self._settling = asyncio.create_task(self._until_off())

    async def _until_off(self) -> None:
        delay, told = FIRST_RETRY_S, False
        while True:
            try:
                async with self._one:
                    if not self.ready:  # else somebody else did it meanwhile, and may have opened since
                        await self._switch_off()
                    return
            except Exception as error:  # noqa: BLE001 - see start
                self._failed(error)
                if not told:
                    told = True
                    with contextlib.suppress(Exception):  # telling it is not what matters most now
                        await self._trouble(self.name)
            await self._sleep(delay)
            delay = min(2 * delay, LAST_RETRY_S)

    def _failed(self, error: Exception) -> None:
        _log.warning(
            "the relay could not be switched off", door=self.name, error=type(error).__name__, detail=str(error)
        )
