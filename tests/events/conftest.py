"""What tests of events share: keys, a journal, and the time of day; each over every kind of database."""

from datetime import datetime
from pathlib import Path

import pytest
from events.making import T0, Welcoming, keyring_of

from facesvc.database import Database
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
    """A journal that takes what is said of anybody."""
    return Journal(database, keyring_of(database, key_path, Welcoming), T0)


class Clock:
    """The time of day, as a test sets it."""

    def __init__(self) -> None:
        self.now = T0

    def __call__(self) -> datetime:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()
