"""The manifest of a backup: what is in it, sealed under a key of the backup's own, which the master key wraps.

A file of two lines: which format it is with the wrapped key, and the sealed rest. When the master key is exchanged,
only the first line is written anew. Pure values.
"""

import base64
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from facesvc.database import from_microseconds, to_microseconds
from facesvc.errors import DependencyError, PreconditionError
from facesvc.gallery.crypto import Cipher, SealBrokenError, associated

FORMAT = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """A backup. ``chunks`` in order make up the copy of ``size_bytes`` bytes, whose SHA-256 is ``digest``.

    ``steps`` are the migrations that the database had seen, by schema, and ``change`` is its last change.
    """

    name: str
    create_time: datetime
    steps: Mapping[str, Sequence[str]]
    contract_id: str
    change: int
    subject_count: int
    sample_count: int
    size_bytes: int
    new_bytes: int
    digest: str
    chunk_key: bytes = field(repr=False)
    chunks: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Opened:
    """A manifest, and the key of its backup."""

    manifest: Manifest
    key: bytes = field(repr=False)

    @property
    def cipher(self) -> Cipher:
        """That key."""
        return Cipher(self.key)

    @property
    def chunk_cipher(self) -> Cipher:
        """The key of the chunks, which backups share."""
        return Cipher(self.manifest.chunk_key)


def seal(opened: Opened, master: Cipher) -> bytes:
    """The content of the file."""
    name = opened.manifest.name
    rest = opened.cipher.seal(json.dumps(_to_object(opened.manifest)).encode(), associated("backup manifest", name))
    return _first_line(name, opened.key, master) + rest


def unseal(content: bytes, name: str, masters: Sequence[Cipher]) -> Opened:
    """The manifest from its file.

    Raises ``PreconditionError`` for one of a newer facesvc, ``DependencyError`` where none of ``masters`` opens it
    (``KEY_WRONG``) or it is damaged (``BACKUP_DAMAGED``).
    """
    key, rest = _unwrap(content, name, masters)
    try:
        found = json.loads(Cipher(key).unseal(rest, associated("backup manifest", name)))
        return Opened(_from_object(name, found), key)
    except (SealBrokenError, ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
        raise damaged(name, "its manifest was changed") from error


def rewrapped(content: bytes, name: str, masters: Sequence[Cipher]) -> bytes:
    """The same file with its key wrapped by the first of ``masters``; as it is, where it already is. As ``unseal``."""
    key, rest = _unwrap(content, name, masters)
    if _wrapped_by(masters[0], _wrapped(content, name)[0], name) is not None:
        return content
    return _first_line(name, key, masters[0]) + rest


def damaged(name: str, what: str) -> DependencyError:
    """An error that says what is wrong with a backup, and what to do."""
    message = f"backup {name} cannot be restored: {what}; take another one, or a copy of the folder from elsewhere"
    return DependencyError(message, reason="BACKUP_DAMAGED")


def _first_line(name: str, key: bytes, master: Cipher) -> bytes:
    wrapped = master.seal(key, _key_name(name))
    line = {"facesvc": "backup", "format": FORMAT, "wrapped": base64.b64encode(wrapped).decode()}
    return json.dumps(line).encode() + b"\n"


def _unwrap(content: bytes, name: str, masters: Sequence[Cipher]) -> tuple[bytes, bytes]:
    """The key of the backup, and what it seals."""
    wrapped, rest = _wrapped(content, name)
    for master in masters:
        key = _wrapped_by(master, wrapped, name)
        if key is not None:
            return key, rest
    message = (
        f"backup {name} is sealed under another master key than the one that is here; put that one back, or name it in"
        " gallery.previous_key"
    )
    raise DependencyError(message, reason="KEY_WRONG")


def _wrapped_by(master: Cipher, wrapped: bytes, name: str) -> bytes | None:
    try:
        return master.unseal(wrapped, _key_name(name))
    except SealBrokenError:
        return None


def _wrapped(content: bytes, name: str) -> tuple[bytes, bytes]:
    first, _, rest = content.partition(b"\n")
    try:
        line = json.loads(first)
        number = int(line["format"])
        if line == {"facesvc": "backup", "format": FORMAT, "wrapped": line["wrapped"]}:
            return base64.b64decode(line["wrapped"], validate=True), rest
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
        raise damaged(name, "its manifest is none") from error
    if number <= FORMAT:
        raise damaged(name, "its manifest is none")
    message = f"backup {name} was made by a newer facesvc (it has format {number}); restore it with that version"
    raise PreconditionError(message, reason="BACKUP_TOO_NEW")


def _key_name(name: str) -> bytes:
    return associated("backup key", name, str(FORMAT))


def _to_object(manifest: Manifest) -> dict[str, Any]:
    return {
        "create_time": to_microseconds(manifest.create_time),
        "steps": {schema: list(steps) for schema, steps in manifest.steps.items()},
        "contract_id": manifest.contract_id,
        "change": manifest.change,
        "subject_count": manifest.subject_count,
        "sample_count": manifest.sample_count,
        "size_bytes": manifest.size_bytes,
        "new_bytes": manifest.new_bytes,
        "digest": manifest.digest,
        "chunk_key": manifest.chunk_key.hex(),
        "chunks": list(manifest.chunks),
    }


def _from_object(name: str, found: dict[str, Any]) -> Manifest:
    changed = {
        "create_time": from_microseconds(found["create_time"]),
        "chunk_key": bytes.fromhex(found["chunk_key"]),
        "chunks": tuple(found["chunks"]),
    }
    return Manifest(name=name, **(found | changed))
