"""The Python SDK: ``Client`` for plain code, ``AsyncClient`` for asyncio; both typed, both context managers.

    with Client("127.0.0.1:50051") as client:
        for face in client.search(open("door.jpg", "rb").read()).faces:
            print(face.decision.subject.display_name)

Methods take plain values and return the messages of ``facesvc.v1``. A call that fails raises ``CallError``, which
carries the reason that the server gave. Calls wait at most ``timeout_s``; streams have no limit, and end on the server
too when their reader leaves.
"""

from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import datetime
from types import TracebackType
from typing import Generic, Self, TypeVar

import grpc
from google.protobuf import field_mask_pb2
from google.protobuf.message import Message
from google.rpc import error_details_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_status import rpc_status

from facesvc.v1 import (
    admin_pb2,
    admin_pb2_grpc,
    common_pb2,
    enrollment_pb2,
    enrollment_pb2_grpc,
    presence_pb2,
    presence_pb2_grpc,
    recognition_pb2,
    recognition_pb2_grpc,
)

R = TypeVar("R")
T = TypeVar("T")

DEFAULT_ADDRESS = "127.0.0.1:50051"
_OPTIONS = (
    ("grpc.max_receive_message_length", 64 << 20),
    ("grpc.max_send_message_length", 64 << 20),
    ("grpc.keepalive_time_ms", 30_000),
    # A box comes back from a restart within seconds; gRPC would wait for up to two minutes between attempts.
    ("grpc.max_reconnect_backoff_ms", 2_000),
    # The server is in this office: a proxy for the web is not the way to it.
    ("grpc.enable_http_proxy", 0),
)


class CallError(Exception):
    """A call that the server refused or that did not reach it.

    ``code`` is gRPC's, ``reason`` the server's word for it in UPPER_SNAKE (empty where the server was not reached),
    ``field`` the argument it is about, ``retry_delay_s`` the time to wait where the server named one.
    """

    def __init__(self, error: grpc.RpcError, address: str) -> None:
        super().__init__()
        self.code: grpc.StatusCode = error.code()
        self.reason, self.field = "", ""
        self.retry_delay_s: float | None = None
        self._address = address
        self._details = error.details() or self.code.name
        self._read_details(error)

    def __str__(self) -> str:
        """Say what was wrong and what to do: in the server's words, or in ours where it said nothing."""
        if self.reason:
            return self._details
        return {
            grpc.StatusCode.UNAVAILABLE: f"no server answers at {self._address}: start one with `facesvc serve`",
            grpc.StatusCode.DEADLINE_EXCEEDED: f"the server at {self._address} took too long to answer",
        }.get(self.code, f"the server at {self._address} answered {self.code.name}: {self._details}")

    def _read_details(self, error: grpc.RpcError) -> None:
        info, bad, retry = error_details_pb2.ErrorInfo(), error_details_pb2.BadRequest(), error_details_pb2.RetryInfo()
        status = rpc_status.from_call(error)
        for detail in status.details if status else ():
            if detail.Unpack(info):
                self.reason = info.reason
            elif detail.Unpack(bad) and bad.field_violations:
                self.field = bad.field_violations[0].field
            elif detail.Unpack(retry):
                self.retry_delay_s = retry.retry_delay.ToTimedelta().total_seconds()


@contextmanager
def _translated(address: str) -> Iterator[None]:
    try:
        yield
    except grpc.RpcError as error:
        raise CallError(error, address) from error


def image(data: bytes) -> common_pb2.Image:
    """An encoded picture as a message."""
    return common_pb2.Image(data=data)


def frame(frame_id: int, data: bytes, capture_time: datetime | None = None) -> recognition_pb2.Frame:
    """A frame for ``recognize``; ``capture_time`` must know its zone, None means on arrival."""
    message = recognition_pb2.Frame(frame_id=frame_id, image=image(data))
    if capture_time is not None:
        message.capture_time.FromDatetime(capture_time)
    return message


def sample(
    subject_id: str, data: bytes, *, collection_id: str = "", source: str = "", allow_conflict: bool = False
) -> enrollment_pb2.EnrollSamplesRequest:
    """A picture of a person for ``enroll``."""
    return enrollment_pb2.EnrollSamplesRequest(
        collection_id=collection_id,
        subject_id=subject_id,
        image=image(data),
        source=source,
        allow_conflict=allow_conflict,
    )


def opening(
    camera_id: str,
    *,
    zone: str = "",
    collection_id: str = "",
    policy: str = "",
    max_candidates: int = 0,
    options: recognition_pb2.DetectionOptions | None = None,
) -> recognition_pb2.StreamOpening:
    """What a stream is and what is wanted of it, for ``recognize``."""
    return recognition_pb2.StreamOpening(
        camera_id=camera_id,
        zone=zone,
        collection_id=collection_id,
        policy=policy,
        max_candidates=max_candidates,
        options=options,
    )


class Client:
    """Calls a facesvc server and waits for the answers. May be used from several threads."""

    def __init__(self, address: str = DEFAULT_ADDRESS, *, timeout_s: float = 30.0) -> None:
        self._address = address
        self._timeout_s = timeout_s
        self._channel = grpc.insecure_channel(address, options=_OPTIONS)
        self._recognition = recognition_pb2_grpc.RecognitionServiceStub(self._channel)
        self._enrollment = enrollment_pb2_grpc.EnrollmentServiceStub(self._channel)
        self._presence = presence_pb2_grpc.PresenceServiceStub(self._channel)
        self._admin = admin_pb2_grpc.AdminServiceStub(self._channel)
        self._health = health_pb2_grpc.HealthStub(self._channel)

    def __enter__(self) -> Self:
        """The client itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the connection."""
        self.close()

    def close(self) -> None:
        """Close the connection; open streams end."""
        self._channel.close()

    def wait_until_serving(self, timeout_s: float = 30.0) -> None:
        """Return as soon as the server's models are loaded and warm. Raises ``CallError`` after ``timeout_s``."""
        request = health_pb2.HealthCheckRequest()
        with _translated(self._address):
            for answer in self._health.Watch(request, timeout=timeout_s, wait_for_ready=True):
                if answer.status == health_pb2.HealthCheckResponse.SERVING:
                    return

    def server_info(self) -> admin_pb2.GetServerInfoResponse:
        """What runs there, and at which error rates."""
        return self._call(self._admin.GetServerInfo, admin_pb2.GetServerInfoRequest())

    def detect(
        self, data: bytes, options: recognition_pb2.DetectionOptions | None = None
    ) -> recognition_pb2.DetectResponse:
        """The faces of an encoded picture."""
        return self._call(self._recognition.Detect, recognition_pb2.DetectRequest(image=image(data), options=options))

    def embed(
        self, data: bytes, options: recognition_pb2.DetectionOptions | None = None
    ) -> recognition_pb2.EmbedResponse:
        """The faces of an encoded picture with their vectors."""
        return self._call(self._recognition.Embed, recognition_pb2.EmbedRequest(image=image(data), options=options))

    def compare(self, reference: bytes, data: bytes, *, policy: str = "") -> recognition_pb2.CompareResponse:
        """The largest face of ``reference`` against every face of ``data``."""
        request = recognition_pb2.CompareRequest(reference=image(reference), image=image(data), policy=policy)
        return self._call(self._recognition.Compare, request)

    def search(
        self,
        data: bytes,
        *,
        collection_id: str = "",
        policy: str = "",
        max_candidates: int = 0,
        options: recognition_pb2.DetectionOptions | None = None,
    ) -> recognition_pb2.SearchResponse:
        """Who the people in an encoded picture are."""
        request = recognition_pb2.SearchRequest(
            image=image(data),
            collection_id=collection_id,
            policy=policy,
            max_candidates=max_candidates,
            options=options,
        )
        return self._call(self._recognition.Search, request)

    def recognize(
        self, opened: recognition_pb2.StreamOpening, frames: Iterable[recognition_pb2.Frame]
    ) -> Iterator[recognition_pb2.FrameResult]:
        """Results of a stream of frames; ``frames`` is read in another thread, at its own pace.

        What ``frames`` raises is raised here, once the results of what was sent before are out.
        """
        requests = _Requests(_stream(opened, frames))
        for answer in self._answers(self._recognition.Recognize(iter(requests))):
            if answer.HasField("result"):
                yield answer.result
        requests.check()

    def create_subject(self, subject: enrollment_pb2.Subject, *, request_id: str = "") -> enrollment_pb2.Subject:
        """Make a person known."""
        request = enrollment_pb2.CreateSubjectRequest(subject=subject, request_id=request_id)
        return self._call(self._enrollment.CreateSubject, request).subject

    def get_subject(self, subject_id: str, *, collection_id: str = "") -> enrollment_pb2.Subject:
        """One person."""
        request = enrollment_pb2.GetSubjectRequest(collection_id=collection_id, subject_id=subject_id)
        return self._call(self._enrollment.GetSubject, request).subject

    def list_subjects(self, *, collection_id: str = "", page_size: int = 0) -> Iterator[enrollment_pb2.Subject]:
        """All people of a collection, page by page as they are needed."""
        token = ""
        while True:
            request = enrollment_pb2.ListSubjectsRequest(
                collection_id=collection_id, page_size=page_size, page_token=token
            )
            page = self._call(self._enrollment.ListSubjects, request)
            yield from page.subjects
            token = page.next_page_token
            if not token:
                return

    def update_subject(self, subject: enrollment_pb2.Subject, fields: Iterable[str]) -> enrollment_pb2.Subject:
        """Change the named ``fields`` of a person to what ``subject`` says."""
        mask = field_mask_pb2.FieldMask(paths=list(fields))
        request = enrollment_pb2.UpdateSubjectRequest(subject=subject, update_mask=mask)
        return self._call(self._enrollment.UpdateSubject, request).subject

    def erase_subject(self, subject_id: str, *, collection_id: str = "") -> enrollment_pb2.ErasureReceipt:
        """Forget a person and all samples."""
        request = enrollment_pb2.EraseSubjectRequest(collection_id=collection_id, subject_id=subject_id)
        return self._call(self._enrollment.EraseSubject, request).receipt

    def enroll(
        self, samples: Iterable[enrollment_pb2.EnrollSamplesRequest]
    ) -> Iterator[enrollment_pb2.EnrollSamplesResponse]:
        """One verdict for each picture, in order; make them with ``sample``. Read and raised like in ``recognize``."""
        requests = _Requests(samples)
        yield from self._answers(self._enrollment.EnrollSamples(iter(requests)))
        requests.check()

    def list_samples(self, subject_id: str, *, collection_id: str = "") -> list[enrollment_pb2.Sample]:
        """The samples of a person, oldest first."""
        request = enrollment_pb2.ListSamplesRequest(collection_id=collection_id, subject_id=subject_id)
        return list(self._call(self._enrollment.ListSamples, request).samples)

    def delete_sample(self, subject_id: str, sample_id: str, *, collection_id: str = "") -> None:
        """Forget one sample."""
        request = enrollment_pb2.DeleteSampleRequest(
            collection_id=collection_id, subject_id=subject_id, sample_id=sample_id
        )
        self._call(self._enrollment.DeleteSample, request)

    def watch_events(
        self, *, resume_token: str = "", collection_id: str = "", zone: str = ""
    ) -> Iterator[presence_pb2.WatchEventsResponse]:
        """Events as they happen; the first answer has none and says that the watch has begun."""
        request = presence_pb2.WatchEventsRequest(resume_token=resume_token, collection_id=collection_id, zone=zone)
        yield from self._answers(self._presence.WatchEvents(request))

    def _call(self, method: Callable[..., R], request: Message) -> R:
        with _translated(self._address):
            return method(request, timeout=self._timeout_s)

    def _answers(self, call: "grpc._CallIterator[R]") -> Iterator[R]:
        try:
            with _translated(self._address):
                yield from call
        finally:
            call.cancel()


class AsyncClient:
    """The same for asyncio. Belongs on one event loop; see ``Client`` for what the calls do."""

    def __init__(self, address: str = DEFAULT_ADDRESS, *, timeout_s: float = 30.0) -> None:
        self._address = address
        self._timeout_s = timeout_s
        self._channel = grpc.aio.insecure_channel(address, options=_OPTIONS)
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

    async def wait_until_serving(self, timeout_s: float = 30.0) -> None:
        """See ``Client``."""
        request = health_pb2.HealthCheckRequest()
        with _translated(self._address):
            async for answer in self._health.Watch(request, timeout=timeout_s, wait_for_ready=True):
                if answer.status == health_pb2.HealthCheckResponse.SERVING:
                    return

    async def server_info(self) -> admin_pb2.GetServerInfoResponse:
        """See ``Client``."""
        return await self._call(self._admin.GetServerInfo, admin_pb2.GetServerInfoRequest())

    async def detect(
        self, data: bytes, options: recognition_pb2.DetectionOptions | None = None
    ) -> recognition_pb2.DetectResponse:
        """See ``Client``."""
        request = recognition_pb2.DetectRequest(image=image(data), options=options)
        return await self._call(self._recognition.Detect, request)

    async def embed(
        self, data: bytes, options: recognition_pb2.DetectionOptions | None = None
    ) -> recognition_pb2.EmbedResponse:
        """See ``Client``."""
        request = recognition_pb2.EmbedRequest(image=image(data), options=options)
        return await self._call(self._recognition.Embed, request)

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
        request = recognition_pb2.SearchRequest(
            image=image(data),
            collection_id=collection_id,
            policy=policy,
            max_candidates=max_candidates,
            options=options,
        )
        return await self._call(self._recognition.Search, request)

    async def recognize(
        self, opened: recognition_pb2.StreamOpening, frames: AsyncIterable[recognition_pb2.Frame]
    ) -> AsyncIterator[recognition_pb2.FrameResult]:
        """See ``Client``."""
        with _translated(self._address):
            async for answer in self._recognition.Recognize(_async_stream(opened, frames)):
                if answer.HasField("result"):
                    yield answer.result

    async def watch_events(
        self, *, resume_token: str = "", collection_id: str = "", zone: str = ""
    ) -> AsyncIterator[presence_pb2.WatchEventsResponse]:
        """See ``Client``."""
        request = presence_pb2.WatchEventsRequest(resume_token=resume_token, collection_id=collection_id, zone=zone)
        with _translated(self._address):
            async for answer in self._presence.WatchEvents(request):
                yield answer

    async def _call(self, method: Callable[..., Awaitable[R]], request: Message) -> R:
        with _translated(self._address):
            return await method(request, timeout=self._timeout_s)


class _Requests(Generic[T]):
    """Requests as gRPC's thread reads them, where an error would be lost: it ends them, and ``check`` raises it."""

    def __init__(self, source: Iterable[T]) -> None:
        self._source = source
        self._error: Exception | None = None

    def __iter__(self) -> Iterator[T]:
        """All of them, or those before the error."""
        try:
            yield from self._source
        except Exception as error:  # noqa: BLE001 - kept for the thread that asked
            self._error = error

    def check(self) -> None:
        """Raise what the source raised, if it did."""
        if self._error is not None:
            raise self._error


def _stream(
    opened: recognition_pb2.StreamOpening, frames: Iterable[recognition_pb2.Frame]
) -> Iterator[recognition_pb2.RecognizeRequest]:
    yield recognition_pb2.RecognizeRequest(opening=opened)
    for one in frames:
        yield recognition_pb2.RecognizeRequest(frame=one)


async def _async_stream(
    opened: recognition_pb2.StreamOpening, frames: AsyncIterable[recognition_pb2.Frame]
) -> AsyncIterator[recognition_pb2.RecognizeRequest]:
    yield recognition_pb2.RecognizeRequest(opening=opened)
    async for one in frames:
        yield recognition_pb2.RecognizeRequest(frame=one)
