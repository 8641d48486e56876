"""What the cameras see becomes presence and events: noted on the event loop, written in a thread, then told.

``note`` never waits. What it finds goes to a backlog in memory, from which one task writes it to the journal, in order;
watchers are woken after the commit, and read from the journal. A write that fails is tried again until it succeeds.
"""

import asyncio
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from datetime import datetime, timedelta
from functools import partial
from typing import TypeVar

import structlog

from facesvc.api import happened
from facesvc.api.backlog import Backlog, Batch
from facesvc.errors import DependencyError
from facesvc.events.journal import Journal
from facesvc.events.records import EnrichedEvent, Event
from facesvc.stream.news import Reporter
from facesvc.stream.presence import Change, Presence, Presences, Sighting, State, Told

R = TypeVar("R")

_TICK_S = 0.5
_REFRESH_S = 60.0
_RETENTION_S = 3600.0
_RETRY_S = 1.0
_STOP_S = 5.0
_PAGE = 200
_MAX_WAITING = 10_000
_MAX_LIVE_DECISIONS = 1000
# A decision of a track rests on views of so long ago at most.
_OLDEST_VIEW_S = 10.0

_log = structlog.get_logger(__name__)


class Observer:
    """Watches over who is where. All calls belong on one event loop; between ``start`` and ``stop`` it is at work.

    ``announce`` is called whenever there may be news in the journal.
    """

    def __init__(
        self,
        journal: Journal,
        presences: Presences,
        reporter: Reporter,
        *,
        retention: timedelta,
        now: Callable[[], datetime],
        clock: Callable[[], float],
        new_id: Callable[[], str],
        announce: Callable[[], None] = lambda: None,
    ) -> None:
        self._journal = journal
        self._presences = presences
        self._reporter = reporter
        self._retention = retention
        self._now = now
        self._clock = clock
        self._new_id = new_id
        self._announce = announce
        self._backlog = Backlog(_MAX_WAITING)
        self._work = asyncio.Event()
        self._news = asyncio.Event()
        self._closed = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._tasks: list[asyncio.Task[None]] = []
        # Threads of their own: where the disk hangs, nobody else's calls wait behind these.
        self._writing = ThreadPoolExecutor(1, thread_name_prefix="journal-writer")
        self._reading = ThreadPoolExecutor(2, thread_name_prefix="journal-reader")
        # Whose erasure is under way or not long ago: views up to which moment of the clock say nothing of them.
        self._removed: dict[tuple[str, str], int] = {}
        self._erased: dict[tuple[str, str], float] = {}
        # Until when the decisions in recent events hold, by the clock.
        self._live: OrderedDict[str, float] = OrderedDict()

    @property
    def dropped(self) -> int:
        """Events and states of stays that were lost because the disk could not keep up."""
        return self._backlog.dropped

    async def start(self) -> None:
        """Take up the stays that were open when the server stopped. Raises ``DependencyError``."""
        stays = await self.read(self._journal.open_stays)
        self._loop = asyncio.get_running_loop()
        now, clock = self._now(), self._clock()
        self._presences.restore(happened.presence_of(stay, now, clock) for stay in stays)
        self._tasks = [asyncio.create_task(work()) for work in (self._write, self._tick, self._retain, self._listen)]
        for task in self._tasks:
            task.add_done_callback(_report)

    def close(self) -> None:
        """End every watch, once it has read what there is."""
        self._closed = True
        self._wake()

    async def stop(self) -> None:
        """Write what is noted, and end; stopping twice is allowed."""
        self.close()
        if self._tasks:
            self._refresh()
            writer, *others = self._tasks
            self._tasks = []
            for task in others:
                task.cancel()
            self._work.set()
            await asyncio.wait({writer}, timeout=_STOP_S)
            writer.cancel()
            await asyncio.gather(writer, *others, return_exceptions=True)
            if self._backlog:
                _log.error("events were lost: the disk did not take them in time", lost=len(self._backlog))
        self._writing.shutdown(wait=False)
        self._reading.shutdown(wait=False)

    def note(self, sightings: Sequence[Sighting]) -> None:
        """What one frame showed; never waits."""
        clock = self._clock()
        for sighting in sightings:
            if self._is_of_erased(sighting, clock):
                continue
            for news in self._reporter.note(sighting, clock):
                event = happened.event_of_news(news, sighting, self._new_id())
                self._remember(event, sighting.decision.expire_clock)
                self._backlog.add(event)
            self._take(self._presences.note(sighting, clock))
        if self._backlog:
            self._work.set()

    def tell(self, event: EnrichedEvent) -> None:
        """What a plugin found out, from any thread; never waits. After the end nobody is told any more."""
        loop = self._loop
        if loop is not None and not loop.is_closed():
            loop.call_soon_threadsafe(self._add, event)

    def _add(self, event: EnrichedEvent) -> None:
        self._backlog.add(event)
        self._work.set()

    def everybody(self) -> list[Presence]:
        """All who are somewhere now, those too who were only seen."""
        return self._presences.everybody()

    def valid_for(self, event: Event) -> float:
        """For how many seconds the decision in an event still holds; 0 for all but those of this run's last moments."""
        return max(0.0, self._live.get(event.event_id, 0.0) - self._clock())

    async def read(self, function: Callable[[], R]) -> R:
        """The result of a call that reads the journal, in a thread."""
        return await _run(self._reading, function)

    async def watch(self, place: int) -> AsyncIterator[list[tuple[int, Event]]]:
        """Events after ``place``, each with its number, page by page as they come, until ``close``.

        Raises as ``Journal.read``.
        """
        while True:
            news = self._news
            head = self._journal.head
            if head > place:
                page = await self.read(partial(self._journal.read, place, _PAGE))
                # A page that is empty though the head was further: those events were erased.
                place = page[-1][0] if page else head
                yield page
            elif self._closed:
                return
            else:
                await news.wait()

    @asynccontextmanager
    async def erasing(self, collection_id: str, subject_id: str) -> AsyncIterator[int]:
        """Around the erasure of somebody from the gallery: first the events forget them, and learn nothing more.

        In this order, because a caller whose server dies half-way can come again. Gives how many events were removed.
        Raises ``DependencyError``.
        """
        key = (collection_id, subject_id)
        self._erased[key] = float("inf")
        try:
            self._forget(*key)
            erase = partial(self._journal.erase_subject, *key)
            # Remembered until the erasure succeeds: the one that does says how many there were.
            self._removed[key] = self._removed.get(key, 0) + await _run(self._writing, erase)
            yield self._removed[key]
            self._removed.pop(key)
            if self._journal.shared:
                await _run(self._writing, erase)  # what another box wrote before it learned of this
        finally:
            self._erased[key] = self._clock() + _OLDEST_VIEW_S

    def forget(self, collection_id: str, subject_id: str) -> None:
        """Somebody was erased by another box, which has seen to the events."""
        self._erased[collection_id, subject_id] = self._clock() + _OLDEST_VIEW_S
        self._forget(collection_id, subject_id)

    def _forget(self, collection_id: str, subject_id: str) -> None:
        self._presences.forget(collection_id, subject_id)
        self._reporter.forget(collection_id, subject_id)
        self._backlog.forget(collection_id, subject_id)

    def _is_of_erased(self, sighting: Sighting, clock: float) -> bool:
        if not self._erased:
            return False
        captured = sighting.decision.expire_clock - sighting.decision.policy.lifetime.total_seconds()
        is_of_erased = captured <= self._erased.get((sighting.collection_id, sighting.subject_id), float("-inf"))
        self._erased = {key: until for key, until in self._erased.items() if until + _OLDEST_VIEW_S > clock}
        return is_of_erased

    def _remember(self, event: Event, expire_clock: float) -> None:
        self._live[event.event_id] = expire_clock
        while len(self._live) > _MAX_LIVE_DECISIONS:
            self._live.popitem(last=False)

    def _take(self, changes: Sequence[Change]) -> None:
        for change in changes:
            stay = happened.stay_of(change.presence)
            # The stay is known by the event that it began with.
            event_id = stay.stay_id if change.told is Told.ARRIVED else self._new_id()
            self._backlog.add(happened.event_of_change(change, event_id))
            self._backlog.put(stay)

    def _refresh(self) -> None:
        """Let the journal know when those who are present were last seen."""
        for one in self._presences.everybody():
            if one.state in {State.PRESENT, State.LEAVING}:
                self._backlog.put(happened.stay_of(one))

    def _wake(self) -> None:
        self._news.set()
        self._news = asyncio.Event()
        self._announce()

    async def _write(self) -> None:
        """Everything in the backlog, until there is nothing more to come."""
        while True:
            while batch := self._backlog.batch():
                await self._store(batch)
                self._wake()
            if self._closed and not self._tasks:
                return
            self._work.clear()
            await self._work.wait()

    async def _store(self, batch: Batch) -> None:
        """Write a batch, however often that has to be tried."""
        failures = 0
        while batch:  # somebody's erasure may empty it meanwhile
            append = partial(self._journal.append, tuple(batch.events), tuple(batch.stays.values()))
            try:
                await _run(self._writing, append)
                break
            except DependencyError as error:
                failures += 1
                if failures == 1:
                    _log.error("events cannot be written; trying again", error=error.message, reason=error.reason)
                await asyncio.sleep(_RETRY_S)
            except Exception as error:  # noqa: BLE001 - a bug of ours must not keep all later events from the disk
                _log.error("events were lost", lost=len(batch), exc_info=error)
                break
        if failures:
            _log.warning("events are written again", failures=failures, dropped=self._backlog.dropped)
        self._backlog.written()

    async def _tick(self) -> None:
        """Lets people leave, and now and then writes down when the others were last seen."""
        refreshed = self._clock()
        while True:
            await asyncio.sleep(_TICK_S)
            clock = self._clock()
            self._take(self._presences.pass_time(self._now(), clock))
            if clock - refreshed >= _REFRESH_S:
                refreshed = clock
                self._refresh()
            if self._backlog:
                self._work.set()

    async def _listen(self) -> None:
        """Wakes watchers for what other boxes wrote."""
        while self._journal.shared:
            await asyncio.sleep(_TICK_S)
            with suppress(DependencyError):  # the database is away, which others say
                if await self.read(self._journal.refresh):
                    self._wake()

    async def _retain(self) -> None:
        """Forgets what is past its retention, some at a time, so that nobody waits for long."""
        while True:
            try:
                before = self._now() - self._retention
                while await _run(self._writing, partial(self._journal.forget_before, before)):
                    pass
            except DependencyError as error:
                _log.warning("old events cannot be removed", error=error.message, reason=error.reason)
            await asyncio.sleep(_RETENTION_S)


async def _run(threads: Executor, function: Callable[[], R]) -> R:
    return await asyncio.get_running_loop().run_in_executor(threads, function)


def _report(task: asyncio.Task[None]) -> None:
    """A task that ended by a bug of ours is heard of."""
    if not task.cancelled() and (error := task.exception()) is not None:
        _log.error("the observer no longer does all its work: restart the server", exc_info=error)
