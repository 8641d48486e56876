"""``facesvc doctor``: each check on a sound and on a broken box, as far as a test may break one."""

import json
import shutil
from dataclasses import replace
from importlib import metadata
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner, Result

from facesvc.cli import doctor_software
from facesvc.cli.doctor import CHECKS, doctor
from facesvc.cli.findings import Finding, Level, examine
from facesvc.config import Settings
from facesvc.models import default_pack, packs, runtime
from facesvc.models.library import Library

CUDA = "CUDAExecutionProvider"
needs_no_gpu = pytest.mark.skipif(CUDA in runtime.available_providers(), reason="this onnxruntime has CUDA")


def run(settings: Settings, *arguments: str) -> Result:
    app = typer.Typer()
    app.command()(doctor)
    return CliRunner(env={"COLUMNS": "200"}).invoke(app, list(arguments), obj=settings)


def with_models(settings: Settings, **changes: object) -> Settings:
    return settings.model_copy(update={"models": settings.models.model_copy(update=changes)})


def test_a_row_for_each_check(settings: Settings) -> None:
    rows = json.loads(run(settings, "--json").stdout)
    assert [row["check"] for row in rows] == list(CHECKS)
    assert {"python", "opencv", "model pack", "providers", "telemetry", "port", "clock"} <= CHECKS.keys()
    for row in rows:
        assert row["level"] in {"ok", "warning", "error"}
        assert row["found"]
        assert bool(row["advice"]) == (row["level"] != "ok")
    table = run(settings).stdout
    assert all(name in table for name in CHECKS)


def test_the_exit_status_is_for_errors(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in CHECKS:
        monkeypatch.setitem(CHECKS, name, lambda _: Finding(Level.WARNING, "[red]so so", "wait"))
    result = run(settings)
    assert result.exit_code == 0
    assert "[red]so so" in result.stdout  # found text is no markup
    monkeypatch.setitem(CHECKS, "clock", lambda _: Finding(Level.ERROR, "stopped", "wind it up"))
    assert run(settings).exit_code == 1
    assert run(settings, "--json").exit_code == 1


def test_a_check_that_fails_is_a_finding(settings: Settings) -> None:
    def check(_: Settings) -> Finding:
        raise ZeroDivisionError("by design")

    finding = examine(check, settings)
    assert finding.level is Level.ERROR
    assert "by design" in finding.found


def test_findings_say_what_to_do() -> None:
    with pytest.raises(ValueError, match="error with the advice ''"):
        Finding(Level.ERROR, "broken")
    with pytest.raises(ValueError, match="ok with the advice 'x'"):
        Finding(Level.OK, "fine", "x")


def test_python(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    assert doctor_software.python(settings).level is Level.OK
    monkeypatch.setattr("sys.version_info", (3, 14, 0, "final", 0))
    finding = doctor_software.python(settings)
    assert (finding.level, finding.found.split(",")[0]) == (Level.WARNING, "cpython 3.14.0")


def installed(monkeypatch: pytest.MonkeyPatch, *distributions: str) -> None:
    def version(name: str) -> str:
        if name not in distributions:
            raise metadata.PackageNotFoundError(name)
        return "5.0"

    monkeypatch.setattr(metadata, "version", version)


def test_one_opencv(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    assert doctor_software.opencv(settings).level is Level.OK
    installed(monkeypatch, "opencv-contrib-python")
    assert doctor_software.opencv(settings) == Finding(Level.OK, "opencv-contrib-python 5.0")
    installed(monkeypatch)
    assert doctor_software.opencv(settings).level is Level.WARNING


def test_two_builds_of_opencv(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    installed(monkeypatch, "opencv-python", "opencv-python-headless")
    finding = doctor_software.opencv(settings)
    assert finding.level is Level.ERROR
    assert "opencv-python 5.0" in finding.found
    assert finding.advice == (
        "pip uninstall --yes opencv-python-headless opencv-python && pip install opencv-python-headless"
    )


def test_the_pack(settings: Settings, tmp_path: Path) -> None:
    assert doctor_software.pack(settings).level is Level.OK
    empty = with_models(settings, cache_dir=tmp_path / "none")
    assert doctor_software.pack(empty).level is Level.WARNING
    assert not (tmp_path / "none").exists()
    assert doctor_software.pack(with_models(settings, pack="other")).level is Level.ERROR


def test_a_damaged_pack(settings: Settings, tmp_path: Path) -> None:
    shutil.copytree(settings.models.cache_dir / "default", tmp_path / "default")
    (tmp_path / "default" / "embedder.onnx").write_bytes(b"")
    harmed = with_models(settings, cache_dir=tmp_path)
    finding = doctor_software.pack(harmed)
    assert finding.level is Level.ERROR
    assert "embedder.onnx has 0 bytes" in finding.found
    assert "facesvc models build" in finding.advice
    assert doctor_software.providers(harmed).level is Level.WARNING
    assert run(harmed).exit_code == 1


def test_the_chosen_pack(settings: Settings, tmp_path: Path) -> None:
    shutil.copytree(settings.models.cache_dir / "default", tmp_path / "default")
    library, original = Library(tmp_path), packs.load_manifest(tmp_path / "default")
    contents = [(file.name, original.path(file.name).read_bytes()) for file in original.files]
    folder = library.install(replace(original, name="other"), contents).folder
    library.choose("other")
    chosen = with_models(settings, cache_dir=tmp_path)
    assert doctor_software.pack(chosen) == Finding(Level.OK, f"other is whole, in {folder}")
    assert doctor_software.providers(chosen).level is Level.OK
    assert doctor_software.pack(with_models(chosen, pack="default")).found.startswith("default is whole")
    (folder / "onet.onnx").write_bytes(b"")
    for check in (doctor_software.pack, doctor_software.providers):
        assert "`facesvc models pull other` or `facesvc models add`" in check(chosen).advice
    shutil.rmtree(folder)
    gone = doctor_software.pack(chosen)
    assert gone.level is Level.ERROR
    assert "there is no model pack 'other'" in gone.found
    assert gone.advice.endswith("choose another one with `facesvc models use`")


def test_a_calibration_that_cannot_be_read(settings: Settings, tmp_path: Path) -> None:
    shutil.copytree(settings.models.cache_dir / "default", tmp_path / "default")
    (tmp_path / "calibrations").mkdir()
    (tmp_path / "calibrations" / f"{default_pack.contract_id()}.json").write_text("{")
    finding = doctor_software.pack(with_models(settings, cache_dir=tmp_path))
    assert finding.level is Level.ERROR
    assert "calibrate pack default again" in finding.advice


def test_providers(settings: Settings) -> None:
    finding = doctor_software.providers(settings)
    assert finding.level is Level.OK
    assert finding.found.endswith("asked for CPUExecutionProvider, in use CPUExecutionProvider")


@needs_no_gpu
def test_a_provider_that_is_not_used(settings: Settings) -> None:
    asked = with_models(settings, providers=(CUDA, runtime.CPU))
    finding = doctor_software.providers(asked)
    assert finding.level is Level.WARNING
    assert finding.found.endswith("in use CPUExecutionProvider")
    assert CUDA in finding.advice
    strict = doctor_software.providers(with_models(asked, strict_providers=True))
    assert strict.level is Level.ERROR
    assert f"{CUDA} cannot be used here" in strict.found


def test_telemetry(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    assert doctor_software.telemetry(settings).level is Level.OK
    monkeypatch.delenv("ORT_DISABLE_TELEMETRY")
    assert doctor_software.telemetry(settings).level is Level.ERROR
