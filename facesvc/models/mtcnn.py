"""MTCNN's three networks: reads the weight files of the package ``mtcnn`` and writes each as an ONNX graph.

Zhang, Zhang, Li, Qiao: Joint Face Detection and Alignment Using Multitask Cascaded Convolutional Networks, 2016. Each
file is an LZ4 frame around a joblib pickle of a list of arrays in Keras layout: convolutions (rows, columns, in, out),
then bias, then the slopes of a PReLU; dense layers (in, out) likewise; one dense layer or 1x1 convolution a head.

All three take RGB as (N, 3, rows, columns) float32, (x - 127.5) / 128.
"""

import io
import pickle
from collections.abc import Callable
from typing import Any, Self

import lz4.frame
import numpy as np
import onnx
from numpy.typing import NDArray

from facesvc.errors import WeightsError
from facesvc.models.graph import GraphWriter

MEAN_RGB = (127.5, 127.5, 127.5)
STD = 128.0

_MAX_BYTES = 16 << 20  # O-Net, the largest, unpacks to 1.6 MB
_MAX_STEPS = 10_000  # opcodes; O-Net takes 580. A byte that is one may take a hundred bytes of memory
Floats = NDArray[np.float32]


class _Stream(io.BytesIO):
    """Bytes that say how many are left, and give exactly what was asked for."""

    def exactly(self, count: int) -> bytes:
        piece = self.read(count) if 0 <= count <= len(self.getbuffer()) - self.tell() else b""
        if len(piece) != count:
            raise WeightsError("mtcnn weights end in the middle of an array")
        return piece


class _Float32:
    """Stands for ``numpy.dtype``: the one that is allowed is little-endian float32."""

    def __new__(cls, code: str, *_: object) -> Self:  # and no __init__, which a pickle may leave out
        if code != "f4":
            raise WeightsError(f"mtcnn weights hold an array of type {code!r}; only float32 is read")
        return super().__new__(cls)

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        if len(state) < 2 or state[1] != "<":
            raise WeightsError("mtcnn weights are not little-endian")


# The opcodes that joblib writes for a list of arrays. Missing on purpose are those that name a length or a place in
# the memo in four or eight bytes: six bytes with one of them make pickle fill gigabytes.
_OPCODES = b"".join((
    pickle.PROTO, pickle.FRAME, pickle.STOP, pickle.MARK, pickle.MEMOIZE, pickle.BINGET, pickle.STACK_GLOBAL,
    pickle.NEWOBJ, pickle.REDUCE, pickle.BUILD, pickle.NONE, pickle.NEWTRUE, pickle.NEWFALSE, pickle.BININT,
    pickle.BININT1, pickle.BININT2, pickle.SHORT_BINUNICODE, pickle.EMPTY_TUPLE, pickle.TUPLE, pickle.TUPLE1,
    pickle.TUPLE2, pickle.TUPLE3, pickle.EMPTY_LIST, pickle.APPEND, pickle.APPENDS, pickle.EMPTY_DICT, pickle.SETITEM,
    pickle.SETITEMS,
))  # fmt: skip


def _counted(carry_out: Callable[[Any], None]) -> Callable[[Any], None]:
    """The opcode, which is refused after so many."""

    def step(unpickler: "_ArraysOnly") -> None:
        unpickler.steps += 1
        if unpickler.steps > _MAX_STEPS:
            raise WeightsError(f"mtcnn weights take more than {_MAX_STEPS:,} steps to read")
        carry_out(unpickler)

    return step


# The unpickler in Python, which joblib reads with too: its table of opcodes can be cut short, the one in C has none.
class _ArraysOnly(pickle._Unpickler):  # noqa: SLF001
    """joblib's pickle reduced to lists of float32 arrays: nothing it names is ever imported or called.

    What it names is a class of ours that has ``__setstate__``, or nothing: the opcode BUILD would set attributes of
    anything else, as the file says, also of a class.

    joblib writes each array as a placeholder whose state (shape, order) is followed by the raw bytes in the stream;
    ``pickle`` hands over the state at just that point.
    """

    dispatch = {opcode: _counted(pickle._Unpickler.dispatch[opcode]) for opcode in _OPCODES}  # noqa: RUF012, SLF001

    def __init__(self, stream: _Stream) -> None:
        super().__init__(stream)
        self.steps = 0

        class StoredArray:
            array: Floats

            def __setstate__(self, state: dict[str, Any]) -> None:
                self.array = _read_array(stream, state)

        self._stored = StoredArray
        self._classes = {
            ("joblib.numpy_pickle", "NumpyArrayWrapper"): StoredArray,
            ("numpy", "ndarray"): None,  # which is only named
            ("numpy", "dtype"): _Float32,
        }

    def arrays(self) -> list[Floats]:
        """What ``load`` gives, where that is a list of arrays."""
        stored = self.load()
        if not isinstance(stored, list) or not all(isinstance(item, self._stored) for item in stored):
            raise WeightsError("mtcnn weights are no list of arrays")
        return [item.array for item in stored]

    def find_class(self, module: str, name: str) -> Any:
        try:
            return self._classes[module, name]
        except KeyError:
            raise WeightsError(f"mtcnn weights name {module}.{name}, which is not an array") from None


def _read_array(stream: _Stream, state: dict[str, Any]) -> Floats:
    shape = tuple(int(size) for size in state["shape"])
    if state["order"] != "C" or not isinstance(state["dtype"], _Float32) or min(shape, default=1) < 0:
        raise WeightsError(f"mtcnn weights hold an array of unknown layout: {shape}")
    if state.get("numpy_array_alignment_bytes") is not None:
        stream.exactly(stream.exactly(1)[0])  # joblib aligns the values; the first byte counts the padding
    count = 1
    for size in shape:
        count *= size
    return np.frombuffer(stream.exactly(4 * count), "<f4").reshape(shape)


def read_arrays(data: bytes) -> list[Floats]:
    """The arrays of one weight file, in order. Raises ``WeightsError`` for anything else."""
    try:
        decompressor = lz4.frame.LZ4FrameDecompressor()
        plain = decompressor.decompress(data, max_length=_MAX_BYTES)
        return _ArraysOnly(_Stream(plain)).arrays()
    except WeightsError:
        raise
    # Unpickling hostile bytes raises nearly anything; whatever it is, the file is not what it should be.
    except Exception as error:
        raise WeightsError(f"mtcnn weights cannot be read: {type(error).__name__}: {error}") from error


class _Layers:
    """Takes arrays from the front of the list, and writes the layer they belong to."""

    def __init__(self, name: str, arrays: list[Floats]) -> None:
        self.arrays = iter(arrays)
        self.writer = GraphWriter(name)

    def take(self, dimensions: int) -> Floats:
        array = next(self.arrays, None)
        if array is None or array.ndim != dimensions:
            raise WeightsError(f"mtcnn weights: the next array should have {dimensions} dimensions")
        return array

    def convolution(self, x: str) -> str:
        weights, bias = self.take(4), self.take(1)
        kernel = list(weights.shape[:2])
        inputs = [x, self.writer.constant(weights.transpose(3, 2, 0, 1)), self.writer.constant(bias)]
        return self.writer.node("Conv", inputs, kernel_shape=kernel)

    def dense(self, x: str) -> str:
        weights, bias = self.take(2), self.take(1)
        return self.writer.node("Gemm", [x, self.writer.constant(weights), self.writer.constant(bias)])

    def prelu(self, x: str, slopes: Floats) -> str:
        """PReLU as relu(x) - a·relu(-x): onnxruntime's own kernel takes more than twice as long on CPU."""
        writer = self.writer
        negative = writer.node("Relu", [writer.node("Neg", [x])])
        return writer.node("Sub", [writer.node("Relu", [x]), writer.node("Mul", [negative, writer.constant(slopes)])])

    def convolution_prelu(self, x: str) -> str:
        x = self.convolution(x)
        return self.prelu(x, self.take(3).transpose(2, 0, 1)[None])

    def pool(self, x: str, side: int, padding: str) -> str:
        """A maximum over ``side`` x ``side`` with stride 2; ``same`` pads the bottom and right first, as Keras does."""
        auto_pad = "SAME_UPPER" if padding == "same" else "VALID"
        return self.writer.node("MaxPool", [x], kernel_shape=[side, side], strides=[2, 2], auto_pad=auto_pad)

    def flatten(self, x: str) -> str:
        """Keras flattens (columns, rows, channels) here."""
        return self.writer.node("Flatten", [self.writer.node("Transpose", [x], perm=[0, 3, 2, 1])], axis=1)

    def face_score(self, logits: str) -> str:
        """The second of two softmax outputs, along axis 1."""
        softmax = self.writer.node("Softmax", [logits], axis=1)
        return self.writer.node("Gather", [softmax, self.writer.constant(np.array([1]))], axis=1)

    def finish(self, outputs: dict[str, tuple[str, tuple[int | str, ...]]]) -> onnx.ModelProto:
        if next(self.arrays, None) is not None:
            raise WeightsError("mtcnn weights hold more arrays than the network has layers")
        return self.writer.finish(outputs)


def build_pnet(data: bytes) -> onnx.ModelProto:
    """P-Net: ``image`` (N, 3, H, W), both sides 12 or more, to ``boxes`` (N, 4, h, w) and ``scores`` (N, 1, h, w)."""
    net = _Layers("mtcnn_pnet", read_arrays(data))
    x = net.writer.input("image", ("N", 3, "H", "W"))
    x = net.pool(net.convolution_prelu(x), 2, "same")
    x = net.convolution_prelu(net.convolution_prelu(x))
    boxes = net.convolution(x)
    scores = net.face_score(net.convolution(x))
    return net.finish({"boxes": (boxes, ("N", 4, "h", "w")), "scores": (scores, ("N", 1, "h", "w"))})


def build_rnet(data: bytes) -> onnx.ModelProto:
    """R-Net: ``crops`` (N, 3, 24, 24) to ``boxes`` (N, 4) and ``scores`` (N, 1)."""
    net = _Layers("mtcnn_rnet", read_arrays(data))
    x = net.writer.input("crops", ("N", 3, 24, 24))
    x = net.pool(net.convolution_prelu(x), 3, "same")
    x = net.pool(net.convolution_prelu(x), 3, "valid")
    x = net.dense(net.flatten(net.convolution_prelu(x)))
    x = net.prelu(x, net.take(1))
    boxes = net.dense(x)
    scores = net.face_score(net.dense(x))
    return net.finish({"boxes": (boxes, ("N", 4)), "scores": (scores, ("N", 1))})


def build_onet(data: bytes) -> onnx.ModelProto:
    """O-Net: ``crops`` (N, 3, 48, 48) to ``boxes`` (N, 4), ``landmarks`` (N, 10: five x, five y), ``scores`` (N, 1)."""
    net = _Layers("mtcnn_onet", read_arrays(data))
    x = net.writer.input("crops", ("N", 3, 48, 48))
    x = net.pool(net.convolution_prelu(x), 3, "same")
    x = net.pool(net.convolution_prelu(x), 3, "valid")
    x = net.pool(net.convolution_prelu(x), 2, "same")
    x = net.dense(net.flatten(net.convolution_prelu(x)))
    x = net.prelu(x, net.take(1))
    boxes, landmarks = net.dense(x), net.dense(x)
    scores = net.face_score(net.dense(x))
    return net.finish({"boxes": (boxes, ("N", 4)), "landmarks": (landmarks, ("N", 10)), "scores": (scores, ("N", 1))})
