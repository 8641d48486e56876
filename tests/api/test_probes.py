"""Questions about faces are in the audit log: ``Search``, ``Compare`` and ``Embed``."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
from api.conftest import Start, Vision
from api.pictures import grey
from api.test_recognition import enrol
from api.test_stream import PICTURE

from facesvc.api import probes
from facesvc.api.probes import WINDOW_S, Probe, Probes
from facesvc.errors import DependencyError
from facesvc.events.audit import Asked

JANE = Probe("jane at here", "Search", "default")
ACTIONS = {"Search", "Compare", "Embed", "Detect"}
JOE = Probe("joe at here", "Search", "default")


@dataclass
class Log:
    """A log in memory; ``broken``: it cannot be written."""

    entries: list[tuple[str, str, str, str]] = field(default_factory=list)
    broken: bool = False

    def note(self, action: str, collection_id: str, *, detail: str, actor: str) -> None:
        if self.broken:
            raise DependencyError("the disk is full", reason="DISK_FULL")
        self.entries.append((actor, action, collection_id, detail))


@dataclass
class Watch:
    """A clock that stands until it is set."""

    now: float = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def log() -> Log:
    return Log()


@pytest.fixture
def clock() -> Watch:
    return Watch()


@pytest.fixture
def counted(log: Any, clock: Callable[[], float]) -> Probes:
    return Probes(log, clock)


async def test_the_first_is_written_at_once(counted: Probes, log: Log) -> None:
    await counted.note(JANE, 3, 1)
    assert log.entries == [("jane at here", "Search", "default", "calls: 1, faces: 3, matches: 1")]


async def test_what_follows_within_a_minute_is_one_entry(counted: Probes, log: Log, clock: Watch) -> None:
    for _ in range(3):
        await counted.note(JANE, 2, 1)
    await counted.note(JOE, 1, 0)
    await counted.write(clock.now - WINDOW_S)
    assert len(log.entries) == 2
    clock.now += WINDOW_S
    await counted.write(clock.now - WINDOW_S)
    assert log.entries[2:] == [("jane at here", "Search", "default", "calls: 2, faces: 4, matches: 2")]


async def test_after_a_quiet_minute_the_next_is_written_at_once_again(counted: Probes, log: Log, clock: Watch) -> None:
    await counted.note(JANE, 1, 0)
    clock.now += WINDOW_S
    await counted.write(clock.now - WINDOW_S)
    await counted.note(JANE, 1, 1)
    assert [entry[3] for entry in log.entries] == ["calls: 1, faces: 1, matches: 0", "calls: 1, faces: 1, matches: 1"]


async def test_the_end_loses_none(counted: Probes, log: Log) -> None:
    for _ in range(3):
        await counted.note(JANE, 1, 0)
    await counted.stop()
    await counted.stop()
    assert [entry[3] for entry in log.entries] == ["calls: 1, faces: 1, matches: 0", "calls: 2, faces: 2, matches: 0"]


async def test_while_the_log_cannot_be_written_they_are_counted(counted: Probes, log: Log, clock: Watch) -> None:
    log.broken = True
    await counted.note(JANE, 2, 1)
    await counted.note(JANE, 2, 1)
    clock.now += WINDOW_S
    await counted.write(clock.now - WINDOW_S)
    log.broken = False
    assert log.entries == []
    clock.now += WINDOW_S
    await counted.write(clock.now - WINDOW_S)
    assert log.entries == [("jane at here", "Search", "default", "calls: 2, faces: 4, matches: 2")]


async def test_more_askers_than_are_remembered_are_written_one_by_one(
    counted: Probes, log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(probes, "MAX_KEYS", 1)
    for probe in (JANE, JOE, JOE):
        await counted.note(probe, 1, 0)
    assert [entry[0] for entry in log.entries] == [JANE.actor, JOE.actor, JOE.actor]


async def test_what_a_server_answers_is_in_its_log(start: Start, vision: Vision) -> None:
    running = await start(vision=vision)
    await enrol(running, "jane", PICTURE)
    await running.client.search(PICTURE)
    await running.client.search(PICTURE)
    await running.client.compare(PICTURE, grey())
    await running.client.embed(grey())
    await running.client.detect(grey())
    await running.server.stop()
    entries = running.service.audit.list_entries(Asked(), 100)
    found = [(one.action, one.collection_id, one.detail) for one in entries if one.action in ACTIONS]
    assert found == [
        ("Search", "default", "calls: 1, faces: 1, matches: 1"),
        ("Compare", "", "calls: 1, faces: 1, matches: 1"),
        ("Embed", "", "calls: 1, faces: 1, matches: 0"),
        ("Search", "default", "calls: 1, faces: 1, matches: 1"),
    ]
    assert {one.actor.partition(" at ")[0] for one in entries} == {"local"}
