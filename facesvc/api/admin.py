"""``AdminService``: what runs here; the rest answers UNIMPLEMENTED."""

import asyncio
from typing import Any

import grpc

from facesvc import __version__
from facesvc.api import convert
from facesvc.api.service import Lobby, Service
from facesvc.errors import PreconditionError
from facesvc.stream.policy import false_positive_identification_rate
from facesvc.v1 import admin_pb2, admin_pb2_grpc


class AdminServicer(admin_pb2_grpc.AdminServiceServicer):
    """The box itself."""

    def __init__(self, lobby: Lobby) -> None:
        self._lobby = lobby

    async def GetServerInfo(  # noqa: N802 - gRPC's name
        self, request: admin_pb2.GetServerInfoRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> admin_pb2.GetServerInfoResponse:
        """What runs here, and at which error rates."""
        return await asyncio.to_thread(_info, self._lobby.service)


def _info(service: Service) -> admin_pb2.GetServerInfoResponse:
    """May wait for a search, and so belongs in a thread."""
    return admin_pb2.GetServerInfoResponse(
        version=__version__,
        start_time=convert.timestamp(service.start_time),
        model_pack=_pack(service),
        policies=[_policy(service, name) for name in service.settings.policies],
        collections=[_collection(service, collection_id) for collection_id in service.gallery.collections()],
        limits=_limits(service),
        workers=service.workers.count,
        runtime_version=service.runtime_version,
    )


def _pack(service: Service) -> admin_pb2.ModelPack:
    return admin_pb2.ModelPack(
        name=service.pack.name,
        embedding_contract=service.pack.contract_id,
        dimension=service.pack.dimension,
        licenses=service.pack.licences,
        execution_providers=service.providers,
    )


def _policy(service: Service, name: str) -> admin_pb2.PolicyInfo:
    settings = service.settings.policies[name]
    people = max(map(service.gallery.subject_count, service.gallery.collections()), default=0)
    info = admin_pb2.PolicyInfo(
        name=name,
        false_match_rate=settings.false_match_rate,
        margin=settings.margin,
        decision_lifetime=convert.duration(settings.decision_lifetime_seconds),
        true_match_rate=service.policies.true_match_rate(name),
        false_positive_identification_rate=false_positive_identification_rate(settings.false_match_rate, people),
    )
    try:
        info.threshold = service.policies.get(name).threshold
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
