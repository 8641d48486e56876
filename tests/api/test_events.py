"""``WatchEvents``: an arrival is one event, and a reader goes on where it left."""

import asyncio
from collections.abc import AsyncIterator

import grpc
import pytest
from api.conftest import Running, Start, Vision, with_limits
from api.pictures import textured
from api.test_recognition import enrol

from facesvc.client import CallError, frame, opening
from facesvc.config import Settings
from facesvc.v1 import presence_pb2, recognition_pb2

PICTURE = textured()


async def pass_by(running: Running, camera: str, zone: str, frames: int = 3) -> None:
    """Somebody stands before a camera for some frames, each of them looked at."""
    turn = asyncio.Semaphore(1)

    async def film() -> AsyncIterator[recognition_pb2.Frame]:
        for number in range(frames):
            await turn.acquire()
            yield frame(number, PICTURE)

    async for _ in running.client.recognize(opening(camera, zone=zone), film()):
        turn.release()


async def watched(events: AsyncIterator[presence_pb2.WatchEventsResponse]) -> presence_pb2.WatchEventsResponse:
    return await asyncio.wait_for(anext(events), 30)


async def test_an_arrival_is_one_event(start: Start, vision: Vision) -> None:
    running = await start(vision=vision)
    await enrol(running, "jane", PICTURE)
    events = running.client.watch_events()
    begun = await watched(events)
    assert not begun.HasField("event")
    await pass_by(running, "door-1", "lobby")
    await pass_by(running, "door-2", "yard")
    first, second = await watched(events), await watched(events)
    assert [event.event.seen.camera_id for event in (first, second)] == ["door-1", "door-2"]
    match = first.event.seen
    assert (match.zone, match.decision.subject.subject_id) == ("lobby", "jane")
    assert match.decision.expire_time.ToDatetime() > match.decision.decision_time.ToDatetime()


async def test_a_reader_goes_on_where_it_left(start: Start, vision: Vision) -> None:
    running = await start(vision=vision)
    await enrol(running, "jane", PICTURE)
    for camera in ("a", "b", "c"):
        await pass_by(running, camera, "")
    run = running.service.feed.token().split(".")[0]
    events = running.client.watch_events(resume_token=f"{run}.1")
    await watched(events)
    answers = [await watched(events), await watched(events)]
    assert [answer.event.seen.camera_id for answer in answers] == ["b", "c"]
    assert answers[-1].resume_token == running.service.feed.token()


async def test_a_reader_may_ask_for_one_zone(start: Start, vision: Vision) -> None:
    running = await start(vision=vision)
    await enrol(running, "jane", PICTURE)
    events = running.client.watch_events(zone="yard")
    await watched(events)
    await pass_by(running, "a", "lobby")
    await pass_by(running, "b", "yard")
    elsewhere, here = await watched(events), await watched(events)
    assert not elsewhere.HasField("event")
    assert elsewhere.resume_token
    assert here.event.seen.camera_id == "b"


async def test_a_reader_may_ask_for_one_gallery(start: Start, vision: Vision) -> None:
    running = await start(vision=vision)
    await enrol(running, "jane", PICTURE)
    events = running.client.watch_events(collection_id="guests")
    await watched(events)
    await pass_by(running, "a", "")
    assert not (await watched(events)).HasField("event")


async def test_a_camera_that_connects_anew_is_the_same_camera(start: Start, vision: Vision) -> None:
    running = await start(vision=vision)
    await enrol(running, "jane", PICTURE)
    before = running.service.feed.token()
    for _ in range(3):
        await pass_by(running, "door", "")
    events = running.client.watch_events(resume_token=before)
    await watched(events)
    assert (await watched(events)).resume_token == running.service.feed.token()


async def test_watchers_are_limited(start: Start, vision: Vision, settings: Settings) -> None:
    running = await start(with_limits(settings, max_watchers=1), vision)
    first = running.client.watch_events()
    await watched(first)
    with pytest.raises(CallError) as caught:
        await watched(running.client.watch_events())
    assert caught.value.reason == "TOO_MANY_WATCHERS"


async def test_a_reader_too_far_behind_is_told(start: Start, vision: Vision, settings: Settings) -> None:
    settings = settings.model_copy(update={"events": settings.events.model_copy(update={"remembered": 2})})
    running = await start(settings, vision)
    await enrol(running, "jane", PICTURE)
    token = running.service.feed.token()
    for camera in ("a", "b", "c"):
        await pass_by(running, camera, "")
    events = running.client.watch_events(resume_token=token)
    await watched(events)
    with pytest.raises(CallError) as caught:
        await watched(events)
    assert (caught.value.code, caught.value.reason) == (grpc.StatusCode.OUT_OF_RANGE, "EVENTS_MISSED")


@pytest.mark.parametrize("token", ["nonsense", "x.y", "x.-1", "other.3", "." * 100])
async def test_a_bad_token_is_refused(start: Start, vision: Vision, token: str) -> None:
    running = await start(vision=vision)
    with pytest.raises(CallError) as caught:
        await watched(running.client.watch_events(resume_token=token))
    assert caught.value.code in {grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.OUT_OF_RANGE}


async def test_stopping_ends_the_watch(start: Start, vision: Vision) -> None:
    running = await start(vision=vision)
    events = running.client.watch_events()
    await watched(events)
    await running.server.stop()
    with pytest.raises(CallError) as caught:
        await watched(events)
    assert caught.value.reason == "SERVER_STOPPING"
