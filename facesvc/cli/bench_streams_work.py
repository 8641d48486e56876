"""The workloads of ``facesvc bench streams``, each against a server of its own: what they do, and their figures."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from facesvc import engine
from facesvc.cli import bench_faceanalysis
from facesvc.cli.bench_streams_cameras import Camera, Meter, Recording, show
from facesvc.cli.bench_streams_report import Row, at_least, at_most, plain
from facesvc.cli.bench_streams_scores import followed
from facesvc.cli.bench_streams_stage import FEW, Box, Stage, note
from facesvc.cli.footage import Footage
from facesvc.errors import InputError

# The bars of the project's issue on live streams, for two cores.
_BUSY = 0.6
_FAIRNESS, _PERIODS = 1.3, 2.0
_IDLE_CORE = 0.15
_FLOAT_RATIO, _INT8_RATIO, _TRACKED_RATIO = 0.6, 0.35, 0.12
# Memory counts as flat where the second half of the time adds less than this share of it.
_GROWTH = 0.02

_CAMERAS, _CAMERA_FPS, _CAMERAS_S = 8, 15.0, 20.0
_IDLE_S = 10.0
_OVERLOAD, _OVERLOAD_CAMERAS, _PROBE_S = 6.0, 12, 6.0
# Saturation: offered frames a second, how long each is tried, and what has to be answered of it.
_RATES, _TRY_S, _SETTLE_S, _ANSWERED = (
    (30.0, 40.0, 50.0, 60.0, 75.0, 90.0, 120.0, 150.0, 180.0, 240.0, 300.0, 360.0, 480.0),
    6.0,
    2.0,
    0.99,
)
_COMPARED_FRAMES = 12
# From this share of the time on everybody is there.
_MIDDLE = 0.35
# Of the faces that it finds, we have to find so many.
_EQUAL = 0.97


@dataclass(slots=True)
class Figures:
    """What one workload measures and another needs: the server's processor milliseconds a frame, with tracking."""

    tracked_ms: float = math.nan


def crowd(stage: Stage, figures: Figures) -> Iterator[Row]:
    """Fifteen people at the camera's 30 frames a second, every frame answered; then faster, until it is too much."""
    footage, people = stage.crowd, stage.cast
    with stage.box(people) as box:
        note(f"15 people, {footage.take.fps:.0f} frames a second, {footage.take.seconds:.0f} s")
        meter = box.meter()
        camera = Camera("crowd", footage, footage.take.fps, footage.take.seconds, predictions=True, keep=True)
        (recording,) = show(box.address, [camera])
        figures.tracked_ms = 1000 * meter.server_s / recording.sent
        yield from _load("crowd", recording, meter)
        yield from followed("crowd", footage, recording, frozenset(people.enrolments))
        yield plain("crowd", "saturates at, frames a second", _saturation(box, footage), "{:.0f}")


def _load(name: str, recording: Recording, meter: Meter) -> Iterator[Row]:
    looks = recording.looks
    yield at_least(name, "frames answered", len(recording.results) / recording.sent, 1.0, "{:.1%}")
    yield at_most(name, "cores busy, client included", meter.busy, _BUSY, "{:.1%}")
    yield plain(name, "cores busy, the server alone", meter.server_s / (meter.wall_s * engine.cores()), "{:.1%}")
    yield plain(name, "looks a second", len(looks) / recording.camera.seconds, "{:.1f}")
    yield plain(
        name, "faces embedded a second", sum(one.embedded for one in looks) / recording.camera.seconds, "{:.1f}"
    )
    yield plain(name, "age of answers p50, ms", 1000 * recording.age_s(50, looks=False), "{:.0f}")
    yield plain(name, "age of answers p99, ms", 1000 * recording.age_s(99, looks=False), "{:.0f}")
    yield plain(name, "age of looks p99, ms", 1000 * recording.age_s(99), "{:.0f}")
    yield at_most(name, f"errors{_first_error([recording])}", _errors([recording]), 0, "{:.0f}")


def _saturation(box: Box, footage: Footage) -> float:
    """The fastest of a few rates at which all frames are still answered, each before the one after the next is taken.

    The middle of the video is shown, where everybody is there.
    """
    best = math.nan
    for rate in _RATES:
        note(f"15 people, {rate:.0f} frames a second")
        camera = Camera("crowd", footage, rate, _TRY_S, predictions=True, begin_s=footage.take.seconds * _MIDDLE)
        (recording,) = show(box.address, [camera])
        settled = [one for one in recording.results if one.number >= _SETTLE_S * rate]
        answered = len(settled) / ((_TRY_S - _SETTLE_S) * rate)
        in_time = np.mean([one.age_s <= 2 * recording.period_s for one in settled]) if settled else 0.0
        if recording.errors or min(answered, in_time) < _ANSWERED:
            break
        best = rate
    return best


def cameras(stage: Stage) -> Iterator[Row]:
    """Eight cameras at 15 frames a second."""
    footage = stage.few
    with stage.box(stage.cast.only(FEW)) as box:
        note(f"{_CAMERAS} cameras, {_CAMERA_FPS:.0f} frames a second each, {_CAMERAS_S:.0f} s")
        meter = box.meter()
        recordings = show(box.address, _each(_CAMERAS, footage, _CAMERA_FPS, _CAMERAS_S))
        yield plain("cameras", "cores busy, client included", meter.busy, "{:.1%}")
        yield plain("cameras", "looks a second, all together", _looks(recordings), "{:.1f}")
        yield from _fairly("cameras", recordings)


def _fairly(name: str, recordings: Sequence[Recording]) -> Iterator[Row]:
    counts = [len(one.looks) for one in recordings]
    yield at_least(name, "cameras served", sum(count > 0 for count in counts), len(counts), "{:.0f}")
    yield at_most(name, "fairness, most over fewest looks", max(counts) / max(1, min(counts)), _FAIRNESS)
    worst = max(recordings, key=lambda one: one.age_s(99) / one.period_s)
    yield plain(name, "age of results p99, ms, worst camera", 1000 * worst.age_s(99), "{:.0f}")
    yield at_most(name, "the same in service periods", worst.age_s(99) / worst.period_s, _PERIODS)
    yield at_most(name, f"errors{_first_error(recordings)}", _errors(recordings), 0, "{:.0f}")


def _errors(recordings: Sequence[Recording]) -> int:
    return sum(len(one.errors) for one in recordings)


def _first_error(recordings: Sequence[Recording]) -> str:
    """In brackets, for a row that is to be understood."""
    return next((f" ({one.errors[0]})" for one in recordings if one.errors), "")


def _each(count: int, footage: Footage, fps: float, seconds: float) -> list[Camera]:
    length = footage.take.seconds / count
    return [
        Camera(f"camera-{number}", footage, fps, seconds, begin_s=number * length, zone=f"zone-{number}")
        for number in range(count)
    ]


def _looks(recordings: Sequence[Recording]) -> float:
    return sum(len(one.looks) for one in recordings) / recordings[0].camera.seconds


def overload(stage: Stage, seconds: float) -> Iterator[Row]:
    """Six times as many frames as the server can look at, for minutes."""
    footage = stage.few
    with stage.box(stage.cast.only(FEW)) as box:
        note("finding out how much is too much")
        probe = show(box.address, _each(_OVERLOAD_CAMERAS, footage, 2 * _CAMERA_FPS, _PROBE_S))
        capacity = _looks(probe)
        if not capacity:
            yield at_most("overload", f"errors{_first_error(probe)}", _errors(probe), 0, "{:.0f}")
            return
        offered = _OVERLOAD * capacity
        note(f"{offered:.0f} frames a second offered, {capacity:.0f} can be looked at, for {seconds:.0f} s")
        meter, resident = box.meter(), list[float]()
        recordings = show(
            box.address,
            _each(_OVERLOAD_CAMERAS, footage, offered / _OVERLOAD_CAMERAS, seconds),
            lambda: resident.append(meter.resident_mb()),
        )
        sent = sum(one.sent for one in recordings) / seconds
        yield plain("overload", "frames a second that it can look at", capacity, "{:.1f}")
        yield plain("overload", "frames sent for each of them", sent / capacity, "{:.1f}")
        yield plain("overload", "looks a second", _looks(recordings), "{:.1f}")
        yield from _memory(resident)
        yield from _fairly("overload", recordings)


def _memory(resident: Sequence[float]) -> Iterator[Row]:
    """By a line through the second half, a sample a second: what a box holds for minutes has been allocated by then."""
    half = resident[len(resident) // 2 :]
    slope = float(np.polyfit(range(len(half)), half, 1)[0]) if len(half) > 1 else 0.0
    yield plain("overload", "server's memory at first, MB", resident[0] if resident else math.nan, "{:.0f}")
    yield plain("overload", "at last, MB", resident[-1] if resident else math.nan, "{:.0f}")
    yield plain("overload", "slope of the second half, MB a minute", 60 * slope)
    growth = slope * len(half) / half[0] if half else math.nan
    yield at_most("overload", "growth in the second half", growth, _GROWTH, "{:.2%}")


def idle(stage: Stage) -> Iterator[Row]:
    """An empty room before a camera of 15 frames a second; then the same with people, to compare."""
    empty, few = stage.empty, stage.few
    with stage.box() as box:
        note(f"an empty room, {_CAMERA_FPS:.0f} frames a second, {_IDLE_S:.0f} s")
        show(box.address, [Camera("idle", empty, _CAMERA_FPS, 2)])
        meter = box.meter()
        (recording,) = show(box.address, [Camera("idle", empty, _CAMERA_FPS, _IDLE_S)])
        both = (meter.server_s + meter.client_s) / meter.wall_s
        server = meter.server_s / meter.wall_s
        (busy,) = show(box.address, [Camera("idle", few, _CAMERA_FPS, _IDLE_S / 2)])
        cadence, among_people = _looks([recording]), _looks([busy])
        yield at_most("idle", "of one core, the server", server, _IDLE_CORE, "{:.1%}")
        yield plain("idle", "of one core, client included", both, "{:.1%}")
        yield plain("idle", "looks a second with people", among_people, "{:.1f}")
        yield at_most("idle", "looks a second", cadence, among_people / 2, "{:.1f}")


def faceanalysis(stage: Stage, figures: Figures) -> Iterator[Row]:
    """The same networks and pictures against the insightface package, frame by frame."""
    footage = stage.crowd
    middle = footage.frames[int(_MIDDLE * len(footage.frames)) : int(2 * _MIDDLE * len(footage.frames))]
    frames = middle[:: max(1, len(middle) // _COMPARED_FRAMES)][:_COMPARED_FRAMES]
    settings, library = stage.settings, engine.library(stage.settings)
    pack = library.open(library.active(settings.models.pack))
    try:
        float_pack = bench_faceanalysis.float_pack_of(settings, pack)
    except InputError as error:
        note(f"no comparison: {error.message}")
        return
    theirs_ms = math.nan
    for each, bar in {
        float_pack.name: _FLOAT_RATIO,
        pack.name: _INT8_RATIO if pack.quantization else _FLOAT_RATIO,
    }.items():
        note(f"{each} against FaceAnalysis")
        own = settings.model_copy(update={"models": settings.models.model_copy(update={"pack": each})})
        for one in bench_faceanalysis.compare(own, frames):
            what = f"{each}, its size {one.size}"
            yield plain("faceanalysis", f"{what}: its CPU ms a frame", one.theirs_ms, "{:.0f}")
            yield plain("faceanalysis", f"{what}: ours", one.ours_ms, "{:.0f}")
            least = one.theirs_found * _EQUAL
            yield at_least(
                "faceanalysis",
                f"{what}: faces of its {one.theirs_found} that we found",
                one.both_found,
                least,
                "{:.0f}",
            )
            yield at_most("faceanalysis", f"{what}: ours over its", one.ratio, bar)
            theirs_ms = one.theirs_ms if one.size == "640" else theirs_ms
    if not math.isnan(figures.tracked_ms):
        yield plain("faceanalysis", "our server's CPU ms a frame, with tracking", figures.tracked_ms, "{:.1f}")
        yield at_most("faceanalysis", "with tracking, over its at 640", figures.tracked_ms / theirs_ms, _TRACKED_RATIO)
