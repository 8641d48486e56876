"""Where facts are kept: tables, plain SQL, one transaction a change. The only importers of a database driver.

One interface over two databases: ``sqlite`` keeps a file on this box, ``postgres`` one database for several boxes. Both
run the same SQL, which therefore keeps to what they have in common; parameters are ``?`` or ``:name``. What a
transaction has returned from survives ``kill -9`` and a power cut.

The tables are what their migrations made of them. A migration, once released, is never edited: the next change is one
more at the end. Each is applied in one transaction together with its row in a table of migrations, so a database is
always at a state that has a name. Times are microseconds since 1970 in UTC, in 64-bit integers, which hold every
``datetime`` exactly.

Keys are kept apart, in tables named ``keyring.…``: a small place that can be written anew within milliseconds, so that
a key that was destroyed is really gone (``forget``), and that a backup can leave out.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Protocol

from facesvc.errors import PreconditionError

Parameters = Sequence[object] | Mapping[str, object]
Row = tuple[Any, ...]

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


def to_microseconds(time: datetime) -> int:
    """Microseconds since 1970 in UTC, exact."""
    return (time - _EPOCH) // _MICROSECOND


def from_microseconds(microseconds: int) -> datetime:
    """The inverse of ``to_microseconds``."""
    return _EPOCH + microseconds * _MICROSECOND


@dataclass(frozen=True, slots=True)
class Step:
    """A named migration: ``statements``, then what only code can convert, then ``afterwards``.

    Written for SQLite; ``postgres`` reads the types as its own.
    """

    name: str
    statements: tuple[str, ...]
    afterwards: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Schema:
    """Tables that belong together, such as those of the gallery, by the steps that led to them.

    ``migrations`` is the table that records which were applied.
    """

    migrations: str
    steps: tuple[Step, ...]

    def pending(self, applied: Iterable[str], where: str) -> list[Step]:
        """The steps that are still to be taken, in order.

        Raises ``PreconditionError`` where one of ``applied`` is unknown here; ``where`` names the database in words.
        """
        applied = set(applied)
        if unknown := applied - {step.name for step in self.steps}:
            raise PreconditionError(
                f"{where} was written by a newer facesvc (it has {', '.join(sorted(unknown))}); run that"
                " version, or restore a backup made before the upgrade",
                reason="GALLERY_TOO_NEW",
            )
        return [step for step in self.steps if step.name not in applied]


class Database(Protocol):
    """A database. Every method may be called from any thread.

    Every method raises ``DependencyError`` where the database cannot be used, with what happened and what to do.
    """

    @property
    def where(self) -> str:
        """Which one, in words, such as "the gallery /var/lib/facesvc/gallery.db"; without a password."""
        ...

    @property
    def shared(self) -> bool:
        """Whether other boxes may change it too."""
        ...

    def close(self) -> None:
        """Let go of it; closing twice is allowed."""
        ...

    def transaction(self) -> AbstractContextManager[None]:
        """All inside happens or nothing does, and no other thread comes between; one within another is part of it.

        A statement that fails ends it: let its error leave the outermost transaction.
        """
        ...

    def select(self, sql: str, parameters: Parameters = ()) -> list[Row]:
        """All rows of a query, or of a statement with RETURNING. Binary columns are ``bytes``."""
        ...

    def execute(self, sql: str, parameters: Parameters = ()) -> int:
        """Run one statement; how many rows it changed."""
        ...

    def execute_many(self, sql: str, parameters: Iterable[Parameters]) -> None:
        """Run one statement for each of ``parameters``, inside the caller's transaction."""
        ...

    def announce(self) -> None:
        """Inside a transaction: once it is committed, those who wait in ``wait_for_change`` on other boxes are told."""
        ...

    def wait_for_change(self, timeout_s: float) -> bool:
        """Whether something was announced since the last call, or may have been while nobody listened.

        Waits for it; False after ``timeout_s`` or ``close``, and always where the database is not shared. Raises
        ``DependencyError`` at once while the server is away, so a caller who asks again paces itself. Two threads that
        wait are not both told.
        """
        ...

    def forget(self) -> None:
        """Make sure that keys that were deleted can be read from nowhere: not from gaps in a file, nor from a log.

        Takes about 10 ms a megabyte of keys. Where it fails (a full disk), what was deleted stays deleted, and the next
        ``forget`` makes good for this one.
        """
        ...

    def rewrite(self) -> None:
        """As ``forget``, for everything that was deleted. Takes about 10 ms a megabyte."""
        ...

    def copy_to(self, path: Path) -> None:
        """Write all tables but those of ``keyring`` as they are now into a new SQLite file, for its owner's eyes only.

        Raises ``DependencyError`` where it cannot be written or something is there already; then nothing is left there.
        """
        ...

    def load_from(self, path: Path) -> None:
        """Make the tables of a copy that ``copy_to`` wrote, with its rows; all of it or nothing.

        Raises ``PreconditionError`` (``GALLERY_NOT_EMPTY``) where there are tables already but those of ``keyring``.
        """
        ...


def migrate(database: Database, schema: Schema, now: datetime, convert: Callable[[str], None] = lambda _: None) -> None:
    """Apply what is missing of a schema; ``PreconditionError`` where a newer facesvc wrote the database.

    ``convert`` is called with the name of each step between its statements and those afterwards. Boxes that do this at
    the same time take turns: each step begins with a definition, which waits for the others'.
    """
    while _take_step(database, schema, now, convert):
        pass


def _take_step(database: Database, schema: Schema, now: datetime, convert: Callable[[str], None]) -> bool:
    """Apply the first step that is missing; whether one was."""
    with database.transaction():
        database.execute(
            f"CREATE TABLE IF NOT EXISTS {schema.migrations} (name TEXT PRIMARY KEY, apply_time INTEGER NOT NULL)"
        )
        applied = [name for (name,) in database.select(f"SELECT name FROM {schema.migrations}")]  # noqa: S608 - ours
        pending = schema.pending(applied, database.where)
        if not pending:
            return False
        step = pending[0]
        for statement in step.statements:
            database.execute(statement)
        convert(step.name)
        for statement in step.afterwards:
            database.execute(statement)
        row = (step.name, to_microseconds(now))
        database.execute(f"INSERT INTO {schema.migrations} VALUES (?, ?)", row)  # noqa: S608 - ours
        return True
