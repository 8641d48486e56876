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
