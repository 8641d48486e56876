"""One SQLite file on this box, and beside it a small one with the keys; the only code that imports ``sqlite3``.

A write-ahead log, synced at each commit, keeps what was committed through ``kill -9`` and a power cut. The files are
held by one process at a time, because what another keeps in memory of them would not learn of a change.

A transaction over both files is not atomic: where the power fails, or the disk is full, between the two commits, the
gallery's has happened and that of the keys has not. Nobody relies on it, see ``gallery.keyring``.
"""

import os
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from threading import RLock
from time import sleep

from facesvc.database import Parameters, Row
from facesvc.database.copies import Contents, TableRows, refuse_unless_empty
from facesvc.database.exchange import Exchange, keyring_path
from facesvc.errors import DependencyError

# One process; see above. Comes first: the index of a log then stays in memory and needs no shared file.
_EXCLUSIVE = "PRAGMA locking_mode = EXCLUSIVE"
_PRAGMAS = (
    "PRAGMA main.page_size = 8192",  # of a new file: a sealed vector of 512 values fills half a page of the usual size
    "PRAGMA main.journal_mode = WAL",
    "PRAGMA keyring.journal_mode = WAL",
    "PRAGMA main.synchronous = FULL",
    "PRAGMA keyring.synchronous = FULL",
    "PRAGMA foreign_keys = ON",
    "PRAGMA secure_delete = ON",
    "PRAGMA temp_store = MEMORY",  # no copy of it in /tmp while it is written anew
)

# https://www.sqlite.org/rescode.html: what happened to the file, and what to do about it.
_CAUSES = {
    sqlite3.SQLITE_FULL: ("DISK_FULL", "the disk is full; nothing was changed, free some space and try again"),
    sqlite3.SQLITE_BUSY: ("GALLERY_IN_USE", "another process has it open; stop that one first"),
    sqlite3.SQLITE_CORRUPT: ("GALLERY_DAMAGED", "it is damaged; restore the last backup"),
    sqlite3.SQLITE_NOTADB: ("GALLERY_DAMAGED", "it is not a SQLite database; check the path or restore a backup"),
    sqlite3.SQLITE_READONLY: ("GALLERY_READ_ONLY", "it is read-only; give facesvc's user the right to write it"),
    sqlite3.SQLITE_CANTOPEN: ("GALLERY_UNREADABLE", "it cannot be opened; check that its folder is writable"),
    sqlite3.SQLITE_IOERR: ("DISK_FAILED", "the disk failed; look into the system's log"),
}

_PAGES = 1024
"""Copied before others get their turn: 10 ms or so."""
_TURN_S = 0.001


class SqliteDatabase:
    """A SQLite file, created for its owner's eyes only; see ``Database``.

    ``busy_timeout_s`` is how long to wait for another process to let go of it.
    """

    shared = False

    def __init__(self, path: Path, busy_timeout_s: float = 5.0) -> None:
        self.path = path
        self._lock = RLock()
        Exchange(path).finish()
        for file in (path, keyring_path(path)):
            _make_private(file)
        with self._translated():
            self._connection = sqlite3.connect(
                path, timeout=busy_timeout_s, isolation_level=None, check_same_thread=False
            )
            try:
                self._connection.execute(_EXCLUSIVE)
                self._connection.execute("ATTACH DATABASE ? AS keyring", (str(keyring_path(path)),))
                for pragma in _PRAGMAS:
                    self._connection.execute(pragma)
            except BaseException:
                self._connection.close()
                raise

    @property
    def where(self) -> str:
        """The file, in words."""
        return f"the gallery {self.path}"

    def close(self) -> None:
        """Empty the logs into the files and let go of them; closing twice is allowed."""
        with self._lock, self._translated():
            self._connection.close()

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All inside happens or nothing does, and no other thread comes between; one within another is part of it."""
        with self._lock, self._translated():
            nested = self._connection.in_transaction  # by this thread, because it has the lock
            if nested:
                yield
                return
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._connection.execute("COMMIT")
            except BaseException:
                if self._connection.in_transaction:  # SQLite rolls back by itself after some failures
                    self._connection.execute("ROLLBACK")
                raise

    def select(self, sql: str, parameters: Parameters = ()) -> list[Row]:
        """All rows of a query, or of a statement with RETURNING."""
        with self._lock, self._translated():
            return self._connection.execute(sql, parameters).fetchall()

    def execute(self, sql: str, parameters: Parameters = ()) -> int:
        """Run one statement; how many rows it changed."""
        with self._lock, self._translated():
            return self._connection.execute(sql, parameters).rowcount

    def execute_many(self, sql: str, parameters: Iterable[Parameters]) -> None:
        """Run one statement for each of ``parameters``, inside the caller's transaction."""
        with self._lock, self._translated():
            self._connection.executemany(sql, parameters)

    def announce(self) -> None:
        """Nobody else has the file."""

    def wait_for_change(self, timeout_s: float) -> bool:  # noqa: ARG002  # nobody else changes the file
        """Nobody else has the file."""
        return False

    def forget(self) -> None:
        """Write the file of the keys anew without those that were deleted, and empty the logs.

        ``secure_delete`` is not enough: it overwrites a deleted row, but not the copies that SQLite left in the gaps of
        pages when it balanced the tree.
        """
        with self._lock, suppress(sqlite3.Error):
            self._connection.execute("VACUUM keyring")
            self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    def rewrite(self) -> None:
        """Write both files anew, and empty the logs."""
        with self._lock, suppress(sqlite3.Error):
            self._connection.execute("VACUUM main")
        self.forget()

    def copy_to(self, path: Path) -> None:
        """Write all but the keys into a new file at ``path``; outside of transactions."""
        with self._lock, self._translated(), _new_file(path), closing(sqlite3.connect(path)) as copy:
            # Page by page, so that what has not changed since the last copy is where it was, and a backup of this one
            # shares it. What this connection changes meanwhile SQLite changes in the copy as well.
            self._connection.backup(copy, pages=_PAGES, progress=lambda _, left, __: self._give_way() if left else None)
            copy.execute("PRAGMA journal_mode = DELETE")

    def _give_way(self) -> None:
        """Let others have their turn in the middle of a copy."""
        self._lock.release()
        try:
            sleep(_TURN_S)
        finally:
            self._lock.acquire()

    def load_from(self, path: Path) -> None:
        """Make the tables of a copy, with its rows."""
        with read_copy(path) as contents, self.transaction(), self._translated():
            refuse_unless_empty(self.where, _tables(self._connection))
            _fill(self._connection, contents)

    @contextmanager
    def _translated(self) -> Iterator[None]:
        """SQLite's complaints about the file as ``DependencyError``; those about our SQL stay what they are."""
        with _explained(self.where):
            yield


def _make_private(path: Path) -> None:
    """An empty file that only its owner can read, unless there is one; SQLite gives its log the same mode."""
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            os.fchmod(descriptor, 0o600)
        finally:
            os.close(descriptor)
    except OSError as error:
        message = f"the gallery {path} cannot be opened ({error.strerror}); check the path and who may write there"
        raise DependencyError(message, reason="GALLERY_UNREADABLE") from error


@contextmanager
def _explained(where: str) -> Iterator[None]:
    try:
        yield
    except (sqlite3.ProgrammingError, sqlite3.IntegrityError):
        raise
    except sqlite3.Error as error:
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF  # the primary code, without its details
        reason, words = _CAUSES.get(code, ("GALLERY_UNREADABLE", "SQLite refused"))
        raise DependencyError(f"{where}: {words} (SQLite: {error})", reason=reason) from error


def write_copy(path: Path, contents: Contents) -> None:
    """A new SQLite file with ``contents``, as ``Database.copy_to`` makes it."""
    with _explained(f"the copy {path}"), _new_file(path), closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("BEGIN")
        _fill(connection, contents)


@contextmanager
def _new_file(path: Path) -> Iterator[None]:
    """An empty one for its owner's eyes only, to be filled by the caller; gone again where that fails."""
    try:
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
    except OSError as error:
        message = f"the copy {path} cannot be made ({error.strerror}); choose another path"
        raise DependencyError(message, reason="COPY_UNWRITABLE") from error
    try:
        yield
    except BaseException:
        path.unlink()
        raise


@contextmanager
def read_copy(path: Path) -> Iterator[Contents]:
    """What a copy holds; its rows are read while the caller goes through them."""
    where = f"the copy {path}"
    if not path.is_file():
        raise DependencyError(f"{where} is not there; check the path", reason="COPY_UNREADABLE")
    uri = f"{path.absolute().as_uri()}?mode=ro"
    with _explained(where), closing(sqlite3.connect(uri, uri=True)) as connection:
        definitions = "SELECT sql FROM sqlite_schema WHERE sql IS NOT NULL AND name NOT LIKE 'sqlite_%' ORDER BY rowid"
        yield Contents(
            [statement for (statement,) in connection.execute(definitions)],
            _tables(connection),
            lambda name: _read(connection, name),
            dict(connection.execute("SELECT name, seq FROM sqlite_sequence")) if _is_numbered(connection) else {},
        )


def _tables(connection: sqlite3.Connection) -> list[str]:
    """Those that are ours, in the order in which they were made."""
    query = "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite_%' ORDER BY rowid"
    return [name for (name,) in connection.execute(query)]


def _is_numbered(connection: sqlite3.Connection) -> bool:
    """Whether a table gives its numbers once; SQLite then keeps the last ones."""
    return bool(connection.execute("SELECT 1 FROM sqlite_schema WHERE name = 'sqlite_sequence'").fetchall())


def _read(connection: sqlite3.Connection, name: str) -> TableRows:
    rows = connection.execute(f'SELECT * FROM "{name}"')  # noqa: S608  # the name is the schema's
    return TableRows([column for column, *_ in rows.description], rows)


def _fill(connection: sqlite3.Connection, contents: Contents) -> None:
    """Make the tables and their rows, inside a transaction."""
    for statement in contents.definitions:
        connection.execute(statement)
    for name in contents.tables:
        table = contents.read(name)
        columns = ", ".join(f'"{column}"' for column in table.columns)
        places = ", ".join("?" for _ in table.columns)
        connection.executemany(f'INSERT INTO "{name}" ({columns}) VALUES ({places})', table.rows)  # noqa: S608  # ours
    for name, last in contents.last_numbers.items():
        connection.execute("DELETE FROM sqlite_sequence WHERE name = ?", (name,))
        connection.execute("INSERT INTO sqlite_sequence VALUES (?, ?)", (name, last))
