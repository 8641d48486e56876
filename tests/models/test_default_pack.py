"""The default pack is built once, found whole, built anew when it is not, and never half."""

import hashlib
import json
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from structlog.testing import capture_logs

from facesvc.errors import WeightsError
from facesvc.models import default_pack
from facesvc.models.default_chips import chips
from facesvc.models.packs import MANIFEST, Pack, verify
from facesvc.models.parts import Source
from facesvc.models.quantize import compare
from facesvc.models.runtime import Network

Script = Callable[..., subprocess.CompletedProcess[str]]
ENSURE = """
import sys
from pathlib import Path
from facesvc.models import default_pack, runtime
input()
foreign = {"onnx", "insightface", "tensorflow", "torch", "dlib", "mtcnn", "face_recognition_models", "joblib",
           "pkg_resources"}
print(default_pack.ensure(Path(sys.argv[1])).contract_id)
print(*foreign & set(sys.modules))
"""

BUILD_KILLED_BEFORE = """
import os, signal, sys
from pathlib import Path
from facesvc.models import default_pack

def hook(event, arguments):
    if (event == "open" and str(arguments[0]).endswith(sys.argv[2])) or (
        event == "os.rename" and str(arguments[1]).endswith(sys.argv[2])
    ):
        os.kill(os.getpid(), signal.SIGKILL)

sys.addaudithook(hook)
default_pack.build(Path(sys.argv[1]), force=True)
"""


@pytest.fixture
def copy(pack: Pack, tmp_path: Path) -> Path:
    """A cache folder with a whole pack that may be harmed."""
    shutil.copytree(pack.folder, tmp_path / "default")
    return tmp_path


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_what_is_in_the_pack(pack: Pack) -> None:
    assert verify(pack.folder) == []
    assert names(pack.folder) == ["embedder.onnx", MANIFEST, "onet.onnx", "pnet.onnx", "rnet.onnx"]
    assert names(pack.folder.parent) == [".lock", "default"]
    assert pack.licences == ("mtcnn 1.0.0: MIT", "face_recognition_models 0.3.0: CC0-1.0", "insightface 2.1: MIT")
    assert (pack.embedder.side, pack.dimension) == (150, 128)


def test_the_contract_stays() -> None:
    # Galleries carry this id. If it changes, every vector ever stored is lost until the people are enrolled again.
    assert default_pack.contract_id() == "dlib-resnet29-128-b0feb38052f2"


def test_the_embedder_is_int8_and_says_nearly_the_same(
    pack: Pack, float_embedder: Path, group_jpeg: bytes, guest_png: bytes
) -> None:
    (file,) = (file for file in pack.files if file.name == pack.embedder.file)
    assert file.size_bytes < 0.3 * float_embedder.stat().st_size
    # Turned by a right angle, so that none of them was calibrated with.
    batches = [np.rot90(chip, axes=(2, 3)).copy() for chip in chips(group_jpeg, guest_png, pack.embedder)]
    drift = compare(Network.load(float_embedder), Network.load(pack.path(file.name)), batches)
    assert drift.faces == 14
    assert 0.98 < drift.least_cosine < drift.mean_cosine < 1


def test_chips_are_faces_and_their_mirror_images(group_jpeg: bytes, guest_png: bytes) -> None:
    plain, mirrored, *others = chips(group_jpeg, guest_png, default_pack.EMBEDDER)
    assert (len(others), plain.shape, plain.dtype.name) == (12, (1, 3, 150, 150), "float32")
    np.testing.assert_array_equal(plain[..., ::-1], mirrored)
    # Skin is redder than it is blue.
    spec = default_pack.EMBEDDER
    middle = [float(plain[0, channel, 60:90, 60:90].mean()) * spec.std + spec.mean[channel] for channel in range(3)]
    assert 255 > middle[0] > middle[1] > middle[2] > 0
    turned = next(chips(group_jpeg, guest_png, replace(spec, colour_order="BGR", mean=spec.mean[::-1])))
    np.testing.assert_allclose(turned[:, ::-1], plain, atol=1e-6)


def test_a_picture_that_is_none_is_refused(guest_png: bytes) -> None:
    with pytest.raises(WeightsError, match="cannot be decoded: cannot identify image"):
        list(chips(b"no picture", guest_png, default_pack.EMBEDDER))


def test_another_calibration_picture_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    other = replace(default_pack.SOURCES["guest"], file="data/images/t1.jpg")
    monkeypatch.setitem(default_pack.SOURCES, "guest", other)
    with pytest.raises(WeightsError, match=r"t1.jpg .* is not the file of version 2\.1: .*insightface==2\.1"):
        default_pack.ensure(tmp_path)
    assert names(tmp_path) == [".lock"]


def test_a_whole_pack_is_not_touched(pack: Pack, copy: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in (copy / "default").iterdir()}
    found = default_pack.ensure(copy)
    assert found == replace(pack, folder=copy / "default")
    assert {path: path.stat().st_mtime_ns for path in (copy / "default").iterdir()} == before
    assert names(copy) == ["default"]  # not even a lock: the folder may be read-only


def test_leftovers_beside_a_whole_pack_are_removed(copy: Path) -> None:
    (copy / ".default.old").mkdir()
    (copy / ".default.old" / "embedder.onnx").touch()
    before = (copy / "default").stat()
    default_pack.ensure(copy)
    assert (copy / "default").stat().st_ino == before.st_ino
    assert names(copy) == [".lock", "default"]


def test_damage_is_named_and_repaired(pack: Pack, copy: Path) -> None:
    graph = copy / "default" / "rnet.onnx"
    content = bytearray(graph.read_bytes())
    content[1000] ^= 1
    graph.write_bytes(content)
    (copy / "default" / "pnet.onnx").unlink()
    with capture_logs() as logs:
        found = default_pack.ensure(copy)
    assert [entry["log_level"] for entry in logs] == ["warning"]
    assert sorted(logs[0]["problems"]) == [
        "pnet.onnx cannot be read: No such file or directory",
        "rnet.onnx has another SHA-256 than the manifest says",
    ]
    assert found == replace(pack, folder=copy / "default")
    assert verify(found.folder) == []
    assert names(copy) == [".lock", "default"]


@pytest.mark.slow
def test_killed_builds_leave_nothing_or_a_whole_pack(pack: Pack, copy: Path, script: Script) -> None:
    assert script(BUILD_KILLED_BEFORE, copy, ".default.new/rnet.onnx").returncode == -signal.SIGKILL
    assert names(copy / ".default.new") == ["pnet.onnx"]
    assert verify(copy / "default") == []
    # The second build clears up after the first, and dies when the old pack is already out of the way.
    assert script(BUILD_KILLED_BEFORE, copy, "/default").returncode == -signal.SIGKILL
    assert names(copy) == [".default.new", ".default.old", ".lock"]
    assert names(copy / ".default.new") == names(pack.folder)
    with capture_logs() as logs:
        found = default_pack.ensure(copy)
    assert logs == []
    assert verify(found.folder) == []
    assert names(copy) == [".lock", "default"]


@pytest.mark.slow
def test_two_processes_at_once(tmp_path: Path) -> None:
    command = [sys.executable, "-c", ENSURE, str(tmp_path)]
    both = [subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    for process in both:
        assert process.stdin
        process.stdin.write("\n")
        process.stdin.flush()
    reports = [process.communicate(timeout=60)[0].split("\n") for process in both]
    assert [process.returncode for process in both] == [0, 0]
    assert verify(tmp_path / "default") == []
    assert names(tmp_path) == [".lock", "default"]
    # Nothing foreign was imported, not by the one that built the pack either.
    assert reports == [[default_pack.contract_id(), "", ""]] * 2


@pytest.fixture
def impostor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a package ``mtcnn`` that stands before the installed one."""
    folder = tmp_path / "site" / "mtcnn"
    (folder / "assets" / "weights").mkdir(parents=True)
    (folder / "__init__.py").write_text("raise SystemExit('it was imported')")
    monkeypatch.syspath_prepend(folder.parent)
    return folder


def test_weights_of_another_version_are_refused(impostor: Path, tmp_path: Path) -> None:
    (impostor / "assets/weights/pnet.lz4").write_bytes(b"other weights")
    found = hashlib.sha256(b"other weights").hexdigest()
    with pytest.raises(WeightsError, match=rf"pnet.lz4 \(of mtcnn 1.0.0\).* {found}, .*install.* mtcnn==1.0.0"):
        default_pack.ensure(tmp_path / "cache")
    assert names(tmp_path / "cache") == [".lock"]


def test_a_weight_file_that_is_missing_is_named(impostor: Path, tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=rf"{impostor}/assets/weights/pnet.lz4 cannot be read: No such file"):
        default_pack.ensure(tmp_path / "cache")


@pytest.mark.usefixtures("impostor")
def test_a_pack_of_another_version_is_built_anew_and_stays_until_then(pack: Pack, copy: Path) -> None:
    path = copy / "default" / MANIFEST
    manifest = json.loads(path.read_text())
    manifest["calibration"]["points"][0][1] -= 0.01
    path.write_text(json.dumps(manifest))
    with capture_logs() as logs, pytest.raises(WeightsError):
        default_pack.ensure(copy)
    assert [entry["problems"] for entry in logs] == [["another version of facesvc built it"]]
    assert verify(copy / "default") == []
    assert names(copy / "default") == names(pack.folder)


def test_a_package_that_is_missing_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    absent = Source("facesvc_absent", "1.0", "weights", "0" * 64, "MIT")
    monkeypatch.setitem(default_pack.SOURCES, "pnet", absent)
    with pytest.raises(WeightsError, match=r"facesvc_absent is not installed: pip install .*facesvc-absent==1\.0"):
        default_pack.ensure(tmp_path)
