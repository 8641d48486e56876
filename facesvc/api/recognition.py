"""``RecognitionService``: parse, call, map the reply."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import grpc
from ulid import ULID

from facesvc.api import convert
from facesvc.api.service import Lobby, Service
from facesvc.errors import DeadlineError, FacesvcError, ImageError, InputError
from facesvc.gallery.records import check_id
from facesvc.stream.mailbox import Mailbox
from facesvc.stream.policy import Outcome, false_positive_identification_rate
from facesvc.stream.recognizer import Answer, Question
from facesvc.stream.sightings import Sightings
from facesvc.v1 import common_pb2, recognition_pb2, recognition_pb2_grpc
from facesvc.vision.detection import MinimumFace
from facesvc.vision.pipeline import Analysis

Context = grpc.aio.ServicerContext[Any, Any]
MAX_CANDIDATES = 20


class RecognitionServicer(recognition_pb2_grpc.RecognitionServiceServicer):
    """Faces in pictures and streams."""

    def __init__(self, lobby: Lobby) -> None:
        self._lobby = lobby

    async def Detect(  # noqa: N802 - gRPC's name
        self, request: recognition_pb2.DetectRequest, context: Context
    ) -> recognition_pb2.DetectResponse:
        """Find the faces of a picture."""
        service = self._lobby.service
        look = Look.parse(service, request.options)
        arrival = service.pipeline.clock()
        analysis, timings = await look.analyse(arrival, request.image.data, embed=False)
        return recognition_pb2.DetectResponse(
            faces=convert.faces(analysis),
            width=analysis.width,
            height=analysis.height,
            faces_omitted=analysis.omitted,
            timings=timings,
        )

    async def Embed(  # noqa: N802 - gRPC's name
        self, request: recognition_pb2.EmbedRequest, context: Context
    ) -> recognition_pb2.EmbedResponse:
        """Find the faces of a picture and return their vectors."""
        service = self._lobby.service
        look = Look.parse(service, request.options)
        arrival = service.pipeline.clock()
        analysis, timings = await look.analyse(arrival, request.image.data, embed=True)
        return recognition_pb2.EmbedResponse(
            faces=[
                recognition_pb2.EmbeddedFace(face=convert.face(face, analysis), embedding=face.vector)
                for face in analysis.faces
            ],
            embedding_contract=service.pack.contract_id,
            faces_omitted=analysis.omitted,
            timings=timings,
        )

    async def Compare(  # noqa: N802 - gRPC's name
        self, request: recognition_pb2.CompareRequest, context: Context
    ) -> recognition_pb2.CompareResponse:
        """Compare one face with every face of another picture."""
        service = self._lobby.service
        policy = service.policies.get(request.policy)
        look = Look.parse(service, request.options)
        arrival = service.pipeline.clock()
        reference, _ = await look.analyse(arrival, request.reference.data, embed=True, field="reference.data")
        analysis, _ = await look.analyse(arrival, request.image.data, embed=True)
        response = recognition_pb2.CompareResponse(threshold=policy.threshold, false_match_rate=policy.false_match_rate)
        if not reference.faces or reference.faces[0].vector is None:
            return response
        response.reference_face.CopyFrom(convert.face(reference.faces[0], reference))
        compared = []
        for face in analysis.faces:
            assert face.vector is not None  # asked for above
            similarity = max(-1.0, min(1.0, float(face.vector @ reference.faces[0].vector)))
            compared.append(
                recognition_pb2.ComparedFace(
                    face=convert.face(face, analysis),
                    similarity=similarity,
                    distance=convert.distance(similarity),
                    same_person=similarity >= policy.threshold,
                )
            )
        response.faces.extend(sorted(compared, key=lambda face: -face.similarity))
        return response

    async def Search(  # noqa: N802 - gRPC's name
        self, request: recognition_pb2.SearchRequest, context: Context
    ) -> recognition_pb2.SearchResponse:
        """Say who the people in a picture are."""
        service = self._lobby.service
        question = parse_question(service, request)
        now, arrival = service.now(), service.pipeline.clock()
        begun, answer = await service.workers.run(_timed, service, request.image.data, question, now)
        return recognition_pb2.SearchResponse(
            faces=convert.recognized_faces(answer, question.max_candidates),
            width=answer.analysis.width,
            height=answer.analysis.height,
            faces_omitted=answer.analysis.omitted,
            timings=convert.timings(answer.analysis.times, begun - arrival, service.pipeline.clock() - arrival),
        )

    async def Recognize(  # noqa: N802 - gRPC's name
        self, requests: AsyncIterator[recognition_pb2.RecognizeRequest], context: Context
    ) -> AsyncIterator[recognition_pb2.RecognizeResponse]:
        """Say who the people before a camera are, newest frame first."""
        service = self._lobby.service
        mailbox: Mailbox[Arrival] = Mailbox()
        with service.streams.admitted(mailbox):
            opening = await _opening(requests, service.settings.limits.stream_opening_timeout_seconds)
            stream = Stream.parse(service, opening)
            yield recognition_pb2.RecognizeResponse(opened=stream.opened())
            reader = asyncio.create_task(_read(requests, mailbox, service))
            try:
                while await mailbox.ready():
                    yield recognition_pb2.RecognizeResponse(result=await stream.next_result(mailbox))
                self._lobby.refuse_if_stopping()
                await reader
            finally:
                reader.cancel()


@dataclass(frozen=True, slots=True)
class Look:
    """What is looked for in a single picture."""

    service: Service
    minimum_face: MinimumFace
    max_faces: int

    @classmethod
    def parse(cls, service: Service, options: recognition_pb2.DetectionOptions) -> "Look":
        """From the options of a request. Raises ``InputError``."""
        return cls(
            service,
            convert.minimum_face(options, default_minimum_face(service)),
            convert.max_faces(options, service.settings.limits.max_faces),
        )

    async def analyse(
        self, arrival: float, data: bytes, *, embed: bool, field: str = "image.data"
    ) -> tuple[Analysis, common_pb2.Timings]:
        """The faces of a picture, and where the time since ``arrival`` went. ``ImageError`` names ``field``."""
        pipeline = self.service.pipeline
        stage = pipeline.embed if embed else pipeline.detect

        def work() -> tuple[float, Analysis]:
            return pipeline.clock(), stage(data, self.minimum_face, self.max_faces)

        try:
            begun, analysis = await self.service.workers.run(work)
        except ImageError as error:
            raise ImageError(error.message, field=field, reason=error.reason) from error
        return analysis, convert.timings(analysis.times, begun - arrival, pipeline.clock() - arrival)


def default_minimum_face(service: Service) -> MinimumFace:
    """What the settings say of the smallest face."""
    detection = service.settings.detection
    return MinimumFace(detection.minimum_face_pixels, detection.minimum_face_fraction)


def parse_question(
    service: Service, request: recognition_pb2.SearchRequest | recognition_pb2.StreamOpening
) -> Question:
    """What a request asks of every picture. Raises ``InputError`` and what ``Policies.get`` does."""
    if not 0 <= request.max_candidates <= MAX_CANDIDATES:
        message = f"must be 0 to {MAX_CANDIDATES}, not {request.max_candidates}"
        raise InputError(message, field="max_candidates")
    if request.collection_id:
        check_id(request.collection_id, "collection_id")
    look = Look.parse(service, request.options)
    return Question(
        request.collection_id or convert.DEFAULT_COLLECTION,
        service.policies.get(request.policy),
        request.max_candidates or 1,
        look.minimum_face,
        look.max_faces,
    )


def _timed(service: Service, data: bytes, question: Question, capture_time: datetime) -> tuple[float, Answer]:
    """When the work on a picture began, by the pipeline's clock, and its result."""
    return service.pipeline.clock(), service.recognizer.recognize(data, question, capture_time)


@dataclass(frozen=True, slots=True)
class Arrival:
    """A frame, and when it came: by the wall and by the pipeline's clock."""

    frame: recognition_pb2.Frame
    time: datetime
    clock: float


async def _opening(
    requests: AsyncIterator[recognition_pb2.RecognizeRequest], timeout_s: float
) -> recognition_pb2.StreamOpening:
    try:
        first = await asyncio.wait_for(anext(requests, None), timeout_s)
    except TimeoutError as error:
        message = f"the stream was not opened within {timeout_s:g} s: send an opening message first"
        raise DeadlineError(message, reason="STREAM_NOT_OPENED") from error
    if first is None or not first.HasField("opening"):
        raise InputError("the first message of a stream must be its opening", field="opening")
    return first.opening


async def _read(
    requests: AsyncIterator[recognition_pb2.RecognizeRequest], mailbox: Mailbox[Arrival], service: Service
) -> None:
    """Empties the stream into the mailbox at whatever pace it comes, so that what waits is always the newest."""
    try:
        async for request in requests:
            if not request.HasField("frame"):
                raise InputError("every message after the opening must be a frame", field="frame")
            mailbox.put(Arrival(request.frame, service.now(), service.pipeline.clock()))
    finally:
        mailbox.close()


class Stream:
    """One camera: what it asks, and who was seen."""

    def __init__(self, service: Service, opening: recognition_pb2.StreamOpening, question: Question) -> None:
        self._service = service
        self._opening = opening
        self._question = question
        repeat_after = timedelta(seconds=service.settings.events.repeat_after_seconds)
        self._sightings = Sightings(repeat_after)
        self._last_capture: datetime | None = None

    @classmethod
    def parse(cls, service: Service, opening: recognition_pb2.StreamOpening) -> "Stream":
        """From the opening message. Raises ``InputError`` and what ``Policies.get`` does."""
        check_id(opening.camera_id, "opening.camera_id")
        if opening.zone:
            check_id(opening.zone, "opening.zone")
        return cls(service, opening, parse_question(service, opening))

    def opened(self) -> recognition_pb2.StreamOpened:
        """The answer to the opening."""
        policy = self._question.policy
        people = self._service.gallery.subject_count(self._question.collection_id)
        return recognition_pb2.StreamOpened(
            stream_id=str(ULID()),
            policy=policy.name,
            threshold=policy.threshold,
            false_match_rate=policy.false_match_rate,
            false_positive_identification_rate=false_positive_identification_rate(policy.false_match_rate, people),
            embedding_contract=self._service.pack.contract_id,
        )

    async def next_result(self, mailbox: Mailbox[Arrival]) -> recognition_pb2.FrameResult:
        """The result of the newest frame, once a worker is free."""
        delivery = None

        def take() -> Arrival:
            nonlocal delivery
            delivery = mailbox.take()
            return delivery.item

        result = await self._service.workers.run_next(take, self._work)
        assert delivery is not None  # run_next took a job, or raised
        message, answer = result
        message.frames_dropped = delivery.dropped
        if answer is not None:
            self._publish(answer)
        return message

    def _work(self, arrival: Arrival) -> tuple[recognition_pb2.FrameResult, Answer | None]:
        """In a worker thread: a frame's result; what is wrong with the frame is part of it."""
        begun = self._service.pipeline.clock()
        message = recognition_pb2.FrameResult(frame_id=arrival.frame.frame_id)
        try:
            capture_time = self._capture_time(arrival)
            message.capture_time.CopyFrom(convert.timestamp(capture_time))
            answer = self._service.recognizer.recognize(arrival.frame.image.data, self._question, capture_time)
        except InputError as error:
            message.error.CopyFrom(_item_error(error))
            message.decision_time.CopyFrom(convert.timestamp(self._service.now()))
            return message, None
        message.decision_time.CopyFrom(convert.timestamp(self._service.now()))
        message.faces.extend(convert.recognized_faces(answer, self._question.max_candidates))
        message.faces_omitted = answer.analysis.omitted
        message.width, message.height = answer.analysis.width, answer.analysis.height
        total = self._service.pipeline.clock() - arrival.clock
        message.timings.CopyFrom(convert.timings(answer.analysis.times, begun - arrival.clock, total))
        return message, answer

    def _capture_time(self, arrival: Arrival) -> datetime:
        frame = arrival.frame
        if not frame.HasField("capture_time"):
            return arrival.time
        capture_time = convert.time_of(frame.capture_time, "frame.capture_time")
        if self._last_capture is not None and capture_time < self._last_capture:
            message = (
                f"this frame is {self._last_capture - capture_time} older than the one before: send frames in order"
            )
            raise InputError(message, field="frame.capture_time", reason="FRAME_OUT_OF_ORDER")
        self._last_capture = capture_time
        return capture_time

    def _publish(self, answer: Answer) -> None:
        for decision in answer.decisions:
            if decision.outcome is not Outcome.MATCH or decision.subject is None:
                continue
            if self._sightings.arrives(decision.subject.subject_id, decision.decision_time):
                event = convert.match_event(
                    decision,
                    str(ULID()),
                    self._opening.camera_id,
                    self._opening.zone,
                    self._question.collection_id,
                )
                self._service.feed.publish(event)


def _item_error(error: FacesvcError) -> common_pb2.ItemError:
    field = error.field if isinstance(error, InputError) else ""
    return common_pb2.ItemError(reason=error.reason, message=error.message, field=field)
