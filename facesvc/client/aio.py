"""The client for asyncio."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterable, Awaitable, Callable, Iterable, Iterator
from contextlib import aclosing, contextmanager
from datetime import datetime
from types import TracebackType
from typing import Any, Self, TypeVar

import grpc
from google.protobuf.message import Message
from grpc_health.v1 import health_pb2, health_pb2_grpc

from facesvc.client import requests
from facesvc.client.connection import DEFAULT_ADDRESS, DEFAULT_TIMEOUT_S, OPTIONS
from facesvc.client.errors import KeptError, translated
from facesvc.v1 import (
    admin_pb2,
    admin_pb2_grpc,
    enrollment_pb2,
    enrollment_pb2_grpc,
    presence_pb2,
    presence_pb2_grpc,
    recognition_pb2,
    recognition_pb2_grpc,
)

Q = TypeVar("Q")
R = TypeVar("R")
S = TypeVar("S")
# A plain iterable is read on the event loop, which it must not hold up: a list, say.
Source = AsyncIterable[S] | Iterable[S]


class AsyncClient:
    """The same for asyncio. Belongs on one event loop; see ``Client`` for what the calls do."""

    def __init__(self, address: str = DEFAULT_ADDRESS, *, timeout_s: float = DEFAULT_TIMEOUT_S) -> None:
        self._address = address
        self._timeout_s = timeout_s
        self._channel = grpc.aio.insecure_channel(address, options=OPTIONS)
        self._recognition = recognition_pb2_grpc.RecognitionServiceStub(self._channel)
        self._enrollment = enrollment_pb2_grpc.EnrollmentServiceStub(self._channel)
        self._presence = presence_pb2_grpc.PresenceServiceStub(self._channel)
        self._admin = admin_pb2_grpc.AdminServiceStub(self._channel)
        self._health = health_pb2_grpc.HealthStub(self._channel)

    async def __aenter__(self) -> Self:
        """The client itself."""
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the connection."""
        await self.close()

    async def close(self) -> None:
        """Close the connection; open streams end."""
        await self._channel.close()

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
    ) -> recognition_pb2.SearchResponse:
        """See ``Client``."""
        request = requests.search(data, collection_id, policy, max_candidates, options)
        return await self._call(self._recognition.Search, request)

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
        sent = _made(messages, requests.following, requests.first(opened))
        async with aclosing(self._talk(self._recognition.Recognize, sent)) as answers:
            async for answer in answers:
                yield answer

    async def create_subject(self, subject: enrollment_pb2.Subject, *, request_id: str = "") -> enrollment_pb2.Subject:
        """See ``Client``."""
        request = requests.create_subject(subject, request_id)
        return (await self._call(self._enrollment.CreateSubject, request)).subject

    async def get_subject(self, subject_id: str, *, collection_id: str = "") -> enrollment_pb2.Subject:
        """See ``Client``."""
        request = requests.get_subject(subject_id, collection_id)
        return (await self._call(self._enrollment.GetSubject, request)).subject

    async def list_subjects(
        self, *, collection_id: str = "", page_size: int = 0
    ) -> AsyncGenerator[enrollment_pb2.Subject, None]:
        """See ``Client``."""
        token = ""
        while True:
            request = requests.list_subjects(collection_id, page_size, token)
            page = await self._call(self._enrollment.ListSubjects, request)
            for subject in page.subjects:
                yield subject
            token = page.next_page_token
            if not token:
                return

    async def update_subject(self, subject: enrollment_pb2.Subject, fields: Iterable[str]) -> enrollment_pb2.Subject:
        """See ``Client``."""
        request = requests.update_subject(subject, fields)
        return (await self._call(self._enrollment.UpdateSubject, request)).subject

    async def erase_subject(self, subject_id: str, *, collection_id: str = "") -> enrollment_pb2.ErasureReceipt:
        """See ``Client``."""
        request = requests.erase_subject(subject_id, collection_id)
        return (await self._call(self._enrollment.EraseSubject, request)).receipt

    def enroll(
        self, samples: Source[enrollment_pb2.EnrollSamplesRequest]
    ) -> AsyncGenerator[enrollment_pb2.EnrollSamplesResponse, None]:
        """See ``Client``; ``samples`` is read in another task."""
        return self._talk(self._enrollment.EnrollSamples, _made(samples, requests.enrolling))

    async def list_samples(self, subject_id: str, *, collection_id: str = "") -> list[enrollment_pb2.Sample]:
        """See ``Client``."""
        request = requests.list_samples(subject_id, collection_id)
        return list((await self._call(self._enrollment.ListSamples, request)).samples)

    async def delete_sample(self, subject_id: str, sample_id: str, *, collection_id: str = "") -> None:
        """See ``Client``."""
        await self._call(self._enrollment.DeleteSample, requests.delete_sample(subject_id, sample_id, collection_id))

    async def watch_events(
        self, *, resume_token: str = "", collection_id: str = "", zone: str = ""
    ) -> AsyncGenerator[presence_pb2.WatchEventsResponse, None]:
        """See ``Client``."""
        request = requests.watch_events(resume_token, collection_id, zone)
        async with aclosing(self._answers(self._presence.WatchEvents(request))) as answers:
            async for answer in answers:
                yield answer

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

    async def _call(self, method: Callable[..., Awaitable[R]], request: Message) -> R:
        call = method(request, timeout=self._timeout_s)
        with translated(self._address), _cancelled_by_task_only(call):
            return await call

    async def _talk(
        self, method: "grpc.aio.StreamStreamMultiCallable[Q, R]", sent: AsyncIterable[Q]
    ) -> AsyncGenerator[R, None]:
        call, kept = method(), KeptError()
        # A task of ours and not gRPC's, which would go on waiting for a frame when the server has ended the call.
        sender = asyncio.create_task(_send(call, sent, kept))
        try:
            async with aclosing(self._answers(call)) as answers:
                async for answer in answers:
                    yield answer
        finally:
            sender.cancel()
            await asyncio.gather(sender, return_exceptions=True)
        kept.check()

    async def _answers(
        self, call: "grpc.aio.UnaryStreamCall[Any, R] | grpc.aio.StreamStreamCall[Any, R]"
    ) -> AsyncGenerator[R, None]:
        try:
            with translated(self._address), _cancelled_by_task_only(call):
                async for answer in call:
                    yield answer
        finally:
            call.cancel()


@contextmanager
def _cancelled_by_task_only(call: Any) -> Iterator[None]:
    """Tell a call that ended with its client from a task that is cancelled; gRPC raises the same for both."""
    try:
        yield
    except asyncio.CancelledError:
        task = asyncio.current_task()
        if task is None or task.cancelling() or not call.cancelled():
            raise
        nothing = grpc.aio.Metadata()
        raise grpc.aio.AioRpcError(grpc.StatusCode.CANCELLED, nothing, nothing, "the client was closed") from None


async def _send(call: "grpc.aio.StreamStreamCall[Q, R]", sent: AsyncIterable[Q], kept: KeptError) -> None:
    with kept.keeping():
        async for request in sent:
            try:
                await call.write(request)
            except (grpc.RpcError, asyncio.InvalidStateError):
                return  # The call has ended; who reads the answers is told why.
    await call.done_writing()


async def _made(source: Source[S], request: Callable[[S], Q], *first: Q) -> AsyncGenerator[Q, None]:
    """The requests of a stream: ``first``, and one for each item of ``source``."""
    for one in first:
        yield one
    if isinstance(source, AsyncIterable):
        async for item in source:
            yield request(item)
    else:
        for item in source:
            yield request(item)
