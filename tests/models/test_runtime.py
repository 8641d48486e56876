"""Networks run where they say they run, hold no memory for sizes they saw, and tell nobody."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnxruntime
import pytest
from structlog.testing import capture_logs

from facesvc.errors import DependencyError, WeightsError
from facesvc.models import runtime
from facesvc.models.packs import Pack
from facesvc.models.runtime import AUTO, CPU, Network

Script = Callable[..., subprocess.CompletedProcess[str]]
TENSORRT, CUDA, AZURE = "TensorrtExecutionProvider", "CUDAExecutionProvider", "AzureExecutionProvider"
needs_no_gpu = pytest.mark.skipif(CUDA in runtime.available_providers(), reason="this onnxruntime has CUDA")


@pytest.fixture(scope="module")
def pnet(pack: Pack) -> Path:
    return pack.path(pack.detector.files["pnet"])


def test_what_a_network_says_of_itself(pnet: Path) -> None:
    network = Network.load(pnet)
    assert network.providers == (CPU,)
    assert network.input_shape == ("N", 3, "H", "W")
    assert network.output_names == ("boxes", "scores")
    assert [output.dtype for output in network(np.zeros((1, 3, 12, 12), np.float32))] == [np.float32] * 2
    assert CPU in runtime.available_providers()
    assert runtime.runtime_version()[0].isdigit()


def test_more_threads_give_the_same(pnet: Path) -> None:
    image = np.random.default_rng(0).uniform(-1, 1, (1, 3, 60, 80)).astype(np.float32)
    one, two = Network.load(pnet)(image), Network.load(pnet, threads=2)(image)
    for a, b in zip(one, two, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-6)


@needs_no_gpu
def test_a_provider_that_is_not_there_is_told(pnet: Path) -> None:
    with capture_logs() as logs:
        network = Network.load(pnet, providers=[CUDA, CPU])
    assert network.providers == (CPU,)
    assert [(entry["log_level"], entry["asked_for"], entry["used"]) for entry in logs] == [
        ("warning", [CUDA, CPU], [CPU])
    ]
    assert CUDA in logs[0]["event"]


@needs_no_gpu
@pytest.mark.parametrize("providers", [[CUDA], [CUDA, CPU]])
def test_strict_refuses_a_provider_that_is_not_there(providers: list[str], pnet: Path) -> None:
    with pytest.raises(DependencyError, match=f"{CUDA} cannot be used here: .* not built with it.*{CPU}"):
        Network.load(pnet, providers=providers, strict=True)


def test_strict_on_the_cpu_says_nothing(pnet: Path) -> None:
    with capture_logs() as logs:
        assert Network.load(pnet, strict=True).providers == (CPU,)
    assert logs == []


def test_azure_is_never_in_use(pnet: Path) -> None:
    with capture_logs() as logs:
        assert Network.load(pnet, providers=[AZURE]).providers == (CPU,)
    assert [entry["event"] for entry in logs] == [f"{AZURE} cannot be used here: it runs nothing on this machine"]
    with pytest.raises(DependencyError, match=r"The fallback to CPU.* models\.strict_providers = false") as refusal:
        Network.load(pnet, providers=[AZURE], strict=True)
    assert not isinstance(refusal.value, WeightsError)


@dataclass
class Machine:
    """A stand-in for an onnxruntime built with accelerators; which of them work is set by the test."""

    built_in: tuple[str, ...]
    raising: dict[str, str]
    """What it says where a provider makes the start fail."""
    absent: tuple[str, ...] = ()
    """Left out of the session without a word."""
    idle: tuple[str, ...] = ()
    """Part of the session, but takes no node."""
    leaves_some: bool = False
    """Whether the accelerator leaves nodes to the CPU."""

    def session(self, _path: Path, _options: Any, *, providers: list[str], enable_fallback: int) -> Any:
        assert enable_fallback == 0
        assert providers
        assert set(providers) <= set(self.built_in)
        for name in providers:
            if name in self.raising:
                raise RuntimeError(self.raising[name])
        registered = [name for name in dict.fromkeys([*providers, CPU]) if name not in self.absent]
        busy = [name for name in registered if name not in self.idle]
        running = busy if self.leaves_some else busy[:1]
        one = SimpleNamespace(name="x", shape=["N"])
        return SimpleNamespace(
            get_inputs=lambda: [one],
            get_outputs=lambda: [one],
            get_providers=lambda: registered,
            get_provider_graph_assignment_info=lambda: [SimpleNamespace(ep_name=name) for name in running],
        )


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Machine:
    """TensorRT, CUDA, CPU and Azure are built in, and all work."""
    machine = Machine((TENSORRT, CUDA, AZURE, CPU), {})
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: list(machine.built_in))
    monkeypatch.setattr(onnxruntime, "InferenceSession", machine.session)
    return machine


def loaded(providers: Any, *, strict: bool = False) -> tuple[tuple[str, ...], list[str]]:
    """The providers in use, and the warnings."""
    with capture_logs() as logs:
        network = Network.load(Path("graph.onnx"), providers=providers, strict=strict)
    assert {entry["log_level"] for entry in logs} <= {"warning"}
    return network.providers, [entry["event"] for entry in logs]


def test_auto_takes_the_best_accelerator_and_says_nothing(machine: Machine) -> None:
    assert loaded(AUTO, strict=True) == ((TENSORRT,), [])
    machine.leaves_some = True
    assert loaded(AUTO, strict=True) == ((TENSORRT, CUDA, CPU), [])
    assert loaded([TENSORRT, CUDA, CPU], strict=True) == ((TENSORRT, CUDA, CPU), [])
    machine.leaves_some = False
    assert loaded([TENSORRT, CUDA, CPU], strict=True) == ((TENSORRT,), [])


def test_auto_without_accelerators_is_the_cpu(machine: Machine) -> None:
    machine.built_in = (AZURE, CPU)
    assert runtime.wanted_providers(AUTO) == (CPU,)
    assert loaded(AUTO, strict=True) == ((CPU,), [])


def test_auto_passes_over_what_fails_and_says_why(machine: Machine) -> None:
    machine.raising = {TENSORRT: "libnvinfer.so.10: cannot open"}
    machine.leaves_some = True
    in_use, (warning,) = loaded(AUTO, strict=True)  # CUDA still does the work
    assert in_use == (CUDA, CPU)
    assert warning == f"{TENSORRT} cannot be used here: it does not start: libnvinfer.so.10: cannot open"


def test_the_provider_that_an_error_names_is_passed_over(machine: Machine) -> None:
    machine.raising = {CUDA: "CUDA failure 100: no CUDA-capable device is detected"}
    machine.leaves_some = True
    in_use, (warning,) = loaded(AUTO)
    assert in_use == (TENSORRT, CPU)
    assert warning.startswith(f"{CUDA} cannot be used here: it does not start: CUDA failure 100")


def test_auto_falls_back_to_the_cpu_with_a_warning_for_each(machine: Machine) -> None:
    machine.raising = {TENSORRT: "no"}
    machine.absent = (CUDA,)
    in_use, warnings = loaded(AUTO)
    assert in_use == (CPU,)
    assert [warning.split(":")[0] for warning in warnings] == [
        f"{TENSORRT} cannot be used here",
        f"{CUDA} cannot be used here",
    ]
    assert "its libraries, its driver or its hardware are missing" in warnings[1]


def test_strict_auto_refuses_the_cpu_where_there_is_an_accelerator(machine: Machine) -> None:
    machine.raising = {TENSORRT: "no"}
    machine.absent = (CUDA,)
    with pytest.raises(DependencyError, match=r"The fallback to CPU.* models\.strict_providers = false") as refusal:
        loaded(AUTO, strict=True)
    assert not isinstance(refusal.value, WeightsError)
    assert "models build" not in refusal.value.message


def test_an_accelerator_that_takes_no_node_is_not_in_use(machine: Machine) -> None:
    machine.idle = (CUDA,)
    in_use, (warning,) = loaded([CUDA, CPU])
    assert in_use == (CPU,)
    assert warning == f"{CUDA} cannot be used here: it can run no node of this graph"
    with pytest.raises(DependencyError, match="no node of this graph"):
        loaded([CUDA, CPU], strict=True)


def test_the_cpu_runs_a_part_only_where_it_is_listed(machine: Machine) -> None:
    machine.leaves_some = True
    assert loaded([CUDA, CPU], strict=True) == ((CUDA, CPU), [])
    in_use, (warning,) = loaded([CUDA])
    assert in_use == (CUDA, CPU)
    assert warning == f"{CUDA} cannot run all of this graph: {CPU} runs the rest"
    with pytest.raises(
        DependencyError, match=r"cannot run all of this graph.*The fallback to CUDA.*, CPU.* is refused"
    ):
        loaded([CUDA], strict=True)


def test_a_bad_file_is_not_blamed_on_the_accelerators(machine: Machine) -> None:
    machine.raising = dict.fromkeys(machine.built_in, "Protobuf parsing failed")
    with capture_logs() as logs, pytest.raises(WeightsError, match=r"graph\.onnx cannot be loaded: Protobuf"):
        Network.load(Path("graph.onnx"), providers=AUTO, strict=True)
    assert logs == []


def test_files_that_are_no_graph_are_named(pnet: Path, tmp_path: Path) -> None:
    cut = tmp_path / "cut.onnx"
    cut.write_bytes(pnet.read_bytes()[:5000])
    (tmp_path / "text.onnx").write_text("not a graph")
    (tmp_path / "empty.onnx").touch()
    for path in (cut, tmp_path / "text.onnx", tmp_path / "empty.onnx", tmp_path / "absent.onnx", tmp_path):
        with pytest.raises(WeightsError, match=rf"{path} cannot be loaded: .*`facesvc models build`"):
            Network.load(path)


SIZES = """
import sys
from pathlib import Path
import numpy as np
from facesvc.models.runtime import Network

def resident_kb():
    return int(next(line for line in open("/proc/self/status") if line.startswith("VmRSS")).split()[1])

network = Network.load(Path(sys.argv[1]))
network(np.zeros((1, 3, 112, 112), np.float32))
before = resident_kb()
for height in range(12, 112, 3):
    for width in range(12, 112, 3):
        network(np.zeros((1, 3, height, width), np.float32))
print(resident_kb() - before)
"""


def test_memory_does_not_grow_with_the_number_of_sizes(pnet: Path, script: Script) -> None:
    result = script(SIZES, pnet)
    assert result.returncode == 0, result.stderr
    assert int(result.stdout) < 8_000  # after 1,156 sizes


RUN = """
import os, sys

def hook(event, arguments):
    if event == "import" and arguments[0] == "onnxruntime":
        print(os.environ.get("ORT_DISABLE_TELEMETRY"))

sys.addaudithook(hook)
from pathlib import Path
import numpy as np
from facesvc.models.runtime import Network
Network.load(Path(sys.argv[1]))(np.zeros((1, 3, 12, 12), np.float32))
"""


def test_nothing_is_written_to_the_home_folder(pnet: Path, tmp_path: Path, script: Script) -> None:
    result = script(RUN, pnet, env=_bare_environment(tmp_path))
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout.split() == ["1"]
    assert list(tmp_path.rglob("*")) == []


@pytest.mark.skipif(shutil.which("strace") is None, reason="needs strace to see what a process asks the kernel for")
def test_nothing_is_sent(pnet: Path, tmp_path: Path, script: Script) -> None:
    trace = tmp_path / "trace"
    wrapped = "import os, sys; os.execvp(sys.argv[1], sys.argv[1:])"
    strace = ["strace", "-f", "-qq", "-e", "trace=socket,connect,sendto,sendmsg", "-o", trace]
    python = [sys.executable, "-c", RUN, pnet]
    result = script(wrapped, *strace, *python, env=_bare_environment(tmp_path))
    if "ptrace" in result.stderr:
        pytest.skip("strace may not trace here")
    assert result.returncode == 0, result.stderr
    assert trace.read_text() == ""


def _bare_environment(home: Path) -> dict[str, str]:
    return {"HOME": str(home), "XDG_CACHE_HOME": str(home / "cache"), "PATH": os.environ["PATH"]}
