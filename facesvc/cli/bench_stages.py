"""Stage by stage, in this process: each stage against the bare time of the networks in it, within the same call."""

import os
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from ulid import ULID

from facesvc import app, engine
from facesvc.cli.samples import GROUP, sample_picture
from facesvc.config import Settings
from facesvc.database.opening import open_database
from facesvc.gallery import EmbeddingContract, Gallery, Sample, Subject
from facesvc.gallery.masterkey import KeyFile
from facesvc.models.runtime import Network, runtime_version
from facesvc.vision.decode import decode, read_header
from facesvc.vision.quality import assess

MINIMUM_FACE = 60.0
_SUBJECTS = 1000


@dataclass(frozen=True, slots=True)
class StageResult:
    """Medians in milliseconds: the stage, and the networks in it (None where it has none)."""

    name: str
    stage_ms: float
    networks_ms: float | None = None

    @property
    def ratio(self) -> float | None:
        """The stage relative to its networks."""
        return self.stage_ms / self.networks_ms if self.networks_ms else None


class _Stopwatch:
    """Adds up the time that is spent in networks."""

    def __init__(self) -> None:
        self.spent_s = 0.0

    def before(self, network: Network) -> Callable[[Any], tuple[Any, ...]]:
        """``network``, timed."""

        def timed(array: Any) -> tuple[Any, ...]:
            started = time.perf_counter()
            outputs = network(array)
            self.spent_s += time.perf_counter() - started
            return outputs

        return timed


def machine() -> dict[str, Any]:
    """What the figures were measured on."""
    model = next(
        (line.split(":", 1)[1].strip() for line in _lines("/proc/cpuinfo") if line.startswith("model name")), "unknown"
    )
    load = os.getloadavg()[0]
    return {
        "cpu": model,
        "cores": engine.cores(),
        "load_average": round(load, 2),
        "onnxruntime": runtime_version(),
    }


def _lines(path: str) -> list[str]:
    try:
        return Path(path).read_text().splitlines()
    except OSError:
        return []


def measure(settings: Settings, rounds: int) -> tuple[engine.Concurrency, list[StageResult]]:
    """Every stage on the bundled group picture, ``rounds`` times in turn, and how the networks were loaded."""
    stopwatch = _Stopwatch()
    models = engine.load_models(settings, stopwatch.before)
    limits = engine.image_limits(settings)
    data = sample_picture(GROUP)
    image = decode(data, read_header(data, limits))
    faces = models.detector.detect(image.pixels, MINIMUM_FACE)
    chip = models.embedder.align(image.pixels, faces[0].landmarks)
    vector = models.embedder.embed(chip)
    with tempfile.TemporaryDirectory(prefix="facesvc-bench-") as folder:
        contract = EmbeddingContract(models.pack.contract_id, models.pack.dimension)
        path = Path(folder) / "gallery.db"
        gallery = Gallery.open(open_database(path), contract, app.now(), [KeyFile(path.with_name("key"))])
        _fill(gallery, models.pack.dimension)
        stages: dict[str, Callable[[], object]] = {
            "decode 1280x886 JPEG": lambda: decode(data, read_header(data, limits)),
            f"detect {len(faces)} faces": lambda: models.detector.detect(image.pixels, MINIMUM_FACE),
            "align a face": lambda: models.embedder.align(image.pixels, faces[0].landmarks),
            "quality of a face": lambda: assess(faces[0], chip, 1.0),
            "embed a face": lambda: models.embedder.embed(chip),
            f"search {_SUBJECTS} people": lambda: gallery.search(
                contract.contract_id, "bench", vector[None], 2, app.now()
            ),
        }
        results = _in_turn(stages, rounds, stopwatch)
        gallery.close()
    return models.concurrency, results


def _in_turn(stages: dict[str, Callable[[], object]], rounds: int, stopwatch: _Stopwatch) -> list[StageResult]:
    spent: dict[str, list[tuple[float, float]]] = {name: [] for name in stages}
    for _ in range(rounds + 1):
        for name, stage in stages.items():
            stopwatch.spent_s = 0.0
            started = time.perf_counter()
            stage()
            spent[name].append((time.perf_counter() - started, stopwatch.spent_s))
    return [_result(name, times[1:]) for name, times in spent.items()]  # the first round warms up


def _result(name: str, times: list[tuple[float, float]]) -> StageResult:
    """Medians; the time of the networks follows from the median of the ratios, which noise moves least."""
    stage_s = statistics.median(stage for stage, _ in times)
    ratios = [stage / networks for stage, networks in times if networks > 0]
    networks_ms = 1000 * stage_s / statistics.median(ratios) if ratios else None
    return StageResult(name, 1000 * stage_s, networks_ms)


def _fill(gallery: Gallery, dimension: int) -> None:
    """Enrol random people, so that the search has something to look through."""
    random = np.random.default_rng(1)
    now = app.now()
    for number in range(_SUBJECTS):
        vector = random.normal(size=dimension).astype(np.float32)
        subject_id = f"s{number}"
        gallery.create_subject(
            Subject(collection_id="bench", subject_id=subject_id, display_name="", create_time=now, update_time=now)
        )
        gallery.add_sample(
            Sample(
                sample_id=str(ULID()),
                collection_id="bench",
                subject_id=subject_id,
                vector=vector / np.float32(np.linalg.norm(vector)),
                quality=1.0,
                source="bench",
                image_sha256=number.to_bytes(32, "big"),
                create_time=now,
            ),
            None,
            now,
            contract_id=gallery.contract.contract_id,
        )
