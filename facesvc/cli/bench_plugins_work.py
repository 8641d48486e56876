"""How soon and how fast a plugin gets events: a real journal, outbox and host over SQLite, and a plugin of no effect.

The server's observer takes a match on its event loop, appends it to the journal in a thread, and then tells the host.
So does the writer here, without the loop. The clock starts before the append and stops in the plugin's ``handle``; the
append alone, which ends with the disk's sync, is the floor.
"""

import secrets
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from facesvc.cli.bench_streams_report import Row, at_most, plain
from facesvc.database.sqlite import SqliteDatabase
from facesvc.delivery.host import Host
from facesvc.delivery.kit import Clock, person, seen
from facesvc.delivery.rig import MadeUpServer
from facesvc.delivery.roll import enlist_one
from facesvc.delivery.runner import Condition
from facesvc.errors import DeadlineError
from facesvc.events.journal import Journal
from facesvc.events.plugin import Box, Delivery, Manifest, Plugin, PluginSettings, Role
from facesvc.events.records import Event, SeenEvent
from facesvc.gallery import EmbeddingContract, Gallery, Subject
from facesvc.gallery.masterkey import KnownKey

PEOPLE = 50
_P99_BAR_MS = 20.0
_WARM_UP = 20  # events before those that are timed
_BATCH = 100  # events in one transaction, flat out
_PATIENCE_S = 300.0
_LOOK_S = 0.005


class _RealClock(Clock):
    """The time of day."""

    def __call__(self) -> datetime:
        return datetime.now(UTC)


class Stage:
    """A gallery that knows ``PEOPLE``, its journal, and one plugin over them."""

    def __init__(self, gallery: Gallery, database: SqliteDatabase, manifest: Manifest[Any]) -> None:
        self.now = _RealClock()
        self.journal = Journal(database, gallery.keyring, self.now())
        server = MadeUpServer(self.now)
        self.host = Host([enlist_one(manifest, {})], database, self.journal, gallery.keyring, server)

    def start(self) -> None:
        """Start the plugin, and wait until it runs."""
        self.host.start()
        self.until(lambda: self.host.runners[0].standing().condition is Condition.RUNNING)

    def happen(self, events: Sequence[Event]) -> float:
        """Events happen; how many seconds it took to write them down."""
        begun = time.perf_counter()
        self.journal.append(events, [])
        committed = time.perf_counter()
        self.host.notify()
        return committed - begun

    def until(self, condition: Callable[[], bool]) -> None:
        """Wait. Raises ``DeadlineError``."""
        deadline = time.monotonic() + _PATIENCE_S
        while not condition():
            if time.monotonic() > deadline:
                raise DeadlineError(f"the plugin did not get through within {_PATIENCE_S:g} s")
            time.sleep(_LOOK_S)


@contextmanager
def stage(manifest: Manifest[Any]) -> Iterator[Stage]:
    """Everything in a temporary folder, for the time of the block."""
    with tempfile.TemporaryDirectory(prefix="facesvc-bench-") as folder:
        key = KnownKey(secrets.token_bytes(32), "the key of this measurement")
        database = SqliteDatabase(Path(folder) / "gallery.db")
        now = datetime.now(UTC)
        with closing(Gallery.open(database, EmbeddingContract("bench/1", 8), now, [key])) as gallery:
            for name in names():
                subject = Subject(
                    collection_id="default", subject_id=name, display_name=name, create_time=now, update_time=now
                )
                gallery.create_subject(subject, "")
            set_up = Stage(gallery, database, manifest)
            try:
                yield set_up
            finally:
                set_up.host.stop()


def names() -> list[str]:
    """Who is known."""
    return [f"person-{number}" for number in range(PEOPLE)]


def manifest_of(make: Callable[[PluginSettings, Box], Plugin], **changes: Any) -> Manifest[PluginSettings]:
    """A plugin that acts on those who are seen."""
    return Manifest(
        name="bench",
        summary="Measures.",
        role=Role.ACTS,
        settings=PluginSettings,
        make=make,
        kinds=frozenset({SeenEvent}),
        **changes,
    )


class _Idle:
    """A plugin that does nothing but look at the clock."""

    def __init__(self) -> None:
        self.called: dict[str, float] = {}

    async def start(self) -> None:
        """As ``Plugin``."""

    async def handle(self, delivery: Delivery) -> None:
        """As ``Plugin``."""
        self.called[delivery.event.event_id] = time.perf_counter()

    async def stop(self) -> None:
        """As ``Plugin``."""


def paced(rate: float, seconds: float) -> list[Row]:
    """Events one by one on a quiet box: milliseconds from the match to the call, and of the commit in between."""
    plugin, people = _Idle(), names()
    begun: dict[str, float] = {}
    commits = []
    with stage(manifest_of(lambda *_: plugin)) as box:
        box.start()
        count = _WARM_UP + max(1, round(rate * seconds))
        first = time.perf_counter()
        for number in range(count):
            time.sleep(max(0.0, first + number / rate - time.perf_counter()))
            event = seen(person(people[number % PEOPLE]), box.now())
            begun[event.event_id] = time.perf_counter()
            commits.append(box.happen([event]))
        box.until(lambda: len(plugin.called) == count)
    waits = np.array([plugin.called[event_id] - when for event_id, when in begun.items()])
    whole, floor, rest = (
        (1000 * np.percentile(seconds[_WARM_UP:], (50, 99))).tolist()
        for seconds in (waits, np.array(commits), waits - np.array(commits))
    )
    workload = f"{rate:g} events a second"
    return [
        plain(workload, "from match to call p50, ms", whole[0]),
        at_most(workload, "from match to call p99, ms", whole[1], _P99_BAR_MS),
        plain(workload, "the commit alone p50, ms", floor[0]),
        plain(workload, "the commit alone p99, ms", floor[1]),
        plain(workload, "after the commit p50, ms", rest[0]),
        plain(workload, "after the commit p99, ms", rest[1]),
    ]


def flat_out(events: int) -> list[Row]:
    """Events that are in the journal already when the plugin starts."""
    plugin, people = _Idle(), names()
    with stage(manifest_of(lambda *_: plugin)) as box:
        now = box.now()
        made = [seen(person(people[number % PEOPLE]), now) for number in range(events)]
        for first in range(0, events, _BATCH):
            box.journal.append(made[first : first + _BATCH], [])
        begun = time.perf_counter()
        box.start()
        box.until(lambda: len(plugin.called) == events)
        seconds = max(plugin.called.values()) - begun
    return [plain(f"{events:,} in the journal", "through a plugin a second", events / seconds, "{:,.0f}")]
