"""``PresenceService``: live events; the rest answers UNIMPLEMENTED."""

from collections.abc import AsyncIterator
from typing import Any

import grpc

from facesvc.api import convert
from facesvc.api.service import Lobby
from facesvc.v1 import presence_pb2, presence_pb2_grpc


class PresenceServicer(presence_pb2_grpc.PresenceServiceServicer):
    """What happened."""

    def __init__(self, lobby: Lobby) -> None:
        self._lobby = lobby

    async def WatchEvents(  # noqa: N802 - gRPC's name
        self, request: presence_pb2.WatchEventsRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> AsyncIterator[presence_pb2.WatchEventsResponse]:
        """Events as they happen."""
        service = self._lobby.service
        with service.watchers.admitted():
            token = request.resume_token or service.feed.token()
            deliveries = service.feed.watch(token)
            yield presence_pb2.WatchEventsResponse(resume_token=token)
            async for delivery in deliveries:
                event = delivery.event
                wanted = request.collection_id in {"", event.collection_id} and request.zone in {"", event.zone}
                # What was not asked for still moves the token, or a reader of a quiet zone would fall behind.
                yield presence_pb2.WatchEventsResponse(
                    event=convert.event(event) if wanted else None, resume_token=delivery.resume_token
                )
            self._lobby.refuse_if_stopping()
