"""Builds everything in order and closes it in reverse; no logic."""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
import structlog
from ulid import ULID

from facesvc.api.policies import Policies
from facesvc.api.server import Server
from facesvc.api.service import Register, Service
from facesvc.api.workers import Workers
from facesvc.config import Settings
from facesvc.errors import NotFoundError
from facesvc.events.feed import Feed
from facesvc.gallery import EmbeddingContract, Gallery
from facesvc.models import default_pack
from facesvc.models.packs import Pack
from facesvc.models.runtime import Network, runtime_version
from facesvc.stream.recognizer import Recognizer
from facesvc.stream.sightings import Sightings
from facesvc.vision import detection as vision
from facesvc.vision.decode import ImageLimits
from facesvc.vision.detect_mtcnn import MtcnnDetector
from facesvc.vision.embed import Embedder
from facesvc.vision.pipeline import Pipeline

_log = structlog.get_logger(__name__)


def now() -> datetime:
    """The time of day, UTC."""
    return datetime.now(UTC)


@dataclass(frozen=True, slots=True)
class Models:
    """A pack and its loaded networks."""

    pack: Pack
    detector: MtcnnDetector
    embedder: Embedder
    providers: tuple[str, ...]

    def pipeline(self, limits: ImageLimits) -> Pipeline:
        """The vision pipeline over these models."""
        return Pipeline(self.detector, self.embedder, limits, time.perf_counter)


def load_pack(name: str, cache_dir: Path) -> Pack:
    """A pack by name; ``default`` is built where it is missing. Raises ``NotFoundError``, ``WeightsError``."""
    if name != default_pack.NAME:
        raise NotFoundError(
            f"there is no model pack {name[:64]!a}: this version has only {default_pack.NAME}", field="pack"
        )
    return default_pack.ensure(cache_dir)


def load_models(settings: Settings, probe: Callable[[Network], vision.Network] = lambda network: network) -> Models:
    """The pack of the settings with its networks loaded; ``probe`` may put something before each, such as a clock."""
    chosen = settings.models
    pack = load_pack(chosen.pack, chosen.cache_dir)

    def load(file: str) -> Network:
        return Network.load(pack.path(file), providers=chosen.providers, strict=chosen.strict_providers)

    pnet, rnet, onet = (probe(load(pack.detector.files[role])) for role in ("pnet", "rnet", "onet"))
    spec, network = pack.embedder, load(pack.embedder.file)
    template = np.array(spec.template, np.float32)
    embedder = Embedder(probe(network), spec.side, spec.mean, spec.std, template, pack.dimension)
    return Models(pack, MtcnnDetector(pnet, rnet, onet), embedder, network.providers)


def warm_up(pipeline: Pipeline) -> None:
    """Run every network once, so that the first picture is not the slow one."""
    side = pipeline.embedder.side
    grey = np.full((side, side, 3), 127, np.uint8)
    pipeline.detector.detect(grey, 40.0)
    pipeline.embedder.embed(grey)


def load_service(settings: Settings) -> Service:
    """Models, gallery and all that answers calls. Blocks for about a second; belongs in a thread."""
    models = load_models(settings)
    pipeline = models.pipeline(image_limits(settings))
    warm_up(pipeline)
    contract = EmbeddingContract(models.pack.contract_id, models.pack.dimension)
    gallery = Gallery.open(settings.gallery.path, contract, now())
    limits = settings.limits
    return Service(
        settings=settings,
        pack=models.pack,
        providers=models.providers,
        runtime_version=runtime_version(),
        pipeline=pipeline,
        gallery=gallery,
        recognizer=Recognizer(pipeline, gallery, now, lambda: str(ULID())),
        policies=Policies(settings.policies, models.pack.calibration, models.pack.name),
        workers=Workers(settings.worker_count(), limits.max_waiting_calls),
        feed=Feed(str(ULID()), settings.events.remembered),
        sightings=Sightings(timedelta(seconds=settings.events.repeat_after_seconds)),
        streams=Register("streams", limits.max_streams),
        enrollments=Register("enrollments", limits.max_enrollments),
        watchers=Register("watchers", limits.max_watchers),
        start_time=now(),
        now=now,
    )


def image_limits(settings: Settings) -> ImageLimits:
    """What pictures are refused before decoding, and how much of the rest is scanned."""
    limits = settings.limits
    return ImageLimits(limits.max_image_bytes, limits.max_image_pixels, limits.max_scanned_pixels)


class App:
    """The running server: ``async with App(settings) as app: …``; inside, calls are answered on ``app.port``."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._server = Server(settings)
        self._service: Service | None = None
        self.port = 0

    @property
    def address(self) -> str:
        """Where the server listens, with the port that it got."""
        listen = self._settings.server.listen
        return listen if listen.startswith("unix:") else f"{listen.rpartition(':')[0]}:{self.port}"

    async def __aenter__(self) -> Self:
        """Listen at once, load in a thread meanwhile, then answer."""
        self.port = await self._server.start(self._settings.server.listen)
        try:
            self._service = await asyncio.to_thread(load_service, self._settings)
        except BaseException:
            await self._server.stop()
            raise
        await self._server.open(self._service)
        pack = self._service.pack
        _log.info("serving", port=self.port, pack=pack.name, contract=pack.contract_id, licences=pack.licences)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Turn calls away, finish what runs, close the gallery."""
        await self._server.stop()
        if self._service is not None:
            await asyncio.to_thread(self._service.workers.close)
            await asyncio.to_thread(self._service.gallery.close)
        _log.info("stopped")
