"""From a backup to a gallery: made beside, looked through, and only then put in place."""

from collections.abc import Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from tempfile import TemporaryDirectory

from ulid import ULID

from facesvc.backup.present import Present, carry_over, read_present
from facesvc.backup.shelf import Shelf
from facesvc.backup.tables import insert_keys, read_keys
from facesvc.database import Database, migrate, to_microseconds
from facesvc.database.exchange import Exchange
from facesvc.database.sqlite import SqliteDatabase
from facesvc.errors import DependencyError
from facesvc.events.audit import AuditLog
from facesvc.events.rows import EVENTS
from facesvc.gallery import EmbeddingContract
from facesvc.gallery.keyring import KeySource
from facesvc.gallery.masterkey import KnownKey
from facesvc.gallery.schema import KEYRING
from facesvc.gallery.store import Store

_BATCH = 1000
_CONTRACT = "SELECT contract_id, dimension FROM meta JOIN contracts USING (contract_id)"
# Whatever table is about people, but those that say that they were erased.
_ABOUT_PEOPLE = """
    SELECT name FROM main.sqlite_schema AS one
     WHERE type = 'table' AND name NOT IN ('receipts', 'audit')
       AND (SELECT count(*) FROM pragma_table_info(one.name) WHERE name IN ('collection_id', 'subject_id')) = 2
     ORDER BY name <> 'subjects', name
"""
_DROP = """
    DELETE FROM {table}
     WHERE subject_id <> '' AND NOT EXISTS (
               SELECT 1 FROM keyring.subject_keys AS own
                WHERE own.collection_id = {table}.collection_id AND own.subject_id = {table}.subject_id)
"""


@dataclass(frozen=True, slots=True)
class Restored:
    """What was restored. ``still_erased`` were erased after the backup, by collection and subject, and are not back.

    ``former`` is where the gallery is that was there; ``problem`` is why it could not be read, in words: then nobody
    knows whom else it erased.
    """

    name: str
    create_time: datetime
    subject_count: int
    sample_count: int
    still_erased: Sequence[tuple[str, str]] = ()
    problem: str = ""
    former: Path | None = None


class Restore:
    """The way from one backup to a gallery, under the master key of ``keys``; ``actor`` is who asks, for the audit log.

    Raises as ``Shelf.open``. Its methods raise ``DependencyError`` where the backup is damaged or the disk fails.
    """

    def __init__(self, shelf: Shelf, name: str, keys: Sequence[KeySource], now: datetime, actor: str = "") -> None:
        self._shelf = shelf
        self._opened = shelf.open(name)
        self._keys = keys
        self._now = now
        self._actor = actor

    def to_file(self, path: Path) -> Restored:
        """Make the gallery at ``path`` that of the backup; the one that was there is kept, see ``Exchange``.

        An interruption, at any moment, leaves the one that was there or the new one. Raises ``DependencyError``
        (``GALLERY_IN_USE``) where a server has it.
        """
        exchange = Exchange(path)
        exchange.finish()
        former, present = self._present(path)
        with ExitStack() as held:
            if former is not None:
                held.callback(former.close)
            with exchange.making():
                if former is None and not present.problem and path.exists():
                    message = f"a server has just made the gallery {path}; stop it first"
                    raise DependencyError(message, reason="GALLERY_IN_USE")
                restored = self._make(exchange.new, present)
                held.close()
        return replace(restored, former=exchange.former if exchange.former.exists() else None)

    def to_database(self, database: Database) -> Restored:
        """Fill an empty database, as a whole or not at all.

        Raises ``PreconditionError`` (``GALLERY_NOT_EMPTY``) where it has tables.
        """
        with TemporaryDirectory(prefix="facesvc-restore-") as room:
            made, copy = Path(room, "gallery.db"), Path(room, "copy.db")
            restored = self._make(made, Present())
            with closing(SqliteDatabase(made)) as source:
                source.copy_to(copy)
                tables = read_keys(source)
            with database.transaction():
                database.load_from(copy)
                migrate(database, KEYRING, self._now)
                insert_keys(database, tables)
        return restored

    def _present(self, path: Path) -> tuple[SqliteDatabase | None, Present]:
        """The gallery that is there, held so that no server opens it, and what of it is to stay."""
        if not path.exists():
            return None, Present()
        try:
            database = SqliteDatabase(path, busy_timeout_s=1.0)
        except DependencyError as error:
            if error.reason == "GALLERY_IN_USE":
                raise
            return None, Present(problem=error.message)
        return database, read_present(database, self._keys, self._now)

    def _make(self, path: Path, present: Present) -> Restored:
        """The gallery of the backup as a new one at ``path``, less those who were erased since."""
        try:
            self._write_copy(path)
            with closing(SqliteDatabase(path)) as database:
                still_erased = self._bring_keys(database, present)
                [contract] = database.select(_CONTRACT)
                keys = [*self._keys, KnownKey(self._opened.key, "the key of the backup")]
                store = Store.open(database, EmbeddingContract(*contract), self._now, keys)
                while store.keyring.rewrap(_BATCH):
                    pass
                self._settle(store, database, present)
                restored = self._checked(store, database)
        except OSError as error:
            message = f"the gallery cannot be restored to {path.parent} ({error.strerror}); nothing was changed"
            raise DependencyError(f"{message}, make room and try again", reason="RESTORE_FAILED") from error
        return replace(restored, still_erased=still_erased, problem=present.problem)

    def _write_copy(self, path: Path) -> None:
        path.touch(mode=0o600)
        with path.open("wb") as file:
            for piece in self._shelf.pieces(self._opened):
                file.write(piece)

    def _bring_keys(self, database: Database, present: Present) -> list[tuple[str, str]]:
        """Give the keys of the backup to its copy, but for those whom ``present`` has erased since; these.

        Whoever has no key, because it was taken out of the backup, goes with all that the copy knows of them.
        """
        known = {receipt_id for (receipt_id,) in database.select("SELECT receipt_id FROM receipts")}
        erased = {(row[1], row[2]) for row in present.receipts if row[0] not in known}
        tables = self._shelf.key_tables(self._opened)
        migrate(database, KEYRING, self._now)
        with database.transaction():
            insert_keys(database, replace(tables, people=[row for row in tables.people if row[:2] not in erased]))
            for (table,) in database.select(_ABOUT_PEOPLE):
                database.execute(_DROP.format(table=table))
        return sorted(erased.intersection(row[:2] for row in tables.people))

    def _settle(self, store: Store, database: Database, present: Present) -> None:
        """What must not go back in time: numbers of changes, receipts, the audit log, the places of those who watch."""
        log = AuditLog(database, store.keyring, lambda: self._now)
        migrate(database, EVENTS, self._now)
        with database.transaction():
            carry_over(present, database, store.keyring)
            # Of somebody who was erased, but under another person when the backup was made: that one's key opens them.
            database.execute_many("DELETE FROM samples WHERE sample_id = ?", [(one,) for one in present.sample_ids])
            # Whoever kept something of a gallery until now sees that everybody may be another. The time, because where
            # nothing is known of the gallery until now, its numbers must not be given again: backups have them too.
            change = max(present.change, store.change, to_microseconds(self._now)) + 1
            database.execute("UPDATE changes SET change = ?", (change,))
            database.execute("UPDATE subjects SET change = ?", (change,))
            database.execute("DELETE FROM boxes")
            database.execute("UPDATE journal SET journal_id = ?", (str(ULID.from_datetime(self._now)),))
            backup = self._opened.manifest
            detail = f"backup {backup.name} of {backup.create_time:%Y-%m-%d %H:%M:%S} UTC"
            log.note("RestoreBackup", detail=detail, actor=self._actor)

    def _checked(self, store: Store, database: Database) -> Restored:
        """Everybody can be read, and nothing is missing. Raises ``DependencyError``."""
        backup = self._opened.manifest
        subjects = sum(1 for _ in store.subjects())
        [(keys,)] = database.select("SELECT count(*) FROM keyring.subject_keys WHERE subject_id <> ''")
        [(samples,)] = database.select("SELECT count(*) FROM samples")
        complaints = [words for (words,) in database.select("PRAGMA integrity_check") if words != "ok"]
        complaints += [f"a row of {table} has no owner" for table, *_ in database.select("PRAGMA foreign_key_check")]
        if subjects != keys or samples > backup.sample_count:
            complaints.append(f"{subjects} people with {samples} samples, but {keys} keys")
        if complaints:
            message = f"backup {backup.name} does not give back what was in it ({complaints[0]}); nothing was changed"
            raise DependencyError(f"{message}, take another one", reason="BACKUP_DAMAGED")
        return Restored(backup.name, backup.create_time, subjects, samples)
