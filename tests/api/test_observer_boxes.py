"""Several boxes write one database: each tells what the others saw, and nobody who was erased stays anywhere."""

import asyncio
from pathlib import Path

import pytest
from api.test_observer import Clocks, observing, see, told, written
from events.making import arrived
from sightings import ENTRY, at

from facesvc.api import observer as module
from facesvc.errors import DependencyError
from facesvc.events.journal import Wanted


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Beside which the key lies."""
    return tmp_path / "gallery.db"


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_TICK_S", 0.001)


async def test_what_another_box_writes_is_told(path: Path, postgres_url: str) -> None:
    clocks = Clocks()
    async with (
        observing(path, clocks, url=postgres_url) as (here, journal),
        observing(path, clocks, url=postgres_url) as (there, _),
    ):
        pages = here.watch(journal.head)
        waiting = asyncio.ensure_future(anext(pages))
        see(there, clocks)
        [(number, event)] = await asyncio.wait_for(waiting, 20)
        assert (number, event.about) == (1, "jane")


async def test_a_database_that_is_away_for_a_moment_ends_no_watch(
    path: Path, postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    clocks = Clocks()
    async with (
        observing(path, clocks, url=postgres_url) as (here, journal),
        observing(path, clocks, url=postgres_url) as (there, _),
    ):
        asked, refresh = 0, journal.refresh

        def away_at_first() -> bool:
            nonlocal asked
            asked += 1
            if asked < 3:
                raise DependencyError("the server is away", reason="DATABASE_AWAY")
            return refresh()

        monkeypatch.setattr(journal, "refresh", away_at_first)
        waiting = asyncio.ensure_future(anext(here.watch(journal.head)))
        see(there, clocks)
        assert len(await asyncio.wait_for(waiting, 20)) == 1


async def test_what_another_box_wrote_before_it_learned_of_an_erasure_is_gone(path: Path, postgres_url: str) -> None:
    clocks = Clocks()
    async with (
        observing(path, clocks, url=postgres_url) as (here, journal),
        observing(path, clocks, url=postgres_url) as (there, _),
    ):
        see(here, clocks, camera=ENTRY)
        await written(here)
        async with here.erasing("default", "jane") as count:
            assert count == 2
            see(there, clocks, camera=ENTRY)
            await written(there)
        assert journal.list_events(Wanted(), 10).events == []
        assert list(journal.stays(Wanted())) == []


async def test_a_box_that_learns_of_an_erasure_knows_nobody_any_more(path: Path, postgres_url: str) -> None:
    clocks = Clocks()
    async with observing(path, clocks, url=postgres_url) as (there, journal):
        see(there, clocks, camera=ENTRY)
        see(there, clocks, "joe", camera=ENTRY)
        await written(there)
        there.forget("default", "jane")
        see(there, clocks, camera=ENTRY)
        assert [one.subject_id for one in there.everybody()] == ["joe"]
        journal.append([arrived(at(9), "joe")], [])
        assert len(await told(there, journal)) == 5
