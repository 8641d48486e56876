"""``WatchEvents``: an arrival is one event, and a reader goes on where it left."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from datetime import UTC, timedelta

import grpc
import pytest
from api.conftest import Running, Start, Vision, with_limits, with_retention
from api.pictures import textured
from api.test_recognition import enrol
from sightings import ENTRY, EXIT, INSIDE, T0, decision, sighting

from facesvc.client import CallError, frame, opening
from facesvc.config import Settings
from facesvc.errors import AlreadyExistsError
from facesvc.gallery import Subject
from facesvc.stream.policy import LivenessScore, Outcome
from facesvc.stream.presence import Sighting
from facesvc.v1 import presence_pb2, recognition_pb2

PICTURE = textured()


@pytest.fixture
def settings(settings: Settings) -> Settings:
    """Nothing is forgotten for its age: made-up events are old."""
    return with_retention(settings, 3660)


async def pass_by(running: Running, camera: str, zone: str, frames: int = 3) -> None:
    """Somebody stands before a camera for some frames, each of them looked at."""
    turn = asyncio.Semaphore(1)

    async def film() -> AsyncIterator[recognition_pb2.Frame]:
        for number in range(frames):
            await turn.acquire()
            yield frame(number, PICTURE)

    async for _ in running.client.recognize(opening(camera, zone=zone), film()):
        turn.release()


def note(running: Running, *sightings: Sighting) -> None:
    """What a camera would have shown of people who are enrolled."""
    for one in sightings:
        if one.subject_id:
            meet(running, one.collection_id, one.subject_id)
    running.service.observer.note(sightings)


def meet(running: Running, collection_id: str, *names: str) -> None:
    """Make people known, unless they are."""
    gallery, now = running.service.gallery, running.service.now()
    for name in names:
        with suppress(AlreadyExistsError):
            gallery.create_subject(
                Subject(
                    collection_id=collection_id,
                    subject_id=name,
                    display_name=name.title(),
                    create_time=now,
                    update_time=now,
                )
            )


async def written(running: Running) -> None:
    """All that was noted is on the disk."""
    async with asyncio.timeout(20):
        while len(running.service.observer._backlog):  # noqa: ASYNC110 - what is waited for sets no event
            await asyncio.sleep(0.001)


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
    assert 0 < match.decision.valid_for.ToTimedelta().total_seconds() <= 5
    assert match.track_id


async def test_a_reader_goes_on_where_it_left(start: Start, vision: Vision) -> None:
    running = await start(vision=vision)
    await enrol(running, "jane", PICTURE)
    for camera in ("a", "b", "c"):
        await pass_by(running, camera, "")
    events = running.client.watch_events(resume_token=running.service.journal.token(1))
    await watched(events)
    answers = [await watched(events), await watched(events)]
    assert [answer.event.seen.camera_id for answer in answers] == ["b", "c"]
    assert answers[-1].resume_token == running.service.journal.token(3)


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
    for camera in ("door", "door", "door", "yard"):
        await pass_by(running, camera, "")
    events = running.client.watch_events(resume_token=running.service.journal.token(0))
    await watched(events)
    assert [(await watched(events)).event.seen.camera_id for _ in range(2)] == ["door", "yard"]


async def test_watchers_are_limited(start: Start, vision: Vision, settings: Settings) -> None:
    running = await start(with_limits(settings, max_watchers=1), vision)
    first = running.client.watch_events()
    await watched(first)
    with pytest.raises(CallError) as caught:
        await watched(running.client.watch_events())
    assert caught.value.reason == "TOO_MANY_WATCHERS"


async def test_a_reader_too_far_behind_is_told(start: Start) -> None:
    running = await start()
    journal = running.service.journal
    note(running, *(sighting(f"visitor-{number}", seen_time=T0) for number in range(5)))
    await written(running)
    await asyncio.to_thread(journal.forget_before, T0 + timedelta(days=1))
    events = running.client.watch_events(resume_token=journal.token(4))
    await watched(events)
    with pytest.raises(CallError) as caught:
        await watched(events)
    assert (caught.value.code, caught.value.reason) == (grpc.StatusCode.OUT_OF_RANGE, "EVENTS_MISSED")
    again = running.client.watch_events(resume_token=journal.token(5))
    await watched(again)
    note(running, sighting("late"))
    assert (await watched(again)).event.seen.decision.subject.subject_id == "late"


@pytest.mark.parametrize("token", ["nonsense", "x.y", "x.-1", "other.3", "." * 100])
async def test_a_bad_token_is_refused(start: Start, token: str) -> None:
    running = await start()
    with pytest.raises(CallError) as caught:
        await watched(running.client.watch_events(resume_token=token))
    assert caught.value.code is grpc.StatusCode.INVALID_ARGUMENT


async def test_a_reader_goes_on_after_a_restart_of_the_server(start: Start) -> None:
    running = await start()
    note(running, sighting("ann"), sighting("bob"))
    await written(running)
    events = running.client.watch_events(resume_token=running.service.journal.token(0))
    await watched(events)
    first = await watched(events)
    assert first.event.seen.decision.subject.subject_id == "ann"
    await running.server.stop()
    await asyncio.to_thread(running.service.gallery.close)
    running = await start()
    note(running, sighting("cid"))
    events = running.client.watch_events(resume_token=first.resume_token)
    await watched(events)
    found = [(await watched(events)).event.seen.decision.subject.subject_id for _ in range(2)]
    assert found == ["bob", "cid"]


async def test_every_kind_is_told_as_it_was(start: Start) -> None:
    running = await start()
    events = running.client.watch_events()
    await watched(events)
    clock = running.service.clock()
    unknown = sighting(outcome=Outcome.UNKNOWN, track_id="t1")
    made = decision(outcome=Outcome.SPOOF, liveness=LivenessScore(0.25, 3))
    spoof = Sighting(INSIDE, "default", "t2", made, T0)
    note(running, sighting(camera=ENTRY, clock=clock), sighting(camera=EXIT, clock=clock), unknown, spoof)
    told = [(await watched(events)).event for _ in range(6)]
    kinds = [one.WhichOneof("payload") for one in told]
    assert kinds == ["seen", "arrived", "seen", "left", "unknown_person", "spoof_attempt"]
    seen, arrived, _, left, stranger, attack = told
    assert (seen.seen.camera_id, seen.seen.zone, seen.seen.collection_id) == ("door-in", "lobby", "default")
    assert seen.seen.decision.subject.external_ids == {"card_number": "card-jane"}
    assert seen.seen.decision.subject.distance == pytest.approx((2 - 2 * 0.95) ** 0.5)
    assert (seen.seen.decision.frames_looked_at, seen.seen.decision.frames_agreeing) == (3, 2)
    assert 0 < seen.seen.decision.valid_for.ToTimedelta().total_seconds() <= 5
    assert (arrived.arrived.subject_id, arrived.arrived.display_name) == ("jane", "Jane")
    assert arrived.arrived.arrive_time.ToDatetime(UTC) == left.left.leave_time.ToDatetime(UTC) == T0
    assert left.left.camera_id == "door-out"
    assert (stranger.unknown_person.track_id, stranger.unknown_person.decision.outcome) == ("t1", 3)
    assert not stranger.unknown_person.decision.HasField("subject")
    assert not stranger.unknown_person.decision.candidates
    assert attack.spoof_attempt.decision.liveness.score == pytest.approx(0.25)
    assert len({one.event_id for one in told}) == 6


async def test_a_decision_that_is_told_late_is_worth_nothing(start: Start) -> None:
    running = await start()
    note(running, sighting(clock=running.service.clock() - 4), sighting("joe", clock=running.service.clock() - 60))
    await written(running)
    events = running.client.watch_events(resume_token=running.service.journal.token(0))
    await watched(events)
    left = [(await watched(events)).event.seen.decision.valid_for.ToTimedelta().total_seconds() for _ in range(2)]
    assert 0 <= left[0] <= 1
    assert left[1] == 0


async def test_stopping_ends_the_watch(start: Start, vision: Vision) -> None:
    running = await start(vision=vision)
    events = running.client.watch_events()
    await watched(events)
    await running.server.stop()
    with pytest.raises(CallError) as caught:
        await watched(events)
    assert caught.value.reason == "SERVER_STOPPING"
