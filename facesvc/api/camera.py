"""The stream of one camera: its frames in, newest first, its results and events out."""

from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta

from ulid import ULID

from facesvc.api import convert
from facesvc.api.question import check_size, parse_question
from facesvc.api.service import Service
from facesvc.errors import ImageError, InputError
from facesvc.gallery.records import check_id
from facesvc.stream.mailbox import Delivery, Mailbox
from facesvc.stream.policy import Outcome, false_positive_identification_rate
from facesvc.stream.recognizer import Answer
from facesvc.v1 import recognition_pb2

# A camera's clock may be ahead by so much; more is a clock that nobody set.
_CLOCK_TOLERANCE = timedelta(minutes=1)


@dataclass(frozen=True, slots=True)
class Arrival:
    """A frame, and when it came: by the wall and by the pipeline's clock; ``refusal`` says that it is too large."""

    frame: recognition_pb2.Frame
    time: datetime
    clock: float
    refusal: ImageError | None


async def read_frames(
    requests: AsyncIterator[recognition_pb2.RecognizeRequest], mailbox: Mailbox[Arrival], service: Service
) -> None:
    """Empties the stream into the mailbox at whatever pace it comes, so that what waits is always the newest."""
    try:
        async for request in requests:
            if not request.HasField("frame"):
                raise InputError("every message after the opening must be a frame", field="frame")
            mailbox.put(_arrival(request.frame, service))
    finally:
        mailbox.close()


def _arrival(frame: recognition_pb2.Frame, service: Service) -> Arrival:
    refusal = None
    try:
        check_size(service, frame.image.data, "image.data")
    except ImageError as error:
        refusal = error
        frame.ClearField("image")  # it will never be looked at, and need not be kept while it waits
    return Arrival(frame, service.now(), service.clock(), refusal)


class Stream:
    """One camera: what it asks, and what it was told."""

    def __init__(self, service: Service, opening: recognition_pb2.StreamOpening) -> None:
        """Raises ``InputError`` and what ``Policies.get`` does."""
        check_id(opening.camera_id, "opening.camera_id")
        if opening.zone:
            check_id(opening.zone, "opening.zone")
        self._service = service
        self._opening = opening
        self._question = parse_question(service, opening, "opening.")
        self._last_capture: datetime | None = None

    @contextmanager
    def counted(self) -> Iterator[None]:
        """For the time of the block nobody may change to models that cannot honour this stream's policy."""
        name = self._question.policy.name
        self._service.open_policies[name] += 1
        try:
            yield
        finally:
            self._service.open_policies[name] -= 1

    def opened(self) -> recognition_pb2.StreamOpened:
        """The answer to the opening. May wait for a search."""
        policy = self._question.policy
        people = self._service.gallery.subject_count(self._question.collection_id)
        return recognition_pb2.StreamOpened(
            stream_id=str(ULID()),
            policy=policy.name,
            threshold=policy.threshold,
            false_match_rate=policy.false_match_rate,
            false_positive_identification_rate=false_positive_identification_rate(policy.false_match_rate, people),
            embedding_contract=self._service.engine.pack.contract_id,
        )

    async def next_result(self, mailbox: Mailbox[Arrival]) -> recognition_pb2.FrameResult:
        """The result of the newest frame, once a worker is free; arrivals become events."""
        result, answer = await self._service.workers.run_next(mailbox.take, self._work)
        if answer is not None:
            self._publish(answer)
        return result

    def _work(self, delivery: Delivery[Arrival]) -> tuple[recognition_pb2.FrameResult, Answer | None]:
        """In a worker thread: a frame's result; what is wrong with the frame is part of it."""
        service, arrival = self._service, delivery.item
        begun = service.clock()
        result = recognition_pb2.FrameResult(frame_id=arrival.frame.frame_id, frames_dropped=delivery.dropped)
        answer = None
        try:
            capture_time = self._capture_time(arrival)
            result.capture_time.CopyFrom(convert.timestamp(capture_time))
            answer, result.embedding_contract = self._recognize(arrival, capture_time)
            result.faces.extend(convert.recognized_faces(answer, self._question.max_candidates))
            result.faces_omitted = answer.analysis.omitted
            result.width, result.height = answer.analysis.width, answer.analysis.height
            result.minimum_face_pixels = answer.analysis.minimum_face
            total = service.clock() - arrival.clock
            result.timings.CopyFrom(convert.timings(answer.analysis.times, begun - arrival.clock, total))
        except InputError as error:
            result.error.CopyFrom(convert.item_error(error))
        result.decision_time.CopyFrom(convert.timestamp(service.now()))
        return result, answer

    def _recognize(self, arrival: Arrival, capture_time: datetime) -> tuple[Answer, str]:
        """The answer, and the contract it was made under."""
        if arrival.refusal is not None:
            raise arrival.refusal
        return self._service.engines.recognize(arrival.frame.image.data, self._question, capture_time)

    def _capture_time(self, arrival: Arrival) -> datetime:
        frame = arrival.frame
        if not frame.HasField("capture_time"):
            return arrival.time
        capture_time = convert.time_of(frame.capture_time, "frame.capture_time")
        if capture_time > arrival.time + _CLOCK_TOLERANCE:
            message = f"this frame says it was taken {capture_time - arrival.time} from now: set the camera's clock"
            raise InputError(message, field="frame.capture_time", reason="FRAME_FROM_THE_FUTURE")
        if self._last_capture is not None and capture_time < self._last_capture:
            late = self._last_capture - capture_time
            message = f"this frame is {late} older than the one before: send frames in order"
            raise InputError(message, field="frame.capture_time", reason="FRAME_OUT_OF_ORDER")
        self._last_capture = capture_time
        return capture_time

    def _publish(self, answer: Answer) -> None:
        camera_id, zone = self._opening.camera_id, self._opening.zone
        collection_id = self._question.collection_id
        for decision in answer.decisions:
            if decision.outcome is not Outcome.MATCH or decision.subject is None:
                continue
            subject_id = decision.subject.subject_id
            if self._service.sightings.arrives(camera_id, collection_id, subject_id, decision.decision_time):
                event = convert.match_event(decision, str(ULID()), camera_id, zone, collection_id)
                self._service.feed.publish(event)
