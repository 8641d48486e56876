"""The box that all attackers come to; after each of them it serves whoever is honest."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from attackers.besieged import Box, besieged


@pytest.fixture(scope="session")
def siege(pack_cache: Path, guest_png: bytes, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Box]:
    with besieged(tmp_path_factory.mktemp("box"), pack_cache, guest_png) as box:
        yield box


@pytest.fixture
def box(siege: Box) -> Iterator[Box]:
    """After each attack an honest camera is served."""
    yield siege
    siege.check_well()
