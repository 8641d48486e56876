"""A file of ours on disk (the gallery, the events): one SQLite connection, and the only code that imports ``sqlite3``.

What a transaction has returned from is on the disk: a write-ahead log, synced at each commit, so that it survives
``kill -9`` and a power cut. What was deleted is gone from the file once ``forget`` has returned. The file is held by
one process at a time, because what another keeps in memory of it would not learn of a change.

The tables are what their migrations made of them. A migration, once released, is never edited: the next change is one
more at the end. Each is applied in one transaction together with its row in ``migrations``, so a file is always at a
state that has a name. Times are microseconds since 1970 in UTC, in 64-bit integers, which hold every ``datetime``
exactly.
"""

import os
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import RLock
from typing import Any

from facesvc.errors import DependencyError, PreconditionError

_PRAGMAS = (
    # One process; see above. Comes first: the index of the log then stays in memory and needs no shared file.
    "PRAGMA locking_mode = EXCLUSIVE",
    "PRAGMA journal_mode = WAL",
    "PRAGMA synchronous = FULL",
    "PRAGMA foreign_keys = ON",
    "PRAGMA secure_delete = ON",
    "PRAGMA temp_store = MEMORY",  # no copy of it in /tmp while it is written anew
)

MIGRATIONS_TABLE = """
    CREATE TABLE IF NOT EXISTS migrations (
        name TEXT PRIMARY KEY,
        apply_time INTEGER NOT NULL
    ) STRICT
"""

# https://www.sqlite.org/rescode.html: what happened to the file, and what to do about it. A reason about the file gets
# the kind of file in front, see ``Kind.reason``.
_CAUSES = {
    sqlite3.SQLITE_FULL: ("DISK_FULL", "the disk is full; nothing was changed, free some space and try again"),
    sqlite3.SQLITE_BUSY: ("IN_USE", "another process has it open; stop that one first"),
    sqlite3.SQLITE_CORRUPT: ("DAMAGED", "it is damaged; restore the last backup"),
    sqlite3.SQLITE_NOTADB: ("DAMAGED", "it is not a SQLite database; check the path or restore a backup"),
    sqlite3.SQLITE_READONLY: ("READ_ONLY", "it is read-only; give facesvc's user the right to write it"),
    sqlite3.SQLITE_CANTOPEN: ("UNREADABLE", "it cannot be opened; check that its folder is writable"),
    sqlite3.SQLITE_IOERR: ("DISK_FAILED", "the disk failed; look into the system's log"),
}

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)

Parameters = Sequence[object] | Mapping[str, object]
Row = tuple[Any, ...]


def to_microseconds(time: datetime) -> int:
    """Microseconds since 1970 in UTC, exact."""
    return (time - _EPOCH) // _MICROSECOND


def from_microseconds(microseconds: int) -> datetime:
    """The inverse of ``to_microseconds``."""
    return _EPOCH + microseconds * _MICROSECOND


@dataclass(frozen=True, slots=True)
class Step:
    """A named migration of the schema and its statements."""

    name: str
    statements: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Kind:
    """What a file is: ``words`` such as "the gallery", ``reasons`` such as "GALLERY", and what led to its tables."""

    words: str
    reasons: str
    steps: tuple[Step, ...]

    def reason(self, cause: str) -> str:
        """The reason of an error; that of the disk is the same for every file."""
        return cause if cause.startswith("DISK_") else f"{self.reasons}_{cause}"

    def pending(self, applied: Iterable[str], path: Path) -> list[Step]:
        """The migrations that are still to be applied, in order, to the file at ``path``.

        Raises ``PreconditionError`` where one of ``applied`` is unknown here.
        """
        applied = set(applied)
        if unknown := applied - {step.name for step in self.steps}:
            raise PreconditionError(
                f"{self.words} {path} was written by a newer facesvc (it has {', '.join(sorted(unknown))}); run that"
                " version, or restore a backup made before the upgrade",
                reason=self.reason("TOO_NEW"),
            )
        return [step for step in self.steps if step.name not in applied]


class Database:
    """A SQLite file, created for its owner's eyes only. Every method may be called from any thread.

    ``busy_timeout_s`` is how long to wait for another process to let go of the file. Raises ``DependencyError`` where
    it cannot be used, here and in every method.
    """

    def __init__(self, path: Path, kind: Kind, busy_timeout_s: float) -> None:
        self.path = path
        self._kind = kind
        self._lock = RLock()
        _make_private(path, kind)
        with self._translated():
            self._connection = sqlite3.connect(
                path, timeout=busy_timeout_s, isolation_level=None, check_same_thread=False
            )
            try:
                self._configure()
            except BaseException:
                self._connection.close()
                raise

    def _configure(self) -> None:
        self._connection.create_function("casefold", 1, str.casefold, deterministic=True)
        for pragma in _PRAGMAS:
            self._connection.execute(pragma)

    def close(self) -> None:
        """Empties the log into the file and lets go of it; closing twice is allowed."""
        with self._lock, self._translated():
            self._connection.close()

    def migrate(self, now: datetime) -> None:
        """Applies what is missing of the schema; ``PreconditionError`` where a newer facesvc wrote the file."""
        self.execute(MIGRATIONS_TABLE)
        applied = [name for (name,) in self.select("SELECT name FROM migrations")]
        for migration in self._kind.pending(applied, self.path):
            with self.transaction():
                for statement in migration.statements:
                    self.execute(statement)
                self.execute("INSERT INTO migrations VALUES (?, ?)", (migration.name, to_microseconds(now)))

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
        """All rows of a query."""
        with self._lock, self._translated():
            return self._connection.execute(sql, parameters).fetchall()

    def execute(self, sql: str, parameters: Parameters = ()) -> int:
        """Runs one statement; the row id of what it inserted."""
        with self._lock, self._translated():
            return self._connection.execute(sql, parameters).lastrowid or 0

    def forget(self) -> None:
        """Writes the file anew without what was deleted, and empties the log.

        ``secure_delete`` is not enough: it overwrites a deleted row, but not the copies that SQLite left in the gaps of
        pages when it balanced the tree. Takes about 10 ms a megabyte. Where it fails (a full disk), what was deleted
        stays deleted, and the next ``forget`` makes good for this one.
        """
        with self._lock, suppress(sqlite3.Error):
            self._connection.execute("VACUUM")
            self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    @contextmanager
    def _translated(self) -> Iterator[None]:
        """SQLite's complaints about the file as ``DependencyError``; those about our SQL stay what they are."""
        try:
            yield
        except (sqlite3.ProgrammingError, sqlite3.IntegrityError):
            raise
        except sqlite3.Error as error:
            code = getattr(error, "sqlite_errorcode", 0) & 0xFF  # the primary code, without its details
            cause, words = _CAUSES.get(code, ("UNREADABLE", "SQLite refused"))
            message = f"{self._kind.words} {self.path}: {words} (SQLite: {error})"
            raise DependencyError(message, reason=self._kind.reason(cause)) from error


def _make_private(path: Path, kind: Kind) -> None:
    """An empty file that only its owner can read, unless there is one; SQLite gives its log the same mode."""
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            os.fchmod(descriptor, 0o600)
        finally:
            os.close(descriptor)
    except OSError as error:
        message = f"{kind.words} {path} cannot be opened ({error.strerror}); check the path and who may write there"
        raise DependencyError(message, reason=kind.reason("UNREADABLE")) from error
