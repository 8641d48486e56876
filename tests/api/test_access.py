"""Who gets in: over TLS and a real socket, with tokens, with certificates, and with neither."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import grpc
import pytest_asyncio
from api.conftest import Vision, with_limits
from api.guarded import Guarded, guarding, refusal
from api.pictures import grey
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from facesvc.client import AsyncClient, frame, opening
from facesvc.config import Settings
from facesvc.database.opening import open_database
from facesvc.security.authority import Authority
from facesvc.security.roles import RULES, Role
from facesvc.security.tokens import Tokens
from facesvc.v1 import admin_pb2, presence_pb2, presence_pb2_grpc

UNAUTHENTICATED, DENIED = grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.PERMISSION_DENIED
EXHAUSTED = grpc.StatusCode.RESOURCE_EXHAUSTED
GUARDED = {method: rule for method, rule in RULES.items() if not rule.public}
FALSE = f"fsv_{'0' * 26}_{'A' * 43}"

Guard = Callable[..., Awaitable[Guarded]]


Code = grpc.StatusCode


@pytest_asyncio.fixture
async def guard(settings: Settings, tmp_path: Path) -> AsyncIterator[Guard]:
    """Starts a server with other limits."""
    async with AsyncExitStack() as stack:

        async def start(vision: Vision | None = None, **limits: Any) -> Guarded:
            limited = with_limits(settings, **limits)
            return await stack.enter_async_context(guarding(limited, tmp_path / "guarded", vision))

        yield start


@pytest_asyncio.fixture
async def guarded(guard: Guard) -> Guarded:
    return await guard()


async def ask(channel: grpc.aio.Channel, method: str, *metadata: tuple[str, str], sent: bytes | None = None) -> Code:
    """Call anything, without a request or with what is ``sent``, as who knows no more than its name; how it ended.

    Who sends and is refused meanwhile may hear INTERNAL: grpc.aio's client keeps the failure to send, not the status.
    """
    call = channel.stream_stream(method)(iter(() if sent is None else (sent,)), metadata=metadata, timeout=20)
    try:
        async for _ in call:
            return grpc.StatusCode.OK  # it was let in, and might go on for ever
    except grpc.aio.AioRpcError:
        pass
    finally:
        call.cancel()
    return await call.code()


async def test_without_a_token_nothing_is_answered(guarded: Guarded) -> None:
    channel = guarded.channel()
    codes = {method: await ask(channel, method) for method in GUARDED}
    assert codes == dict.fromkeys(GUARDED, UNAUTHENTICATED)
    error = await refusal(guarded.client().server_info())
    assert error.reason == "UNAUTHENTICATED"
    assert "show a token" in str(error)


async def test_a_call_that_is_not_there_tells_a_stranger_no_more(guarded: Guarded) -> None:
    assert await ask(guarded.channel(), "/facesvc.v1.AdminService/OpenTheDoor") is grpc.StatusCode.UNIMPLEMENTED


async def test_what_is_no_token_opens_nothing(guarded: Guarded) -> None:
    channel, good = guarded.channel(), guarded.token("admin", Role.ADMIN)
    method = "/facesvc.v1.AdminService/GetServerInfo"
    for value in ("", "Bearer", "Bearer ", f"Bearer  {good}", f"Basic {good}", good):
        assert await ask(channel, method, ("authorization", value)) in {UNAUTHENTICATED, EXHAUSTED}
    two = [("authorization", f"Bearer {token}") for token in (good, FALSE)]
    assert await ask(channel, method, *two) in {UNAUTHENTICATED, EXHAUSTED}
    for scheme in ("Bearer", "bearer"):
        assert await ask(channel, method, ("authorization", f"{scheme} {good}"), sent=b"") is grpc.StatusCode.OK


async def test_a_role_is_let_into_its_own_calls_only(guarded: Guarded) -> None:
    for role in Role:
        channel = guarded.channel(guarded.token(role.value, role))
        codes = {method: await ask(channel, method) for method in GUARDED}
        wrong = {method: code for method, code in codes.items() if (code is DENIED) is GUARDED[method].allows(role)}
        assert wrong == {}, role
        assert UNAUTHENTICATED not in codes.values()


async def test_a_refusal_says_who_may_not_do_what(guarded: Guarded) -> None:
    error = await refusal(guarded.client(guarded.token("gate-1", Role.CAMERA)).list_subjects())
    assert (error.code, error.reason) == (DENIED, "FORBIDDEN")
    assert str(error) == "gate-1 has the role camera, which may not call ListSubjects"


async def test_a_token_is_good_until_its_time(guarded: Guarded) -> None:
    client = guarded.client(guarded.token("visitor", Role.AUDITOR, hours=1))
    assert (await client.server_info()).version
    guarded.ahead = timedelta(hours=1)
    assert (await refusal(client.server_info())).code is UNAUTHENTICATED


async def watching(client_channel: grpc.aio.Channel) -> Any:
    """A stream of events that is open."""
    call = presence_pb2_grpc.PresenceServiceStub(client_channel).WatchEvents(presence_pb2.WatchEventsRequest())
    assert (await anext(aiter(call))).resume_token
    return call


async def test_open_streams_end_with_the_token(guarded: Guarded) -> None:
    admin = guarded.client(guarded.token("admin", Role.ADMIN))
    ended = await watching(guarded.channel(guarded.token("wall", Role.DASHBOARD)))
    stays = await watching(guarded.channel(guarded.token("other-wall", Role.DASHBOARD)))
    await admin.revoke_token("wall")
    error = await asyncio.wait_for(refusal(ended), 20)
    assert (error.code, error.reason) == (UNAUTHENTICATED, "UNAUTHENTICATED")
    assert "what wall showed is over or was revoked" in str(error)
    assert not stays.done()
    stays.cancel()


async def test_open_streams_end_when_the_time_is_over(guarded: Guarded) -> None:
    ended = await watching(guarded.channel(guarded.token("wall", Role.DASHBOARD, hours=1)))
    guarded.ahead = timedelta(hours=1)
    assert (await asyncio.wait_for(refusal(ended), 20)).code is UNAUTHENTICATED


async def test_a_camera_that_streams_is_put_out(guarded: Guarded) -> None:
    admin, camera = (guarded.client(guarded.token(role.value, role)) for role in (Role.ADMIN, Role.CAMERA))

    async def frames() -> AsyncIterator[Any]:
        yield frame(1, grey())
        await asyncio.Event().wait()

    results = camera.recognize(opening("gate"), frames())
    assert (await anext(results)).frame_id == 1
    await admin.revoke_token("camera")
    assert (await asyncio.wait_for(refusal(results), 20)).code is UNAUTHENTICATED


async def test_who_revokes_their_own_token_is_told_that_it_was_done(guarded: Guarded) -> None:
    admin = guarded.client(guarded.token("admin", Role.ADMIN))
    await admin.revoke_token("admin")
    assert (await refusal(admin.server_info())).code is UNAUTHENTICATED


async def test_what_another_box_revokes_ends_here_too(settings: Settings, tmp_path: Path, postgres_url: str) -> None:
    shared = settings.model_copy(update={"store": settings.store.model_copy(update={"url": postgres_url})})
    async with guarding(shared, tmp_path / "guarded") as guarded:
        ended = await watching(guarded.channel(guarded.token("wall", Role.DASHBOARD)))
        with closing(open_database(postgres_url)) as database:
            Tokens(database, bytes(32), lambda: datetime.now(UTC)).revoke("wall")
        assert (await asyncio.wait_for(refusal(ended), 20)).code is UNAUTHENTICATED


async def test_guessing_slows_down_and_shuts_out_nobody_else(guarded: Guarded) -> None:
    text = guarded.token("admin", Role.ADMIN)
    good, other = guarded.client(text), guarded.client(guarded.token("auditor", Role.AUDITOR))
    for guess in (FALSE, text[:31] + "A" * 43):
        errors = [await refusal(guarded.client(guess).server_info()) for _ in range(7)]
        assert [error.code for error in errors] == [UNAUTHENTICATED] * 6 + [EXHAUSTED]
        assert errors[-1].reason == "TOO_MANY_WRONG_TOKENS"
        assert 0 < (errors[-1].retry_delay_s or 0) <= 1
        assert (await other.server_info()).version
    # Where somebody guesses at this very token, also a right guess is not listened to.
    assert (await refusal(good.server_info())).code is EXHAUSTED


async def test_probes_of_the_gallery_are_counted_for_each_caller(guard: Guard) -> None:
    guarded = await guard(probes_per_second=0.001, burst_seconds=3000)
    first, second = (guarded.client(guarded.token(name, Role.ENROLLER)) for name in ("first", "second"))
    for _ in range(2):
        await first.compare(grey(), grey())
    await first.search(grey())
    for probe in (first.compare(grey(), grey()), first.search(grey())):
        error = await refusal(probe)
        assert (error.code, error.reason) == (EXHAUSTED, "TOO_MANY_CALLS")
        assert 900 < (error.retry_delay_s or 0) <= 1000
    await first.detect(grey())
    await second.compare(grey(), grey())


async def test_calls_are_counted_too(guard: Guard) -> None:
    guarded = await guard(calls_per_second=0.001, burst_seconds=2000)
    client = guarded.client(guarded.token("auditor", Role.AUDITOR))
    await client.server_info()
    await client.list_models()
    assert (await refusal(client.server_info())).reason == "TOO_MANY_CALLS"


async def test_a_certificate_says_who_calls(guarded: Guarded) -> None:
    now = datetime.now(UTC)
    camera = guarded.client(identity=guarded.authority.issue_client("gate", Role.CAMERA, now), address=guarded.mtls)
    assert (await camera.server_info()).version
    assert "gate has the role camera" in str(await refusal(camera.list_subjects()))
    admin = guarded.client(identity=guarded.authority.issue_client("boss", Role.ADMIN, now), address=guarded.mtls)
    await admin.create_token(admin_pb2.Token(name="wall", role=admin_pb2.ROLE_DASHBOARD))
    [entry] = [entry async for entry in admin.list_audit()]
    assert entry.actor.startswith("boss at ipv4:127.0.0.1:")


async def test_a_stream_ends_with_the_certificate_that_opened_it(guarded: Guarded) -> None:
    own = guarded.authority.issue_client("wall", Role.DASHBOARD, datetime.now(UTC), timedelta(seconds=2))
    watch = guarded.client(identity=own, address=guarded.mtls).watch_events()
    await anext(watch)
    async with asyncio.timeout(20):
        error = await refusal(watch)
    assert error.code is UNAUTHENTICATED
    assert "what wall showed is over" in str(error)


async def test_a_certificate_of_nobody_is_refused(guarded: Guarded) -> None:
    now = datetime.now(UTC)
    token = guarded.token("admin", Role.ADMIN)
    over = guarded.authority.issue_client("gate", Role.ADMIN, now - timedelta(days=2), timedelta(days=1))
    stranger = Authority.make("a test", now).issue_client("gate", Role.ADMIN, now)
    for identity in (None, stranger, over):
        client = guarded.client(token, identity, address=guarded.mtls)
        assert (await refusal(client.server_info())).code is grpc.StatusCode.UNAVAILABLE
    # Where no certificate is asked for, one shows nothing.
    own = guarded.authority.issue_client("gate", Role.ADMIN, now)
    assert (await refusal(guarded.client(identity=own).server_info())).code is UNAUTHENTICATED


async def test_the_certificate_of_a_server_is_no_clients(guarded: Guarded) -> None:
    issued = guarded.authority.issue_server(["box"], datetime.now(UTC))
    client = guarded.client(identity=issued, address=guarded.mtls)
    assert (await refusal(client.server_info())).code in {UNAUTHENTICATED, grpc.StatusCode.UNAVAILABLE}


async def test_health_says_how_it_is_to_anybody_and_reflection_does_not(guarded: Guarded) -> None:
    channel = guarded.channel()
    health = health_pb2_grpc.HealthStub(channel)
    assert (await health.Check(health_pb2.HealthCheckRequest())).status == health_pb2.HealthCheckResponse.SERVING
    listing = reflection_pb2.ServerReflectionRequest(list_services="")
    for token, code in (("", UNAUTHENTICATED), (guarded.token("door", Role.DOOR), DENIED)):
        stub = reflection_pb2_grpc.ServerReflectionStub(guarded.channel(token))
        assert (await refusal(stub.ServerReflectionInfo(iter(())))).code is code  # nothing is sent: see ask
    stub = reflection_pb2_grpc.ServerReflectionStub(guarded.channel(guarded.token("auditor", Role.AUDITOR)))
    answers = [answer async for answer in stub.ServerReflectionInfo(iter([listing]))]
    assert answers[0].list_services_response.service


async def test_who_speaks_plain_text_is_not_heard(guarded: Guarded) -> None:
    async with AsyncClient(guarded.address) as client:
        assert (await refusal(client.server_info())).code is grpc.StatusCode.UNAVAILABLE
