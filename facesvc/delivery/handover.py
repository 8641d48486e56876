"""One event, given to the plugin once, and what comes of it."""

import random
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from itertools import islice

import structlog

from facesvc.delivery.breaker import Breaker, wait_after
from facesvc.delivery.calling import Calls, in_words
from facesvc.delivery.lanes import Item, Lanes
from facesvc.delivery.ledger import Ledger
from facesvc.delivery.outbox import Entry, Lane, State
from facesvc.delivery.pace import Pace
from facesvc.delivery.wants import Wants
from facesvc.errors import DependencyError
from facesvc.events.plugin import Delivery, Facts, Plugin, TryLaterError, UndeliverableError
from facesvc.events.records import Event

_LATENCIES = 1000

_log = structlog.get_logger(__name__)


@dataclass(slots=True)
class Tally:
    """What has been done since the start. ``missed``: at most so many events were gone before they could be given."""

    delivered: int = 0
    failures: int = 0
    dead: int = 0
    expired: int = 0
    missed: int = 0
    last_error: str = ""
    last_error_time: datetime | None = None


class _LateError(Exception):
    """It is too late to give an event."""


class Handover:
    """Gives events to one plugin, and tells lanes, ledger and breaker what came of each. All on one event loop.

    ``publish`` takes the facts that the plugin returned about the person of an event.
    """

    def __init__(
        self,
        plugin: Plugin,
        wants: Wants,
        pace: Pace,
        calls: Calls,
        publish: Callable[[Event, Facts], Awaitable[None]],
        lanes: Lanes,
        ledger: Ledger,
        *,
        now: Callable[[], datetime],
        clock: Callable[[], float],
        draw: random.Random,
    ) -> None:
        self.tally = Tally()
        self.latencies_s: deque[float] = deque(maxlen=_LATENCIES)
        """From the moment of an event to its first try, of the last thousand."""
        self.breaker = Breaker()
        self._plugin = plugin
        self._wants = wants
        self._pace = pace
        self._calls = calls
        self._publish = publish
        self._lanes = lanes
        self._ledger = ledger
        self._now = now
        self._clock = clock
        self._draw = draw

    async def give(self, lane: Lane, item: Item) -> None:
        """Give the first of a lane. While the database is away it raises ``DependencyError``, and has not given it."""
        try:
            event = item.event or await self._ledger.find(item.sequence)
            if event is not None and not item.dropped and self._wants.at_most_once:
                await self._begin(item, event)
        except DependencyError:
            self.breaker.left_alone()
            self._lanes.give_back(lane)
            raise
        if event is None or item.dropped:  # past its retention, or about somebody who was erased
            self.tally.missed += not item.dropped
            self.breaker.left_alone()
            self._finish(lane, item)
        else:
            await self._give(lane, item, event)

    async def _begin(self, item: Item, event: Event) -> None:
        """Write down first that it is given: after a crash nobody knows what came of it."""
        if not self._wants.is_late(event, self._now()):
            begun = self._entry(item, event, State.BEGUN, attempts=item.tries + 1)
            await self._ledger.write_now(begun)
            item.entry = begun

    async def _give(self, lane: Lane, item: Item, event: Event) -> None:
        attempt = item.tries if self._wants.at_most_once else item.tries + 1
        expire_time = self._wants.expire_time(event)
        delivery = Delivery(event=event, number=item.sequence, attempt=attempt, expire_time=expire_time)
        try:
            facts = await self._calls.within(self._pace.timeout_s, self._handle, delivery)
            if facts is not None:
                await self._tell(event, facts)
        except _LateError:
            self.breaker.left_alone()
            self.expire(item, event)
            self._lanes.finish(lane)
            return
        except Exception as error:  # noqa: BLE001 - whatever a plugin raises
            self._failed(lane, item, event, attempt, error)
            return
        self.breaker.succeeded()
        self.tally.delivered += 1
        self._finish(lane, item)

    async def _handle(self, delivery: Delivery) -> Facts | None:
        """Whether it is too late is asked in the step in which the plugin begins, so that nothing comes between."""
        now, event = self._now(), delivery.event
        if self._wants.is_late(event, now):
            raise _LateError
        if delivery.attempt == 1:
            self.latencies_s.append(max(0.0, (now - event.event_time).total_seconds()))
        return await self._plugin.handle(delivery)

    async def _tell(self, event: Event, facts: Facts) -> None:
        if not event.about:
            raise UndeliverableError("it returned facts about an event that names nobody")
        await self._publish(event, facts)

    def _finish(self, lane: Lane, item: Item) -> None:
        """Delivered, or there is nothing to deliver."""
        self._lanes.finish(lane)
        if item.entry is None:
            self._ledger.close(item.sequence)
        else:
            self._ledger.finish(item.sequence)

    def expire(self, item: Item, event: Event) -> None:
        """It comes too late."""
        self.tally.expired += 1
        self._write_down(item, self._entry(item, event, State.EXPIRED, attempts=item.tries, error="it came too late"))

    def wait_behind(self, lane: Lane) -> None:
        """The first of a lane keeps the others waiting: better to have them on the disk than open.

        And it as well, but for one that is given only once: of that the disk will say that it is begun.
        """
        for item in islice(self._lanes.of(lane), int(self._wants.at_most_once), None):
            if item.event is not None and self._ledger.is_open(item.sequence):
                self.wait(item, item.event)

    def wait(self, item: Item, event: Event) -> None:
        """It has to wait for one before it."""
        self._write_down(item, self._entry(item, event, State.WAITING, attempts=item.tries))

    def _failed(self, lane: Lane, item: Item, event: Event, attempt: int, error: Exception) -> None:
        """It did not work: wait, or give up."""
        words, now = in_words(error), self._now()
        self.note_failure(words)
        if isinstance(error, UndeliverableError):
            self.breaker.succeeded()  # it answered
        else:
            self.breaker.failed(self._clock())
        item.errors += not isinstance(error, TryLaterError | DependencyError)
        if item.dropped:
            self._finish(lane, item)
            return
        waited = now - item.entry.first_time if item.entry else now - now
        state = self._pace.state_after(error, errors=item.errors, waited=waited, at_most_once=self._wants.at_most_once)
        entry = self._entry(item, event, state, attempts=attempt, error=words)
        if state is not State.WAITING:
            self.tally.dead += state is State.DEAD
            self._write_down(item, entry)
            self._lanes.finish(lane)
            return
        wait = wait_after(attempt, error.after if isinstance(error, TryLaterError) else None, self._draw)
        self._write_down(item, replace(entry, next_time=now + wait))
        self._lanes.hold(lane, self._clock() + wait.total_seconds())
        self.wait_behind(lane)

    def note_failure(self, words: str) -> None:
        """Something did not work, of the plugin or around it."""
        self.tally.failures += 1
        self.tally.last_error, self.tally.last_error_time = words, self._now()
        _log.warning("a plugin failed", plugin=self._wants.manifest.name, error=words)

    def _entry(self, item: Item, event: Event, state: State, *, attempts: int, error: str = "") -> Entry:
        now = self._now().astimezone(UTC)
        return Entry(
            sequence=item.sequence,
            event_id=event.event_id,
            collection_id=event.collection_id,
            subject_id=event.about,
            state=state,
            attempts=attempts,
            first_time=item.entry.first_time if item.entry else now,
            next_time=now,
            update_time=now,
            error=error,
        )

    def _write_down(self, item: Item, entry: Entry) -> None:
        if item.dropped:
            self._ledger.close(item.sequence)
            return
        item.entry = entry
        self._ledger.write_down(entry)
