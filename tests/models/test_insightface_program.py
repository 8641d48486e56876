"""The insightface package, asked in a process of its own about folders of small graphs."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from models import graphs

from facesvc.errors import InputError, WeightsError
from facesvc.models.description import describe_insightface

Change = Callable[[dict[str, Any]], object]


def folder_with(folder: Path, **files: bytes) -> Path:
    for name, content in files.items():
        (folder / f"{name}.onnx").write_bytes(content)
    return folder


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """A folder of InsightFace with a manifest of version 2."""
    (tmp_path / "nets").mkdir()
    contents = {"nets/find.onnx": graphs.detector(), "nets/who.onnx": graphs.embedder()}
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
    (tmp_path / "other.onnx").write_bytes(b"not looked at")
    (tmp_path / "MODEL.LICENSE").write_text("Ask the authors.")
    digests = {name: hashlib.sha256(content).hexdigest() for name, content in contents.items()}
    manifest = {
        "manifest_version": 2,
        "model_id": "small",
        "license": "MODEL.LICENSE",
        "tasks": {
            "detection": {"file": "nets/find.onnx", "sha256": digests["nets/find.onnx"]},
            "recognition": {
                "file": "nets/who.onnx",
                "sha256": digests["nets/who.onnx"],
                "preprocessing": {"mean": 100, "std": 50},
            },
        },
    }
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    return tmp_path


def test_files_are_told_apart_by_their_shapes(tmp_path: Path) -> None:
    folder = folder_with(tmp_path, a_landmarks=graphs.embedder(192), b_who=graphs.embedder(), c_find=graphs.detector())
    found = describe_insightface(folder)
    assert (found.detector.file, found.detector.mean, found.detector.std) == ("c_find.onnx", 127.5, 128)
    assert (found.embedder.file, found.embedder.mean, found.embedder.std) == ("b_who.onnx", 127.5, 127.5)


def test_a_graph_of_mxnet_prepares_its_input_itself(tmp_path: Path) -> None:
    found = describe_insightface(folder_with(tmp_path, find=graphs.detector(), who=graphs.embedder(mxnet=True)))
    assert (found.embedder.mean, found.embedder.std) == (0, 1)


def test_a_manifest_says_what_is_what(package: Path) -> None:
    found = describe_insightface(package)
    assert (found.detector.file, found.embedder.file) == ("nets/find.onnx", "nets/who.onnx")
    assert (found.embedder.mean, found.embedder.std) == (100, 50)
    assert (found.detector.mean, found.detector.std) == (127.5, 128)
    assert found.licence_text == "Ask the authors."


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda m: m["tasks"]["recognition"].update(sha256="0" * 64), "SHA-256 mismatch .*who.onnx"),
        (lambda m: m["tasks"]["detection"].update(file="../find.onnx"), "escapes the package"),
        (lambda m: m["tasks"]["detection"].update(file="nets/absent.onnx"), "does not exist"),
    ],
)
def test_a_manifest_that_does_not_hold_is_refused(change: Change, message: str, package: Path) -> None:
    manifest = json.loads((package / "manifest.json").read_text())
    change(manifest)
    (package / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(WeightsError, match=message):
        describe_insightface(package)


def test_a_folder_of_something_else_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds no model for detection and recognition"):
        describe_insightface(tmp_path)
    with pytest.raises(WeightsError, match="does not open"):
        describe_insightface(folder_with(tmp_path, broken=b"no graph"))
