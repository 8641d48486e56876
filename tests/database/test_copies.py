"""A copy is the same whichever database it is of, and can be loaded into any."""

import sqlite3
import stat
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from pathlib import Path
from threading import Event

import psycopg
import pytest

from facesvc.database import Database
from facesvc.database.copies import Contents, TableRows
from facesvc.database.opening import open_database
from facesvc.database.postgres import PostgresDatabase
from facesvc.database.sqlite import write_copy
from facesvc.errors import DependencyError, PreconditionError

OWNERS = [(1, "Zoë 'x' \\N\t\n", 2**62), (5, "", None), (6, "ada", -1)]
PETS = [("rex", 1, 0.1, bytes(range(256))), ("tom", 6, -1e300, b"")]


@pytest.fixture(params=["sqlite", "postgres"])
def target(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    """Another empty database."""
    place = tmp_path / "target.db" if request.param == "sqlite" else request.getfixturevalue("new_postgres")()
    with closing(open_database(place)) as opened:
        yield opened


@pytest.fixture
def full(database: Database) -> Database:
    """Tables with everything that ours have, some of which were called otherwise."""
    database.execute("CREATE TABLE migrations (name TEXT PRIMARY KEY)")
    database.execute("CREATE TABLE IF NOT EXISTS migrations (name TEXT PRIMARY KEY)")
    database.execute("CREATE TABLE keyring.subject_keys (name TEXT PRIMARY KEY)")
    database.execute("""
        CREATE TABLE persons (  -- who has pets
            number INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT NOT NULL, "group" INTEGER, gone BLOB,
            UNIQUE (name, "group"))
    """)
    database.execute("ALTER TABLE persons DROP COLUMN gone")
    database.execute("""
        CREATE TABLE pets (
            name TEXT PRIMARY KEY, owner INTEGER NOT NULL REFERENCES persons ON DELETE CASCADE,
            weight REAL NOT NULL CHECK (weight <> 0), picture BLOB NOT NULL
        ) WITHOUT ROWID
    """)
    database.execute("CREATE INDEX pets_of ON pets (owner)")
    database.execute("ALTER TABLE persons RENAME TO owners")
    database.execute("INSERT INTO keyring.subject_keys VALUES ('secret')")
    database.execute_many("INSERT INTO owners VALUES (?, ?, ?)", OWNERS)
    database.execute_many("INSERT INTO pets VALUES (?, ?, ?, ?)", PETS)
    return database


def rows(database: Database) -> tuple[object, object]:
    return database.select("SELECT * FROM owners ORDER BY number"), database.select("SELECT * FROM pets ORDER BY name")


def test_a_copy_has_everything_but_the_keys(full: Database, tmp_path: Path) -> None:
    full.copy_to(tmp_path / "copy.db")
    with closing(sqlite3.connect(tmp_path / "copy.db")) as copy:
        tables = {name for (name,) in copy.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")}
        assert tables == {"migrations", "owners", "pets", "sqlite_sequence"}
        assert copy.execute("SELECT * FROM owners ORDER BY number").fetchall() == OWNERS
        assert copy.execute("SELECT * FROM pets ORDER BY name").fetchall() == PETS
        with pytest.raises(sqlite3.IntegrityError, match="UNIQUE"):
            copy.execute("INSERT INTO owners VALUES (7, 'ada', -1)")
    assert b"secret" not in (tmp_path / "copy.db").read_bytes()


def test_a_copy_can_be_loaded_into_either(full: Database, target: Database, tmp_path: Path) -> None:
    full.copy_to(tmp_path / "copy.db")
    target.load_from(tmp_path / "copy.db")
    assert rows(target) == (OWNERS, PETS)
    refused = (sqlite3.IntegrityError, psycopg.IntegrityError)
    for wrong in ("INSERT INTO owners VALUES (7, 'ada', -1)", "INSERT INTO pets VALUES ('kit', 7, 1.0, '')"):
        with pytest.raises(refused):
            target.execute(wrong)
    target.execute("DELETE FROM owners WHERE number = 1")
    assert target.select("SELECT name FROM pets") == [("tom",)]
    target.copy_to(tmp_path / "second.db")  # and on from there
    assert (tmp_path / "second.db").stat().st_size > 0


def test_the_number_of_one_who_is_gone_is_not_given_again(database: Database, target: Database, tmp_path: Path) -> None:
    database.execute("CREATE TABLE tickets (number INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT)")
    database.execute("CREATE TABLE unused (number INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT)")
    for _ in range(3):
        database.execute("INSERT INTO tickets (name) VALUES ('ada')")
    database.execute("DELETE FROM tickets WHERE number > 1")
    database.copy_to(tmp_path / "copy.db")
    target.load_from(tmp_path / "copy.db")
    assert target.select("INSERT INTO tickets (name) VALUES ('bob') RETURNING number") == [(4,)]
    assert target.select("INSERT INTO unused (name) VALUES ('bob') RETURNING number") == [(1,)]


def test_only_an_empty_database_is_loaded(full: Database, target: Database, tmp_path: Path) -> None:
    full.copy_to(tmp_path / "copy.db")
    target.execute("CREATE TABLE keyring.subject_keys (name TEXT)")  # these may be there before
    target.execute("CREATE TABLE mine (name TEXT)")
    with pytest.raises(PreconditionError, match=r"is not empty \(it has mine\); restore into a new one") as refused:
        target.load_from(tmp_path / "copy.db")
    assert refused.value.reason == "GALLERY_NOT_EMPTY"
    target.execute("DROP TABLE mine")
    target.load_from(tmp_path / "copy.db")
    assert rows(target) == (OWNERS, PETS)
    with pytest.raises(PreconditionError, match=r"it has migrations, owners, pets"):
        target.load_from(tmp_path / "copy.db")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "is not there; check the path"),
        (b"hello" * 1000, "it is not a SQLite database"),
    ],
)
def test_a_file_that_is_no_copy_is_refused(target: Database, tmp_path: Path, content: bytes | None, words: str) -> None:
    path = tmp_path / "copy.db"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(DependencyError, match=f"the copy {path}:? {words}"):
        target.load_from(path)
    target.execute("CREATE TABLE migrations (name TEXT)")


def test_a_damaged_copy_leaves_the_database_empty(database: Database, target: Database, tmp_path: Path) -> None:
    database.execute("CREATE TABLE people (name TEXT, picture BLOB)")
    database.execute_many("INSERT INTO people VALUES (?, ?)", ((str(n), bytes(1000)) for n in range(200)))
    database.copy_to(tmp_path / "copy.db")
    content = (tmp_path / "copy.db").read_bytes()
    half = len(content) // 2
    (tmp_path / "copy.db").write_bytes(content[:half] + b"\xff" * (len(content) - half))
    with pytest.raises(DependencyError, match="it is damaged; restore the last backup"):
        target.load_from(tmp_path / "copy.db")
    target.execute("CREATE TABLE people (name TEXT)")


def test_a_copy_does_not_replace_anything(full: Database, tmp_path: Path) -> None:
    (tmp_path / "copy.db").write_bytes(b"mine")
    with pytest.raises(DependencyError, match="File exists"):
        full.copy_to(tmp_path / "copy.db")
    assert (tmp_path / "copy.db").read_bytes() == b"mine"
    with pytest.raises(DependencyError, match="No such file"):
        full.copy_to(tmp_path / "nowhere" / "copy.db")


def test_a_copy_that_fails_leaves_no_file(tmp_path: Path) -> None:
    def read(name: str) -> TableRows:
        def broken() -> Iterator[tuple[int]]:
            yield (1,)
            raise InterruptedError

        return TableRows(["number"], broken())

    with pytest.raises(InterruptedError):
        write_copy(tmp_path / "copy.db", Contents(["CREATE TABLE t (number INTEGER)"], ["t"], read, {}))
    assert list(tmp_path.iterdir()) == []


def test_a_copy_is_its_owners(full: Database, tmp_path: Path) -> None:
    full.copy_to(tmp_path / "copy.db")
    assert stat.S_IMODE((tmp_path / "copy.db").stat().st_mode) == 0o600


def test_a_copy_is_of_one_moment_and_nobody_waits_for_it(
    new_box: Callable[..., PostgresDatabase], tmp_path: Path
) -> None:
    box = new_box()
    for table in ("a", "b"):
        box.execute(f"CREATE TABLE {table} (number INTEGER)")
        box.execute(f"INSERT INTO {table} VALUES (0)")
    stop, changed = Event(), Event()

    def change() -> None:
        while not stop.is_set():
            with box.transaction():
                box.execute("UPDATE a SET number = number + 1")
                box.execute("UPDATE b SET number = number + 1")
            changed.set()

    with ThreadPoolExecutor(1) as thread, ExitStack() as finally_:
        running = thread.submit(change)
        finally_.callback(stop.set)
        for number in range(5):
            changed.clear()
            assert changed.wait(20)
            path = tmp_path / f"{number}.db"
            box.copy_to(path)
            with closing(sqlite3.connect(path)) as copy:
                [(first, second)] = copy.execute("SELECT a.number, b.number FROM a, b").fetchall()
            assert first == second > 0
        stop.set()
        running.result(20)
