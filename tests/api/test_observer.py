"""Sightings become events and stays on disk: in order, once, whatever the disk does meanwhile."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import datetime, timedelta
from pathlib import Path
from threading import Event as Gate

import pytest
import structlog
from events.making import Welcoming, keyring_of
from sightings import ENTRY, EXIT, INSIDE, T0, at, sighting
from ulid import ULID

from facesvc.api import observer as module
from facesvc.api.observer import Observer
from facesvc.database.opening import open_database
from facesvc.errors import DependencyError
from facesvc.events.journal import Journal, Wanted
from facesvc.events.records import ArrivedEvent, Event, LeftEvent, SeenEvent, SpoofAttemptEvent, UnknownPersonEvent
from facesvc.stream.news import Reporter
from facesvc.stream.policy import Outcome
from facesvc.stream.presence import Patience, Presences, State

PATIENCE = Patience(arrive_s=0.5, leave_s=30.0, absent_s=14 * 3600.0)


class Clocks:
    """Both clocks, at which a test turns."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def now(self) -> datetime:
        return at(self.seconds)

    def clock(self) -> float:
        return 1000.0 + self.seconds


@pytest.fixture
def clocks() -> Clocks:
    return Clocks()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "gallery.db"


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_TICK_S", 0.001)
    monkeypatch.setattr(module, "_RETRY_S", 0.001)


@asynccontextmanager
async def observing(
    path: Path, clocks: Clocks, retention: timedelta = timedelta(days=90), url: str = ""
) -> AsyncIterator[tuple[Observer, Journal]]:
    database = await asyncio.to_thread(open_database, url or path)
    journal = Journal(database, keyring_of(database, path.with_name("key"), Welcoming), clocks.now())
    observer = Observer(
        journal,
        Presences(PATIENCE, lambda: str(ULID())),
        Reporter(10.0),
        retention=retention,
        now=clocks.now,
        clock=clocks.clock,
        new_id=lambda: str(ULID()),
    )
    await observer.start()
    try:
        yield observer, journal
    finally:
        await observer.stop()
        await asyncio.to_thread(database.close)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not condition():  # noqa: ASYNC110 - what is waited for sets no event
            await asyncio.sleep(0.001)


async def written(observer: Observer) -> None:
    """All that was noted is on the disk."""
    await until(lambda: not len(observer._backlog))


async def told(observer: Observer, journal: Journal) -> list[Event]:
    await written(observer)
    return [event for _, event in journal.read(0, 1000)]


def see(observer: Observer, clocks: Clocks, name: str = "jane", **fields: object) -> None:
    observer.note([sighting(name, seen_time=clocks.now(), clock=clocks.clock(), **fields)])  # type: ignore[arg-type]


async def test_a_passage_is_seen_arrived_and_left(path: Path, clocks: Clocks) -> None:
    async with observing(path, clocks) as (observer, journal):
        for _ in range(5):
            see(observer, clocks, track_id="track")
            clocks.seconds += 0.25
        clocks.seconds += 30
        await until(lambda: not observer.everybody())
        seen, arrived, left = await told(observer, journal)
        (stay,) = journal.stays(Wanted())
    assert isinstance(seen, SeenEvent)
    assert (seen.camera_id, seen.zone, seen.collection_id, seen.track_id) == ("hall", "lobby", "default", "track")
    assert (seen.decision.outcome, seen.decision.frames_looked_at, seen.decision.settled) == ("MATCH", 3, True)
    assert seen.decision.subject is not None
    assert (seen.decision.subject.subject_id, seen.decision.subject.similarity) == ("jane", 0.95)
    assert isinstance(arrived, ArrivedEvent)
    assert (arrived.arrive_time, arrived.event_time) == (T0, at(0.5))
    assert isinstance(left, LeftEvent)
    assert (left.arrive_time, left.leave_time) == (T0, at(1))
    assert left.external_ids == {"card_number": "card-jane"}
    assert (stay.arrive_time, stay.leave_time, stay.stay_id) == (T0, at(1), arrived.event_id)


async def test_strangers_and_pictures_are_told(path: Path, clocks: Clocks) -> None:
    async with observing(path, clocks) as (observer, journal):
        see(observer, clocks, outcome=Outcome.UNKNOWN, track_id="a")
        see(observer, clocks, outcome=Outcome.SPOOF, track_id="b")
        unknown, spoof = await told(observer, journal)
    assert isinstance(unknown, UnknownPersonEvent)
    assert isinstance(spoof, SpoofAttemptEvent)
    assert (unknown.decision.subject, unknown.about, spoof.about) == (None, "", "")


async def test_watchers_are_given_what_is_on_the_disk(path: Path, clocks: Clocks) -> None:
    async with observing(path, clocks) as (observer, journal):
        pages = observer.watch(0)
        reading = asyncio.ensure_future(anext(pages))
        await asyncio.sleep(0)
        assert not reading.done()
        see(observer, clocks)
        ((number, event),) = await asyncio.wait_for(reading, 20)
        assert (number, event.about) == (1, "jane")
        assert await asyncio.to_thread(journal.read, 0, 10) == [(1, event)]
        see(observer, clocks, "joe")
        assert [event.about for _, event in await asyncio.wait_for(anext(pages), 20)] == ["joe"]
        observer.close()
        with pytest.raises(StopAsyncIteration):
            await asyncio.wait_for(anext(pages), 20)


async def test_a_watcher_gets_everything_once_while_it_is_written(path: Path, clocks: Clocks) -> None:
    async def read() -> list[int]:
        numbers: list[int] = []
        async for page in observer.watch(0):
            numbers += [number for number, _ in page]
            if len(numbers) >= 300:
                break
        return numbers

    async with observing(path, clocks) as (observer, _):
        readers = [asyncio.create_task(read()) for _ in range(5)]
        for number in range(300):
            see(observer, clocks, f"visitor-{number}", camera=INSIDE)
            await asyncio.sleep(0)
        for numbers in await asyncio.wait_for(asyncio.gather(*readers), 30):
            assert numbers == list(range(1, 301))


async def test_noting_never_waits_and_a_hanging_disk_loses_nothing(
    path: Path, clocks: Clocks, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with observing(path, clocks) as (observer, journal):
        gate, append = Gate(), journal.append
        monkeypatch.setattr(journal, "append", lambda *batch: (gate.wait(30), append(*batch)))
        for number in range(1000):
            see(observer, clocks, f"visitor-{number}", camera=ENTRY)
            await asyncio.sleep(0)
        assert journal.head == 0
        gate.set()
        events = await told(observer, journal)
        events += [event for _, event in journal.read(1000, 2000)]
    assert [event.about for event in events] == [f"visitor-{number}" for number in range(1000) for _ in range(2)]


async def test_a_failed_write_is_tried_again_and_told_once(
    path: Path, clocks: Clocks, monkeypatch: pytest.MonkeyPatch
) -> None:
    failures = 5

    def failing(*batch: object) -> None:
        nonlocal failures
        if failures:
            failures -= 1
            raise DependencyError("the disk is full", reason="DISK_FULL")
        append(*batch)  # type: ignore[arg-type]

    async with observing(path, clocks) as (observer, journal):
        append = journal.append
        monkeypatch.setattr(journal, "append", failing)
        with structlog.testing.capture_logs() as logs:
            see(observer, clocks, camera=ENTRY)
            events = await told(observer, journal)
    assert [type(event) for event in events] == [SeenEvent, ArrivedEvent]
    assert [(line["log_level"], line.get("reason"), line.get("failures")) for line in logs] == [
        ("error", "DISK_FULL", None),
        ("warning", None, 5),
    ]


async def test_a_bug_in_one_batch_does_not_stop_the_next(
    path: Path, clocks: Clocks, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with observing(path, clocks) as (observer, journal):
        append = journal.append
        monkeypatch.setattr(journal, "append", lambda *batch: 1 / 0)
        with structlog.testing.capture_logs() as logs:
            see(observer, clocks)
            await written(observer)
        assert [line["event"] for line in logs] == ["events were lost"]
        monkeypatch.setattr(journal, "append", append)
        see(observer, clocks, "joe")
        assert [event.about for event in await told(observer, journal)] == ["joe"]


async def test_a_bug_in_the_ticking_is_heard_of(path: Path, clocks: Clocks, monkeypatch: pytest.MonkeyPatch) -> None:
    async with observing(path, clocks) as (observer, _):
        monkeypatch.setattr(observer._presences, "pass_time", lambda *_: 1 / 0)
        with structlog.testing.capture_logs() as logs:
            await until(lambda: bool(logs))
    assert "restart the server" in logs[0]["event"]


async def test_who_is_present_is_still_present_after_a_restart(path: Path, clocks: Clocks) -> None:
    async with observing(path, clocks) as (observer, _):
        see(observer, clocks, camera=ENTRY)
        for _ in range(3):
            see(observer, clocks, "joe")
            clocks.seconds += 0.5
    clocks.seconds += 300
    async with observing(path, clocks) as (observer, journal):
        found = {one.subject_id: one for one in observer.everybody()}
        assert found["jane"].held
        assert found["joe"].arrive_time == T0
        see(observer, clocks, "joe")
        clocks.seconds += 10
        await until(lambda: observer.everybody()[-1].state is State.LEAVING)
        assert [type(event) for event in await told(observer, journal)] == [
            SeenEvent,
            ArrivedEvent,
            SeenEvent,
            ArrivedEvent,
            SeenEvent,
        ]
        see(observer, clocks, "jane", camera=EXIT)
        left = (await told(observer, journal))[-1]
    assert isinstance(left, LeftEvent)
    assert (left.arrive_time, left.leave_time) == (T0, clocks.now())


async def test_who_does_not_come_back_after_a_restart_left_when_last_seen(path: Path, clocks: Clocks) -> None:
    async with observing(path, clocks) as (observer, _):
        for _ in range(3):
            see(observer, clocks, "joe")
            clocks.seconds += 0.5
    clocks.seconds += 12 * 3600
    async with observing(path, clocks) as (observer, journal):
        await until(lambda: not observer.everybody())
        left = (await told(observer, journal))[-1]
        assert journal.open_stays() == []
    assert isinstance(left, LeftEvent)
    assert left.leave_time == at(1)


async def test_a_crash_forgets_at_most_the_last_minute(path: Path, clocks: Clocks) -> None:
    async with observing(path, clocks) as (observer, journal):
        for _ in range(100):
            see(observer, clocks)
            clocks.seconds += 1
            await asyncio.sleep(0)
        await until(lambda: bool(journal.open_stays()) and journal.open_stays()[0].last_seen_time >= at(60))


async def test_what_is_noted_before_the_stop_is_written(path: Path, clocks: Clocks) -> None:
    async with observing(path, clocks) as (observer, _):
        for number in range(100):
            see(observer, clocks, f"visitor-{number}")
    async with observing(path, clocks) as (observer, journal):
        assert len(await told(observer, journal)) == 100


async def test_a_disk_that_hangs_does_not_keep_the_server_from_stopping(
    path: Path, clocks: Clocks, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_STOP_S", 0.05)
    gate = Gate()
    async with AsyncExitStack() as stack:
        observer, journal = await stack.enter_async_context(observing(path, clocks))
        stack.callback(gate.set)
        append = journal.append
        monkeypatch.setattr(journal, "append", lambda *batch: (gate.wait(30), append(*batch)))
        see(observer, clocks)
        with structlog.testing.capture_logs() as logs:
            await observer.stop()
    assert [(line["event"], line["lost"]) for line in logs] == [
        ("events were lost: the disk did not take them in time", 1)
    ]


async def test_old_events_are_forgotten_at_the_start(path: Path, clocks: Clocks) -> None:
    async with observing(path, clocks) as (observer, _):
        for number in range(1200):
            see(observer, clocks, f"visitor-{number}")
        await written(observer)
    clocks.seconds += 2 * 86400
    async with observing(path, clocks, retention=timedelta(days=1)) as (_, journal):
        await until(lambda: not journal.list_events(Wanted(), 10).events)


async def test_a_decision_holds_as_long_as_it_did_and_not_after_a_restart(path: Path, clocks: Clocks) -> None:
    async with observing(path, clocks) as (observer, journal):
        see(observer, clocks)
        (event,) = await told(observer, journal)
        assert observer.valid_for(event) == pytest.approx(5.0)
        clocks.seconds += 3
        assert observer.valid_for(event) == pytest.approx(2.0)
        clocks.seconds += 3
        assert observer.valid_for(event) == 0.0
        clocks.seconds = 0.0
    async with observing(path, clocks) as (observer, _):
        assert observer.valid_for(event) == 0.0


async def test_an_erased_person_is_nowhere(path: Path, clocks: Clocks) -> None:
    async with observing(path, clocks) as (observer, journal):
        see(observer, clocks, camera=ENTRY)
        see(observer, clocks, "joe", camera=ENTRY)
        await written(observer)
        see(observer, clocks, camera=EXIT)
        see(observer, clocks, camera=ENTRY)
        async with observer.erasing("default", "jane") as count:
            assert count == 2
            see(observer, clocks, camera=ENTRY)
            assert [one.subject_id for one in observer.everybody()] == ["joe"]
        clocks.seconds += 1
        late = sighting(camera=ENTRY, seen_time=clocks.now(), clock=clocks.clock() - 2)  # began before the erasure
        observer.note([late])
        assert {event.about for event in await told(observer, journal)} == {"joe"}
        assert [one.subject_id for one in journal.stays(Wanted())] == ["joe"]
        clocks.seconds += 60
        see(observer, clocks, camera=ENTRY)  # enrolled anew
        assert [event.about for event in await told(observer, journal)][-1] == "jane"


async def test_an_erasure_reaches_what_still_waits_for_the_disk(
    path: Path, clocks: Clocks, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with observing(path, clocks) as (observer, journal):
        append = journal.append
        full = True

        def failing(*batch: object) -> None:
            if full:
                raise DependencyError("the disk is full", reason="DISK_FULL")
            append(*batch)  # type: ignore[arg-type]

        monkeypatch.setattr(journal, "append", failing)
        see(observer, clocks, camera=ENTRY)
        see(observer, clocks, "joe", camera=ENTRY)
        await asyncio.sleep(0.01)
        async with observer.erasing("default", "jane"):
            pass
        full = False
        assert {event.about for event in await told(observer, journal)} == {"joe"}
        assert [one.subject_id for one in journal.open_stays()] == ["joe"]


async def test_a_watcher_gets_past_what_was_erased(path: Path, clocks: Clocks) -> None:
    async with observing(path, clocks) as (observer, journal):
        for _ in range(5):
            see(observer, clocks)
            clocks.seconds += 11
        await written(observer)
        async with observer.erasing("default", "jane"):
            pass
        assert journal.head == 5
        pages = observer.watch(2)
        assert await asyncio.wait_for(anext(pages), 20) == []
        reading = asyncio.ensure_future(anext(pages))
        await asyncio.sleep(0)
        see(observer, clocks, "joe")
        assert [event.about for _, event in await asyncio.wait_for(reading, 20)] == ["joe"]
