"""The client for plain code."""

from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import closing
from datetime import datetime
from itertools import chain
from types import TracebackType
from typing import Self, TypeVar

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


class Client:
    """Calls a facesvc server and waits for the answers. May be used from several threads."""

    def __init__(self, address: str = DEFAULT_ADDRESS, *, timeout_s: float = DEFAULT_TIMEOUT_S) -> None:
        self._address = address
        self._timeout_s = timeout_s
        self._channel = grpc.insecure_channel(address, options=OPTIONS)
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

    def wait_until_serving(self, timeout_s: float = DEFAULT_TIMEOUT_S) -> None:
        """Return as soon as the server's models are loaded and warm. Raises ``CallError`` after ``timeout_s``."""
        call = self._health.Watch(health_pb2.HealthCheckRequest(), timeout=timeout_s, wait_for_ready=True)
        with closing(self._answers(call)) as answers:
            for answer in answers:
                if answer.status == health_pb2.HealthCheckResponse.SERVING:
                    return

    def server_info(self) -> admin_pb2.GetServerInfoResponse:
        """What runs there, and at which error rates."""
        return self._call(self._admin.GetServerInfo, admin_pb2.GetServerInfoRequest())

    def get_statistics(self) -> admin_pb2.GetStatisticsResponse:
        """What was done since the start, by each open stream, and how hard the box works."""
        return self._call(self._admin.GetStatistics, admin_pb2.GetStatisticsRequest())

    def list_models(self) -> list[admin_pb2.ModelPack]:
        """The model packs on that box."""
        return list(self._call(self._admin.ListModels, admin_pb2.ListModelsRequest()).model_packs)

    def load_model(self, name: str) -> admin_pb2.ModelPack:
        """Change to a pack under whose contract everybody has a vector already."""
        return self._call(self._admin.LoadModel, admin_pb2.LoadModelRequest(name=name)).model_pack

    def migrate_gallery(
        self, name: str = "", *, rollback: bool = False, skip_missing: bool = False
    ) -> Generator[admin_pb2.MigrateGalleryResponse, None, None]:
        """Embed everybody again and change to a pack; leaving the iterator early stops the migration."""
        request = requests.migrate_gallery(name, rollback=rollback, skip_missing=skip_missing)
        yield from self._answers(self._admin.MigrateGallery(request))

    def detect(
        self, data: bytes, options: recognition_pb2.DetectionOptions | None = None
    ) -> recognition_pb2.DetectResponse:
        """The faces of an encoded picture."""
        return self._call(self._recognition.Detect, requests.detect(data, options))

    def embed(
        self, data: bytes, options: recognition_pb2.DetectionOptions | None = None
    ) -> recognition_pb2.EmbedResponse:
        """The faces of an encoded picture with their vectors."""
        return self._call(self._recognition.Embed, requests.embed(data, options))

    def compare(self, reference: bytes, data: bytes, *, policy: str = "") -> recognition_pb2.CompareResponse:
        """The largest face of ``reference`` against every face of ``data``."""
        return self._call(self._recognition.Compare, requests.compare(reference, data, policy))

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
        request = requests.search(data, collection_id, policy, max_candidates, options)
        return self._call(self._recognition.Search, request)

    def recognize(
        self, opened: recognition_pb2.StreamOpening, frames: Iterable[recognition_pb2.Frame]
    ) -> Generator[recognition_pb2.FrameResult, None, None]:
        """Results of a stream of frames; ``frames`` is read in another thread, at its own pace.

        What ``frames`` raises is raised here, once the results of what was sent before are out.
        """
        with closing(self.converse(opened, frames)) as answers:
            for answer in answers:
                if answer.HasField("result"):
                    yield answer.result

    def converse(
        self, opened: recognition_pb2.StreamOpening, messages: Iterable[requests.Said]
    ) -> Generator[recognition_pb2.RecognizeResponse, None, None]:
        """All answers of a stream: the opening, results, credits, challenges; ``messages`` as in ``recognize``."""
        sent = chain([requests.first(opened)], map(requests.following, messages))
        yield from self._talk(self._recognition.Recognize, sent)

    def create_subject(self, subject: enrollment_pb2.Subject, *, request_id: str = "") -> enrollment_pb2.Subject:
        """Make a person known."""
        return self._call(self._enrollment.CreateSubject, requests.create_subject(subject, request_id)).subject

    def get_subject(self, subject_id: str, *, collection_id: str = "") -> enrollment_pb2.Subject:
        """One person."""
        return self._call(self._enrollment.GetSubject, requests.get_subject(subject_id, collection_id)).subject

    def list_subjects(
        self, *, collection_id: str = "", page_size: int = 0
    ) -> Generator[enrollment_pb2.Subject, None, None]:
        """All people of a collection, page by page as they are needed."""
        token = ""
        while True:
            request = requests.list_subjects(collection_id, page_size, token)
            page = self._call(self._enrollment.ListSubjects, request)
            yield from page.subjects
            token = page.next_page_token
            if not token:
                return

    def update_subject(self, subject: enrollment_pb2.Subject, fields: Iterable[str]) -> enrollment_pb2.Subject:
        """Change the named ``fields`` of a person to what ``subject`` says."""
        return self._call(self._enrollment.UpdateSubject, requests.update_subject(subject, fields)).subject

    def erase_subject(self, subject_id: str, *, collection_id: str = "") -> enrollment_pb2.ErasureReceipt:
        """Forget a person and all samples."""
        return self._call(self._enrollment.EraseSubject, requests.erase_subject(subject_id, collection_id)).receipt

    def enroll(
        self, samples: Iterable[enrollment_pb2.EnrollSamplesRequest]
    ) -> Generator[enrollment_pb2.EnrollSamplesResponse, None, None]:
        """One verdict for each picture, in order; make them with ``sample``. Read and raised like in ``recognize``."""
        return self._talk(self._enrollment.EnrollSamples, map(requests.enrolling, samples))

    def list_samples(self, subject_id: str, *, collection_id: str = "") -> list[enrollment_pb2.Sample]:
        """The samples of a person, oldest first."""
        return list(self._call(self._enrollment.ListSamples, requests.list_samples(subject_id, collection_id)).samples)

    def delete_sample(self, subject_id: str, sample_id: str, *, collection_id: str = "") -> None:
        """Forget one sample."""
        self._call(self._enrollment.DeleteSample, requests.delete_sample(subject_id, sample_id, collection_id))

    def watch_events(
        self, *, resume_token: str = "", collection_id: str = "", zone: str = ""
    ) -> Generator[presence_pb2.WatchEventsResponse, None, None]:
        """Events as they happen; the first answer has none and says that the watch has begun."""
        request = requests.watch_events(resume_token, collection_id, zone)
        yield from self._answers(self._presence.WatchEvents(request))

    def list_presence(
        self, *, collection_id: str = "", zone: str = "", page_size: int = 0
    ) -> Generator[presence_pb2.Presence, None, None]:
        """Who is where now, page by page as they are needed."""
        token = ""
        while True:
            request = requests.list_presence(collection_id, zone, page_size, token)
            page = self._call(self._presence.ListPresence, request)
            yield from page.presences
            token = page.next_page_token
            if not token:
                return

    def list_events(
        self,
        *,
        start_time: datetime | None = None,
        end_time: datetime | None = None,
        collection_id: str = "",
        zone: str = "",
        subject_id: str = "",
        page_size: int = 0,
    ) -> Generator[presence_pb2.Event, None, None]:
        """Events of the past, oldest first, page by page as they are needed."""
        token = ""
        while True:
            request = requests.list_events(start_time, end_time, collection_id, zone, subject_id, page_size, token)
            page = self._call(self._presence.ListEvents, request)
            yield from page.events
            token = page.next_page_token
            if not token:
                return

    def list_attendance(
        self,
        *,
        start_time: datetime | None = None,
        end_time: datetime | None = None,
        collection_id: str = "",
        zone: str = "",
        subject_id: str = "",
        time_zone: str = "",
        page_size: int = 0,
    ) -> Generator[presence_pb2.Attendance, None, None]:
        """Who was there on which day and for how long, page by page as they are needed."""
        token = ""
        while True:
            request = requests.list_attendance(
                start_time, end_time, collection_id, zone, subject_id, time_zone, page_size, token
            )
            page = self._call(self._presence.ListAttendance, request)
            yield from page.attendances
            token = page.next_page_token
            if not token:
                return

    def _call(self, method: Callable[..., R], request: Message) -> R:
        with translated(self._address):
            return method(request, timeout=self._timeout_s)

    def _talk(self, method: "grpc.StreamStreamMultiCallable[Q, R]", sent: Iterable[Q]) -> Generator[R, None, None]:
        kept = KeptError()
        yield from self._answers(method(_readable(sent, kept)))
        kept.check()

    def _answers(self, call: "grpc._CallIterator[R]") -> Generator[R, None, None]:
        try:
            with translated(self._address):
                yield from call
        finally:
            call.cancel()


def _readable(sent: Iterable[Q], kept: KeptError) -> Iterator[Q]:
    """All that is to be sent, or what came before an error: gRPC's thread would lose it."""
    with kept.keeping():
        yield from sent
