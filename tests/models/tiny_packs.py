"""Packs of tiny networks that behave like the real families, written here, so that no weights are needed."""

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

PACK_TOML = """
name = "tiny"
version = "{version}"
licence = "{licence}"
{more}

[detector]
family = "scrfd"
file = "detector.onnx"

[embedder]
family = "arcface"
file = "embedder.onnx"
"""


def detector() -> bytes:
    """An "SCRFD" of nine outputs, as InsightFace writes it: scores, boxes and key points at strides 8, 16 and 32."""
    nodes, outputs = [], []
    for columns in (1, 4, 10):
        for stride in (8, 16, 32):
            name, shape = f"out_{columns}_{stride}", [(64 // stride) ** 2 * 2, columns]
            nodes += [
                helper.make_node("ReduceMean", ["input.1"], [f"{name}_mean"], keepdims=0),
                helper.make_node("Expand", [f"{name}_mean", f"{name}_shape"], [name]),
            ]
            outputs.append((name, shape))
    shapes = [numpy_helper.from_array(np.array(shape, np.int64), f"{name}_shape") for name, shape in outputs]
    return _graph(nodes, "input.1", [1, 3, "height", "width"], outputs, shapes)


def embedder(seed: int = 0, padding_bytes: int = 0) -> bytes:
    """An "ArcFace" of 8 values: means of the colours times weights by ``seed``, and ``padding_bytes`` of no effect."""
    random = np.random.default_rng(seed)
    weights = numpy_helper.from_array(random.normal(size=(3, 8)).astype(np.float32), "weights")
    # Drawn from one seed whatever the weights are, so that two versions have most of their bytes in common.
    padding = np.random.default_rng(99).integers(0, 256, max(padding_bytes, 1), np.uint8)
    nodes = [
        helper.make_node("ReduceMean", ["data"], ["means"], axes=[2, 3], keepdims=0),
        helper.make_node("MatMul", ["means", "weights"], ["vector"]),
    ]
    model = onnx.ModelProto.FromString(_graph(nodes, "data", [1, 3, 112, 112], [("vector", [1, 8])], [weights]))
    model.metadata_props.add(key="padding", value=padding.tobytes().hex()[:padding_bytes])
    content: bytes = model.SerializeToString()
    return content


def write(folder: Path, *, seed: int = 0, padding_bytes: int = 0, licence: str = "MIT", more: str = "") -> Path:
    """A folder with a pack ``tiny`` for ``facesvc models add``; ``more`` lines of its ``pack.toml``."""
    folder.mkdir(parents=True)
    (folder / "detector.onnx").write_bytes(detector())
    (folder / "embedder.onnx").write_bytes(embedder(seed, padding_bytes))
    (folder / "pack.toml").write_text(PACK_TOML.format(version=seed + 1, licence=licence, more=more))
    return folder


LIVENESS_TOML = """
kind = "liveness"
name = "alive"
licence = "{licence}"
family = "minifasnet"
{more}

[[networks]]
file = "near.onnx"
scale = 2.7

[[networks]]
file = "far.onnx"
scale = 4.0
"""


def minifasnet(slope: float = 0.05) -> bytes:
    """A "MiniFASNet" whose logits are the means of blue, green and red times ``slope``: what is green is alive."""
    nodes = [
        helper.make_node("ReduceMean", ["input"], ["means"], axes=[2, 3], keepdims=0),
        helper.make_node("Mul", ["means", "slope"], ["logits"]),
    ]
    constants = [numpy_helper.from_array(np.array(slope, np.float32), "slope")]
    return _graph(nodes, "input", ["N", 3, 80, 80], [("logits", ["N", 3])], constants)


def addon(seed: int = 0) -> bytes:
    """A "liveness add-on of insightface": one share, made of every pixel of every colour."""
    weights = np.random.default_rng(seed).normal(size=(3 * 80 * 80, 1)).astype(np.float32) / 20
    nodes = [
        helper.make_node("Flatten", ["input"], ["flat"]),
        helper.make_node("MatMul", ["flat", "weights"], ["column"]),
        helper.make_node("Squeeze", ["column", "axes"], ["row"]),
        helper.make_node("Sigmoid", ["row"], ["live"]),
    ]
    constants = [numpy_helper.from_array(weights, "weights"), numpy_helper.from_array(np.array([1], np.int64), "axes")]
    return _graph(nodes, "input", ["N", 3, 80, 80], [("live", ["N"])], constants)


def write_liveness(folder: Path, *, slope: float = 0.05, licence: str = "MIT", more: str = "") -> Path:
    """A folder with a liveness pack ``alive`` of two networks for ``facesvc models add``."""
    folder.mkdir(parents=True)
    (folder / "near.onnx").write_bytes(minifasnet(slope))
    (folder / "far.onnx").write_bytes(minifasnet(slope / 2))
    (folder / "pack.toml").write_text(LIVENESS_TOML.format(licence=licence, more=more))
    return folder


def _graph(
    nodes: list[onnx.NodeProto],
    name: str,
    shape: list[int | str],
    outputs: list[tuple[str, list[int]]] | list[tuple[str, list[int | str]]],
    constants: list[onnx.TensorProto],
) -> bytes:
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info(output, TensorProto.FLOAT, size) for output, size in outputs],
        constants,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    content: bytes = model.SerializeToString()
    return content
