"""The client for asyncio."""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from datetime import datetime

from grpc_health.v1 import health_pb2

from facesvc.client import requests
from facesvc.client.aio_calls import Source, made
from facesvc.client.aio_tokens import AsyncTokenCalls
from facesvc.client.connection import DEFAULT_TIMEOUT_S, LONG_TIMEOUT_S
from facesvc.client.requests import Filters
from facesvc.v1 import admin_pb2, presence_pb2, recognition_pb2


class AsyncClient(AsyncTokenCalls):
    """The same for asyncio. Belongs on one event loop; see ``Client`` for what the calls do."""

    async def wait_until_serving(self, timeout_s: float = DEFAULT_TIMEOUT_S) -> None:
        """See ``Client``."""
        call = self._health.Watch(health_pb2.HealthCheckRequest(), timeout=timeout_s, wait_for_ready=True)
        async with aclosing(self._answers(call)) as answers:
            async for answer in answers:
                if answer.status == health_pb2.HealthCheckResponse.SERVING:
                    return

    async def server_info(self) -> admin_pb2.GetServerInfoResponse:
        """See ``Client``."""
        return await self._call(self._admin.GetServerInfo, admin_pb2.GetServerInfoRequest())

    async def get_statistics(self) -> admin_pb2.GetStatisticsResponse:
        """See ``Client``."""
        return await self._call(self._admin.GetStatistics, admin_pb2.GetStatisticsRequest())

    async def list_models(self) -> list[admin_pb2.ModelPack]:
        """See ``Client``."""
        return list((await self._call(self._admin.ListModels, admin_pb2.ListModelsRequest())).model_packs)

    async def load_model(self, name: str) -> admin_pb2.ModelPack:
        """See ``Client``."""
        return (await self._call(self._admin.LoadModel, admin_pb2.LoadModelRequest(name=name))).model_pack

    async def migrate_gallery(
        self, name: str = "", *, rollback: bool = False, skip_missing: bool = False
    ) -> AsyncGenerator[admin_pb2.MigrateGalleryResponse, None]:
        """See ``Client``."""
        request = requests.migrate_gallery(name, rollback=rollback, skip_missing=skip_missing)
        async with aclosing(self._answers(self._admin.MigrateGallery(request))) as answers:
            async for answer in answers:
                yield answer

    async def create_backup(self) -> admin_pb2.Backup:
        """See ``Client``."""
        request = admin_pb2.CreateBackupRequest()
        return (await self._call(self._admin.CreateBackup, request, least_s=LONG_TIMEOUT_S)).backup

    async def list_backups(self, *, verify: bool = False) -> list[admin_pb2.Backup]:
        """See ``Client``."""
        request = admin_pb2.ListBackupsRequest(verify=verify)
        least_s = LONG_TIMEOUT_S if verify else 0.0
        return list((await self._call(self._admin.ListBackups, request, least_s=least_s)).backups)

    async def rotate_key(self) -> int:
        """See ``Client``."""
        request = admin_pb2.RotateKeyRequest()
        return (await self._call(self._admin.RotateKey, request, least_s=LONG_TIMEOUT_S)).key_count

    async def list_audit(
        self,
        *,
        start_time: datetime | None = None,
        end_time: datetime | None = None,
        action: str = "",
        subject_id: str = "",
        page_size: int = 0,
    ) -> AsyncGenerator[admin_pb2.AuditEntry, None]:
        """See ``Client``."""
        token = ""
        while True:
            request = requests.list_audit(start_time, end_time, action, subject_id, page_size, token)
            page = await self._call(self._admin.ListAudit, request)
            for one in page.entries:
                yield one
            token = page.next_page_token
            if not token:
                return

    async def verify_audit(self) -> admin_pb2.VerifyAuditResponse:
        """See ``Client``."""
        return await self._call(self._admin.VerifyAudit, admin_pb2.VerifyAuditRequest())

    async def detect(
        self, data: bytes, options: recognition_pb2.DetectionOptions | None = None
    ) -> recognition_pb2.DetectResponse:
        """See ``Client``."""
        return await self._call(self._recognition.Detect, requests.detect(data, options))

    async def embed(
        self, data: bytes, options: recognition_pb2.DetectionOptions | None = None
    ) -> recognition_pb2.EmbedResponse:
        """See ``Client``."""
        return await self._call(self._recognition.Embed, requests.embed(data, options))

    async def compare(self, reference: bytes, data: bytes, *, policy: str = "") -> recognition_pb2.CompareResponse:
        """See ``Client``."""
        return await self._call(self._recognition.Compare, requests.compare(reference, data, policy))

    async def search(
        self,
        data: bytes,
        *,
        collection_id: str = "",
        policy: str = "",
        max_candidates: int = 0,
        options: recognition_pb2.DetectionOptions | None = None,
        filters: Filters | None = None,
    ) -> recognition_pb2.SearchResponse:
        """See ``Client``."""
        request = requests.search(data, collection_id, policy, max_candidates, options, filters)
        return await self._call(self._recognition.Search, request)

    async def correct_match(
        self,
        subject_id: str,
        sample_id: str,
        *,
        actual_subject_id: str = "",
        decision_id: str = "",
        collection_id: str = "",
    ) -> None:
        """See ``Client``."""
        request = requests.correct_match(subject_id, sample_id, actual_subject_id, decision_id, collection_id)
        await self._call(self._recognition.CorrectMatch, request)

    async def recognize(
        self, opened: recognition_pb2.StreamOpening, frames: Source[recognition_pb2.Frame]
    ) -> AsyncGenerator[recognition_pb2.FrameResult, None]:
        """See ``Client``; ``frames`` is read in another task."""
        async with aclosing(self.converse(opened, frames)) as answers:
            async for answer in answers:
                if answer.HasField("result"):
                    yield answer.result

    async def converse(
        self, opened: recognition_pb2.StreamOpening, messages: Source[requests.Said]
    ) -> AsyncGenerator[recognition_pb2.RecognizeResponse, None]:
        """See ``Client``; ``messages`` is read in another task."""
        sent = made(messages, requests.following, requests.first(opened))
        async with aclosing(self._talk(self._recognition.Recognize, sent)) as answers:
            async for answer in answers:
                yield answer

    async def watch_events(
        self, *, resume_token: str = "", collection_id: str = "", zone: str = ""
    ) -> AsyncGenerator[presence_pb2.WatchEventsResponse, None]:
        """See ``Client``."""
        request = requests.watch_events(resume_token, collection_id, zone)
        async with aclosing(self._answers(self._presence.WatchEvents(request))) as answers:
            async for answer in answers:
                yield answer

    async def acknowledge_decision(
        self, event_id: str, nonce: str, door: str, action: presence_pb2.DoorAction.ValueType, *, reason: str = ""
    ) -> None:
        """See ``Client``."""
        request = requests.acknowledge_decision(event_id, nonce, door, action, reason)
        await self._call(self._presence.AcknowledgeDecision, request)

    async def list_presence(
        self, *, collection_id: str = "", zone: str = "", page_size: int = 0
    ) -> AsyncGenerator[presence_pb2.Presence, None]:
        """See ``Client``."""
        token = ""
        while True:
            request = requests.list_presence(collection_id, zone, page_size, token)
            page = await self._call(self._presence.ListPresence, request)
            for one in page.presences:
                yield one
            token = page.next_page_token
            if not token:
                return

    async def list_events(
        self,
        *,
        start_time: datetime | None = None,
        end_time: datetime | None = None,
        collection_id: str = "",
        zone: str = "",
        subject_id: str = "",
        page_size: int = 0,
    ) -> AsyncGenerator[presence_pb2.Event, None]:
        """See ``Client``."""
        token = ""
        while True:
            request = requests.list_events(start_time, end_time, collection_id, zone, subject_id, page_size, token)
            page = await self._call(self._presence.ListEvents, request)
            for one in page.events:
                yield one
            token = page.next_page_token
            if not token:
                return

    async def list_attendance(
        self,
        *,
        start_time: datetime | None = None,
        end_time: datetime | None = None,
        collection_id: str = "",
        zone: str = "",
        subject_id: str = "",
        time_zone: str = "",
        page_size: int = 0,
    ) -> AsyncGenerator[presence_pb2.Attendance, None]:
        """See ``Client``."""
        token = ""
        while True:
            request = requests.list_attendance(
                start_time, end_time, collection_id, zone, subject_id, time_zone, page_size, token
            )
            page = await self._call(self._presence.ListAttendance, request)
            for one in page.attendances:
                yield one
            token = page.next_page_token
            if not token:
                return
