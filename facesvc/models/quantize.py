"""Makes a network int8: less than half the time, a quarter of the size, and as exact as ``compare`` says.

Weights become small integers with a scale for each output channel, activations 8-bit integers with one scale a tensor,
taken from the values that calibration inputs give rise to (Jacob et al., Quantization and Training of Neural Networks
for Efficient Integer-Arithmetic-Only Inference, 2018). Where the time goes depends on the graph: convolutions gain,
depth-wise ones and PReLU hardly, so measure before using the result.
"""

import io
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from facesvc.errors import DependencyError, WeightsError

Floats = NDArray[np.float32]
Run = Callable[[Floats], tuple[Floats, ...]]
"""A network: one batch in, its outputs in declared order."""

# 64 chips take two seconds; a large network on a slow core a few minutes.
TIMEOUT_S = 900.0
# What is sent is held twice, here and in the child: 2,000 chips or 100 frames of 640 x 640 fit.
MAX_BYTES = 512 << 20

_PACKAGE_PARENT = Path(__file__).resolve().parents[2]
_FAILED = 1  # the status of a child that said in words why


@dataclass(frozen=True, slots=True)
class Pace:
    """Median seconds for a batch, and how many times as fast int8 is: above 1 it is faster."""

    float_s: float
    int8_s: float
    speedup: float


@dataclass(frozen=True, slots=True)
class Drift:
    """What became of an embedder: the cosine of each face's two vectors, and how long both networks take."""

    faces: int
    mean_cosine: float
    least_cosine: float
    pace: Pace

    def __post_init__(self) -> None:
        if self.faces < 1:
            raise ValueError("a drift of no faces")


def quantize(
    graph: bytes | Path, batches: Iterable[Floats], *, weight_bits: Literal[7, 8] = 7, timeout_s: float = TIMEOUT_S
) -> bytes:
    """The int8 graph (static, QDQ) of an ONNX ``graph`` with one input; names and shapes outside stay as they are.

    :param batches: (N, C, H, W) float32, exactly as the network takes them: the fewer the faces they show, the more
        different these should be. The same batches give the same bytes.
    :param weight_bits: with 7 every processor computes the same numbers. With 8 they are more exact, but x86 processors
        without VNNI cut off sums of products: MobileFaceNet's mean cosine is 0.992 with VNNI, 0.976 without, and 0.979
        on both with 7 bits.

    A process of its own does the work and has its 330 MB. Raises ``WeightsError`` for a graph
    that is none, does not fit the batches or has nothing to quantise, ``DependencyError`` for a process that hung, was
    killed or could not be started, and ``ValueError`` for batches that are none, or too many.
    """
    message = _message(_content(graph), batches)
    command = [sys.executable, "-m", "facesvc.models.quantizer_program", str(weight_bits)]
    try:
        # The quantiser works with files. They are the child's, and gone with this folder however the child ends.
        with tempfile.TemporaryDirectory(prefix="facesvc-quantize-") as folder:
            child = subprocess.run(  # noqa: S603 - this interpreter, this package
                command,
                input=message,
                capture_output=True,
                timeout=timeout_s,
                cwd=_PACKAGE_PARENT,
                env={**os.environ, "TMPDIR": folder},
                check=False,
            )
    except subprocess.TimeoutExpired as error:
        raise DependencyError(
            f"quantising took more than {timeout_s:g} s: try again, or with fewer pictures"
        ) from error
    except OSError as error:
        raise DependencyError(f"quantising could not run: {error}") from error
    reason = child.stderr.decode(errors="replace")[-2000:].strip()
    if child.returncode == _FAILED:
        raise WeightsError(f"the network cannot be quantised: {reason}")
    if child.returncode != 0:
        raise DependencyError(
            f"quantising broke off (status {child.returncode}; a negative one is a signal, -9 often a lack of memory): "
            f"{reason}"
        )
    return child.stdout


def compare(
    float_network: Run, int8_network: Run, inputs: Sequence[Floats], clock: Callable[[], float] = time.perf_counter
) -> Drift:
    """The drift of an embedder over ``inputs``, batches of faces that were not calibrated with."""
    cosines = np.concatenate([_cosines(float_network(batch)[0], int8_network(batch)[0]) for batch in inputs])
    return Drift(
        faces=len(cosines),
        mean_cosine=float(cosines.mean()),
        least_cosine=float(cosines.min()),
        pace=pace(float_network, int8_network, inputs, clock),
    )


def pace(
    float_network: Run,
    int8_network: Run,
    inputs: Sequence[Floats],
    clock: Callable[[], float] = time.perf_counter,
    rounds: int = 5,
) -> Pace:
    """How long both take for a batch. Fit for any network; each must have run once before.

    The two take turns and the median of their ratios counts, so that a machine with other work gives the same answer.
    """
    times = []
    for _ in range(rounds):
        for batch in inputs:
            start = clock()
            float_network(batch)
            between = clock()
            int8_network(batch)
            times.append((between - start, clock() - between))
    floats, integers = zip(*times, strict=True)
    ratios = [long / max(short, 1e-9) for long, short in times]
    return Pace(statistics.median(floats), statistics.median(integers), statistics.median(ratios))


def _content(graph: bytes | Path) -> bytes:
    if isinstance(graph, bytes):
        return graph
    try:
        return graph.read_bytes()
    except OSError as error:
        raise WeightsError(f"{graph} cannot be read: {error.strerror}") from error


def _message(graph: bytes, batches: Iterable[Floats]) -> bytes:
    """What the child reads: the graph as an array of bytes, then each batch, all in NumPy's file format."""
    message, count = io.BytesIO(), 0
    np.lib.format.write_array(message, np.frombuffer(graph, np.uint8), allow_pickle=False)
    for count, batch in enumerate(batches, 1):  # noqa: B007 - how many there were is asked for below
        if batch.dtype != np.float32 or batch.ndim != 4 or not batch.size:
            raise ValueError(f"a batch must be (N, C, H, W) float32, not {batch.shape} {batch.dtype}")
        if message.tell() + batch.nbytes > MAX_BYTES:
            raise ValueError(f"the batches take more than {MAX_BYTES >> 20} MiB: calibrate with fewer")
        np.lib.format.write_array(message, batch, allow_pickle=False)
    if not count:
        raise ValueError("there is no batch to calibrate with")
    return message.getvalue()


def _cosines(a: Floats, b: Floats) -> NDArray[np.float64]:
    """The cosine of each row of ``a`` (N, D) with that of ``b``; 0 where one is all zeros."""
    first, second = a.astype(np.float64), b.astype(np.float64)
    lengths = np.linalg.norm(first, axis=1) * np.linalg.norm(second, axis=1)
    cosines: NDArray[np.float64] = np.sum(first * second, axis=1) / np.where(lengths > 0, lengths, 1)
    return cosines
