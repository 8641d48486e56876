"""A pack, loaded: its networks behind the detector and the embedder that feed them."""

import math
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from facesvc.config import ModelSettings, Settings
from facesvc.errors import WeightsError
from facesvc.models import tuning
from facesvc.models.library import Library
from facesvc.models.liveness_packs import LivenessNetwork, LivenessPack
from facesvc.models.packs import DetectorSpec, EmbedderSpec, Pack
from facesvc.models.runtime import Network
from facesvc.vision import detection as vision
from facesvc.vision.decode import ImageLimits
from facesvc.vision.detect_grid import GridDetector, GridInput, Head
from facesvc.vision.detect_mtcnn import MtcnnDetector
from facesvc.vision.detect_scrfd import ScrfdHead
from facesvc.vision.detect_yunet import YunetHead
from facesvc.vision.embed import Embedder
from facesvc.vision.geometry import Box
from facesvc.vision.liveness import SIDE as LIVENESS_SIDE
from facesvc.vision.liveness import AlignedFace, GrownBox, Liveness, View
from facesvc.vision.pipeline import Detector, Pipeline

Load = Callable[[str], Network]
Probe = Callable[[Network], vision.Network]
"""May put something before a network, such as a clock."""

# The head that reads the outputs of a family, and the size, in pixels of its input, at which the smallest face wanted
# is shown. Faces of 16 are found, but their landmarks are poor: on LFW with MobileFaceNet SCRFD-2.5G gives 99.07 % at
# 24 and 32, 99.27 % at 40 and 56; YuNet 98.60 % at 32 and 40, 99.10 % at 56. The third number is the size for a rough
# look: of the faces in crowds made of LFW pictures SCRFD finds 98.9 % again at 20; YuNet 90 % at 28, with more false
# ones the smaller they are shown.
_GRID_FAMILIES: dict[str, tuple[type[Head], float, float]] = {
    "scrfd": (ScrfdHead, 40.0, 20.0),
    "yunet": (YunetHead, 56.0, 40.0),
}


CGROUP, OWN_CGROUP = Path("/sys/fs/cgroup"), Path("/proc/self/cgroup")


@dataclass(frozen=True, slots=True)
class Concurrency:
    """Pictures worked on at the same time, and the threads that a network has for one of them."""

    workers: int
    threads: int


_ALONE = Concurrency(workers=1, threads=1)


@dataclass(frozen=True, slots=True)
class Models:
    """A pack and its loaded networks; ``providers`` are the execution providers in use, best first.

    The networks were loaded for ``concurrency``: work on as many pictures at a time as it says.
    """

    pack: Pack
    detector: Detector
    embedder: Embedder
    providers: tuple[str, ...]
    concurrency: Concurrency

    def pipeline(self, limits: ImageLimits) -> Pipeline:
        """The vision pipeline over these models."""
        return Pipeline(self.detector, self.embedder, limits, time.perf_counter)


def image_limits(settings: Settings) -> ImageLimits:
    """What pictures are refused before decoding, and how much of the rest is scanned."""
    limits = settings.limits
    return ImageLimits(limits.max_image_bytes, limits.max_image_pixels, limits.max_scanned_pixels)


def library(settings: Settings) -> Library:
    """The packs on this box."""
    return Library(settings.models.cache_dir)


def load_models(settings: Settings, probe: Probe = lambda network: network) -> Models:
    """The pack of the settings, with its networks loaded. Raises ``NotFoundError``, ``WeightsError``."""
    packs = library(settings)
    pack = packs.open(packs.active(settings.models.pack))
    how = concurrency(settings, pack.contract_id)
    return load(pack, settings.models, probe, how=how, coarse_look=settings.detection.coarse_look)


def load(
    pack: Pack,
    settings: ModelSettings,
    probe: Probe = lambda network: network,
    *,
    how: Concurrency = _ALONE,
    coarse_look: bool = True,
) -> Models:
    """``pack`` with its networks loaded, to be run as ``how`` says; ``coarse_look`` is the setting of that name.

    Raises ``WeightsError`` for files that are not what the pack says, ``DependencyError`` for an execution provider
    that is not in use though the settings insist on it, and ``PreconditionError`` for a pack that lost too much when it
    was made int8.
    """
    pack.check_fit_for_use()
    providers: dict[str, None] = {}

    def network(file: str) -> Network:
        loaded = Network.load(
            pack.path(file),
            threads=how.threads,
            providers=settings.providers,
            strict=settings.strict_providers,
            many_sizes=pack.detector.family == "mtcnn" and file != pack.embedder.file,
        )
        providers.update(dict.fromkeys(loaded.providers))
        return loaded

    embedder = _embedder(pack.embedder, network(pack.embedder.file), pack.dimension, probe)
    detector = _detector(pack.detector, network, probe, coarse_look=coarse_look)
    return Models(pack, detector, embedder, tuple(providers), how)


def concurrency(settings: Settings, contract_id: str) -> Concurrency:
    """How a pack of that contract is run: for many pictures, or for a single one.

    Several networks side by side, each in one thread, give the most frames a second; all cores for one network give
    its answer soonest, but the parts of a frame that are no network leave the other cores idle. ``server.workers``
    wins where it is set; in the mode ``latency`` they share the cores.
    """
    count, workers, mode = cores(), settings.server.workers, settings.models.mode
    if mode == "auto":
        mode = tuning.read(settings.models.cache_dir).get((contract_id, count), "throughput")
    if mode == "latency":
        workers = workers or 1
        return Concurrency(workers, max(1, count // workers))
    return Concurrency(workers or count, 1)


def cores() -> int:
    """Cores that this process may use: those it may run on, or fewer where its control group grants less time.

    A part of a core counts as a core: 1.5 are used up by two threads, never by one.
    """
    return min([len(os.sched_getaffinity(0)), *(max(1, math.ceil(quota)) for quota in _quotas())])


def _quotas() -> Iterator[float]:
    """The cores that the control groups (version 2) of this process may keep busy; each is bound by those above it."""
    try:
        entries = OWN_CGROUP.read_text().splitlines()
    except OSError:
        return
    own = next((line.removeprefix("0::") for line in entries if line.startswith("0::")), "/")
    group = CGROUP / own.strip("/")
    for folder in (group, *group.parents):
        try:
            quota, period = (folder / "cpu.max").read_text().split()
            yield int(quota) / int(period)
        except (OSError, ValueError, ZeroDivisionError):
            continue  # there is no file at the root or in version 1, and "max" is no number: no limit


def warm_up(pipeline: Pipeline) -> None:
    """Run every network once, so that the first picture is not the slow one. Raises ``WeightsError``."""
    side = pipeline.embedder.side
    grey = np.full((side, side, 3), 127, np.uint8)
    try:
        pipeline.detector.detect(grey, 40.0)
        vector = pipeline.embedder.embed(grey)
    except Exception as error:
        # onnxruntime's exceptions have no base of their own.
        raise WeightsError(f"the pack's networks do not run on what its manifest says: {error}") from error
    if len(vector) != pipeline.embedder.dimension:
        message = f"the embedder gives {len(vector)} values, its pack says {pipeline.embedder.dimension}"
        raise WeightsError(message)


def _embedder(spec: EmbedderSpec, network: Network, dimension: int, probe: Probe) -> Embedder:
    template = np.array(spec.template, np.float32)
    return Embedder(probe(network), spec.side, spec.mean, spec.std, template, dimension, spec.colour_order)


def _detector(spec: DetectorSpec, load: Load, probe: Probe, *, coarse_look: bool) -> Detector:
    if spec.family == "mtcnn":
        pnet, rnet, onet = (probe(load(spec.files[role])) for role in ("pnet", "rnet", "onet"))
        return MtcnnDetector(pnet, rnet, onet)
    network = load(spec.files["detector"])
    head, smallest_face, rough_face = _GRID_FAMILIES[spec.family]
    *_, height, width = network.input_shape
    side = height if isinstance(height, int) and height == width else None
    given = GridInput(spec.mean, spec.std, spec.colour_order, side, smallest_face, rough_face)
    return GridDetector(probe(network), head(), given, coarse_look=coarse_look)


def load_liveness(settings: Settings, probe: Probe = lambda network: network) -> Liveness | None:
    """What tells living faces from pictures, loaded and run once; None where the settings name no pack for it.

    Each network has one thread: they are too small to share. Raises ``NotFoundError``, also for a pack of another kind,
    ``WeightsError``, and ``DependencyError`` as ``load`` does.
    """
    if not settings.liveness.pack:
        return None
    pack = library(settings).open_liveness(settings.liveness.pack)
    liveness = Liveness(tuple(_view(pack, one, settings.models, probe) for one in pack.networks))
    side = 2 * LIVENESS_SIDE
    grey = np.full((side, side, 3), 127, np.uint8)
    landmarks = np.array([(65, 65), (95, 65), (80, 80), (68, 95), (92, 95)], np.float32)
    try:
        liveness.score(grey, vision.Detection(Box(50, 40, 60, 80), landmarks, 1.0))
    except Exception as error:
        # onnxruntime's exceptions have no base of their own.
        raise WeightsError(f"the networks of {pack.name} do not run on what its manifest says: {error}") from error
    return liveness


def _view(pack: LivenessPack, one: LivenessNetwork, settings: ModelSettings, probe: Probe) -> View:
    network = Network.load(pack.path(one.file), providers=settings.providers, strict=settings.strict_providers)
    return AlignedFace(probe(network)) if one.scale is None else GrownBox(probe(network), one.scale)
