"""The default pack, built once for all tests of this folder, and the weight files that it comes from."""

import subprocess
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import pytest

from facesvc.models import default_pack
from facesvc.models.packs import Pack
from facesvc.models.runtime import Network

Script = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="session")
def pack(tmp_path_factory: pytest.TempPathFactory) -> Pack:
    """The whole pack; do not change its files."""
    return default_pack.ensure(tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="session")
def float_embedder(weights: dict[str, bytes], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The embedder as it was converted; in the pack it is int8."""
    path = tmp_path_factory.mktemp("float") / default_pack.EMBEDDER.file
    path.write_bytes(default_pack.converted("embedder", weights["embedder"]))
    return path


@pytest.fixture(scope="session")
def networks(pack: Pack, float_embedder: Path) -> dict[str, Network]:
    """Every network as it was converted, by its role."""
    detector = {role: Network.load(pack.path(name)) for role, name in pack.detector.files.items()}
    return {**detector, "embedder": Network.load(float_embedder)}


@pytest.fixture(scope="session")
def weights() -> dict[str, bytes]:
    """The weight file of each role, as installed."""

    def content(package: str, file: str) -> bytes:
        spec = find_spec(package)
        assert spec is not None
        assert spec.submodule_search_locations
        return Path(spec.submodule_search_locations[0], file).read_bytes()

    return {role: content(source.package, source.file) for role, source in default_pack.SOURCES.items()}


@pytest.fixture(scope="session")
def script() -> Script:
    """Runs Python code in a process of its own: ``script(code, *arguments)``."""

    def run(code: str, *arguments: object, **options: object) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-c", code, *map(str, arguments)]
        return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, **options)  # type: ignore[call-overload, no-any-return]

    return run
