"""Builds everything in order and closes it in reverse; no logic."""

import asyncio
import time
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from types import TracebackType
from typing import Self

import structlog
from ulid import ULID

from facesvc.api.engines import Engine, Engines
from facesvc.api.follower import Follower
from facesvc.api.machine import Regulator
from facesvc.api.observer import Observer
from facesvc.api.policies import Policies
from facesvc.api.probes import Probes
from facesvc.api.reception import Reception
from facesvc.api.server import Server
from facesvc.api.service import Register, Service
from facesvc.api.workers import Workers
from facesvc.backup import Backups, Shelf, keys_at_hand
from facesvc.config import Settings
from facesvc.database import Database
from facesvc.database.exchange import Exchange
from facesvc.database.opening import open_database
from facesvc.delivery.host import Host
from facesvc.delivery.roll import enlist
from facesvc.engine import Models, image_limits, library, load, load_liveness, load_models, warm_up
from facesvc.errors import DependencyError
from facesvc.events.audit import AuditLog
from facesvc.events.journal import Journal
from facesvc.gallery import EmbeddingContract, Gallery
from facesvc.gallery.keyring import KeySource
from facesvc.gallery.masterkey import sources
from facesvc.gallery.rotation import Rotation
from facesvc.models.runtime import runtime_version
from facesvc.security.jwks import Published, Source
from facesvc.security.oidc import Oidc, Terms
from facesvc.security.roles import Role
from facesvc.security.tokens import TOKENS_KEY, Tokens
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
    database = open_database(settings.store.url or settings.gallery.path)
    try:
        return _service_over(database, models, settings)
    except BaseException:
        database.close()
        raise


def _service_over(database: Database, models: Models, settings: Settings) -> Service:
    pack = models.pack
    keys = sources(settings.gallery)
    contract = EmbeddingContract(pack.contract_id, pack.dimension)
    gallery = Gallery.open(database, contract, now(), keys, settings.gallery.view_path)
    journal = Journal(database, gallery.keyring, now(), settings.store.box_id)
    backups = _backups(database, settings, keys)
    reception = Reception(gallery, journal, now)
    enlisted = enlist(settings.plugins, settings.policies)
    plugins = Host(enlisted, database, journal, gallery.keyring, reception)
    audit = AuditLog(database, gallery.keyring, now)
    limits = settings.limits
    workers = Workers(models.concurrency.workers, limits.max_waiting_calls)
    service = Service(
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
        audit=audit,
        probes=Probes(audit, time.perf_counter),
        backups=backups,
        rotation=Rotation(database, gallery.keyring, settings.gallery, backups.shelf if backups else None),
        observer=_observer(settings, journal, plugins),
        plugins=plugins,
        tokens=Tokens(database, gallery.keyring.tag(TOKENS_KEY, b""), now),
        oidc=_oidc(settings),
        streams=Register("streams", limits.max_streams),
        enrollments=Register("enrollments", limits.max_enrollments),
        watchers=Register("watchers", limits.max_watchers),
        start_time=now(),
        now=now,
        clock=time.perf_counter,
        open_policies=Counter(),
    )
    reception.open(service)
    return service


def _backups(database: Database, settings: Settings, keys: Sequence[KeySource]) -> Backups | None:
    """What makes backups, where the settings name a folder for them; the gallery has its key by now."""
    if settings.backup.folder is None:
        return None
    backups = Backups(database, Shelf(settings.backup.folder, keys_at_hand(keys)), settings.backup.keep)
    backups.open()
    return backups


def _oidc(settings: Settings) -> Oidc | None:
    """What knows the people of an identity provider, where the settings name one."""
    chosen = settings.oidc
    if not chosen.issuer:
        return None
    algorithms = frozenset(chosen.algorithms)
    source = Source(issuer=chosen.issuer, jwks_url=chosen.jwks_url, ca_file=chosen.ca_file, algorithms=algorithms)
    terms = Terms(
        issuer=chosen.issuer,
        audience=chosen.audience,
        algorithms=algorithms,
        roles={value: Role(role) for value, role in chosen.roles.items()},
        roles_claim=chosen.roles_claim,
        name_claim=chosen.name_claim,
        leeway=timedelta(seconds=chosen.leeway_seconds),
        max_age=timedelta(seconds=chosen.max_age_seconds),
    )
    return Oidc(terms, Published(source, time.monotonic), now)


def _observer(settings: Settings, journal: Journal, plugins: Host) -> Observer:
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
        announce=plugins.notify,
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


def _discard_former(settings: Settings) -> None:
    """The gallery from before a restore goes once the new one answers calls: no erasure from then on would reach it."""
    try:
        Exchange(settings.gallery.path).discard_former()
    except DependencyError as error:
        _log.error("the gallery from before the restore is still there", problem=error.message)


class App:
    """The running server: ``async with App(settings) as app: …``; inside, calls are answered on ``app.port``."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._server = Server(settings)
        self._service: Service | None = None
        self._follower: Follower | None = None
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
        try:
            await self._follow(self._service)
        except BaseException:
            await self._server.stop()
            await asyncio.to_thread(self._service.gallery.close)
            raise
        await self._server.open(self._service)
        await asyncio.to_thread(self._service.plugins.start)
        await asyncio.to_thread(_discard_former, self._settings)
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

    async def _follow(self, service: Service) -> None:
        """Keeps up with the other boxes, where the gallery is shared."""
        if not service.gallery.shared:
            return
        store, loop = self._settings.store, asyncio.get_running_loop()

        async def forget_presence(collection_id: str, subject_id: str) -> None:
            service.observer.forget(collection_id, subject_id)

        def forget(collection_id: str, subject_id: str) -> None:
            if service.backups is not None:
                service.backups.puncture(collection_id, subject_id)  # those on this box
            service.plugins.forget((collection_id, subject_id))
            asyncio.run_coroutine_threadsafe(forget_presence(collection_id, subject_id), loop).result()

        self._follower = Follower(service.gallery, store.box_id, store.poll_seconds, now, forget)
        await asyncio.to_thread(self._follower.start)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Turn calls away, finish what runs, close the gallery."""
        await self._server.stop()
        if self._follower is not None:
            await asyncio.to_thread(self._follower.stop)
        if self._service is not None:
            await asyncio.to_thread(self._service.plugins.stop)
            await asyncio.to_thread(self._service.workers.close)
            if self._service.backups is not None:
                await asyncio.to_thread(self._service.backups.close)
            try:
                await asyncio.to_thread(self._service.gallery.save_view)
            finally:
                await asyncio.to_thread(self._service.gallery.close)
        _log.info("stopped")
