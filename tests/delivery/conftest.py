"""What tests of delivery share: keys and a journal over every kind of database, and boxes with a plugin at work."""

from collections.abc import AsyncIterator, Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from delivery.recorder import World, manifest_of
from events.making import T0, Welcoming, keyring_of

from facesvc.database import Database, migrate
from facesvc.delivery.rig import Rig
from facesvc.delivery.schema import DELIVERY
from facesvc.events.journal import Journal
from facesvc.gallery.keyring import Keyring


@pytest.fixture
def key_path(tmp_path: Path) -> Path:
    """Where the master key is."""
    return tmp_path / "key" / "master.key"


@pytest.fixture
def keyring(database: Database, key_path: Path) -> Keyring:
    """The keys of those for whom a test makes one."""
    return keyring_of(database, key_path)


@pytest.fixture
def journal(database: Database, key_path: Path) -> Journal:
    """A journal that takes what is said of anybody, beside the tables of delivery."""
    migrate(database, DELIVERY, T0)
    return Journal(database, keyring_of(database, key_path, Welcoming), T0)


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody waits for long after a failure."""
    monkeypatch.setattr("facesvc.delivery.breaker.FIRST_WAIT", timedelta(milliseconds=10))
    monkeypatch.setattr("facesvc.delivery.breaker.FIRST_PAUSE_S", 0.01)
    monkeypatch.setattr("facesvc.delivery.courier._AWAY_S", 0.02)


@pytest.fixture
async def make_rig(tmp_path: Path, hasty: None) -> AsyncIterator[Callable[..., Rig]]:
    """Makes a box with a recorder at work; ``changes`` are those of its manifest."""
    made: list[Rig] = []

    def make(world: World, *, delivery: dict[str, Any] | None = None, url: str = "", **changes: Any) -> Rig:
        neighbours = changes.pop("neighbours", ())
        manifest = manifest_of(world, **changes)
        made.append(Rig(tmp_path, manifest, {"delivery": delivery or {}}, neighbours=neighbours, url=url))
        return made[-1]

    yield make
    for rig in made:
        await rig.close()
