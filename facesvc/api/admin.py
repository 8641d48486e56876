"""``AdminService``: what runs here, how it fares, and who may call."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from typing import Any

import grpc

from facesvc import __version__
from facesvc.api import audit, backups, convert, disclosure, keys, migration, statistics, tokens
from facesvc.api.access import principal
from facesvc.api.audit import actor_of
from facesvc.api.service import Lobby, Service
from facesvc.errors import DependencyError, NotFoundError, PreconditionError
from facesvc.models.liveness_packs import LivenessPack
from facesvc.models.packs import Pack, kind_of
from facesvc.stream.policy import false_positive_identification_rate
from facesvc.v1 import admin_pb2, admin_pb2_grpc


class AdminServicer(admin_pb2_grpc.AdminServiceServicer):
    """The box itself. ``put_out`` ends the calls of those whose token is over."""

    def __init__(self, lobby: Lobby, put_out: Callable[[], None]) -> None:
        self._lobby = lobby
        self._put_out = put_out

    async def GetServerInfo(  # noqa: N802 - gRPC's name
        self, request: admin_pb2.GetServerInfoRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> admin_pb2.GetServerInfoResponse:
        """What runs here, and at which error rates."""
        return disclosure.server_info(principal(), await asyncio.to_thread(_info, self._lobby.service))

    async def ListModels(  # noqa: N802 - gRPC's name
        self, request: admin_pb2.ListModelsRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> admin_pb2.ListModelsResponse:
        """The packs on this box."""
        return await asyncio.to_thread(_models, self._lobby.service)

    async def LoadModel(  # noqa: N802 - gRPC's name
        self, request: admin_pb2.LoadModelRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> admin_pb2.LoadModelResponse:
        """Change to a pack that needs no migration."""
        service = self._lobby.service
        await migration.load_model(service, request.name, actor_of(context))
        return admin_pb2.LoadModelResponse(model_pack=await asyncio.to_thread(_pack, service, service.engine.pack))

    async def MigrateGallery(  # noqa: N802 - gRPC's name
        self, request: admin_pb2.MigrateGalleryRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> AsyncIterator[admin_pb2.MigrateGalleryResponse]:
        """Embed everybody again and change to a pack."""
        service = self._lobby.service
        async with aclosing(migration.migrate(service, request, actor_of(context))) as responses:
            async for response in responses:
                if response.stage == admin_pb2.MIGRATION_STAGE_SWITCHED:
                    response.model_pack.CopyFrom(await asyncio.to_thread(_pack, service, service.engine.pack))
                yield response

    async def GetStatistics(  # noqa: N802 - gRPC's name
        self, request: admin_pb2.GetStatisticsRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> admin_pb2.GetStatisticsResponse:
        """What was done, and how hard the box works."""
        return disclosure.statistics(principal(), await statistics.gathered(self._lobby.service))

    async def CreateBackup(  # noqa: N802 - gRPC's name
        self, request: admin_pb2.CreateBackupRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> admin_pb2.CreateBackupResponse:
        """Write a backup."""
        return await backups.create(self._lobby.service, actor_of(context))

    async def ListBackups(  # noqa: N802 - gRPC's name
        self, request: admin_pb2.ListBackupsRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> admin_pb2.ListBackupsResponse:
        """The backups."""
        return await backups.list_backups(self._lobby.service, request)

    async def RotateKey(  # noqa: N802 - gRPC's name
        self, request: admin_pb2.RotateKeyRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> admin_pb2.RotateKeyResponse:
        """Put all keys under a new master key."""
        return await keys.rotate(self._lobby.service, actor_of(context))

    async def ListAudit(  # noqa: N802 - gRPC's name
        self, request: admin_pb2.ListAuditRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> admin_pb2.ListAuditResponse:
        """Who did what with people's data."""
        return await audit.list_entries(self._lobby.service, request)

    async def VerifyAudit(  # noqa: N802 - gRPC's name
        self, request: admin_pb2.VerifyAuditRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> admin_pb2.VerifyAuditResponse:
        """Whether the log of it is as it was written."""
        return await audit.verify(self._lobby.service)

    async def CreateToken(  # noqa: N802 - gRPC's name
        self, request: admin_pb2.CreateTokenRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> admin_pb2.CreateTokenResponse:
        """Make an access token."""
        return await tokens.create(self._lobby.service, request, actor_of(context))

    async def ListTokens(  # noqa: N802 - gRPC's name
        self, request: admin_pb2.ListTokensRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> admin_pb2.ListTokensResponse:
        """The access tokens."""
        return await tokens.list_tokens(self._lobby.service)

    async def RevokeToken(  # noqa: N802 - gRPC's name
        self, request: admin_pb2.RevokeTokenRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> admin_pb2.RevokeTokenResponse:
        """Make an access token worthless, and end its calls."""
        await tokens.revoke(self._lobby.service, request, actor_of(context))
        self._put_out()
        return admin_pb2.RevokeTokenResponse()


def _info(service: Service) -> admin_pb2.GetServerInfoResponse:
    """May wait for a search, and so belongs in a thread."""
    liveness = service.settings.liveness.pack
    return admin_pb2.GetServerInfoResponse(
        version=__version__,
        start_time=convert.timestamp(service.start_time),
        model_pack=_pack(service, service.engine.pack),
        policies=[_policy(service, name) for name in service.settings.policies],
        collections=[_collection(service, collection_id) for collection_id in service.gallery.collections()],
        limits=_limits(service),
        workers=service.workers.count,
        runtime_version=service.runtime_version,
        liveness_pack=_listed(service, liveness) if liveness else None,
    )


def _models(service: Service) -> admin_pb2.ListModelsResponse:
    return admin_pb2.ListModelsResponse(model_packs=[_listed(service, name) for name in service.library.names()])


def _listed(service: Service, name: str) -> admin_pb2.ModelPack:
    """What is known of a pack by its manifest; what is wrong with it stands in ``problem``."""
    if name == service.engine.pack.name:
        return _pack(service, service.engine.pack)
    try:
        pack = service.library.peek_any(name)
        return _pack(service, pack) if isinstance(pack, Pack) else _liveness_pack(service, pack)
    except (DependencyError, NotFoundError) as error:
        return admin_pb2.ModelPack(name=name, problem=error.message)


def _liveness_pack(service: Service, pack: LivenessPack) -> admin_pb2.ModelPack:
    return admin_pb2.ModelPack(
        name=pack.name,
        licenses=pack.licences,
        active=pack.name == service.settings.liveness.pack,
        size_bytes=sum(file.size_bytes for file in pack.files),
        kind=kind_of(pack),
    )


def _pack(service: Service, pack: Pack) -> admin_pb2.ModelPack:
    engine = service.engine
    active = pack.name == engine.pack.name
    return admin_pb2.ModelPack(
        name=pack.name,
        embedding_contract=pack.contract_id,
        dimension=pack.dimension,
        licenses=pack.licences,
        execution_providers=engine.providers if active else (),
        active=active,
        size_bytes=sum(file.size_bytes for file in pack.files),
        calibration_source=pack.calibration.source if pack.calibration.points else "",
        impostor_pairs=pack.calibration.impostor_pairs,
        embedded_sample_count=service.gallery.has_vectors_for(pack.contract_id)[0],
        kind=kind_of(pack),
    )


def _policy(service: Service, name: str) -> admin_pb2.PolicyInfo:
    settings = service.settings.policies[name]
    people = max(map(service.gallery.subject_count, service.gallery.collections()), default=0)
    basis = service.engine.policies.basis(name)
    info = admin_pb2.PolicyInfo(
        name=name,
        false_match_rate=settings.false_match_rate,
        margin=settings.margin,
        decision_lifetime=convert.duration(settings.decision_lifetime_seconds),
        true_match_rate=service.engine.policies.true_match_rate(name),
        false_positive_identification_rate=false_positive_identification_rate(settings.false_match_rate, people),
        calibration_source=basis.source,
        impostor_pairs=basis.impostor_pairs,
        false_match_rate_upper_bound=basis.upper_bound,
        extrapolated=basis.extrapolated,
        matches=settings.matches,
        frames=settings.frames,
        liveness_required=settings.liveness_required,
    )
    try:
        info.threshold = service.engine.policies.get(name).threshold
        info.available = True
    except PreconditionError as error:
        info.unavailable_reason = error.message
    return info


def _collection(service: Service, collection_id: str) -> admin_pb2.CollectionInfo:
    return admin_pb2.CollectionInfo(
        collection_id=collection_id,
        subject_count=service.gallery.subject_count(collection_id),
        sample_count=service.gallery.sample_count(collection_id),
    )


def _limits(service: Service) -> admin_pb2.Limits:
    limits = service.settings.limits
    return admin_pb2.Limits(
        max_message_bytes=limits.max_message_bytes,
        max_image_bytes=limits.max_image_bytes,
        max_image_pixels=limits.max_image_pixels,
        max_faces=limits.max_faces,
        max_streams=limits.max_streams,
    )
