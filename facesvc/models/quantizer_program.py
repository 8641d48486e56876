"""A program: a graph and calibration batches on standard input, the int8 graph on standard output.

Its argument is the number of bits of a weight, 7 or 8.

onnxruntime's quantiser keeps memory, prints, and leaves temporary files where it is killed. So this runs beside
``facesvc.models.quantize``, which gives it a folder for temporary files and removes that afterwards.
"""

import contextlib
import io
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper, shape_inference, version_converter
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process

from facesvc.errors import WeightsError
from facesvc.models.graph import OPSET

Floats = NDArray[np.float32]

_LEAST_OPSET = 13  # the first in which a scale may differ from channel to channel
_WITH_WEIGHTS = ("Conv", "Gemm", "MatMul")
# Not among them, on purpose: Sigmoid and Softmax. An int8 score takes one of 256 values, which is too coarse to rank
# detections by, and in float they cost next to nothing.
_OPERATORS = (
    *_WITH_WEIGHTS, "Add", "AveragePool", "Clip", "Concat", "Flatten", "GlobalAveragePool", "MaxPool", "Relu",
    "Reshape", "Resize", "Transpose",
)  # fmt: skip


class _Batches(CalibrationDataReader):  # type: ignore[misc]  # onnxruntime publishes no types
    """Calibration batches, from memory."""

    def __init__(self, name: str, batches: list[Floats]) -> None:
        self._feeds: Iterator[dict[str, Floats]] = ({name: batch} for batch in batches)

    def get_next(self) -> dict[str, Floats] | None:
        """The next batch; None after the last."""
        return next(self._feeds, None)


def quantized(graph: bytes, batches: list[Floats], weight_bits: int) -> bytes:
    """The int8 graph. Raises ``WeightsError`` and whatever onnx and onnxruntime raise for a graph they cannot use.

    Of what was tried on the default pack's embedder and on MobileFaceNet (accuracy on LFW, time), the plain recipe won:
    extremes as ranges (entropy and percentiles: the same; wider ones: less exact), zero points where the range wants
    them (symmetric: as exact or less, and slower), a scale a channel (one a tensor: useless for MobileFaceNet).
    """
    model = onnx.load_model_from_string(graph)
    if not any(node.op_type in _WITH_WEIGHTS for node in model.graph.node):
        raise WeightsError("it has no convolution and no dense layer")
    if any(node.op_type == "QuantizeLinear" for node in model.graph.node):
        raise WeightsError("it is int8 already")
    if len(model.graph.input) != 1:
        raise WeightsError(f"it has {len(model.graph.input)} inputs instead of one")
    if any(opset.domain in ("", "ai.onnx") and opset.version < _LEAST_OPSET for opset in model.opset_import):
        model = version_converter.convert_version(model, OPSET)
    with tempfile.TemporaryDirectory() as folder:
        plain, prepared, result = (str(Path(folder, name)) for name in ("plain", "prepared", "result"))
        onnx.save(model, plain)
        # Folds constants and batch normalisation, so that only what is left gets scales.
        quant_pre_process(plain, prepared, skip_symbolic_shape=True)
        onnx.save(with_folded_stem(without_pads(onnx.load(prepared))), prepared)
        quantize_static(
            prepared,
            result,
            _Batches(model.graph.input[0].name, batches),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=list(_OPERATORS),
            per_channel=True,
            reduce_range=weight_bits == 7,
            # On x86 only unsigned activations with signed weights are fast: signed ones took as long as float.
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
        )
        return Path(result).read_bytes()


def without_pads(model: onnx.ModelProto) -> onnx.ModelProto:
    """``model`` with a convolution in place of each node that pads channels, rows or columns with zeros.

    onnxruntime pads in float only, and goes there and back for it. The convolution has the identity for weights, or
    where only channels are padded after an average pool, that of the pool: integers keep both exactly.
    """
    graph = shape_inference.infer_shapes(model).graph
    constants = _constants(graph)
    shapes = {info.name: [size.dim_value for size in info.type.tensor_type.shape.dim] for info in graph.value_info}
    makers = {name: node for node in graph.node for name in node.output}
    nodes = []
    for node in graph.node:
        pads = _zero_pads(node, constants)
        channels = shapes.get(node.input[0], [0, 0])[1] if pads else 0
        if not channels:
            nodes.append(node)
            continue
        source, borders = node.input[0], [pads[2], pads[3], pads[6], pads[7]]
        window = _pooled(makers.get(source)) if not any(borders) else 0
        if window:
            source = makers[source].input[0]
        weights = _spread(channels, pads[1], pads[5], max(window, 1))
        nodes.append(_convolution(graph, [source], node.output[0], weights, max(window, 1), borders))
    used = {name for node in nodes for name in node.input} | {output.name for output in graph.output}
    return _with_nodes(model, graph, [node for node in nodes if used.intersection(node.output)])


def with_folded_stem(model: onnx.ModelProto) -> onnx.ModelProto:
    """``model`` with a first convolution of stride 2 done on squares of 2 x 2 pixels, as one of stride 1.

    It gives the same numbers. An int8 convolution of three channels spends its time on gathering them: it is a sixth
    of the default pack's embedder, which takes 6 % less with twelve channels. Done for inputs of fixed, even size only.
    """
    graph = model.graph
    image, stem = graph.input[0], graph.node[0]
    weights = _constants(graph).get(stem.input[1]) if len(stem.input) > 1 else None
    padding = _stem_padding(image, stem)
    if weights is None or padding is None or weights.shape[2] != weights.shape[3]:
        return model
    filters, channels, side, _ = weights.shape
    # An odd padding becomes an even one if the kernel gets a row and a column of zeros there.
    odd = padding % 2
    squares = (side + odd + 1) // 2
    grown = np.zeros((filters, channels, 2 * squares, 2 * squares), np.float32)
    grown[:, :, odd : odd + side, odd : odd + side] = weights
    # SpaceToDepth orders its channels by row in the square, column in the square, channel.
    folded = grown.reshape(filters, channels, squares, 2, squares, 2).transpose(0, 3, 5, 1, 2, 4)
    folded = np.ascontiguousarray(folded).reshape(filters, 4 * channels, squares, squares)
    before, after = (padding + odd) // 2, padding // 2 + odd * (1 - side % 2)
    name = f"{stem.output[0]}_squares"
    inputs, pads = [name, *stem.input[2:]], [before, before, after, after]
    convolution = _convolution(graph, inputs, stem.output[0], folded, 1, pads)
    fold = helper.make_node("SpaceToDepth", [image.name], [name], name=name, blocksize=2)
    return _with_nodes(model, graph, [fold, convolution, *list(graph.node)[1:]])


def _stem_padding(image: onnx.ValueInfoProto, node: onnx.NodeProto) -> int | None:
    """The padding, alike on all sides, of a plain convolution of stride 2 over the ``image``; None for other nodes."""
    size = [size.dim_value for size in image.type.tensor_type.shape.dim][2:]
    attributes = _attributes(node)
    pads = attributes.get("pads", [0] * 4)
    plain = (
        node.op_type == "Conv"
        and node.input[0] == image.name
        and attributes.get("strides") == [2, 2]
        and attributes.get("group", 1) == 1
        and attributes.get("dilations", [1, 1]) == [1, 1]
        and attributes.get("auto_pad", b"NOTSET") == b"NOTSET"
        and pads == [pads[0]] * 4
    )
    return pads[0] if plain and len(size) == 2 and all(side > 0 and side % 2 == 0 for side in size) else None


def _convolution(
    graph: onnx.GraphProto, inputs: list[str], output: str, weights: Floats, stride: int, pads: list[int]
) -> onnx.NodeProto:
    """A convolution of ``inputs`` (values, and a bias if there is one); its weights go into the ``graph``."""
    name = f"{output}_weights"
    graph.initializer.append(numpy_helper.from_array(weights, name))
    return helper.make_node(
        "Conv",
        [inputs[0], name, *inputs[1:]],
        [output],
        name=f"{output}_conv",
        kernel_shape=weights.shape[2:],
        strides=[stride, stride],
        pads=pads,
    )


def _with_nodes(model: onnx.ModelProto, graph: onnx.GraphProto, nodes: list[onnx.NodeProto]) -> onnx.ModelProto:
    """``model`` with the ``graph`` made of these ``nodes``, and without the weights that none of them reads."""
    used = {name for node in nodes for name in node.input}
    kept = [constant for constant in graph.initializer if constant.name in used]
    rewritten = helper.make_graph(nodes, graph.name, graph.input, graph.output, kept)
    return helper.make_model(rewritten, opset_imports=model.opset_import, ir_version=model.ir_version)


def _constants(graph: onnx.GraphProto) -> dict[str, NDArray[Any]]:
    return {constant.name: numpy_helper.to_array(constant) for constant in graph.initializer}


def _attributes(node: onnx.NodeProto) -> dict[str, Any]:
    return {item.name: helper.get_attribute_value(item) for item in node.attribute}


def _zero_pads(node: onnx.NodeProto, constants: dict[str, NDArray[Any]]) -> list[int]:
    """The eight pads of a node that puts zeros around channels, rows or columns; empty for every other node."""
    if node.op_type != "Pad" or _attributes(node).get("mode", b"constant") != b"constant" or len(node.input) > 3:
        return []
    pads = constants.get(node.input[1])
    value = constants.get(node.input[2]) if len(node.input) == 3 and node.input[2] else np.zeros(1)
    if value is None or value.any() or pads is None or len(pads) != 8 or pads[[0, 4]].any() or pads.min() < 0:
        return []
    return [int(size) for size in pads]


def _pooled(node: onnx.NodeProto | None) -> int:
    """The side of an average pool whose squares lie side by side; 0 for every other node."""
    if node is None or node.op_type != "AveragePool":
        return 0
    attributes = _attributes(node)
    kernel = attributes["kernel_shape"]
    plain = (
        attributes.get("strides") == kernel == [kernel[0]] * 2
        and not any(attributes.get("pads", ()))
        and not attributes.get("ceil_mode")
        and attributes.get("auto_pad", b"NOTSET") in (b"NOTSET", b"VALID")
        and all(step == 1 for step in attributes.get("dilations", ()))
    )
    return int(kernel[0]) if plain else 0


def _spread(channels: int, before: int, after: int, window: int) -> Floats:
    """Weights (out, in, rows, columns) that average ``window`` x ``window`` and put channels of zeros around."""
    weights = np.zeros((before + channels + after, channels, window, window), np.float32)
    weights[range(before, before + channels), range(channels)] = 1 / window**2
    return weights


def _arrays(message: bytes) -> Iterator[NDArray[Any]]:
    """The arrays in NumPy's file format that follow each other in ``message``."""
    stream = io.BytesIO(message)
    while stream.tell() < len(message):
        yield np.lib.format.read_array(stream, allow_pickle=False)


def main(weight_bits: int) -> int:
    """Quantises what comes in; the status is 1, and the reason on standard error, for a graph that does not do."""
    output = sys.stdout.buffer
    # What the quantiser prints must not get into the graph.
    with contextlib.redirect_stdout(sys.stderr):
        try:
            graph, *batches = _arrays(sys.stdin.buffer.read())
            result = quantized(graph.tobytes(), batches, weight_bits)
        # Their exceptions have no base of their own; whatever it is, this graph cannot be quantised.
        except Exception as error:  # noqa: BLE001
            sys.stderr.write(f"{type(error).__name__}: {error}\n")
            return 1
    output.write(result)
    return 0


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1])))
