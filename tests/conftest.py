"""What all tests share: pictures that installed packages carry, and the default pack, built once."""

import os
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import hypothesis
import pytest
import structlog

from facesvc.models import default_pack

pytest_plugins = ["databases"]  # the fixtures of databases.py, for every room

# What tells the tests where something is.
_OURS = {"FACESVC_SHARED", "FACESVC_TEST_POSTGRES_URL", "FACESVC_NPM_BIN", "FACESVC_FUZZ_SECONDS"}

# How long an example takes says nothing on a machine that others share.
hypothesis.settings.register_profile("shared", deadline=None)
hypothesis.settings.load_profile("shared")
# Tests state their settings; those of the machine they run on are not asked.
for name in [name for name in os.environ if name.startswith("FACESVC_") and name not in _OURS]:
    del os.environ[name]
# Servers of tests speak plain text on this machine, but for those of the tests of TLS and tokens.
os.environ["FACESVC_SERVER__PLAINTEXT"] = "true"
# Nor is the settings file of whoever runs the tests.
os.environ["XDG_CONFIG_HOME"] = "/nonexistent"
# Tables are as wide as their text, also where no terminal says how wide it is.
os.environ["COLUMNS"] = "200"
# The usual one paints a traceback with the values of all variables, which holds up a server for up to a second.
_renderer = structlog.dev.ConsoleRenderer(colors=False, exception_formatter=structlog.dev.plain_traceback)
# What a server in this process logs is shown where a test fails, and is no output of the command that talks to it.
structlog.configure(
    processors=[structlog.processors.add_log_level, _renderer], logger_factory=structlog.stdlib.LoggerFactory()
)


@pytest.fixture(autouse=True)
def _logs_stay_as_they_are() -> Iterator[None]:
    """Loggers keep the stream that they first see; that of one test is closed in the next, which then fails."""
    yield
    if structlog.get_config()["cache_logger_on_first_use"]:
        structlog.configure(cache_logger_on_first_use=False)
        pytest.fail("this test has set up the logs of a command: let it use the fixture no_logs")


@pytest.fixture
def no_logs(monkeypatch: pytest.MonkeyPatch) -> None:
    """A command that runs in this process sets up no logs."""
    monkeypatch.setattr("facesvc.cli.commands._set_up_logs", lambda level: None)


@pytest.fixture(scope="session")
def pack_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache folder with the default pack in it."""
    folder = tmp_path_factory.mktemp("packs")
    default_pack.ensure(folder)
    return folder


@pytest.fixture(scope="session")
def pictures() -> Path:
    """The folder of insightface's sample pictures."""
    spec = find_spec("insightface")
    assert spec is not None
    assert spec.submodule_search_locations
    return Path(spec.submodule_search_locations[0]) / "data" / "images"


@pytest.fixture(scope="session")
def group_jpeg(pictures: Path) -> bytes:
    """Six people, 1280 x 886."""
    return (pictures / "t1.jpg").read_bytes()


@pytest.fixture(scope="session")
def guest_png(pictures: Path) -> bytes:
    """One person, 112 x 112."""
    return (pictures / "Tom_Hanks_54745.png").read_bytes()


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of test material that is not part of the repository."""
    folder = Path(os.environ.get("FACESVC_SHARED") or Path(__file__).resolve().parents[2] / "shared")
    if not (folder / "data").is_dir():
        pytest.skip(f"no shared test material: {folder} is not there; FACESVC_SHARED may name another folder")
    return folder
