"""A folder that is there as a whole or not at all, whenever the process that writes it is killed.

The files are written into a sibling folder, synced to the disk, and the sibling is renamed into place. Names of
siblings are fixed, because whoever writes holds the lock; so the next writer finds what a killed one left, and what was
there before is never lost: ``clear_leftovers`` brings it back.
"""

import fcntl
import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from facesvc.errors import DependencyError


@contextmanager
def blaming(place: Path) -> Iterator[None]:
    """A ``DependencyError`` in words for an ``OSError`` of the block, which writes to ``place``."""
    try:
        yield
    except OSError as error:
        raise DependencyError(
            f"{place} cannot be written to: {error.strerror}; free space there, make it writable for this user, or "
            f"configure another cache folder"
        ) from error


def sync(folder: Path) -> None:
    """Makes the names in ``folder`` outlast a power cut."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def locked(parent: Path) -> Iterator[None]:
    """Holds the lock of ``parent``, which is made if need be; waits for another process that has it.

    The lock goes with the process (``flock``): a killed holder leaves none. Raises ``DependencyError`` for a folder
    that cannot be written to.
    """
    with blaming(parent):
        parent.mkdir(parents=True, exist_ok=True)
        lock = (parent / ".lock").open("wb")
    with lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def leftovers(folder: Path) -> list[Path]:
    """What a killed writer of ``folder`` left beside it, or one that is at work now has there."""
    return [sibling for sibling in _siblings(folder) if sibling.exists()]


def clear_leftovers(folder: Path, *, keep: bool = False) -> None:
    """Ends what a killed writer of ``folder`` began; call it with the lock held.

    Where it had taken the old content away and not yet put the new one in its place, the old one is there again.
    Otherwise the old one goes or, with ``keep``, becomes the ``previous`` one.
    """
    new, old = _siblings(folder)
    if not leftovers(folder):
        return
    with blaming(folder.parent):
        if old.exists() and not folder.exists():
            old.rename(folder)
        _remove(new)
        _retire(folder, old, keep=keep)
        sync(folder.parent)


def publish(folder: Path, files: Iterable[tuple[str, bytes]], *, keep: bool = False) -> None:
    """Puts a folder with these files (name, content) in place of what is there; call it with the lock held.

    With ``keep`` what was there becomes the ``previous`` one. Raises ``DependencyError`` for a disk that is full or
    read-only, and then, as with any exception that ``files`` raises, nothing has changed.
    """
    new, old = _siblings(folder)
    try:
        clear_leftovers(folder, keep=keep)
        with blaming(folder.parent):
            new.mkdir()
        for name, content in files:
            with blaming(folder.parent):
                _write(new / name, content)
        with blaming(folder.parent):
            sync(new)
            # A folder that is not empty cannot be renamed over, so for a moment there is none: nothing, never a part.
            if folder.exists():
                folder.rename(old)
            new.rename(folder)
            sync(folder.parent)
            _retire(folder, old, keep=keep)
    except BaseException:
        with suppress(DependencyError):
            clear_leftovers(folder, keep=keep)
        raise


def previous(folder: Path) -> Path:
    """Where the content that ``folder`` had before is kept."""
    return folder.with_name(f".{folder.name}.previous")


def swap(folder: Path) -> None:
    """Exchanges ``folder`` and the previous one; call it with the lock held. Raises ``DependencyError``."""
    _, old = _siblings(folder)
    with blaming(folder.parent):
        folder.rename(old)
        previous(folder).rename(folder)
        old.rename(previous(folder))
        sync(folder.parent)


def remove(folder: Path) -> None:
    """Removes ``folder`` and the previous one; call it with the lock held. Raises ``DependencyError``."""
    new, old = _siblings(folder)
    with blaming(folder.parent):
        _remove(new, old)
        if folder.exists():
            # At once gone for readers, and never half of it; what is called so is removed by the next writer.
            folder.rename(new)
            sync(folder.parent)
        _remove(new, previous(folder))


def _retire(folder: Path, old: Path, *, keep: bool) -> None:
    """Removes the content that was there before or, with ``keep``, makes it the previous one."""
    if keep and old.exists():
        _remove(previous(folder))
        old.rename(previous(folder))
    _remove(old)


def _siblings(folder: Path) -> tuple[Path, Path]:
    """Where the next and the previous content of ``folder`` stand while it changes."""
    return folder.with_name(f".{folder.name}.new"), folder.with_name(f".{folder.name}.old")


def _remove(*folders: Path) -> None:
    for folder in folders:
        if folder.is_dir():
            shutil.rmtree(folder)
        else:
            folder.unlink(missing_ok=True)


def replace_file(path: Path, content: bytes) -> None:
    """Puts ``content`` in place of the file at ``path`` at once. Raises ``DependencyError``."""
    new = path.with_name(f".{path.name}.new")
    with blaming(path):
        new.unlink(missing_ok=True)
        _write(new, content)
        new.replace(path)


def _write(path: Path, content: bytes) -> None:
    with path.open("xb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
