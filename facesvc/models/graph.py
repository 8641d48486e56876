"""A small writer of ONNX graphs: nodes are appended in order and named by number."""

from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

# Opset 17 runs on every onnxruntime since 1.12; IR version 8 belongs to it.
OPSET = 17
IR_VERSION = 8

Dimensions = tuple[int | str, ...]
"""A shape; a string names a dimension that varies."""


class GraphWriter:
    """Collects the nodes and constants of one graph; every tensor is float32."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._nodes: list[onnx.NodeProto] = []
        self._constants: list[onnx.TensorProto] = []
        self._inputs: list[onnx.ValueInfoProto] = []

    def input(self, name: str, shape: Dimensions) -> str:
        """Declare an input and return its name."""
        self._inputs.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, list(shape)))
        return name

    def constant(self, value: NDArray[Any]) -> str:
        """Store a weight; integers stay int64 (pads, shapes), all else becomes float32."""
        dtype = np.int64 if np.issubdtype(value.dtype, np.integer) else np.float32
        name = f"w{len(self._constants)}"
        self._constants.append(numpy_helper.from_array(np.ascontiguousarray(value, dtype), name))
        return name

    def node(self, operator: str, inputs: list[str], **attributes: Any) -> str:
        """Append a node with one output and return the output's name."""
        name = f"{operator.lower()}{len(self._nodes)}"
        self._nodes.append(helper.make_node(operator, inputs, [name], name=name, **attributes))
        return name

    def finish(self, outputs: dict[str, tuple[str, Dimensions]]) -> onnx.ModelProto:
        """The checked model; ``outputs`` maps each output's public name to its tensor and shape."""
        for public, (tensor, _) in outputs.items():
            self._nodes.append(helper.make_node("Identity", [tensor], [public], name=public))
        infos = [
            helper.make_tensor_value_info(public, TensorProto.FLOAT, list(shape))
            for public, (_, shape) in outputs.items()
        ]
        graph = helper.make_graph(self._nodes, self._name, self._inputs, infos, self._constants)
        model = helper.make_model(
            graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION, producer_name="facesvc"
        )
        onnx.checker.check_model(model)
        return model
