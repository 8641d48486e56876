"""The deliveries to one plugin: on its own event loop, with nobody else's time.

What was delivered is written down a moment later, all together; what failed, or takes long, at once. So a crash has
events delivered again that were delivered within the last moment, and loses none. A plugin that must not get anything
twice is given an event only after it was written down that it is.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime, timedelta

from facesvc.delivery.calling import Calls, in_words
from facesvc.delivery.handover import Handover, Tally
from facesvc.delivery.lanes import Item, Lanes, lane_of
from facesvc.delivery.ledger import Ledger
from facesvc.delivery.outbox import Entry, Lane, Outbox
from facesvc.delivery.pace import Pace
from facesvc.delivery.wants import Wants
from facesvc.errors import DependencyError
from facesvc.events.plugin import About, Facts, Forgets, Plugin
from facesvc.events.records import Event

_MAX_WAITING = 10_000
_PAGE = 1000
_LONGEST_REST_S = 1.0
_AWAY_S = 1.0
_SLOW_S = 1.0
_GRACE_S = 1.5
_LONGEST_HOLD = timedelta(hours=1)


class Courier:
    """Delivers to one plugin; ``run`` until ``stop``. All on one event loop, but for the properties."""

    def __init__(
        self,
        plugin: Plugin,
        wants: Wants,
        outbox: Outbox,
        pace: Pace,
        calls: Calls,
        publish: Callable[[Event, Facts], Awaitable[None]],
        *,
        now: Callable[[], datetime],
        clock: Callable[[], float],
        draw: random.Random,
    ) -> None:
        self._plugin = plugin
        self._wants = wants
        self._pace = pace
        self._calls = calls
        self._now = now
        self._clock = clock
        self._lanes = Lanes()
        self._ledger = Ledger(outbox, now, clock)
        self._handover = Handover(
            plugin, wants, pace, calls, publish, self._lanes, self._ledger, now=now, clock=clock, draw=draw
        )
        self._running: set[asyncio.Task[None]] = set()
        self._away_until = 0.0
        self._wake = asyncio.Event()
        self._stopping = False
        self._loads_wanted, self._loads_done = 1, 0
        self._may_be_more = True
        self._bug: BaseException | None = None

    @property
    def tally(self) -> Tally:
        """What has been done since the start."""
        return self._handover.tally

    @property
    def latencies_s(self) -> Sequence[float]:
        """From the moment of an event to its first try, of the last thousand."""
        return self._handover.latencies_s.copy()

    @property
    def waiting(self) -> int:
        """Events that are in hand or wait to be tried again; not 0 while there may be more of them on the disk."""
        return len(self._lanes) or int(self._is_to_load)

    @property
    def place(self) -> int:
        """Up to which event all are dealt with or written down."""
        return self._ledger.certain_place

    @property
    def is_resting(self) -> bool:
        """Whether the last tries failed, and the other side is left alone."""
        return self._handover.breaker.is_open

    @property
    def is_stuck(self) -> bool:
        """Whether as many calls as may be do not end."""
        return self._calls.stuck >= self._pace.concurrency

    def notify(self) -> None:
        """There may be news in the journal, or room for one more call."""
        self._wake.set()

    def reload(self) -> None:
        """What waits was changed on the disk."""
        self._loads_wanted += 1
        self._wake.set()

    def stop(self) -> None:
        """End ``run``: what is being delivered gets its time, nothing new is begun."""
        self._stopping = True
        self._wake.set()

    async def forget(self, about: About) -> None:
        """Somebody was erased: of them nothing is delivered or written any more, and the plugin is told."""
        await self._ledger.forget(about, [item.sequence for item in self._lanes.forget(about)])
        if isinstance(self._plugin, Forgets):
            try:
                await self._calls.within(self._pace.timeout_s, self._plugin.forget, about)
            except Exception as error:  # noqa: BLE001 - whatever a plugin raises
                self._handover.note_failure(f"somebody was erased, and not forgotten: {in_words(error)}")

    async def run(self) -> None:
        """Deliver until ``stop``. Raises ``DependencyError`` where the database cannot be used at first.

        After anything else that it raises, which is a bug of ours, another courier goes on by what is on the disk.
        """
        await self._ledger.open()
        try:
            while not self._stopping:
                self._wake.clear()
                if self._clock() >= self._away_until:
                    try:
                        await self._turn()
                    except DependencyError as error:
                        self._is_away(error)
                await self._rest()
                if self._bug is not None:
                    raise self._bug
        finally:
            await self._end()

    async def _turn(self) -> None:
        if self._is_to_load and len(self._lanes) < _MAX_WAITING // 2:
            await self._load_waiting()
        await self._read()
        for lane in self._lanes.slow(self._clock() - _SLOW_S):
            self._handover.wait_behind(lane)
        self._lanes.wake(self._clock())
        self._begin()
        await self._ledger.flush()

    def _is_away(self, error: DependencyError) -> None:
        self._handover.note_failure(error.message)
        self._away_until = self._clock() + _AWAY_S

    async def _rest(self) -> None:
        """Until there may be something to do, and no longer than a second."""
        clock, resumption = self._clock(), self._handover.breaker.until()
        times = [clock + _LONGEST_REST_S, self._lanes.next_wake(), self._ledger.flush_time]
        if resumption is not None and resumption > clock:
            times.append(resumption)
        if self._may_be_more and self._may_read:
            times.append(clock)
        rest = min(max(time, self._away_until) for time in times if time is not None) - clock
        try:
            async with asyncio.timeout(rest):
                await self._wake.wait()
        except TimeoutError:
            pass

    async def _end(self) -> None:
        if self._running:
            _, late = await asyncio.wait(self._running, timeout=min(self._pace.timeout_s, _GRACE_S))
            for task in late:
                task.cancel()
            if late:
                await asyncio.wait(late)  # each is cancelled within its time
        try:
            await self._ledger.flush(now=True)
        except DependencyError as error:
            self._handover.note_failure(error.message)

    @property
    def _is_to_load(self) -> bool:
        return self._loads_done != self._loads_wanted

    async def _load_waiting(self) -> None:
        """Take up what waits on the disk, as far as there is room; the rest later, and before anything new."""
        in_hand = self._lanes.sequences | self._ledger.unwritten
        wanted, after = self._loads_wanted, 0
        while page := await self._ledger.waiting(after, _PAGE):
            for entry in page:
                if len(self._lanes) >= _MAX_WAITING:
                    return
                if entry.sequence not in in_hand:
                    await self._take_up(entry)
            after = page[-1].sequence
        self._loads_done = wanted

    async def _take_up(self, entry: Entry) -> None:
        """An entry from the disk; of nobody known, its camera is only in the event."""
        lane, item = (entry.collection_id, entry.subject_id), Item(entry.sequence, None, entry)
        if not entry.subject_id:
            item.event = await self._ledger.find(entry.sequence)
            if item.event is None:
                self._ledger.finish(entry.sequence)
                self.tally.missed += 1
                return
            lane = lane_of(item.event)
        self._lanes.add(lane, item)
        wait = min(entry.next_time - self._now(), _LONGEST_HOLD).total_seconds()
        if wait > 0 and entry.attempts and self._lanes.is_first(lane, item):
            self._lanes.hold(lane, self._clock() + wait)

    @property
    def _may_read(self) -> bool:
        """Whether there is room for new events, and the other side is not left alone."""
        breaker = self._handover.breaker
        until = breaker.until()
        is_left_alone = breaker.is_open and (until is None or until > self._clock())
        return not (self._is_to_load or is_left_alone) and self._ledger.has_room and len(self._lanes) < _MAX_WAITING

    async def _read(self) -> None:
        """The next new events; what comes of them is begun and written down before those after them."""
        if self._may_read:
            events, missed, self._may_be_more = await self._ledger.read()
            self.tally.missed += missed
            for sequence, event in events:
                self._take(sequence, event)

    def _take(self, sequence: int, event: Event) -> None:
        item = Item(sequence, event)
        if not self._wants.wanted(event):
            self._ledger.close(sequence)
        elif self._wants.is_late(event, self._now()):
            self._handover.expire(item, event)
        elif self._lanes.add(lane_of(event), item):
            self._handover.wait(item, event)

    def _begin(self) -> None:
        """Try what is ready, as many at a time as may be."""
        while self._lanes.is_ready and len(self._running) + self._calls.stuck < self._pace.concurrency:
            if not self._handover.breaker.admits(self._clock()):
                return
            task = asyncio.create_task(self._try(*self._lanes.take(self._clock())))
            self._running.add(task)
            task.add_done_callback(self._ended)

    async def _try(self, lane: Lane, item: Item) -> None:
        try:
            await self._handover.give(lane, item)
        except DependencyError as error:
            self._is_away(error)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._running.discard(task)
        self._wake.set()
        if not task.cancelled():
            self._bug = self._bug or task.exception()
