"""What is not told in words is told neither by an order, nor by a token, a count or a filter."""

import asyncio
import base64
import json
from collections.abc import AsyncIterator, Iterator
from itertools import count
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
import pytest_asyncio
from api.guarded import Guarded, guarding, refusal
from api.quartz import PICTURE, about_jane, happen, make_known
from events.making import at, seen, unknown

from facesvc.api import disclosure, enrollment, past
from facesvc.client import AsyncClient, encoding, frame, opening
from facesvc.config import Settings
from facesvc.events.records import Event
from facesvc.security.principals import Principal, Scope
from facesvc.security.roles import RULES, Kind, Role
from facesvc.v1 import admin_pb2, common_pb2, enrollment_pb2, plugins_pb2, presence_pb2, recognition_pb2

FILTERS = {"team": "team-obsidian"}
CONFLICT = enrollment_pb2.ENROLLMENT_VERDICT_IDENTITY_CONFLICT


@pytest_asyncio.fixture
async def guarded(settings: Settings, tmp_path: Path) -> AsyncIterator[Guarded]:
    """A server that knows two people who look alike."""
    async with guarding(settings, tmp_path / "guarded") as guarded:
        await make_known(guarded.client(guarded.token("maker", Role.ADMIN)))
        yield guarded


def client_of(guarded: Guarded, role: Role, **limits: Any) -> AsyncClient:
    return guarded.client(guarded.token(f"{role.value}-{next(NUMBERS)}", role, scope=Scope(**limits)))


NUMBERS: Iterator[int] = count()


async def shown() -> AsyncIterator[Any]:
    yield frame(1, PICTURE)


async def test_who_is_told_no_names_filters_by_nothing(guarded: Guarded) -> None:
    asked = opening("door", filters=FILTERS, every_frame=True)
    error = await refusal(client_of(guarded, Role.CAMERA).recognize(asked, shown()))
    assert (error.code, error.reason) == (grpc.StatusCode.PERMISSION_DENIED, "FORBIDDEN")
    assert "may not filter by metadata" in str(error)
    for client in (client_of(guarded, Role.CAMERA, names=True), client_of(guarded, Role.ADMIN)):
        assert [one.frame_id async for one in client.recognize(asked, shown())] == [1]
    assert (await client_of(guarded, Role.ENROLLER).search(PICTURE, filters=FILTERS)).faces


async def journaled(guarded: Guarded, *events: Event) -> None:
    await asyncio.to_thread(guarded.service.journal.append, events, [])


async def page_of(guarded: Guarded, role: Role, scope: Scope, **asked: Any) -> presence_pb2.ListEventsResponse:
    channel = guarded.channel(guarded.token(f"{role.value}-{next(NUMBERS)}", role, scope=scope))
    call: Any = channel.unary_unary("/facesvc.v1.PresenceService/ListEvents")
    request = presence_pb2.ListEventsRequest(**asked)
    return presence_pb2.ListEventsResponse.FromString(await call(request.SerializeToString(), timeout=30))


YARD = Scope(camera_ids=frozenset({"yard"}))


async def test_no_page_ends_where_something_is_that_is_not_told(guarded: Guarded) -> None:
    vault = [about_jane(seen(at(second), camera_id="vault")) for second in range(5)]
    await journaled(guarded, *vault)
    for role in (Role.DOOR, Role.DASHBOARD):
        assert await page_of(guarded, role, YARD, page_size=1) == presence_pb2.ListEventsResponse()
    own = [about_jane(seen(at(second), camera_id="yard")) for second in (10, 20)]
    await journaled(guarded, own[0], *(about_jane(seen(at(15), camera_id="vault")) for _ in range(3)), own[1])
    first = await page_of(guarded, Role.DOOR, YARD, page_size=1)
    assert [one.event_id for one in first.events] == [own[0].event_id]
    last = await page_of(guarded, Role.DOOR, YARD, page_size=1, page_token=first.next_page_token)
    assert [one.event_id for one in last.events] == [own[1].event_id]
    assert last.next_page_token == ""


async def test_kinds_that_are_not_told_fill_no_page(guarded: Guarded) -> None:
    await happen(guarded.service)
    first = await page_of(guarded, Role.DOOR, Scope(), page_size=3)
    assert len(first.events) == 3
    last = await page_of(guarded, Role.DOOR, Scope(), page_size=3, page_token=first.next_page_token)
    assert (len(last.events), last.next_page_token) == (1, "")


async def test_a_token_cannot_be_read_or_made(guarded: Guarded) -> None:
    await journaled(guarded, *(unknown(at(second)) for second in range(300)))
    pages = [await page_of(guarded, Role.DASHBOARD, Scope(), page_size=size) for size in (1, 100, 299)]
    tokens = [json.loads(base64.urlsafe_b64decode(page.next_page_token)) for page in pages]
    assert len({len(base64.b64decode(sealed, validate=True)) for _, sealed in tokens}) == 1
    assert all(type(sealed) is str for _, sealed in tokens)
    question, sealed = tokens[0]
    for forged in (sealed[:-8] + "AAAAAAA=", "é", "AA==", ""):
        token = base64.urlsafe_b64encode(json.dumps([question, forged]).encode()).decode()
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await page_of(guarded, Role.DASHBOARD, Scope(), page_size=1, page_token=token)
        assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert "not a token of this list" in str(caught.value.details())


async def test_a_call_reads_so_much_and_the_next_goes_on(guarded: Guarded, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(past, "_BATCH", 2)
    most = 2 * past.MOST_BATCHES
    events = [about_jane(seen(at(second), camera_id="vault")) for second in range(most + 1)]
    own = about_jane(seen(at(1000), camera_id="yard"))
    await journaled(guarded, *events, own)
    near = await page_of(guarded, Role.DOOR, YARD, page_size=1, start_time=at(2))
    assert [one.event_id for one in near.events] == [own.event_id]
    first = await page_of(guarded, Role.DOOR, YARD, page_size=1)
    assert not first.events
    assert first.next_page_token
    found = [one.event_id async for one in client_of(guarded, Role.DOOR, camera_ids=YARD.camera_ids).list_events()]
    assert found == [own.event_id]


async def test_findings_do_not_stand_in_the_order_of_likeness(guarded: Guarded) -> None:
    def near(axis: int, similarity: float) -> list[float]:
        own, other = np.eye(128)[axis], np.eye(128)[axis + 1]
        return (similarity * own + (1 - similarity**2) ** 0.5 * other).tolist()  # type: ignore[no-any-return]

    admin, desk = client_of(guarded, Role.ADMIN), client_of(guarded, Role.ENROLLER)
    vectors = {"ann": near(20, 1), "bea": near(20, 0.95), "cid": near(30, 1), "dan": near(30, 0.999)}
    people = [encoding(name, one, create_subject=True, allow_conflict=True) for name, one in vectors.items()]
    assert [one.error.reason async for one in admin.import_encodings(people)] == [""] * 4
    exact = [(one.subject_id, one.other_subject_id) async for one in admin.check_gallery()]
    assert exact == [("cid", "dan"), ("ann", "bea")]
    assert [(one.subject_id, one.other_subject_id) async for one in desk.check_gallery()] == sorted(exact)
    assert [one.subject_id async for one in admin.check_gallery(max_findings=1)] == ["cid"]
    assert [one.subject_id async for one in desk.check_gallery(max_findings=1)] == ["ann"]


def test_a_check_of_a_gallery_is_a_probe() -> None:
    assert RULES["/facesvc.v1.EnrollmentService/CheckGallery"].kind is Kind.PROBE


DESK = Principal(name="desk", role=Role.ENROLLER)


def decided(*subject_ids: str, subject_id: str = "") -> recognition_pb2.RecognizedFace:
    candidates = [
        common_pb2.Candidate(subject_id=one, similarity=0.9 - number / 100) for number, one in enumerate(subject_ids)
    ]
    decision = common_pb2.Decision(threshold=0.5, candidates=candidates)
    if subject_id:
        decision.subject.subject_id = subject_id
    return recognition_pb2.RecognizedFace(decision=decision)


@pytest.mark.parametrize(
    ("face", "most", "told"),
    [
        (decided("zoe", "bea", "ann"), 20, ["ann", "bea", "zoe"]),
        (decided("zoe", "bea", "ann", subject_id="zoe"), 20, ["zoe", "ann", "bea"]),
        (decided("zoe", "bea", "ann"), 1, ["ann"]),
        (decided("zoe", "bea", "ann", subject_id="zoe"), 1, ["zoe"]),
    ],
)
def test_candidates_do_not_stand_in_the_order_of_likeness(
    face: recognition_pb2.RecognizedFace, most: int, told: list[str]
) -> None:
    exact, rounded = recognition_pb2.RecognizedFace(), recognition_pb2.RecognizedFace()
    exact.CopyFrom(face)
    rounded.CopyFrom(face)
    disclosure.faces(Principal(name="boss", role=Role.ADMIN), [exact], most)
    assert [one.subject_id for one in exact.decision.candidates] == ["zoe", "bea", "ann"][:most]
    disclosure.faces(DESK, [rounded], most)
    assert [one.subject_id for one in rounded.decision.candidates] == told


async def test_of_two_who_are_meant_no_search_says_who_is_nearer(guarded: Guarded) -> None:
    """Also for who asks for one candidate only."""
    own = np.eye(128)[0]
    twin = (0.995 * own + (1 - 0.995**2) ** 0.5 * np.eye(128)[3]).tolist()
    admin = client_of(guarded, Role.ADMIN)
    twins = [encoding("a-twin", twin, create_subject=True, allow_conflict=True)]
    assert [one.error.reason async for one in admin.import_encodings(twins)] == [""]
    exact = (await admin.search(PICTURE)).faces[0].decision
    assert exact.outcome == common_pb2.OUTCOME_AMBIGUOUS
    assert [one.subject_id for one in exact.candidates] == ["jane-q"]
    desk, kiosk = client_of(guarded, Role.ENROLLER), client_of(guarded, Role.CAMERA, names=True)
    rounded = (await desk.search(PICTURE)).faces[0].decision
    assert [one.subject_id for one in rounded.candidates] == ["a-twin"]
    both = (await desk.search(PICTURE, max_candidates=2)).faces[0].decision
    assert [one.subject_id for one in both.candidates] == ["a-twin", "jane-q"]
    [result] = [one async for one in kiosk.recognize(opening("door", every_frame=True), shown())]
    assert [one.subject_id for one in result.faces[0].decision.candidates] == ["a-twin"]


def tries(number: int) -> list[enrollment_pb2.EnrollSamplesRequest]:
    return [enrollment_pb2.EnrollSamplesRequest(subject_id="twin", image=common_pb2.Image(data=PICTURE))] * number


async def test_conflicts_are_in_the_audit_log_and_come_to_an_end(
    guarded: Guarded, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(enrollment, "MAX_CONFLICTS", 5)
    admin, desk = client_of(guarded, Role.ADMIN), client_of(guarded, Role.ENROLLER)
    await admin.create_subject(enrollment_pb2.Subject(subject_id="twin"))
    asked = desk.enroll(tries(7))
    assert [(await anext(asked)).verdict for _ in range(5)] == [CONFLICT] * 5
    error = await refusal(anext(asked))
    assert (error.code, error.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "TOO_MANY_PROBES")
    assert error.retry_delay_s == 3600
    assert [one.verdict async for one in desk.enroll(tries(4))] == [CONFLICT] * 4
    assert [one.verdict async for one in admin.enroll(tries(7))] == [CONFLICT] * 7
    await guarded.service.probes.stop()
    noted = [one async for one in admin.list_audit(action="EnrollSamples") if one.actor.startswith("enroller-")]
    assert [one.detail for one in noted] == ["calls: 1, faces: 1, matches: 1", "calls: 8, faces: 8, matches: 8"]
    assert {one.collection_id for one in noted} == {"default"}


def test_a_hundred_conflicts_are_what_is_said() -> None:
    assert enrollment.MAX_CONFLICTS == 100


@pytest.mark.parametrize(
    ("role", "limits", "tells"),
    [
        (Role.CAMERA, {}, False),
        (Role.DOOR, {}, False),
        (Role.ENROLLER, {"collection_ids": frozenset({"lab"})}, False),
        (Role.ENROLLER, {}, True),
        (Role.ADMIN, {}, True),
    ],
)
async def test_how_many_people_there_are(guarded: Guarded, role: Role, limits: dict[str, Any], *, tells: bool) -> None:
    info = await client_of(guarded, role, **limits).server_info()
    assert info.policies
    assert {one.false_positive_identification_rate > 0 for one in info.policies} == {tells}
    assert info.model_pack.embedding_contract
    assert (info.model_pack.embedded_sample_count == 2) is tells


@pytest.mark.parametrize(("role", "tells"), [(Role.DASHBOARD, False), (Role.AUDITOR, True), (Role.ADMIN, True)])
def test_what_plugins_complain_of(role: Role, *, tells: bool) -> None:
    status = plugins_pb2.PluginStatus(name="graph", problem="Jane Quartz is unknown")
    told = disclosure.statistics(Principal(name="p", role=role), admin_pb2.GetStatisticsResponse(plugins=[status]))
    assert list(told.plugins) == ([status] if tells else [])
