"""Live events from memory: the last so many are kept, and each watcher reads at its own pace.

A watcher holds no queue, only its place: one that is slow costs nothing, and learns that it missed something once the
event it would read next is no longer kept. A place is handed out as an opaque token that also names the run of the
server, since the memory ends with it.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from dataclasses import dataclass

from facesvc.errors import FacesvcError, InputError
from facesvc.events.records import MatchEvent


class EventsMissedError(FacesvcError):
    """A watcher asks for events that are no longer remembered."""

    reason = "EVENTS_MISSED"


@dataclass(frozen=True, slots=True)
class Delivery:
    """An event, and the token to go on after it."""

    event: MatchEvent
    resume_token: str


class Feed:
    """The last ``remembered`` events of one run. All calls belong on one event loop."""

    def __init__(self, run_id: str, remembered: int) -> None:
        self._run_id = run_id
        self._events: deque[MatchEvent] = deque(maxlen=remembered)
        self._published = 0
        self._news = asyncio.Event()
        self._closed = False

    def publish(self, event: MatchEvent) -> None:
        """Remember an event and wake the watchers; never waits."""
        self._events.append(event)
        self._published += 1
        self._news.set()
        self._news = asyncio.Event()

    def close(self) -> None:
        """End every watch, once it has read what there is."""
        self._closed = True
        self._news.set()

    def token(self) -> str:
        """The place after the newest event."""
        return self._token(self._published)

    def watch(self, resume_token: str) -> AsyncIterator[Delivery]:
        """Events after ``resume_token`` as they come, until ``close``. Raises ``InputError`` for a token that is none.

        While it is read it raises ``EventsMissedError`` when the next event is no longer remembered.
        """
        return self._read(self._place(resume_token))

    async def _read(self, place: int) -> AsyncIterator[Delivery]:
        while True:
            news = self._news
            while place < self._published:
                oldest = self._published - len(self._events)
                if place < oldest:
                    message = f"{oldest - place} events are no longer remembered: watch again without a token"
                    raise EventsMissedError(message)
                place += 1
                yield Delivery(self._events[place - 1 - oldest], self._token(place))
            if self._closed:
                return
            await news.wait()

    def _token(self, place: int) -> str:
        return f"{self._run_id}.{place}"

    def _place(self, token: str) -> int:
        run_id, _, digits = token.partition(".")
        if not (digits.isascii() and digits.isdigit() and len(digits) < 19):
            raise InputError("this is not a token of WatchEvents", field="resume_token")
        place = int(digits)
        if run_id != self._run_id:
            raise EventsMissedError("the server was restarted since this token: watch again without one")
        if place > self._published:
            raise InputError("this token is of an event that has not happened", field="resume_token")
        return place
