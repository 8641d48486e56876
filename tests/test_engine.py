"""One decision says how many pictures are worked on and how many threads a network has for each."""

import json
from pathlib import Path

import numpy as np
import pytest
import structlog
from structlog.testing import capture_logs

from facesvc import engine
from facesvc.config import ModelSettings, Settings
from facesvc.engine import Concurrency, concurrency, cores, load_models
from facesvc.errors import DependencyError
from facesvc.models import tuning
from facesvc.models.runtime import CPU, Network


@pytest.fixture
def four_cores(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda _: {0, 1, 2, 3})
    monkeypatch.setattr(engine, "CGROUP", tmp_path / "no groups")


def settings(folder: Path, mode: str = "auto", workers: int = 0) -> Settings:
    models = ModelSettings.model_validate({"cache_dir": folder, "mode": mode})
    return Settings(models=models, server={"workers": workers})


@pytest.mark.usefixtures("four_cores")
@pytest.mark.parametrize(
    ("mode", "workers", "expected"),
    [
        ("throughput", 0, Concurrency(4, 1)),
        ("throughput", 2, Concurrency(2, 1)),
        ("latency", 0, Concurrency(1, 4)),
        ("latency", 2, Concurrency(2, 2)),
        ("latency", 9, Concurrency(9, 1)),
        ("auto", 0, Concurrency(4, 1)),
    ],
)
def test_workers_and_threads_agree(mode: str, workers: int, expected: Concurrency, tmp_path: Path) -> None:
    assert concurrency(settings(tmp_path, mode, workers), "a") == expected


@pytest.mark.usefixtures("four_cores")
def test_auto_is_what_was_measured_for_the_contract_on_as_many_cores(tmp_path: Path) -> None:
    tuning.write(tmp_path, "a", 4, "latency")
    tuning.write(tmp_path, "b", 8, "latency")
    assert concurrency(settings(tmp_path), "a") == Concurrency(1, 4)
    assert concurrency(settings(tmp_path), "b") == Concurrency(4, 1)
    assert concurrency(settings(tmp_path, "throughput"), "a") == Concurrency(4, 1)
    tuning.write(tmp_path, "a", 4, "throughput")
    assert tuning.read(tmp_path) == {("a", 4): "throughput", ("b", 8): "latency"}


@pytest.mark.usefixtures("four_cores")
@pytest.mark.parametrize(
    "content",
    [
        "",
        "[]",
        "[" * 100_000,
        "{}",
        '{"modes": [3]}',
        '{"modes": [{"contract_id": "a", "cores": -1, "mode": "latency"}]}',
        '{"modes": [{"contract_id": ["a"], "cores": 4, "mode": "latency"}]}',
        '{"modes": [{"contract_id": "a", "cores": 4, "mode": "fast"}]}',
        '{"modes": [{"contract_id": "a", "cores": 4, "mode": "latency"}, {"cores": 4}]}',
        "\x00",
    ],
    ids=range(10),
)
def test_a_damaged_file_is_a_warning_and_counts_as_none(
    content: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A logger that an earlier test has used keeps that test's standard error.
    monkeypatch.setattr(tuning, "_log", structlog.get_logger())
    (tmp_path / tuning.FILE).write_text(content)
    with capture_logs() as logs:
        assert concurrency(settings(tmp_path), "a") == Concurrency(4, 1)
    (warning,) = logs
    assert warning["log_level"] == "warning"
    assert "bench --tune" in warning["event"]
    with capture_logs():  # it reads what is there, and warns again
        tuning.write(tmp_path, "a", 4, "latency")
    assert tuning.read(tmp_path) == {("a", 4): "latency"}
    assert [path.name for path in tmp_path.iterdir() if path.name.endswith(".new")] == []


def test_a_folder_in_its_place_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / tuning.FILE).mkdir()
    assert tuning.read(tmp_path) == {}
    with pytest.raises(DependencyError, match=r"tuning\.json cannot be written"):
        tuning.write(tmp_path, "a", 4, "latency")


@pytest.mark.usefixtures("four_cores")
@pytest.mark.parametrize(
    ("limits", "expected"),
    [
        ({}, 4),
        ({"": "max 100000"}, 4),
        ({"": "200000 100000"}, 2),
        ({"": "150000 100000"}, 2),
        ({"": "20000 100000"}, 1),
        ({"": "900000 100000"}, 4),
        ({"": "300000 100000", "pod": "100000 100000", "pod/box": "max 100000"}, 1),
        ({"pod/other": "100000 100000"}, 4),
        ({"": "nonsense", "pod/box": "1 0"}, 4),
    ],
)
def test_cores_are_bound_by_every_control_group_above(
    limits: dict[str, str], expected: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "own").write_text("1:cpu:/elsewhere\n0::/pod/box\n")
    for group, limit in limits.items():
        (tmp_path / "groups" / group).mkdir(parents=True, exist_ok=True)
        (tmp_path / "groups" / group / "cpu.max").write_text(f"{limit}\n")
    monkeypatch.setattr(engine, "CGROUP", tmp_path / "groups")
    monkeypatch.setattr(engine, "OWN_CGROUP", tmp_path / "own")
    assert cores() == expected
    monkeypatch.setattr(engine, "OWN_CGROUP", tmp_path / "absent")
    assert cores() == 4


@pytest.mark.usefixtures("four_cores")
def test_networks_are_loaded_with_the_threads_of_the_decision(
    pack_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads = []
    load = Network.load

    def spy(path: Path, **options: object) -> Network:
        threads.append(options["threads"])
        return load(path, **options)  # type: ignore[arg-type] - passed on as it came

    monkeypatch.setattr(Network, "load", spy)
    models = load_models(settings(pack_cache, "latency"))
    assert models.concurrency == Concurrency(1, 4)
    assert threads == [4] * (1 + len(models.pack.detector.files))
    assert models.providers == (CPU,)


def test_both_modes_see_the_same(pack_cache: Path, group_jpeg: bytes) -> None:
    minimum, vectors = engine.vision.MinimumFace(60.0), []
    for mode in ("throughput", "latency"):
        chosen = settings(pack_cache, mode)
        pipeline = load_models(chosen).pipeline(engine.image_limits(chosen))
        vectors.append(np.array([face.vector for face in pipeline.embed(group_jpeg, minimum, 32).faces]))
    assert len(vectors[0]) == 6
    np.testing.assert_allclose(vectors[0], vectors[1], atol=1e-4)


def test_the_file_is_plain_json(tmp_path: Path) -> None:
    tuning.write(tmp_path, "a", 2, "latency")
    assert json.loads((tmp_path / tuning.FILE).read_text()) == {
        "modes": [{"contract_id": "a", "cores": 2, "mode": "latency"}]
    }
