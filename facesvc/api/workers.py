"""One pool of threads for all pictures, with a permit for each thread and a bound on who may wait."""

import asyncio
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

from facesvc.errors import ExhaustedError, UnavailableError

T = TypeVar("T")
R = TypeVar("R")


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
