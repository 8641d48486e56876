"""What packs of every kind consist of: files with their hashes, where they came from, licences that were accepted."""

import hashlib
import io
import re
from collections.abc import Iterable
from dataclasses import dataclass

from facesvc.models import manifest
from facesvc.models.chunks import CHUNK_BYTES, hashes

PLAIN_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}")
_SHA256 = re.compile(r"[0-9a-f]{64}")


def check(condition: object, message: str) -> None:
    """Raises ``ValueError`` with that message unless the condition holds."""
    if not condition:
        raise ValueError(message)


@dataclass(frozen=True, slots=True)
class Source:
    """A weight file that somebody else published: ``file`` is its path within the folder of ``package``."""

    package: str
    version: str
    file: str
    sha256: str
    licence: str

    def __post_init__(self) -> None:
        check(_SHA256.fullmatch(self.sha256), f"{self.sha256!r} is not a SHA-256")


@dataclass(frozen=True, slots=True)
class StoredFile:
    """A file of the pack, by its plain name; ``chunks`` are the SHA-256 of each of its parts (see ``chunks``)."""

    name: str
    sha256: str
    size_bytes: int
    chunks: tuple[str, ...]

    def __post_init__(self) -> None:
        check(PLAIN_NAME.fullmatch(self.name), f"{self.name!r} is not a plain file name")
        for sha256 in (self.sha256, *self.chunks):
            check(_SHA256.fullmatch(sha256), f"{sha256!r} is not a SHA-256")
        expected = -(-self.size_bytes // CHUNK_BYTES)
        check(len(self.chunks) == expected, f"{self.name} has {len(self.chunks)} chunks, not {expected}")


@dataclass(frozen=True, slots=True)
class Acceptance:
    """That somebody accepted a licence: its name, the SHA-256 of its text, and when (RFC 3339)."""

    licence: str
    text_sha256: str
    time: str

    def __post_init__(self) -> None:
        check(_SHA256.fullmatch(self.text_sha256), f"{self.text_sha256!r} is not a SHA-256")


def stored(name: str, content: bytes) -> StoredFile:
    """The record of a file with this content."""
    return StoredFile(name, hashlib.sha256(content).hexdigest(), len(content), hashes(io.BytesIO(content)))


def licences(sources: Iterable[Source]) -> tuple[str, ...]:
    """Under which licence each source package comes: ``mtcnn 1.0.0: MIT``."""
    return tuple(dict.fromkeys(f"{source.package} {source.version}: {source.licence}" for source in sources))


def read_sources(fields: manifest.Fields) -> tuple[Source, ...]:
    """The sources that a manifest names. Raises ``ValueError``, as the others here do."""
    return tuple(
        Source(*(source.text(name) for name in ("package", "version", "file", "sha256", "licence")))
        for source in fields.objects("sources")
    )


def read_files(fields: manifest.Fields) -> tuple[StoredFile, ...]:
    """The files that a manifest names."""
    return tuple(
        StoredFile(file.text("name"), file.text("sha256"), file.integer("size_bytes"), file.words("chunks"))
        for file in fields.objects("files")
    )


def read_acceptances(fields: manifest.Fields) -> tuple[Acceptance, ...]:
    """The acceptances that a manifest names."""
    return tuple(
        Acceptance(*(acceptance.text(name) for name in ("licence", "text_sha256", "time")))
        for acceptance in fields.objects("acceptances")
    )
