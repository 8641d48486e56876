"""Tries the graphs that somebody brings: what is loaded is run once, and what it is said to be is compared."""

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from facesvc.errors import WeightsError
from facesvc.models.folders import blaming
from facesvc.models.runtime import Network

ARCFACE_SIDE = 112
"""The side of a chip where neither the graph nor anybody says another."""

_TRIED_SIDE = 64
_STRIDES = (8, 16, 32)
# The outputs that a family has for each stride: how many there are with so many values a box.
_OUTPUTS: Mapping[str, tuple[Mapping[int, int], ...]] = {
    "scrfd": ({1: 1, 4: 1}, {1: 1, 4: 1, 10: 1}),
    "yunet": ({1: 2, 4: 1, 10: 1},),
}
LIVENESS_SIDE = 80
# MiniFASNet: logits of print, genuine, screen. The add-on of insightface: the probability of a living face.
_LIVENESS_OUTPUTS: Mapping[str, tuple[int, ...]] = {"minifasnet": (1, 3), "insightface": (1,)}

Outputs = tuple[np.ndarray[tuple[int, ...], np.dtype[np.float32]], ...]


def detector_family(path: Path, content: bytes, said: str | None) -> str:
    """The family of the detector ``content``, from the file ``path``: the one that it is said to be, or looks like.

    Raises ``WeightsError`` for anything else.
    """
    network = _loaded(path, content)
    family = said or _family(network, path)
    side = _fixed_side(network, path)
    if side and side % max(_STRIDES):
        raise WeightsError(f"{path.name} takes pictures of {side} pixels: multiples of {max(_STRIDES)} can be used")
    outputs = _run(network, path, _TRIED_SIDE)
    if not _are_of(family, outputs, side or _TRIED_SIDE):
        raise WeightsError(f"{path.name} is no detector of the family {family}: its outputs are {_shapes(outputs)}")
    return family


def embedder_sizes(path: Path, content: bytes, said_side: int | None) -> tuple[int, int]:
    """The side of the chips and the values of the vectors of the embedder ``content``, from the file ``path``.

    Raises ``WeightsError`` for anything else than an embedder of the side that is said.
    """
    network = _loaded(path, content)
    fixed = _fixed_side(network, path)
    side = said_side or fixed or ARCFACE_SIDE
    if fixed and side != fixed:
        raise WeightsError(f"{path.name} takes chips of {fixed} pixels, not of {side}")
    outputs = _run(network, path, side)
    if len(outputs) != 1 or outputs[0].ndim != 2 or len(outputs[0]) != 1:
        raise WeightsError(f"{path.name} is no embedder: it should give one vector a face, not {_shapes(outputs)}")
    if not np.isfinite(outputs[0]).all():
        raise WeightsError(f"{path.name} is damaged: its vectors hold something else than numbers")
    return side, outputs[0].shape[1]


def check_liveness(path: Path, content: bytes, family: str) -> None:
    """Raises ``WeightsError`` unless the file ``path`` with this ``content`` is a network of that liveness family."""
    network = _loaded(path, content)
    if _fixed_side(network, path) != LIVENESS_SIDE:
        message = f"{path.name} takes pictures of {network.input_shape}, not of {LIVENESS_SIDE} x {LIVENESS_SIDE}"
        raise WeightsError(f"{message} pixels, as a liveness network of the family {family} does")
    outputs = _run(network, path, LIVENESS_SIDE)
    shape = _LIVENESS_OUTPUTS[family]
    if [output.shape for output in outputs] != [shape]:
        raise WeightsError(
            f"{path.name} is no liveness network of the family {family}: it should give {shape}, not {_shapes(outputs)}"
        )
    if not np.isfinite(outputs[0]).all():
        raise WeightsError(f"{path.name} is damaged: its scores hold something else than numbers")


def _loaded(path: Path, content: bytes) -> Network:
    """The graph with this ``content``, loaded from where nothing else lies, as it will be in the pack."""
    with TemporaryDirectory() as alone:
        copy = Path(alone) / "graph.onnx"
        with blaming(copy):
            copy.write_bytes(content)
        try:
            return Network.load(copy, on_trial=True)
        except WeightsError as error:
            raise WeightsError(
                f"{path} cannot be loaded: {error.__cause__}; it has to be an ONNX graph with one input and its weights"
                " in the same file"
            ) from error


def _fixed_side(network: Network, path: Path) -> int | None:
    """The side of the square that the graph insists on; None where it takes any size."""
    shape = network.input_shape
    if len(shape) != 4:
        raise WeightsError(f"{path.name} takes no pictures: its input is {shape}, not (1, 3, height, width)")
    height, width = (size if isinstance(size, int) else None for size in shape[2:])
    if height != width:
        raise WeightsError(
            f"{path.name} takes pictures of {shape[3]} x {shape[2]} pixels: it has to be squares, or any"
        )
    return height


def _family(network: Network, path: Path) -> str:
    count = len(network.output_names)
    for family, kinds in _OUTPUTS.items():
        if count in [len(_STRIDES) * sum(kind.values()) for kind in kinds]:
            return family
    raise WeightsError(f"{path.name} has {count} outputs: SCRFD has 6 or 9, YuNet 12; name its family")


def _are_of(family: str, outputs: Outputs, side: int) -> bool:
    """Whether these are the outputs of that family for a square: for each stride all kinds, one or two in a cell."""
    found = Counter((output.shape[-1], output.size // max(1, output.shape[-1])) for output in outputs)
    return any(
        found
        == Counter(
            {(values, anchors * (side // stride) ** 2): count for stride in _STRIDES for values, count in kind.items()}
        )
        for kind in _OUTPUTS[family]
        for anchors in (1, 2)
    )


def _run(network: Network, path: Path, side: int) -> Outputs:
    """The outputs for a grey picture: ``side`` pixels square, or as large as the graph insists on."""
    shape = [1, 3, *(size if isinstance(size, int) else side for size in network.input_shape[-2:])]
    try:
        outputs = network(np.zeros(shape, np.float32))
    except Exception as error:
        # onnxruntime's exceptions have no base of their own.
        raise WeightsError(
            f"{path.name} does not run on a picture of {shape[-1]} x {shape[-2]} pixels: {error}"
        ) from error
    if any(np.ndim(output) == 0 or np.asarray(output).dtype.kind != "f" for output in outputs):
        raise WeightsError(f"{path.name} gives something else than arrays of numbers")
    return outputs


def _shapes(outputs: Outputs) -> str:
    return ", ".join(str(output.shape) for output in outputs)
