"""End to end: a server in a process of its own, a stream over gRPC, and what both cost."""

import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue

import numpy as np

from facesvc.cli.demo_camera import Scene, film
from facesvc.cli.local_server import LocalServer
from facesvc.cli.samples import GROUP, sample_picture
from facesvc.client import Client, frame, opening
from facesvc.config import Settings
from facesvc.v1 import common_pb2, recognition_pb2
from facesvc.vision.decode import ImageLimits, decode, read_header

_STAGES = ("decode", "detect", "align", "quality", "embed", "search")
_MEMORY_SAMPLES = 200
_SOAK_SIZES = ((480, 270), (400, 300), (320, 240), (270, 480))
_SOAK_VIEWS = 25


@dataclass(frozen=True, slots=True)
class StreamResult:
    """Medians of single frames sent one after the other, in milliseconds, and the server's resident memory."""

    frames: int
    faces: int
    stages_ms: float
    end_to_end_ms: float
    overhead: float
    resident_mb: float


@dataclass(frozen=True, slots=True)
class IdleResult:
    """What an open stream without frames costs, as a share of one core."""

    seconds: float
    core_share: float


@dataclass(frozen=True, slots=True)
class SoakResult:
    """Memory over many frames: at the start and end in MB, and the slope of the second half in KB a frame."""

    frames: int
    first_mb: float
    last_mb: float
    peak_mb: float
    slope_kb_a_frame: float


class StreamBench:
    """Runs the measurements against one server."""

    def __init__(self, server: LocalServer, client: Client) -> None:
        self._server = server
        self._client = client
        self._picture = sample_picture(GROUP)

    def latency(self, frames: int) -> StreamResult:
        """Each frame is sent when the result before it has come, so nothing waits and nothing is dropped."""
        stages, rounds, faces = [], [], 0

        def note(result: recognition_pb2.FrameResult, seconds: float) -> None:
            nonlocal faces
            faces = len(result.faces)
            stages.append(sum(_seconds(result.timings, stage) for stage in _STAGES))
            rounds.append(seconds)

        self._lockstep(frames + 3, note)
        stages, rounds = stages[3:], rounds[3:]  # the first few warm the connection up
        overhead = statistics.median(whole / part for part, whole in zip(stages, rounds, strict=True)) - 1
        return StreamResult(
            frames,
            faces,
            1000 * statistics.median(stages),
            1000 * statistics.median(rounds),
            overhead,
            self._resident_mb(),
        )

    def idle(self, seconds: float) -> IdleResult:
        """Open a stream, send nothing, and see what the server burns."""
        quiet: SimpleQueue[None] = SimpleQueue()

        def nothing() -> Iterator[recognition_pb2.Frame]:
            quiet.get()
            yield from ()

        results = self._client.recognize(opening("bench"), nothing())
        self._lockstep(1, lambda result, seconds: None)
        before = self._server.cpu_s()
        time.sleep(seconds)
        spent = self._server.cpu_s() - before
        quiet.put(None)
        for _ in results:
            pass
        return IdleResult(seconds, spent / seconds)

    def soak(self, frames: int) -> SoakResult:
        """Many frames; memory is sampled all along."""
        samples: list[tuple[int, float]] = []
        every = max(1, frames // _MEMORY_SAMPLES)
        done = 0

        def note(_result: recognition_pb2.FrameResult, _seconds: float) -> None:
            nonlocal done
            done += 1
            if done % every == 0:
                samples.append((done, self._resident_mb()))

        self._lockstep(frames, note, _soak_pictures())
        half = samples[len(samples) // 2 :]
        slope = float(np.polyfit([n for n, _ in half], [mb for _, mb in half], 1)[0]) if len(half) > 1 else 0.0
        resident = [mb for _, mb in samples]
        return SoakResult(frames, resident[0], resident[-1], max(resident), 1024 * slope)

    def _lockstep(
        self,
        frames: int,
        note: Callable[[recognition_pb2.FrameResult, float], None],
        pictures: Sequence[bytes] = (),
    ) -> None:
        """Send each frame when the result before it has come; ``pictures`` in turn, the group where there are none."""
        shown = pictures or [self._picture]
        turn: SimpleQueue[None] = SimpleQueue()
        sent = 0.0

        def feed() -> Iterator[recognition_pb2.Frame]:
            nonlocal sent
            for number in range(frames):
                turn.get()
                sent = time.perf_counter()
                yield frame(number, shown[number % len(shown)])

        turn.put(None)
        for result in self._client.recognize(opening("bench", every_frame=True), feed()):
            note(result, time.perf_counter() - sent)
            turn.put(None)

    def _resident_mb(self) -> float:
        for line in Path(f"/proc/{self._server.pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) / 1024
        raise RuntimeError("the kernel does not say how much memory the server holds")


def _soak_pictures() -> list[bytes]:
    """Small frames of several sizes, from nobody to six faces: what makes memory grow is variety."""
    data = sample_picture(GROUP)
    pixels = decode(data, read_header(data, ImageLimits())).pixels
    scene = Scene(pixels, (), _SOAK_VIEWS, (0.35, 0.7))
    return [shot.jpeg for width, height in _SOAK_SIZES for shot in film([scene], width, height, seed=width)]


def _seconds(timings: common_pb2.Timings, stage: str) -> float:
    seconds: float = getattr(timings, stage).ToTimedelta().total_seconds()
    return seconds


def with_server(settings: Settings, measure: Callable[[StreamBench], None]) -> None:
    """Call ``measure`` with a bench over a fresh server and an empty gallery."""
    with (
        tempfile.TemporaryDirectory(prefix="facesvc-bench-") as folder,
        LocalServer(settings, Path(folder) / "gallery.db") as server,
        Client(server.address) as client,
    ):
        client.wait_until_serving()
        measure(StreamBench(server, client))
