"""The stream of one camera: its frames in, newest first, its results and events out.

Three tasks share the work, so that none waits for another: one reads what the client sends, one looks at the newest
frame whenever a look is due and a worker is free, and the call itself tells the client, at the pace at which it reads.
"""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager, suppress
from datetime import datetime

from ulid import ULID

from facesvc.api import convert
from facesvc.api.arrivals import Arrival, Arrivals
from facesvc.api.challenge import Challenges
from facesvc.api.engines import Engine
from facesvc.api.question import parse_question
from facesvc.api.service import Service
from facesvc.api.telling import Telling
from facesvc.errors import ImageError, InputError
from facesvc.gallery.records import check_id
from facesvc.stream.look import Pace
from facesvc.stream.mailbox import Delivery, Mailbox
from facesvc.stream.policy import false_positive_identification_rate
from facesvc.stream.presence import Camera, Direction, Sighting
from facesvc.stream.session import Session
from facesvc.stream.shown import Seen
from facesvc.v1 import recognition_pb2

# While nobody moves and all are settled, looks are so much rarer.
_CALM_FACTOR = 2.0
# The credit for the next frame is given so long before it is due, for the client to take and encode it.
_CREDIT_AHEAD_S = 0.03
_TOO_OLD = "FRAME_TOO_OLD"
# A look at a frame begins to embed further faces for so long.
_EMBEDDING_BUDGET_S = 0.3

_DIRECTIONS = {
    recognition_pb2.CAMERA_DIRECTION_UNSPECIFIED: Direction.INSIDE,
    recognition_pb2.CAMERA_DIRECTION_INSIDE: Direction.INSIDE,
    recognition_pb2.CAMERA_DIRECTION_ENTRY: Direction.ENTRY,
    recognition_pb2.CAMERA_DIRECTION_EXIT: Direction.EXIT,
}

Requests = AsyncIterator[recognition_pb2.RecognizeRequest]


class Stream:
    """One camera: what it asks, and what it is told."""

    def __init__(self, service: Service, opening: recognition_pb2.StreamOpening) -> None:
        """Raises ``InputError`` and what ``Policies.get`` does."""
        check_id(opening.camera_id, "opening.camera_id")
        if opening.zone:
            check_id(opening.zone, "opening.zone")
        if opening.direction not in _DIRECTIONS:
            raise InputError(f"there is no direction {opening.direction}", field="opening.direction")
        self._service = service
        self._settings = service.settings.streams
        self._opening = opening
        self._camera = Camera(opening.camera_id, opening.zone, _DIRECTIONS[opening.direction])
        self._question = parse_question(service, opening, "opening.")
        self._session = Session(self._question, self._settings.lost_seconds)
        self._stream_id = str(ULID())
        self._party = service.workers.party(
            self._settings.weights.get(opening.camera_id, 1.0), patient=opening.every_frame
        )
        self._arrivals = Arrivals(service)
        self._telling = Telling(self._settings.max_results_waiting, service.clock)
        self._challenges = Challenges(self._telling.challenge)
        self._due = 0.0
        self._looking = False

    @contextmanager
    def counted(self) -> Iterator[None]:
        """For the time of the block nobody may change to models that cannot honour this stream's policy."""
        name = self._question.policy.name
        self._service.open_policies[name] += 1
        try:
            yield
        finally:
            self._service.open_policies[name] -= 1

    async def talk(
        self, requests: Requests, mailbox: Mailbox[Arrival]
    ) -> AsyncIterator[recognition_pb2.RecognizeResponse]:
        """Everything that the client is told, until it has sent its last frame and knows the last result."""
        yield recognition_pb2.RecognizeResponse(opened=await asyncio.to_thread(self._opened))
        camera, now = self._camera, self._service.now()
        with self._service.statistics.open(self._stream_id, camera.camera_id, camera.zone, now) as counters:
            self._counters = counters
            reader = asyncio.create_task(self._read(requests, mailbox))
            looker = asyncio.create_task(self._look_on(mailbox))
            try:
                async for response in self._telling.messages():
                    yield response
                await looker
                if reader.done():  # else the server stops, and waits for no client
                    await reader
            finally:
                reader.cancel()
                looker.cancel()

    def _opened(self) -> recognition_pb2.StreamOpened:
        """The answer to the opening. May wait for a search."""
        policy = self._question.policy
        people = self._service.gallery.subject_count(self._question.collection_id)
        return recognition_pb2.StreamOpened(
            stream_id=self._stream_id,
            policy=policy.name,
            threshold=policy.threshold,
            false_match_rate=policy.false_match_rate,
            false_positive_identification_rate=false_positive_identification_rate(policy.false_match_rate, people),
            embedding_contract=self._service.engine.pack.contract_id,
            credits=recognition_pb2.Credits(frames=1),
        )

    async def _read(self, requests: Requests, mailbox: Mailbox[Arrival]) -> None:
        """Empties the stream at whatever pace it comes, so that what waits is always the newest frame."""
        try:
            async for request in requests:
                if request.HasField("frame"):
                    self._arrived(request.frame, mailbox)
                elif request.HasField("challenge"):
                    clock = max(self._arrivals.newest_clock, self._session.clock)
                    self._challenges.ask(request.challenge, self._session.seen, self._session.clock, clock)
                else:
                    raise InputError("every message after the opening must be a frame or a challenge", field="frame")
        finally:
            mailbox.close()

    def _arrived(self, frame: recognition_pb2.Frame, mailbox: Mailbox[Arrival]) -> None:
        arrival = self._arrivals.arrive(frame)
        self._counters.received(frame.frames_skipped)
        if not self._opening.predictions:
            mailbox.put(arrival)
            return
        self._telling.credit()
        if arrival.problem is not None:
            self._refuse(arrival)
        elif self._looking or arrival.clock < self._due:
            self._answer_from_tracks(arrival)
        elif (replaced := mailbox.put(arrival, counted=False)) is not None:
            self._answer_from_tracks(replaced)

    async def _look_on(self, mailbox: Mailbox[Arrival]) -> None:
        """Looks at the newest frame, again and again, until there are no more."""
        try:
            while await mailbox.ready():
                await self._wait_until(self._due, mailbox)
                await self._look_once(mailbox)
                if not self._opening.predictions:
                    await self._wait_until(self._due - _CREDIT_AHEAD_S, mailbox)
                    self._telling.credit()
        finally:
            self._telling.close()

    async def _wait_until(self, clock: float, mailbox: Mailbox[Arrival]) -> None:
        """Not where the stream has ended: its last frame is looked at without delay."""
        seconds = clock - self._service.clock()
        if seconds > 0:
            with suppress(TimeoutError):
                await asyncio.wait_for(mailbox.closed.wait(), seconds)

    async def _look_once(self, mailbox: Mailbox[Arrival]) -> None:
        def take() -> Delivery[Arrival]:
            self._looking = True
            return mailbox.take()

        try:
            delivery, result, seen = await self._service.workers.run_next(self._party, take, self._work)
        finally:
            self._looking = False
        interval = self._interval()
        self._due = 0.0 if interval == 0 else delivery.item.clock + interval
        self._counters.dropped(delivery.dropped)
        self._counters.follows(self._session.tracks, interval)
        if seen is None:
            self._challenges.wait(delivery.item.frame_clock)
            if result.error.reason == _TOO_OLD:
                self._counters.dropped(1)
            else:
                self._counters.failed()
        else:
            self._counters.processed(self._service.clock() - delivery.item.capture.clock, seen.embedded)
            self._note(seen, delivery.item.time)
            self._challenges.judge(seen, delivery.item.frame_clock)
        self._tell(result)

    def _work(self, delivery: Delivery[Arrival]) -> tuple[Delivery[Arrival], recognition_pb2.FrameResult, Seen | None]:
        """In a worker thread: a frame's result; what is wrong with the frame is part of it."""
        service, arrival = self._service, delivery.item
        begun = service.clock()
        result = recognition_pb2.FrameResult(frame_id=arrival.frame.frame_id, frames_dropped=delivery.dropped)
        result.capture_time.CopyFrom(convert.timestamp(arrival.capture.time))
        seen = None
        try:
            seen, result.embedding_contract = self._look(arrival)
            self._fill(result, seen)
            total = service.clock() - arrival.clock
            result.timings.CopyFrom(convert.timings(seen.times, begun - arrival.clock, total))
        except InputError as error:
            result.error.CopyFrom(convert.item_error(error))
        result.decision_time.CopyFrom(convert.timestamp(service.now()))
        return delivery, result, seen

    def _look(self, arrival: Arrival) -> tuple[Seen, str]:
        """What the frame shows, and the contract it was looked at under."""
        if arrival.problem is not None:
            raise arrival.problem
        if self._service.clock() - arrival.clock > self._settings.max_wait_seconds:
            seconds = self._settings.max_wait_seconds
            message = f"the server had no worker free for {seconds:g} s and dropped this frame: send fewer"
            raise ImageError(message, reason=_TOO_OLD)
        rung = self._service.regulator.rung
        pace = Pace(
            self._settings.verify_seconds * rung.verify_factor,
            rung.minimum_face_factor,
            _EMBEDDING_BUDGET_S,
            self._challenges.watched,
        )

        def look(engine: Engine) -> Seen:
            policy = engine.policies.get(self._question.policy.name)
            data = arrival.frame.image.data
            return self._session.look(engine.recognizer, data, policy, arrival.capture, arrival.frame_clock, pace)

        return self._service.engines.use(look)

    def _interval(self) -> float:
        """Seconds between two looks, as things stand."""
        if self._opening.every_frame:
            return 0.0
        settings, factor = self._settings, self._service.regulator.rung.look_interval_factor
        if not self._session.tracks:
            return factor / settings.idle_looks_per_second
        return factor * (_CALM_FACTOR if self._session.is_calm else 1.0) / settings.looks_per_second

    def _refuse(self, arrival: Arrival) -> None:
        """Tell at once what is wrong with a frame that need not wait for it."""
        assert arrival.problem is not None
        result = recognition_pb2.FrameResult(
            frame_id=arrival.frame.frame_id,
            capture_time=convert.timestamp(arrival.capture.time),
            decision_time=convert.timestamp(self._service.now()),
            error=convert.item_error(arrival.problem),
        )
        self._counters.failed()
        self._tell(result)

    def _answer_from_tracks(self, arrival: Arrival) -> None:
        seen = self._session.predict(arrival.frame_clock)
        result = recognition_pb2.FrameResult(
            frame_id=arrival.frame.frame_id,
            capture_time=convert.timestamp(arrival.capture.time),
            decision_time=convert.timestamp(self._service.now()),
            predicted=True,
            embedding_contract=self._service.engine.pack.contract_id,
        )
        self._fill(result, seen)
        self._counters.predicted()
        self._tell(result)

    def _fill(self, result: recognition_pb2.FrameResult, seen: Seen) -> None:
        clock = self._service.clock()
        result.faces.extend(convert.followed_faces(seen, self._question.max_candidates, clock))
        result.faces_omitted = seen.omitted
        result.width, result.height = seen.width, seen.height
        result.minimum_face_pixels = seen.minimum_face
        result.faces_embedded = seen.embedded

    def _tell(self, result: recognition_pb2.FrameResult) -> None:
        if self._telling.result(result):
            self._counters.results_lost(1)

    def _note(self, seen: Seen, seen_time: datetime) -> None:
        """Tells the observer who is before the camera; what an old frame shows may long be over."""
        collection_id, clock = self._question.collection_id, self._service.clock()
        self._service.observer.note(
            [
                Sighting(self._camera, collection_id, one.track.track_id, one.decision, seen_time)
                for one in seen.faces
                if one.decision is not None and not one.predicted and one.decision.valid_for(clock) > 0
            ]
        )
