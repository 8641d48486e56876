"""The folder of the backups: its places, who may write there when, and files that are there as a whole or not."""

import errno
import fcntl
import os
import re
import secrets
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from facesvc.errors import DependencyError, NotFoundError, PreconditionError

_NAME = re.compile(r"[0-9A-HJKMNP-TV-Z]{26}")  # a ULID
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_DRAFT = ".part"


class Folder:
    """``chunks``, ``manifests`` and ``keys`` in a folder, for its owner's eyes only.

    Every method may be called from any thread, and raises ``OSError`` unless within ``translated``.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._chunks, self._manifests, self._keys = (path / name for name in ("chunks", "manifests", "keys"))

    def prepare(self) -> None:
        """Make it, unless it is there."""
        for place in (self.path, self._chunks, self._manifests, self._keys):
            place.mkdir(mode=0o700, parents=True, exist_ok=True)

    @contextmanager
    def translated(self) -> Iterator[None]:
        """The system's complaints as ``DependencyError``, with what to do."""
        try:
            yield
        except OSError as error:
            if error.errno in _FULL:
                message = f"the disk of the backup folder {self.path} is full; nothing was changed, free some space"
                raise DependencyError(message, reason="DISK_FULL") from error
            message = f"the backup folder {self.path} cannot be used ({error.strerror}: {error.filename})"
            raise DependencyError(
                f"{message}; check that it is there, and who may write there", reason="BACKUP_FOLDER_UNUSABLE"
            ) from error

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Nobody else makes a backup meanwhile, in no process. Raises ``PreconditionError`` where somebody does."""
        with self._locked(".making", fcntl.LOCK_EX | fcntl.LOCK_NB):
            yield

    @contextmanager
    def changing(self) -> Iterator[None]:
        """What is seen of the backups changes: for moments, one after the other."""
        with self._locked(".changing", fcntl.LOCK_EX):
            yield

    @contextmanager
    def _locked(self, name: str, how: int) -> Iterator[None]:
        descriptor = os.open(self.path / name, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(descriptor, how)
            yield
        except BlockingIOError as error:
            message = f"a backup is being made in {self.path}; wait for it"
            raise PreconditionError(message, reason="BACKUP_RUNNING") from error
        finally:
            os.close(descriptor)

    @contextmanager
    def workroom(self) -> Iterator[Path]:
        """A folder for the time of the block."""
        room = self.path / f"work-{secrets.token_hex(8)}"
        room.mkdir(mode=0o700)
        try:
            yield room
        finally:
            _clear(room)

    def tidy(self) -> None:
        """Remove what an interrupted backup has left behind; only within ``alone``."""
        for room in self.path.glob("work-*"):
            _clear(room)
        for place in (self._chunks, self._manifests, self._keys):
            for draft in place.glob(f"*{_DRAFT}"):
                draft.unlink()
        for keys in set(_stems(self._keys)) - set(self.names()):
            wipe(self.keys(keys))

    def names(self) -> list[str]:
        """The backups, oldest first."""
        return sorted(filter(_NAME.fullmatch, _stems(self._manifests)))

    def check(self, name: str) -> None:
        """Raises ``NotFoundError`` where there is no backup of that name."""
        if name not in self.names():
            message = f"there is no backup {name!a} in {self.path}; `facesvc backup list` names those that are there"
            raise NotFoundError(message, field="name")

    def manifest(self, name: str) -> Path:
        """Where the manifest of a backup is."""
        return self._manifests / f"{name}.manifest"

    def keys(self, name: str) -> Path:
        """Where the keys of a backup are."""
        return self._keys / f"{name}.keys"

    def chunk(self, name: str) -> Path:
        """Where a chunk is."""
        return self._chunks / name

    def remove(self, name: str) -> None:
        """Remove a backup but its chunks, of which others may make use."""
        self.manifest(name).unlink()
        sync(self._manifests)
        with suppress(FileNotFoundError):
            wipe(self.keys(name))

    def sweep(self, used: Iterable[str]) -> None:
        """Remove all chunks but these."""
        for name in set(_entries(self._chunks)).difference(used):
            self.chunk(name).unlink()


def write(path: Path, content: bytes) -> None:
    """A file for its owner's eyes only, on the disk as a whole or not at all; the next one reads it from the disk."""
    draft = path.with_name(f"{path.name}{_DRAFT}")
    try:
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(descriptor)
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        draft.replace(path)
    except OSError:
        with suppress(OSError):
            draft.unlink()
        raise
    sync(path.parent)


def overwrite(path: Path, start: int, length: int) -> None:
    """Zeros over a part of a file, on the disk when it returns."""
    with path.open("r+b") as file:
        file.seek(start)
        file.write(bytes(length))
        file.flush()
        os.fsync(file.fileno())


def wipe(path: Path) -> None:
    """Zeros over the whole of a file, and then it is removed."""
    overwrite(path, 0, path.stat().st_size)
    path.unlink()
    sync(path.parent)


def sync(folder: Path) -> None:
    """Which files are in a folder is on the disk when it returns."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _clear(room: Path) -> None:
    for keys in room.glob("*-keys*"):
        wipe(keys)
    shutil.rmtree(room)


def _entries(place: Path) -> list[str]:
    return [entry.name for entry in os.scandir(place)]


def _stems(place: Path) -> list[str]:
    return [Path(name).stem for name in _entries(place) if not name.endswith(_DRAFT)]
