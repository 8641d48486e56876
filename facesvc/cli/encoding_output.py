"""Encodings, written: ``.npz`` and JSON with all that is known, pickles as users of ``face_recognition`` have them."""

import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import IO

import numpy as np

from facesvc.cli.encoding_entries import Encodings
from facesvc.cli.pickles import MAX_NUMBERS
from facesvc.cli.private_files import check_new, new_file
from facesvc.errors import InputError

DLIB_CONTRACTS = "dlib-resnet29-"
"""What the ids of contracts of dlib's network begin with."""
# facesvc keeps vectors of unit length; dlib's are longer, by so much on average (1.42 on 1,371 photos of LFW, 1.39 on
# 16 of dlib's own chips). Of this length two vectors are as far apart as dlib's would be, and the distance of 0.6 up to
# which face_recognition takes two faces for one person means what it did.
DLIB_LENGTH = 1.4


def check_writable(path: Path) -> None:
    """Refuse a name that encodings are not written to, before the work is done. Raises ``InputError``."""
    if path.suffix.lower() not in _WRITERS:
        raise InputError(f"cannot write encodings to {path}: choose a name that ends in {', '.join(_WRITERS)}")
    check_new(path)


def write(path: Path, encodings: Encodings) -> None:
    """A new file; the end of its name says what it is. Raises ``InputError``, ``DependencyError``."""
    check_writable(path)
    with new_file(path) as file:
        _WRITERS[path.suffix.lower()](file, encodings)


def _write_npz(file: IO[bytes], encodings: Encodings) -> None:
    entries = encodings.entries
    np.savez(
        file,
        embeddings=np.stack([entry.vector for entry in entries]),
        subject_ids=np.array([entry.subject_id for entry in entries]),
        names=np.array([entry.name for entry in entries]),
        contract=np.array(encodings.contract),
    )


def _write_json(file: IO[bytes], encodings: Encodings) -> None:
    entries = encodings.entries
    value = {
        "contract": encodings.contract,
        "subject_ids": [entry.subject_id for entry in entries],
        "names": [entry.name for entry in entries],
        "encodings": _lists(encodings, 1.0),
    }
    file.write(json.dumps(value, ensure_ascii=False).encode())


def _write_pickle(file: IO[bytes], encodings: Encodings) -> None:
    """Lists, not arrays: numpy 1 cannot read the arrays that numpy 2 pickles."""
    length = DLIB_LENGTH if encodings.contract.startswith(DLIB_CONTRACTS) else 1.0
    value = {"encodings": _lists(encodings, length), "names": _names(encodings)}
    pickle.dump(value, file, protocol=2)


def _names(encodings: Encodings) -> list[str]:
    """Who each encoding shows: by name, by both where two people have one name, by id where there is no name."""
    ids: dict[str, set[str]] = {}
    for entry in encodings.entries:
        ids.setdefault(entry.name, set()).add(entry.subject_id)
    unique = {name for name, own in ids.items() if len(own) == 1}
    return [
        (entry.name if entry.name in unique else f"{entry.name} ({entry.subject_id})")
        if entry.name
        else entry.subject_id
        for entry in encodings.entries
    ]


def _lists(encodings: Encodings, length: float) -> list[list[float]]:
    """The vectors as lists, of this length. Raises ``InputError`` where they are too many to be read again."""
    count = sum(len(entry.vector) for entry in encodings.entries)
    if count > MAX_NUMBERS:
        raise InputError(f"these are {count:,} numbers, over {MAX_NUMBERS:,}: export them as .npz")
    # Nine digits hold a float32 exactly.
    return [[float(f"{value * length:.9g}") for value in entry.vector.tolist()] for entry in encodings.entries]


_WRITERS: dict[str, Callable[[IO[bytes], Encodings], None]] = {
    ".npz": _write_npz,
    ".json": _write_json,
    ".pickle": _write_pickle,
    ".pkl": _write_pickle,
}
