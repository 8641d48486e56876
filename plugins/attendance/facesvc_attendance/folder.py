"""The folder of exports: files that are there as a whole or not at all, and that only their owner may read."""

import os
import re
import stat
from datetime import date
from pathlib import Path

from facesvc.errors import DependencyError, NotFoundError
from facesvc_attendance.manifest import MAX_REVISION, stem_of

MAX_BYTES = 64 << 20
MAX_FILES = 20_000

_MANIFEST = re.compile(r"(attendance-[0-9]{4}-[0-9]{2}-[0-9]{2}(?:\.r[0-9]{1,3})?)\.json")


class Folder:
    """Where exports lie. Raises ``DependencyError`` where it cannot be used. Every call may wait for the disk."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def make(self) -> None:
        """Make it where it is not there, for its owner alone."""
        try:
            self.path.mkdir(mode=0o700, exist_ok=True)
        except OSError as error:
            raise self._failed("made", error) from error

    def write(self, name: str, content: bytes) -> None:
        """Put a file there, in the place of one of that name."""
        part = self.path / f".{name}.part"
        try:
            part.unlink(missing_ok=True)  # of a crash
            with open(part, "xb", opener=lambda path, flags: os.open(path, flags, 0o600)) as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            part.replace(self.path / name)
            self._settle()
        except OSError as error:
            raise self._failed("written to", error) from error

    def read(self, name: str) -> bytes:
        """A file's content. Raises ``NotFoundError`` where there is none, or it is no plain file."""
        try:
            # Neither a link nor something that makes us wait, such as a pipe.
            descriptor = os.open(self.path / name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
            with os.fdopen(descriptor, "rb") as file:
                if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                    raise NotFoundError(f"{name} is no plain file", field="file")
                content = file.read(MAX_BYTES + 1)
        except FileNotFoundError:
            raise NotFoundError(f"there is no {name} in {self.path}", field="file") from None
        except OSError as error:
            raise self._failed(f"read ({name})", error) from error
        if len(content) > MAX_BYTES:
            raise DependencyError(f"{name} has more than {MAX_BYTES >> 20} MiB: we have not written it")
        return content

    def stems(self) -> list[str]:
        """The names of all manifests, without ``.json``."""
        try:
            names = [path.name for path in self.path.iterdir()]
        except OSError as error:
            raise self._failed("read", error) from error
        found = sorted(match[1] for name in names if (match := _MANIFEST.fullmatch(name)))
        if len(found) > MAX_FILES:
            raise DependencyError(f"{self.path} holds more than {MAX_FILES} exports: move old ones away")
        return found

    def last_revision(self, day: date) -> int:
        """The last of a day's; 0 where there is none."""
        revision = 0
        while revision < MAX_REVISION and (self.path / f"{stem_of(day, revision + 1)}.json").exists():
            revision += 1
        return revision

    def _settle(self) -> None:
        """The names are on the disk as well."""
        descriptor = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def _failed(self, what: str, error: OSError) -> DependencyError:
        return DependencyError(f"export_folder {self.path} cannot be {what}: {error.strerror or error}")
