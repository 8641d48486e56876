"""A file that comes piece by piece: what is there of it, what is missing, and when it is whole.

``Part`` is the file on its way: its bytes lie in ``.NAME.part`` beside the place where they will go, and beside them a
note says which answer of which server they are from, so that a later try can go on. ``plan`` says which chunks of a new
version lie in the old one already.
"""

import hashlib
import json
import os
import shutil
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

from facesvc.errors import DependencyError, WeightsError
from facesvc.models import folders, manifest

CHUNK_BYTES = 1 << 20
"""Bytes of every chunk but the last."""
MAX_RUNS = 32
"""As many stretches are asked for one by one; where there are more, neighbours are asked for together."""


def hashes(source: Path | BinaryIO) -> tuple[str, ...]:
    """The SHA-256 in hex of each chunk; an open file is read from where it stands. Raises ``OSError``."""
    if isinstance(source, Path):
        with source.open("rb") as file:
            return hashes(file)
    return tuple(hashlib.sha256(chunk).hexdigest() for chunk in iter(lambda: source.read(CHUNK_BYTES), b""))


def extent(chunks: range, size_bytes: int) -> tuple[int, int]:
    """Where neighbouring chunks of a file of ``size_bytes`` start and end, in bytes; the end is not part of them."""
    return chunks.start * CHUNK_BYTES, min(chunks.stop * CHUNK_BYTES, size_bytes)


@dataclass(frozen=True, slots=True)
class Plan:
    """How a new file comes about: ``copies`` are pairs (chunk of the new, chunk of the old), ``runs`` are fetched."""

    copies: tuple[tuple[int, int], ...]
    runs: tuple[range, ...]


def plan(old: Sequence[str], new: Sequence[str]) -> Plan:
    """What of the file with the chunks ``new`` lies anywhere in the one with the chunks ``old``, and what does not."""
    place = {sha256: at for at, sha256 in enumerate(old)}
    runs = _runs([at for at, sha256 in enumerate(new) if sha256 not in place])
    fetched = {at for run in runs for at in run}
    return Plan(tuple((at, place[sha256]) for at, sha256 in enumerate(new) if at not in fetched), runs)


def _runs(missing: Sequence[int]) -> tuple[range, ...]:
    """Stretches that hold all ``missing`` (ascending); they are parted at the widest gaps, and at most ``MAX_RUNS``."""
    if not missing:
        return ()
    gaps = [(left, right) for left, right in pairwise(missing) if right - left > 1]
    parted = sorted(sorted(gaps, key=lambda gap: gap[0] - gap[1])[: MAX_RUNS - 1])
    starts = [missing[0], *(right for _, right in parted)]
    ends = [*(left for left, _ in parted), missing[-1]]
    return tuple(range(start, end + 1) for start, end in zip(starts, ends, strict=True))


def copy(old: Path, part: "Part", made: Plan) -> int:
    """Puts every chunk that ``old`` has where it belongs; how many bytes they are. Raises ``OSError`` for ``old``."""
    copied = 0
    with old.open("rb") as file:
        for to, at in made.copies:
            file.seek(at * CHUNK_BYTES)
            chunk = file.read(CHUNK_BYTES)
            part.write_at(to * CHUNK_BYTES, chunk)
            copied += len(chunk)
    return copied


def take(part: "Part", missing: deque[int], expected: Sequence[str], size_bytes: int, body: Iterable[bytes]) -> None:
    """Puts the chunks that ``body`` brings into ``part``, and takes each that is whole and right from ``missing``.

    ``body`` starts with the first chunk of ``missing``, which are neighbours, and may break off anywhere. Raises
    ``WeightsError`` for a chunk with another SHA-256 than ``expected`` has.
    """
    waiting = bytearray()
    for data in body:
        waiting += data
        while missing:
            start, end = extent(range(missing[0], missing[0] + 1), size_bytes)
            if len(waiting) < end - start:
                break
            chunk = bytes(waiting[: end - start])
            del waiting[: end - start]
            found = hashlib.sha256(chunk).hexdigest()
            if found != expected[missing[0]]:
                raise WeightsError(
                    f"{part.name}: bytes {start} to {end - 1} have the SHA-256 {found}; expected was "
                    f"{expected[missing[0]]}; nothing was kept; check the mirror setting"
                )
            part.write_at(start, chunk)
            missing.popleft()
        if not missing:
            return


class Part:
    """The bytes of ``target`` that are there so far; a context manager, for one writer at a time.

    ``origin`` says in any words what is fetched and from where: what another origin left is thrown away. What the
    block leaves unfinished stays for a later try where ``validator`` can tell whether the server still has the same,
    and where nothing is known to be wrong with it. Every method raises ``DependencyError`` in words for a disk that
    is full, read-only or not there, and then nothing stays.
    """

    size_bytes = 0
    validator: str | None = None

    def __init__(self, target: Path, origin: str) -> None:
        self.name = target.name
        self._target = target
        self._path = target.with_name(f".{target.name}.part")
        self._note = target.with_name(f".{target.name}.part.json")
        self._origin = hashlib.sha256(origin.encode()).hexdigest()

    def __enter__(self) -> Self:
        with self._writing():
            self.validator = self._noted()
            self._file = self._path.open("w+b" if self.validator is None else "r+b")
            self.size_bytes = self._file.seek(0, os.SEEK_END)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            with self._writing():
                self._file.close()
        finally:
            if self.validator is None or isinstance(error, WeightsError):
                self._discard()

    def restart(self, validator: str | None) -> None:
        """Starts from nought with an answer that ``validator`` identifies, if there is one."""
        with self._writing():
            self._file.seek(0)
            self._file.truncate()
            self.size_bytes, self.validator = 0, validator
            # Before the first byte of that answer: bytes without a note are thrown away, never taken for another's.
            if validator is None:
                self._note.unlink(missing_ok=True)
            else:
                self._note.write_text(json.dumps({"origin": self._origin, "validator": validator}))

    def write(self, data: bytes) -> None:
        """Adds ``data`` at the end."""
        self.write_at(self.size_bytes, data)

    def write_at(self, start: int, data: bytes) -> None:
        """Puts ``data`` where it belongs; what is left out before it reads as zeros."""
        with self._writing():
            self._file.seek(start)
            self._file.write(data)
            self.size_bytes = max(self.size_bytes, start + len(data))

    def require_space(self, needed_bytes: int) -> None:
        """Raises ``DependencyError`` where fewer than ``needed_bytes`` are free."""
        with self._writing():
            free = shutil.disk_usage(self._target.parent).free
        if needed_bytes > free:
            raise DependencyError(
                f"{self.name} needs {needed_bytes} bytes more in {self._target.parent}, where {free} are free; "
                f"free space there or configure another cache folder"
            )

    def sha256(self) -> str:
        """The SHA-256 in hex of what is there, once it is on the disk."""
        with self._writing():
            self._file.flush()
            os.fsync(self._file.fileno())
            self._file.seek(0)
            return hashlib.file_digest(self._file, "sha256").hexdigest()

    def publish(self, found: str, sha256: str | None) -> None:
        """Puts the file in its place, at once, for good also in a power cut.

        Raises ``WeightsError`` where ``found``, its SHA-256, is not the one that was expected, if one was.
        """
        if sha256 not in (None, found):
            raise WeightsError(
                f"{self.name} has the SHA-256 {found}; expected was {sha256}; nothing was kept: what was fetched is "
                f"damaged or another version; check the mirror setting"
            )
        with self._writing():
            self._path.replace(self._target)
            self.validator = None
            folders.sync(self._target.parent)

    def _noted(self) -> str | None:
        """The validator of the bytes that an earlier try left, if they are of the same origin."""
        try:
            note = manifest.read(self._note)
            usable = note.text("origin") == self._origin and self._path.stat().st_size > 0
            return note.text("validator") if usable else None
        except (FileNotFoundError, ValueError):
            return None

    def _discard(self) -> None:
        with self._writing():
            self._path.unlink(missing_ok=True)
            self._note.unlink(missing_ok=True)

    @contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            with folders.blaming(self._path):
                yield
        except DependencyError:
            self.validator = None
            raise
