"""Workers are shared fairly, callers may leave at any moment, and a permit lasts as long as its thread."""

import asyncio
import threading
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator

import pytest
import pytest_asyncio

from facesvc.api.workers import Workers
from facesvc.errors import ExhaustedError, UnavailableError
from facesvc.stream.scheduler import Party


class Clock:
    """A job that is told to take a second takes it at once."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self) -> float:
        return self.seconds

    def spend(self, seconds: float) -> None:
        self.seconds += seconds


class Gate:
    """A job that waits to be let go."""

    def __init__(self) -> None:
        self.entered = threading.Semaphore(0)
        self.gone = threading.Event()

    def __call__(self, *_: object) -> str:
        self.entered.release()
        assert self.gone.wait(30)
        return "through"


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def gate() -> Iterator[Gate]:
    gate = Gate()
    yield gate
    gate.gone.set()


@pytest_asyncio.fixture
async def workers(clock: Clock, gate: Gate) -> AsyncIterator[Workers]:
    workers = Workers(1, 2, clock)
    yield workers
    gate.gone.set()
    workers.close()


async def occupy(workers: Workers, gate: Gate) -> "asyncio.Task[str]":
    """Somebody is at work."""
    task = asyncio.create_task(workers.run(gate))
    assert await asyncio.to_thread(gate.entered.acquire, timeout=30)
    return task


async def stream(workers: Workers, party: Party, work: Callable[[], None], until: Callable[[], bool]) -> None:
    """Asks again at once, as a camera does whose next frame waits."""
    while not until():
        await workers.run_next(party, lambda: None, lambda _: work())


async def freed(workers: Workers) -> bool:
    """Whether a worker is free, once its thread has said so: a moment after its caller was told."""
    async with asyncio.timeout(20):
        while not workers.free:  # noqa: ASYNC110 - what is waited for sets no event
            await asyncio.sleep(0)
    return True


async def test_a_result_and_an_error_come_back(workers: Workers) -> None:
    assert await workers.run(divmod, 7, 2) == (3, 1)
    assert await workers.run_next(workers.party(), lambda: 20, lambda job: job + 1) == 21
    with pytest.raises(ZeroDivisionError):
        await workers.run(divmod, 7, 0)
    assert await workers.run(len, "free again") == 10


async def test_a_job_that_cannot_be_taken_frees_the_worker(workers: Workers) -> None:
    with pytest.raises(LookupError):
        await workers.run_next(workers.party(), lambda: {}["frame"], len)
    assert await freed(workers)


async def test_dear_frames_are_fewer_and_calls_share_as_one_party(workers: Workers, clock: Clock) -> None:
    """All in one worker: what each is served is its share of the time, whatever its jobs take."""
    served: Counter[str] = Counter()

    def job(name: str, seconds: float) -> Callable[[], None]:
        def work() -> None:
            clock.spend(seconds)
            served[name] += 1

        return work

    def over() -> bool:
        return clock() > 40

    async def calls() -> None:
        while not over():
            await workers.run(job("calls", 0.05))

    await asyncio.gather(
        stream(workers, workers.party(), job("dear", 0.1), over),
        stream(workers, workers.party(), job("cheap", 0.01), over),
        stream(workers, workers.party(2.0), job("heavy", 0.1), over),
        calls(),
        calls(),
    )
    assert served["dear"] == pytest.approx(80, rel=0.1)
    assert served["cheap"] == pytest.approx(800, rel=0.1)
    assert served["heavy"] == pytest.approx(160, rel=0.1)
    assert served["calls"] == pytest.approx(160, rel=0.1)


async def test_too_many_calls_are_refused_and_streams_are_not(workers: Workers, gate: Gate) -> None:
    busy = await occupy(workers, gate)
    waiting = [asyncio.create_task(workers.run(len, "")) for _ in range(2)]
    frames = [asyncio.create_task(workers.run_next(workers.party(), str, len)) for _ in range(20)]
    await asyncio.sleep(0)
    with pytest.raises(ExhaustedError, match="2 calls are waiting for 1 workers") as caught:
        await workers.run(len, "")
    assert caught.value.reason == "TOO_MANY_WAITING_CALLS"
    gate.gone.set()
    assert await busy == "through"
    assert await asyncio.gather(*waiting, *frames) == [0] * 22


async def test_where_workers_are_free_nobody_waits(clock: Clock) -> None:
    """Calls that come in one turn of the loop, as many as there are workers."""
    workers = Workers(3, 0, clock)
    together = threading.Barrier(3)
    assert sorted(await asyncio.gather(*(workers.run(together.wait) for _ in range(3)))) == [0, 1, 2]
    workers.close()


async def test_who_left_the_queue_is_never_served(workers: Workers, gate: Gate) -> None:
    busy = await occupy(workers, gate)
    taken: list[str] = []

    def take(name: str) -> Callable[[], str]:
        return lambda: taken.append(name) or name

    tasks = [asyncio.create_task(workers.run_next(workers.party(), take(name), len)) for name in ("a", "bb", "ccc")]
    await asyncio.sleep(0)
    tasks[0].cancel()
    await asyncio.sleep(0)
    tasks[1].cancel()
    await asyncio.sleep(0)
    assert len(workers._queue._waiting) == 1
    gate.gone.set()
    await busy
    assert await tasks[2] == 3
    assert taken == ["ccc"]
    assert await freed(workers)
    assert not workers._queue._waiting


async def test_who_leaves_as_the_worker_comes_free_does_not_keep_it(workers: Workers, gate: Gate) -> None:
    """The permit has been given, and the task that waits has not run yet."""
    busy = await occupy(workers, gate)
    leaver = asyncio.create_task(workers.run(len, "never"))
    next_one = asyncio.create_task(workers.run(len, "four"))
    await asyncio.sleep(0)
    hand_out = workers._hand_out

    def hand_out_and_leave() -> None:
        hand_out()
        leaver.cancel()

    workers._hand_out = hand_out_and_leave  # type: ignore[method-assign]
    gate.gone.set()
    await busy
    assert await next_one == 4
    assert leaver.cancelled()
    assert await freed(workers)


async def test_who_leaves_before_the_worker_is_handed_out_is_passed_over(workers: Workers, gate: Gate) -> None:
    """The task that waits is cancelled, and has not taken itself off the queue yet."""
    busy = await occupy(workers, gate)
    leaver = asyncio.create_task(workers.run(len, "never"))
    next_one = asyncio.create_task(workers.run(len, "four"))
    await asyncio.sleep(0)
    hand_out = workers._hand_out

    def leave_and_hand_out() -> None:
        leaver.cancel()
        hand_out()

    workers._hand_out = leave_and_hand_out  # type: ignore[method-assign]
    gate.gone.set()
    await busy
    assert await next_one == 4
    assert leaver.cancelled()
    assert await freed(workers)


async def test_a_worker_is_free_only_when_its_thread_is(workers: Workers, gate: Gate) -> None:
    busy = await occupy(workers, gate)
    busy.cancel()
    with pytest.raises(asyncio.CancelledError):
        await busy
    assert workers.free == 0
    waiter = asyncio.create_task(workers.run(len, ""))
    gate.gone.set()
    await waiter


async def test_draining_finishes_what_runs_and_turns_away_who_waits(workers: Workers, gate: Gate) -> None:
    busy = await occupy(workers, gate)
    waiter = asyncio.create_task(workers.run(len, ""))
    await asyncio.sleep(0)
    workers.drain()
    gate.gone.set()
    assert await busy == "through"
    with pytest.raises(UnavailableError) as caught:
        await waiter
    assert caught.value.reason == "SERVER_STOPPING"
    with pytest.raises(UnavailableError):
        await workers.run_next(workers.party(), str, len)


async def test_load_is_measured(workers: Workers, clock: Clock, gate: Gate) -> None:
    assert (workers.load().busy, workers.load().waited_s) == (0, 0)
    busy = await occupy(workers, gate)
    waiter = asyncio.create_task(workers.run(len, ""))
    await asyncio.sleep(0)
    clock.spend(60)
    assert workers.load().busy == pytest.approx(1)
    gate.gone.set()
    await asyncio.gather(busy, waiter)
    assert await freed(workers)
    assert workers.load().waited_s == pytest.approx(60)  # the first has faded
    clock.spend(60)
    assert workers.load().busy < 1e-6


async def test_who_is_patient_is_no_sign_of_too_much_work(workers: Workers, clock: Clock, gate: Gate) -> None:
    busy = await occupy(workers, gate)
    waiter = asyncio.create_task(workers.run_next(workers.party(patient=True), str, len))
    await asyncio.sleep(0)
    clock.spend(5)
    gate.gone.set()
    await asyncio.gather(busy, waiter)
    assert workers.load().waited_s == 0


async def test_several_workers_run_at_once(clock: Clock) -> None:
    workers = Workers(3, 0, clock)
    together = threading.Barrier(3)
    party = workers.party()
    waits = (workers.run_next(party, lambda: 20, together.wait) for _ in range(3))
    assert sorted(await asyncio.gather(*waits)) == [0, 1, 2]
    workers.close()
