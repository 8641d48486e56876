"""Small graphs with the inputs and outputs of detectors and embedders, and nothing learnt."""

from collections.abc import Sequence

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

Size = int | str


def embedder(
    side: Size = 112, *, batch: Size = "N", dimension: int = 8, mxnet: bool = False, rank: int = 2, last: float = 0.5
) -> bytes:
    """The means of the three colours, times a matrix that ends with ``last``; ``mxnet``: Sub and Mul come first."""
    matrix = np.linspace(-1, 1, 3 * dimension).astype(np.float32).reshape(3, dimension)
    matrix[-1, -1] = last
    nodes = [helper.make_node("ReduceMean", ["pixels"], ["mean"], axes=[2, 3], keepdims=0)]
    if mxnet:
        nodes = [
            helper.make_node("Sub", ["data", "middle"], ["less"], name="_minusscalar0"),
            helper.make_node("Mul", ["less", "middle"], ["pixels"], name="_mulscalar0"),
            *nodes,
        ]
    nodes.append(helper.make_node("MatMul", ["mean", "matrix"], ["vector" if rank == 2 else "flat"]))
    if rank != 2:
        nodes.append(helper.make_node("Unsqueeze", ["flat", "axes"], ["vector"]))
    weights = {"matrix": matrix, "middle": np.array(0.5, np.float32), "axes": np.arange(2, rank, dtype=np.int64)}
    shape = [batch, dimension, *([1] * (rank - 2))]
    return _bytes(nodes, "data" if mxnet else "pixels", [batch, 3, side, side], {"vector": shape}, weights)


def detector(
    values: Sequence[int] = (1, 1, 1, 4, 4, 4, 10, 10, 10),
    strides: Sequence[int] = (8, 16, 32),
    *,
    height: Size = "H",
    width: Size = "W",
    anchors: int = 2,
) -> bytes:
    """Outputs of zeros: ``values`` a box, of the strides over and over, ``anchors`` a cell."""
    nodes, outputs = [], {}
    weights = {"rows": np.array([-1], np.int64)}
    for at, count in enumerate(values):
        stride = strides[at % len(strides)]
        nodes += [
            helper.make_node("AveragePool", ["pixels"], [f"pool{at}"], kernel_shape=[stride] * 2, strides=[stride] * 2),
            helper.make_node("ReduceMean", [f"pool{at}"], [f"mean{at}"], axes=[1], keepdims=0),
            helper.make_node("Reshape", [f"mean{at}", "rows"], [f"flat{at}"]),
            helper.make_node("Unsqueeze", [f"flat{at}", "one"], [f"column{at}"]),
            helper.make_node("Tile", [f"column{at}", f"times{at}"], [f"wide{at}"]),
            helper.make_node("Reshape", [f"wide{at}", f"shape{at}"], [f"output{at}"]),
        ]
        weights |= {
            f"times{at}": np.array([1, anchors * count], np.int64),
            f"shape{at}": np.array([-1, count], np.int64),
            "one": np.array([1], np.int64),
        }
        outputs[f"output{at}"] = [f"n{at}", count]
    return _bytes(nodes, "pixels", [1, 3, height, width], outputs, weights)


def _bytes(
    nodes: list[onnx.NodeProto],
    name: str,
    shape: list[Size],
    outputs: dict[str, list[Size]],
    weights: dict[str, np.ndarray],  # type: ignore[type-arg]  # of any kind
) -> bytes:
    used = {each for node in nodes for each in node.input}
    graph = helper.make_graph(
        nodes,
        "graph",
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info(output, TensorProto.FLOAT, shape) for output, shape in outputs.items()],
        [numpy_helper.from_array(array, each) for each, array in weights.items() if each in used],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())
