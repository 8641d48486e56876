"""Makes a pack int8: each network for itself, and only where it gets faster and says nearly the same.

Where pictures come from is not known here: ``quantise`` takes any iterable of them.
"""

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from facesvc import engine
from facesvc.cli.quantizing_frames import Pixels, fitted, mosaics, surroundings
from facesvc.config import ModelSettings
from facesvc.engine import Concurrency, Models
from facesvc.errors import InputError, PreconditionError, WeightsError
from facesvc.models import quantize as quantiser
from facesvc.models.intake import UNCALIBRATED
from facesvc.models.packs import Pack, contract_of
from facesvc.models.parts import stored
from facesvc.models.quantization import Quantization
from facesvc.models.quantize import Drift, Pace, compare, pace
from facesvc.models.runtime import CPU, Network
from facesvc.vision.detection import Detection
from facesvc.vision.geometry import overlaps

Floats = NDArray[np.float32]
Clock = Callable[[], float]

LEAST_SPEEDUP = 1.2
LEAST_RECALL = 0.995

_MINIMUM_FACE = 40.0
# Per picture the largest faces count, so that one crowd does not make up the whole set.
_FACES_A_PICTURE = 8
_MOST_FACES = 300
_CALIBRATION_FRAMES, _TRIAL_FRAMES, _TIMED = 24, 40, 6
_SEED, _TRIAL_SEED = 1, 2
_SAME_FACE = 0.5  # intersection over union
_FAMILIES = ("scrfd", "yunet")


class Finder(Protocol):
    """What is asked of a detector here."""

    def detect(self, pixels: Pixels, minimum_face: float) -> list[Detection]:
        """As ``Detector.detect``."""
        ...


@dataclass(frozen=True, slots=True)
class Part:
    """What became of a network: ``kept`` says why it stays float and is empty for one that was made int8."""

    float_bytes: int
    int8_bytes: int | None = None
    pace: Pace | None = None
    drift: Drift | None = None
    recall: float | None = None
    kept: str = ""


@dataclass(frozen=True, slots=True)
class Quantised:
    """A pack made int8, not in the library yet: its files lie in the folder that was given."""

    pack: Pack
    embedder: Part
    detector: Part

    def contents(self) -> Iterator[tuple[str, bytes]]:
        """Name and content of every file."""
        return ((file.name, self.pack.path(file.name).read_bytes()) for file in self.pack.files)


@dataclass(frozen=True, slots=True)
class _Faces:
    """Faces out of pictures: chips as the embedder takes them, each also mirrored, and what to fill frames with."""

    chips: tuple[Pixels, ...]
    crops: tuple[Pixels, ...]
    frames: tuple[Pixels, ...]
    images: int


class _Tap:
    """A network that keeps what it is given."""

    def __init__(self, network: Network) -> None:
        self.network = network
        self.given: list[Floats] = []

    def __call__(self, batch: Floats) -> tuple[Floats, ...]:
        self.given.append(batch.copy())
        return self.network(batch)


def quantise(
    pack: Pack,
    name: str,
    pictures: Iterable[Pixels],
    unseen: Iterable[Pixels],
    weight_bits: Literal[7, 8],
    folder: Path,
    clock: Clock = time.perf_counter,
) -> Quantised:
    """``pack``, made int8 under another ``name`` with the faces in ``pictures``; its files are written into ``folder``.

    :param pictures: (H, W, 3) uint8 RGB, contiguous; taken one by one, and of each the largest faces.
    :param unseen: pictures that the result is tried on; none of those that it is calibrated with.

    Raises ``InputError`` for pictures without a face, and ``PreconditionError`` (``QUANTIZATION_GAINS_NOTHING``) where
    no network of the pack gets faster.
    """
    for file in pack.files:
        (folder / file.name).write_bytes(pack.path(file.name).read_bytes())
    models, trial = load(pack), replace(pack, folder=folder)
    faces, others = _faces(models, pictures), _faces(models, unseen)
    embedder = _embedder(models, trial, faces, others, weight_bits, clock)
    detector = _detector(models, trial, faces, others, weight_bits, clock)
    if embedder.kept and detector.kept:
        message = f"pack {pack.name} stays as it is: the embedder {embedder.kept}; the detector {detector.kept}"
        raise PreconditionError(message, reason="QUANTIZATION_GAINS_NOTHING")
    files = tuple(stored(file.name, (folder / file.name).read_bytes()) for file in pack.files)
    drift = embedder.drift if embedder.drift and not embedder.kept else Drift(1, 1.0, 1.0, Pace(1, 1, 1))
    made = replace(
        trial,
        name=name,
        contract_id=contract_of(pack.detector, pack.embedder, files, pack.dimension),
        files=files,
        calibration=UNCALIBRATED,
        quantization=Quantization(
            weight_bits, faces.images, drift.mean_cosine, drift.least_cosine, drift.pace.speedup, None, None
        ),
    )
    return Quantised(made, embedder, detector)


def load(pack: Pack, probe: engine.Probe = lambda network: network) -> Models:
    """The networks of a pack, each in one thread of the CPU, which is what int8 is for."""
    return engine.load(pack, ModelSettings(providers=(CPU,)), probe, how=Concurrency(engine.cores(), 1))


def _faces(models: Models, pictures: Iterable[Pixels]) -> _Faces:
    chips: list[Pixels] = []
    crops: list[Pixels] = []
    frames: list[Pixels] = []
    images = 0
    for pixels in pictures:
        found = sorted(models.detector.detect(pixels, _MINIMUM_FACE), key=lambda face: -face.box.area)
        for face in found[: min(_FACES_A_PICTURE, _MOST_FACES - len(crops))]:
            chip = models.embedder.align(pixels, face.landmarks)
            chips += [chip, np.ascontiguousarray(chip[:, ::-1])]
            crops.append(surroundings(pixels, face))
        images += bool(found)
        if found and len(frames) < _CALIBRATION_FRAMES // 2:
            frames.append(fitted(pixels))
        if len(crops) == _MOST_FACES:
            break
    if not crops:
        message = "no face was found in the pictures: name a folder of clear pictures of faces with --images"
        raise InputError(message, field="images")
    return _Faces(tuple(chips), tuple(crops), tuple(frames), images)


def _embedder(
    models: Models, trial: Pack, faces: _Faces, others: _Faces, weight_bits: Literal[7, 8], clock: Clock
) -> Part:
    tapped = load(models.pack, _Tap)
    given, tried = (_given(tapped.embedder.network, tapped.embedder.embed, set_.chips) for set_ in (faces, others))
    path = trial.path(trial.embedder.file)

    def try_out(network: Network) -> Part:
        part = Part(0, None, None, compare(_network(models.embedder.network), network, tried, clock))
        assert part.drift is not None
        return replace(part, pace=part.drift.pace)

    return _made_int8(path, given, weight_bits, try_out)


def _detector(
    models: Models, trial: Pack, faces: _Faces, others: _Faces, weight_bits: Literal[7, 8], clock: Clock
) -> Part:
    family = trial.detector.family
    if family not in _FAMILIES:
        size = sum(trial.path(file).stat().st_size for file in trial.detector.files.values())
        return Part(size, kept=f"is of the family {family}, whose small networks gain nothing")
    frames = [*faces.frames, *mosaics(faces.crops, _CALIBRATION_FRAMES - len(faces.frames), _SEED)]
    trials = list(mosaics([*faces.crops, *others.crops], _TRIAL_FRAMES, _TRIAL_SEED))
    path = trial.path(trial.detector.files["detector"])

    def try_out(network: Network) -> Part:
        share = recall(models.detector, load(trial).detector, trials)
        return Part(0, None, pace(float_network, network, timed, clock), None, share)

    taps: list[_Tap] = []

    def tap(network: Network) -> _Tap:
        taps.append(_Tap(network))
        return taps[-1]

    tapped = load(models.pack, tap)
    (own,) = (tap for tap in taps if tap is not tapped.embedder.network)
    float_network = own.network
    given = _given(own, lambda frame: tapped.detector.detect(frame, _MINIMUM_FACE), frames)
    largest = max(batch.size for batch in given)
    timed = list(islice((batch for batch in given if batch.size == largest), _TIMED))
    return _made_int8(path, given, weight_bits, try_out)


def _made_int8(
    path: Path, given: Sequence[Floats], weight_bits: Literal[7, 8], try_out: Callable[[Network], Part]
) -> Part:
    """Puts the int8 network in place of that at ``path`` and tries it; puts the old one back where it does not do."""
    before = path.read_bytes()
    try:
        after = quantiser.quantize(before, given, weight_bits=weight_bits)
    except WeightsError as error:
        return Part(len(before), kept=f"stays as it is: {error.message}")
    path.write_bytes(after)
    part = replace(try_out(Network.load(path)), float_bytes=len(before), int8_bytes=len(after))
    assert part.pace is not None
    kept = ""
    if part.pace.speedup < LEAST_SPEEDUP:
        kept = f"gets {part.pace.speedup:.2f} times as fast, less than {LEAST_SPEEDUP:g}"
    elif part.recall is not None and part.recall < LEAST_RECALL:
        kept = f"finds {part.recall:.2%} of the faces again, less than {LEAST_RECALL:.1%}"
    if kept:
        path.write_bytes(before)
    return replace(part, kept=kept)


def recall(exact: Finder, small: Finder, frames: Iterable[Pixels]) -> float:
    """The share of the faces that ``exact`` finds which ``small`` finds too; 1 where there is none."""
    found = total = 0
    for frame in frames:
        wanted, got = _boxes(exact.detect(frame, _MINIMUM_FACE)), _boxes(small.detect(frame, _MINIMUM_FACE))
        total += len(wanted)
        if len(got):
            shared = overlaps(np.concatenate([wanted, got]))[: len(wanted), len(wanted) :]
            found += int((shared.max(axis=1) >= _SAME_FACE).sum())
    return found / total if total else 1.0


def _boxes(faces: Sequence[Detection]) -> Floats:
    corners = [
        (face.box.left, face.box.top, face.box.left + face.box.width, face.box.top + face.box.height) for face in faces
    ]
    return np.array(corners, np.float32).reshape(-1, 4)


def _given(network: object, run: Callable[[Pixels], object], pictures: Iterable[Pixels]) -> list[Floats]:
    """What a tapped network is given when ``run`` sees each of the ``pictures``."""
    assert isinstance(network, _Tap)
    network.given = []
    for picture in pictures:
        run(picture)
    return network.given


def _network(network: object) -> Network:
    assert isinstance(network, Network)
    return network
