"""``Recognize`` over several frames: faces are followed, embedded seldom, decided over a track, shown in between."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import grpc
import numpy as np
import pytest
from api.conftest import Running, Start, Vision, with_server
from api.pictures import grey, textured
from api.test_recognition import enrol
from api.test_stream import PICTURE, Talk, reached, settle

from facesvc.api.engines import Engines
from facesvc.api.telling import Telling
from facesvc.client import CallError
from facesvc.config import PolicySettings, Settings
from facesvc.v1 import common_pb2, enrollment_pb2, recognition_pb2

T0 = datetime(2026, 1, 1, tzinfo=UTC)


def with_streams(settings: Settings, **values: Any) -> Settings:
    """``settings`` with another ``[streams]``."""
    return settings.model_copy(update={"streams": settings.streams.model_copy(update=values)})


def with_policy(settings: Settings, name: str, **values: Any) -> Settings:
    """``settings`` with one more policy."""
    return settings.model_copy(update={"policies": {**settings.policies, name: PolicySettings(**values)}})


async def results(talk: Talk, frames: int, picture: bytes = PICTURE) -> list[recognition_pb2.FrameResult]:
    """Send so many frames, each when the result of the one before is there."""
    seen = []
    for number in range(frames):
        await talk.send(number, picture)
        seen.append(await talk.result())
    return seen


def only_decisions(seen: Sequence[recognition_pb2.FrameResult]) -> list[common_pb2.Decision]:
    """The decision of the one face of each result."""
    return [result.faces[0].decision for result in seen]


async def test_a_face_is_embedded_once_and_its_decision_carried(start: Start, vision: Vision) -> None:
    running = await start(vision=vision)
    await enrol(running, "jane", PICTURE)
    async with running.channel() as channel:
        talk = Talk(running, channel)
        await talk.open(every_frame=True)
        seen = await results(talk, 6)
    assert [result.faces_embedded for result in seen] == [1, 0, 0, 0, 0, 0]
    decisions = only_decisions(seen)
    assert len({decision.decision_id for decision in decisions}) == 1
    assert {decision.subject.subject_id for decision in decisions} == {"jane"}
    assert len({result.faces[0].track.track_id for result in seen}) == 1
    left = [decision.valid_for.ToTimedelta() for decision in decisions]
    assert left == sorted(left, reverse=True)
    assert left[-1] < left[0] <= timedelta(seconds=5)
    assert len({decision.expire_time.ToDatetime() for decision in decisions}) == 1


async def test_a_person_is_named_after_k_of_n_views(start: Start, vision: Vision, settings: Settings) -> None:
    running = await start(with_policy(settings, "strict", matches=3, frames=5), vision)
    await enrol(running, "jane", PICTURE)
    async with running.channel() as channel:
        talk = Talk(running, channel)
        await talk.open(every_frame=True, policy="strict")
        first, second, third, fourth = only_decisions(await results(talk, 4))
    for number, early in enumerate((first, second)):
        assert early.outcome == common_pb2.OUTCOME_UNKNOWN
        assert (early.frames_looked_at, early.settled) == (number + 1, False)
    assert third.outcome == common_pb2.OUTCOME_MATCH
    assert (third.frames_agreeing, third.settled, third.subject.subject_id) == (3, True, "jane")
    assert fourth.decision_id == third.decision_id


async def test_one_picture_cannot_meet_a_policy_that_wants_several(
    start: Start, vision: Vision, settings: Settings
) -> None:
    running = await start(with_policy(settings, "strict", matches=3, frames=5), vision)
    with pytest.raises(CallError, match="open a stream") as caught:
        await running.client.search(PICTURE, policy="strict")
    assert (caught.value.code, caught.value.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "POLICY_NEEDS_STREAM")


async def test_a_stranger_is_unknown_for_good_only_after_n_views(start: Start, vision: Vision) -> None:
    running = await start(vision=vision)
    async with running.channel() as channel:
        talk = Talk(running, channel)
        await talk.open(every_frame=True)
        decisions = only_decisions(await results(talk, 6))
    assert {decision.outcome for decision in decisions} == {common_pb2.OUTCOME_UNKNOWN}
    assert [decision.settled for decision in decisions] == [False, False, False, False, True, True]


async def test_a_face_that_is_not_fit_is_never_named_nor_embedded(start: Start, vision: Vision) -> None:
    running = await start(vision=vision)
    await enrol(running, "jane", PICTURE)
    async with running.channel() as channel:
        talk = Talk(running, channel)
        await talk.open(every_frame=True)
        seen = await results(talk, 3, grey())
    for result in seen:
        decision = result.faces[0].decision
        assert decision.outcome == common_pb2.OUTCOME_LOW_QUALITY
        assert decision.low_quality_reason
        assert not decision.HasField("subject")
        assert result.faces_embedded == 0
    assert seen[0].faces[0].face.quality.parts.sharpness == 0


@pytest.mark.parametrize(("score", "outcome"), [(0.9, common_pb2.OUTCOME_MATCH), (0.1, common_pb2.OUTCOME_SPOOF)])
async def test_liveness_is_judged_over_the_track(
    start: Start, vision: Vision, settings: Settings, score: float, outcome: common_pb2.Outcome
) -> None:
    settings = with_policy(settings, "door", matches=2, frames=3, liveness_required=True)
    running = await start(settings, vision)
    real = running.service.engine
    await enrol(running, "jane", PICTURE)
    recognizer = replace(real.recognizer, liveness=lambda pixels, detection: score)
    policies = replace(real.policies, liveness_threshold=0.5)
    assert isinstance(running.service.engines, Engines)
    running.service.engines.replace(replace(real, recognizer=recognizer, policies=policies))
    async with running.channel() as channel:
        talk = Talk(running, channel)
        await talk.open(every_frame=True, policy="door")
        decisions = only_decisions(await results(talk, 3))
    assert decisions[0].outcome == common_pb2.OUTCOME_UNKNOWN
    assert decisions[-1].outcome == outcome
    assert decisions[-1].liveness.frames_looked_at >= 2
    assert decisions[-1].liveness.score == pytest.approx(score)
    assert decisions[-1].HasField("subject") == (outcome == common_pb2.OUTCOME_MATCH)


async def test_a_policy_that_requires_liveness_is_refused_without_it(
    start: Start, vision: Vision, settings: Settings
) -> None:
    running = await start(with_policy(settings, "door", liveness_required=True), vision)
    async with running.channel() as channel:
        talk = Talk(running, channel)
        message = recognition_pb2.StreamOpening(camera_id="cam", policy="door")
        await talk.call.write(recognition_pb2.RecognizeRequest(opening=message))
        assert await talk.end() == grpc.StatusCode.FAILED_PRECONDITION


async def test_frames_between_looks_are_answered_on_request(start: Start, vision: Vision, settings: Settings) -> None:
    running = await start(with_streams(settings, looks_per_second=0.01, idle_looks_per_second=0.01), vision)
    await enrol(running, "jane", PICTURE)
    async with running.channel() as channel:
        talk = Talk(running, channel)
        await talk.open(predictions=True)
        seen = await results(talk, 4)
    looked, *between = seen
    assert not looked.predicted
    for result in between:
        assert result.predicted
        assert result.faces[0].track.predicted
        assert result.faces[0].track.track_id == looked.faces[0].track.track_id
        assert result.faces[0].decision.decision_id == looked.faces[0].decision.decision_id
        assert (result.width, result.height, result.faces_embedded) == (240, 240, 0)
    counters = running.service.statistics.totals()
    assert (counters.frames_received, counters.frames_processed, counters.frames_predicted) == (4, 1, 3)


async def test_without_predictions_a_frame_waits_for_the_next_look(
    start: Start, vision: Vision, settings: Settings
) -> None:
    running = await start(with_streams(settings, looks_per_second=4), vision)
    async with running.channel() as channel:
        talk = Talk(running, channel)
        await talk.open()
        await talk.send(1)
        await talk.result()
        for number in range(2, 6):
            await talk.send(number)
        second = await talk.result()
    assert (second.frame_id, second.frames_dropped, second.predicted) == (5, 3, False)
    assert second.timings.wait.ToTimedelta() > timedelta(0)


async def test_a_frame_is_answered_while_another_is_looked_at(start: Start, vision: Vision) -> None:
    running = await start(vision=vision)
    async with running.channel() as channel:
        talk = Talk(running, channel)
        await talk.open(predictions=True)
        vision.gate.clear()
        await talk.send(1)
        await reached(vision)
        await talk.send(2)
        assert (await talk.result()).frame_id == 2
        vision.gate.set()
        first = await talk.result()
    assert (first.frame_id, first.predicted) == (1, False)


async def test_a_frame_that_is_replaced_is_answered_too(start: Start, vision: Vision, settings: Settings) -> None:
    running = await start(with_server(settings, workers=1), vision)
    async with running.channel() as channel:
        busy, talk = Talk(running, channel), Talk(running, channel)
        await busy.open("busy")
        await talk.open(predictions=True)
        vision.gate.clear()
        await busy.send(1)
        await reached(vision)
        for number in (1, 2, 3):
            await talk.send(number)
        answered = [(await talk.result()).frame_id for _ in range(2)]
        vision.gate.set()
        last = await talk.result()
    assert answered == [1, 2]
    assert (last.frame_id, last.predicted) == (3, False)


async def credits_until_result(talk: Talk) -> int:
    """Credits that come up to and with the next result."""
    given = 0
    while True:
        answer = await talk.call.read()
        if answer.HasField("credits"):
            given += answer.credits.frames
        else:
            return given + answer.result.credits.frames


async def test_a_frame_is_welcome_for_each_that_was_looked_at(start: Start, vision: Vision) -> None:
    running = await start(vision=vision)
    async with running.channel() as channel:
        talk = Talk(running, channel)
        opened = await talk.open(every_frame=True)
        allowed = opened.credits.frames
        assert allowed == 1
        for number in range(5):
            await talk.send(number)
            allowed += await credits_until_result(talk) - 1
            assert 0 <= allowed <= 1
        while not allowed:
            answer = await talk.call.read()
            assert answer.HasField("credits")
            allowed += answer.credits.frames
        assert allowed == 1


async def test_no_frame_is_welcome_long_before_it_is_due(start: Start, vision: Vision, settings: Settings) -> None:
    running = await start(with_streams(settings, looks_per_second=0.01), vision)
    async with running.channel() as channel:
        talk = Talk(running, channel)
        await talk.open()
        await talk.send(1)
        assert await credits_until_result(talk) == 0
        reading = asyncio.ensure_future(talk.call.read())
        await settle(running)
        assert not reading.done()
        reading.cancel()


async def test_a_frame_that_waited_too_long_is_told(start: Start, vision: Vision, settings: Settings) -> None:
    running = await start(with_streams(settings, max_wait_seconds=1e-9), vision)
    async with running.channel() as channel:
        talk = Talk(running, channel)
        await talk.open(every_frame=True)
        await talk.send(1)
        assert (await talk.result()).error.reason == "FRAME_TOO_OLD"
    assert running.service.statistics.totals().frames_dropped == 1


async def test_a_slow_reader_loses_the_oldest_results(start: Start, vision: Vision, settings: Settings) -> None:
    settings = with_streams(settings, max_results_waiting=1, looks_per_second=0.01)
    running = await start(settings, vision)
    for number in range(20):
        vision.vector = np.eye(128, dtype=np.float32)[number]
        await enrol(running, f"person-{number}-{'x' * 90}", textured(number))
    vision.faces = 32
    totals = running.service.statistics.totals
    async with running.channel() as channel:
        talk = Talk(running, channel)
        await talk.open(predictions=True, max_candidates=20)
        await results(talk, 1)
        for number in range(1, 5000):
            await talk.send(number)
            if number % 100 == 0:
                await settle(running)
                if totals().results_dropped > 3:
                    break
        else:
            pytest.fail("every result found room somewhere")
        await talk.call.done_writing()
        lost, last = 0, -1
        while (answer := await talk.call.read()) is not grpc.aio.EOF:
            if answer.HasField("result"):
                lost, last = lost + answer.result.results_dropped, answer.result.frame_id
    assert last == number
    assert lost == totals().results_dropped


async def test_a_camera_whose_clock_is_set_back_goes_on(start: Start, vision: Vision) -> None:
    running = await start(vision=vision)
    async with running.channel() as channel:
        talk = Talk(running, channel)
        await talk.open(every_frame=True)
        tracks = set()
        for number, time in enumerate((T0, T0 - timedelta(hours=1), T0 - timedelta(hours=1) + timedelta(seconds=1))):
            await talk.send(number, capture=time)
            result = await talk.result()
            assert not result.HasField("error")
            tracks.add(result.faces[0].track.track_id)
    assert len(tracks) == 1


async def test_sightings_reach_the_observer(start: Start, vision: Vision) -> None:
    running: Running = await start(vision=vision)
    await enrol(running, "jane", PICTURE)
    watch = running.client.watch_events()
    await anext(watch)
    async with running.channel() as channel:
        talk = Talk(running, channel)
        await talk.open("door", every_frame=True, zone="lobby", direction=recognition_pb2.CAMERA_DIRECTION_ENTRY)
        (result,) = await results(talk, 1)
        seen, arrived = await anext(watch), await anext(watch)
    assert seen.event.seen.decision.decision_id == result.faces[0].decision.decision_id
    assert seen.event.seen.track_id == result.faces[0].track.track_id
    assert (arrived.event.arrived.zone, arrived.event.arrived.subject_id) == ("lobby", "jane")
    await watch.aclose()


async def test_an_erased_person_is_named_no_more(start: Start, vision: Vision) -> None:
    running = await start(vision=vision)
    await enrol(running, "jane", PICTURE)
    async with running.channel() as channel:
        talk = Talk(running, channel)
        await talk.open(every_frame=True)
        (before,) = only_decisions(await results(talk, 1))
        await running.client.erase_subject("jane")
        after = only_decisions(await results(talk, 3))
    assert before.outcome == common_pb2.OUTCOME_MATCH
    assert not any(decision.HasField("subject") for decision in after)


async def test_a_disabled_person_is_named_no_more(start: Start, vision: Vision) -> None:
    running = await start(vision=vision)
    await enrol(running, "jane", PICTURE)
    async with running.channel() as channel:
        talk = Talk(running, channel)
        await talk.open(every_frame=True)
        await results(talk, 1)
        disabled = enrollment_pb2.Subject(subject_id="jane", disabled=True)
        await running.client.update_subject(disabled, ["disabled"])
        after = only_decisions(await results(talk, 2))
    assert not any(decision.HasField("subject") for decision in after)


async def test_a_result_that_waited_says_how_long_it_still_holds() -> None:
    now = 100.0
    telling = Telling(4, lambda: now)
    result = recognition_pb2.FrameResult(faces=[recognition_pb2.RecognizedFace()])
    result.faces[0].decision.valid_for.FromTimedelta(timedelta(seconds=5))
    telling.result(result)
    now += 3.5
    telling.close()
    (sent,) = [message async for message in telling.messages()]
    assert sent.result.faces[0].decision.valid_for.ToTimedelta() == timedelta(seconds=1.5)


async def test_drops_are_told_also_where_the_result_that_told_them_was_lost() -> None:
    telling = Telling(1, lambda: 0.0)
    telling.result(recognition_pb2.FrameResult(frame_id=1, frames_dropped=4))
    telling.result(recognition_pb2.FrameResult(frame_id=2, frames_dropped=1))
    telling.close()
    (sent,) = [message async for message in telling.messages()]
    assert (sent.result.frame_id, sent.result.frames_dropped, sent.result.results_dropped) == (2, 5, 1)


async def test_with_predictions_a_faulty_frame_is_told_at_once(start: Start, vision: Vision) -> None:
    running = await start(vision=vision)
    async with running.channel() as channel:
        talk = Talk(running, channel)
        await talk.open(predictions=True)
        vision.gate.clear()
        await talk.send(1)
        await reached(vision)
        await talk.send(2, bytes((16 << 20) + 1))
        assert (await talk.result()).error.reason == "IMAGE_TOO_LARGE"
        vision.gate.set()
        assert (await talk.result()).frame_id == 1


async def test_a_stop_waits_for_no_open_stream(start: Start, vision: Vision, settings: Settings) -> None:
    running = await start(with_server(settings, shutdown_grace_seconds=600), vision)
    async with running.channel() as channel:
        talk = Talk(running, channel)
        await talk.open(every_frame=True)
        await results(talk, 1)
        stopping = asyncio.create_task(running.server.stop())
        assert await talk.end() == grpc.StatusCode.UNAVAILABLE
        await asyncio.wait_for(stopping, 30)


async def test_what_an_old_frame_shows_is_no_news(start: Start, vision: Vision) -> None:
    running = await start(vision=vision)
    await enrol(running, "jane", PICTURE)
    watch = running.client.watch_events()
    await anext(watch)
    async with running.channel() as channel:
        late, live = Talk(running, channel), Talk(running, channel)
        await late.open("late", every_frame=True)
        await live.open("live", every_frame=True)
        await late.send(0, capture=T0)
        (decision,) = only_decisions([await late.result()])
        await results(live, 1)
        first = await anext(watch)
    assert decision.outcome == common_pb2.OUTCOME_MATCH
    assert first.event.seen.camera_id == "live"
    await watch.aclose()
