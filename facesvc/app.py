"""Builds everything in order and closes it in reverse; no logic."""

import asyncio
import time
from collections import Counter
from datetime import UTC, datetime, timedelta
from types import TracebackType
from typing import Self

import structlog
from ulid import ULID

from facesvc.api.engines import Engine, Engines
from facesvc.api.machine import Regulator
from facesvc.api.observer import Observer
from facesvc.api.policies import Policies
from facesvc.api.server import Server
from facesvc.api.service import Register, Service
from facesvc.api.workers import Workers
from facesvc.config import Settings
from facesvc.engine import Models, image_limits, library, load, load_liveness, load_models, warm_up
from facesvc.events.journal import Journal
from facesvc.gallery import EmbeddingContract, Gallery
from facesvc.gallery.crypto import Vault
from facesvc.models.runtime import runtime_version
from facesvc.stream.ladder import Ladder
from facesvc.stream.news import Reporter
from facesvc.stream.presence import Patience, Presences
from facesvc.stream.recognizer import Recognizer
from facesvc.stream.statistics import Statistics

_log = structlog.get_logger(__name__)


def now() -> datetime:
    """The time of day, UTC."""
    return datetime.now(UTC)


def load_service(settings: Settings) -> Service:
    """Models, gallery and all that answers calls. Blocks for about a second; belongs in a thread."""
    models = load_models(settings)
    pack = models.pack
    vault = Vault(settings.gallery.key_path)
    contract = EmbeddingContract(pack.contract_id, pack.dimension)
    gallery = Gallery.open(settings.gallery.path, contract, now(), vault)
    if settings.enrollment.keep_crops:
        vault.prepare()
    journal = Journal.open(settings.events_path, now())
    limits = settings.limits
    workers = Workers(models.concurrency.workers, limits.max_waiting_calls)
    return Service(
        settings=settings,
        runtime_version=runtime_version(),
        engines=Engines(_engine(models, settings, gallery)),
        load_engine=lambda pack: _engine(
            load(pack, settings.models, how=models.concurrency, coarse_look=settings.detection.coarse_look),
            settings,
            gallery,
        ),
        library=library(settings),
        gallery=gallery,
        workers=workers,
        regulator=Regulator(Ladder(settings.streams.hottest_celsius), workers, now, time.perf_counter),
        statistics=Statistics(),
        journal=journal,
        observer=_observer(settings, journal),
        streams=Register("streams", limits.max_streams),
        enrollments=Register("enrollments", limits.max_enrollments),
        watchers=Register("watchers", limits.max_watchers),
        start_time=now(),
        now=now,
        clock=time.perf_counter,
        open_policies=Counter(),
    )


def _observer(settings: Settings, journal: Journal) -> Observer:
    """What turns sightings into presence and events."""
    presence, events = settings.presence, settings.events
    patience = Patience(presence.arrive_seconds, presence.leave_seconds, presence.absent_hours * 3600)
    return Observer(
        journal,
        Presences(patience, lambda: str(ULID())),
        Reporter(events.repeat_after_seconds),
        retention=timedelta(days=events.retention_days),
        now=now,
        clock=time.perf_counter,
        new_id=lambda: str(ULID()),
    )


def _engine(models: Models, settings: Settings, gallery: Gallery) -> Engine:
    """A pack at work, every network run once."""
    pack, pipeline = models.pack, models.pipeline(image_limits(settings))
    warm_up(pipeline)
    liveness = load_liveness(settings)
    return Engine(
        pack=pack,
        providers=models.providers,
        pipeline=pipeline,
        recognizer=Recognizer(
            pipeline, gallery, pack.contract_id, now, lambda: str(ULID()), liveness.score if liveness else None
        ),
        policies=Policies(
            settings.policies, pack.calibration, pack.name, settings.liveness.threshold if liveness else None
        ),
    )


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

    @property
    def models_in_words(self) -> str:
        """Which pack is at work, on what, and under which licences; only inside the block."""
        assert self._service is not None
        engine = self._service.engine
        return f"pack {engine.pack.name} on {', '.join(engine.providers)}, under {'; '.join(engine.pack.licences)}"

    async def __aenter__(self) -> Self:
        """Listen at once, load in a thread meanwhile, then answer."""
        started = time.perf_counter()
        self.port = await self._server.start(self._settings.server.listen)
        try:
            self._service = await asyncio.to_thread(load_service, self._settings)
        except BaseException:
            await self._server.stop()
            raise
        await self._server.open(self._service)
        engine = self._service.engine
        _log.info(
            "serving",
            port=self.port,
            pack=engine.pack.name,
            contract=engine.pack.contract_id,
            licences=engine.pack.licences,
            providers=engine.providers,
            workers=self._service.workers.count,
            load_seconds=round(time.perf_counter() - started, 3),
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Turn calls away, finish what runs, close the gallery."""
        await self._server.stop()
        if self._service is not None:
            await asyncio.to_thread(self._service.workers.close)
            await asyncio.to_thread(self._service.gallery.close)
            await asyncio.to_thread(self._service.journal.close)
        _log.info("stopped")
