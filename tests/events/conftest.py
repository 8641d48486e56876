"""What tests of events share: a journal, and events that happened."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from events.making import T0

from facesvc.events.journal import Journal


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the events are kept."""
    return tmp_path / "data" / "events.db"


@pytest.fixture
def journal(path: Path) -> Iterator[Journal]:
    journal = Journal.open(path, T0)
    yield journal
    journal.close()
