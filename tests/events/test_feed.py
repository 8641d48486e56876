"""The memory is bounded, a watcher holds only its place, and what was missed is told."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from facesvc.errors import InputError
from facesvc.events.feed import Delivery, EventsMissedError, Feed
from facesvc.events.records import MatchEvent

T0 = datetime(2026, 1, 1, tzinfo=UTC)
EVENT = MatchEvent("0", "d", "cam", "zone", "default", "jane", "Jane", {}, 0.95, "s", 0.9, 1e-3, "presence", T0, T0, T0)


def publish(feed: Feed, *numbers: int) -> None:
    for number in numbers:
        feed.publish(replace(EVENT, event_id=str(number)))


async def read(watch: AsyncIterator[Delivery], count: int) -> list[int]:
    return [int((await asyncio.wait_for(anext(watch), 10)).event.event_id) for _ in range(count)]


async def test_a_watcher_gets_what_comes_after_it() -> None:
    feed = Feed("run", 10)
    publish(feed, 1)
    watch = feed.watch(feed.token())
    publish(feed, 2, 3)
    assert await read(watch, 2) == [2, 3]


async def test_a_watcher_waits_and_is_woken() -> None:
    feed = Feed("run", 10)
    watch = feed.watch(feed.token())
    reader = asyncio.create_task(read(watch, 1))
    await asyncio.sleep(0)
    assert not reader.done()
    publish(feed, 1)
    assert await reader == [1]


async def test_each_delivery_says_where_to_go_on() -> None:
    feed = Feed("run", 10)
    token = feed.token()
    publish(feed, 1, 2, 3)
    first = await anext(feed.watch(token))
    assert await read(feed.watch(first.resume_token), 2) == [2, 3]


async def test_a_watcher_too_far_behind_is_told() -> None:
    feed = Feed("run", 2)
    watch = feed.watch(feed.token())
    publish(feed, 1, 2, 3)
    with pytest.raises(EventsMissedError, match="1 events"):
        await anext(watch)


async def test_a_token_of_another_run_is_missed_events() -> None:
    old = Feed("monday", 2)
    publish(old, 1)
    with pytest.raises(EventsMissedError, match="restarted"):
        Feed("tuesday", 2).watch(old.token())


@pytest.mark.parametrize("token", ["", "run", "run.x", "run.-1", "run.1", "run." + "9" * 30, "run.²"])
async def test_a_token_that_is_none_is_refused(token: str) -> None:
    with pytest.raises(InputError):
        Feed("run", 2).watch(token)


async def test_closing_ends_a_watch_after_what_there_is() -> None:
    feed = Feed("run", 10)
    watch = feed.watch(feed.token())
    publish(feed, 1)
    feed.close()
    assert await read(watch, 1) == [1]
    with pytest.raises(StopAsyncIteration):
        await anext(watch)
