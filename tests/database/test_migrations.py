"""The tables of the service are made the same way in every database, once."""

import sqlite3
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from datetime import UTC, datetime
from pathlib import Path

import psycopg
import pytest

from facesvc.database import Database, Schema, Step, migrate
from facesvc.database.postgres import PostgresDatabase
from facesvc.errors import PreconditionError
from facesvc.events.audit import AUDIT
from facesvc.events.rows import EVENTS
from facesvc.gallery.schema import GALLERY, KEYRING

NOW = datetime(2026, 3, 2, 8, 30, 15, 123457, tzinfo=UTC)
SCHEMAS = (GALLERY, KEYRING, EVENTS, AUDIT)
NUMBERED = Step("0001_first", ("CREATE TABLE tickets (number INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT)",))


def migrate_all(database: Database) -> None:
    for schema in SCHEMAS:
        migrate(database, schema, NOW)


def test_all_steps_are_taken_once(database: Database) -> None:
    migrate_all(database)
    migrate_all(database)
    for schema in SCHEMAS:
        names = [name for (name,) in database.select(f"SELECT name FROM {schema.migrations} ORDER BY name")]
        assert names == [step.name for step in schema.steps]
    assert database.select("SELECT change FROM changes") == [(0,)]


def test_a_subject_takes_its_samples_along(database: Database) -> None:
    migrate_all(database)
    database.execute("INSERT INTO contracts VALUES ('arc/1', 4)")
    database.execute("INSERT INTO subjects VALUES ('office', 'ada', 1, 0, 0, 1, ?)", (b"sealed",))
    insert = "INSERT INTO samples VALUES (?, 's', 'office', 'ada', 0.5, 0, ?, ?)"
    database.execute(insert, (7, b"tag", b"sealed"))
    database.execute("INSERT INTO vectors VALUES (7, 'arc/1', ?)", (b"vector",))
    with pytest.raises((sqlite3.IntegrityError, psycopg.IntegrityError)):
        database.execute("UPDATE subjects SET enabled = 2")
    database.execute("DELETE FROM subjects")
    assert database.select("SELECT count(*) FROM samples") == database.select("SELECT count(*) FROM vectors") == [(0,)]


def test_a_step_that_fails_leaves_nothing(database: Database) -> None:
    broken = Step("0002_broken", ("CREATE TABLE pets (name TEXT)", "INSERT INTO nowhere VALUES (1)"))
    schema = Schema("migrations", (NUMBERED, broken))
    for _ in range(2):
        with pytest.raises(Exception, match="nowhere"):
            migrate(database, schema, NOW)
        assert database.select("SELECT name FROM migrations") == [("0001_first",)]
    mended = Schema("migrations", (NUMBERED, Step("0002_mended", ("CREATE TABLE pets (name TEXT)",))))
    migrate(database, mended, NOW)


def test_what_only_code_can_convert(database: Database) -> None:
    second = Step("0002_twice", ("ALTER TABLE tickets ADD COLUMN twice TEXT",), ("UPDATE tickets SET name = twice",))
    migrate(database, Schema("migrations", (NUMBERED,)), NOW)
    database.execute("INSERT INTO tickets (name) VALUES ('ada')")

    def convert(name: str) -> None:
        if name == "0002_twice":
            for number, called in database.select("SELECT number, name FROM tickets"):
                database.execute("UPDATE tickets SET twice = ? WHERE number = ?", (2 * called, number))

    migrate(database, Schema("migrations", (NUMBERED, second)), NOW, convert)
    assert database.select("SELECT name FROM tickets") == [("adaada",)]


def test_a_newer_database_is_refused(database: Database) -> None:
    migrate(database, Schema("migrations", (NUMBERED, Step("0999_iris", ()))), NOW)
    with pytest.raises(PreconditionError, match=r"newer facesvc \(it has 0999_iris\)") as refused:
        migrate(database, Schema("migrations", (NUMBERED,)), NOW)
    assert refused.value.reason == "GALLERY_TOO_NEW"


def test_boxes_that_migrate_at_once_take_turns(new_box: Callable[..., PostgresDatabase]) -> None:
    boxes = [new_box() for _ in range(5)]
    with ThreadPoolExecutor(5) as threads:
        list(threads.map(migrate_all, boxes))
    assert boxes[0].select("SELECT change FROM changes") == [(0,)]


def test_the_tables_are_the_same_in_a_copy_of_either(postgres_url: str, tmp_path: Path) -> None:
    from facesvc.database.opening import open_database

    shapes = []
    with ExitStack() as opened:
        for number, place in enumerate((tmp_path / "gallery.db", postgres_url)):
            database = opened.enter_context(closing(open_database(place)))
            migrate_all(database)
            database.copy_to(tmp_path / f"{number}.db")
            copy = opened.enter_context(closing(sqlite3.connect(tmp_path / f"{number}.db")))
            shapes.append(
                sorted(copy.execute("SELECT type, name, tbl_name, sql FROM sqlite_schema").fetchall(), key=str)
            )
    assert [shape[:3] for shape in shapes[0]] == [shape[:3] for shape in shapes[1]]
    assert shapes[0] == shapes[1]
