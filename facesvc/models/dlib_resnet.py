"""dlib's ResNet-29 face embedder: reads its weight file and writes the network as an ONNX graph.

The file is dlib's serialisation (``dlib/serialize.h``, ``dlib/dnn/core.h``): an integer is a control byte (low nibble:
number of bytes, 0x80: negative) and that many little-endian bytes; a string is its length, then its bytes; a tensor is
version 2, four dimensions, then little-endian float32. Layers stand from the input upwards, each behind its tag.

The network (``dnn_face_recognition_ex.cpp`` in dlib's examples) is a stem, fourteen residual blocks and a dense layer
without bias::

    stem  = con affine relu max_pool
    block = con affine relu con affine [avg_pool] add_prev relu
    head  = avg_pool fc
"""

import re
from dataclasses import dataclass

import numpy as np
import onnx
from numpy.typing import NDArray

from facesvc.errors import WeightsError
from facesvc.models.graph import GraphWriter

INPUT_SIDE = 150
DIMENSION = 128
# dlib::input_rgb_image_sized<150>: subtract the mean of each channel (RGB), divide by 256.
MEAN_RGB = (122.782, 117.001, 104.298)
STD = 256.0

_TAGS = ("con_4", "affine_", "relu_", "max_pool_2", "avg_pool_2", "add_prev_", "fc_2")
# A string of up to 255 characters starts with the control byte 1 and its length; add_prev_ and relu_ may go on.
_TAG_PATTERN = re.compile(b"\x01[\x04-\x10](" + b"|".join(tag.encode() for tag in _TAGS) + b")", re.DOTALL)
_MAX_VALUES = 4_000_000  # the largest tensor of the file holds 0.6 M values

Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Window:
    """Kernel, stride and padding of a layer, each as (rows, columns); a kernel of 0 covers the whole input."""

    kernel: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[int, int]

    def output_size(self, height: int, width: int) -> tuple[int, int]:
        """Rows and columns that come out of an input of ``height`` and ``width``."""
        rows, columns = (
            (size + 2 * pad - kernel) // stride + 1
            for size, kernel, stride, pad in zip((height, width), self.kernel, self.stride, self.padding, strict=True)
        )
        return rows, columns

    def attributes(self) -> dict[str, list[int]]:
        """The same as attributes of an ONNX node."""
        return {
            "kernel_shape": list(self.kernel),
            "strides": list(self.stride),
            "pads": list(self.padding) * 2,
        }


@dataclass(frozen=True, slots=True)
class Layer:
    """One layer as it stands in the file: its tag, and what that tag carries."""

    tag: str
    params: Floats | None = None
    filters: int = 0
    window: Window | None = None


class _Reader:
    """A cursor over dlib's serialisation; whatever is not that is a ``WeightsError``."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.at = 0

    def take(self, count: int) -> bytes:
        piece = self.data[self.at : self.at + count]
        if len(piece) != count:
            raise WeightsError(f"dlib weights end at byte {len(self.data)}, in the middle of a value")
        self.at += count
        return piece

    def integer(self, low: int, high: int) -> int:
        control = self.take(1)[0]
        if control & 0x70 or control & 0x0F > 8:
            raise WeightsError(f"dlib weights: byte {self.at - 1} is not the start of an integer")
        value = int.from_bytes(self.take(control & 0x0F), "little")
        value = -value if control & 0x80 else value
        if not low <= value <= high:
            raise WeightsError(f"dlib weights: {value} before byte {self.at} is not within {low} to {high}")
        return value

    def tensor(self) -> Floats:
        self.integer(2, 2)  # the version of the tensor format
        shape = [self.integer(0, _MAX_VALUES) for _ in range(4)]
        count = shape[0] * shape[1] * shape[2] * shape[3]
        if count > _MAX_VALUES:
            raise WeightsError(f"dlib weights: a tensor of shape {shape} is too large")
        return np.frombuffer(self.take(4 * count), "<f4").reshape(shape)

    def window(self) -> Window:
        nr, nc, stride_y, stride_x, padding_y, padding_x = (self.integer(0, 64) for _ in range(6))
        if stride_y == 0 or stride_x == 0:
            raise WeightsError(f"dlib weights: a stride of 0 before byte {self.at}")
        return Window((nr, nc), (stride_y, stride_x), (padding_y, padding_x))


def read_layers(data: bytes) -> list[Layer]:
    """Layers of a serialised network, input first; an empty list when there are none.

    Raises ``WeightsError`` where the bytes break off or hold values that no such file has.
    """
    reader, layers = _Reader(data), []
    while match := _TAG_PATTERN.search(data, reader.at):
        reader.at = match.end()
        layers.append(_read_layer(reader, match.group(1).decode()))
    return layers


def _read_layer(reader: _Reader, tag: str) -> Layer:
    match tag:
        case "con_4":
            params = reader.tensor()
            return Layer(tag, params, filters=reader.integer(1, 4096), window=reader.window())
        case "affine_":
            return Layer(tag, reader.tensor())
        case "fc_2":
            outputs, _inputs = reader.integer(1, 65536), reader.integer(1, 65536)
            return Layer(tag, reader.tensor(), filters=outputs)
        case "max_pool_2" | "avg_pool_2":
            return Layer(tag, window=reader.window())
        case _:
            return Layer(tag)


@dataclass(frozen=True, slots=True)
class _Activation:
    """A tensor of the graph under construction: its name, channels, rows and columns."""

    name: str
    channels: int
    height: int
    width: int


class _Network:
    """Consumes the layers in the order of the module's grammar and writes them."""

    def __init__(self, layers: list[Layer]) -> None:
        self.layers = layers
        self.at = 0
        self.writer = GraphWriter("dlib_resnet29")

    def next_is(self, tag: str) -> bool:
        return self.at < len(self.layers) and self.layers[self.at].tag == tag

    def expect(self, tag: str) -> Layer:
        if not self.next_is(tag):
            found = self.layers[self.at].tag if self.at < len(self.layers) else "the end"
            raise WeightsError(f"dlib weights: layer {self.at} should be {tag}, found {found}")
        self.at += 1
        return self.layers[self.at - 1]

    def relu(self, x: _Activation) -> _Activation:
        self.expect("relu_")
        return _Activation(self.writer.node("Relu", [x.name]), x.channels, x.height, x.width)

    def convolution(self, x: _Activation) -> _Activation:
        """A convolution with the affine layer after it folded in: γ(Wx + b) + β."""
        layer, affine = self.expect("con_4"), self.expect("affine_")
        assert layer.params is not None
        assert layer.window is not None
        assert affine.params is not None
        flat, filters, kernel = layer.params.reshape(-1), layer.filters, layer.window.kernel
        if flat.size != filters * (x.channels * kernel[0] * kernel[1] + 1) or affine.params.size != 2 * filters:
            raise WeightsError(f"dlib weights: layer {self.at - 2} does not fit {x.channels} input channels")
        weights, bias = flat[:-filters].reshape(filters, x.channels, *kernel), flat[-filters:]
        gamma, beta = affine.params.reshape(2, filters)
        inputs = [
            x.name,
            self.writer.constant(weights * gamma[:, None, None, None]),
            self.writer.constant(bias * gamma + beta),
        ]
        name = self.writer.node("Conv", inputs, **layer.window.attributes())
        return _Activation(name, filters, *layer.window.output_size(x.height, x.width))

    def pool(self, x: _Activation, tag: str, operator: str) -> _Activation:
        window = self.expect(tag).window
        assert window is not None
        name = self.writer.node(operator, [x.name], **window.attributes())
        return _Activation(name, x.channels, *window.output_size(x.height, x.width))

    def block(self, x: _Activation) -> _Activation:
        top = self.convolution(self.relu(self.convolution(x)))
        skip = self.pool(x, "avg_pool_2", "AveragePool") if self.next_is("avg_pool_2") else x
        self.expect("add_prev_")
        return self.relu(self.add(top, skip))

    def add(self, a: _Activation, b: _Activation) -> _Activation:
        """Dlib's add: the smaller operand is padded with zeros in channels, at the bottom and at the right."""
        size = (max(a.channels, b.channels), max(a.height, b.height), max(a.width, b.width))
        names = [self.pad(operand, size) for operand in (a, b)]
        return _Activation(self.writer.node("Add", names), *size)

    def pad(self, x: _Activation, size: tuple[int, int, int]) -> str:
        missing = [want - have for want, have in zip(size, (x.channels, x.height, x.width), strict=True)]
        if not any(missing):
            return x.name
        pads = np.array([0, 0, 0, 0, 0, *missing], np.int64)
        return self.writer.node("Pad", [x.name, self.writer.constant(pads)])

    def head(self, x: _Activation) -> str:
        self.expect("avg_pool_2")
        weights = self.expect("fc_2").params
        assert weights is not None
        if weights.size != x.channels * DIMENSION:
            raise WeightsError(f"dlib weights: the last layer holds {weights.size} values")
        pooled = self.writer.node("Flatten", [self.writer.node("GlobalAveragePool", [x.name])], axis=1)
        return self.writer.node("MatMul", [pooled, self.writer.constant(weights.reshape(x.channels, DIMENSION))])


def build(data: bytes) -> onnx.ModelProto:
    """The network as ONNX: ``chips`` (N, 3, 150, 150) float32 in, ``embeddings`` (N, 128) float32 out.

    Chips are RGB, less ``MEAN_RGB``, over ``STD``. The output is dlib's own, not of unit length. Raises
    ``WeightsError`` for anything but the weights of that network.
    """
    network = _Network(read_layers(data))
    image = network.writer.input("chips", ("N", 3, INPUT_SIDE, INPUT_SIDE))
    x = network.relu(network.convolution(_Activation(image, 3, INPUT_SIDE, INPUT_SIDE)))
    x = network.pool(x, "max_pool_2", "MaxPool")
    while network.next_is("con_4"):
        x = network.block(x)
    return network.writer.finish({"embeddings": (network.head(x), ("N", DIMENSION))})
