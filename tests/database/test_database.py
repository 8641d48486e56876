"""What every database does, whichever it is."""

import sqlite3
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from threading import Event

import psycopg
import pytest

from facesvc.database import Database
from facesvc.database.opening import open_database

# A row that a table refuses is a bug of ours, and stays the driver's error.
REFUSED = (sqlite3.IntegrityError, psycopg.IntegrityError)


class StoppedError(Exception):
    pass


@pytest.fixture
def people(database: Database) -> Database:
    database.execute("CREATE TABLE people (name TEXT PRIMARY KEY, age INTEGER) STRICT, WITHOUT ROWID")
    return database


def names(database: Database) -> list[str]:
    return [name for (name,) in database.select("SELECT name FROM people ORDER BY name")]


def test_a_transaction_happens_as_a_whole(people: Database) -> None:
    with people.transaction():
        people.execute("INSERT INTO people VALUES (?, ?)", ("ada", 36))
        people.execute("INSERT INTO people VALUES (:name, :age)", {"name": "bob", "age": None, "more": 0})
    assert people.select("SELECT * FROM people ORDER BY name") == [("ada", 36), ("bob", None)]
    with suppress(StoppedError), people.transaction():
        people.execute("DELETE FROM people")
        assert names(people) == []
        raise StoppedError
    assert names(people) == ["ada", "bob"]


def test_what_was_committed_is_there_for_the_next(people: Database, database_url: str) -> None:
    people.execute("INSERT INTO people VALUES ('ada', 36)")
    people.close()
    with closing(open_database(database_url)) as again:
        assert names(again) == ["ada"]


def test_a_transaction_in_another_is_part_of_it(people: Database) -> None:
    with suppress(StoppedError), people.transaction():
        with people.transaction():
            people.execute("INSERT INTO people VALUES ('ada', 36)")
        raise StoppedError
    assert names(people) == []
    with people.transaction():
        with people.transaction():
            people.execute("INSERT INTO people VALUES ('ada', 36)")
        people.execute("INSERT INTO people VALUES ('bob', 50)")
    assert names(people) == ["ada", "bob"]


def test_tables_are_changed_inside_a_transaction(people: Database) -> None:
    with suppress(StoppedError), people.transaction():
        people.execute("CREATE TABLE pets (name TEXT)")
        people.execute("ALTER TABLE people RENAME TO persons")
        raise StoppedError
    assert names(people) == []
    people.execute("CREATE TABLE pets (name TEXT)")


def test_after_an_error_the_transaction_is_undone_and_the_next_works(people: Database) -> None:
    people.execute("INSERT INTO people VALUES ('ada', 36)")
    with pytest.raises(REFUSED), people.transaction():  # noqa: PT012  # the error leaves the transaction
        people.execute("INSERT INTO people VALUES ('bob', 50)")
        people.execute("INSERT INTO people VALUES ('ada', 37)")
    with pytest.raises(REFUSED):
        people.execute("INSERT INTO people VALUES ('ada', 38)")
    people.execute("INSERT INTO people VALUES ('cyd', 4)")
    assert names(people) == ["ada", "cyd"]


def test_no_other_thread_comes_between(people: Database) -> None:
    asking = Event()

    def ask() -> list[str]:
        asking.set()
        return names(people)

    with ThreadPoolExecutor(1) as other:
        with people.transaction():
            people.execute("INSERT INTO people VALUES ('ada', 36)")
            asked = other.submit(ask)
            assert asking.wait(10)
            for _ in range(20):  # the other has time to slip in
                people.execute("UPDATE people SET age = age + 1")
            people.execute("INSERT INTO people VALUES ('bob', 50)")
        assert asked.result(10) == ["ada", "bob"]


def test_threads_take_turns(people: Database) -> None:
    people.execute("INSERT INTO people VALUES ('ada', 0)")

    def age(_: int) -> None:
        for number in range(10):
            with suppress(StoppedError), people.transaction():
                [(years,)] = people.select("SELECT age FROM people")
                people.execute("UPDATE people SET age = ?", (years + 1,))
                if number % 2:
                    raise StoppedError

    with ThreadPoolExecutor(4) as threads:
        list(threads.map(age, range(4)))
    assert people.select("SELECT age FROM people") == [(20,)]


def test_values_come_back_as_they_went(database: Database) -> None:
    database.execute("CREATE TABLE kept (number INTEGER, ratio REAL, bytes BLOB, words TEXT) STRICT")
    rows = [
        (2**63 - 1, 1 / 3, bytes(range(256)), "Zoë 李雷 👩‍🔬 'x' %s ? :a \\"),
        (-(2**63), -1e308, b"", ""),
        (True, 5e-324, b"\0", "\t\n"),
        (None, None, None, None),
    ]
    database.execute_many("INSERT INTO kept VALUES (?, ?, ?, ?)", rows)
    found = database.select("SELECT * FROM kept")
    assert sorted(map(repr, found)) == sorted(map(repr, [*rows[:2], (1, *rows[2][1:]), rows[3]]))
    assert {type(value) for row in found for value in row} == {int, float, bytes, str, type(None)}


def test_what_is_computed_has_the_same_type(database: Database) -> None:
    database.execute("CREATE TABLE kept (number INTEGER NOT NULL)")
    database.execute_many("INSERT INTO kept VALUES (:n)", ({"n": n} for n in (1, 2, 2**62, 2**61)))
    [row] = database.select("SELECT count(*), sum(number), max(number), min(number) FROM kept")
    assert row == (4, 3 + 2**62 + 2**61, 2**62, 1)
    assert {type(value) for value in row} == {int}
    [row] = database.select("SELECT number = 1, number > ?, ? + 1 FROM kept WHERE number = ?", (1, 32767, 1))
    assert row == (1, 0, 32768)
    assert {type(value) for value in row} == {int}
    assert database.select("SELECT ? + ?, ? * ?", (32767, 32767, 2**31, 2**31)) == [(65534, 2**62)]
    [(average,)] = database.select("SELECT avg(number) FROM kept WHERE number < 3")
    assert (type(average), average) == (float, 1.5)


def test_a_parameter_may_be_null(people: Database) -> None:
    people.execute_many("INSERT INTO people VALUES (?, ?)", [("ada", 36), ("bob", None)])
    sql = "SELECT name FROM people WHERE CAST(:name AS TEXT) IS NULL OR name = :name ORDER BY name"
    assert people.select(sql, {"name": None}) == [("ada",), ("bob",)]
    assert people.select(sql, {"name": "bob"}) == [("bob",)]
    assert people.select("SELECT name FROM people WHERE coalesce(age, ?) = ?", (7, 7)) == [("bob",)]


def test_pages_are_in_the_order_of_the_bytes(people: Database) -> None:
    everybody = ["Zoe", "_", "a", "a-b", "a.b", "ab", "ada", "b", "z", "ß", "á", "ö", "李", "👩"]
    people.execute_many("INSERT INTO people VALUES (?, 1)", [(name,) for name in reversed(everybody)])
    pages, after = [], ""
    while page := people.select("SELECT name FROM people WHERE name > ? ORDER BY name LIMIT ?", (after, 3)):
        pages.append(page)
        after = page[-1][0]
    assert [name for page in pages for (name,) in page] == sorted(everybody, key=str.encode)
    assert people.select("SELECT max(name) FROM people") == [("👩",)]
    last = "SELECT name FROM people WHERE (age, name) > (:age, :name) ORDER BY age, name LIMIT :limit"
    assert people.select(last, {"age": 1, "name": "李", "limit": 5}) == [("👩",)]


def test_a_statement_tells_what_it_changed(people: Database) -> None:
    assert people.execute("INSERT INTO people VALUES ('ada', 36), ('bob', 50)") == 2
    assert people.execute("UPDATE people SET age = 0 WHERE name = 'nobody'") == 0
    assert people.select("UPDATE people SET age = age + 1 WHERE name = ? RETURNING age", ("ada",)) == [(37,)]
    put = """
        INSERT INTO people VALUES (:name, :age)
        ON CONFLICT (name) DO UPDATE SET age = excluded.age WHERE people.age <> excluded.age
    """
    assert [people.execute(put, {"name": "ada", "age": age}) for age in (37, 38)] == [0, 1]
    assert people.execute("INSERT INTO people VALUES ('ada', 1) ON CONFLICT DO NOTHING") == 0
    assert people.execute("DELETE FROM people WHERE name LIKE 'a%'") == 1
    assert people.select("DELETE FROM people RETURNING name, age") == [("bob", 50)]


def test_numbers_are_given_once(database: Database) -> None:
    database.execute("CREATE TABLE tickets (number INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT)")
    insert = "INSERT INTO tickets (name) VALUES (?) RETURNING number"
    numbers = [number for name in ("ada", "bob") for (number,) in database.select(insert, (name,))]
    database.execute("DELETE FROM tickets")
    [(third,)] = database.select(insert, ("cyd",))
    assert [*numbers, third] == [1, 2, 3]


def test_what_belongs_to_a_row_goes_with_it(people: Database) -> None:
    people.execute("CREATE TABLE pets (owner TEXT REFERENCES people ON DELETE CASCADE, name TEXT)")
    people.execute("INSERT INTO people VALUES ('ada', 36)")
    people.execute("INSERT INTO pets VALUES ('ada', 'rex')")
    people.execute("DELETE FROM people")
    assert people.select("SELECT * FROM pets") == []
    with pytest.raises(REFUSED):
        people.execute("INSERT INTO pets VALUES ('nobody', 'tom')")


def test_keys_are_kept_apart_and_forgotten(database: Database) -> None:
    database.forget()  # before there are any
    with database.transaction():
        database.execute("CREATE TABLE keyring.subject_keys (name TEXT PRIMARY KEY, wrapped BLOB NOT NULL)")
        database.execute("INSERT INTO keyring.subject_keys VALUES ('ada', ?), ('bob', ?)", (b"a" * 32, b"b" * 32))
        database.forget()  # inside a transaction it waits for the next time
    database.execute("DELETE FROM keyring.subject_keys WHERE name = 'ada'")
    database.forget()
    assert database.select("SELECT * FROM keyring.subject_keys") == [("bob", b"b" * 32)]


def test_closed_is_closed(people: Database) -> None:
    people.close()
    people.close()
    with pytest.raises((sqlite3.ProgrammingError, psycopg.InterfaceError)):
        names(people)
    assert not people.wait_for_change(10)


@pytest.mark.parametrize(
    "change",
    [
        lambda database: database.execute("INSERT INTO pets VALUES (1)"),
        lambda database: database.select("SELECT colour FROM people"),
        lambda database: database.execute("INSERT INTO people VALUES (?)", ("ada", "bob")),
        lambda database: database.select("SELECT count( FROM people"),
    ],
)
def test_wrong_sql_leaves_the_database_usable(people: Database, change: Callable[[Database], object]) -> None:
    with pytest.raises(Exception, match=r"."):
        change(people)
    assert names(people) == []
