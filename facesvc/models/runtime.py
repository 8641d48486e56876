"""Runs a graph: the only importer of onnxruntime. Its telemetry is switched off in ``facesvc/__init__.py``."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
import onnxruntime
import structlog
from numpy.typing import NDArray

from facesvc.errors import DependencyError, WeightsError

Floats = NDArray[np.float32]

CPU = "CPUExecutionProvider"
_ERRORS_ONLY = 3  # onnxruntime's severities: 0 verbose, 1 info, 2 warning, 3 error, 4 fatal

_log = structlog.get_logger(__name__)


def available_providers() -> tuple[str, ...]:
    """Execution providers that the installed onnxruntime was built with; that the hardware is there is not said."""
    return tuple(onnxruntime.get_available_providers())


def runtime_version() -> str:
    """The version of onnxruntime."""
    return str(onnxruntime.__version__)


class Network:
    """A loaded graph with one input, ready to be called from any thread.

    ``providers`` are those in use, best first; ``input_shape`` has a name or None where a dimension varies;
    ``output_names`` is the order of what a call returns.
    """

    def __init__(self, session: Any) -> None:
        (only_input,) = session.get_inputs()
        self._session = session
        self._input_name = only_input.name
        self.providers: tuple[str, ...] = tuple(session.get_providers())
        self.input_shape: tuple[int | str | None, ...] = tuple(only_input.shape)
        self.output_names: tuple[str, ...] = tuple(output.name for output in session.get_outputs())

    @classmethod
    def load(cls, path: Path, *, threads: int = 1, providers: Sequence[str] = (CPU,), strict: bool = False) -> Self:
        """The graph in the file ``path``, on the first of ``providers`` that works; the CPU always does.

        A provider that was asked for and is not used gives a warning in the log, or with ``strict``, where no part of
        the graph may fall back to the CPU either, a ``DependencyError``. Raises ``WeightsError`` for a file that is not
        a graph with one input.
        """
        # onnxruntime only warns about a name it does not know, in words of its own; we keep those from it.
        known = [name for name in providers if name in available_providers()]
        if strict and len(known) < len(providers):
            raise DependencyError(_not_in_use(providers, available_providers()))
        try:
            session = onnxruntime.InferenceSession(
                path, _options(threads, strict=strict and CPU not in providers), providers=known or [CPU]
            )
            network = cls(session)
        # Its exceptions have no base of their own; whatever it is, this file cannot be run.
        except Exception as error:
            raise WeightsError(
                f"{path} cannot be loaded on {', '.join(providers)}: {error}; `facesvc models build` writes it anew"
            ) from error
        if set(providers) - set(network.providers):
            message = _not_in_use(providers, network.providers)
            if strict:
                raise DependencyError(message)
            _log.warning(message, asked_for=list(providers), used=list(network.providers), file=str(path))
        return network

    def __call__(self, array: Floats) -> tuple[Floats, ...]:
        """The outputs, in the order of ``output_names``, for an ``array`` float32 that fits ``input_shape``."""
        return tuple(self._session.run(None, {self._input_name: array}))


def _not_in_use(asked_for: Sequence[str], used: Sequence[str]) -> str:
    missing = ", ".join(name for name in asked_for if name not in used)
    return f"{missing} cannot be used here; there is {', '.join(used)}: install the onnxruntime that fits the hardware"


def _options(threads: int, *, strict: bool) -> Any:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    options.log_severity_level = _ERRORS_ONLY
    # Idle threads that spin cost an edge box seven times the CPU at 30 calls a second.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.add_session_config_entry("session.inter_op.allow_spinning", "0")
    # The arena keeps the largest block that any frame ever needed, the memory pattern a plan for each input size.
    # P-Net at 384x266 takes as long without them (13.4 against 14.5 ms, medians of 40 on a slow core); after one
    # 960x540 frame and 400 different sizes the process holds 210 MB without and 520 MB with them.
    options.enable_cpu_mem_arena = False
    options.enable_mem_pattern = False
    if strict:
        options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
    return options
