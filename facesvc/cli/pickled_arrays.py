"""What of numpy's a pickle may hold: arrays of numbers or text, of one axis or two, and single values of theirs.

Numpy writes each as a call with arguments. The calls are told by their names and carried out by the code here; nothing
is imported for it. An array never takes more room than its bytes in the file. A pickle may refer to the same bytes any
number of times, so its reader adds up ``size_of`` what was made.
"""

import enum
import re
import sys
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from facesvc.errors import InputError

ADVICE = "it was not run; save the encodings as .npz (numpy.savez) or JSON and import that"

_MAX_AXES = 2
_TYPE = re.compile(r"[<>=|]?(f[248]|[iu][1248]|U[0-9]{1,4})")
_SHOWN = 80  # characters of a name in a message


class Call(enum.Enum):
    """What a pickle may name."""

    RECONSTRUCT = "an array, still empty"
    FROM_BUFFER = "an array of these bytes"
    SCALAR = "a number or text of these bytes"
    DTYPE = "how bytes become values"
    NDARRAY = "the kind of an array"
    ENCODE = "bytes that are written as text"
    BYTES = "no bytes"


# numpy 1 writes numpy.core, numpy 2 numpy._core. The last three are what protocols 0 to 2 have in place of bytes.
_CALLS = {
    ("numpy.core.multiarray", "_reconstruct"): Call.RECONSTRUCT,
    ("numpy._core.multiarray", "_reconstruct"): Call.RECONSTRUCT,
    ("numpy.core.multiarray", "scalar"): Call.SCALAR,
    ("numpy._core.multiarray", "scalar"): Call.SCALAR,
    ("numpy.core.numeric", "_frombuffer"): Call.FROM_BUFFER,
    ("numpy._core.numeric", "_frombuffer"): Call.FROM_BUFFER,
    ("numpy", "dtype"): Call.DTYPE,
    ("numpy", "ndarray"): Call.NDARRAY,
    ("_codecs", "encode"): Call.ENCODE,
    ("__builtin__", "bytes"): Call.BYTES,
    ("builtins", "bytes"): Call.BYTES,
}


@dataclass(slots=True, eq=False)
class Array:
    """An array of a pickle; it comes into being empty and is filled later."""

    values: np.ndarray[Any, Any]


@dataclass(slots=True, eq=False)
class Type:
    """What the values of an array are, such as ``f8``; their byte order is told later."""

    name: str
    order: str = "="

    @property
    def dtype(self) -> np.dtype[Any]:
        """The same for numpy."""
        return np.dtype(self.order + self.name)


def damaged(what: str) -> InputError:
    """A pickle that nobody wrote so."""
    return InputError(f"this pickle is damaged: {what}")


def shown(text: str) -> str:
    """Text of a file's as it can be printed."""
    return ascii(text[:_SHOWN])[1:-1]


def named(module: str, name: str) -> Call:
    """What is called so. Raises ``InputError`` for all but numpy's own."""
    if (call := _CALLS.get((module, name))) is None:
        raise InputError(f"this pickle wants to run {shown(f'{module}.{name}')}; {ADVICE}")
    return call


def carried_out(call: Call, arguments: tuple[Any, ...]) -> Array | Type | bytes | float | str:
    """What a call makes. Raises ``InputError`` for arguments that numpy does not write."""
    match call, arguments:
        case Call.BYTES, ():
            return b""
        case Call.ENCODE, (str(text), "latin1"):
            return _encoded(text)
        case Call.DTYPE, (str(name), *_):
            return _type(name)
        case Call.RECONSTRUCT, (Call.NDARRAY, tuple(), bytes()):
            return Array(np.empty(0, np.float32))
        case Call.FROM_BUFFER, (bytes() | bytearray() as raw, Type() as kind, tuple(shape), "C" | "F" as order):
            return Array(_array(raw, kind, shape, order))
        case Call.SCALAR, (Type() as kind, bytes(raw)):
            return _scalar(raw, kind)
        case _:
            raise InputError(f"this pickle makes {call.value} in a way that numpy does not: {ADVICE}")


def size_of(made: object) -> int:
    """How many bytes were read, or copied, to make a value."""
    match made:
        case Array(values):
            return int(values.nbytes)
        case str():
            return 4 * len(made)
        case bytes():
            return len(made)
        case _:
            return 0


def fill(target: object, state: object) -> None:
    """Give an array its values, or a type its byte order. Raises ``InputError`` for anything else."""
    match target, state:
        case Type(), (int(), "<" | ">" | "=" | "|" as order, None, None, None, *_):
            target.order = order
        case Array(), (int(), tuple(shape), Type() as kind, bool(by_columns), bytes(raw)):
            target.values = _array(raw, kind, shape, "F" if by_columns else "C")
        case _:
            raise InputError(f"this pickle sets up an object that is no plain array of numbers: {ADVICE}")


def _type(name: str) -> Type:
    found = _TYPE.fullmatch(name)
    if not found:
        raise InputError(f"this pickle holds values of numpy's type {shown(name)}: only numbers and text are read")
    return Type(found[1])


def _scalar(raw: bytes, kind: Type) -> float | str:
    """The value whose bytes these are; an empty text has none."""
    value: float | str = "" if kind.name == "U0" and not raw else _array(raw, kind, (1,), "C").tolist()[0]
    return value


def _array(
    raw: bytes | bytearray, kind: Type, shape: tuple[Any, ...], order: Literal["C", "F"]
) -> np.ndarray[Any, Any]:
    """The array whose bytes these are, neither more nor less; a view of them."""
    if not 1 <= len(shape) <= _MAX_AXES or not all(type(axis) is int and axis >= 0 for axis in shape):
        raise InputError(f"this pickle holds an array that does not have 1 or {_MAX_AXES} axes")
    rows, columns = (*shape, 1)[:2]
    if rows * columns * kind.dtype.itemsize != len(raw) or not kind.dtype.itemsize:
        raise damaged("an array does not have as many bytes as its shape says")
    if kind.dtype.kind == "U" and np.frombuffer(raw, kind.order + "u4").max(initial=0) > sys.maxunicode:
        raise damaged("a text has a character that there is not")
    return np.frombuffer(raw, kind.dtype).reshape(shape, order=order)


def _encoded(text: str) -> bytes:
    try:
        return text.encode("latin-1")
    except UnicodeEncodeError as error:
        raise damaged("bytes in it are no bytes") from error
