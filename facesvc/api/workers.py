"""One pool of threads for all pictures, with a permit for each thread and a bound on who may wait."""

import asyncio
import os
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from types import TracebackType
from typing import Any, Self, TypeVar

from facesvc.errors import ExhaustedError, UnavailableError

T = TypeVar("T")
R = TypeVar("R")

# A tenth of the weight that the scheduler gives to a worker.
_BACKGROUND_NICENESS = 10


class Workers:
    """``count`` pictures at a time; permits are given in the order they were asked for, so streams take turns."""

    def __init__(self, count: int, max_waiting: int) -> None:
        self.count = count
        self._max_waiting = max_waiting
        self._waiting = 0
        self._draining = False
        self._permits = asyncio.Semaphore(count)
        self._threads = ThreadPoolExecutor(count, thread_name_prefix="worker")

    async def run(self, function: Callable[..., R], *arguments: Any) -> R:
        """The result of a call in a worker thread. Raises ``ExhaustedError`` when too many wait already."""
        if self._waiting >= self._max_waiting:
            message = f"{self._waiting} calls are waiting for {self.count} workers: come again"
            raise ExhaustedError(message, reason="TOO_MANY_WAITING_CALLS")
        self._waiting += 1
        try:
            await self._permits.acquire()
        finally:
            self._waiting -= 1
        return await self._start(lambda: function(*arguments))

    async def run_next(self, take: Callable[[], T], function: Callable[[T], R]) -> R:
        """The result of a stream's next job, taken when a worker is free, so that it is the newest frame.

        A stream has one job under way and its place on the register, so it may wait however many calls do.
        """
        await self._permits.acquire()
        try:
            job = take()
        except BaseException:
            self._permits.release()
            raise
        return await self._start(lambda: function(job))

    def drain(self) -> None:
        """Finish what runs and begin nothing more: whoever waits is turned away."""
        self._draining = True

    async def _start(self, call: Callable[[], R]) -> R:
        """Run ``call`` under a permit that the caller has acquired."""
        if self._draining:
            self._permits.release()
            raise UnavailableError("the server is stopping: come again in a moment", reason="SERVER_STOPPING")
        loop = asyncio.get_running_loop()

        def release(_: Future[R]) -> None:
            loop.call_soon_threadsafe(self._permits.release)

        future = self._threads.submit(call)
        # The permit belongs to the thread: a caller who leaves does not free it before the thread is done.
        future.add_done_callback(release)
        return await asyncio.wrap_future(future)

    def close(self) -> None:
        """Wait for what runs; nothing may be started any more."""
        self._threads.shutdown(wait=True, cancel_futures=True)


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
