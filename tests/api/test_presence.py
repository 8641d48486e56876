"""Who is where, what happened, and who was there for how long: over gRPC, page by page."""

import asyncio
import base64
import json
from collections.abc import Callable
from datetime import UTC, timedelta
from typing import Any

import grpc
import pytest
from api.conftest import Running, Start, with_retention
from api.test_events import meet, note, written
from api.test_recognition import enrol
from events.making import at as event_at
from events.making import stay
from google.protobuf.timestamp_pb2 import Timestamp
from google.rpc import error_details_pb2, status_pb2
from sightings import ENTRY, EXIT, INSIDE, at, sighting

from facesvc.client import CallError
from facesvc.config import Settings
from facesvc.events.journal import Wanted
from facesvc.stream.presence import Camera, Direction
from facesvc.v1 import presence_pb2, presence_pb2_grpc


@pytest.fixture
def settings(settings: Settings) -> Settings:
    """Nothing is forgotten for its age: made-up events are old."""
    return with_retention(settings, 3660)


async def ask(running: Running, method: str, request: Any) -> Any:
    """One call, with exactly this request."""
    async with running.channel() as channel:
        return await getattr(presence_pb2_grpc.PresenceServiceStub(channel), method)(request)


async def refused(running: Running, method: str, request: Any) -> str:
    """The field that a call is refused for."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await ask(running, method, request)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    details = dict(caught.value.trailing_metadata() or ())["grpc-status-details-bin"]
    assert isinstance(details, bytes)
    wrong = error_details_pb2.BadRequest()
    assert any(detail.Unpack(wrong) for detail in status_pb2.Status.FromString(details).details)
    return wrong.field_violations[0].field


async def test_who_is_where_since_when(start: Start) -> None:
    running = await start()
    note(running, sighting("joe", ENTRY, seen_time=at(5)), sighting("ann", INSIDE, seen_time=at(6)))
    note(running, sighting("joe", INSIDE, seen_time=at(7)))
    ann, joe = [one async for one in running.client.list_presence()]
    assert (ann.subject_id, ann.state) == ("ann", presence_pb2.PRESENCE_STATE_SEEN)
    assert (joe.subject_id, joe.display_name, joe.zone, joe.collection_id) == ("joe", "Joe", "lobby", "default")
    assert joe.state == presence_pb2.PRESENCE_STATE_PRESENT
    assert (joe.arrive_time.ToDatetime(UTC), joe.last_seen_time.ToDatetime(UTC)) == (at(5), at(7))
    assert (joe.camera_id, joe.external_ids) == ("hall", {"card_number": "card-joe"})
    note(running, sighting("joe", EXIT, seen_time=at(8)))
    assert [one.subject_id async for one in running.client.list_presence(page_size=1)] == ["ann"]


async def test_presence_is_filtered_and_paged(start: Start) -> None:
    running = await start()
    yard = Camera("gate", "yard", Direction.ENTRY)
    note(running, *(sighting(f"p{number:02}", ENTRY) for number in range(7)), sighting("p03", yard))
    note(running, sighting("guest", ENTRY, collection_id="guests"))
    found = [(one.subject_id, one.zone) async for one in running.client.list_presence(page_size=2)]
    assert found == sorted([("guest", "lobby"), ("p03", "yard"), *((f"p{number:02}", "lobby") for number in range(7))])
    assert [one.subject_id async for one in running.client.list_presence(zone="yard")] == ["p03"]
    assert [one.subject_id async for one in running.client.list_presence(collection_id="guests")] == ["guest"]


async def test_events_of_the_past_are_listed_with_their_filters(start: Start) -> None:
    running = await start()
    for number in range(7):
        note(running, sighting(f"p{number % 2}", Camera(f"cam-{number}", "", Direction.INSIDE), seen_time=at(number)))
    note(running, sighting("guest", ENTRY, seen_time=at(9), collection_id="guests"))
    await written(running)
    client = running.client
    everything = [one async for one in client.list_events(page_size=3)]
    assert [one.event_time.ToDatetime(UTC) for one in everything] == [at(second) for second in (*range(7), 9, 9)]
    window = client.list_events(start_time=at(2), end_time=at(5), page_size=2)
    assert [one.seen.camera_id async for one in window] == ["cam-2", "cam-3", "cam-4"]
    assert len([one async for one in client.list_events(subject_id="p1")]) == 3
    assert [one.WhichOneof("payload") async for one in client.list_events(zone="lobby")] == ["seen", "arrived"]
    assert len([one async for one in client.list_events(collection_id="guests")]) == 2
    assert {one.seen.decision.valid_for.ToTimedelta() for one in everything[:1]} == {timedelta(0)}


async def test_attendance_is_by_day_and_person(start: Start) -> None:
    running = await start()
    stays = [
        stay(at(0), at(4 * 3600), "ann"),
        stay(at(5 * 3600), at(9 * 3600), "ann"),
        stay(at(3600), at(2 * 3600), "joe", zone="lab"),
        stay(at(12 * 3600), at(20 * 3600), "joe"),
    ]
    meet(running, "c", "ann", "joe")
    await asyncio.to_thread(running.service.journal.append, [], stays)
    client = running.client
    found = [one async for one in client.list_attendance(collection_id="c", time_zone="UTC", page_size=1)]
    assert [(one.date, one.subject_id) for one in found] == [
        ("2026-03-02", "ann"),
        ("2026-03-02", "joe"),
        ("2026-03-03", "joe"),
    ]
    assert [one.present_duration.seconds / 3600 for one in found] == [8, 5, 4]
    assert [one.stays for one in found] == [2, 2, 1]
    assert found[0].first_in_time.ToDatetime(UTC) == event_at(0)
    assert found[0].last_out_time.ToDatetime(UTC) == event_at(9 * 3600)
    tokyo = [one.date async for one in client.list_attendance(collection_id="c", time_zone="Asia/Tokyo")]
    assert tokyo == ["2026-03-02", "2026-03-02", "2026-03-03", "2026-03-03"]
    lab = client.list_attendance(collection_id="c", time_zone="UTC", zone="lab")
    assert [(one.subject_id, one.stays) async for one in lab] == [("joe", 1)]
    window = client.list_attendance(
        collection_id="c", time_zone="UTC", start_time=at(16 * 3600), end_time=at(17 * 3600)
    )
    assert [(one.date, one.present_duration.seconds) async for one in window] == [("2026-03-03", 3600)]
    assert [one async for one in client.list_attendance(collection_id="c", subject_id="nobody")] == []
    assert [one async for one in client.list_attendance()] == []  # "default"


async def test_who_is_present_has_no_last_out(start: Start) -> None:
    running = await start()
    now = running.service.now()
    note(running, sighting(camera=ENTRY, seen_time=now))
    await written(running)
    *_, today = [one async for one in running.client.list_attendance()]
    assert not today.HasField("last_out_time")
    assert today.first_in_time.ToDatetime(UTC) == now


@pytest.mark.parametrize("zone", ["Europe/Berlin", "UTC", "America/Argentina/Buenos_Aires", ""])
async def test_time_zones_have_names(start: Start, zone: str) -> None:
    running = await start()
    assert [one async for one in running.client.list_attendance(time_zone=zone)] == []


@pytest.mark.parametrize(
    "zone",
    ["Europe/Atlantis", "Europe", "../../etc/passwd", "/etc/localtime", "a\0b", "x" * 10_000, ".", "Ünïcode", "CET "],
)
async def test_what_is_no_time_zone_is_refused(start: Start, zone: str) -> None:
    running = await start()
    request = presence_pb2.ListAttendanceRequest(time_zone=zone)
    assert await refused(running, "ListAttendance", request) == "time_zone"


@pytest.mark.parametrize(
    ("method", "kind"),
    [
        ("ListPresence", presence_pb2.ListPresenceRequest),
        ("ListEvents", presence_pb2.ListEventsRequest),
        ("ListAttendance", presence_pb2.ListAttendanceRequest),
    ],
)
class TestEveryList:
    async def test_refuses_a_bad_page_size(self, start: Start, method: str, kind: Callable[..., Any]) -> None:
        running = await start()
        for size in (-1, 1001, 2**31 - 1):
            assert await refused(running, method, kind(page_size=size)) == "page_size"
        assert not (await ask(running, method, kind(page_size=1000))).next_page_token

    async def test_refuses_what_is_no_token(self, start: Start, method: str, kind: Callable[..., Any]) -> None:
        running = await start()
        await fill(running)
        token = (await ask(running, method, kind(page_size=1, collection_id="default"))).next_page_token
        question, *key = json.loads(base64.b64decode(token, altchars=b"-_"))
        forged: list[Any] = [
            [question],
            [question, *key, 1],
            [question, *(None for _ in key)],
            [question, *(True for _ in key)],
            [question, *(10**30 for _ in key)],
            [question, *([] for _ in key)],
            {"a": 1},
            7,
        ]
        if method == "ListAttendance":
            forged += [[question, day, "ann"] for day in ("yesterday", "0000-00-00", "2026-02-30")]
        texts = ["nonsense", "é", "A" * 5000, token + "A", token[:-4], "[" * 1000]
        texts += [base64.urlsafe_b64encode(json.dumps(value).encode()).decode() for value in forged]
        texts.append(base64.urlsafe_b64encode(b"[" * 1500).decode())
        for text in texts:
            request = kind(page_size=1, page_token=text, collection_id="default")
            assert await refused(running, method, request) == "page_token", text

    async def test_a_token_belongs_to_its_question(self, start: Start, method: str, kind: Callable[..., Any]) -> None:
        running = await start()
        await fill(running)
        token = (await ask(running, method, kind(page_size=1, collection_id="default"))).next_page_token
        assert token
        await ask(running, method, kind(page_size=2, page_token=token, collection_id="default"))
        for other in (kind(page_token=token), kind(page_token=token, collection_id="default", zone="lobby")):
            assert await refused(running, method, other) == "page_token"

    async def test_refuses_what_is_no_id(self, start: Start, method: str, kind: Callable[..., Any]) -> None:
        running = await start()
        assert await refused(running, method, kind(collection_id="no such/gallery")) == "collection_id"
        assert await refused(running, method, kind(zone="x" * 200)) == "zone"


async def fill(running: Running) -> None:
    """Something for each list to say."""
    note(running, sighting("ann", ENTRY), sighting("joe", ENTRY))
    await written(running)


@pytest.mark.parametrize(
    ("method", "kind"),
    [("ListEvents", presence_pb2.ListEventsRequest), ("ListAttendance", presence_pb2.ListAttendanceRequest)],
)
async def test_times_are_checked(start: Start, method: str, kind: Callable[..., Any]) -> None:
    running = await start()
    never = Timestamp(seconds=2**62)
    assert await refused(running, method, kind(start_time=never)) == "start_time"
    assert await refused(running, method, kind(end_time=never)) == "end_time"
    backwards = kind(start_time=Timestamp(seconds=10), end_time=Timestamp(seconds=5))
    assert await refused(running, method, backwards) == "end_time"
    ever = kind(start_time=Timestamp(seconds=-62135596800), end_time=Timestamp(seconds=253402300799))
    assert not (await ask(running, method, ever)).next_page_token


async def test_who_is_erased_was_never_there(start: Start, group_jpeg: bytes) -> None:
    running = await start()
    await enrol(running, "jane")
    note(running, sighting("jane", ENTRY), sighting("joe", ENTRY))
    await written(running)
    token = running.service.journal.token(1)
    await running.client.erase_subject("jane")
    assert [one.subject_id async for one in running.client.list_presence()] == ["joe"]
    assert len([one async for one in running.client.list_events()]) == 2
    assert [one async for one in running.client.list_events(subject_id="jane")] == []
    assert {one.subject_id async for one in running.client.list_attendance()} == {"joe"}
    events = running.client.watch_events(resume_token=token)
    assert not (await anext(events)).HasField("event")
    assert (await asyncio.wait_for(anext(events), 30)).event.seen.decision.subject.subject_id == "joe"


async def test_an_erasure_that_fails_forgets_no_future(start: Start) -> None:
    running = await start()
    with pytest.raises(CallError) as caught:
        await running.client.erase_subject("nobody")
    assert caught.value.code is grpc.StatusCode.NOT_FOUND
    note(running, sighting("nobody", ENTRY, clock=running.service.clock() + 60))
    assert [one.subject_id async for one in running.client.list_presence()] == ["nobody"]


async def test_presence_outlives_a_restart(start: Start) -> None:
    running = await start()
    note(running, sighting("jane", ENTRY, seen_time=running.service.now()))
    await running.server.stop()
    await asyncio.to_thread(running.service.gallery.close)
    running = await start()
    (jane,) = [one async for one in running.client.list_presence()]
    assert jane.state == presence_pb2.PRESENCE_STATE_PRESENT
    assert len(list(running.service.journal.stays(Wanted()))) == 1
