"""Encodings in what a JSON file or a pickle holds, in any of the forms that people keep them in.

==========================================================================  ===========================================
the value                                                                   its encodings
==========================================================================  ===========================================
a dict with ``encodings`` (or ``embeddings``), and with ``names``,          one to each name or id, in order
``subject_ids`` or both
any other dict                                                              of each key one, or several in a list
a list of pairs of a name and an encoding                                   of each name one, or several in a list
a list of dicts with ``encoding`` (or ``embedding``), and with ``name``,    likewise
``subject_id`` or both
two lists, one of names and one of encodings                                one to each name, in order
==========================================================================  ===========================================

A name is text or a whole number, an encoding a list or an array of numbers. ``contract`` beside ``encodings``
is the embedding contract that they were made under.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from facesvc.cli.pickled_arrays import Array
from facesvc.errors import InputError
from facesvc.gallery.records import MAX_DIMENSION

MAX_ENCODINGS = 2_000_000

Floats = NDArray[np.float32]

_MAX_NUMBER = 2**63
_SHOWN = 80  # characters of a name in a place
_NO_ENCODING = f"this is no encoding, which is a list of 1 to {MAX_DIMENSION} numbers"
_FORMS = (
    'write {"encodings": [[…], …], "names": ["Jane Doe", …]}, {"Jane Doe": [[…], …]} or'
    ' [{"name": "Jane Doe", "encoding": […]}, …]'
)


@dataclass(frozen=True, slots=True, eq=False)
class Encoding:
    """A vector (D,) float32 of any length, and whose it is: by ``subject_id``, by ``name``, or by both.

    ``where`` is its place in the file, for messages.
    """

    subject_id: str
    name: str
    vector: Floats
    where: str


@dataclass(frozen=True, slots=True)
class Encodings:
    """All of a file; ``contract`` is empty where it names none."""

    contract: str
    entries: tuple[Encoding, ...]


def encodings_in(value: Any) -> Encodings:
    """The encodings in the value of a JSON file or of a pickle. Raises ``InputError`` that names the place."""
    entries: list[Encoding] = []
    for entry in _Reader().entries(value):
        if len(entries) == MAX_ENCODINGS:
            raise InputError(f"there are more than {MAX_ENCODINGS:,} encodings: take them in parts")
        entries.append(entry)
    if not entries:
        raise InputError(f"there are no encodings: {_FORMS}")
    contract = value.get("contract") if _has_columns(value) else None
    return Encodings(_text(contract, "contract"), tuple(entries))


class _Reader:
    """Reads one value. What a pickle refers to many times becomes a vector once, so that nothing grows."""

    def __init__(self) -> None:
        self._made: dict[int, Floats] = {}

    def entries(self, value: Any) -> Iterator[Encoding]:
        if _has_columns(value):
            vectors = value.get("encodings", value.get("embeddings"))
            yield from self._columns(vectors, value.get("subject_ids"), value.get("names"))
        elif isinstance(value, dict):
            for name, vectors in value.items():
                yield from self._of_one("", name, vectors, _text(name, "a name")[:_SHOWN])
        elif isinstance(value, list | tuple) and len(value) == 2 and any(map(_are_names, value)):
            names, vectors = value if _are_names(value[0]) else reversed(value)
            yield from self._columns(vectors, None, names)
        elif isinstance(value, list | tuple):
            for place, item in enumerate(value):
                yield from self._of_item(item, f"[{place}]")
        else:
            raise InputError(f"this holds no encodings: {_FORMS}")

    def _columns(self, vectors: Any, subject_ids: Any, names: Any) -> Iterator[Encoding]:
        """The encodings of two or three lists."""
        found = self._vectors(vectors, "encodings")
        columns = _texts(subject_ids, len(found), "subject_ids"), _texts(names, len(found), "names")
        for (where, vector), subject_id, name in zip(found, *columns, strict=True):
            yield Encoding(_text(subject_id, where), _text(name, where), vector, where)

    def _of_item(self, item: Any, where: str) -> Iterator[Encoding]:
        match item:
            case {"encoding": vectors} | {"embedding": vectors} | {"encodings": vectors} | {"embeddings": vectors}:
                yield from self._of_one(item.get("subject_id"), item.get("name"), vectors, where)
            case (str() | int() as name, vectors) | (vectors, str() | int() as name):
                yield from self._of_one(None, name, vectors, where)
            case _:
                raise InputError(f"{where}: this is no pair of a name and an encoding: {_FORMS}")

    def _of_one(self, subject_id: Any, name: Any, vectors: Any, where: str) -> Iterator[Encoding]:
        """One encoding of a person, or several."""
        for place, vector in self._vectors(vectors, where):
            yield Encoding(_text(subject_id, where), _text(name, where), vector, place)

    def _vectors(self, value: Any, where: str) -> list[tuple[str, Floats]]:
        """The vectors in one, or in a list of them, each with its place."""
        if _is_list(value) and not (value and isinstance(value[0], int | float)):
            return [(place, self._vector(one, place)) for place, one in _places(value, where)]
        if isinstance(value, Array) and value.values.ndim == 2:
            return list(_places(self._floats(value, where), where))
        return [(where, self._vector(value, where))]

    def _vector(self, value: Any, where: str) -> Floats:
        vector = self._floats(value, where)
        if vector.ndim != 1:
            raise InputError(f"{where}: {_NO_ENCODING}")
        return vector

    def _floats(self, value: Any, where: str) -> Floats:
        """A list or an array of numbers as float32; what is too large for it becomes infinite."""
        if id(value) not in self._made:  # whoever called has the value, so no other gets its id
            self._made[id(value)] = _floats(value, where)
        return self._made[id(value)]


def _floats(value: Any, where: str) -> Floats:
    numbers: np.ndarray[Any, Any] = np.empty(0)
    if isinstance(value, Array):
        numbers = value.values
    elif _is_list(value) and all(type(one) in (int, float) for one in value):
        try:
            numbers = np.array(value, np.float64)
        except OverflowError as error:
            raise InputError(f"{where}: one of the numbers is too large") from error
    if numbers.dtype.kind not in "fiu" or not 1 <= numbers.shape[-1] <= MAX_DIMENSION:
        raise InputError(f"{where}: {_NO_ENCODING}")
    if numbers.ndim == 2 and len(numbers) > MAX_ENCODINGS:  # rows of a byte each would be told apart by a name each
        raise InputError(f"there are more than {MAX_ENCODINGS:,} encodings: take them in parts")
    with np.errstate(over="ignore"):
        return numbers.astype(np.float32)


def _has_columns(value: Any) -> bool:
    """Whether it has a list of encodings, and beside it who they are."""
    if not isinstance(value, dict):
        return False
    return not {"encodings", "embeddings"}.isdisjoint(value) and not {"subject_ids", "names"}.isdisjoint(value)


def _are_names(value: Any) -> bool:
    if isinstance(value, Array):
        return str(value.values.dtype.kind) == "U"
    return _is_list(value) and all(isinstance(one, str) for one in value)


def _is_list(value: Any) -> bool:
    return isinstance(value, list | tuple)


def _places(values: Iterable[Any], where: str) -> Iterator[tuple[str, Any]]:
    return ((f"{where}[{place}]", value) for place, value in enumerate(values))


def _texts(column: Any, count: int, what: str) -> list[Any]:
    """A column of names or ids; of None where there is no such column."""
    if column is None:
        return [None] * count
    if isinstance(column, Array) and column.values.ndim == 1:
        column = column.values.tolist()
    if not _is_list(column):
        raise InputError(f"{what}: this is no list")
    if len(column) != count:
        raise InputError(f"there are {count} encodings, but {len(column)} {what}")
    return list(column)


def _text(value: Any, where: str) -> str:
    """A name or an id, empty where there is none; some number their people."""
    if value is None or isinstance(value, str):
        return value or ""
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) < _MAX_NUMBER:
        return str(value)
    raise InputError(f"{where}: a text is needed here")
