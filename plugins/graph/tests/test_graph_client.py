"""Requests over real sockets: batches, throttling, tokens that run out, answers that are no answers."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from datetime import timedelta
from email.utils import format_datetime

import pytest
from facesvc_graph import scripted_http
from facesvc_graph.client import Client
from facesvc_graph.replies import ForbiddenError, NoSuchError, Part, Reply, Workload, reply_of, retry_after
from facesvc_graph.scripted import Failure
from facesvc_graph.scripted_http import Request, Response
from facesvc_graph.scripted_people import ScriptedUser
from graph_making import ANA, BEN, GET_ANA, GET_BEN, World, user_id, view_part
from hypothesis import given
from hypothesis import strategies as st
from pydantic import JsonValue

from facesvc.delivery.kit import NOW
from facesvc.events.plugin import TryLaterError, UndeliverableError


@pytest.fixture
async def client(world: World) -> AsyncIterator[Client]:
    one = world.client()
    yield one
    await one.close()


def crowd(world: World, count: int) -> list[str]:
    ids = [user_id(100 + i) for i in range(count)]
    for one in ids:
        world.graph.add(ScriptedUser(one, one, f"{one}@contoso.example"))
    return ids


async def test_a_batch_holds_twenty_and_its_parts_come_in_any_order(world: World, client: Client) -> None:
    ids = crowd(world, 45)
    replies = await client.send([Part("GET", f"/users/{one}", Workload.DIRECTORY, "") for one in ids])
    assert [reply.value()["id"] for reply in replies] == ids
    assert world.graph.calls["batch"] == 3


async def test_four_requests_to_outlook_at_once_and_no_more(world: World, client: Client) -> None:
    world.graph.turns = 200
    ids = crowd(world, 10)
    many = await asyncio.gather(*(client.send([view_part(one) for one in ids]) for _ in range(3)))
    assert all(reply.error is None for replies in many for reply in replies)
    assert world.graph.outlook_peak == 4
    assert world.graph.throttled == 0


async def test_a_part_that_fails_says_nothing_of_the_others(world: World, client: Client) -> None:
    world.graph.fail("user", Failure(424, user=BEN))
    ana, ben, gone = await client.send([GET_ANA, GET_BEN, Part("GET", "/users/nobody", Workload.DIRECTORY, "")])
    assert ana.value()["displayName"] == "Ana Lima"
    with pytest.raises(TryLaterError, match="424"):
        ben.value()
    with pytest.raises(NoSuchError, match="Request_ResourceNotFound"):
        gone.value()


async def test_a_throttled_part_stops_its_workload_and_no_other(world: World, client: Client) -> None:
    world.graph.fail("calendarView", Failure(429, user=BEN, retry_after="30"))
    ana, ben, user = await client.send([view_part(ANA), view_part(BEN), GET_ANA])
    assert ana.error is None
    assert user.error is None
    assert isinstance(ben.error, TryLaterError)
    assert ben.error.after == timedelta(seconds=30)
    world.box.clock.advance(10)
    calls = world.graph.calls["calendarView"]
    held, user = await client.send([view_part(ANA), GET_ANA])
    assert isinstance(held.error, TryLaterError)
    assert held.error.after == timedelta(seconds=20)
    assert user.error is None
    assert world.graph.calls["calendarView"] == calls
    world.box.clock.advance(20)
    [again] = await client.send([view_part(ANA)])
    assert again.error is None


async def test_a_batch_in_chunks_stops_where_the_first_is_throttled(world: World, client: Client) -> None:
    ids = crowd(world, 12)
    world.graph.fail("calendarView", Failure(429, user=ids[0], retry_after="5"))
    replies = await client.send([view_part(one) for one in ids])
    assert [reply.error is None for reply in replies] == [False] + [True] * 3 + [False] * 8
    assert world.graph.calls["calendarView"] == 4


async def test_without_retry_after_the_backoff_doubles_up_to_five_minutes(world: World, client: Client) -> None:
    world.graph.fail("user", Failure(429, times=None))
    waits = []
    for _ in range(9):
        [reply] = await client.send([GET_ANA])
        assert isinstance(reply.error, TryLaterError)
        assert reply.error.after is not None
        waits.append(reply.error.after.total_seconds())
        world.box.clock.advance(waits[-1])
    assert waits == [5, 10, 20, 40, 80, 160, 300, 300, 300]
    world.graph.mend()
    assert (await client.send([GET_ANA]))[0].error is None
    world.graph.fail("user", Failure(503))
    [reply] = await client.send([GET_ANA])
    assert isinstance(reply.error, TryLaterError)
    assert reply.error.after == timedelta(seconds=5)  # it was well in between


async def test_a_throttled_batch_stops_all_that_is_in_it(world: World, client: Client) -> None:
    world.graph.fail("batch", Failure(429, retry_after="8"))
    replies = await client.send([GET_ANA, view_part(BEN)])
    assert [reply.error.after for reply in replies] == [timedelta(seconds=8)] * 2
    batches = world.graph.calls["batch"]
    await client.send([GET_ANA, view_part(BEN)])
    assert world.graph.calls["batch"] == batches


async def test_a_token_that_is_refused_is_renewed_once(world: World, client: Client) -> None:
    await client.send([GET_ANA])
    world.graph.revoke()
    replies = await asyncio.gather(*(client.send([one]) for one in (GET_ANA, GET_BEN, GET_ANA)))
    assert all(reply.error is None for [reply] in replies)
    assert world.graph.calls["token"] == 2  # for the three of them
    world.graph.fail("user", Failure(401, times=None))
    [reply] = await client.send([GET_ANA])
    assert isinstance(reply.error, TryLaterError)
    assert "does not accept the app's token" in reply.error.message


async def test_a_part_whose_token_is_refused_is_sent_again_once(world: World, client: Client) -> None:
    world.graph.fail("user", Failure(401, user=BEN))
    ana, ben = await client.send([GET_ANA, GET_BEN])
    assert ana.value()["id"] == ANA
    assert ben.value()["id"] == BEN
    assert world.graph.calls["user"] == 3
    world.graph.fail("user", Failure(401, user=BEN, times=None))
    _, ben = await client.send([GET_ANA, GET_BEN])
    assert isinstance(ben.error, TryLaterError)


async def test_a_missing_permission_is_said_in_words(world: World, client: Client) -> None:
    world.graph.roles = frozenset({"User.Read.All"})
    [reply] = await client.send([view_part()])
    assert isinstance(reply.error, ForbiddenError)
    assert reply.error.message == (
        "Microsoft Graph refuses Outlook (403 Authorization_RequestDenied"
        " request 00000000-0000-0000-0000-000000000000): the app registration needs the application permission"
        " Calendars.Read, with admin consent, and no policy that excludes this person"
    )


async def test_a_permission_that_was_granted_is_found_within_ten_minutes(world: World, client: Client) -> None:
    granted, world.graph.roles = world.graph.roles, frozenset()
    [reply] = await client.send([GET_ANA])
    assert isinstance(reply.error, ForbiddenError)
    world.graph.roles = granted
    for _ in range(9):
        world.box.clock.advance(60)
        [reply] = await client.send([GET_ANA])
        assert isinstance(reply.error, ForbiddenError)
    assert world.graph.calls["token"] == 1
    world.box.clock.advance(60)
    [reply] = await client.send([GET_ANA])
    assert reply.error is None
    assert world.graph.calls["token"] == 2


async def test_graph_that_is_away_is_tried_later(world: World, client: Client) -> None:
    world.graph.outage = True
    [reply] = await client.send([GET_ANA])
    assert isinstance(reply.error, TryLaterError)
    assert "cannot be reached" in reply.error.message
    world.graph.mend()
    await client.send([GET_ANA])
    await world.graph.stop()
    for parts in ([GET_ANA], [GET_ANA, GET_BEN]):
        assert all(isinstance(reply.error, TryLaterError) for reply in await client.send(parts))
    await world.graph.start()
    assert (await client.send([GET_ANA]))[0].error is None


async def test_names_stand_in_no_address(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    real = scripted_http.request_of

    def request_of(method: str, target: str, headers: Mapping[str, str], body: bytes) -> Request:
        seen.append(target)
        return real(method, target, headers, body)

    monkeypatch.setattr(scripted_http, "request_of", request_of)
    plugin_person = world.person(external_ids={"mail": "ana.lima@contoso.example"})
    async with world.plugin(calendar="free_busy") as plugin:
        assert await world.arrive(plugin, plugin_person) is not None
    assert seen
    assert not [one for one in seen if "ana" in one]


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"[]",
        b"{",
        b'{"responses": 5}',
        b'{"responses": [5, {"id": "x"}, {"id": "7", "status": 200}]}',
        b"[" * 9999,
    ],
)
async def test_an_answer_that_is_none_is_tried_later(
    world: World, client: Client, monkeypatch: pytest.MonkeyPatch, content: bytes
) -> None:
    async def answer(_: Request) -> Response:
        return Response(200, content, {"Content-Type": "application/json"})

    await client.tokens.token()
    monkeypatch.setattr(type(world.graph), "_graph", lambda self, request: answer(request))
    for parts in ([GET_ANA], [GET_ANA, GET_BEN])[content.startswith(b'{"') :]:
        for reply in await client.send(parts):
            with pytest.raises(TryLaterError):
                reply.value()


async def test_an_answer_without_end_is_cut(world: World, client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    async def answer(_: Request) -> Response:
        return Response(200, b"x" * 3000)

    await client.tokens.token()
    monkeypatch.setattr("facesvc_graph.client.MAX_BYTES", 2000)
    monkeypatch.setattr(type(world.graph), "_graph", lambda self, request: answer(request))
    [reply] = await client.send([GET_ANA])
    assert isinstance(reply.error, TryLaterError)
    assert "more than 2000 bytes" in reply.error.message


def test_a_picture_comes_as_bytes_or_in_base64() -> None:
    assert Reply(b"\xff\xd8").picture() == b"\xff\xd8"
    assert Reply("/9g=").picture() == b"\xff\xd8"
    for content in ("no base64!", {"a": 1}, None):
        with pytest.raises(TryLaterError):
            Reply(content).picture()


def test_retry_after_is_seconds_or_a_date_and_an_hour_at_most() -> None:
    cases = {"7": 7, " 7 ": 7, "99999999999999999999": 3600, format_datetime(NOW + timedelta(seconds=9)): 9}
    for value, seconds in cases.items():
        assert retry_after({"retry-AFTER": value}, NOW) == timedelta(seconds=seconds)
    for value in ("", "soon", "-5", "٣"):
        assert retry_after({"Retry-After": value}, NOW) is None
    assert retry_after({"Retry-After": format_datetime(NOW - timedelta(days=1))}, NOW) == timedelta()


@given(
    st.integers(100, 999), st.recursive(st.none() | st.integers() | st.text(), lambda s: st.dictionaries(st.text(), s))
)
def test_any_status_with_any_body_is_a_reply(status: int, body: JsonValue) -> None:
    reply = reply_of(GET_ANA, status, {}, {"error": body}, NOW)
    assert (reply.error is None) == (200 <= status < 300)
    if reply.error is not None:
        assert isinstance(reply.error, TryLaterError | UndeliverableError)
        assert reply.error.message.isprintable()
