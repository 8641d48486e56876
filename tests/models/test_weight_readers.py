"""Whatever the bytes are, the two readers give arrays or a ``WeightsError``, in bounded memory."""

import contextlib
import os
import pickle
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import lz4.frame
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from facesvc.errors import WeightsError
from facesvc.models import dlib_resnet, mtcnn

# Examples differ a hundredfold in time, and the files are read once for all of them.
few = settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
flips = st.lists(st.tuples(st.integers(0, 1 << 20), st.integers(0, 7)), min_size=1, max_size=8)


def flipped(data: bytes, places: list[tuple[int, int]]) -> bytes:
    changed = bytearray(data)
    for place, bit in places:
        changed[place % len(changed)] ^= 1 << bit
    return bytes(changed)


def refused_or_read(read: Callable[[bytes], object], data: bytes) -> None:
    with contextlib.suppress(WeightsError):
        read(data)


@few
@given(st.binary(max_size=2000))
def test_random_bytes(data: bytes) -> None:
    refused_or_read(dlib_resnet.read_layers, data)
    refused_or_read(mtcnn.read_arrays, data)
    refused_or_read(mtcnn.read_arrays, lz4.frame.compress(data))
    refused_or_read(mtcnn.read_arrays, lz4.frame.compress(b"\x80\x04" + data))


@few
@given(st.sampled_from([b"con_4", b"affine_", b"fc_2", b"max_pool_2"]), st.binary(max_size=200))
def test_random_bytes_behind_a_tag_of_dlibs(tag: bytes, data: bytes) -> None:
    refused_or_read(dlib_resnet.build, b"\x01" + bytes([len(tag)]) + tag + data)


@few
@given(length=st.integers(0, 100_000))
def test_truncated_files_are_refused(length: int, weights: dict[str, bytes]) -> None:
    with pytest.raises(WeightsError):
        dlib_resnet.build(weights["embedder"][:length])
    with pytest.raises(WeightsError):
        mtcnn.build_pnet(weights["pnet"][: length % len(weights["pnet"])])
    plain = lz4.frame.decompress(weights["pnet"])
    with pytest.raises(WeightsError):
        mtcnn.read_arrays(lz4.frame.compress(plain[: length % len(plain)]))


@few
@given(places=flips)
def test_bit_flips_anywhere(places: list[tuple[int, int]], weights: dict[str, bytes]) -> None:
    refused_or_read(dlib_resnet.build, flipped(weights["embedder"][:100_000], places))
    refused_or_read(mtcnn.build_pnet, flipped(weights["pnet"], places))


@few
@given(places=flips)
def test_bit_flips_where_the_structure_is(places: list[tuple[int, int]], weights: dict[str, bytes]) -> None:
    plain = lz4.frame.decompress(weights["pnet"])
    refused_or_read(mtcnn.build_pnet, lz4.frame.compress(flipped(plain[:240], places) + plain[240:]))
    start = weights["embedder"].index(b"con_4") - 2
    end = weights["embedder"].index(b"affine_") + 60
    head = weights["embedder"][start : start + 60] + weights["embedder"][end - 160 : end]
    refused_or_read(dlib_resnet.build, flipped(head, places))


class _Shell:
    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[object, ...]:
        return os.system, (f"touch {self.target}",)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_pickle_that_names_a_function_is_refused_and_not_run(protocol: int, tmp_path: Path) -> None:
    target = tmp_path / "was here"
    frame = lz4.frame.compress(pickle.dumps([_Shell(target)], protocol))
    with pytest.raises(WeightsError):
        mtcnn.read_arrays(frame)
    assert not target.exists()


def test_the_refusal_says_what_was_named(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"posix\.system, which is not an array"):
        mtcnn.read_arrays(lz4.frame.compress(pickle.dumps([_Shell(tmp_path / "x")], 4)))


@pytest.mark.parametrize(
    "bomb",
    [
        pytest.param(b"Nr" + (20_000_000).to_bytes(4, "little") + b".", id="memo"),
        pytest.param(b"\x80\x05\x96" + (400_000_000).to_bytes(8, "little") + b".", id="bytearray"),
        pytest.param(bytes(200_000_000), id="zeros"),
        pytest.param(b"\x80\x04N" + 1_000_000 * b"\x94" + b".", id="the memo, a byte each"),
        pytest.param(b"\x80\x04" + 1_000_000 * b"]" + b".", id="lists, a byte each"),
        pytest.param(b"\x80\x04" + 1_000_000 * b"(" + b".", id="marks, a byte each"),
    ],
)
def test_a_few_bytes_cannot_fill_the_memory(bomb: bytes) -> None:
    frame = lz4.frame.compress(bomb)
    tracemalloc.start()
    try:
        with pytest.raises(WeightsError):
            mtcnn.read_arrays(frame)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 64 << 20


NAMED = {
    "ndarray": b"\x8c\x05numpy\x8c\x07ndarray\x93",
    "dtype": b"\x8c\x05numpy\x8c\x05dtype\x93",
    "wrapper": b"\x8c\x12joblib.numpy_pickle\x8c\x11NumpyArrayWrapper\x93",
}
A_FIELD = b"}\x8c\x05array\x8c\x01xs"  # {"array": "x"}


@pytest.mark.parametrize("named", NAMED)
@pytest.mark.parametrize(
    "does",
    [
        pytest.param(b")R" + A_FIELD + b"b", id="sets a field of what it made"),
        pytest.param(b")R", id="makes one"),
        pytest.param(b")\x81", id="makes one in the other way"),
        pytest.param(b")\x81N" + A_FIELD + b"\x86b", id="sets an attribute"),
        pytest.param(A_FIELD + b"b", id="sets a field of the class"),
        pytest.param(b"N" + A_FIELD + b"\x86b", id="sets an attribute of the class"),
        pytest.param(b"\x8c\x02f4\x85R}b", id="a type that was not set up"),
        pytest.param(b"", id="only names it"),
    ],
)
def test_what_it_may_name_is_of_no_other_use(named: str, does: bytes) -> None:
    before = dict(vars(mtcnn._Float32))
    with pytest.raises(WeightsError):
        mtcnn.read_arrays(lz4.frame.compress(b"\x80\x04]" + NAMED[named] + does + b"a."))
    assert dict(vars(mtcnn._Float32)) == before


@pytest.mark.parametrize("value", [None, [], ["x"], ("x",), {"array": 1}, "x", 1])
def test_what_comes_out_is_a_list_of_arrays(value: object) -> None:
    if value == []:
        assert mtcnn.read_arrays(lz4.frame.compress(pickle.dumps(value, 4))) == []
        return
    with pytest.raises(WeightsError):
        mtcnn.read_arrays(lz4.frame.compress(pickle.dumps(value, 4)))


# Those that name or make something in other ways, and those that say how much room to take.
OTHERS = (
    *("GLOBAL", "INST", "OBJ", "NEWOBJ_EX", "EXT1", "EXT2", "EXT4", "PERSID", "BINPERSID", "NEXT_BUFFER"),
    *("READONLY_BUFFER", "BYTEARRAY8", "BINBYTES", "BINBYTES8", "BINUNICODE", "BINUNICODE8", "LONG1", "LONG4"),
    *("PUT", "BINPUT", "LONG_BINPUT", "LONG_BINGET", "FROZENSET", "EMPTY_SET", "DUP", "POP", "POP_MARK"),
)


@pytest.mark.parametrize("name", OTHERS)
def test_no_other_opcode_is_known(name: str) -> None:
    opcode: bytes = getattr(pickle, name)
    with pytest.raises(WeightsError, match=f"KeyError: {opcode[0]}$"):
        mtcnn.read_arrays(lz4.frame.compress(b"\x80\x04]N(N" + opcode + 9 * b"0\n" + b"."))


def test_a_tensor_larger_than_any_is_refused() -> None:
    shape = b"\x01\x02" + 4 * b"\x02\xff\x7f"
    with pytest.raises(WeightsError, match="too large"):
        dlib_resnet.read_layers(b"\x01\x05con_4" + shape)


def test_no_layers_no_network() -> None:
    assert dlib_resnet.read_layers(b"") == []
    with pytest.raises(WeightsError, match="found the end"):
        dlib_resnet.build(b"")


def test_the_files_hold_what_the_networks_need(weights: dict[str, bytes]) -> None:
    arrays = mtcnn.read_arrays(weights["pnet"])
    assert [array.shape for array in arrays[:3]] == [(3, 3, 3, 10), (10,), (1, 1, 10)]
    assert all(array.dtype == np.float32 for array in arrays)
    assert sum(layer.tag == "con_4" for layer in dlib_resnet.read_layers(weights["embedder"])) == 29


def test_the_weights_of_another_network_are_refused(weights: dict[str, bytes]) -> None:
    for build, role in ((mtcnn.build_pnet, "onet"), (mtcnn.build_rnet, "pnet"), (mtcnn.build_onet, "rnet")):
        with pytest.raises(WeightsError):
            build(weights[role])
