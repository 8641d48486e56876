"""Pickles are read without running them: what numpy and pickle write comes back, and nothing else does anything."""

import builtins
import io
import os
import pickle
import pickletools
import struct
from collections import OrderedDict
from contextlib import suppress
from pathlib import Path
from typing import Any

import hypothesis.extra.numpy as arrays
import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import example, given

from facesvc.cli import pickled_arrays, pickles
from facesvc.cli.pickles import Array, load
from facesvc.errors import InputError

PROTOCOLS = st.integers(0, pickle.HIGHEST_PROTOCOL)
FLOATS = st.sampled_from(["<f2", "<f4", "<f8", ">f4", ">f8"])
NUMBERS = st.one_of(FLOATS, st.sampled_from(["<i8", ">i4", "u1", "<u2"]))
NAMES = st.text(max_size=12)
VECTORS = arrays.arrays(NUMBERS, arrays.array_shapes(min_dims=1, max_dims=2, min_side=0, max_side=5))
TEXTS = arrays.arrays(st.sampled_from(["<U3", ">U7"]), st.integers(0, 4), elements=st.text("aé\U0001f600 ", max_size=3))
SCALARS = st.one_of(
    *(st.none(), st.booleans(), st.integers(), st.floats(), NAMES, st.binary(max_size=9)),
    *(arrays.from_dtype(np.dtype("f8")), arrays.from_dtype(np.dtype(">f4"))),
    st.builds(np.str_, st.text("aé", max_size=3)),
)
VALUES = st.recursive(
    SCALARS | VECTORS | TEXTS,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.lists(inner, max_size=4).map(tuple)
        | st.dictionaries(NAMES | st.integers(-(2**31) + 1, 2**31 - 1), inner, max_size=4)
    ),
    max_leaves=12,
)


def plain(value: Any) -> Any:  # noqa: PLR0911 - a case a kind
    """A value so that it can be compared: arrays as lists of theirs, not-a-numbers by name."""
    match value:
        case Array():
            return plain(value.values)
        case np.ndarray():
            return ("array", value.shape, value.dtype.newbyteorder("=").str, plain(value.tolist()))
        case np.generic():
            return plain(value.item())
        case float() if value != value:  # noqa: PLR0124 - only a NaN is not itself
            return "NaN"
        case bytearray():
            return bytes(value)
        case list() | tuple():
            return (type(value).__name__, [plain(one) for one in value])
        case dict():
            return {key: plain(one) for key, one in value.items()}
        case _:
            return (type(value).__name__, value)


@given(VALUES, PROTOCOLS)
def test_what_numpy_and_pickle_write_comes_back(value: Any, protocol: int) -> None:
    data = pickle.dumps(value, protocol)

    assert plain(load(data)) == plain(value)
    assert plain(load(pickletools.optimize(data))) == plain(value)


@given(VECTORS, PROTOCOLS)
def test_so_do_arrays_column_by_column_and_views(vectors: Any, protocol: int) -> None:
    for view in (vectors.T, vectors[..., ::2], np.asfortranarray(vectors)):
        assert plain(load(pickle.dumps(view, protocol))) == plain(view)
    vectors.flags.writeable = False
    assert plain(load(pickle.dumps(vectors, protocol))) == plain(vectors)


@given(VECTORS, st.integers(0, 4))
def test_what_numpy_1_writes_comes_back(vectors: Any, protocol: int) -> None:
    data = pickle.dumps([vectors, np.float64(2)], protocol)
    old = data.replace(b"numpy._core", b"numpy.core")
    if protocol == 4:  # names and frames say how long they are
        frame = len(data) - 11 - (len(data) - len(old))
        old = data[:3] + struct.pack("<Q", frame) + data[11:].replace(b"\x16numpy._core", b"\x15numpy.core")

    assert b"_core" not in old
    assert plain(load(old)) == plain([vectors, np.float64(2)])


def test_what_is_shared_in_a_pickle_is_shared_when_it_is_read() -> None:
    vector = np.arange(3.0)
    first, second = load(pickle.dumps([vector, vector]))

    assert first is second


def test_two_pickles_in_one_file() -> None:
    assert load(pickle.dumps(["a"]) + pickle.dumps([1.5], 0)) == (["a"], [1.5])
    with pytest.raises(InputError, match="more than 2 pickles"):
        load(pickle.dumps(1) * 3)


class Runs:
    """Writes a pickle that calls something."""

    def __init__(self, call: Any, *arguments: Any, state: Any = None) -> None:
        self._reduced = (call, arguments) if state is None else (call, arguments, state)

    def __reduce__(self) -> Any:
        return self._reduced


class Thing:
    """Something of one's own."""


def hand_written(*parts: bytes) -> bytes:
    return b"".join(parts) + b"."


EVIL = {
    "os.system": Runs(os.system, "touch EVIDENCE"),
    "posix.system": Runs(os.system, "touch EVIDENCE"),
    "builtins.eval": Runs(builtins.eval, "open('EVIDENCE', 'w')"),
    "builtins.open": Runs(builtins.open, "EVIDENCE", "w"),
    "builtins.getattr": Runs(builtins.getattr, "x", "upper"),
    "numpy.load": Runs(np.load, "EVIDENCE"),
    "numpy.fromfile": Runs(np.fromfile, "EVIDENCE"),
    "pathlib": Runs(Path.touch, Path("EVIDENCE")),
    "collections.OrderedDict": OrderedDict(a=1),
    "an object": Thing(),
    "a set": {1, 2},
    "a type": np.float64,
    "complex": 1j,
    "objects in an array": np.array([Thing(), "a"], object),
    "plain objects in an array": np.array([[1.0], "a"], object),
    "an array with fields": np.zeros(2, [("x", "f4")]),
    "times": np.zeros(2, "M8[s]"),
    "three axes": np.zeros((2, 2, 2)),
    "no axes": np.zeros(()),
    "long double": np.zeros(2, np.longdouble),
    "a masked array": np.ma.masked_array([1.0], [True]),  # type: ignore[no-untyped-call]
    "a record": np.zeros(1, [("x", "f4")])[0],
    "an object scalar": Runs(np._core.multiarray.scalar, np.dtype(object), b"cos\nsystem\n(S'touch EVIDENCE'\ntR."),  # type: ignore[attr-defined]
}


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("name", EVIL)
def test_what_wants_more_is_refused_and_not_run(
    name: str, protocol: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    data = pickle.dumps({"encodings": [EVIL[name]], "names": ["a"]}, protocol)
    with pytest.raises(InputError, match="this pickle"):
        load(data)

    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("data", "complaint"),
    [
        (pickle.dumps(Runs(os.system, "x"), 2), "wants to run posix.system"),
        (pickle.dumps(Runs(os.system, "x"), 5), "wants to run posix.system"),
        (hand_written(b"(S'x'\nios\nsystem\n"), r"opcode STRING"),
        (hand_written(b"(Vx\nios\nsystem\n"), r"opcode INST \(os system\)"),
        (hand_written(b"(cnumpy\nndarray\no"), "opcode OBJ"),
        (hand_written(b"cnumpy\nndarray\n)\x81"), "opcode NEWOBJ"),
        (hand_written(b"\x80\x04cnumpy\nndarray\n)}\x92"), "opcode NEWOBJ_EX"),
        (hand_written(b"\x80\x02\x82\x01"), "opcode EXT1"),
        (hand_written(b"\x80\x05\x97"), "opcode NEXT_BUFFER"),
        (hand_written(b"Px\n"), r"opcode PERSID \(x\)"),
        (hand_written(b"cnumpy\nndarray\n)R"), "in a way that numpy does not"),
        (hand_written(b"c_codecs\nencode\n(Vx\nVrot13\ntR"), "in a way that numpy does not"),
        (hand_written(b"cbuiltins\nbytes\n(I9999999999\ntR"), "in a way that numpy does not"),
        (hand_written(b"cnumpy\ndtype\n(VO8\ntR"), "numpy's type O8"),
        (hand_written(b"cnumpy\ndtype\n(Vf8\ntR(I3\nV<\n(Vx\ntNNI-1\nI-1\nI0\ntb"), "sets up an object"),
        (hand_written(b"]}(Va\nI1\nub"), "sets up an object"),
        (hand_written(b"}(]I1\nu"), "keys are no names"),
        (hand_written(b"}(L%dL\nI1\nu" % 2**61), "keys are no names"),
        (hand_written(b"}(F1.0\nI1\nu"), "keys are no names"),
        (hand_written(b"I1\nI2\nR"), "calls what cannot be called"),
        (hand_written(b"]I1\n\x93"), "names something by no name"),
        (hand_written(b"I1\nI2\na"), "appends to what is no list"),
        (hand_written(b"]I1\nI2\ns"), "puts an entry into what is no dict"),
        (hand_written(b"}(I1\nu"), "puts an entry into what is no dict"),
        (hand_written(b"(" * 65), "more than 64 levels"),
        (hand_written(b"u"), "a mark is missing"),
        (hand_written(b"0"), "a value is missing"),
        (hand_written(b"(I1\n(a"), "a value is missing"),
        (hand_written(b"](I1\n(a"), "a value is missing"),
        (hand_written(), "a value is missing"),
        (hand_written(b"("), "a value is missing"),
        (hand_written(b"g7\n"), "refers to a value"),
        (b"", "ends too early"),
        (b"\x80\x04]", "ends too early"),
        (b"<html>", "ends too early"),
        (hand_written(b"X\xff\xff\xff\x7fab"), "ends too early"),
        (hand_written(b"I" + b"9" * 5000 + b"\n"), "ends too early"),
    ],
)
def test_each_refusal_says_why(data: bytes, complaint: str) -> None:
    with pytest.raises(InputError, match=complaint):
        load(data)


def pickled_array(shape: object, raw: bytes, kind: str = "f8") -> bytes:
    """An array as numpy pickles it, but of any shape and bytes."""
    whole = pickle.dumps(np.zeros((3, 4)), 4)
    parts = [
        (b"K\x03K\x04\x86", pickle.dumps(shape, 4)[11:-1].replace(b"\x94", b"") if isinstance(shape, tuple) else b"")
    ]
    parts += [(b"\x8c\x02f8", b"\x8c" + bytes([len(kind)]) + kind.encode())]
    parts += [(b"C" + bytes([96]) + bytes(96), b"B" + struct.pack("<I", len(raw)) + raw)]
    for old, new in parts:
        assert old in whole
        whole = whole.replace(old, new)
    return whole[:2] + whole[11:]  # without the frame, whose length is another now


def test_an_array_as_numpy_would_write_it() -> None:
    assert load(pickled_array((1, 2), struct.pack("<2d", 1, 2))).values.tolist() == [[1, 2]]
    assert load(pickled_array((2,), "aé".encode("utf-32-le"), "U1")).values.tolist() == ["a", "é"]


@pytest.mark.parametrize(
    ("shape", "raw", "kind"),
    [
        ((1 << 40, 1 << 40), b"", "f8"),
        ((1, 3), bytes(16), "f8"),
        ((1, 1), bytes(16), "f8"),
        ((-1, -2), bytes(16), "f8"),
        ((True, 2), bytes(16), "f8"),
        ((1.0, 2), bytes(16), "f8"),
        ((), bytes(8), "f8"),
        ((1, 1, 2), bytes(16), "f8"),
        ((1,), b"\xff\xff\xff\xff", "U1"),
        ((1,), b"", "U0"),
        ((1,), bytes(8), "O8"),
        ((1,), bytes(8), "m8"),
    ],
)
def test_an_array_takes_no_more_than_its_bytes(shape: object, raw: bytes, kind: str) -> None:
    with pytest.raises(InputError, match="this pickle"):
        load(pickled_array(shape, raw, kind))


@given(st.binary(max_size=200))
@example(pickle.dumps(np.arange(4.0))[:-9])
def test_arbitrary_bytes_are_read_or_refused(data: bytes) -> None:
    with suppress(InputError):
        load(data)


@given(st.data())
def test_so_are_damaged_pickles(data: st.DataObject) -> None:
    whole = bytearray(pickle.dumps({"encodings": [np.arange(4.0), np.float32(1)], "names": ["a", np.str_("é")]},
                                   data.draw(PROTOCOLS)))  # fmt: skip
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, len(whole) - 1))
        whole[place : place + data.draw(st.integers(0, 3))] = data.draw(st.binary(max_size=3))
    test_arbitrary_bytes_are_read_or_refused.hypothesis.inner_test(bytes(whole))  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("limit", "data"),
    [
        ("MAX_STEPS", hand_written(b"]" + b"(" + b"]" * 200 + b"e")),
        ("MAX_STEPS", hand_written(b"]" + b"".join(b"r" + struct.pack("<I", place) for place in range(200)))),
        ("MAX_STEPS", hand_written(b"]q\x00(" + b"h\x00" * 200 + b"e")),
        ("MAX_NUMBERS", hand_written(b"](" + b"K\x01" * 200 + b"e")),
        ("MAX_STEPS", pickle.dumps([None] * 60) + pickle.dumps([None] * 60)),
    ],
)
def test_what_it_may_hold_is_bounded(limit: str, data: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    load(data)
    monkeypatch.setattr(pickles, limit, 100)
    with pytest.raises(InputError, match="too large"):
        load(data)


# What follows is read again and again by a few bytes each.
MUCH = 100_000
AS_BYTES = b"\x80\x05B" + struct.pack("<I", MUCH) + bytes(MUCH) + b"\x940"
AS_BYTEARRAY = b"\x80\x05\x96" + struct.pack("<Q", MUCH) + bytes(MUCH) + b"\x940"
AS_TEXT = b"\x80\x05X" + struct.pack("<I", MUCH) + bytes(MUCH) + b"\x940"
SHAPE = b"J" + struct.pack("<i", MUCH) + b"\x85\x940"
U1 = b"cnumpy\ndtype\n\x8c\x02u1\x85R\x940"
LETTERS = b"cnumpy\ndtype\n\x8c\x03U25\x85R\x940"
FROM_BUFFER = b"cnumpy._core.numeric\n_frombuffer\n\x940"
AGAIN = {
    "arrays of a bytearray": (
        AS_BYTEARRAY + U1 + FROM_BUFFER + SHAPE + b"\x8c\x01C\x940",
        b"h\x02(h\x00h\x01h\x03h\x04tR",
    ),
    "bytes of a text": (AS_TEXT + b"c_codecs\nencode\n\x940\x8c\x06latin1\x940", b"h\x01h\x00h\x02\x86R"),
    "an array, filled": (
        AS_BYTES + U1 + b"cnumpy._core.multiarray\n_reconstruct\n(cnumpy\nndarray\nK\x00\x85C\x00tR\x940" + SHAPE,
        b"h\x02(K\x01h\x03h\x01\x89h\x00tb",
    ),
    "texts": (
        b"\x80\x05B" + struct.pack("<I", 100) + b"x\0\0\0" * 25 + b"\x940" + LETTERS
        + b"cnumpy._core.multiarray\nscalar\n\x940",
        b"h\x02h\x01h\x00\x86R",
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", AGAIN)
def test_the_same_bytes_do_not_fill_the_memory(kind: str) -> None:
    much, again = AGAIN[kind]
    load(hand_written(much, b"](", again, b"e"))
    with pytest.raises(InputError, match="one value after another"):
        load(hand_written(much, b"](", again * 100, b"e"))


def test_arrays_are_views_of_the_file() -> None:
    much, again = AGAIN["arrays of a bytearray"]
    (array,) = load(hand_written(much, b"](", again, b"e"))
    assert array.values.base is not None
    assert len(array.values) == MUCH


def test_nothing_is_ever_imported_by_name() -> None:
    for module in (pickles, pickled_arrays):
        source = Path(str(module.__file__)).read_text()
        for word in (
            "import pickle\n",
            "pickle.load(",
            "Unpickler",
            "__import__",
            "import_module",
            "getattr(",
            "eval(",
        ):
            assert word not in source.replace("``pickle.load``", "")


def test_a_list_that_holds_itself_is_only_a_list() -> None:
    endless: list[Any] = []
    endless.append(endless)
    read = load(pickle.dumps(endless))

    assert read[0] is read


def test_a_stream_that_says_it_is_longer_than_it_is() -> None:
    with pytest.raises(InputError, match="ends too early"):
        load(io.BytesIO(b"\x80\x05\x96" + struct.pack("<Q", 2**62) + b"x.").getvalue())
