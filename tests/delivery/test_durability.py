"""Nothing is lost, and nothing done twice that must not be: a receiver that dies again and again, and ``kill -9``."""

import asyncio
import os
import signal
import subprocess
import sys
import tracemalloc
from collections.abc import Callable
from contextlib import closing, suppress
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from delivery import crashing
from delivery.recorder import World

from facesvc.delivery.kit import person, seen
from facesvc.delivery.outbox import State
from facesvc.delivery.rig import Rig
from facesvc.events.plugin import Delivery, TryLaterError
from facesvc.events.records import SeenEvent

MakeRig = Callable[..., Rig]
TESTS = Path(crashing.__file__).resolve().parents[1]


class Receiver:
    """A server on a socket, which takes a line for each event and dies after every ``life`` of them.

    Then it has taken the last one without saying so, hangs up on everybody, and is not there for a while.
    """

    def __init__(self, life: int) -> None:
        self.taken: list[str] = []
        self.deaths = 0
        self.port = 0
        self._life = life
        self._server: asyncio.Server | None = None
        self._connections: set[asyncio.StreamWriter] = set()

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    def stop(self) -> None:
        assert self._server is not None
        self._server.close()
        for writer in self._connections:
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._connections.add(writer)
        with suppress(ConnectionError):
            while line := await reader.readline():
                self.taken.append(line.decode().strip())
                if len(self.taken) % self._life == 0:
                    self.deaths += 1
                    self.stop()
                    await asyncio.sleep(0.01)  # it takes so long to come up again
                    await self.start()
                    break
                writer.write(b"ok\n")
        self._connections.discard(writer)
        writer.close()


class Sender:
    """Sends over connections that it keeps; of a plugin, on its event loop."""

    def __init__(self, receiver: Receiver) -> None:
        self._receiver = receiver
        self._idle: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []

    async def send(self, line: str) -> None:
        try:
            reader, writer = (
                self._idle.pop() if self._idle else await asyncio.open_connection("127.0.0.1", self._receiver.port)
            )
            writer.write(f"{line}\n".encode())
            if await reader.readline() != b"ok\n":
                writer.close()
                raise ConnectionResetError
        except OSError as error:
            raise TryLaterError("the receiver is gone") from error
        self._idle.append((reader, writer))

    def close(self) -> None:
        for _, writer in self._idle:
            writer.close()


async def send_all(make_rig: MakeRig, count: int, life: int, *, expiring: bool) -> None:
    world, receiver = World(), Receiver(life)
    sender = Sender(receiver)
    await receiver.start()
    rig = make_rig(world, heeds_expiry=expiring)
    people = [person(f"p{number}") for number in range(50)]
    late: list[tuple[datetime, datetime | None]] = []
    deaths = 0

    async def send(delivery: Delivery) -> None:
        nonlocal deaths
        if delivery.expire_time is not None and rig.clock() >= delivery.expire_time:
            late.append((rig.clock(), delivery.expire_time))
        try:
            await sender.send(delivery.event.event_id)
        finally:
            if deaths < receiver.deaths:
                deaths += 1
                rig.clock.advance(1)  # decisions are good for two seconds

    world.on_handle, world.on_stop = send, sender.close
    await rig.start()
    made: dict[str, list[str]] = {one.subject_id: [] for one in people}
    for _ in range(0, count, 100):
        now, long = rig.clock(), timedelta(hours=1)
        soon = [now + (timedelta(seconds=2) if number % 7 == 0 else long) for number in range(100)]
        events = [seen(people[number % 50], now, expire_time=time) for number, time in enumerate(soon)]
        rig.append(*events)
        for event in events:
            made[event.about].append(event.event_id)
    await rig.settled()
    expired = {one.event_id for one in rig.runner.outbox.list_entries(State.EXPIRED, count)}
    await rig.stop()
    receiver.stop()
    assert receiver.deaths >= count // life * 0.8
    assert rig.journal.head == count
    assert not late
    for ids in made.values():
        # In order, each at least once, and each by the id it always has.
        delivered = list(dict.fromkeys(one for one in receiver.taken if one in ids))
        assert delivered == [one for one in ids if one in delivered]
        assert set(delivered) | expired >= set(ids)
    everything = {one for ids in made.values() for one in ids}
    assert set(receiver.taken) <= everything
    assert bool(expired) == expiring
    # What was sent again is what was under way at a death.
    assert len(receiver.taken) - len(set(receiver.taken)) <= 8 * receiver.deaths


@pytest.mark.parametrize("expiring", [False, pytest.param(True, marks=pytest.mark.slow)])
async def test_events_through_a_receiver_that_dies_again_and_again(make_rig: MakeRig, *, expiring: bool) -> None:
    await send_all(make_rig, 2000, 100, expiring=expiring)


@pytest.mark.slow
@pytest.mark.parametrize("expiring", [False, True])
async def test_ten_thousand_events_through_a_receiver_that_dies_every_500(make_rig: MakeRig, *, expiring: bool) -> None:
    await send_all(make_rig, 10_000, 500, expiring=expiring)


@pytest.mark.slow
async def test_a_dead_receiver_and_fifty_thousand_events(make_rig: MakeRig, monkeypatch: pytest.MonkeyPatch) -> None:
    """The journal is the queue: what is in memory stays below a bound, and all of it is delivered in the end."""
    monkeypatch.setattr("facesvc.delivery.rig._PATIENCE_S", 80)
    world = World()
    world.broken = TryLaterError("it is gone")
    rig = make_rig(world)
    await rig.start()
    made: dict[str, list[str]] = {}
    tracemalloc.start()
    for _ in range(50):
        events = [seen(person(f"p{number}"), rig.clock()) for number in range(1000)]
        rig.append(*events)
        for event in events:
            made.setdefault(event.about, []).append(event.event_id)
        assert rig.runner.standing().waiting <= 10_000 + 128
    await rig.until(lambda: rig.runner.standing().condition.value == "resting")
    allocated = _allocated("facesvc")
    tracemalloc.stop()
    assert allocated < 64 << 20
    world.broken = None
    await rig.settled()
    assert len(set(world.effects)) == 50_000
    places = {event_id: place for place, event_id in reversed(list(enumerate(world.effects)))}
    for ids in made.values():
        assert [places[one] for one in ids] == sorted(places[one] for one in ids)


def _allocated(part: str) -> int:
    """Bytes, by what is in files whose path has ``part`` in it."""
    found = tracemalloc.take_snapshot().statistics("filename")
    return sum(one.size for one in found if part in one.traceback[0].filename)


def run_box(folder: Path, kind: str, batches: int, killed_after: int | None) -> int:
    """Run a box until it is killed or done; how many batches of events are certainly on its disk."""
    command = [sys.executable, crashing.__file__, str(folder), kind, str(batches)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(TESTS), str(TESTS.parent)])}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as child:
        assert child.stdout is not None
        lines = [child.stdout.readline() for _ in range(batches if killed_after is None else killed_after)]
        if killed_after is not None:
            child.send_signal(signal.SIGKILL)
        lines += child.stdout.readlines()
    assert child.returncode == (0 if killed_after is None else -signal.SIGKILL)
    return len([line for line in lines if line == "appended\n"])


@pytest.mark.parametrize("kind", ["again", "once"])
async def test_kill_9_loses_nothing_and_repeats_no_action(tmp_path: Path, kind: str) -> None:
    appended = 0
    for killed_after in (10, 35, 60):
        appended += await asyncio.to_thread(run_box, tmp_path, kind, 1000, killed_after)
    appended += await asyncio.to_thread(run_box, tmp_path, kind, 3, None)
    rig = Rig(tmp_path, crashing.manifest(tmp_path, at_most_once=kind == "once"), {})
    with closing(rig.database):
        happened = [event for _, event in rig.journal.read(0, 100_000)]
        uncertain = {one.event_id for one in rig.runner.outbox.list_entries(State.UNCERTAIN, 100)}
        counts = rig.runner.outbox.counts()
    effects = [line.split()[0] for line in (tmp_path / "effects").read_text().splitlines()]
    assert len(happened) >= appended * crashing.PEOPLE
    everything = [event.event_id for event in happened]
    if kind == "once":
        assert len(effects) == len(set(effects))
        assert set(everything) - set(effects) <= uncertain
        assert set(counts) <= {State.UNCERTAIN}
        assert len(uncertain) <= 3 * 200
    else:
        assert set(effects) == set(everything)
        assert counts == {}
    for number in range(crashing.PEOPLE):
        mine = [event.event_id for event in happened if isinstance(event, SeenEvent) and event.about == f"p{number}"]
        first = list(dict.fromkeys(one for one in effects if one in mine))
        assert first == [one for one in mine if one in first]
