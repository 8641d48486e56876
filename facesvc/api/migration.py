"""Changing the models while cameras stream: load beside, embed everybody again, check, switch, let go of the old.

Crops are embedded one at a time in a thread that gives way to those of the streams. Until the switch nothing has
changed for anybody; whatever fails before it, or is cancelled, leaves the old models at work, and the vectors made so
far for the next try.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager
from functools import partial

import structlog

from facesvc.api.engines import Engine
from facesvc.api.policies import DEFAULT_POLICY
from facesvc.api.service import Service
from facesvc.api.workers import Background
from facesvc.errors import DependencyError, FacesvcError, ImageError, InputError, NotFoundError, PreconditionError
from facesvc.gallery import EmbeddingContract
from facesvc.gallery.migration import Migration
from facesvc.gallery.records import Floats, SampleName
from facesvc.v1 import admin_pb2

MAX_MISSING = 1000
# A crop is looked at once here and was averaged over many looks in the gallery: hardly anybody is unlike themselves.
LEAST_RANK_ONE = 0.98
# Vectors that go to the disk together, and samples between two messages to the caller.
_BATCH = 16
_LONGEST_JOB_S = 60.0
# Crops that the result is checked with at most, evenly from all over the gallery.
_CHECKED = 500

Response = admin_pb2.MigrateGalleryResponse

_log = structlog.get_logger(__name__)


def contract_of(engine: Engine) -> EmbeddingContract:
    """What the vectors of an engine are."""
    return EmbeddingContract(engine.pack.contract_id, engine.pack.dimension)


async def load_model(service: Service, name: str, actor: str) -> None:
    """Changes to a pack under whose contract everybody has a vector already.

    Raises ``PreconditionError`` (``MIGRATION_REQUIRED``, ``POLICY_UNAVAILABLE``), ``NotFoundError``, ``WeightsError``.
    """
    with Background() as background:
        engine = await _loaded(service, name, background)
    contract_id = engine.pack.contract_id
    note = partial(service.audit.note, "LoadModel", detail=f"pack {name}", actor=actor)
    if contract_id == service.engine.pack.contract_id:
        await _switch(service, engine, partial(_check_unchanged, service, contract_id), note)
        return
    have, total = await asyncio.to_thread(service.gallery.has_vectors_for, contract_id)
    if have < total:
        raise _migration_required(name, total - have)
    async with _begun(service, engine) as migration:
        try:
            await _switch(service, engine, partial(migration.switch, service.now(), allow_missing=False), note)
        except PreconditionError as error:
            if error.reason in ("MIGRATION_INCOMPLETE", "CROPS_MISSING"):  # somebody was enrolled meanwhile
                raise _migration_required(name, 1) from error
            raise


def _check_unchanged(service: Service, contract_id: str) -> None:
    if service.gallery.contract.contract_id != contract_id:
        raise PreconditionError("the gallery was migrated meanwhile: load the model again", reason="MIGRATION_RUNNING")


def _migration_required(name: str, lacking: int) -> PreconditionError:
    return PreconditionError(
        f"{lacking} samples or more have no vector of pack {name}: migrate the gallery,"
        f" `facesvc models migrate {name}`",
        reason="MIGRATION_REQUIRED",
    )


async def migrate(
    service: Service, request: admin_pb2.MigrateGalleryRequest, actor: str
) -> AsyncGenerator[Response, None]:
    """The progress of a migration; when it ends the new models are at work. Raises as the proto says."""
    if bool(request.name) == request.rollback:
        raise InputError("name the pack to change to, or ask for a rollback: one of both", field="name")
    yield Response(stage=admin_pb2.MIGRATION_STAGE_LOADING)
    name = await asyncio.to_thread(_previous, service) if request.rollback else request.name
    with Background() as background:
        engine = await _loaded(service, name, background)
        async with _begun(service, engine) as migration:
            run = _Run(service, engine, migration, background, actor, skip_missing=request.skip_missing)
            async with aclosing(run.responses()) as responses:
                async for response in responses:
                    yield response


@asynccontextmanager
async def _begun(service: Service, engine: Engine) -> AsyncIterator[Migration]:
    """A migration to the pack of ``engine``, given up at the end unless it has switched; also where the caller left."""
    beginning = asyncio.ensure_future(asyncio.to_thread(service.gallery.begin_migration, contract_of(engine)))
    try:
        migration = await asyncio.shield(beginning)
    except asyncio.CancelledError:
        # The thread goes on; what it begins must not stay for ever.
        beginning.add_done_callback(_abandon)
        raise
    try:
        yield migration
    finally:
        await asyncio.shield(asyncio.to_thread(migration.abandon))


def _abandon(beginning: "asyncio.Future[Migration]") -> None:
    if not beginning.cancelled() and beginning.exception() is None:
        # It may have to wait for the disk, so not here on the event loop.
        beginning.get_loop().run_in_executor(None, beginning.result().abandon)


async def _loaded(service: Service, name: str, background: Background) -> Engine:
    """The pack ``name``, ready for work. Raises ``PreconditionError`` where it cannot do what is asked of it now."""
    pack = await background.run(service.library.open, name)
    engine = await background.run(service.load_engine, pack)
    _check_policies(service, engine)
    return engine


def _check_policies(service: Service, engine: Engine) -> None:
    """Raises ``PreconditionError`` unless ``engine`` can honour what streams decide by, and the default policy."""
    for name in {DEFAULT_POLICY, *(name for name, streams in service.open_policies.items() if streams)}:
        engine.policies.get(name)


def _previous(service: Service) -> str:
    """The name of the pack that was in use before the last migration."""
    contract = service.gallery.previous_contract
    if contract is None:
        raise PreconditionError("the gallery was never migrated: there is nothing to go back to", reason="NO_PREVIOUS")
    for name in service.library.names():
        try:
            if service.library.peek(name).contract_id == contract.contract_id:
                return name
        except (DependencyError, NotFoundError):
            continue
    raise NotFoundError(f"no pack with the contract {contract.contract_id} is here: add it again", field="name")


async def _switch(service: Service, engine: Engine, commit: Callable[[], None], note: Callable[[], object]) -> None:
    """From the next frame on ``engine`` is at work; ``commit`` changes the gallery. Done as a whole or not at all.

    ``note`` writes it into the audit log.
    """
    await asyncio.shield(asyncio.ensure_future(_change(service, engine, commit, note)))


async def _change(service: Service, engine: Engine, commit: Callable[[], None], note: Callable[[], object]) -> None:
    async with service.engines.changing:
        _check_policies(service, engine)  # streams may have been opened since
        before = await asyncio.to_thread(_commit, service, engine, commit)
    _log.info("models changed", pack=engine.pack.name, contract=engine.pack.contract_id, licences=engine.pack.licences)
    try:
        await asyncio.to_thread(note)
    finally:
        await _let_go(service, before, engine)


async def _let_go(service: Service, before: Engine, engine: Engine) -> None:
    """Retires what was at work before ``engine``."""
    # A frame that began under the old models is searched among the old vectors; then they may go.
    unused = await asyncio.to_thread(service.engines.wait_unused, before, _LONGEST_JOB_S)
    if unused and before.pack.contract_id != engine.pack.contract_id:
        await asyncio.to_thread(service.gallery.retire, before.pack.contract_id)


def _commit(service: Service, engine: Engine, commit: Callable[[], None]) -> Engine:
    """The engine that was at work before. Nothing comes between the gallery and the engine in this thread."""
    commit()
    before = service.engines.replace(engine)
    _remember(service, engine.pack.name)
    return before


def _remember(service: Service, name: str) -> None:
    """Makes ``name`` the pack of the next start; where that cannot be, the change itself stands."""
    named = service.settings.models.pack
    if named and named != name:
        _log.warning("the settings name another pack for the next start: set models.pack", models_pack=named, now=name)
        return
    try:
        service.library.choose(name)
    except FacesvcError as error:
        _log.warning("the pack is not chosen for the next start: set models.pack", now=name, reason=error.message)


def _named(samples: list[SampleName]) -> list[admin_pb2.MissingSample]:
    """The first of ``samples``."""
    return [
        admin_pb2.MissingSample(collection_id=name.collection_id, subject_id=name.subject_id, sample_id=name.sample_id)
        for name in samples[:MAX_MISSING]
    ]


class _Run:
    """One migration to the pack of ``engine``."""

    def __init__(
        self,
        service: Service,
        engine: Engine,
        migration: Migration,
        background: Background,
        actor: str,
        *,
        skip_missing: bool,
    ) -> None:
        self._service = service
        self._engine = engine
        self._migration = migration
        self._background = background
        self._actor = actor
        self._skip_missing = skip_missing

    async def responses(self) -> AsyncGenerator[Response, None]:
        """Embed everybody, check, and switch once nobody is left out."""
        lacking = await asyncio.to_thread(self._migration.unmigratable)
        if lacking and not self._skip_missing:
            yield Response(stage=admin_pb2.MIGRATION_STAGE_EMBEDDING, missing=_named(lacking))
            people = len({(sample.collection_id, sample.subject_id) for sample in lacking})
            raise PreconditionError(
                f"{len(lacking)} samples of {people} people have no crop and would have to be enrolled again; nothing"
                " was changed",
                reason="CROPS_MISSING",
            )
        async for response in self._embed():
            yield response
        missing = _named(await asyncio.to_thread(self._migration.unmigratable))
        yield Response(stage=admin_pb2.MIGRATION_STAGE_CHECKING, missing=missing)
        checked, rank_one = await self._background.run(self._check)
        # Those who were enrolled meanwhile are few, and checking everybody again would give time for more of them.
        while not await self._switched():
            async for response in self._embed():
                yield response
        yield Response(
            stage=admin_pb2.MIGRATION_STAGE_SWITCHED,
            done_count=checked,
            total_count=checked,
            rank_one=rank_one,
            missing=missing,
        )

    async def _embed(self) -> AsyncIterator[Response]:
        """Every sample that has a crop and no vector yet, those too that are enrolled meanwhile."""
        done = 0
        while pending := await asyncio.to_thread(self._migration.pending):
            total, waiting = done + len(pending), list(pending.items())
            for start in range(0, len(waiting), _BATCH):
                batch = waiting[start : start + _BATCH]
                vectors = {}
                for row_id, owner in batch:
                    vector = await self._background.run(self._look, row_id, owner)
                    if vector is not None:
                        vectors[row_id] = vector
                await asyncio.to_thread(self._migration.put_many, vectors)
                done += len(batch)
                yield Response(stage=admin_pb2.MIGRATION_STAGE_EMBEDDING, done_count=done, total_count=total)

    def _look(self, row_id: int, owner: SampleName) -> Floats | None:
        """In the background: the new vector of a sample; None where it is gone, or its crop is of no use."""
        try:
            crop = self._migration.crop(row_id)
            face = self._engine.pipeline.find(crop) if crop is not None else None
        except (DependencyError, ImageError) as error:
            _log.warning("a crop cannot be used", sample_id=owner.sample_id, reason=error.reason)
            crop, face = b"", None
        if crop is None:
            return None
        if face is None:
            _log.warning("no face is found in a crop", sample_id=owner.sample_id)
            self._migration.give_up(row_id)
            return None
        return self._engine.pipeline.template(crop, face.detection)

    def _check(self) -> tuple[int, float]:
        """How many crops were looked for in the new gallery, and the share whose own person comes first among all.

        Vectors of an earlier try are checked as well. Raises ``PreconditionError`` (``CHECK_FAILED``) where the share
        is too small, for then these models do not tell people apart; what they made is deleted.
        """
        verdicts = [
            verdict
            for row_id, owner in self._migration.checkable(_CHECKED).items()
            if (verdict := self._comes_first(row_id, owner)) is not None
        ]
        rank_one = sum(verdicts) / len(verdicts) if verdicts else 1.0
        if rank_one < LEAST_RANK_ONE:
            self._migration.discard()
            raise PreconditionError(
                f"only {rank_one:.1%} of {len(verdicts)} crops find their own person first, {LEAST_RANK_ONE:.0%}"
                f" are needed: pack {self._engine.pack.name} does not tell these people apart; nothing was changed",
                reason="CHECK_FAILED",
            )
        return len(verdicts), rank_one

    def _comes_first(self, row_id: int, owner: SampleName) -> bool | None:
        """Whether a crop finds its own person first; None for a sample that is gone."""
        try:
            crop = self._migration.crop(row_id)
            face = self._engine.pipeline.find(crop) if crop is not None else None
        except (DependencyError, ImageError):
            return None
        if face is None or face.vector is None:
            return None if crop is None else False
        nearest = self._migration.nearest(owner.collection_id, face.vector)
        if nearest is not None and nearest.subject_id == owner.subject_id:
            return True
        return None if self._migration.crop(row_id) is None else False  # erased between the two looks

    async def _switched(self) -> bool:
        """Whether the new models are at work; False where somebody was enrolled meanwhile and has to be embedded."""
        try:
            service, detail = self._service, f"pack {self._engine.pack.name}"
            commit = partial(self._migration.switch, service.now(), allow_missing=self._skip_missing)
            note = partial(service.audit.note, "MigrateGallery", detail=detail, actor=self._actor)
            await _switch(service, self._engine, commit, note)
        except PreconditionError as error:
            if error.reason != "MIGRATION_INCOMPLETE":
                raise
            return False
        return True
