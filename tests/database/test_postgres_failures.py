"""A PostgreSQL that is away, refuses, or fails in the middle: what is said, and that nothing is done by halves."""

import logging
import socket
import traceback
from collections.abc import Callable
from contextlib import closing
from urllib.parse import quote, urlsplit

import psycopg
import pytest
from databases import PASSWORD, PostgresServer

from facesvc.database.postgres import PostgresDatabase
from facesvc.errors import ConfigError, DependencyError, FacesvcError

NewBox = Callable[..., PostgresDatabase]
RAISE = "UPDATE changes SET change = change + 1 RETURNING change"
HANG_UP = "pg_terminate_backend(pg_backend_pid())"
CHANGE = "SELECT change FROM changes"
UNCHANGED = r"^the gallery postgresql://\S+ does not answer; recognition goes on with what is known, and nothing was"
UNKNOWN = r"^the gallery postgresql://\S+ does not answer; whether the last change was kept is not known"


def test_an_idle_connection_that_was_lost_is_made_anew(box: PostgresDatabase, hang_up: Callable[[], None]) -> None:
    for call in (lambda: box.select(CHANGE), lambda: box.execute(RAISE), box.forget, box.announce):
        hang_up()
        call()
    hang_up()
    with box.transaction():
        box.execute(RAISE)
    assert box.select(CHANGE) == [(2,)]


def test_what_was_lost_in_a_transaction_is_undone(box: PostgresDatabase, hang_up: Callable[[], None]) -> None:
    with pytest.raises(DependencyError, match=UNCHANGED) as lost, box.transaction():  # noqa: PT012  # the error leaves the transaction
        box.execute(RAISE)
        hang_up()
        box.execute(RAISE)
    assert lost.value.reason == "GALLERY_AWAY"
    assert box.select(CHANGE) == [(0,)]


def test_no_statement_of_a_lost_transaction_is_run_after_it(box: PostgresDatabase, hang_up: Callable[[], None]) -> None:
    with pytest.raises(DependencyError, match=UNCHANGED), box.transaction():  # noqa: PT012  # the error leaves the transaction, the commit's too
        hang_up()
        for _ in range(2):
            with pytest.raises(DependencyError, match=UNCHANGED):
                box.execute(RAISE)
    assert box.select(CHANGE) == [(0,)]


def test_rows_that_were_lost_in_between_are_undone(box: PostgresDatabase, hang_up: Callable[[], None]) -> None:
    def rows() -> object:
        yield (2, 0)
        hang_up()
        yield (3, 0)

    with pytest.raises(DependencyError, match=UNCHANGED):
        box.execute_many("INSERT INTO changes VALUES (?, ?)", rows())
    assert box.select(CHANGE) == [(0,)]


def test_a_commit_without_an_answer_may_have_been_kept(
    box: PostgresDatabase, administrator: psycopg.Connection
) -> None:
    administrator.execute(f"""
        CREATE FUNCTION hang_up() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN PERFORM {HANG_UP}; RETURN NULL; END';
        CREATE CONSTRAINT TRIGGER at_commit AFTER UPDATE ON changes
            DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION hang_up();
    """)
    with pytest.raises(DependencyError, match=UNKNOWN) as lost, box.transaction():
        box.execute(RAISE)
    assert lost.value.reason == "GALLERY_AWAY"
    assert box.select(CHANGE) == [(0,)]
    with pytest.raises(DependencyError, match=UNKNOWN):
        box.select(RAISE)
    with pytest.raises(DependencyError, match=UNCHANGED):
        box.select(f"SELECT {HANG_UP}")


def test_a_server_that_was_killed_and_came_back(
    box: PostgresDatabase, other: PostgresDatabase, postgres_server: PostgresServer, postgres_url: str
) -> None:
    box.execute(RAISE)
    other.wait_for_change(0)
    postgres_server.kill()
    try:
        with pytest.raises(DependencyError, match=UNCHANGED), box.transaction():
            box.execute(RAISE)
        with pytest.raises(DependencyError, match=UNCHANGED):
            other.select(CHANGE)
        for _ in range(2):
            with pytest.raises(DependencyError, match=UNCHANGED):
                other.wait_for_change(60)
        with pytest.raises(DependencyError, match=UNCHANGED) as away:
            PostgresDatabase(postgres_url)
        assert away.value.reason == "GALLERY_AWAY"
        other.forget()  # the next one makes good for it
    finally:
        postgres_server.start()
    assert box.select(RAISE) == [(2,)]
    assert other.select(CHANGE) == [(2,)]
    assert other.wait_for_change(60)


def test_a_server_that_says_nothing_is_not_waited_for() -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as silent:
        url = f"postgresql://ada:secret@127.0.0.1:{silent.getsockname()[1]}/faces"
        with pytest.raises(DependencyError, match=UNCHANGED):
            PostgresDatabase(url, connect_timeout_s=2)


@pytest.mark.parametrize(
    ("code", "reason", "words"),
    [
        ("53100", "DISK_FULL", "the disk of its server is full; nothing was changed, free some space and try again"),
        ("53300", "GALLERY_AWAY", "it has no connection left"),
        ("25006", "GALLERY_READ_ONLY", "it is read-only; let store.url name the primary server"),
        ("40P01", "GALLERY_BUSY", "others changed the same"),
        ("58030", "DISK_FAILED", "look into the server's log"),
        ("XX001", "GALLERY_DAMAGED", "it is damaged; restore the last backup"),
        ("57P03", "GALLERY_AWAY", "does not answer"),
    ],
)
def test_what_fails_beside_us_is_named(box: PostgresDatabase, code: str, reason: str, words: str) -> None:
    fail = f"DO 'BEGIN RAISE EXCEPTION ''such is life'' USING ERRCODE = ''{code}''; END'"
    with pytest.raises(DependencyError, match=words) as failed, box.transaction():  # noqa: PT012  # the error leaves the transaction
        box.execute(RAISE)
        box.execute(fail)
    assert failed.value.reason == reason
    assert failed.value.message.endswith("(PostgreSQL: such is life)")
    assert box.select(CHANGE) == [(0,)]


def test_a_server_that_may_only_be_read_says_so(box: PostgresDatabase) -> None:
    box.execute("SET default_transaction_read_only = on")
    with pytest.raises(DependencyError, match="it is read-only") as refused:
        box.execute(RAISE)
    assert refused.value.reason == "GALLERY_READ_ONLY"
    assert box.select(CHANGE) == [(0,)]


def with_parts(url: str, user: str = "", database: str = "") -> str:
    """The URL with another user (with the password) or another database."""
    parts = urlsplit(url)
    login = f"{user}:{quote(PASSWORD, safe='')}" if user else parts.netloc.rpartition("@")[0]
    return f"postgresql://{login}@{parts.netloc.rpartition('@')[2]}/{database or parts.path.removeprefix('/')}"


def test_who_is_refused_learns_why_and_nobody_learns_the_password(
    postgres_url: str, administrator: psycopg.Connection, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    role = f"{administrator.info.dbname}_role"
    administrator.execute(f"CREATE ROLE {role} LOGIN PASSWORD '{PASSWORD}' CONNECTION LIMIT 0")  # superusers pass
    refusals = {
        with_parts(postgres_url, "nobody"): ("GALLERY_UNREADABLE", "check user, password and database in store.url"),
        with_parts(postgres_url, database="nada"): ("GALLERY_UNREADABLE", 'database "nada" does not exist'),
        with_parts(postgres_url, role): ("GALLERY_AWAY", "too many connections"),
    }
    told = []
    try:
        for url, (reason, words) in refusals.items():
            with pytest.raises(DependencyError, match=words) as refused:
                PostgresDatabase(url)
            assert refused.value.reason == reason
            told += [*traceback.format_exception(refused.value), repr(refused.value)]
        administrator.execute(f"ALTER ROLE {role} CONNECTION LIMIT -1")
        with pytest.raises(DependencyError, match="make that user the owner of the database") as refused:
            PostgresDatabase(with_parts(postgres_url, role))
        assert refused.value.reason == "GALLERY_UNREADABLE"
        told += traceback.format_exception(refused.value)
    finally:
        administrator.execute(f"DROP ROLE {role}")
    with closing(PostgresDatabase(postgres_url)) as database:
        told += [database.where, repr(database), repr(vars(database))]
        port, name = urlsplit(postgres_url).port or 5432, administrator.info.dbname
        assert database.where == f"the gallery postgresql://{urlsplit(postgres_url).hostname}:{port}/{name}"
    everything = "\n".join([*told, caplog.text])
    for secret in (PASSWORD, quote(PASSWORD, safe=""), urlsplit(postgres_url).password or PASSWORD):
        assert secret not in everything


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://ada:hush@hush@db/faces",
        "postgresql://ada:hush/hush@db/faces",
        "postgresql://ada:5/hush@db/faces",
        "postgresql://ada:hush%zz@db/faces",
        "postgresql://ada:x@db/faces?hush=hush",
        "postgresql://ada:hush@[db/faces",
    ],
)
def test_a_url_that_cannot_be_read_is_not_repeated(url: str) -> None:
    with pytest.raises(ConfigError, match="it looks like postgresql://user:password@host:5432/database") as refused:
        PostgresDatabase(url)
    assert "hush" not in "".join(traceback.format_exception(refused.value))


def test_several_servers_are_named() -> None:
    url = "postgresql://ada@127.0.0.1,127.0.0.1:1/faces?port=1"
    with pytest.raises(FacesvcError, match=r"gallery postgresql://127\.0\.0\.1:1,127\.0\.0\.1:1/faces does not"):
        PostgresDatabase(url)


def test_a_database_that_cannot_hold_every_name_is_refused(
    postgres_server: PostgresServer, postgres_url: str, administrator: psycopg.Connection
) -> None:
    name = f"{administrator.info.dbname}_latin"
    administrator.execute(f"CREATE DATABASE {name} TEMPLATE template0 ENCODING 'LATIN1' LOCALE 'C'")
    try:
        with pytest.raises(DependencyError, match="is encoded in LATIN1; make one with ENCODING 'UTF8'"):
            PostgresDatabase(postgres_server.url(name))
    finally:
        administrator.execute(f"DROP DATABASE {name} WITH (FORCE)")
