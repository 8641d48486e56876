"""``facesvc bench``: the modes are measured through the real pipeline, and the better one is used by servers."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from cli.running import Facesvc

from facesvc.cli import bench_tune
from facesvc.cli.bench_tune import ModeFigures, better
from facesvc.config import load
from facesvc.engine import concurrency, cores
from facesvc.models import tuning


def figures(mode: tuning.Mode, p50_ms: float, frames_per_second: float) -> ModeFigures:
    return ModeFigures(mode, 1, 1, p50_ms, p50_ms, frames_per_second)


@pytest.mark.parametrize(
    ("p50_ms", "frames_per_second", "mode"),
    [
        (50.0, 10.0, "latency"),
        (80.0, 9.5, "latency"),
        (84.0, 10.0, "throughput"),
        (50.0, 9.0, "throughput"),
        (50.0, 12.0, "latency"),
        (120.0, 8.0, "throughput"),
    ],
)
def test_latency_has_to_be_worth_it(p50_ms: float, frames_per_second: float, mode: str) -> None:
    chosen, why = better(figures("throughput", 100.0, 10.0), figures("latency", p50_ms, frames_per_second))
    assert chosen == mode
    assert "at least 1.2 times" in why
    assert "less than 10.0%" in why
    assert f"{100 / p50_ms:.2f} times" in why


@pytest.fixture
def box(pack_cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A library folder of this test's own."""
    shutil.copytree(pack_cache / "default", tmp_path / "packs" / "default")
    monkeypatch.setenv("FACESVC_MODELS__CACHE_DIR", str(tmp_path / "packs"))
    return tmp_path / "packs"


@pytest.mark.parametrize("mode", ["latency", pytest.param("throughput", marks=pytest.mark.slow)])
def test_tuning_is_printed_written_down_and_used(
    mode: tuning.Mode, box: Path, facesvc: Facesvc, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bench_tune, "better", lambda *_: (mode, "by decree"))
    monkeypatch.setenv("FACESVC_SERVER__WORKERS", "7")  # counts for the server, not for what is measured
    result = facesvc("bench", "--tune", "--rounds", 3, "--pack", "default", "--json")
    assert result.status == 0, result.err
    found = result.json
    assert (found["pack"], found["mode"], found["why"], found["cores"]) == ("default", mode, "by decree", cores())
    assert [(one["mode"], one["workers"], one["threads"]) for one in found["figures"]] == [
        ("throughput", cores(), 1),
        ("latency", 1, cores()),
    ]
    for one in found["figures"]:
        assert 0 < one["p50_ms"] <= one["p95_ms"]
        assert one["frames_per_second"] > 0
    assert tuning.read(box) == {(found["contract_id"], cores()): mode}
    monkeypatch.delenv("FACESVC_SERVER__WORKERS")
    used = concurrency(load(), found["contract_id"])
    assert (used.workers, used.threads) == ((1, cores()) if mode == "latency" else (cores(), 1))


@pytest.mark.slow
def test_tuning_as_a_table(box: Path, facesvc: Facesvc) -> None:
    result = facesvc("bench", "--tune", "--rounds", 3)
    assert result.status == 0, result.err
    (mode,) = tuning.read(box).values()
    assert f"pack default on {cores()} cores" in result.out
    assert f"{mode}: latency makes a single frame" in result.out


def test_a_pack_that_is_not_there(box: Path, facesvc: Facesvc) -> None:
    result = facesvc("bench", "--tune", "--pack", "absent")
    assert result.status == 2
    assert "absent" in result.err
    assert tuning.read(box) == {}


@pytest.mark.slow
@pytest.mark.usefixtures("box")
def test_every_stage_and_the_stream() -> None:
    command = [sys.executable, "-m", "facesvc", "bench", "--rounds", "3", "--idle", "1", "--json"]
    result = subprocess.run(command, capture_output=True, text=True, timeout=80, check=False)
    assert result.returncode == 0, result.stderr
    report = json.loads(result.stdout)
    assert (report["machine"]["workers"], report["machine"]["threads"]) == (cores(), 1)
    assert len(report["stages"]) == 6
    assert report["stream"]["faces"] == 6
