"""The cameras of the benchmark: each shows its video at the pace of the clock, whatever the server makes of it."""

import asyncio
import math
import os
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from facesvc.cli.footage import Footage
from facesvc.cli.tracking_pairs import Answer, FoundFace
from facesvc.client import AsyncClient, CallError, frame, opening
from facesvc.engine import cores
from facesvc.v1 import common_pb2, recognition_pb2
from facesvc.vision.geometry import Box

_TICKS_A_SECOND = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Camera:
    """Shows ``footage`` from ``begin_s`` on for ``seconds``, over and over if need be, at ``fps`` frames a second.

    Who moves does so at the same speed at any ``fps``. ``predictions``: every frame is to be answered. Without
    ``keep`` only the figures of its results are kept.
    """

    camera_id: str
    footage: Footage
    fps: float
    seconds: float
    predictions: bool = False
    begin_s: float = 0.0
    zone: str = ""
    keep: bool = False

    def picture(self, number: int) -> int:
        """Which frame of the footage is shown as the one with that number."""
        at = int((self.begin_s + number / self.fps) * self.footage.take.fps + 1e-6)
        return at % len(self.footage.frames)


@dataclass(frozen=True, slots=True)
class Result:
    """What came of a frame, ``age_s`` after it was taken and ``at_s`` after the beginning."""

    number: int
    at_s: float
    age_s: float
    predicted: bool
    embedded: int
    error: str
    message: recognition_pb2.FrameResult | None


@dataclass(slots=True)
class Recording:
    """A camera, the frames that it sent, and what came of them."""

    camera: Camera
    sent: int = 0
    results: list[Result] = field(default_factory=list)
    broken: str = ""
    """Why the stream ended before its time."""

    @property
    def looks(self) -> list[Result]:
        """Results of frames that were looked at."""
        return [one for one in self.results if not one.predicted and not one.error]

    @property
    def errors(self) -> list[str]:
        """The reasons of frames that failed, and of a stream that broke."""
        return [one.error for one in self.results if one.error] + [self.broken] * bool(self.broken)

    @property
    def period_s(self) -> float:
        """Seconds between two looks; no number where nothing was looked at."""
        return self.camera.seconds / len(self.looks) if self.looks else math.nan

    def age_s(self, percentile: float, *, looks: bool = True) -> float:
        """How old results are when they arrive; those of looks, or all. No number where there are none."""
        ages = [one.age_s for one in (self.looks if looks else self.results)]
        return float(np.percentile(ages, percentile)) if ages else math.nan

    def answers(self, *, looks: bool = False) -> list[Answer]:
        """For scoring: who was where, by the frames of the footage, each frame once; all of them, or only the looks."""
        results = self.looks if looks else self.results
        kept = {self.camera.picture(one.number): one for one in results if one.message and not one.error}
        return [Answer(number, _faces(one.message), one.age_s) for number, one in sorted(kept.items()) if one.message]


class Meter:
    """Processor time of the server and of this process, from when it is made."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._server_s, self._client_s, self._begun = self._cpu_s(), time.process_time(), time.monotonic()

    @property
    def server_s(self) -> float:
        """Seconds that the server computed."""
        return self._cpu_s() - self._server_s

    @property
    def client_s(self) -> float:
        """Seconds that this process computed."""
        return time.process_time() - self._client_s

    @property
    def wall_s(self) -> float:
        """Seconds gone by."""
        return time.monotonic() - self._begun

    @property
    def busy(self) -> float:
        """The share of all cores that both kept busy."""
        return (self.server_s + self.client_s) / (self.wall_s * cores())

    def resident_mb(self) -> float:
        """The server's resident memory now."""
        for line in Path(f"/proc/{self._pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) / 1024
        return math.nan

    def _cpu_s(self) -> float:
        fields = Path(f"/proc/{self._pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / _TICKS_A_SECOND


def show(address: str, cameras: Sequence[Camera], every_second: Callable[[], object] = lambda: None) -> list[Recording]:
    """All cameras at once, until the last result of each has come."""
    return asyncio.run(_show(address, cameras, every_second))


async def _show(address: str, cameras: Sequence[Camera], every_second: Callable[[], object]) -> list[Recording]:
    recordings = [Recording(camera) for camera in cameras]
    async with AsyncClient(address) as client:
        ticking = asyncio.create_task(_tick(every_second))
        # Cameras do not all take their pictures at the same moment.
        shares = [number / len(cameras) for number in range(len(cameras))]
        try:
            async with asyncio.TaskGroup() as group:
                for recording, share in zip(recordings, shares, strict=True):
                    group.create_task(_record(client, recording, share))
        finally:
            ticking.cancel()
            with suppress(asyncio.CancelledError):
                await ticking
    return recordings


async def _tick(every_second: Callable[[], object]) -> None:
    while True:
        await asyncio.sleep(1)
        every_second()


async def _record(client: AsyncClient, recording: Recording, share: float) -> None:
    camera = recording.camera
    opened = opening(camera.camera_id, zone=camera.zone, predictions=camera.predictions)
    begun = time.monotonic() + share / camera.fps
    taken: dict[int, float] = {}
    try:
        async for result in client.recognize(opened, _paced(recording, begun, taken)):
            recording.results.append(_result(camera, result, begun, taken[result.frame_id]))
    except CallError as error:
        recording.broken = str(error)


def _result(camera: Camera, result: recognition_pb2.FrameResult, begun: float, taken: float) -> Result:
    now = time.monotonic()
    return Result(
        number=result.frame_id,
        at_s=now - begun,
        age_s=now - taken,
        predicted=result.predicted,
        embedded=result.faces_embedded,
        error=result.error.reason if result.HasField("error") else "",
        message=result if camera.keep else None,
    )


async def _paced(recording: Recording, begun: float, taken: dict[int, float]) -> AsyncIterator[recognition_pb2.Frame]:
    camera = recording.camera
    for number in range(round(camera.seconds * camera.fps)):
        if (wait := begun + number / camera.fps - time.monotonic()) > 0:
            await asyncio.sleep(wait)
        taken[number] = time.monotonic()
        recording.sent += 1
        yield frame(number, camera.footage.frames[camera.picture(number)], datetime.now(UTC))


def _faces(result: recognition_pb2.FrameResult) -> tuple[FoundFace, ...]:
    return tuple(
        FoundFace(
            one.track.track_id or f"{result.frame_id}/{number}",
            _name(one.decision),
            _box(one.face.box),
            one.track.predicted or result.predicted,
        )
        for number, one in enumerate(result.faces)
    )


def _name(decision: common_pb2.Decision) -> str:
    return decision.subject.subject_id if decision.outcome == common_pb2.OUTCOME_MATCH else ""


def _box(box: common_pb2.BoundingBox) -> Box:
    return Box(box.left, box.top, box.width, box.height)
