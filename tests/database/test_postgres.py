"""Several boxes on one PostgreSQL: who sees what when, and what is heard of others."""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, closing, suppress
from time import monotonic, sleep

import psycopg
import pytest
from databases import OwnPostgresServer, PostgresServer

from facesvc.database.postgres import PostgresDatabase
from facesvc.errors import DependencyError

NewBox = Callable[..., PostgresDatabase]
RAISE = "UPDATE changes SET change = change + 1 RETURNING change"


class StoppedError(Exception):
    pass


def change(database: PostgresDatabase) -> int:
    [(number,)] = database.select("SELECT change FROM changes")
    assert isinstance(number, int)
    return number


def wait_until_blocked(administrator: psycopg.Connection, future: "Future[object]") -> None:
    """Until some connection waits for another's lock."""
    deadline = monotonic() + 20
    while not administrator.execute("SELECT 1 FROM pg_locks WHERE NOT granted").fetchall():
        assert not future.done()
        assert monotonic() < deadline
        sleep(0.005)  # between two looks


def test_a_commit_is_seen_by_the_other_box_and_nothing_before_it(
    box: PostgresDatabase, other: PostgresDatabase
) -> None:
    assert (box.shared, other.shared) == (True, True)
    with box.transaction():
        box.execute(RAISE)
        assert (change(box), change(other)) == (1, 0)
    assert change(other) == 1
    with other.transaction():
        assert change(other) == 1
        box.execute(RAISE)
        assert change(other) == 2  # each statement sees what was committed before it


def test_who_raises_the_counter_waits_for_who_did(
    box: PostgresDatabase, other: PostgresDatabase, administrator: psycopg.Connection
) -> None:
    def raise_it() -> int:
        with other.transaction():
            [(number,)] = other.select(RAISE)
        return int(number)

    with ThreadPoolExecutor(1) as thread:
        with box.transaction():
            assert box.select(RAISE) == [(1,)]
            second = thread.submit(raise_it)
            wait_until_blocked(administrator, second)
        assert second.result(20) == 2
        with suppress(StoppedError), box.transaction():
            box.select(RAISE)
            third = thread.submit(raise_it)
            wait_until_blocked(administrator, third)
            raise StoppedError
        assert third.result(20) == 3  # the one that was undone left no gap


def test_a_change_that_waits_too_long_gives_up(box: PostgresDatabase, new_box: NewBox) -> None:
    hasty = new_box(statement_timeout_s=0.1)
    with box.transaction():
        box.select(RAISE)
        with pytest.raises(DependencyError, match=r"it took too long; .*nothing was changed") as refused:
            hasty.select(RAISE)
    assert refused.value.reason == "GALLERY_AWAY"
    assert hasty.select(RAISE) == [(2,)]


def test_a_commit_waits_for_the_disk_whatever_the_server_says(
    administrator: psycopg.Connection, postgres_url: str
) -> None:
    name = administrator.info.dbname
    administrator.execute(f"ALTER DATABASE {name} SET synchronous_commit = off")
    try:
        with closing(PostgresDatabase(postgres_url)) as database:
            assert database.select("SHOW synchronous_commit") == [("on",)]
        administrator.execute(f"ALTER DATABASE {name} SET synchronous_commit = remote_apply")
        with closing(PostgresDatabase(postgres_url)) as database:
            assert database.select("SHOW synchronous_commit") == [("remote_apply",)]
            assert database.select("SHOW statement_timeout") == [("30s",)]
    finally:
        administrator.execute(f"ALTER DATABASE {name} RESET synchronous_commit")


def test_a_failure_that_was_passed_over_is_no_success(box: PostgresDatabase) -> None:
    with pytest.raises(RuntimeError, match="passed over; nothing was changed"), box.transaction():  # noqa: PT012  # the error leaves the transaction
        box.select(RAISE)
        with pytest.raises(psycopg.IntegrityError):
            box.execute("INSERT INTO changes VALUES (1, 7)")
    assert change(box) == 0
    assert box.select(RAISE) == [(1,)]


def test_boxes_that_start_at_once_do_not_get_in_each_others_way(postgres_url: str) -> None:
    with ThreadPoolExecutor(6) as threads, ExitStack() as opened:
        for database in threads.map(PostgresDatabase, [postgres_url] * 6):
            opened.enter_context(closing(database))


def test_text_is_compared_byte_by_byte_whatever_the_servers_language(
    box: PostgresDatabase, administrator: psycopg.Connection
) -> None:
    box.execute("CREATE TABLE people (name TEXT PRIMARY KEY, note text NOT NULL DEFAULT 'TEXT')")
    box.execute("ALTER TABLE people ADD COLUMN more TEXT")
    found = administrator.execute("""
        SELECT attname, collname FROM pg_attribute JOIN pg_collation ON pg_collation.oid = attcollation
         WHERE attrelid = 'people'::regclass AND attnum > 0
    """).fetchall()
    assert sorted(found) == [("more", "C"), ("name", "C"), ("note", "C")]


def test_a_forgotten_key_is_not_in_the_servers_file(
    box: PostgresDatabase, administrator: psycopg.Connection, postgres_server: PostgresServer
) -> None:
    if not isinstance(postgres_server, OwnPostgresServer):
        pytest.skip("the files of the PostgreSQL that was given are not ours to read")
    box.execute("CREATE TABLE keyring.subject_keys (name TEXT, wrapped BLOB)")
    box.execute_many("INSERT INTO keyring.subject_keys VALUES (?, ?)", [("ada", b"key of ada"), ("bob", b"key of bob")])

    def file() -> bytes:
        administrator.execute("CHECKPOINT")
        [(path,)] = administrator.execute("SELECT pg_relation_filepath('keyring.subject_keys')").fetchall()
        return (postgres_server.data / path).read_bytes()

    box.execute("DELETE FROM keyring.subject_keys WHERE name = 'ada'")
    assert b"key of ada" in file()
    box.forget()
    assert b"key of ada" not in file()
    assert b"key of bob" in file()
    assert box.select("SHOW lock_timeout") == [("0",)]


def test_an_announcement_is_heard_once_it_is_committed(box: PostgresDatabase, other: PostgresDatabase) -> None:
    assert other.wait_for_change(0)  # nobody knows what was announced before
    assert not other.wait_for_change(0)
    with box.transaction():
        box.announce()
        assert not other.wait_for_change(0)
    assert other.wait_for_change(20)
    assert not other.wait_for_change(0)
    with suppress(StoppedError), box.transaction():
        box.announce()
        raise StoppedError
    assert not other.wait_for_change(0.05)
    for _ in range(3):
        box.announce()
    assert other.wait_for_change(20)


def test_an_announcement_wakes_who_waits(box: PostgresDatabase, other: PostgresDatabase) -> None:
    other.wait_for_change(0)
    with ThreadPoolExecutor(1) as thread:
        waiting = thread.submit(other.wait_for_change, 60)
        assert change(other) == 0  # others use the box meanwhile
        box.announce()
        assert waiting.result(20)


def test_closing_ends_the_wait(box: PostgresDatabase) -> None:
    box.wait_for_change(0)
    with ThreadPoolExecutor(2) as threads:
        waiting = [threads.submit(box.wait_for_change, 60) for _ in range(2)]
        box.close()
        assert [future.result(20) for future in waiting] == [False, False]
    assert not box.wait_for_change(60)


def test_who_listens_again_is_told_that_something_may_have_happened(
    box: PostgresDatabase, other: PostgresDatabase, hang_up: Callable[[], None]
) -> None:
    other.wait_for_change(0)
    hang_up()
    with pytest.raises(DependencyError, match="does not answer") as lost:
        other.wait_for_change(60)
    assert lost.value.reason == "GALLERY_AWAY"
    box.announce()
    assert other.wait_for_change(60)
    assert not other.wait_for_change(0)
