"""Calls of what somebody else wrote: it may hang, raise anything, and ignore that it is cancelled."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from facesvc.errors import FacesvcError

R = TypeVar("R")

_CANCEL_S = 0.5
_MAX_WORDS = 500  # characters


class Calls:
    """The calls of one plugin, each within its time; ``ended`` is called when one that was stuck is over."""

    def __init__(self, ended: Callable[[], None] = lambda: None) -> None:
        self._ended = ended
        self._stuck: set[asyncio.Future[Any]] = set()

    @property
    def stuck(self) -> int:
        """How many go on although they were cancelled."""
        return len(self._stuck)

    async def within(self, timeout_s: float, method: Callable[..., Awaitable[R]], *arguments: object) -> R:
        """What ``method`` returns or raises; ``TimeoutError`` after its time, whatever it does then.

        That it asks the process to end is an error like any other.
        """
        call = asyncio.ensure_future(_guarded(method, *arguments))
        try:
            await asyncio.wait({call}, timeout=timeout_s)
            if call.done():
                if call.cancelled():
                    raise RuntimeError("it cancelled itself")
                return call.result()
        finally:
            if not call.done():
                await self._cancel(call)
        raise TimeoutError(f"it took longer than {timeout_s:g} s")

    async def _cancel(self, call: "asyncio.Future[Any]") -> None:
        call.cancel()
        call.add_done_callback(self._over)
        self._stuck.add(call)
        await asyncio.wait({call}, timeout=_CANCEL_S)

    def _over(self, call: "asyncio.Future[Any]") -> None:
        self._stuck.discard(call)
        if not call.cancelled():
            call.exception()  # heard of, so that asyncio does not report it
        self._ended()


async def _guarded(method: Callable[..., Awaitable[R]], *arguments: object) -> R:
    try:
        return await method(*arguments)
    except (SystemExit, KeyboardInterrupt) as error:
        raise RuntimeError(f"it tried to end the server by {type(error).__name__}") from error


def in_words(error: BaseException) -> str:
    """What went wrong, in words of a bounded length that every database takes, even where ``error`` has none itself."""
    try:
        words = error.message if isinstance(error, FacesvcError) else f"{type(error).__name__}: {error}"
        words = words.encode(errors="replace").decode().replace("\0", "?")
    except Exception:  # noqa: BLE001 - its own ``__str__`` may be what is broken
        words = type(error).__name__
    return words[:_MAX_WORDS]
