"""Frame by frame, without tracking: our pipeline against ``insightface.app.FaceAnalysis``, with the same networks.

Both are given the same pictures in turn and their whole processor time is counted, over all threads: a small box has
little of it. ``FaceAnalysis`` runs in a process of its own, as it comes; its pictures are decoded already, ours are
JPEG files. Our smallest face is chosen so that about as many pixels are scanned as in its input of 640 x 640, and the
faces that both find are counted. It has no int8: an int8 pack is compared with the float pack that it was made from.
"""

import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np

from facesvc import engine
from facesvc.cli.pictures import pixels_of
from facesvc.cli.tracking_pairs import ENOUGH, overlap
from facesvc.config import Settings
from facesvc.errors import DependencyError, InputError
from facesvc.models.packs import Pack
from facesvc.vision.detection import MinimumFace
from facesvc.vision.geometry import Box

MINIMUM_FACE = 60.0
SIZES = ("640", "default")
"""Sides of its detector's input: one, and what it uses where nothing is said, 128 and 640 one after the other."""
_PACKAGE_PARENT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True, slots=True)
class Compared:
    """Medians of the rounds: processor milliseconds a frame, and faces found in all frames, by each and by both."""

    size: str
    frames: int
    ours_ms: float
    theirs_ms: float
    ours_found: int
    theirs_found: int
    both_found: int

    @property
    def ratio(self) -> float:
        """Ours over theirs."""
        return self.ours_ms / self.theirs_ms


def compare(settings: Settings, frames: Sequence[bytes], rounds: int = 5) -> list[Compared]:
    """Our pipeline under ``settings`` against FaceAnalysis at each of ``SIZES``, on JPEG files of one size.

    Raises ``InputError`` for a pack that insightface cannot run.
    """
    models = engine.load_models(settings)
    pipeline = models.pipeline(engine.image_limits(settings))
    minimum, most = MinimumFace(MINIMUM_FACE), settings.limits.max_faces
    with tempfile.TemporaryDirectory(prefix="facesvc-bench-") as folder:
        float_pack = float_pack_of(settings, models.pack)
        with _FaceAnalysis(Path(folder), float_pack, frames) as theirs:
            pipeline.embed(frames[0], minimum, most)  # the first run of a network is slower than all others
            ours_s, theirs_s = [], {size: list[float]() for size in SIZES}
            found: dict[str, list[list[Box]]] = {}
            for _ in range(rounds):
                for size in SIZES:
                    started = time.process_time()
                    analyses = [pipeline.embed(frame, minimum, most) for frame in frames]
                    ours_s.append(time.process_time() - started)
                    spent, found[size] = theirs.run(size)
                    theirs_s[size].append(spent)
    own = [[face.detection.box for face in analysis.faces] for analysis in analyses]
    ours_ms = 1000 * statistics.median(ours_s) / len(frames)
    return [
        Compared(
            size,
            len(frames),
            ours_ms,
            1000 * statistics.median(theirs_s[size]) / len(frames),
            sum(map(len, own)),
            sum(map(len, found[size])),
            sum(_both(mine, other) for mine, other in zip(own, found[size], strict=True)),
        )
        for size in SIZES
    ]


def float_pack_of(settings: Settings, pack: Pack) -> Pack:
    """The pack itself, or the one that it was made int8 from. Raises ``InputError`` where it is none of InsightFace."""
    if pack.detector.family != "scrfd" or pack.embedder.side != 112:
        raise InputError(f"FaceAnalysis cannot run the pack {pack.name}: only those of InsightFace", field="pack")
    return engine.library(settings).open(pack.sources[0].package) if pack.quantization else pack


class _FaceAnalysis:
    """The other program, while the block lasts."""

    def __init__(self, folder: Path, pack: Pack, frames: Sequence[bytes]) -> None:
        models, pictures = folder / "models", folder / "pictures.npy"
        models.mkdir()
        # Only the graphs: a manifest of ours is none of its own.
        for file in (pack.detector.files["detector"], pack.embedder.file):
            (models / file).symlink_to(pack.path(file).resolve())
        np.save(pictures, np.stack([pixels_of(frame)[:, :, ::-1] for frame in frames]))
        self._process = subprocess.Popen(  # noqa: S603 - this interpreter, this package
            [sys.executable, "-m", "facesvc.models.insightface_program", str(models), str(pictures)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=_PACKAGE_PARENT,
            text=True,
        )

    def __enter__(self) -> Self:
        """The running program."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """It ends with its input."""
        self._process.communicate()

    def run(self, size: str) -> tuple[float, list[list[Box]]]:
        """Processor seconds for all pictures, and the faces of each."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            self._process.stdin.write(f"{size}\n")
            self._process.stdin.flush()
            answer = json.loads(self._process.stdout.readline() or "null")
        except BrokenPipeError:
            answer = None
        if answer is None:
            raise DependencyError("FaceAnalysis did not run; what it said stands above")
        return answer["cpu_s"], [[_box(*edges) for edges in boxes] for boxes in answer["boxes"]]


def _box(left: float, top: float, right: float, bottom: float) -> Box:
    return Box(left, top, right - left, bottom - top)


def _both(ours: Sequence[Box], theirs: Sequence[Box]) -> int:
    return sum(any(overlap(mine, other) >= ENOUGH for other in theirs) for mine in ours)
