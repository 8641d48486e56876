"""An office at work."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from backup.offices import Office, office


@pytest.fixture
def open_office(tmp_path: Path) -> Iterator[Office]:
    """With two people."""
    with office(tmp_path) as opened:
        opened.enrol("ada", "bob")
        yield opened
