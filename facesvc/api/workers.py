"""One pool of threads for all pictures, shared fairly, with a bound on who may wait."""

import asyncio
import os
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from types import TracebackType
from typing import Any, Self, TypeAlias, TypeVar

from facesvc.errors import ExhaustedError, UnavailableError
from facesvc.stream.meter import Load, Meter
from facesvc.stream.scheduler import FairQueue, Party, Turn

T = TypeVar("T")
R = TypeVar("R")

# A tenth of the weight that the scheduler gives to a worker.
_BACKGROUND_NICENESS = 10


class Workers:
    """``count`` pictures at a time. Whose is next is decided by ``FairQueue``: streams share by time and weight.

    Belongs on one event loop. A stream whose next frame waits keeps its place among the others where it asks again
    before it awaits anything else.
    """

    def __init__(self, count: int, max_waiting: int, clock: Callable[[], float] = time.perf_counter) -> None:
        self.count = count
        self._free = count
        self._max_waiting = max_waiting
        self._draining = False
        self._clock = clock
        self._queue: FairQueue[_Permit] = FairQueue()
        self._calls = Party()
        self._meter = Meter(count, clock())
        self._threads = ThreadPoolExecutor(count, thread_name_prefix="worker")

    @property
    def free(self) -> int:
        """How many have nothing to do."""
        return self._free

    def load(self) -> Load:
        """How busy they were lately, and how long those waited for them who are in a hurry."""
        return self._meter.load(self._clock())

    def party(self, weight: float = 1.0, *, patient: bool = False) -> Party:
        """A place among those who share the workers, for ``run_next``; there is nothing to close."""
        return Party(weight, patient)

    async def run(self, function: Callable[..., R], *arguments: Any) -> R:
        """The result of a call in a worker thread. Raises ``ExhaustedError`` when too many wait already."""
        waiting = self._queue.waiting(self._calls)
        if not self._free and waiting >= self._max_waiting:
            message = f"{waiting} calls are waiting for {self.count} workers: come again"
            raise ExhaustedError(message, reason="TOO_MANY_WAITING_CALLS")
        turn = await self._next_turn(self._calls)
        return await self._start(turn, lambda: function(*arguments))

    async def run_next(self, party: Party, take: Callable[[], T], function: Callable[[T], R]) -> R:
        """The result of a stream's next job, taken when a worker is free, so that it is the newest frame.

        A stream has one job under way and its place on the register, so it may wait however many calls do.
        """
        turn = await self._next_turn(party)
        try:
            job = take()
        except BaseException:
            self._end(turn, 0.0)
            raise
        return await self._start(turn, lambda: function(job))

    def drain(self) -> None:
        """Finish what runs and begin nothing more: whoever waits is turned away."""
        self._draining = True

    async def _next_turn(self, party: Party) -> Turn["_Permit"]:
        """Wait for a worker; a caller who leaves meanwhile has never been there."""
        permit: _Permit = asyncio.get_running_loop().create_future()
        asked = self._clock()
        self._queue.put(party, permit, asked)
        self._hand_out()
        try:
            turn = await permit
        except asyncio.CancelledError:
            self._queue.discard(party, permit)
            if permit.done() and not permit.cancelled():
                self._end(permit.result(), 0.0)
            raise
        if not party.patient:
            now = self._clock()
            self._meter.waited(now - asked, now)
        return turn

    def _hand_out(self) -> None:
        """Give every free worker to whoever is next."""
        while self._free and (turn := self._queue.take()) is not None:
            if turn.job.done():  # cancelled a moment ago, and not yet discarded
                self._queue.finish(turn, 0.0, self._clock())
                continue
            self._free -= 1
            self._meter.began(self._clock())
            turn.job.set_result(turn)

    async def _start(self, turn: Turn["_Permit"], call: Callable[[], R]) -> R:
        """Run ``call`` in the worker that ``turn`` gives."""
        if self._draining:
            self._end(turn, 0.0)
            raise UnavailableError("the server is stopping: come again in a moment", reason="SERVER_STOPPING")
        loop = asyncio.get_running_loop()
        begun = self._clock()
        future = self._threads.submit(call)
        answer = asyncio.wrap_future(future)

        def release(_: Future[R]) -> None:
            loop.call_soon_threadsafe(self._end, turn, self._clock() - begun)

        # The permit belongs to the thread: a caller who leaves does not free it before the thread is done. And it is
        # freed after the caller was told: see _end.
        future.add_done_callback(release)
        return await answer

    def _end(self, turn: Turn["_Permit"], seconds: float) -> None:
        """A worker is free again. It is given away a turn of the loop later: by then its stream may wait again."""
        now = self._clock()
        self._queue.finish(turn, seconds, now)
        self._meter.ended(now)
        self._free += 1
        asyncio.get_running_loop().call_soon(self._hand_out)

    def close(self) -> None:
        """Wait for what runs; nothing may be started any more."""
        self._threads.shutdown(wait=True, cancel_futures=True)


# Done when its owner may begin.
_Permit: TypeAlias = "asyncio.Future[Turn[_Permit]]"


class Background:
    """One thread for long work that nobody waits for: where cores are short it gives way to the workers'.

    A context manager; what runs when the block is left is finished, unwatched.
    """

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(1, thread_name_prefix="background", initializer=_give_way)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Begin nothing more."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def run(self, function: Callable[..., R], *arguments: Any) -> R:
        """The result of a call in that thread."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, lambda: function(*arguments))


def _give_way() -> None:
    """Lowers the priority of the calling thread; Linux has one for each."""
    with suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _BACKGROUND_NICENESS)
