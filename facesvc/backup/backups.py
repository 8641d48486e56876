"""The backups of the gallery that is at work: made while everything goes on, read back, and kept free of the erased."""

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from errno import ENOSPC
from pathlib import Path
from shutil import disk_usage
from threading import Event, Lock

import structlog
from ulid import ULID

from facesvc.backup import keys, manifest
from facesvc.backup.folder import write
from facesvc.backup.manifest import Manifest, Opened
from facesvc.backup.present import samples_of
from facesvc.backup.shelf import OTHERS_HAVE, PIECE, Backup, Shelf
from facesvc.backup.tables import KeyTables, insert_keys, read_keys
from facesvc.database import Database, Row, migrate
from facesvc.database.sqlite import SqliteDatabase
from facesvc.errors import DependencyError, FacesvcError, UnavailableError
from facesvc.gallery.crypto import Cipher, new_key
from facesvc.gallery.keyring import Keyring
from facesvc.gallery.masterkey import KnownKey
from facesvc.gallery.schema import KEYRING

_BATCH = 1000
_NO_ROOM = 1 << 17  # bytes
_SCHEMAS = "SELECT name FROM main.sqlite_schema WHERE type = 'table' AND name LIKE '%migrations' ORDER BY name"
_ERASED_AFTER = "SELECT receipt_id, collection_id, subject_id, receipt, signature FROM receipts WHERE change > ?"
_SAMPLES = "SELECT collection_id, subject_id, sample_id FROM samples"
# Keys are read after the copy: of somebody who was made known since there is a key, and nothing that it opens.
_NOT_COPIED = """
    DELETE FROM keyring.subject_keys
     WHERE subject_id <> '' AND NOT EXISTS (
               SELECT 1 FROM subjects
                WHERE subjects.collection_id = subject_keys.collection_id
                  AND subjects.subject_id = subject_keys.subject_id)
"""
_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class _Copy:
    """What a copy of the database says of itself."""

    steps: dict[str, list[str]]
    contract_id: str
    change: int
    sample_count: int


class Backups:
    """Makes the backups of ``database`` on ``shelf``, of which the last ``keep`` stay. From any thread."""

    def __init__(self, database: Database, shelf: Shelf, keep: int) -> None:
        self.shelf = shelf
        self._database = database
        self._keep = keep
        self._making = Lock()
        self._closed = Event()

    def open(self) -> None:
        """Make the folder, remove what an interruption has left there, and make good for erasures that it missed.

        To be called at every start. What is wrong with the folder is logged: it keeps nobody from being recognised.
        """
        folder = self.shelf.folder
        try:
            with folder.translated():
                folder.prepare()
                with folder.alone():
                    folder.tidy()
            for name in self.shelf.names():
                self._catch_up(name)
        except FacesvcError as error:
            _log.error("backups unusable", problem=error.message)

    def _catch_up(self, name: str) -> None:
        """Take those out of a backup who were erased after it."""
        try:
            erased, sample_ids = self._erased_after(self.shelf.open(name).manifest.change)
            count, others_have = self.shelf.take_out(name, erased, sample_ids)
            if count:
                _log.warning("erased people were still in a backup", name=name, people=count)
            if others_have:
                _log.error("somebody who was erased is still in a backup", backup=f"{name}: {OTHERS_HAVE}")
        except FacesvcError as error:
            _log.warning("backup unreadable", name=name, problem=error.message)

    def _erased_after(self, change: int) -> tuple[list[tuple[str, str]], list[str]]:
        """Who was erased, and the samples that they had."""
        found = self._database.select(_ERASED_AFTER, (change,))
        return [(row[1], row[2]) for row in found], samples_of(found)[0]

    def close(self) -> None:
        """Give up a backup that is being made, and make no more."""
        self._closed.set()
        with self._making:
            pass

    def puncture(
        self, collection_id: str, subject_id: str, sample_ids: Sequence[str] = ()
    ) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """As ``Shelf.puncture``, for somebody whom the database knows no more."""
        reached, unreached = self.shelf.puncture(collection_id, subject_id, sample_ids)
        for one in unreached:
            _log.error("somebody who was erased may still be in a backup", subject_id=subject_id, backup=one)
        return reached, unreached

    def create(self, now: datetime) -> Backup:
        """Make a backup, read it back, and remove what is past ``keep``.

        It is of one moment: what was changed later is not in it, and whoever was erased meanwhile cannot be read in it.
        Until it is whole nobody sees it. Raises ``PreconditionError`` (``BACKUP_RUNNING``) while another one is made,
        ``DependencyError`` where the folder cannot be used, ``UnavailableError`` after ``close``, and where it would
        hold somebody who was erased meanwhile (``BACKUP_OVERTAKEN``).
        """
        folder = self.shelf.folder
        with folder.translated():
            folder.prepare()
            with folder.alone(), self._making:
                folder.tidy()
                with folder.workroom() as room:
                    name = self._create(room / "copy.db", now)
                self._remove_old(name)
        made = self.shelf.describe(name)
        _log.info("backup made", name=name, people=made.subject_count, bytes=made.size_bytes, new_bytes=made.new_bytes)
        return made

    def _create(self, path: Path, now: datetime) -> str:
        name, key, chunk_key = str(ULID.from_datetime(now)), new_key(), self._chunk_key()
        with _disk_of(path.parent):
            self._database.copy_to(path)
            with closing(SqliteDatabase(path)) as copy:  # closed before its file is read
                known = _look(copy)
        chunks, digest, new_bytes = self._keep_pieces(path, Cipher(chunk_key))
        with _disk_of(path.parent), closing(SqliteDatabase(path)) as copy:
            tables, samples = self._keys_for(copy, key, now), copy.select(_SAMPLES)
        made = Manifest(
            name=name,
            create_time=now,
            steps=known.steps,
            contract_id=known.contract_id,
            change=known.change,
            subject_count=0,  # counted last
            sample_count=known.sample_count,
            size_bytes=path.stat().st_size,
            new_bytes=new_bytes,
            digest=digest,
            chunk_key=chunk_key,
            chunks=chunks,
        )
        self._publish(Opened(made, key), tables, samples)
        return name

    def _chunk_key(self) -> bytes:
        """That of the last backup, with which the next one then shares chunks; a new one where there is none."""
        for name in reversed(self.shelf.names()):
            try:
                return self.shelf.open(name).manifest.chunk_key
            except FacesvcError:
                continue
        return new_key()

    def _keep_pieces(self, path: Path, cipher: Cipher) -> tuple[tuple[str, ...], str, int]:
        """The chunks of a copy, its SHA-256, and how many bytes had to be written."""
        chunks, digest, written = [], hashlib.sha256(), 0
        with path.open("rb") as file:
            while piece := file.read(PIECE):
                if self._closed.is_set():
                    raise UnavailableError("the server is stopping: make the backup later", reason="SERVER_STOPPING")
                chunk, new_bytes = self.shelf.put(piece, cipher)
                chunks.append(chunk)
                digest.update(piece)
                written += new_bytes
        return tuple(chunks), digest.hexdigest(), written

    def _keys_for(self, copy: SqliteDatabase, key: bytes, now: datetime) -> KeyTables:
        """The present keys of those who are in a copy, wrapped by ``key``, which stays when the master key changes."""
        migrate(copy, KEYRING, now)
        with copy.transaction():
            insert_keys(copy, read_keys(self._database))
            copy.execute(_NOT_COPIED)
        keyring = Keyring(copy)
        keyring.open([KnownKey(one, "the keys at hand") for one in (key, *self.shelf.masters)], now)
        while keyring.rewrap(_BATCH):
            pass
        return read_keys(copy)

    def _publish(self, opened: Opened, tables: KeyTables, samples: Sequence[Row]) -> None:
        """From now on the backup is seen. Nobody is erased between the look at the receipts and then."""
        name, folder = opened.manifest.name, self.shelf.folder
        with folder.changing():
            erased, sample_ids = self._erased_after(opened.manifest.change)
            people, gone = set(erased), set(sample_ids)
            if any(row[2] in gone and row[:2] not in people for row in samples):
                message = "somebody was erased who was another person when the backup was begun; make it again"
                raise UnavailableError(message, reason="BACKUP_OVERTAKEN")
            tables = replace(tables, people=[row for row in tables.people if row[:2] not in people])
            opened = replace(opened, manifest=replace(opened.manifest, subject_count=len(tables.people)))
            write(folder.keys(name), keys.encode(tables, samples, opened.cipher, name))
            if self.shelf.key_tables(opened) != tables:
                raise self.shelf.forgetful()
            write(folder.manifest(name), manifest.seal(opened, Cipher(self.shelf.masters[0])))
            if self.shelf.open(name) != opened:
                folder.remove(name)
                raise self.shelf.forgetful()

    def _remove_old(self, made: str) -> None:
        """Remove all but the last ``keep`` backups, and the chunks that none makes use of."""
        folder = self.shelf.folder
        others = [name for name in folder.names() if name != made]  # a clock may have been set back
        with folder.changing():
            for name in others[: max(0, len(others) + 1 - self._keep)]:
                folder.remove(name)
        used: set[str] = set()
        try:
            for name in folder.names():
                used.update(self.shelf.open(name).manifest.chunks)
        except FacesvcError as error:
            _log.warning("chunks kept, for a backup is unreadable", problem=error.message)
            return
        folder.sweep(used)


def _look(copy: SqliteDatabase) -> _Copy:
    schemas = [name for (name,) in copy.select(_SCHEMAS)]
    steps = {
        name: [step for (step,) in copy.select(f"SELECT name FROM {name} ORDER BY name")]  # noqa: S608 - its tables
        for name in schemas
    }
    [(contract_id,)] = copy.select("SELECT contract_id FROM meta")
    [(change,)] = copy.select("SELECT change FROM changes")
    [(sample_count,)] = copy.select("SELECT count(*) FROM samples")
    return _Copy(steps, contract_id, change, sample_count)


@contextmanager
def _disk_of(folder: Path) -> Iterator[None]:
    """What the database says of a full disk is true of the folder's, where the copy is."""
    try:
        yield
    except DependencyError as error:
        # SQLite calls it a failure where it happens in its log.
        is_full = error.reason == "DISK_FAILED" and disk_usage(folder).free < _NO_ROOM
        if error.reason != "DISK_FULL" and not is_full:
            raise
        raise OSError(ENOSPC, "No space left on device") from error
