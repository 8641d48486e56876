"""The threads in which a plugin's event loop lets others wait."""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from queue import Empty, SimpleQueue
from threading import Lock, Semaphore, Thread
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")


class Threads(ThreadPoolExecutor):
    """At most so many, made when they are needed, for whom nobody waits: neither ``shutdown`` nor the interpreter.

    A ``ThreadPoolExecutor`` because event loops take no other; its own threads would keep the process from ending for
    as long as a plugin's call in one of them hangs.
    """

    def __init__(self, most: int, name: str) -> None:
        super().__init__(most, name)
        self._most = most
        self._name = name
        self._calls: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._idle = Semaphore(0)
        self._adding = Lock()
        self._count = 0

    def submit(self, fn: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> "Future[R]":
        """Call ``fn`` in one of the threads."""
        future: Future[R] = Future()

        def call() -> None:
            if future.set_running_or_notify_cancel():
                try:
                    future.set_result(fn(*args, **kwargs))
                except BaseException as error:  # noqa: BLE001 - whoever waits for it is told
                    future.set_exception(error)

        self._calls.put(call)
        if not self._idle.acquire(blocking=False):
            self._add()
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:  # noqa: ARG002, FBT001, FBT002 - as Executor
        """End those that have nothing to do."""
        self._calls.put(None)

    def _add(self) -> None:
        with self._adding:
            if self._count < self._most:
                self._count += 1
                Thread(target=self._serve, name=f"{self._name}-{self._count}", daemon=True).start()

    def _serve(self) -> None:
        while (call := self._next()) is not None:
            call()
            del call
        self._calls.put(None)  # for the next thread

    def _next(self) -> Callable[[], None] | None:
        try:
            return self._calls.get_nowait()
        except Empty:
            self._idle.release()
            return self._calls.get()
