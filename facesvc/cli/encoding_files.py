"""Files of encodings, read: ``.npz``, JSON, and the pickles of people who used the ``face_recognition`` library.

What a file is, its first bytes tell. An ``.npz`` has ``embeddings`` (N, D), with ``subject_ids`` (N,), ``names`` (N,)
or both, and may have ``contract``; for the others see ``encoding_entries``. Nothing that a file says is run, and how
much comes out of it is looked at before room is made for that: files come from anywhere.
"""

import json
import math
import zipfile
from pathlib import Path
from typing import IO, Any

import numpy as np

from facesvc.cli import pickles
from facesvc.cli.encoding_entries import Encodings, encodings_in
from facesvc.cli.pickled_arrays import Array
from facesvc.errors import InputError

MAX_BYTES = 256 << 20  # of a JSON file or a pickle
MAX_LISTS = 2_000_000  # lists and objects in a JSON file

# Numbers do not pack well: an array in an .npz may unpack to so many bytes, or to so many times its own.
_MAX_UNPACKED_BYTES = 256 << 20
_MAX_UNPACKED_RATIO = 4
_MAX_MEMBERS = 100
_NPZ = ("embeddings", "subject_ids", "names", "contract")
# Others can only be unpacked as a whole, however much that is; numpy uses neither.
_PACKINGS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_ZIP, _ZIP_ENTRY = b"PK\x03\x04", b"PK\x01\x02"
_CHUNK_BYTES = 1 << 20

AnyArray = np.ndarray[Any, Any]


def read(path: Path) -> Encodings:
    """The encodings in a file. Raises ``InputError`` that names the file, and the place in it."""
    try:
        with path.open("rb") as file:
            return decode(file)
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or error}") from error
    except InputError as error:
        raise InputError(f"{path}: {error.message}") from error


def decode(file: IO[bytes]) -> Encodings:
    """The encodings in a file that can be sought in. Raises ``InputError``."""
    if file.read(len(_ZIP)) == _ZIP:
        return encodings_in(_npz(file))
    file.seek(0)
    data = file.read(MAX_BYTES + 1)
    if len(data) > MAX_BYTES:
        raise InputError(f"over {MAX_BYTES >> 20} MiB: save it as .npz (numpy.savez), or in parts")
    if data.lstrip(b"\xef\xbb\xbf \t\r\n")[:1] in (b"{", b"["):
        return encodings_in(_json(data))
    return encodings_in(pickles.load(data))


def _json(data: bytes) -> Any:
    """The value of a JSON file."""
    if data.count(b"[") + data.count(b"{") > MAX_LISTS or data.count(b",") > pickles.MAX_NUMBERS:
        raise InputError(f"over {MAX_LISTS:,} lists or {pickles.MAX_NUMBERS:,} numbers: save it as .npz, or in parts")
    try:
        return json.loads(data)
    except (ValueError, RecursionError) as error:
        raise InputError(f"this is no JSON: {error}") from error


def _npz(file: IO[bytes]) -> dict[str, Any]:
    """What is wanted of an ``.npz``, as a pickle would have it."""
    found = _arrays(file)
    embeddings, contract = found.pop("embeddings", None), found.pop("contract", np.array([""]))
    if embeddings is None or not found:
        raise InputError("this .npz has no embeddings (N, D), or neither subject_ids (N,) nor names (N,)")
    if embeddings.ndim != 2 or embeddings.dtype.kind != "f":
        raise InputError("the embeddings of this .npz are no (N, D) floats")
    if contract.dtype.kind != "U" or contract.size != 1:
        raise InputError("the contract of this .npz is no text")
    columns = {name: Array(column) for name, column in found.items()}
    return {"embeddings": Array(embeddings), "contract": contract.item(), **columns}


def _arrays(file: IO[bytes]) -> dict[str, AnyArray]:
    """Those arrays of an ``.npz`` that are wanted."""
    if _count(file, _ZIP_ENTRY) > _MAX_MEMBERS:
        raise InputError(f"this .npz holds more than {_MAX_MEMBERS} arrays")
    try:
        with zipfile.ZipFile(file) as archive:
            present = set(archive.namelist())
            return {name: _array(archive, name) for name in _NPZ if f"{name}.npy" in present}
    except InputError:
        raise
    except Exception as error:  # what zipfile, zlib and numpy raise for a damaged file is written down nowhere
        raise InputError(f"this .npz is damaged: {error}") from error


def _count(file: IO[bytes], mark: bytes) -> int:
    """How often a file has some bytes."""
    file.seek(0)
    count, rest = 0, b""
    while chunk := file.read(_CHUNK_BYTES):
        block = rest + chunk
        count += block.count(mark)
        rest = block[1 - len(mark) :]
    return count


def _array(archive: zipfile.ZipFile, name: str) -> AnyArray:
    """An array of an ``.npz``; no room is made for it before its size was looked at."""
    member = archive.getinfo(f"{name}.npy")
    if member.compress_type not in _PACKINGS:
        raise InputError("this .npz is packed in a way that numpy does not use")
    with archive.open(member) as file:
        shape, by_columns, dtype = _header(file)
        size = math.prod(shape) * dtype.itemsize
        if dtype.kind not in "fiuU" or min(shape, default=0) < 0:
            raise InputError(f"{name} of this .npz is no array of numbers or text")
        if size > max(_MAX_UNPACKED_BYTES, _MAX_UNPACKED_RATIO * member.compress_size):
            raise InputError(f"{name} of this .npz unpacks to {size >> 20:,} MiB: save it with numpy.savez")
        raw = file.read(size)
    array: AnyArray = np.frombuffer(raw, dtype).reshape(shape, order="F" if by_columns else "C")
    if dtype.kind == "U":
        array.tolist()  # raises for what is no text
    return array


def _header(file: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """Shape, whether it is written column by column, and type of an array."""
    if np.lib.format.read_magic(file) == (1, 0):
        return np.lib.format.read_array_header_1_0(file)
    return np.lib.format.read_array_header_2_0(file)
