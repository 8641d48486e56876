"""The deliveries to one plugin: on its own event loop, with nobody else's time.

What was delivered is written down a moment later, all together; what failed at once. So a crash has events delivered
again that were delivered within the last moment, and loses none. A plugin that must not get anything twice is given an
event only after it was written down that it is.
"""

import asyncio
import random
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import structlog

from facesvc.delivery.breaker import Breaker, wait_after
from facesvc.delivery.lanes import Item, Lanes, lane_of
from facesvc.delivery.outbox import Entry, Lane, Outbox, State
from facesvc.delivery.wants import Wants
from facesvc.errors import DependencyError, FacesvcError
from facesvc.events.plugin import About, Delivery, Facts, Forgets, Plugin, TryLaterError, UndeliverableError
from facesvc.events.records import Event

_WINDOW = 128  # events in memory that are neither delivered nor written down as waiting
_MAX_WAITING = 10_000
_FLUSH_S = 0.2
_LONGEST_WAIT_S = 1.0
_CANCEL_S = 1.0
_AWAY_S = 1.0
_LATENCIES = 1000

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """How a plugin is treated: ``[plugins.NAME.delivery]``."""

    timeout_s: float = 10.0
    concurrency: int = 8
    attempts: int = 8
    give_up_after: timedelta = timedelta(hours=24)


@dataclass(slots=True)
class Tally:
    """What has been done since the start."""

    delivered: int = 0
    failures: int = 0
    dead: int = 0
    expired: int = 0
    missed: int = 0
    last_error: str = ""
    last_error_time: datetime | None = None


class Courier:
    """Delivers to one plugin; ``run`` until ``stop``. All on one event loop, but for ``status`` what says otherwise.

    ``publish`` takes the facts that the plugin returned about the person of an event.
    """

    def __init__(
        self,
        plugin: Plugin,
        wants: Wants,
        outbox: Outbox,
        pace: Pace,
        publish: Callable[[Event, Facts], Awaitable[None]],
        *,
        now: Callable[[], datetime],
        clock: Callable[[], float],
        draw: random.Random,
    ) -> None:
        self.tally = Tally()
        self.latencies_s: deque[float] = deque(maxlen=_LATENCIES)
        """From the moment of an event to its first try, of the last thousand."""
        self.beat = clock()
        """When the loop was last seen to turn, by the clock."""
        self.breaker = Breaker()
        self._plugin = plugin
        self._wants = wants
        self._outbox = outbox
        self._pace = pace
        self._publish = publish
        self._now = now
        self._clock = clock
        self._draw = draw
        self._lanes = Lanes()
        self._place = self._written_place = self._read_to = 0
        self._open: set[int] = set()  # read, and neither settled nor written down
        self._known: set[int] = set()  # after the place, and settled before the start
        self._done: list[int] = []
        self._entries: list[Entry] = []
        self._flush_at = 0.0
        self._away_until = 0.0
        self._running: set[asyncio.Task[None]] = set()
        self._stuck: set[asyncio.Future[Any]] = set()
        self._forgotten: set[Lane] = set()
        self._wake = asyncio.Event()
        self._stopping = False
        self._reload = True

    @property
    def waiting(self) -> int:
        """Events that are in hand or wait to be tried again."""
        return len(self._lanes)

    @property
    def place(self) -> int:
        """Up to which event all are settled."""
        return self._place

    def notify(self) -> None:
        """There may be news in the journal."""
        self._wake.set()

    def reload(self) -> None:
        """What waits was changed on the disk."""
        self._reload = True
        self._wake.set()

    def stop(self) -> None:
        """End ``run``: what is being delivered gets its time, nothing new is begun."""
        self._stopping = True
        self._wake.set()

    async def forget(self, about: About) -> None:
        """Somebody was erased, and what is on the disk of them."""
        for item in self._lanes.forget(about):
            self._open.discard(item.sequence)
        self._entries = [one for one in self._entries if (one.collection_id, one.subject_id) != about]
        if self._running:
            self._forgotten.add(about)  # of one that is being delivered nothing is written down
        if isinstance(self._plugin, Forgets):
            await asyncio.wait_for(self._plugin.forget(about), self._pace.timeout_s)

    async def run(self) -> None:
        """Deliver until ``stop``. Raises ``DependencyError`` where the database cannot be used at first."""
        self._place, self._known = await asyncio.to_thread(self._outbox.open, self._now())
        self._written_place = self._read_to = self._place
        while not self._stopping:
            self._wake.clear()
            self.beat = self._clock()
            if self.beat >= self._away_until:
                try:
                    await self._turn()
                except DependencyError as error:
                    self._failed_at_all(error)
                    self._away_until = self._clock() + _AWAY_S
            await self._rest()
        await self._end()

    async def _turn(self) -> None:
        if self._reload:
            self._reload = False
            await self._load_waiting()
        await self._read()
        self._lanes.wake(self._clock())
        self._begin()
        if self._entries or self._clock() >= self._flush_at:
            await self._flush()

    async def _rest(self) -> None:
        """Until there may be something to do, and no longer than a second."""
        times = [self._lanes.next_wake(), self.breaker.until()]
        if self._done or self._place != self._written_place:
            times.append(self._flush_at)
        clock = self._clock()
        due = min((time - clock for time in times if time is not None and time > clock), default=_LONGEST_WAIT_S)
        try:
            async with asyncio.timeout(min(due, _LONGEST_WAIT_S)):
                await self._wake.wait()
        except TimeoutError:
            pass

    async def _end(self) -> None:
        if self._running:
            _, late = await asyncio.wait(self._running, timeout=self._pace.timeout_s)
            for task in late:
                task.cancel()
            if late:
                await asyncio.wait(late, timeout=_CANCEL_S)
        try:
            await self._flush()
        except DependencyError as error:
            self._failed_at_all(error)

    async def _load_waiting(self) -> None:
        after = 0
        while page := await asyncio.to_thread(self._outbox.waiting, after, 1000):
            after = page[-1].sequence
            for entry in page:
                if entry.sequence not in self._lanes:
                    await self._take_up(entry)

    async def _take_up(self, entry: Entry) -> None:
        """An entry from the disk; of nobody known, its camera is only in the event."""
        lane = (entry.collection_id, entry.subject_id)
        item = Item(entry.sequence, None, entry)
        if not entry.subject_id:
            event = await asyncio.to_thread(self._outbox.event, entry.sequence)
            if event is None:
                self._done.append(entry.sequence)
                return
            lane, item.event = lane_of(event), event
        self._lanes.add(lane, item)
        wait = min(entry.next_time - self._now(), timedelta(hours=1)).total_seconds()
        if wait > 0 and entry.attempts:
            self._hold_if_first(lane, item, self._clock() + wait)

    def _hold_if_first(self, lane: Lane, item: Item, until: float) -> None:
        if self._lanes.is_first(lane, item):
            self._lanes.hold(lane, until)

    async def _read(self) -> None:
        """New events, as far as there is room for them, unless the other side is left alone."""
        resting = self.breaker.is_open and not self._may_try()
        while not resting and len(self._open) < _WINDOW and len(self._lanes) < _MAX_WAITING:
            limit = _WINDOW - len(self._open)
            events, up_to, missed = await asyncio.to_thread(self._outbox.read, self._read_to, limit)
            self.tally.missed += missed
            for sequence, event in events:
                self._take(sequence, event)
            moved = up_to > self._read_to
            self._read_to = max(up_to, self._read_to)
            self._settle_place()
            if len(events) < limit or not moved:
                return

    def _may_try(self) -> bool:
        until = self.breaker.until()
        return until is not None and until <= self._clock()

    def _take(self, sequence: int, event: Event) -> None:
        if sequence in self._known or sequence in self._lanes or not self._wants.wanted(event):
            return
        if self._wants.is_late(event, self._now()):
            self._expire(Item(sequence, event), event)
            return
        lane, item = lane_of(event), Item(sequence, event)
        if self._lanes.add(lane, item):
            self._write_down(item, self._entry(item, event, State.WAITING))
        else:
            self._open.add(sequence)

    def _settle_place(self) -> None:
        self._place = min(self._open) - 1 if self._open else self._read_to

    def _begin(self) -> None:
        """Try what is ready, as many at a time as may be."""
        while self._lanes.is_ready and len(self._running) + len(self._stuck) < self._pace.concurrency:
            if not self.breaker.admits(self._clock()):
                return
            lane, item = self._lanes.take()
            task = asyncio.create_task(self._try(lane, item))
            self._running.add(task)
            task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._running.discard(task)
        if not self._running:
            self._forgotten.clear()
        self._settle_place()
        self._wake.set()
        if not task.cancelled() and (error := task.exception()) is not None:
            _log.error("a delivery failed by a bug of ours", plugin=self._outbox.plugin, exc_info=error)

    async def _try(self, lane: Lane, item: Item) -> None:
        """One event, once, and what comes of it."""
        try:
            event = item.event or await asyncio.to_thread(self._outbox.event, item.sequence)
            if event is None:
                self.breaker.left_alone()
                self._finish(lane, item)
                return
            if self._wants.is_late(event, self._now()):
                self.breaker.left_alone()
                self._expire(item, event)
                self._lanes.finish(lane)
                return
            if self._wants.at_most_once:
                begun = self._entry(item, event, State.BEGUN, attempts=item.tries + 1)
                await asyncio.to_thread(self._outbox.settle, self._written_place, [], [begun])
                item.entry = begun
        except DependencyError as error:
            self._failed_at_all(error)
            self._away_until = self._clock() + _AWAY_S
            self.breaker.left_alone()
            self._lanes.give_back(lane)
            return
        await self._deliver(lane, item, event)

    async def _deliver(self, lane: Lane, item: Item, event: Event) -> None:
        first = item.tries <= (1 if self._wants.at_most_once else 0)
        if first:
            self.latencies_s.append(max(0.0, (self._now() - event.event_time).total_seconds()))
        attempt = item.tries if self._wants.at_most_once else item.tries + 1
        expire_time = self._wants.expire_time(event)
        delivery = Delivery(event=event, number=item.sequence, attempt=attempt, expire_time=expire_time)
        try:
            facts = await self._call(delivery)
            if facts is not None:
                await self._publish(event, facts)
        except Exception as error:  # noqa: BLE001 - whatever a plugin raises
            self._fail(lane, item, event, attempt, error)
            return
        self.breaker.succeeded()
        self.tally.delivered += 1
        self._finish(lane, item)

    async def _call(self, delivery: Delivery) -> Facts | None:
        call = asyncio.ensure_future(self._plugin.handle(delivery))
        try:
            done, _ = await asyncio.wait({call}, timeout=self._pace.timeout_s)
        except asyncio.CancelledError:
            call.cancel()
            raise
        if done:
            if call.cancelled():
                raise RuntimeError("it cancelled itself")
            return call.result()
        call.cancel()
        await asyncio.wait({call}, timeout=_CANCEL_S)
        if not call.done():
            self._stuck.add(call)
            call.add_done_callback(self._came_loose)
        raise TimeoutError(f"it took longer than {self._pace.timeout_s:g} s")

    def _came_loose(self, call: "asyncio.Future[Any]") -> None:
        self._stuck.discard(call)
        if not call.cancelled():
            call.exception()  # heard of, so that asyncio does not report it
        self._wake.set()

    def _finish(self, lane: Lane, item: Item) -> None:
        """Delivered, or there is nothing to deliver."""
        self._lanes.finish(lane)
        if item.entry is not None:
            self._done.append(item.sequence)
            item.entry = None
        self._open.discard(item.sequence)

    def _expire(self, item: Item, event: Event) -> None:
        self.tally.expired += 1
        self._write_down(item, self._entry(item, event, State.EXPIRED, error="it came too late"))

    def _fail(self, lane: Lane, item: Item, event: Event, attempt: int, error: Exception) -> None:
        """It did not work: wait, or give up."""
        now = self._now()
        words = error.message if isinstance(error, FacesvcError) else f"{type(error).__name__}: {error}"
        self._note_failure(words, now)
        refused = isinstance(error, UndeliverableError)
        if refused:
            self.breaker.succeeded()  # it answered
        else:
            self.breaker.failed(self._clock())
        item.errors += not isinstance(error, (TryLaterError, DependencyError))
        state = self._state_after(item, error, now)
        if lane in self._forgotten:
            self._finish(lane, item)
            return
        entry = self._entry(item, event, state, attempts=attempt, error=words)
        if state is not State.WAITING:
            self.tally.dead += state is State.DEAD
            self._write_down(item, entry)
            self._lanes.finish(lane)
            return
        wait = wait_after(attempt, error.after if isinstance(error, TryLaterError) else None, self._draw)
        self._write_down(item, replace(entry, next_time=now + wait))
        self._lanes.hold(lane, self._clock() + wait.total_seconds())
        for one in self._lanes.behind(lane):
            if one.sequence in self._open and one.event is not None:
                self._write_down(one, self._entry(one, one.event, State.WAITING))

    def _state_after(self, item: Item, error: Exception, now: datetime) -> State:
        known = isinstance(error, FacesvcError)
        if self._wants.at_most_once and not known:
            return State.UNCERTAIN
        if isinstance(error, UndeliverableError) or item.errors >= self._pace.attempts:
            return State.DEAD
        first_time = item.entry.first_time if item.entry else now
        return State.DEAD if now - first_time >= self._pace.give_up_after else State.WAITING

    def _note_failure(self, words: str, now: datetime) -> None:
        self.tally.failures += 1
        self.tally.last_error, self.tally.last_error_time = words, now
        _log.warning("a plugin failed", plugin=self._outbox.plugin, error=words)

    def _failed_at_all(self, error: DependencyError) -> None:
        self._note_failure(error.message, self._now())

    def _entry(self, item: Item, event: Event, state: State, *, attempts: int | None = None, error: str = "") -> Entry:
        now = self._now().astimezone(UTC)
        return Entry(
            sequence=item.sequence,
            event_id=event.event_id,
            collection_id=event.collection_id,
            subject_id=event.about,
            state=state,
            attempts=item.tries if attempts is None else attempts,
            first_time=item.entry.first_time if item.entry else now,
            next_time=now,
            update_time=now,
            error=error,
        )

    def _write_down(self, item: Item, entry: Entry) -> None:
        item.entry = entry
        self._entries.append(entry)
        self._open.discard(item.sequence)

    async def _flush(self) -> None:
        """Write down what has come of events since the last time."""
        self._settle_place()
        done, entries, place = self._done, self._entries, self._place
        self._done, self._entries = [], []
        self._flush_at = self._clock() + _FLUSH_S
        if not done and not entries and place == self._written_place:
            return
        try:
            await asyncio.to_thread(partial(self._outbox.settle, place, done, entries))
        except DependencyError:
            self._done, self._entries = done + self._done, entries + self._entries
            raise
        self._written_place = place
