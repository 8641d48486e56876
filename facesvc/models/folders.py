"""A folder that is there as a whole or not at all, whenever the process that writes it is killed.

The files are written into a sibling folder, synced to the disk, and the sibling is renamed into place. Names of
siblings are fixed, because whoever writes holds the lock; so the next writer finds what a killed one left.
"""

import fcntl
import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from facesvc.errors import DependencyError


@contextmanager
def locked(parent: Path) -> Iterator[None]:
    """Holds the lock of ``parent``, which is made if need be; waits for another process that has it.

    The lock goes with the process (``flock``): a killed holder leaves none. Raises ``DependencyError`` for a folder
    that cannot be written to.
    """
    with _blaming(parent):
        parent.mkdir(parents=True, exist_ok=True)
        lock = (parent / ".lock").open("wb")
    with lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def leftovers(folder: Path) -> list[Path]:
    """What a killed writer of ``folder`` left beside it, or one that is at work now has there."""
    return [sibling for sibling in _siblings(folder) if sibling.exists()]


def clear_leftovers(folder: Path) -> None:
    """Removes what a killed writer of ``folder`` left; call it with the lock held."""
    with _blaming(folder.parent):
        _remove(*_siblings(folder))


def publish(folder: Path, files: Iterable[tuple[str, bytes]], *, keep: bool = False) -> None:
    """Puts a folder with these files (name, content) in place of what is there; call it with the lock held.

    With ``keep`` what was there becomes the ``previous`` one. Raises ``DependencyError`` for a disk that is full or
    read-only, and then, as with any exception that ``files`` raises, nothing has changed.
    """
    new, old = _siblings(folder)
    try:
        clear_leftovers(folder)
        with _blaming(folder.parent):
            new.mkdir()
        for name, content in files:
            with _blaming(folder.parent):
                _write(new / name, content)
        with _blaming(folder.parent):
            _sync(new)
            # A folder that is not empty cannot be renamed over, so for a moment there is none: nothing, never a part.
            if folder.exists():
                folder.rename(old)
            new.rename(folder)
            _sync(folder.parent)
            if keep and old.exists():
                _remove(previous(folder))
                old.rename(previous(folder))
            _remove(old)
    except BaseException:
        shutil.rmtree(new, ignore_errors=True)
        raise


def previous(folder: Path) -> Path:
    """Where the content that ``folder`` had before is kept."""
    return folder.with_name(f".{folder.name}.previous")


def swap(folder: Path) -> None:
    """Exchanges ``folder`` and the previous one; call it with the lock held. Raises ``DependencyError``."""
    _, old = _siblings(folder)
    with _blaming(folder.parent):
        folder.rename(old)
        previous(folder).rename(folder)
        old.rename(previous(folder))
        _sync(folder.parent)


def remove(folder: Path) -> None:
    """Removes ``folder`` and the previous one; call it with the lock held. Raises ``DependencyError``."""
    with _blaming(folder.parent):
        _remove(*_siblings(folder), previous(folder), folder)
        _sync(folder.parent)


def _siblings(folder: Path) -> tuple[Path, Path]:
    """Where the next and the previous content of ``folder`` stand while it changes."""
    return folder.with_name(f".{folder.name}.new"), folder.with_name(f".{folder.name}.old")


def _remove(*folders: Path) -> None:
    for folder in folders:
        if folder.is_dir():
            shutil.rmtree(folder)
        else:
            folder.unlink(missing_ok=True)


def _write(path: Path, content: bytes) -> None:
    with path.open("xb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _sync(folder: Path) -> None:
    """Makes the names in ``folder`` outlast a power cut."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def _blaming(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise DependencyError(
            f"{folder} cannot be written to: {error.strerror}; free space there, make it writable for this user, or "
            f"configure another cache folder"
        ) from error
