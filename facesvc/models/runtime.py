"""Runs a graph: the only importer of onnxruntime. Its telemetry is switched off in ``facesvc/__init__.py``.

An execution provider is what onnxruntime runs the nodes of a graph on. That the installed onnxruntime was built with
one says nothing about the machine: its libraries may be missing, its hardware too, and then onnxruntime quietly runs on
the CPU. So it is asked afterwards which provider has nodes to run; only that one is in use, and any other that was
wanted is a warning or, where the settings are strict, an error.
"""

import threading
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any, Self

import numpy as np
import onnxruntime
import structlog
from numpy.typing import NDArray

from facesvc.errors import DependencyError, WeightsError

Floats = NDArray[np.float32]

AUTO = "auto"
"""In place of a list of providers: every accelerator that onnxruntime was built with, best first, then the CPU."""
CPU = "CPUExecutionProvider"
_ACCELERATORS = (
    "TensorrtExecutionProvider",
    "CUDAExecutionProvider",
    "OpenVINOExecutionProvider",
    "CoreMLExecutionProvider",
    "QNNExecutionProvider",
)
_REMOTE = "AzureExecutionProvider"  # sends inputs to a service elsewhere, and has no kernel of its own
_TRIAL_BYTES = 2 << 30
"""The largest weights that are taken in, and as much again; a graph of 1.6 KB can ask for as much as it likes."""
_TRIAL_S = 60.0
_ERRORS_ONLY = 3  # onnxruntime's severities: 0 verbose, 1 info, 2 warning, 3 error, 4 fatal

_log = structlog.get_logger(__name__)


def available_providers() -> tuple[str, ...]:
    """Execution providers that the installed onnxruntime was built with; that the hardware is there is not said."""
    return tuple(onnxruntime.get_available_providers())


def wanted_providers(providers: Sequence[str]) -> tuple[str, ...]:
    """The list of names that ``providers``, a list or ``AUTO``, stands for."""
    if providers != AUTO:
        return tuple(providers)
    built_in = available_providers()
    return (*(name for name in _ACCELERATORS if name in built_in), CPU)


def runtime_version() -> str:
    """The version of onnxruntime."""
    return str(onnxruntime.__version__)


class Network:
    """A loaded graph with one input, ready to be called from any thread.

    ``providers`` are those that run nodes of it, best first; ``input_shape`` has a name or None where a dimension
    varies; ``output_names`` is the order of what a call returns.
    """

    def __init__(self, session: Any, *, on_trial: bool = False) -> None:
        (only_input,) = session.get_inputs()
        self._session = session
        self._on_trial = on_trial
        self._input_name = only_input.name
        self.providers = _in_use(session)
        self.input_shape: tuple[int | str | None, ...] = tuple(only_input.shape)
        self.output_names: tuple[str, ...] = tuple(output.name for output in session.get_outputs())

    @classmethod
    def load(
        cls,
        path: Path,
        *,
        threads: int = 1,
        providers: Sequence[str] = (CPU,),
        strict: bool = False,
        many_sizes: bool = False,
        on_trial: bool = False,
    ) -> Self:
        """The graph in the file ``path``, on the first of ``providers`` (or ``AUTO``) that works; the CPU always does.

        ``many_sizes`` says that hardly two inputs are of one size; then memory is given back after each. ``on_trial``
        is for a graph that nobody vouches for: it runs as it stands, slowly, within ``_TRIAL_BYTES`` and ``_TRIAL_S``;
        the time is looked at between two nodes, so that a single one that is large enough can take longer.

        A provider that was wanted and is not in use gives a warning in the log with the reason. With ``strict`` it is
        a ``DependencyError``, and so is a node that falls back to the CPU where that is not in the list; under ``AUTO``
        one accelerator has to be in use where onnxruntime was built with any. Raises ``WeightsError`` for a file that
        is not a graph with one input.
        """
        wanted = wanted_providers(providers)
        reasons = {name: reason for name in wanted if (reason := _obstacle(name))}
        options = _options(threads, many_sizes=many_sizes)
        if on_trial:
            _bound(options)
        session = _start(path, options, wanted, reasons)
        try:
            network = cls(session, on_trial=on_trial)
        except ValueError as error:
            raise WeightsError(_unusable_file(path, f"a graph with one input is wanted: {error}")) from error
        fallbacks = _fallbacks(wanted, network.providers, reasons)
        # Under AUTO one accelerator may stand in for another; only the CPU in place of all of them is refused.
        accelerated = providers == AUTO and any(name != CPU for name in network.providers)
        if strict and fallbacks and not accelerated:
            raise DependencyError(_refusal(fallbacks, network.providers))
        for fallback in fallbacks:
            _log.warning(fallback, asked_for=list(wanted), used=list(network.providers), file=str(path))
        return network

    def __call__(self, array: Floats) -> tuple[Floats, ...]:
        """The outputs, in the order of ``output_names``, for an ``array`` float32 that fits ``input_shape``."""
        if not self._on_trial:
            return tuple(self._session.run(None, {self._input_name: array}))
        options = onnxruntime.RunOptions()
        giving_up = threading.Timer(_TRIAL_S, setattr, (options, "terminate", True))
        giving_up.start()
        try:
            return tuple(self._session.run(None, {self._input_name: array}, options))
        finally:
            giving_up.cancel()


def _obstacle(name: str) -> str:
    """Why a provider cannot be tried at all; empty where it can."""
    if name == _REMOTE:
        return "it runs nothing on this machine"
    return "" if name in available_providers() else "the installed onnxruntime was not built with it"


def _start(path: Path, options: Any, wanted: Sequence[str], reasons: dict[str, str]) -> Any:
    """A session on those of ``wanted`` that start; ``reasons`` gets an entry for each of the others.

    Raises ``WeightsError`` where not even the CPU can load the file.
    """
    candidates = [name for name in wanted if name not in reasons]
    while True:
        try:
            # Without enable_fallback=0 onnxruntime goes on by itself on the CPU, and says so on standard output: here,
            # and again whenever a run fails.
            session = onnxruntime.InferenceSession(path, options, providers=candidates or [CPU], enable_fallback=0)
        # Its exceptions have no base of their own.
        except Exception as error:
            accelerators = [name for name in candidates if name != CPU]
            if not accelerators:
                raise WeightsError(_unusable_file(path, str(error))) from error
            culprit = _culprit(accelerators, str(error))
            reasons[culprit] = f"it does not start: {error}"
            candidates.remove(culprit)
        else:
            for name in set(candidates) - set(session.get_providers()):
                reasons[name] = "it does not start: its libraries, its driver or its hardware are missing"
            return session


def _culprit(accelerators: Sequence[str], error: str) -> str:
    """The provider that an error speaks of, else the first: they are started in that order."""
    text = error.lower()
    named = (name for name in accelerators if name.removesuffix("ExecutionProvider").lower() in text)
    return next(named, accelerators[0])


def _in_use(session: Any) -> tuple[str, ...]:
    """The providers that have nodes to run: a provider can be registered and take none."""
    running = {subgraph.ep_name for subgraph in session.get_provider_graph_assignment_info()}
    return tuple(name for name in session.get_providers() if name in running and name != _REMOTE)


def _fallbacks(wanted: Sequence[str], used: Sequence[str], reasons: dict[str, str]) -> list[str]:
    """What does not run where it was wanted, a line each.

    A provider that could start and has nothing to do, because better ones do it all, is no fallback.
    """
    idle = {
        name: "it can run no node of this graph" for at, name in enumerate(wanted) if set(wanted[at + 1 :]) & {*used}
    }
    obstacles = {name: reason for name, reason in (idle | reasons).items() if name not in used}
    if not obstacles and CPU in used and CPU not in wanted:
        return [f"{', '.join(wanted)} cannot run all of this graph: {CPU} runs the rest"]
    return [f"{name} cannot be used here: {obstacles[name]}" for name in wanted if name in obstacles]


def _refusal(fallbacks: Sequence[str], used: Sequence[str]) -> str:
    return (
        f"{'; '.join(fallbacks)}. The fallback to {', '.join(used)} is refused because models.strict_providers is set:"
        " install the onnxruntime, driver and libraries that fit the hardware, or allow the fallback with"
        " models.strict_providers = false"
    )


def _unusable_file(path: Path, problem: str) -> str:
    return (
        f"{path} cannot be loaded: {problem}; `facesvc models build` writes the default pack anew, any other must be"
        " added or pulled again"
    )


def _bound(options: Any) -> None:
    """Take memory from an allocator that has a limit, and leave the graph as it is.

    What is worked out ahead of time to make it faster would take memory from elsewhere.
    """
    _register_bounded_allocator()
    options.add_session_config_entry("session.use_env_allocators", "1")
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL


@cache
def _register_bounded_allocator() -> None:
    """The process has one; only sessions that ask for it take from it."""
    kind = onnxruntime.OrtAllocatorType.ORT_ARENA_ALLOCATOR
    place = onnxruntime.OrtMemoryInfo("Cpu", kind, 0, onnxruntime.OrtMemType.DEFAULT)
    default, as_needed = -1, 1
    limits = {
        "max_mem": _TRIAL_BYTES,
        "arena_extend_strategy": as_needed,
        "initial_chunk_size_bytes": default,
        "max_dead_bytes_per_chunk": default,
    }
    onnxruntime.create_and_register_allocator(place, onnxruntime.OrtArenaCfg(limits))


def _options(threads: int, *, many_sizes: bool) -> Any:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    options.log_severity_level = _ERRORS_ONLY
    # Idle threads that spin cost an edge box seven times the CPU at 30 calls a second.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.add_session_config_entry("session.inter_op.allow_spinning", "0")
    options.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
    # The arena keeps the largest blocks that any frame ever needed, the memory pattern a plan for each input size. Over
    # a pyramid P-Net takes as long without them, and after 400 different sizes the process holds 210 MB without and
    # 520 MB with them. YuNet takes twice as long without the arena (57 against 30 ms at 1216 x 832), for every large
    # block then comes fresh from the system; over 100 sizes it holds 150 MB with it, SCRFD-2.5G 250 MB.
    options.enable_cpu_mem_arena = not many_sizes
    options.enable_mem_pattern = False
    return options
