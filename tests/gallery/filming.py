"""What the files of a gallery are like around each commit: what a kill, and what a power cut, may leave of them.

A kill leaves the files as they are at some moment. A power cut leaves what was synced, and of what was not any part:
each block of it as it is or as it was. SQLite syncs the log of a file at the end of a commit: a cut during it leaves a
mixture, block by block, of the log before and after. It empties a log into its file step by step, each on the disk
before the next: the log, the file, the log is cut off.

What this cannot show: that SQLite does sync (``PRAGMA synchronous``; it is taken at its word), and a disk that says it
has and has not.
"""

import random
import sqlite3
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from facesvc.database.sqlite import SqliteDatabase

BLOCK = 512  # bytes: a disk's sector, the least that is written as a whole
Files = Mapping[str, bytes]


@dataclass(frozen=True, slots=True)
class Write:
    """Something that wrote to the disk: the statement, the files before and after, and how far the story was."""

    statement: str
    before: Files
    after: Files
    chapter: int

    @property
    def changed(self) -> set[str]:
        """The names of the files that it wrote to."""
        names = {*self.before, *self.after}
        return {name for name in names if self.before.get(name) != self.after.get(name)}

    def cuts(self, chance: random.Random, mixtures: int) -> Iterator[Files]:
        """What a power cut during it may leave: nothing of it, some of it, all of it."""
        yield self.before
        databases = [name for name in self.after if not name.endswith("-wal")]
        for _ in range(mixtures):
            yield {name: file for one in databases for name, file in self._cut(one, chance).items()}
        for one in databases:  # one whole, and nothing of the others
            files = dict(self.before)
            for name in (one, f"{one}-wal"):
                files.pop(name, None)
                files |= {name: self.after[name]} if name in self.after else {}
            yield files
        yield self.after

    def _cut(self, database: str, chance: random.Random) -> Files:
        """One database and its log."""
        log = f"{database}-wal"
        before, after = self.before.get(database, b""), self.after[database]
        if before == after:  # the log was written
            return {database: after, log: _mixed(self.before.get(log, b""), self.after[log], chance)}
        steps = [(before, self.before), (_mixed(before, after, chance), self.before)]
        steps += [(after, self.before), (after, self.after)]
        content, logs = chance.choice(steps)
        return {database: content} | ({log: logs[log]} if log in logs else {})


def _mixed(before: bytes, after: bytes, chance: random.Random) -> bytes:
    """Of each block either what was or what is; blocks beyond the old end may be zeros still."""
    size = max(len(before), len(after)) if chance.random() < 0.5 else len(after)
    old, new = before.ljust(size, b"\0"), after.ljust(size, b"\0")
    blocks = range(0, size, BLOCK)
    return b"".join((old if chance.random() < 0.5 else new)[at : at + BLOCK] for at in blocks)


@dataclass(slots=True)
class Film:
    """All writes to the files in a folder, in order; ``chapter`` is set by who tells the story."""

    folder: Path
    writes: list[Write] = field(default_factory=list)
    chapter: int = 0

    def files(self) -> Files:
        """The files as they are now."""
        return {path.name: path.read_bytes() for path in sorted(self.folder.iterdir())}

    def watch(self, statement: str, act: Callable[[], Any]) -> Any:
        """Does something that may write, and keeps what it wrote."""
        before = self.files()
        try:
            return act()
        finally:
            after = self.files()
            if after != before:
                self.writes.append(Write(statement, before, after, self.chapter))


class FilmedDatabase(SqliteDatabase):
    """A database whose every write to the disk is filmed."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.film = Film(path.parent)
        self._connection = _FilmedConnection(self._connection, self.film)  # type: ignore[assignment]  # stands in


class _FilmedConnection:
    """The part of ``sqlite3.Connection`` that ``SqliteDatabase`` uses."""

    def __init__(self, connection: sqlite3.Connection, film: Film) -> None:
        self._connection = connection
        self._film = film

    @property
    def in_transaction(self) -> bool:
        return self._connection.in_transaction

    def execute(self, sql: str, parameters: Any = ()) -> sqlite3.Cursor:
        writes = sql == "COMMIT" or not (self.in_transaction or sql.lstrip().startswith(("SELECT", "BEGIN")))
        if not writes:
            return self._connection.execute(sql, parameters)
        cursor = self._film.watch(sql, lambda: self._connection.execute(sql, parameters))
        assert isinstance(cursor, sqlite3.Cursor)
        return cursor

    def executemany(self, sql: str, parameters: Any) -> sqlite3.Cursor:
        return self._connection.executemany(sql, parameters)

    def close(self) -> None:
        self._connection.close()


def lay_out(files: Files, folder: Path) -> None:
    """Writes files into a new folder."""
    folder.mkdir()
    for name, content in files.items():
        (folder / name).write_bytes(content)
