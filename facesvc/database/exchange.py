"""The two files of a database for two others, so that whatever interrupts it leaves the old ones or the new ones.

First a note says that the new files are ready; from then on they will take the places of the old ones, at the next
start if need be. Until then nothing has happened. The old ones stay beside until ``discard_former``.
"""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from facesvc.errors import DependencyError

_READY = b"ready\n"
# SQLite's log and such come with their file; the file itself last, because by it is told whether they were moved.
_PARTS = ("-wal", "-shm", "-journal", "")


def keyring_path(path: Path) -> Path:
    """Where the keys of the gallery at ``path`` are."""
    return path.with_name(path.name + "-keys")


def view_path(path: Path) -> Path:
    """Where what was kept of the gallery at ``path`` is, to open it sooner; it says nothing about another one."""
    return path.with_name(path.name + "-view")


@dataclass(frozen=True, slots=True)
class Exchange:
    """The files of the database at ``path``. Every method raises ``DependencyError`` where the disk fails."""

    path: Path

    @property
    def new(self) -> Path:
        """Where the new database is made."""
        return self.path.with_name(f"{self.path.name}.restoring")

    @property
    def former(self) -> Path:
        """Where the old one is kept."""
        return self.path.with_name(f"{self.path.name}.before-restore")

    @property
    def _note(self) -> Path:
        return self.path.with_name(f"{self.path.name}.exchange")

    def discard_former(self) -> None:
        """Remove the old database, once nobody will want it back."""
        with self._translated():
            _remove(self.former)

    @contextmanager
    def making(self) -> Iterator[None]:
        """The new database is made inside; once that succeeds, and nobody has either open any more, it takes its place.

        Meanwhile ``finish``, and with it whoever wants to open the old one, is refused.
        """
        with self._translated():
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            with self._noted(os.O_RDWR | os.O_CREAT) as note:
                _remove(self.new)
                try:
                    yield
                    for file in _files(self.new):
                        _sync(file)
                except BaseException:
                    _remove(self.new)
                    self._note.unlink()
                    raise
                os.write(note, _READY)
                os.fsync(note)
                _sync(self.path.parent)
                self._carry_out()

    def finish(self) -> None:
        """Carry out an exchange that was interrupted, or clear away what was not ready; before the database is opened.

        Raises ``DependencyError`` (``GALLERY_IN_USE``) while another process is at it.
        """
        with self._translated(), suppress(FileNotFoundError), self._noted(os.O_RDWR) as note:
            if os.read(note, len(_READY)) == _READY:
                self._carry_out()
            else:
                _remove(self.new)
                self._note.unlink()

    @contextmanager
    def _noted(self, how: int) -> Iterator[int]:
        """The note, which nobody else has meanwhile."""
        note = os.open(self._note, how, 0o600)
        try:
            fcntl.flock(note, fcntl.LOCK_EX | fcntl.LOCK_NB)
            yield note
        except BlockingIOError as error:
            message = f"the gallery {self.path} is being restored; wait until that is done"
            raise DependencyError(message, reason="GALLERY_IN_USE") from error
        finally:
            os.close(note)

    def _carry_out(self) -> None:
        """All moves that are left; a second time there are none."""
        view_path(self.path).unlink(missing_ok=True)
        _sync(self.path.parent)  # gone before the new database is there: its numbers may be those of the old one
        for new, place, former in zip(_files(self.new), _files(self.path), _files(self.former), strict=True):
            if not new.exists():
                continue
            keep = not former.exists()  # else that was in use, and what replaced it was not yet
            for part in _PARTS:
                if not (found := _part(place, part)).exists():
                    continue
                if keep:
                    found.rename(_part(former, part))
                else:
                    _erase(found, wipe=place != self.path)
            _sync(self.path.parent)
            new.rename(place)
        _sync(self.path.parent)
        self._note.unlink(missing_ok=True)
        _sync(self.path.parent)

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            message = f"the gallery {self.path} cannot be exchanged for another ({error.strerror}: {error.filename})"
            raise DependencyError(
                f"{message}; check who may write there, and do it again", reason="GALLERY_UNREADABLE"
            ) from error


def _files(path: Path) -> tuple[Path, Path]:
    return path, keyring_path(path)


def _part(file: Path, part: str) -> Path:
    return file.with_name(file.name + part)


def _remove(path: Path) -> None:
    """A database, all files of it."""
    for file in (keyring_path(path), path):
        for part in _PARTS:
            if (found := _part(file, part)).exists():
                _erase(found, wipe=file != path)


def _erase(file: Path, *, wipe: bool) -> None:
    """Remove a file; with ``wipe``, where keys were in it, zeros are written over it before."""
    if wipe:
        with file.open("r+b") as opened:
            opened.write(bytes(file.stat().st_size))
            opened.flush()
            os.fsync(opened.fileno())
    file.unlink()


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
