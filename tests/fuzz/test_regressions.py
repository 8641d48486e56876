"""What the fuzzers found, and what was done about it: each input that once crashed a target is refused in words."""

import base64
import pickle

import lz4.frame
import onnx
import pytest
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import load_pem_x509_certificate
from fuzz import seeds
from fuzz.targets import TARGETS
from onnx import TensorProto, helper

from facesvc.errors import FacesvcError, WeightsError
from facesvc.models import mtcnn


def greedy_graph() -> bytes:
    """An embedder of a few hundred bytes that asks for 4 GiB when it runs."""
    nodes = [
        helper.make_node("ReduceMean", ["data"], ["mean"], keepdims=0),
        helper.make_node("Expand", ["mean", "shape"], ["vector"]),
    ]
    graph = helper.make_graph(
        nodes,
        "greedy",
        [helper.make_tensor_value_info("data", TensorProto.FLOAT, [1, 3, 112, 112])],
        [helper.make_tensor_value_info("vector", TensorProto.FLOAT, None)],
        [helper.make_tensor("shape", TensorProto.INT64, [2], [1, 1 << 30])],
    )
    return bytes(
        helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 13)], ir_version=8).SerializeToString()
    )


def certificate_of_another_version() -> bytes:
    """A certificate that says that it is of version 100."""
    der = load_pem_x509_certificate(seeds.certificates()[0]).public_bytes(Encoding.DER)
    changed = der.replace(b"\xa0\x03\x02\x01\x02", b"\xa0\x03\x02\x01\x63", 1)
    assert changed != der
    return b"-----BEGIN CERTIFICATE-----\n" + base64.encodebytes(changed) + b"-----END CERTIFICATE-----\n"


FOUND = {
    "a graph that asks for gigabytes": ("onnx", lambda: b"\1" + greedy_graph()),
    "a certificate of an unknown version": ("certificate", certificate_of_another_version),
    "a saved view with ids that are no text": ("saved-view", lambda: b"\4" + bytes(8) + b"\xff" * 26 + bytes(4)),
    "a backup of the format infinity": ("backup-manifest", lambda: b'\0{"format": Infinity, "wrapped": ""}\n'),
    "a backup nested deeply": ("backup-manifest", lambda: b"\0" + b"[" * 100_000),
    "a sealed backup nested deeply": ("backup-manifest", lambda: b"\1" + b"[" * 100_000),
    "settings nested deeply": ("settings", lambda: b"a = " + b"[" * 5000),
    "a setting of 5,000 digits": ("settings", lambda: b"a = " + b"9" * 5000),
    "a setting that makes it read the command line": ("settings", lambda: b'_cli_parse_args = ["--help"]'),
    "a setting that says where settings are": ("settings", lambda: b"_build_sources = 1"),
    "a picture of Graph's in letters beyond ASCII": ("graph", lambda: b"\0\x64\n" + '"\u00e9"'.encode()),
    "a camera whose address is none": ("source", lambda: b"rtsp://user:secret@[x/"),
    "a setting that is pydantic's": ("settings", lambda: b"__pydantic_self__ = 1"),
}


@pytest.mark.parametrize("name", FOUND)
def test_it_is_refused_in_words(name: str) -> None:
    target, make = FOUND[name]
    if target not in TARGETS:
        pytest.skip(f"the plugin {target} is not installed")
    with pytest.raises(FacesvcError):
        TARGETS[target].run(make())
    TARGETS[target](make())


def test_a_pickle_changes_nothing_of_its_reader() -> None:
    """BUILD with a tuple sets attributes of what stands on the stack, and that may be a class."""
    names = b"".join(pickle.SHORT_BINUNICODE + bytes([len(name)]) + name for name in (b"numpy", b"ndarray"))
    state = pickle.NONE + pickle.EMPTY_DICT + pickle.SHORT_BINUNICODE + b"\1x" + pickle.NONE + pickle.SETITEM
    made = names + pickle.STACK_GLOBAL + state + pickle.TUPLE2 + pickle.BUILD
    with pytest.raises(WeightsError):
        mtcnn.read_arrays(lz4.frame.compress(b"\x80\4]" + made + b"a."))
    assert "x" not in {name for one in vars(mtcnn).values() if isinstance(one, type) for name in vars(one)}


def test_a_variable_that_is_no_json_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FACESVC_LIMITS", "{")
    with pytest.raises(FacesvcError, match="limits"):
        TARGETS["settings"].run(b"")
