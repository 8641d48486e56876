"""Which mode suits a pack on this machine: many pictures at a time, or all cores for one."""

import statistics
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from facesvc import engine
from facesvc.cli.samples import GROUP, sample_picture
from facesvc.config import Settings
from facesvc.models import tuning
from facesvc.vision.detection import MinimumFace
from facesvc.vision.pipeline import Pipeline

# The rule: one frame has to come so much sooner, and no more than this share of the frames a second may be lost for it.
_FASTER = 1.2
_LOST = 0.1
_BURSTS = 5


@dataclass(frozen=True, slots=True)
class ModeFigures:
    """A mode, measured: milliseconds of a frame that is alone, and frames a second with all workers busy."""

    mode: tuning.Mode
    workers: int
    threads: int
    p50_ms: float
    p95_ms: float
    frames_per_second: float


@dataclass(frozen=True, slots=True)
class Tuning:
    """The figures of both modes for a pack, the better mode, and why it is."""

    pack: str
    contract_id: str
    cores: int
    figures: tuple[ModeFigures, ModeFigures]
    mode: tuning.Mode
    why: str


class _Candidate:
    """A pack loaded for one mode, and what was measured."""

    def __init__(self, settings: Settings, mode: tuning.Mode) -> None:
        self.mode = mode
        self.models = engine.load_models(_in_mode(settings, mode))
        self.frame_s: list[float] = []
        self.frames_per_second: list[float] = []
        self._pipeline: Pipeline = self.models.pipeline(engine.image_limits(settings))
        self._picture = sample_picture(GROUP)
        self._minimum = MinimumFace(settings.detection.minimum_face_pixels)
        self._max_faces = settings.limits.max_faces
        self._frame()  # the first one warms up

    def time_one(self) -> None:
        """One frame, nothing beside it."""
        started = time.perf_counter()
        self._frame()
        self.frame_s.append(time.perf_counter() - started)

    def time_many(self, frames: int) -> None:
        """So many frames for each worker, all workers busy."""
        workers = self.models.concurrency.workers
        with ThreadPoolExecutor(workers) as pool:
            started = time.perf_counter()
            for done in [pool.submit(self._frame) for _ in range(frames * workers)]:
                done.result()
            self.frames_per_second.append(frames * workers / (time.perf_counter() - started))

    def figures(self) -> ModeFigures:
        """Percentiles of the single frames, and the median of the bursts."""
        p50_ms, p95_ms = 1000 * np.percentile(self.frame_s, (50, 95))
        how = self.models.concurrency
        rate = statistics.median(self.frames_per_second)
        return ModeFigures(self.mode, how.workers, how.threads, float(p50_ms), float(p95_ms), rate)

    def _frame(self) -> None:
        self._pipeline.embed(self._picture, self._minimum, self._max_faces)


def tune(settings: Settings, rounds: int) -> Tuning:
    """Measures the pack of the settings in both modes and writes the better one down in the library folder.

    ``server.workers`` is left out of account: what is written down holds for the machine.
    """
    candidates = _Candidate(settings, "throughput"), _Candidate(settings, "latency")
    # In turn, so that what else the machine does meanwhile hits both.
    for _ in range(rounds):
        for candidate in candidates:
            candidate.time_one()
    for _ in range(_BURSTS):
        for candidate in candidates:
            candidate.time_many(max(1, rounds // _BURSTS))
    throughput, latency = (candidate.figures() for candidate in candidates)
    mode, why = better(throughput, latency)
    pack, cores = candidates[0].models.pack, engine.cores()
    tuning.write(settings.models.cache_dir, pack.contract_id, cores, mode)
    return Tuning(pack.name, pack.contract_id, cores, (throughput, latency), mode, why)


def better(throughput: ModeFigures, latency: ModeFigures) -> tuple[tuning.Mode, str]:
    """The mode to run in, and why."""
    faster = throughput.p50_ms / latency.p50_ms
    kept = latency.frames_per_second / throughput.frames_per_second
    mode: tuning.Mode = "latency" if faster >= _FASTER and kept > 1 - _LOST else "throughput"
    change = f"loses {1 - kept:.1%}" if kept <= 1 else f"gains {kept - 1:.1%}"
    return mode, (
        f"latency makes a single frame {faster:.2f} times as fast and {change} of the frames a second; it is chosen"
        f" where it is at least {_FASTER} times as fast and loses less than {_LOST:.1%}"
    )


def _in_mode(settings: Settings, mode: tuning.Mode) -> Settings:
    return settings.model_copy(
        update={
            "models": settings.models.model_copy(update={"mode": mode}),
            "server": settings.server.model_copy(update={"workers": 0}),
        }
    )
