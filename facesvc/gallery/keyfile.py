"""The file of the master key: made as a whole, read by its owner only, exchanged for the next one."""

import os
import secrets
import tempfile
from dataclasses import dataclass
from pathlib import Path

from facesvc.errors import DependencyError
from facesvc.gallery.crypto import KEY_SIZE

_OTHERS = 0o077  # what a group and everybody else may do with a file


@dataclass(frozen=True, slots=True)
class KeyFile:
    """A file of 32 bytes that only its owner can read."""

    path: Path

    @property
    def next(self) -> "KeyFile":
        """The file of the key that is to take the place of this one."""
        return KeyFile(self.path.with_name(self.path.name + ".next"))

    def read(self) -> bytes | None:
        """The key; None where there is no file. Raises ``DependencyError`` where it cannot be used."""
        try:
            return _read_key(self.path)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise self._unusable(error) from error

    def make(self) -> bytes:
        """A new key, on the disk as a whole; or the one that somebody else made meanwhile."""
        try:
            _make_key(self.path)
            return _read_key(self.path)
        except OSError as error:
            raise self._unusable(error) from error

    def exchange(self) -> None:
        """Let the key in ``next`` take the place of this one, for good; nothing, where there is none."""
        try:
            if self.next.path.exists():
                for draft in self.path.parent.glob(f".{self.next.path.name}.*"):
                    draft.unlink()  # of one who was interrupted while making it
                self.next.path.replace(self.path)
                _sync_folder(self.path.parent)
        except OSError as error:
            raise self._unusable(error) from error

    def __str__(self) -> str:
        return f"the file {self.path}"

    def _unusable(self, error: OSError) -> DependencyError:
        message = f"the key file {self.path} cannot be used ({error.strerror}); check the path and its rights"
        return DependencyError(message, reason="KEY_UNREADABLE")


def _read_key(path: Path) -> bytes:
    """The key in ``path``, refused where others than its owner could have read it."""
    with path.open("rb") as file:
        mode = os.fstat(file.fileno()).st_mode
        key = file.read(KEY_SIZE + 1)
    if mode & _OTHERS:
        message = f"the key file {path} is open to others than its owner (mode {mode & 0o777:o}); chmod 600 it"
        raise DependencyError(message, reason="KEY_EXPOSED")
    if len(key) != KEY_SIZE:
        found = "more" if len(key) > KEY_SIZE else len(key)
        message = f"the key file {path} must hold {KEY_SIZE} bytes and holds {found}; restore it from its backup"
        raise DependencyError(message, reason="KEY_DAMAGED")
    return key


def _make_key(path: Path) -> None:
    """A new key in ``path``, on the disk as a whole or not at all; one that somebody else makes meanwhile stays."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor, draft = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")  # O_EXCL, mode 0600
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(secrets.token_bytes(KEY_SIZE))
            file.flush()
            os.fsync(file.fileno())
        path.hardlink_to(draft)  # unlike a rename, it never replaces a key
    except FileExistsError:
        pass
    finally:
        Path(draft).unlink()
    for folder in (path.parent, path.parent.parent):
        _sync_folder(folder)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
