"""What the tests of graph share: certificates, a scripted Graph that listens, and a world around it."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from facesvc_graph.scripted import ScriptedGraph
from graph_making import World, users, write_certificates

from facesvc.delivery.kit import MemoryBox


@pytest.fixture(autouse=True)
def no_bundle(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a developer's machine trusts is of no account."""
    monkeypatch.delenv("REQUESTS_CA_BUNDLE", raising=False)


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return write_certificates(tmp_path_factory.mktemp("tls"))


@pytest.fixture
async def world(certificates: tuple[Path, Path], tmp_path: Path) -> AsyncIterator[World]:
    certificate, ca_file = certificates
    box = MemoryBox(name="graph")
    graph = ScriptedGraph(certificate, box.now)
    for user in users():
        graph.add(user)
    await graph.start()
    yield World(tmp_path, ca_file, graph, box)
    await graph.stop()
