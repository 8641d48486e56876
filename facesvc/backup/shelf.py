"""The backups in a folder, as far as the master keys at hand open them: read, checked, and freed of people."""

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from ulid import ULID

from facesvc.backup import keys, manifest
from facesvc.backup.folder import Folder, overwrite, write
from facesvc.backup.keys import KeysDamagedError
from facesvc.backup.manifest import Opened, damaged
from facesvc.backup.tables import KeyTables
from facesvc.errors import DependencyError, FacesvcError
from facesvc.gallery.crypto import Cipher, SealBrokenError, associated
from facesvc.gallery.keyring import KeySource

PIECE = 1 << 20
"""Bytes of the copy in a chunk; the last one has less."""
OTHERS_HAVE = "holds samples of theirs under another person: destroy it, or make a new one and remove this"
"""Why somebody is still in a backup whose key was taken out of it."""
_SEAL_SIZE = 29


@dataclass(frozen=True, slots=True)
class Backup:
    """What is said of a backup. ``subject_count`` is without those who were erased since.

    ``new_bytes`` had to be written for it, beyond what earlier ones share with it. ``problem`` is why it cannot be
    restored, in words; empty for one with which there is none.
    """

    name: str
    create_time: datetime
    subject_count: int = 0
    size_bytes: int = 0
    new_bytes: int = 0
    problem: str = ""


class Shelf:
    """The backups in the folder ``path``. Every method may be called from any thread.

    ``masters`` are the master keys at hand, the present one first. Every method raises ``DependencyError`` where the
    folder cannot be used.
    """

    def __init__(self, path: Path, masters: Sequence[bytes]) -> None:
        self.folder = Folder(path)
        self.masters = list(masters)

    def names(self) -> list[str]:
        """Oldest first."""
        with self.folder.translated():
            return self.folder.names()

    def open(self, name: str) -> Opened:
        """The manifest of a backup, and its key.

        Raises ``NotFoundError`` without it, ``PreconditionError`` for one of a newer facesvc, ``DependencyError`` where
        it is damaged or none of the master keys opens it.
        """
        with self.folder.translated():
            self.folder.check(name)
            content = self.folder.manifest(name).read_bytes()
        return manifest.unseal(content, name, self._ciphers())

    def _ciphers(self) -> list[Cipher]:
        return [Cipher(key) for key in self.masters]

    def describe(self, name: str, *, verify: bool = False) -> Backup:
        """What is known of a backup, and what is wrong with it; ``verify`` reads it whole. Raises ``NotFoundError``."""
        with self.folder.translated():
            self.folder.check(name)
        create_time = ULID.from_str(name).datetime.astimezone(UTC)
        try:
            opened = self.open(name)
            if verify:
                self.verify(opened)
            held = self._keys_of(name)
            known = opened.manifest
            files = len(held) + self.folder.manifest(name).stat().st_size
            return Backup(
                name=name,
                create_time=known.create_time,
                subject_count=keys.count(held),
                size_bytes=known.size_bytes + _SEAL_SIZE * len(known.chunks) + files,
                new_bytes=known.new_bytes,
            )
        except (FacesvcError, KeysDamagedError, OSError) as error:
            wrong = error if isinstance(error, FacesvcError) else damaged(name, "its keys were changed")
            return Backup(name=name, create_time=create_time, problem=wrong.message)

    def verify(self, opened: Opened) -> None:
        """Read a backup whole. Raises ``DependencyError`` with the first thing that is wrong with it."""
        for _ in self.pieces(opened):
            pass
        self.key_tables(opened)

    def pieces(self, opened: Opened) -> Iterator[bytes]:
        """The copy of the database, in order. Raises ``DependencyError`` where it is not as it was written."""
        name, cipher, digest = opened.manifest.name, opened.chunk_cipher, hashlib.sha256()
        for chunk in opened.manifest.chunks:
            piece = self.piece(chunk, cipher)
            if piece is None:
                what = "is missing" if not self.folder.chunk(chunk).exists() else "was changed"
                raise damaged(name, f"its chunk {chunk} {what}")
            digest.update(piece)
            yield piece
        if digest.hexdigest() != opened.manifest.digest:
            raise damaged(name, "its chunks do not make up what was copied")

    def piece(self, chunk: str, cipher: Cipher) -> bytes | None:
        """What is in a chunk; None where it is not there, or not as it was written."""
        try:
            with self.folder.translated():
                sealed = self.folder.chunk(chunk).read_bytes()
            return cipher.unseal(sealed, associated("backup chunk", chunk))
        except (SealBrokenError, DependencyError):
            return None

    def put(self, piece: bytes, cipher: Cipher) -> tuple[str, int]:
        """Keep a piece of the copy, unless it is there already; its chunk, and how many bytes were written.

        It is read back. Raises ``OSError``, and ``DependencyError`` for a disk that does not keep what it is given.
        """
        chunk = cipher.tag("backup chunk", piece).hex()
        if self.piece(chunk, cipher) == piece:
            return chunk, 0
        sealed = cipher.seal(piece, associated("backup chunk", chunk))
        write(self.folder.chunk(chunk), sealed)
        if self.piece(chunk, cipher) != piece:
            raise self.forgetful()
        return chunk, len(sealed)

    def forgetful(self) -> DependencyError:
        """An error that says that something was written and cannot be read back."""
        message = f"the backup folder {self.folder.path} does not give back what was written to it; check its disk"
        return DependencyError(message, reason="DISK_FAILED")

    def key_tables(self, opened: Opened) -> KeyTables:
        """The keys of a backup, without those that were taken out. Raises ``DependencyError``."""
        name = opened.manifest.name
        try:
            return keys.decode(self._keys_of(name), opened.cipher, name)
        except KeysDamagedError as error:
            raise damaged(name, "its keys were changed") from error

    def _keys_of(self, name: str) -> bytes:
        try:
            return self.folder.keys(name).read_bytes()
        except FileNotFoundError as error:
            raise damaged(name, "its keys are missing") from error

    def puncture(
        self, collection_id: str, subject_id: str, sample_ids: Sequence[str] = ()
    ) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Take somebody's key out of all backups, for good; ``sample_ids`` are the samples that they had.

        The backups that had it, and those in which they still are, or may be, each with why. A sample that was another
        person's when the backup was made is opened by that one's key, which stays.
        """
        reached, unreached = [], []
        try:
            names = self.names()
        except DependencyError as error:
            return (), (error.message,)
        for name in names:
            try:
                count, others_have = self.take_out(name, [(collection_id, subject_id)], sample_ids)
                if count:
                    reached.append(name)
                if others_have:
                    unreached.append(f"{name}: {OTHERS_HAVE}")
            except FacesvcError as error:
                unreached.append(f"{name}: {error.message}")
        return tuple(reached), tuple(unreached)

    def take_out(
        self, name: str, people: Iterable[tuple[str, str]], sample_ids: Iterable[str] = ()
    ) -> tuple[int, bool]:
        """Take keys out of a backup, each by collection and subject. Raises as ``open``.

        How many of them it had, and whether others have samples there that are among ``sample_ids``.
        """
        with self.folder.translated(), self.folder.changing():
            content, cipher = self._keys_of(name), self.open(name).cipher
            try:
                found = keys.places_of(content, cipher, people)
                for place in found:
                    overwrite(self.folder.keys(name), *place)
                return len(found), keys.others_have(content, cipher, sample_ids, found)
            except KeysDamagedError as error:
                raise damaged(name, "its keys were changed") from error

    def learn(self, key: bytes) -> None:
        """Another master key, by which is wrapped what is made from now on."""
        self.masters = [key, *(one for one in self.masters if one != key)]

    def forget_former(self) -> None:
        """The present master key is the only one."""
        self.masters = self.masters[:1]

    def rewrap(self) -> None:
        """Wrap the key of every backup by the present master key; once it returns, the others are of no use.

        What none of them opens stays as it is. Raises ``PreconditionError`` for a backup of a newer facesvc.
        """
        with self.folder.translated(), self.folder.changing():
            for name in self.folder.names():
                content = self.folder.manifest(name).read_bytes()
                with suppress(DependencyError):
                    again = manifest.rewrapped(content, name, self._ciphers())
                    if again != content:
                        write(self.folder.manifest(name), again)


def keys_at_hand(sources: Sequence[KeySource]) -> list[bytes]:
    """The master keys that ``sources`` have. Raises ``DependencyError`` where there is none."""
    found = [key for source in sources if (key := source.read()) is not None]
    if not found:
        places = ", ".join(map(str, sources))
        message = f"backups are sealed under the master key, and there is none in {places}; put it there first"
        raise DependencyError(message, reason="KEY_MISSING")
    return found
