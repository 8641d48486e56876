"""``pack.toml`` may hold anything: what is amiss is named, and no file outside of its folder is read."""

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from facesvc.errors import DependencyError, InputError, WeightsError
from facesvc.models import description
from facesvc.models.description import INSIGHTFACE_LICENCE, INSIGHTFACE_TERMS, describe_insightface, read_toml

WHOLE = """
name = "lobby"
licence = "Apache-2.0"
[detector]
family = "yunet"
file = "yunet.onnx"
[embedder]
file = "w_mbf.onnx"
"""


def folder_with(folder: Path, text: str | bytes) -> Path:
    (folder / "pack.toml").write_bytes(text if isinstance(text, bytes) else text.encode())
    return folder


def test_what_is_said_is_read_and_the_rest_is_usual(tmp_path: Path) -> None:
    found = read_toml(folder_with(tmp_path, WHOLE))
    assert (found.name, found.version, found.licence, found.commercial_use) == ("lobby", "1", "Apache-2.0", True)
    assert (found.detector.family, found.detector.file, found.detector.mean) == ("yunet", "yunet.onnx", None)
    assert (found.embedder.family, found.embedder.side, found.embedder.template) == ("arcface", None, None)


def test_all_may_be_said(tmp_path: Path) -> None:
    text = """
        name = "lobby"
        version = "2024-05"
        licence = "research"
        licence_file = "docs/LICENCE"
        commercial_use = false
        [detector]
        pack = "edge_s"
        [embedder]
        family = "sface"
        file = "nets/sface.onnx"
        mean = [1, 2.5, 3]
        std = 2
        colour_order = "BGR"
        side = 128
        template = [[1, 2], [3, 4], [5, 6], [7, 8], [9, 10]]
    """
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "LICENCE").write_text("Für Forschung.")
    found = read_toml(folder_with(tmp_path, text))
    assert found.licence_text == "Für Forschung."
    assert found.detector.pack == "edge_s"
    assert (found.embedder.mean, found.embedder.std, found.embedder.side) == ((1, 2.5, 3), 2, 128)
    assert found.embedder.template == ((1, 2), (3, 4), (5, 6), (7, 8), (9, 10))


def changed(old: str, new: str) -> str:
    assert old in WHOLE
    return WHOLE.replace(old, new)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "name: Field required; licence: Field required"),
        (changed('"lobby"', '"../lobby"'), "name: String should match"),
        (changed('"lobby"', '""'), "name: String should match"),
        (changed('"lobby"', '"a\\n"'), "name: String should match"),
        (changed('"lobby"', "3"), "name: Input should be a valid string"),
        (changed('"Apache-2.0"', '""'), "licence: String should have at least 1"),
        (changed('"yunet"', '"haar"'), "detector.family: Input should be 'scrfd' or 'yunet'"),
        (changed('"yunet.onnx"', '"../yunet.onnx"'), "detector.file: .*no path within the folder"),
        (changed('"yunet.onnx"', '"/etc/passwd"'), "detector.file: .*no path within the folder"),
        (changed('"yunet.onnx"', '"a//b"'), "detector.file: .*no path within the folder"),
        (changed('"yunet.onnx"', '"a/../../b"'), "detector.file: .*no path within the folder"),
        (changed('"yunet.onnx"', '".."'), "detector.file: .*no path within the folder"),
        (changed('"yunet.onnx"', '""'), "detector.file: .*no path within the folder"),
        (changed('"yunet.onnx"', '"a\\\\b"'), "detector.file: .*no path within the folder"),
        (changed('"yunet.onnx"', '"a\\u0000"'), "detector.file: .*no path within the folder"),
        (changed('"yunet.onnx"', f'"{"x" * 201}"'), "detector.file: String should have at most 200"),
        (changed('file = "yunet.onnx"', ""), "detector: .*name either file or pack"),
        (changed('"yunet.onnx"', '"y"\npack = "default"'), "detector: .*name either file or pack"),
        (changed('file = "yunet.onnx"', 'pack = "default"'), "detector: .*name nothing beside pack"),
        (changed('file = "w_mbf.onnx"', 'pack = "../x"'), "embedder.pack: String should match"),
        (WHOLE + "std = 0", "embedder.std: Input should be greater than 0"),
        (WHOLE + "std = inf", "embedder.std: Input should be a finite number"),
        (WHOLE + "mean = nan", "embedder.mean.*: Input should be a finite number"),
        (WHOLE + "mean = [1, 2]", "embedder.mean"),
        (WHOLE + "side = 8", "embedder.side: Input should be greater"),
        (WHOLE + "side = 2000", "embedder.side: Input should be less"),
        (WHOLE + "template = [[1, 2]]", "embedder.template: .*at least 5"),
        (WHOLE + "template = [[1, 2], [3, 4], [5, 6], [7, 8], [9, inf]]", "embedder.template.4.1: .*finite"),
        (WHOLE + 'colour_order = "GBR"', "embedder.colour_order: Input should be 'RGB' or 'BGR'"),
        (WHOLE + "sdt = 1", "embedder.sdt: Extra inputs"),
        ("licence_file = '../secret'\n" + WHOLE, "licence_file: .*no path within the folder"),
        ("licence_file = 'absent'\n" + WHOLE, "absent is no file of at most"),
        ("name = ", "is not TOML: "),
        ("a = " + "[" * 100_000, "is not TOML: "),
        (b"\xff\xfe", "cannot be read as UTF-8"),
        (b"#" * ((1 << 20) + 1), "is no file of at most 1048576 bytes"),
    ],
)
def test_what_is_amiss_is_named(text: str | bytes, message: str, tmp_path: Path) -> None:
    folder = folder_with(tmp_path, text)
    (tmp_path.parent / "secret").write_text("none of your business")
    with pytest.raises(InputError, match=message) as refused:
        read_toml(folder)
    assert str(tmp_path) in refused.value.message
    assert refused.value.field == "path"


def verdict(monkeypatch: pytest.MonkeyPatch, models: list[dict[str, Any]]) -> None:
    """The insightface package says this."""
    answer: subprocess.CompletedProcess[bytes] = subprocess.CompletedProcess([], 0, json.dumps(models).encode(), b"")
    monkeypatch.setattr(description.subprocess, "run", lambda *_, **__: answer)


def model(task: str, file: str, **values: float) -> dict[str, Any]:
    return {"task": task, "file": file, "mean": 127.5, "std": 128.0, **values}


def test_the_first_model_of_each_kind_counts_as_with_insightface(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / ".my models (2)"
    folder.mkdir()
    names = [
        ("detection", "a b.onnx"),
        ("recognition", "r/1.onnx"),
        ("detection", "z.onnx"),
        ("recognition", "z2.onnx"),
    ]
    verdict(monkeypatch, [model(*name) for name in names])
    found = describe_insightface(folder)
    assert (found.name, found.licence, found.licence_text) == ("my_models__2_", INSIGHTFACE_LICENCE, INSIGHTFACE_TERMS)
    assert not found.commercial_use
    assert (found.detector.file, found.embedder.file, found.detector.family) == ("a b.onnx", "r/1.onnx", "scrfd")
    (folder / "MODEL.LICENSE").write_text("Ask first.")
    assert describe_insightface(folder).licence_text == "Ask first."


@pytest.mark.parametrize(
    ("models", "message"),
    [
        ([], "holds no model for detection and recognition"),
        ([model("detection", "d.onnx")], "holds no model for recognition"),
        ([model("detection", "../d.onnx"), model("recognition", "r.onnx")], "detector.file: .*no path within"),
        ([model("detection", "d.onnx", std=0), model("recognition", "r.onnx")], "detector.std: .*greater than 0"),
        ([model("detection", "d"), model("recognition", "r", mean=float("nan"))], "embedder.mean.*finite"),
    ],
)
def test_a_verdict_of_which_no_pack_can_be_made_is_refused(
    models: list[dict[str, Any]], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    verdict(monkeypatch, models)
    with pytest.raises(InputError, match=message):
        describe_insightface(tmp_path)


def test_a_package_that_does_not_answer_is_a_dependency(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def hang(*_: object, **__: object) -> None:
        raise subprocess.TimeoutExpired("python", 120)

    monkeypatch.setattr(description.subprocess, "run", hang)
    with pytest.raises(DependencyError, match="could not be asked"):
        describe_insightface(tmp_path)
    failed = subprocess.CompletedProcess([], 1, b"", b"x" * 1000 + b"RuntimeError: SHA-256 mismatch")
    monkeypatch.setattr(description.subprocess, "run", lambda *_, **__: failed)
    with pytest.raises(WeightsError, match=r"does not open .*SHA-256 mismatch") as refused:
        describe_insightface(tmp_path)
    assert len(refused.value.message) < 1000
