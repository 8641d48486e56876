"""Who is told what of people: over a real server, as bytes, so that nothing is overlooked."""

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import grpc
import pytest
import pytest_asyncio
from api.conftest import with_retention
from api.guarded import Guarded, guarding, refusal
from api.quartz import BADGE, GRAPH, NAME, OTHER_BADGE, OTHER_NAME, PICTURE, TEAM, happen, make_known, stream
from events.making import at as event_at
from events.making import stay
from google.protobuf.message import Message
from sightings import ENTRY, sighting
from ulid import ULID

from facesvc.client import AsyncClient, frame, opening
from facesvc.config import Settings
from facesvc.gallery import Subject
from facesvc.security.principals import Scope
from facesvc.security.roles import RULES, Role
from facesvc.stream.presence import Camera, Direction
from facesvc.v1 import admin_pb2, common_pb2, enrollment_pb2, presence_pb2, recognition_pb2

NAMES = Scope(names=True)


@pytest.fixture
def settings(settings: Settings) -> Settings:
    """Nothing is forgotten for its age: made-up events are old."""
    return with_retention(settings, 3660)


@pytest_asyncio.fixture
async def guarded(settings: Settings, tmp_path: Path) -> AsyncIterator[Guarded]:
    """A server that knows two people who look alike, and has seen one of them."""
    async with guarding(settings, tmp_path / "guarded") as guarded:
        await make_known(guarded.client(guarded.token("maker", Role.ADMIN)))
        await happen(guarded.service)
        yield guarded


def opened(**fields: Any) -> recognition_pb2.RecognizeRequest:
    return recognition_pb2.RecognizeRequest(opening=opening("door", max_candidates=20, every_frame=True, **fields))


def filmed() -> list[Message]:
    frames = [recognition_pb2.RecognizeRequest(frame=frame(number, PICTURE)) for number in range(3)]
    return [opened(), *frames]


@dataclass
class Asked:
    """What is asked by each call, as bytes, and what is answered."""

    guarded: Guarded

    def requests(self) -> dict[str, Iterable[list[Message]]]:
        token = self.guarded.service.journal.token(0)
        wrong = recognition_pb2.RecognizeRequest(opening=opening("door", policy="no-such-policy"))
        acknowledged = presence_pb2.AcknowledgeDecisionRequest(
            event_id="e", nonce="n", door="front", action=presence_pb2.DOOR_ACTION_OPENED
        )
        return {
            "RecognitionService/Detect": [[recognition_pb2.DetectRequest(image=common_pb2.Image(data=PICTURE))]],
            "RecognitionService/Recognize": [filmed(), [wrong], [opened(collection_id="elsewhere")]],
            "PresenceService/WatchEvents": [[presence_pb2.WatchEventsRequest(resume_token=token)]],
            "PresenceService/ListEvents": [
                [presence_pb2.ListEventsRequest()],
                [presence_pb2.ListEventsRequest(subject_id="jane-q", page_size=1)],
            ],
            "PresenceService/AcknowledgeDecision": [[acknowledged]],
            "AdminService/GetServerInfo": [[admin_pb2.GetServerInfoRequest()]],
        }

    async def answers(self, role: Role, calls: Iterable[str]) -> bytes:
        """Everything that a role gets for these calls: messages, and the words of refusals."""
        channel, found = self.guarded.channel(self.guarded.token(f"{role.value}-{ULID()}", role)), []
        for name in calls:
            for messages in self.requests()[name]:
                sent = iter([one.SerializeToString() for one in messages])
                call = channel.stream_stream(f"/facesvc.v1.{name}")(sent, timeout=30)
                found += await self._read(call, watches=name.endswith("WatchEvents"))
        return b"\n".join(found)

    async def _read(self, call: Any, *, watches: bool) -> list[bytes]:
        found: list[bytes] = []
        last = self.guarded.service.journal.token(self.guarded.service.journal.head).encode()
        with suppress(grpc.aio.AioRpcError):
            async for answer in call:
                found.append(answer)
                if watches and last in answer:
                    call.cancel()
                    return found
        details = await call.details()
        metadata = await call.trailing_metadata()
        return [*found, str(details).encode(), str(metadata).encode()]


def allowed(role: Role) -> set[str]:
    return {
        method.removeprefix("/facesvc.v1.")
        for method, rule in RULES.items()
        if role in rule.roles and not rule.public and "/facesvc." in method
    }


@pytest.mark.parametrize(
    ("role", "hidden", "shown"),
    [
        (Role.CAMERA, [NAME, OTHER_NAME, BADGE, OTHER_BADGE, GRAPH, TEAM, "jane-q", "eve-o", "sample-"], []),
        (Role.DOOR, [NAME, OTHER_NAME, OTHER_BADGE, GRAPH, TEAM, "eve-o", "sample-", "meeting"], ["jane-q", BADGE]),
    ],
)
async def test_no_byte_of_any_answer_holds_more(
    guarded: Guarded, role: Role, hidden: list[str], shown: list[str]
) -> None:
    asked = Asked(guarded)
    calls = allowed(role)
    assert calls <= set(asked.requests()), "a role may call something that this test does not know"
    exact = await asked.answers(Role.ADMIN, calls)
    assert NAME.encode() in exact
    assert BADGE.encode() in exact
    told = await asked.answers(role, calls)
    assert [text for text in hidden if text.encode() in told] == []
    assert [text for text in shown if text.encode() not in told] == []


async def test_a_camera_hears_that_somebody_was_recognised(guarded: Guarded) -> None:
    client = guarded.client(guarded.token("gate", Role.CAMERA))
    [face] = (await stream(client))[-1].faces
    decision = face.decision
    assert decision.outcome == common_pb2.OUTCOME_MATCH
    assert not decision.HasField("subject")
    assert not decision.candidates
    assert decision.decision_id
    assert decision.policy == "presence"
    assert decision.valid_for.ToTimedelta() > timedelta(0)
    assert face.track.track_id
    assert face.face.box.width > 0


async def test_a_camera_that_may_is_told_the_name(guarded: Guarded) -> None:
    client = guarded.client(guarded.token("kiosk", Role.CAMERA, scope=NAMES))
    [face] = (await stream(client))[-1].faces
    subject = face.decision.subject
    assert (subject.subject_id, subject.display_name) == ("jane-q", NAME)
    assert subject.external_ids == {"card_number": BADGE, "graph_user_id": GRAPH}
    assert subject.sample_id == ""
    assert subject.similarity == face.decision.threshold
    assert [one.subject_id for one in face.decision.candidates] == ["jane-q"]


async def test_a_camera_with_a_certificate_is_told_no_name(guarded: Guarded) -> None:
    now = guarded.service.now()
    identity = guarded.authority.issue_client("gate", Role.CAMERA, now)
    client = guarded.client(identity=identity, address=guarded.mtls)
    [face] = (await stream(client))[-1].faces
    assert face.decision.outcome == common_pb2.OUTCOME_MATCH
    assert not face.decision.HasField("subject")


@pytest.mark.parametrize("role", [Role.DASHBOARD, Role.DOOR])
async def test_events_are_told_in_steps_and_without_samples(guarded: Guarded, role: Role) -> None:
    client = guarded.client(guarded.token("reader", role))
    first = await anext(aiter(client.list_events()))
    subject = first.seen.decision.subject
    assert subject.subject_id == "jane-q"
    assert (subject.similarity, subject.sample_id) == (first.seen.decision.threshold, "")
    assert subject.display_name == (NAME if role is Role.DASHBOARD else "")


def kinds(events: Iterable[presence_pb2.Event]) -> list[str]:
    return [str(one.WhichOneof("payload")) for one in events]


async def watched(client: AsyncClient, guarded: Guarded) -> list[presence_pb2.Event]:
    """All events from the first on, up to the newest."""
    journal, found = guarded.service.journal, []
    async with asyncio.timeout(30):
        async for answer in client.watch_events(resume_token=journal.token(0)):
            if answer.HasField("event"):
                found.append(answer.event)
            if answer.resume_token == journal.token(journal.head):
                return found
    raise AssertionError("the watch ended")


async def test_a_door_is_told_decisions_alone(guarded: Guarded) -> None:
    door, wall = (guarded.client(guarded.token(role.value, role)) for role in (Role.DOOR, Role.DASHBOARD))
    for client, expected in (
        (door, ["seen", "unknown_person", "spoof_attempt", "seen"]),
        (wall, ["seen", "arrived", "left", "enriched", "unknown_person", "spoof_attempt", "seen"]),
    ):
        assert sorted(kinds([one async for one in client.list_events()])) == sorted(expected)
        assert kinds(await watched(client, guarded)) == expected


@pytest.mark.parametrize("size", [1, 2, 3, 100])
async def test_pages_go_on_over_what_is_not_told(guarded: Guarded, size: int) -> None:
    door = guarded.client(guarded.token("door", Role.DOOR, scope=Scope(camera_ids=frozenset({"yard"}))))
    assert [one.seen.camera_id async for one in door.list_events(page_size=size)] == ["yard"]


async def test_a_watch_moves_on_over_what_is_not_told(guarded: Guarded) -> None:
    door = guarded.client(guarded.token("door", Role.DOOR, scope=Scope(camera_ids=frozenset({"roof"}))))
    assert await watched(door, guarded) == []


async def test_who_is_limited_to_cameras_is_told_of_these(guarded: Guarded) -> None:
    scope = Scope(camera_ids=frozenset({"yard", "gate"}))
    wall = guarded.client(guarded.token("wall", Role.DASHBOARD, scope=scope))
    assert kinds([one async for one in wall.list_events()]) == ["seen"]
    assert kinds(await watched(wall, guarded)) == ["seen"]
    yard = Camera("yard", "yard", Direction.ENTRY)
    now = guarded.service.now()
    guarded.service.observer.note([sighting("jane-q", ENTRY, seen_time=now), sighting("jane-q", yard, seen_time=now)])
    assert [(one.camera_id, one.zone) async for one in wall.list_presence()] == [("yard", "yard")]
    await asyncio.to_thread(guarded.service.gallery.create_subject, person("jane", "c", guarded))
    stays = [stay(event_at(0), event_at(3600)), replace(stay(event_at(7200), event_at(9000)), camera_id="yard")]
    await asyncio.to_thread(guarded.service.journal.append, [], stays)
    [day] = [one async for one in wall.list_attendance(collection_id="c", time_zone="UTC")]
    assert (day.stays, day.present_duration.seconds) == (1, 1800)
    everybody = guarded.client(guarded.token("boss", Role.ADMIN))
    [day] = [one async for one in everybody.list_attendance(collection_id="c", time_zone="UTC")]
    assert day.stays == 2


def person(subject_id: str, collection_id: str, guarded: Guarded) -> Subject:
    now = guarded.service.now()
    return Subject(
        collection_id=collection_id, subject_id=subject_id, display_name=subject_id, create_time=now, update_time=now
    )


async def test_statistics_are_of_the_callers_cameras(guarded: Guarded) -> None:
    wall = guarded.client(guarded.token("wall", Role.DASHBOARD, scope=Scope(camera_ids=frozenset({"yard"}))))
    boss = guarded.client(guarded.token("boss", Role.ADMIN))
    end = asyncio.Event()

    async def film() -> AsyncIterator[Any]:
        yield frame(1, PICTURE)
        await end.wait()

    results = [boss.recognize(opening(camera), film()) for camera in ("door", "yard")]
    for one in results:
        await anext(one)
    assert {one.camera_id for one in (await boss.get_statistics()).streams} == {"door", "yard"}
    assert {one.camera_id for one in (await wall.get_statistics()).streams} == {"yard"}
    for one in results:
        await one.aclose()


async def test_the_galleries_are_told_to_those_who_have_to_do_with_them(guarded: Guarded) -> None:
    boss = guarded.client(guarded.token("boss", Role.ADMIN))
    await boss.create_subject(enrollment_pb2.Subject(subject_id="ada", collection_id="lab"))

    async def listed(role: Role, **limits: Any) -> set[str]:
        client = guarded.client(guarded.token(f"{role.value}-{len(limits)}", role, scope=Scope(**limits)))
        return {one.collection_id for one in (await client.server_info()).collections}

    assert await listed(Role.DASHBOARD) == {"default", "lab"}
    assert await listed(Role.DASHBOARD, collection_ids=frozenset({"lab"})) == {"lab"}
    assert await listed(Role.CAMERA) == await listed(Role.DOOR) == set()


@pytest.mark.parametrize("role", [admin_pb2.ROLE_CAMERA, admin_pb2.ROLE_DOOR, admin_pb2.ROLE_DASHBOARD])
async def test_tokens_are_limited_to_cameras(guarded: Guarded, role: admin_pb2.Role.ValueType) -> None:
    boss = guarded.client(guarded.token("boss", Role.ADMIN))
    made, _ = await boss.create_token(admin_pb2.Token(name="one", role=role, camera_ids=["yard"]))
    assert list(made.camera_ids) == ["yard"]
    wrong = admin_pb2.Token(name="two", role=admin_pb2.ROLE_ENROLLER, camera_ids=["yard"])
    assert (await refusal(boss.create_token(wrong))).field == "token.camera_ids"
