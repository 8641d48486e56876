"""``Recognize``: newest frame wins, every drop is counted, and no caller harms another."""

import asyncio
import itertools
from collections.abc import AsyncIterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta

import grpc
import numpy as np
import pytest
from api.conftest import Running, Start, Vision, with_limits, with_server
from api.pictures import textured
from api.test_recognition import enrol

from facesvc.client import CallError, frame, opening
from facesvc.config import Settings
from facesvc.v1 import common_pb2, enrollment_pb2, enrollment_pb2_grpc, recognition_pb2, recognition_pb2_grpc

PICTURE = textured()
T0 = datetime(2026, 1, 1, tzinfo=UTC)


class Talk:
    """A stream driven message by message."""

    def __init__(self, running: Running, channel: grpc.aio.Channel) -> None:
        stub = recognition_pb2_grpc.RecognitionServiceStub(channel)
        self.call = stub.Recognize()

    async def open(self, camera: str = "cam", **fields: object) -> recognition_pb2.StreamOpened:
        message = recognition_pb2.StreamOpening(camera_id=camera, **fields)  # type: ignore[arg-type]
        await self.call.write(recognition_pb2.RecognizeRequest(opening=message))
        return (await self.call.read()).opened

    async def send(self, number: int, data: bytes = PICTURE, capture: datetime | None = None) -> None:
        await self.call.write(recognition_pb2.RecognizeRequest(frame=frame(number, data, capture)))

    async def result(self) -> recognition_pb2.FrameResult:
        while True:
            answer = await self.call.read()
            assert answer is not grpc.aio.EOF, await self.call.details()
            if answer.HasField("result"):
                return answer.result

    async def end(self) -> grpc.StatusCode:
        """The status that the stream ended with, without another result."""
        try:
            while (answer := await self.call.read()) is not grpc.aio.EOF:
                assert answer.HasField("credits")
        except grpc.aio.AioRpcError as error:
            return error.code()
        return await self.call.code()


async def reached(vision: Vision) -> None:
    """Wait until one more picture has reached the detector."""
    assert await asyncio.to_thread(vision.entered.acquire, timeout=30)


async def settle(running: Running) -> None:
    """A round trip: what was written before it has been read by the server."""
    for _ in range(3):
        await running.client.server_info()


async def test_a_frame_that_waits_is_replaced_and_counted(start: Start, vision: Vision, settings: Settings) -> None:
    running = await start(with_server(settings, workers=1), vision)
    async with running.channel() as channel:
        talk = Talk(running, channel)
        await talk.open()
        vision.gate.clear()
        await talk.send(1)
        await reached(vision)
        for number in range(2, 10):
            await talk.send(number)
        await settle(running)
        vision.gate.set()
        first, second = await talk.result(), await talk.result()
        assert (first.frame_id, first.frames_dropped) == (1, 0)
        assert (second.frame_id, second.frames_dropped) == (9, 7)


async def test_streams_take_turns(start: Start, vision: Vision, settings: Settings) -> None:
    running = await start(with_server(settings, workers=1), vision)
    async with running.channel() as channel:
        greedy, modest = Talk(running, channel), Talk(running, channel)
        await greedy.open("greedy")
        await modest.open("modest")
        vision.gate.clear()
        await greedy.send(1)
        await reached(vision)
        await modest.send(1)
        await settle(running)
        for number in range(2, 50):
            await greedy.send(number)
        await settle(running)
        vision.gate.set()
        await greedy.result()
        assert (await modest.result()).frames_dropped == 0
        assert (await greedy.result()).frame_id == 49


async def test_the_last_frame_is_answered_after_the_client_is_done(start: Start, vision: Vision) -> None:
    running = await start(vision=vision)

    async def two() -> AsyncIterator[recognition_pb2.Frame]:
        yield frame(1, PICTURE)
        yield frame(2, PICTURE)

    results = [result async for result in running.client.recognize(opening("cam"), two())]
    assert results[-1].frame_id == 2
    assert sum(1 + result.frames_dropped for result in results) == 2


async def test_a_result_says_when_where_and_how_long(start: Start, vision: Vision) -> None:
    running = await start(vision=vision)
    async with running.channel() as channel:
        talk = Talk(running, channel)
        opened = await talk.open()
        await talk.send(5, capture=T0)
        result = await talk.result()
    assert opened.threshold > 0.8
    assert opened.false_match_rate == 1e-3
    assert result.capture_time.ToDatetime(UTC) == T0
    assert result.decision_time.ToDatetime(UTC) > T0
    assert (result.width, result.height) == (240, 240)
    for stage in ("wait", "decode", "detect", "align", "quality", "embed", "search", "total"):
        assert result.timings.HasField(stage)
    total = result.timings.total.ToTimedelta()
    stages = ("wait", "decode", "detect", "align", "quality", "embed", "search")
    assert sum((getattr(result.timings, stage).ToTimedelta() for stage in stages), timedelta()) <= total


async def test_a_faulty_frame_is_told_and_the_stream_goes_on(start: Start, vision: Vision) -> None:
    running = await start(vision=vision)
    async with running.channel() as channel:
        talk = Talk(running, channel)
        await talk.open()
        await talk.send(1, b"no picture")
        broken = await talk.result()
        assert (broken.frame_id, broken.error.reason, broken.error.field) == (1, "IMAGE_UNDECODABLE", "image.data")
        await talk.send(2)
        assert not (await talk.result()).HasField("error")


async def test_time_that_runs_backwards_is_told(start: Start, vision: Vision) -> None:
    running = await start(vision=vision)
    async with running.channel() as channel:
        talk = Talk(running, channel)
        await talk.open()
        await talk.send(1, capture=T0)
        await talk.result()
        await talk.send(2, capture=T0 - timedelta(seconds=1))
        late = await talk.result()
        assert (late.error.reason, late.error.field) == ("FRAME_OUT_OF_ORDER", "frame.capture_time")
        await talk.send(3, capture=T0)
        assert not (await talk.result()).HasField("error")


async def test_an_impossible_time_is_told(start: Start, vision: Vision) -> None:
    running = await start(vision=vision)
    async with running.channel() as channel:
        talk = Talk(running, channel)
        await talk.open()
        message = frame(1, PICTURE)
        message.capture_time.seconds = 1 << 60
        await talk.call.write(recognition_pb2.RecognizeRequest(frame=message))
        assert (await talk.result()).error.field == "frame.capture_time"


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"camera": ""}, "opening.camera_id"),
        ({"camera": "a b"}, "opening.camera_id"),
        ({"zone": "../x"}, "opening.zone"),
        ({"collection_id": "no way"}, "opening.collection_id"),
        ({"max_candidates": 21}, "opening.max_candidates"),
        ({"options": recognition_pb2.DetectionOptions(minimum_face_pixels=5)}, "opening.options.minimum_face_pixels"),
        (
            {"options": recognition_pb2.DetectionOptions(minimum_face_fraction=2)},
            "opening.options.minimum_face_fraction",
        ),
        ({"options": recognition_pb2.DetectionOptions(max_faces=-1)}, "opening.options.max_faces"),
        ({"policy": "nonsense"}, "opening.policy"),
    ],
)
async def test_a_bad_opening_names_its_field(
    start: Start, vision: Vision, fields: dict[str, object], field: str
) -> None:
    running = await start(vision=vision)
    camera = str(fields.pop("camera", "cam"))

    async def nothing() -> AsyncIterator[recognition_pb2.Frame]:
        return
        yield

    with pytest.raises(CallError) as caught:
        async for _ in running.client.recognize(opening(camera, **fields), nothing()):  # type: ignore[arg-type]
            pass
    assert caught.value.field == field


async def test_a_policy_that_cannot_be_honoured_is_refused(start: Start, vision: Vision) -> None:
    running = await start(vision=vision)
    with pytest.raises(CallError, match="liveness") as caught:
        await running.client.search(PICTURE, policy="access")
    assert (caught.value.code, caught.value.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "POLICY_UNAVAILABLE")


async def test_a_stream_must_be_opened_in_time(start: Start, vision: Vision, settings: Settings) -> None:
    running = await start(with_limits(settings, stream_opening_timeout_seconds=0.05), vision)
    async with running.channel() as channel:
        talk = Talk(running, channel)
        assert await talk.end() == grpc.StatusCode.DEADLINE_EXCEEDED


async def test_a_frame_before_the_opening_is_refused(start: Start, vision: Vision) -> None:
    running = await start(vision=vision)
    async with running.channel() as channel:
        talk = Talk(running, channel)
        await talk.send(1)
        assert await talk.end() == grpc.StatusCode.INVALID_ARGUMENT


async def test_a_second_opening_is_refused(start: Start, vision: Vision) -> None:
    running = await start(vision=vision)
    async with running.channel() as channel:
        talk = Talk(running, channel)
        await talk.open()
        again = recognition_pb2.RecognizeRequest(opening=opening("cam"))
        await talk.call.write(again)
        assert await talk.end() == grpc.StatusCode.INVALID_ARGUMENT


async def test_streams_are_limited_and_places_come_free(start: Start, vision: Vision, settings: Settings) -> None:
    running = await start(with_limits(settings, max_streams=1), vision)
    async with running.channel() as channel:
        first = Talk(running, channel)
        await first.open()
        second = Talk(running, channel)
        await second.call.write(recognition_pb2.RecognizeRequest(opening=opening("cam")))
        assert await second.end() == grpc.StatusCode.RESOURCE_EXHAUSTED
        await first.call.done_writing()
        assert await first.end() == grpc.StatusCode.OK
        await Talk(running, channel).open()


async def test_a_client_that_leaves_frees_its_place(start: Start, vision: Vision, settings: Settings) -> None:
    running = await start(with_limits(settings, max_streams=1), vision)
    async with running.channel() as channel:
        first = Talk(running, channel)
        await first.open()
        first.call.cancel()
        for _ in range(100):
            talk = Talk(running, channel)
            await talk.call.write(recognition_pb2.RecognizeRequest(opening=opening("cam")))
            with suppress(grpc.aio.AioRpcError):
                assert (await talk.call.read()).HasField("opened")
                return
        pytest.fail("the place of a stream that was cancelled stayed taken")


async def test_a_client_that_stops_reading_blocks_nobody(start: Start, vision: Vision, settings: Settings) -> None:
    vision.faces = 32
    running = await start(with_server(settings, workers=1), vision)
    async with running.channel() as deaf_channel, running.channel() as channel:
        deaf = Talk(running, deaf_channel)
        await deaf.open(max_candidates=20)
        talk = Talk(running, channel)
        await talk.open()
        for number in range(200):
            # The deaf one sends and sends; nobody reads what it is told.
            await deaf.send(number)
            if number % 20 == 0:
                await talk.send(number)
                assert (await talk.result()).frame_id == number
        deaf.call.cancel()


async def test_faces_beyond_the_limit_are_counted(start: Start, vision: Vision) -> None:
    vision.faces = 40
    running = await start(vision=vision)
    async with running.channel() as channel:
        talk = Talk(running, channel)
        await talk.open()
        await talk.send(1)
        result = await talk.result()
    assert len(result.faces) == 32
    assert result.faces_omitted == 8


async def test_a_person_is_matched_by_one_face_of_a_frame(start: Start, vision: Vision) -> None:
    running = await start(vision=vision)
    await enrol(running, "jane", PICTURE)
    vision.faces = 3
    response = await running.client.search(PICTURE)
    outcomes = [face.decision.outcome for face in response.faces]
    assert outcomes == [common_pb2.OUTCOME_MATCH, common_pb2.OUTCOME_UNKNOWN, common_pb2.OUTCOME_UNKNOWN]
    assert response.faces[0].decision.subject.subject_id == "jane"
    assert not response.faces[1].decision.HasField("subject")


async def test_stopping_ends_streams_after_what_runs(start: Start, vision: Vision) -> None:
    running = await start(vision=vision)
    async with running.channel() as channel:
        talk = Talk(running, channel)
        await talk.open()
        vision.gate.clear()
        await talk.send(1)
        await reached(vision)
        stopping = asyncio.create_task(running.server.stop())
        await asyncio.to_thread(vision.gate.set)
        assert (await talk.result()).frame_id == 1
        assert await talk.end() == grpc.StatusCode.UNAVAILABLE
        await stopping


async def test_waiting_calls_are_limited(start: Start, vision: Vision, settings: Settings) -> None:
    settings = with_limits(with_server(settings, workers=1), max_waiting_calls=1)
    running = await start(settings, vision)
    vision.gate.clear()
    runs = asyncio.create_task(running.client.detect(PICTURE))
    await reached(vision)
    answers = [asyncio.create_task(running.client.detect(PICTURE)) for _ in range(2)]
    done, waiting = await asyncio.wait(answers, return_when=asyncio.FIRST_COMPLETED, timeout=30)
    (refused,) = done
    error = refused.exception()
    assert isinstance(error, CallError)
    assert (error.code, error.retry_delay_s) == (grpc.StatusCode.RESOURCE_EXHAUSTED, 1.0)
    vision.gate.set()
    await asyncio.gather(runs, *waiting)


async def enrol_anyway(running: Running, subject: enrollment_pb2.Subject, data: bytes) -> None:
    """Enrol somebody, also if they look like somebody else."""
    async with running.channel() as channel:
        stub = enrollment_pb2_grpc.EnrollmentServiceStub(channel)
        await stub.CreateSubject(enrollment_pb2.CreateSubjectRequest(subject=subject))
        call = stub.EnrollSamples()
        await call.write(
            enrollment_pb2.EnrollSamplesRequest(
                subject_id=subject.subject_id, image=common_pb2.Image(data=data), allow_conflict=True
            )
        )
        answer = await call.read()
        assert answer.verdict == enrollment_pb2.ENROLLMENT_VERDICT_ENROLLED, answer.message
        await call.done_writing()


async def test_stopping_ends_a_stream_that_never_pauses(start: Start, vision: Vision, settings: Settings) -> None:
    # Far longer than the test may take: a stream that only the end of the grace time ends fails it.
    running = await start(with_server(settings, shutdown_grace_seconds=600), vision)
    stopping: list[asyncio.Task[None]] = []

    async def without_end() -> AsyncIterator[recognition_pb2.Frame]:
        for number in itertools.count():
            yield frame(number, PICTURE)

    async def watch() -> None:
        async for _ in running.client.recognize(opening("cam"), without_end()):
            if not stopping:
                stopping.append(asyncio.create_task(running.server.stop()))

    with pytest.raises(CallError):
        await watch()
    await asyncio.wait_for(stopping[0], 30)


async def test_a_frame_from_the_future_harms_no_later_one(start: Start, vision: Vision) -> None:
    running = await start(vision=vision)
    async with running.channel() as channel:
        talk = Talk(running, channel)
        await talk.open()
        await talk.send(1, capture=datetime.now(UTC) + timedelta(days=2000))
        assert (await talk.result()).error.reason == "FRAME_FROM_THE_FUTURE"
        await talk.send(2, capture=datetime.now(UTC))
        assert not (await talk.result()).HasField("error")


async def test_a_frame_over_the_limit_is_told_and_the_stream_goes_on(
    start: Start, vision: Vision, settings: Settings
) -> None:
    running = await start(with_limits(settings, max_image_bytes=200_000), vision)
    async with running.channel() as channel:
        talk = Talk(running, channel)
        await talk.open()
        await talk.send(1, bytes(200_001))
        assert (await talk.result()).error.reason == "IMAGE_TOO_LARGE"
        await talk.send(2)
        assert not (await talk.result()).HasField("error")


async def test_a_decision_about_an_old_picture_has_expired(start: Start, vision: Vision) -> None:
    running = await start(vision=vision)
    async with running.channel() as channel:
        talk = Talk(running, channel)
        await talk.open()
        await talk.send(1, capture=T0)
        (face,) = (await talk.result()).faces
    assert face.decision.expire_time.ToDatetime(UTC) < face.decision.decision_time.ToDatetime(UTC)


async def test_candidates_are_cut_to_what_was_asked_for(start: Start, vision: Vision) -> None:
    running = await start(vision=vision)
    for number in range(3):
        vector = np.zeros(128, np.float32)
        vector[number] = 1
        vision.vector = vector
        await enrol(running, f"person-{number}", textured(number))
    for wanted in (1, 2):
        (face,) = (await running.client.search(PICTURE, max_candidates=wanted)).faces
        assert len(face.decision.candidates) == wanted


async def test_two_people_as_alike_are_ambiguous(start: Start, vision: Vision) -> None:
    running = await start(vision=vision)
    near, other = np.zeros(128, np.float32), np.zeros(128, np.float32)
    near[:2], other[0], other[2] = (0.98, 0.2), 0.98, 0.2
    for name, vector in (("ann", near), ("bea", other)):
        vision.vector = vector / np.linalg.norm(vector)
        subject = enrollment_pb2.Subject(subject_id=name)
        await enrol_anyway(running, subject, textured(ord(name[0])))
    vision.vector = np.eye(128, dtype=np.float32)[0]
    (face,) = (await running.client.search(PICTURE)).faces
    assert face.decision.outcome == common_pb2.OUTCOME_AMBIGUOUS
    assert not face.decision.HasField("subject")


async def test_a_worker_is_free_only_when_its_thread_is(start: Start, vision: Vision, settings: Settings) -> None:
    running = await start(with_server(settings, workers=1), vision)
    vision.gate.clear()
    leaver = asyncio.create_task(running.client.detect(PICTURE))
    await reached(vision)
    leaver.cancel()
    waiter = asyncio.create_task(running.client.detect(PICTURE))
    await settle(running)
    assert running.service.workers.free == 0
    vision.gate.set()
    await waiter


async def test_stopping_turns_away_who_waits_for_a_worker(start: Start, vision: Vision, settings: Settings) -> None:
    running = await start(with_server(settings, workers=1), vision)
    vision.gate.clear()
    runs = asyncio.create_task(running.client.detect(PICTURE))
    await reached(vision)
    waits = asyncio.create_task(running.client.detect(PICTURE))
    await settle(running)
    running.server._lobby.close()  # the first thing that stopping does, without the wait that follows
    vision.gate.set()
    assert len((await runs).faces) == 1
    with pytest.raises(CallError) as caught:
        await waits
    assert caught.value.reason == "SERVER_STOPPING"
