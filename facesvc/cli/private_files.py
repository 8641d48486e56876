"""New files about people: only their owner may read them, and they are there as a whole or not at all."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from facesvc.errors import DependencyError, InputError


def check_new(path: Path) -> None:
    """Refuse to write over a file, or where there is no folder, before the work is done. Raises ``InputError``."""
    if path.exists():
        raise InputError(f"{path} is there already: choose another name, or remove it first")
    if not path.parent.is_dir():
        raise InputError(f"cannot write {path}: there is no folder {path.parent}")


@contextmanager
def new_file(path: Path) -> Iterator[IO[bytes]]:
    """A file to write to; what fails leaves nothing behind. Raises ``DependencyError`` and as ``check_new``."""
    check_new(path)
    part = path.with_name(f".{path.name}.part")
    try:
        with open(part, "xb", opener=lambda name, flags: os.open(name, flags, 0o600)) as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    except OSError as error:
        raise DependencyError(f"{path} cannot be written: {error.strerror or error}") from error
    finally:
        part.unlink(missing_ok=True)
