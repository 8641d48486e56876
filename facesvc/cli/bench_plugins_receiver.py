"""What becomes of events when the receiver behind a plugin dies again and again: none is lost, none comes too late.

The receiver takes a line with an event's id over TCP, and says that it has it. When it has got its number it dies: it
has the event, but nobody hears of that; every connection ends, and none is accepted for a while.
"""

import asyncio
import threading
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from facesvc.cli.bench_plugins_work import PEOPLE, Stage, manifest_of, names, stage
from facesvc.cli.bench_streams_report import Row, at_least, at_most, plain
from facesvc.delivery.kit import person, seen
from facesvc.delivery.outbox import State
from facesvc.events.plugin import Delivery, TryLaterError
from facesvc.events.records import Event

_DOWN_S = 0.05
_BATCH = 100
_SHORT_LIVED = 20  # one event in so many is good for a moment only
_MOMENT = timedelta(seconds=0.5)
_GOOD = timedelta(hours=1)
_WHOLE = "{:,.0f}"


@dataclass(slots=True)
class _Log:
    """The ids that the receiver got, in their order; how often it died; and how many calls began after the expiry."""

    received: list[str] = field(default_factory=list)
    deaths: int = 0
    late: int = 0


class _Receiver:
    """A server of a thread of its own, on a free port of this machine."""

    def __init__(self, log: _Log, dies_every: int) -> None:
        self.port = 0
        self._log = log
        self._dies_every = dies_every
        self._stop = asyncio.Event()
        self._dying = asyncio.Event()
        self._writers: set[asyncio.StreamWriter] = set()
        self._loop = asyncio.new_event_loop()
        self._up = threading.Event()
        self._thread = threading.Thread(target=self._main, name="receiver", daemon=True)

    def start(self) -> None:
        """Returns when it accepts connections."""
        self._thread.start()
        self._up.wait()

    def stop(self) -> None:
        """End for good."""
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()

    def _main(self) -> None:
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            runner.run(self._live())

    async def _live(self) -> None:
        """One life after the other."""
        while not self._stop.is_set():
            self._dying.clear()
            server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)
            self.port = server.sockets[0].getsockname()[1]
            self._up.set()
            ends = [asyncio.ensure_future(one.wait()) for one in (self._dying, self._stop)]
            await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
            for end in ends:
                end.cancel()
            server.close()
            for writer in self._writers:
                writer.transport.abort()
            await asyncio.sleep(_DOWN_S)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        with suppress(OSError):
            while (line := await reader.readline()) and not self._dying.is_set():
                self._log.received.append(line.decode().strip())
                if len(self._log.received) % self._dies_every == 0:
                    self._log.deaths += 1
                    self._dying.set()
                    break
                writer.write(b"ok\n")
                await writer.drain()
        self._writers.discard(writer)
        writer.close()


class _Sender:
    """The plugin: an event is dealt with when the receiver says so."""

    def __init__(self, receiver: _Receiver, log: _Log) -> None:
        self._receiver = receiver
        self._log = log

    async def start(self) -> None:
        """As ``Plugin``."""

    async def handle(self, delivery: Delivery) -> None:
        """As ``Plugin``."""
        if delivery.expire_time is not None and datetime.now(UTC) >= delivery.expire_time:
            self._log.late += 1
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", self._receiver.port)
            try:
                writer.write(f"{delivery.event.event_id}\n".encode())
                if await reader.readline() != b"ok\n":
                    raise TryLaterError("the receiver ended in the middle")
            finally:
                writer.close()
        except OSError as error:
            raise TryLaterError(f"the receiver is away: {error}") from error

    async def stop(self) -> None:
        """As ``Plugin``."""


def measure(count: int, dies_every: int) -> list[Row]:
    """``count`` events that are good for long, and beside them some that are good for a moment."""
    workload, log = f"{count:,}, dies every {dies_every}", _Log()
    receiver = _Receiver(log, dies_every)
    receiver.start()
    try:
        with stage(manifest_of(lambda *_: _Sender(receiver, log), heeds_expiry=True)) as box:
            box.start()
            lasting, brief = _happen(box, count)
            box.until(lambda: _is_through(box))
            expired = {one.event_id for one in box.host.set_aside("bench", State.EXPIRED, count)}
            dead = box.host.runners[0].outbox.counts().get(State.DEAD, 0)
    finally:
        receiver.stop()
    deaths = at_least(workload, "deaths of the receiver", log.deaths, count // dies_every, _WHOLE)
    return [deaths, *_judge(workload, log, lasting, brief, expired, dead)]


def _happen(box: Stage, count: int) -> tuple[list[Event], list[Event]]:
    """Events happen in the order of their numbers, those of a person one after the other."""
    people, made = names(), []
    for number in range(count + count // _SHORT_LIVED):
        is_brief = number % (_SHORT_LIVED + 1) == _SHORT_LIVED
        now = box.now()
        expire_time = now + (_MOMENT if is_brief else _GOOD)
        made.append((seen(person(people[number % PEOPLE]), now, expire_time=expire_time), is_brief))
        if len(made) % _BATCH == 0:
            box.happen([event for event, _ in made[-_BATCH:]])
    if rest := len(made) % _BATCH:
        box.happen([event for event, _ in made[-rest:]])
    return [event for event, is_brief in made if not is_brief], [event for event, is_brief in made if is_brief]


def _is_through(box: Stage) -> bool:
    standing = box.host.runners[0].standing()
    return standing.place >= box.journal.head and not standing.waiting and not _unwritten(box)


def _unwritten(box: Stage) -> bool:
    """Whether something is still said to wait on the disk, where what came of it comes a moment later."""
    return State.WAITING in box.host.runners[0].outbox.counts()


def _judge(
    workload: str, log: _Log, lasting: Sequence[Event], brief: Sequence[Event], expired: set[str], dead: int
) -> list[Row]:
    got = Counter(log.received)
    made = {event.event_id for event in (*lasting, *brief)}
    delivered = sum(event.event_id in got for event in lasting)
    lost = sum(event.event_id not in got and event.event_id not in expired for event in brief)
    return [
        at_least(workload, "delivered", delivered, len(lasting), _WHOLE),
        at_most(workload, "given up", dead, 0, _WHOLE),
        at_most(workload, "out of order, of one person", _out_of_order(log, [*lasting, *brief]), 0, _WHOLE),
        plain(workload, "received more than once, by the same id", sum(number > 1 for number in got.values()), _WHOLE),
        at_most(workload, "received under another id", len(got.keys() - made), 0, _WHOLE),
        plain(workload, "good for a moment only: expired", sum(one.event_id in expired for one in brief), _WHOLE),
        at_most(workload, "of those neither delivered nor recorded as expired", lost, 0, _WHOLE),
        at_most(workload, "acted on after expiry", log.late, 0, _WHOLE),
    ]


def _out_of_order(log: _Log, events: Sequence[Event]) -> int:
    """How many first receptions came before that of an earlier event of the same person."""
    made = {event.event_id: event for event in events}
    newest: dict[str, datetime] = {}
    wrong = 0
    for event in (made[event_id] for event_id in dict.fromkeys(log.received) if event_id in made):
        before = newest.get(event.about, event.event_time)
        wrong += event.event_time < before
        newest[event.about] = max(before, event.event_time)
    return wrong
