"""The audit log: who did what with people's data, in the database, evident of tampering (see ``chain``).

An entry names people by their ids alone, and stays when they are erased: that they were is what it says. It is written
in the transaction of whoever makes it, where there is one, so that both are there or neither.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from facesvc.database import Database, Row, Schema, Step, migrate, to_microseconds
from facesvc.events.chain import BEGINNING, AuditEntry, Break, Chain, Head, Walk, entry_of
from facesvc.events.sealer import Sealer

MAX_TEXT = 1000  # characters of an actor or a detail; what is longer is cut off
_BATCH = 500

_TABLE = """
    CREATE TABLE audit (
        sequence INTEGER PRIMARY KEY,
        time INTEGER NOT NULL,
        actor TEXT NOT NULL,
        action TEXT NOT NULL,
        collection_id TEXT NOT NULL,
        subject_id TEXT NOT NULL,
        detail TEXT NOT NULL,
        hash BLOB NOT NULL
    )
"""
# One row, of the last entry and of the last that was dropped. Who writes locks it first, and so waits for all who do.
_HEAD = """
    CREATE TABLE audit_head (
        singleton INTEGER PRIMARY KEY CHECK (singleton = 1),
        sequence INTEGER NOT NULL,
        hash BLOB NOT NULL,
        forgotten INTEGER NOT NULL,
        anchor BLOB NOT NULL,
        tag BLOB NOT NULL
    )
"""
_OF_SUBJECT = "CREATE INDEX audit_of_subject ON audit (subject_id)"
AUDIT = Schema("audit_migrations", (Step("0001_audit", (_TABLE, _HEAD, _OF_SUBJECT)),))

_SELECT = "SELECT sequence, time, actor, action, collection_id, subject_id, detail, hash FROM audit"
_INSERT = "INSERT INTO audit VALUES (?, ?, ?, ?, ?, ?, ?, ?)"
_READ = _SELECT + " WHERE sequence > ? ORDER BY sequence LIMIT ?"
_LOCK_HEAD = "UPDATE audit_head SET sequence = sequence RETURNING sequence, hash, forgotten, anchor, tag"
_INSERT_HEAD = "INSERT INTO audit_head VALUES (1, ?, ?, ?, ?, ?) ON CONFLICT (singleton) DO NOTHING"
_PUT_HEAD = "UPDATE audit_head SET sequence = ?, hash = ?, forgotten = ?, anchor = ?, tag = ?"
_BEFORE_ALL = -(2**63)


@dataclass(frozen=True, slots=True)
class Asked:
    """Which entries: ``start`` <= time < ``end``, and what is not empty."""

    start: datetime | None = None
    end: datetime | None = None
    action: str = ""
    collection_id: str = ""
    subject_id: str = ""

    def conditions(self) -> tuple[list[str], dict[str, object]]:
        """SQL, and its named parameters."""
        names = ("action", "collection_id", "subject_id")
        parameters = {name: getattr(self, name) for name in names if getattr(self, name)}
        conditions = [f"{name} = :{name}" for name in parameters]
        for name, sign, time in (("start", ">=", self.start), ("end", "<", self.end)):
            if time is not None:
                conditions.append(f"time {sign} :{name}_time")
                parameters[f"{name}_time"] = to_microseconds(time)
        return conditions, parameters


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a verification found; ``broken_sequence`` is 0 where all is as it was written."""

    entry_count: int
    broken_sequence: int
    message: str
    last_hash: bytes


class AuditLog:
    """The audit log of one database. Every method may be called from any thread.

    Raises ``PreconditionError`` where a newer facesvc wrote it, ``DependencyError`` where it cannot be used.
    """

    def __init__(self, database: Database, sealer: Sealer, now: Callable[[], datetime]) -> None:
        self._database = database
        self._now = now
        migrate(database, AUDIT, now())
        self._chain = Chain(sealer.tag("audit", b""))
        with database.transaction():
            self._lock()

    def _row_of(self, head: Head) -> Row:
        return head.sequence, head.hash, head.forgotten, head.anchor, self._chain.tag_of(head)

    def _lock(self) -> Head:
        """The head; nobody else writes before the caller's transaction ends."""
        found = self._database.select(_LOCK_HEAD)
        if not found:
            # A log that has entries and no head is one that was changed.
            is_new = not self._database.select("SELECT 1 FROM audit LIMIT 1")
            new = Head(0, BEGINNING, 0, BEGINNING, intact=is_new)
            self._database.execute(_INSERT_HEAD, self._row_of(new))
            found = self._database.select(_LOCK_HEAD)
        return self._chain.head_of(found[0])

    def note(
        self, action: str, collection_id: str = "", subject_id: str = "", detail: str = "", actor: str = ""
    ) -> AuditEntry:
        """Write an entry, inside the caller's transaction where there is one.

        ``action`` is the name of a call, ``detail`` is in words and never holds a name.
        """
        with self._database.transaction():
            head = self._lock()
            newest = self._database.select("SELECT coalesce(max(sequence), 0) FROM audit")[0][0]
            values = (
                max(head.sequence, newest) + 1,  # the newest is not the head's where somebody put entries in
                to_microseconds(self._now()),
                actor[:MAX_TEXT],
                action,
                collection_id,
                subject_id,
                detail[:MAX_TEXT],
            )
            row = (*values, self._chain.hash_of(values, head.joint))
            self._database.execute(_INSERT, row)
            following = replace(head, sequence=row[0], hash=row[-1], intact=True)
            self._database.execute(_PUT_HEAD, self._row_of(following))
        return entry_of(row)

    def list_entries(self, asked: Asked, limit: int, after: int = 0) -> Sequence[AuditEntry]:
        """At most so many entries, oldest first, that come after the one with the sequence ``after``."""
        conditions, parameters = asked.conditions()
        sql = _SELECT + " WHERE " + " AND ".join(["sequence > :after", *conditions]) + " ORDER BY sequence LIMIT :limit"
        found = self._database.select(sql, parameters | {"after": after, "limit": limit})
        return [entry_of(row) for row in found]

    def verify(self) -> Verdict:
        """Whether all is as it was written. Writers wait for its last moments only."""
        while True:
            with self._database.transaction():
                start = self._lock()
            walk = Walk(self._chain, start)
            broken = self._follow(walk, _BEFORE_ALL)
            with self._database.transaction():
                head = self._lock()
                if head.forgotten != start.forgotten:
                    continue  # what was dropped meanwhile might seem to be missing
                broken = broken or self._follow(walk, walk.sequence) or walk.end(head)
            last = walk.sequence if broken is None else broken.sequence
            message = f"the log is as it was written, up to entry {last}" if broken is None else broken.message
            return Verdict(walk.count, broken.sequence if broken else 0, message, walk.hash)

    def _follow(self, walk: Walk, place: int) -> Break | None:
        """Along all entries after ``place``; the first with which there is a problem."""
        while batch := self._database.select(_READ, (place, _BATCH)):
            for row in batch:
                if broken := walk.problem(row):
                    return broken
                walk.take(row)
            place = walk.sequence
        return None

    def forget_before(self, time: datetime) -> bool:
        """Drop some of the oldest entries, if they are from before ``time``; whether there may be more.

        What is not as it was written stays, with all that follows: it is evidence.
        """
        before = to_microseconds(time)
        with self._database.transaction():
            head = self._lock()
            walk = Walk(self._chain, head)
            for row in self._database.select(_READ, (head.forgotten, _BATCH)):
                if walk.problem(row) or row[1] >= before:
                    break
                walk.take(row)
            if walk.count:
                dropped = (head.forgotten, walk.sequence)
                self._database.execute("DELETE FROM audit WHERE sequence > ? AND sequence <= ?", dropped)
                shorter = replace(head, forgotten=walk.sequence, anchor=walk.hash)
                self._database.execute(_PUT_HEAD, self._row_of(shorter))
        return walk.count == _BATCH
