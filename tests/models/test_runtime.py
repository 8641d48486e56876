"""Networks run where they say they run, hold no memory for sizes they saw, and tell nobody."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from structlog.testing import capture_logs

from facesvc.errors import DependencyError, WeightsError
from facesvc.models import runtime
from facesvc.models.packs import Pack
from facesvc.models.runtime import CPU, Network

Script = Callable[..., subprocess.CompletedProcess[str]]
CUDA = "CUDAExecutionProvider"
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
    with pytest.raises(DependencyError, match=f"{CUDA} cannot be used here; there is .*{CPU}"):
        Network.load(pnet, providers=providers, strict=True)


def test_strict_on_the_cpu_says_nothing(pnet: Path) -> None:
    with capture_logs() as logs:
        assert Network.load(pnet, strict=True).providers == (CPU,)
    assert logs == []


@pytest.mark.skipif(
    "AzureExecutionProvider" not in runtime.available_providers(), reason="needs a provider that runs no node"
)
def test_strict_refuses_a_graph_that_falls_back(pnet: Path) -> None:
    with pytest.raises(DependencyError, match="fallback"):
        Network.load(pnet, providers=["AzureExecutionProvider"], strict=True)


def test_files_that_are_no_graph_are_named(pnet: Path, tmp_path: Path) -> None:
    cut = tmp_path / "cut.onnx"
    cut.write_bytes(pnet.read_bytes()[:5000])
    (tmp_path / "text.onnx").write_text("not a graph")
    (tmp_path / "empty.onnx").touch()
    for path in (cut, tmp_path / "text.onnx", tmp_path / "empty.onnx", tmp_path / "absent.onnx", tmp_path):
        with pytest.raises(WeightsError, match=rf"{path} cannot be loaded .*`facesvc models build`"):
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
