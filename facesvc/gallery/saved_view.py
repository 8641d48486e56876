"""The view of a gallery in a file, so that a large one is searchable within seconds of a start.

The store is the truth; what is here is only taken over for those who have not changed since. The file holds, for each
subject, the rows of the index as they are in memory, sealed with the subject's own key: a file from before an erasure
says nothing about who was erased. It may be deleted at any time.

Layout, little-endian: a magic word, then entries: lengths of the collection's and the subject's id, number of the
subject's last change, length of what is sealed; then the two ids and the sealed value. An entry without a subject comes
before those of its collection: its sealed value is what the index was trained to.
"""

import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from facesvc.errors import InputError
from facesvc.gallery.crypto import Cipher, SealBrokenError, associated

_MAGIC = b"facesvc view 1\n"
_HEAD = struct.Struct("<HHQI")
_ULID_SIZE = 26  # as text
_ROW_SIZE = 8
_MAX_SEALED = 1 << 26

Key = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Part:
    """The rows of one subject: ids (N,) int64, samples (N), and codes (N, C) uint8 of the index."""

    rows: NDArray[np.int64]
    sample_ids: tuple[str, ...]
    codes: NDArray[np.uint8]

    def to_bytes(self) -> bytes:
        """For ``from_bytes``."""
        return self.rows.astype("<i8").tobytes() + "".join(self.sample_ids).encode() + self.codes.tobytes()

    @classmethod
    def from_bytes(cls, data: bytes, width: int) -> "Part":
        """Raises ``InputError`` for what cannot be rows with codes of ``width`` bytes."""
        count, rest = divmod(len(data), _ROW_SIZE + _ULID_SIZE + width)
        if rest:
            raise InputError("the saved view holds a part of a row")
        codes = (_ROW_SIZE + _ULID_SIZE) * count
        try:
            ulids = data[_ROW_SIZE * count : codes].decode("ascii")
        except UnicodeDecodeError as error:
            raise InputError("the saved view holds an id that is none") from error
        return cls(
            np.frombuffer(data, "<i8", count).astype(np.int64),
            tuple(ulids[at : at + _ULID_SIZE] for at in range(0, len(ulids), _ULID_SIZE)),
            np.frombuffer(data, np.uint8, offset=codes).reshape(count, width),
        )


@dataclass(frozen=True, slots=True)
class Entry:
    """A sealed value of the file: of a subject at ``change``, or, without one, of a collection."""

    key: Key
    change: int
    sealed: bytes


def seal(entry_key: Key, change: int, contract_id: str, value: bytes, cipher: Cipher) -> Entry:
    """A value as an entry of the file."""
    return Entry(entry_key, change, cipher.seal(value, _name(entry_key, change, contract_id)))


def unseal(entry: Entry, contract_id: str, cipher: Cipher) -> bytes | None:
    """The value of an entry; None where it is of another contract, or was changed."""
    try:
        return cipher.unseal(entry.sealed, _name(entry.key, entry.change, contract_id))
    except SealBrokenError:
        return None


def _name(key: Key, change: int, contract_id: str) -> bytes:
    return associated("view", *key, str(change), contract_id)


def write(path: Path, entries: Iterator[Entry]) -> None:
    """A file of ``entries`` at ``path``, as a whole or not at all. Raises ``OSError``."""
    draft = path.with_name(f"{path.name}.new")
    try:
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(_MAGIC)
            for entry in entries:
                ids = [one.encode() for one in entry.key]
                file.write(_HEAD.pack(*map(len, ids), entry.change, len(entry.sealed)) + b"".join(ids) + entry.sealed)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)


def read(path: Path) -> Iterator[Entry]:
    """The entries of a file, as far as it goes; none where there is no file, or another one."""
    try:
        file = path.open("rb")
    except OSError:
        return
    with file:
        if file.read(len(_MAGIC)) != _MAGIC:
            return
        while (entry := _read_entry(file)) is not None:
            yield entry


def _read_entry(file: BinaryIO) -> Entry | None:
    head = file.read(_HEAD.size)
    if len(head) < _HEAD.size:
        return None
    collection_size, subject_size, change, sealed_size = _HEAD.unpack(head)
    if sealed_size > _MAX_SEALED:
        return None
    data = file.read(collection_size + subject_size + sealed_size)
    if len(data) < collection_size + subject_size + sealed_size:
        return None
    try:
        ids = data[:collection_size].decode(), data[collection_size : collection_size + subject_size].decode()
    except UnicodeDecodeError:
        return None
    return Entry(ids, change, data[collection_size + subject_size :])
