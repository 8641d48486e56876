"""An int8 network says nearly the same in less, the graphs it is made from stay the same, and nothing stays behind."""

import io
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from facesvc.errors import DependencyError, WeightsError
from facesvc.models import default_chips, default_pack, quantize, quantizer_program
from facesvc.models.graph import GraphWriter
from facesvc.models.quantize import Drift, Pace, compare, pace
from facesvc.models.quantize import quantize as quantized
from facesvc.models.runtime import Network

Floats = NDArray[np.float32]
Build = Callable[[GraphWriter, str], str]

SMALL = list(np.random.default_rng(3).normal(size=(4, 2, 3, 12, 12)).astype(np.float32))


def model(build: Build, shape: tuple[int | str, ...] = ("N", 3, 12, 12), opset: int = 17) -> onnx.ModelProto:
    """A graph from ``image`` to ``values``; what ``build`` writes is followed by a ReLU."""
    writer = GraphWriter("small")
    result = writer.node("Relu", [build(writer, writer.input("image", shape))])
    made = writer.finish({"values": (result, ("N", "C", "h", "w"))})
    made.opset_import[0].version = opset
    return made


def convolution(writer: GraphWriter, x: str, kernel: int = 3, **attributes: Any) -> str:
    channels = 3 // attributes.get("group", 1)
    weights = np.random.default_rng(kernel).normal(size=(9, channels, kernel, kernel))
    return writer.node("Conv", [x, writer.constant(weights), writer.constant(np.linspace(-1, 1, 9))], **attributes)


def network(content: bytes, folder: Path) -> Network:
    (folder / "network.onnx").write_bytes(content)
    return Network.load(folder / "network.onnx")


def operators(made: onnx.ModelProto) -> list[str]:
    return [node.op_type for node in made.graph.node]


@pytest.fixture
def empty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder for temporary files."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


@pytest.fixture(scope="module")
def people(group_jpeg: bytes, guest_png: bytes) -> list[Floats]:
    """Seven faces as the default embedder takes them; the last is not in the group picture."""
    return list(default_chips.chips(group_jpeg, guest_png, default_pack.EMBEDDER))[::2]


@pytest.fixture(scope="module")
def int8(float_embedder: Path, people: list[Floats]) -> bytes:
    """The default embedder, calibrated with the six."""
    return quantized(float_embedder, people[:6])


@pytest.mark.slow
def test_the_default_embedder_says_nearly_the_same(
    int8: bytes, float_embedder: Path, people: list[Floats], tmp_path: Path
) -> None:
    exact, small = Network.load(float_embedder), network(int8, tmp_path)
    assert (small.input_shape, small.output_names) == (exact.input_shape, exact.output_names)
    assert len(int8) < 0.3 * float_embedder.stat().st_size
    drift = compare(exact, small, [people[6], people[6][..., ::-1], np.concatenate(people)])
    assert drift.faces == 9
    assert 0.99 < drift.mean_cosine < 1
    assert 0.98 < drift.least_cosine <= drift.mean_cosine
    assert drift.pace.speedup > 0


def test_all_of_the_default_embedder_is_int8(int8: bytes) -> None:
    made = onnx.load_model_from_string(int8)
    assert "Pad" not in operators(made)
    assert "SpaceToDepth" in operators(made)
    scaled = {name for node in made.graph.node if node.op_type == "DequantizeLinear" for name in node.output}
    inner = ("Conv", "Add", "AveragePool", "GlobalAveragePool", "MatMul")
    assert operators(made).count("Conv") == 34
    for node in made.graph.node:
        if node.op_type in inner:
            assert set(node.input) <= scaled
    rounded = {node.input[0] for node in made.graph.node if node.op_type == "QuantizeLinear"}
    assert next(node for node in made.graph.node if node.op_type == "GlobalAveragePool").output[0] in rounded
    first = next(node for node in made.graph.node if node.op_type == "Conv")
    weights = next(node for node in made.graph.node if node.output[0] == first.input[1])
    (scales,) = (item for item in made.graph.initializer if item.name == weights.input[1])
    assert scales.dims == [32]  # one a channel


@pytest.mark.slow
def test_the_same_batches_give_the_same_bytes(int8: bytes, float_embedder: Path, people: list[Floats]) -> None:
    assert quantized(float_embedder.read_bytes(), iter(people[:6])) == int8
    assert quantized(float_embedder, people[:5]) != int8


@pytest.mark.parametrize(("bits", "largest"), [(7, 64), (8, 127)])
def test_weights_of_7_bits_cannot_overflow(bits: Literal[7, 8], largest: int) -> None:
    made = onnx.load_model_from_string(quantized(model(convolution).SerializeToString(), SMALL, weight_bits=bits))
    (weights,) = (numpy_helper.to_array(item) for item in made.graph.initializer if len(item.dims) == 4)
    assert weights.dtype == np.int8
    assert np.abs(weights.astype(int)).max() == largest
    # Two products of an activation and a weight are added in 16 bits where there is no VNNI.
    assert (2 * 255 * largest < 2**15) == (bits == 7)


def test_older_opsets_are_converted(tmp_path: Path) -> None:
    made = model(convolution, opset=11).SerializeToString()
    exact, small = network(made, tmp_path), network(quantized(made, SMALL), tmp_path)
    for batch in SMALL:
        reference = exact(batch)[0]
        np.testing.assert_allclose(small(batch)[0], reference, atol=0.03 * reference.max())


def test_any_size_of_picture(tmp_path: Path) -> None:
    made = model(convolution, ("N", 3, "H", "W")).SerializeToString()
    small = network(quantized(made, SMALL), tmp_path)
    assert small(np.zeros((1, 3, 31, 17), np.float32))[0].shape == (1, 9, 29, 15)


def test_scores_are_not_rounded_to_256(tmp_path: Path) -> None:
    made = model(lambda writer, x: writer.node("Sigmoid", [convolution(writer, x)])).SerializeToString()
    small = onnx.load_model_from_string(quantized(made, SMALL))
    last = small.graph.node[operators(small).index("Sigmoid") :]
    assert "QuantizeLinear" not in [node.op_type for node in last]


@pytest.mark.parametrize(
    ("pads", "value"), [((0, 2, 1, 0, 0, 3, 0, 2), 0), ((0, 0, 0, 0, 0, 5, 0, 0), 0), ((0, 0, 1, 1, 0, 0, 1, 1), None)]
)
def test_padding_becomes_a_convolution(pads: tuple[int, ...], value: float | None, tmp_path: Path) -> None:
    def build(writer: GraphWriter, x: str) -> str:
        inputs = [convolution(writer, x), writer.constant(np.array(pads))]
        return writer.node("Pad", inputs if value is None else [*inputs, writer.constant(np.array(value, np.float32))])

    assert_same(
        model(build), quantizer_program.without_pads(model(build)), ["Conv", "Conv", "Relu", "Identity"], tmp_path
    )


def test_a_pool_and_its_padding_become_one(tmp_path: Path) -> None:
    made = model(lambda writer, x: pooled_and_padded(writer, x, (0, 1, 0, 0, 0, 2, 0, 0)))
    assert_same(made, quantizer_program.without_pads(made), ["Conv", "Conv", "Relu", "Identity"], tmp_path)


@pytest.mark.parametrize(
    "attributes",
    [{"kernel_shape": [3, 3]}, {"strides": [1, 1]}, {"pads": [0, 0, 1, 1]}, {"ceil_mode": 1},
     {"auto_pad": "SAME_UPPER"}, {}],
)  # fmt: skip
def test_other_pools_stay(attributes: dict[str, Any], tmp_path: Path) -> None:
    # The last is a plain pool, but rows are padded after it, which would not be the same before it.
    pads = (0, 0, 0, 0, 0, 5, 0, 0) if attributes else (0, 0, 0, 0, 0, 5, 1, 0)
    made = model(lambda writer, x: pooled_and_padded(writer, x, pads, **attributes), ("N", 3, 13, 13))
    expected = ["Conv", "AveragePool", "Conv", "Relu", "Identity"]
    assert_same(made, quantizer_program.without_pads(made), expected, tmp_path, side=13)


def pooled_and_padded(writer: GraphWriter, x: str, padding: tuple[int, ...], **attributes: Any) -> str:
    window = {"kernel_shape": [2, 2], "strides": [2, 2], **attributes}
    pooled = writer.node("AveragePool", [convolution(writer, x)], **window)
    return writer.node("Pad", [pooled, writer.constant(np.array(padding))])


@pytest.mark.parametrize(
    ("mode", "pads", "value"),
    [("reflect", (0, 0, 1, 1, 0, 0, 1, 1), 0), ("constant", (0, 0, 1, 1, 0, 0, 1, 1), 1),
     ("constant", (1, 0, 0, 0, 0, 0, 0, 0), 0), ("constant", (0, 0, -1, 0, 0, 0, 0, 0), 0)],
)  # fmt: skip
def test_other_padding_stays(mode: str, pads: tuple[int, ...], value: float, tmp_path: Path) -> None:
    def build(writer: GraphWriter, x: str) -> str:
        constants = [writer.constant(np.array(pads)), writer.constant(np.array(value, np.float32))]
        return writer.node("Pad", [convolution(writer, x), *constants], mode=mode)

    assert_same(
        model(build), quantizer_program.without_pads(model(build)), ["Conv", "Pad", "Relu", "Identity"], tmp_path
    )


@pytest.mark.parametrize("kernel", [1, 2, 3, 4, 5, 7])
@pytest.mark.parametrize("padding", [0, 1, 2, 3])
def test_a_stem_of_stride_2_works_on_squares(kernel: int, padding: int, tmp_path: Path) -> None:
    made = stem(kernel=kernel, strides=[2, 2], pads=[padding] * 4)
    folded = quantizer_program.with_folded_stem(made)
    assert_same(made, folded, ["SpaceToDepth", "Conv", "Relu", "Identity"], tmp_path)
    assert [item.dims[1] for item in folded.graph.initializer if len(item.dims) == 4] == [12]


@pytest.mark.parametrize(
    "attributes",
    [
        {"strides": [1, 1]},
        {"strides": [2, 1]},
        {"pads": [0, 0, 1, 1]},
        {"dilations": [2, 2]},
        {"group": 3},
        {"auto_pad": "SAME_UPPER"},
    ],
)
def test_other_stems_stay(attributes: dict[str, Any]) -> None:
    made = stem(**{"strides": [2, 2], **attributes})
    assert quantizer_program.with_folded_stem(made) is made


@pytest.mark.parametrize("size", [(13, 12), (12, 13), ("H", "W")])
def test_a_stem_of_odd_or_unknown_size_stays(size: tuple[int | str, ...]) -> None:
    made = stem(("N", 3, *size), strides=[2, 2])
    assert quantizer_program.with_folded_stem(made) is made


def stem(shape: tuple[int | str, ...] = ("N", 3, 12, 12), **attributes: Any) -> onnx.ModelProto:
    return model(lambda writer, x: convolution(writer, x, **attributes), shape)


def assert_same(
    one: onnx.ModelProto, other: onnx.ModelProto, expected: list[str], folder: Path, side: int = 12
) -> None:
    assert operators(other) == expected
    onnx.checker.check_model(other, full_check=True)
    batch = np.random.default_rng(1).normal(size=(2, 3, side, side)).astype(np.float32)
    a, b = (network(made.SerializeToString(), folder)(batch)[0] for made in (one, other))
    assert a.shape == b.shape
    np.testing.assert_allclose(a, b, atol=1e-4)


def no_weights() -> bytes:
    return model(lambda writer, x: writer.node("Neg", [x])).SerializeToString()


def two_inputs() -> bytes:
    made = model(lambda writer, x: writer.node("Add", [convolution(writer, x), writer.input("more", ("N", 9, 10, 10))]))
    return made.SerializeToString()


@pytest.mark.parametrize(
    ("graph", "reason"),
    [
        (b"", r"cannot be quantised: "),
        (b"not a graph", r"cannot be quantised: .*pars"),
        (no_weights(), r"cannot be quantised: .*no convolution and no dense layer"),
        (two_inputs(), r"cannot be quantised: .*2 inputs instead of one"),
        (model(convolution, ("N", 3, 20, 20)).SerializeToString(), r"cannot be quantised: .*dimensions"),
        (Path("absent.onnx"), r"absent.onnx cannot be read: No such file"),
    ],
    ids=["nothing", "bytes", "no weights", "two inputs", "other size", "no file"],
)
def test_what_is_no_network_is_told(graph: bytes | Path, reason: str, empty: Path) -> None:
    with pytest.raises(WeightsError, match=f"(?si){reason}"):
        quantized(graph, SMALL)
    assert list(empty.iterdir()) == []


def test_what_is_int8_already_is_refused() -> None:
    small = quantized(model(convolution).SerializeToString(), SMALL)
    with pytest.raises(WeightsError, match="it is int8 already"):
        quantized(small, SMALL)


def test_batches_that_cannot_be_used_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    graph = model(convolution).SerializeToString()
    with pytest.raises(ValueError, match="no batch"):
        quantized(graph, [])
    for wrong in (SMALL[0][0], SMALL[0].astype(np.float64), SMALL[0][:0]):
        with pytest.raises(ValueError, match=r"must be .* float32"):
            quantized(graph, [SMALL[0], wrong])
    monkeypatch.setattr(quantize, "MAX_BYTES", len(graph) + 3 * SMALL[0].nbytes)
    with pytest.raises(ValueError, match="calibrate with fewer"):
        quantized(graph, SMALL)


def test_nothing_stays_on_the_disk(empty: Path) -> None:
    assert quantized(model(convolution).SerializeToString(), SMALL)
    assert list(empty.iterdir()) == []


# Each leaves a file where the quantiser would have its own; the first then takes too long.
@pytest.mark.parametrize(
    ("ending", "reason"),
    [("exec sleep 60", "took more than 0.5 s"), ("echo no memory >&2; kill -9 $$", "status -9; .*no memory")],
)
def test_a_child_that_hangs_or_dies_is_told(
    ending: str, reason: str, empty: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "python"
    program.write_text(f'#!/bin/sh\necho "$TMPDIR" >"{tmp_path}/folder"\ntouch "$TMPDIR/left"\n{ending}\n')
    program.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(program))
    with pytest.raises(DependencyError, match=f"(?s){reason}") as caught:
        quantized(model(convolution).SerializeToString(), SMALL, timeout_s=0.5)
    assert not isinstance(caught.value, WeightsError)
    assert Path((tmp_path / "folder").read_text().strip()).parent == empty
    assert list(empty.iterdir()) == []


def test_a_child_that_cannot_start_is_told(empty: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", str(empty / "absent"))
    with pytest.raises(DependencyError, match=r"could not run: .*absent"):
        quantized(model(convolution).SerializeToString(), SMALL)
    assert list(empty.iterdir()) == []


def test_what_the_quantiser_prints_stays_out_of_the_graph(
    monkeypatch: pytest.MonkeyPatch, capsysbinary: pytest.CaptureFixture[bytes]
) -> None:
    def noisy(graph: bytes, batches: list[Floats], weight_bits: int) -> bytes:
        print("working", graph.decode(), len(batches), weight_bits)  # noqa: T201 - that is the point
        return b"int8"

    monkeypatch.setattr(quantizer_program, "quantized", noisy)
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(quantize._message(b"float", SMALL))))
    assert quantizer_program.main(8) == 0
    assert capsysbinary.readouterr() == (b"int8", b"working float 4 8\n")


def test_drift_is_by_face() -> None:
    a = np.array([[3, 0], [1, 1], [2, 0]], np.float32)
    b = np.array([[1, 0], [1, 0], [0, 0]], np.float32)
    drift = compare(lambda batch: (a,), lambda batch: (b,), [SMALL[0], SMALL[1]], clock=iter(range(100)).__next__)
    assert drift.faces == 6
    assert drift.mean_cosine == pytest.approx((1 + 2**-0.5 + 0) / 3)
    assert drift.least_cosine == 0
    assert drift.pace == Pace(1, 1, 1)
    with pytest.raises(ValueError, match="no faces"):
        Drift(0, 1, 1, Pace(1, 1, 1))


def test_speedup_is_the_median_of_neighbours() -> None:
    now = 0.0
    calls: list[str] = []
    # The machine gets slower and slower, and twice something comes between.
    float_seconds, int8_seconds = iter([3.0, 6.0, 50.0, 12.0, 15.0]), iter([1.0, 2.0, 3.0, 90.0, 5.0])

    def take(name: str, seconds: float) -> tuple[Floats, ...]:
        nonlocal now
        now += seconds
        calls.append(name)
        return (SMALL[0],)

    result = pace(
        lambda batch: take("float", next(float_seconds)),
        lambda batch: take("int8", next(int8_seconds)),
        SMALL[:1],
        clock=lambda: now,
    )
    assert (result.float_s, result.int8_s, result.speedup) == pytest.approx((12, 3, 3))
    assert calls == ["float", "int8"] * 5


def test_a_graph_with_normalisation_and_constants_in_nodes(tmp_path: Path) -> None:
    """As exporters write them: constants as nodes, normalisation apart from its convolution, ReLU6 as a clip."""
    values = np.random.default_rng(4).normal(size=(8, 3, 3, 3)).astype(np.float32)
    weights = helper.make_node("Constant", [], ["w"], value=numpy_helper.from_array(values))
    limits = [
        helper.make_node("Constant", [], [name], value=numpy_helper.from_array(np.array(value, np.float32)))
        for name, value in (("low", 0), ("high", 6))
    ]
    statistics = [numpy_helper.from_array(np.linspace(0.5, 2, 8, dtype=np.float32), name) for name in "abcd"]
    nodes = [
        weights,
        *limits,
        helper.make_node("Conv", ["image", "w"], ["x"]),
        helper.make_node("BatchNormalization", ["x", *"abcd"], ["y"]),
        helper.make_node("Clip", ["y", "low", "high"], ["values"]),
    ]
    image = helper.make_tensor_value_info("image", onnx.TensorProto.FLOAT, ["N", 3, 12, 12])
    output = helper.make_tensor_value_info("values", onnx.TensorProto.FLOAT, ["N", 8, 10, 10])
    graph = helper.make_graph(nodes, "exported", [image], [output], statistics)
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 12)], ir_version=7).SerializeToString()
    result = quantized(made, SMALL)
    assert not {"BatchNormalization", "Constant"} & set(operators(onnx.load_model_from_string(result)))
    for batch in SMALL:
        exact, small = (network(content, tmp_path)(batch)[0] for content in (made, result))
        assert np.abs(small - exact).mean() < 0.05
