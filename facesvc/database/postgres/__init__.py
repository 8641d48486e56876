"""PostgreSQL, one database for several boxes; the only code that imports ``psycopg``.

It runs the SQL that was written for SQLite, see ``dialect``. One connection serves all threads in turn, so that a
transaction is nobody else's, and one more listens for what other boxes announce. A connection that is lost is made anew
by the next call; nothing is sent twice, because what was sent may have been kept.

Other boxes change rows meanwhile (READ COMMITTED: each statement sees what was committed before it began). What was
deleted stays in the server's write-ahead log, its standbys and its own backups for as long as these are set up to keep
it; ``forget`` cannot reach there.
"""

from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from threading import RLock

import psycopg
from psycopg.pq import TransactionStatus
from psycopg.sql import SQL, Identifier

from facesvc.database import Parameters, Row, dialect
from facesvc.database.copies import Contents, TableRows, refuse_unless_empty
from facesvc.database.postgres.connection import Connection, Server, is_alive
from facesvc.database.postgres.listener import CHANNEL, Listener
from facesvc.database.sqlite import read_copy, write_copy
from facesvc.errors import DependencyError

# A number that means "facesvc changes tables" to all boxes; any would do.
_DEFINING = 0x66616365737663
_DEFINE_ALONE = f"SELECT pg_advisory_xact_lock({_DEFINING})"
_IS_PREPARED = (
    "SELECT to_regnamespace('keyring') IS NOT NULL AND to_regclass('facesvc_definitions.statements') IS NOT NULL"
)
_PREPARE = (
    "CREATE SCHEMA IF NOT EXISTS keyring",
    "CREATE SCHEMA IF NOT EXISTS facesvc_definitions",
    # What made the tables, as it was written, so that a copy in SQLite has the same. A name that no user has: in the
    # schema that is called like the user PostgreSQL makes all tables.
    """
    CREATE TABLE IF NOT EXISTS facesvc_definitions.statements (
        position BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        statement TEXT NOT NULL
    )
    """,
)
# A definition that may be repeated is kept once.
_RECORD = """
    INSERT INTO facesvc_definitions.statements (statement) SELECT :sql
     WHERE :sql NOT LIKE '% IF NOT EXISTS %'
        OR NOT EXISTS (SELECT FROM facesvc_definitions.statements WHERE statement = :sql)
"""
_DEFINITIONS = "SELECT statement FROM facesvc_definitions.statements ORDER BY position"
_TABLES = "SELECT relname FROM pg_class WHERE relnamespace = current_schema()::regnamespace AND relkind IN ('r', 'p')"
# The tables whose rows are numbered, and what numbers them.
_NUMBERED = """
    SELECT relname, pg_get_serial_sequence(quote_ident(relname), attname)
      FROM pg_attribute JOIN pg_class ON pg_class.oid = attrelid
     WHERE attidentity <> '' AND relnamespace = current_schema()::regnamespace
"""
_BATCH = 1000


class PostgresDatabase:
    """A database of a PostgreSQL server, given as ``postgresql://user:password@host:port/name``; see ``Database``.

    A connection is waited for ``connect_timeout_s`` (whole seconds, 2 or more) for each address of the host, and a
    statement ``statement_timeout_s``, which includes the wait for other boxes' changes.
    """

    shared = True

    def __init__(self, url: str, connect_timeout_s: int = 3, statement_timeout_s: float = 30.0) -> None:
        self._server = Server(url, connect_timeout_s, statement_timeout_s)
        self._lock = RLock()
        self._in_transaction = False  # the thread that has the lock is
        self._closed = False
        self._connection = self._server.connect()
        try:
            self._prepare()
        except BaseException:
            self._connection.close()
            raise
        self._listener = Listener(self._server)

    @property
    def where(self) -> str:
        """Host, port and database, in words."""
        return self._server.where

    def close(self) -> None:
        """Hang up, once what runs has ended; closing twice is allowed."""
        self._listener.close()
        with self._lock:
            self._closed = True
            self._connection.close()

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All inside happens or nothing does, and no other thread comes between; one within another is part of it."""
        with self._lock:
            if self._in_transaction:
                yield
                return
            self._run("BEGIN ISOLATION LEVEL READ COMMITTED", changing=False)
            self._in_transaction = True
            try:
                yield
                self._commit()
            except BaseException:
                self._roll_back()
                raise
            finally:
                self._in_transaction = False

    def select(self, sql: str, parameters: Parameters = ()) -> list[Row]:
        """All rows of a query, or of a statement with RETURNING."""
        with self._lock:
            return self._run(sql, parameters, changing=not dialect.is_query(sql)).fetchall()

    def execute(self, sql: str, parameters: Parameters = ()) -> int:
        """Run one statement; how many rows it changed."""
        if dialect.is_definition(sql):
            return self._define(sql)
        with self._lock:
            return self._run(sql, parameters).rowcount

    def execute_many(self, sql: str, parameters: Iterable[Parameters]) -> None:
        """Run one statement for each of ``parameters``, inside the caller's transaction."""
        with self.transaction(), self._server.translated(), self._connection.cursor() as cursor:
            cursor.executemany(dialect.parameters(sql), parameters)

    def announce(self) -> None:
        """Tell the other boxes, once the transaction is committed."""
        self.execute(f"NOTIFY {CHANNEL}")

    def wait_for_change(self, timeout_s: float) -> bool:
        """Whether something was announced since the last call, or may have been while nobody listened."""
        return self._listener.wait(timeout_s)

    def forget(self) -> None:
        """Write the table of the keys anew without those that were deleted.

        A copy that is being made still sees them, and then the next ``forget`` removes them. Other boxes, which wait
        meanwhile, are held up for five seconds at most.
        """
        with self._lock, suppress(psycopg.Error, DependencyError):
            if not self._in_transaction:
                self._run("SET lock_timeout = '5s'")
                try:
                    self._run("VACUUM (FULL) keyring.subject_keys")
                finally:
                    self._run("RESET lock_timeout")

    def rewrite(self) -> None:
        """Write every table anew, without what was deleted."""
        with self._lock, suppress(psycopg.Error, DependencyError):
            if not self._in_transaction:
                self._run("VACUUM (FULL)")

    def copy_to(self, path: Path) -> None:
        """Write all but the keys into a new SQLite file at ``path``; nobody waits for it."""
        with self._server.translated(), closing(self._server.connect()) as connection:
            connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
            write_copy(path, _contents(connection))

    def load_from(self, path: Path) -> None:
        """Make the tables of a copy, with its rows."""
        with read_copy(path) as contents, self.transaction():
            self._run(_DEFINE_ALONE)
            refuse_unless_empty(self.where, [name for (name,) in self.select(_TABLES)])
            self._run("SET LOCAL statement_timeout = 0")
            for statement in contents.definitions:
                self._define(statement)
            for name in contents.tables:
                self._fill(name, contents.read(name))
            for name, numbers in self.select(_NUMBERED):
                if last := contents.last_numbers.get(name):
                    self.select("SELECT setval(?, ?)", (numbers, last))

    def _connected(self) -> Connection:
        """The connection; a new one where it was lost, unless a transaction was lost with it."""
        if self._closed:
            raise psycopg.InterfaceError("the database was closed")
        if not self._in_transaction and not is_alive(self._connection):
            self._connection.close()
            self._connection = self._server.connect()
        return self._connection

    def _run(self, sql: str, parameters: Parameters = (), *, changing: bool = True) -> psycopg.Cursor[Row]:
        """Run one statement; the caller has the lock."""
        connection = self._connected()
        with self._server.translated(changing=changing and not self._in_transaction):
            return connection.execute(dialect.parameters(sql), parameters, binary=True)

    def _commit(self) -> None:
        with self._server.translated(changing=not self._connection.closed):
            done = self._connection.execute("COMMIT").statusmessage
        if done != "COMMIT":  # what PostgreSQL makes of the COMMIT of a transaction that failed is no error to it
            raise RuntimeError("a statement failed inside a transaction and was passed over; nothing was changed")

    def _roll_back(self) -> None:
        if self._connection.info.transaction_status != TransactionStatus.IDLE:
            try:
                self._connection.execute("ROLLBACK")
            except psycopg.Error:
                self._connection.close()  # the server rolls back by itself then

    def _define(self, sql: str) -> int:
        """Run a definition, while no other box does, and keep how it was written."""
        with self.transaction():
            self._run(_DEFINE_ALONE)
            done = self._run(dialect.definition(sql)).rowcount
            if "keyring." not in sql:
                self._run(_RECORD, {"sql": sql})
            return done

    def _prepare(self) -> None:
        """Make room for the keys and for the definitions, unless another box has."""
        if self.select(_IS_PREPARED) == [(1,)]:
            return
        with self.transaction():
            self._run(_DEFINE_ALONE)
            for statement in _PREPARE:
                self._run(statement)

    def _fill(self, name: str, table: TableRows) -> None:
        statement = SQL("COPY {} ({}) FROM STDIN").format(
            Identifier(name), SQL(", ").join(map(Identifier, table.columns))
        )
        with self._server.translated(), self._connection.cursor() as cursor, cursor.copy(statement) as copy:
            for row in table.rows:
                copy.write_row(row)


def _contents(connection: Connection) -> Contents:
    """What the transaction of ``connection`` sees, read as it is asked for."""

    def read(name: str) -> TableRows:
        cursor = connection.cursor(name="copy")
        cursor.itersize = _BATCH
        # In order, so that much of the file is as it was in the last copy.
        cursor.execute(SQL("SELECT * FROM {} ORDER BY 1").format(Identifier(name)), binary=True)
        return TableRows([column.name for column in cursor.description or ()], _drained(cursor))

    last_numbers = {}
    for name, numbers in connection.execute(_NUMBERED).fetchall():
        [(last,)] = connection.execute("SELECT pg_sequence_last_value(%s::regclass)", (numbers,)).fetchall()
        if last is not None:
            last_numbers[name] = last
    definitions = [statement for (statement,) in connection.execute(_DEFINITIONS)]
    tables = [name for (name,) in connection.execute(_TABLES)]
    return Contents(definitions, tables, read, last_numbers)


def _drained(cursor: psycopg.ServerCursor[Row]) -> Iterator[Row]:
    with cursor:
        yield from cursor
