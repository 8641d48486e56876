"""How much of the box one caller may have, over TLS and a real socket: what is beyond it is refused, and says why."""

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import ExitStack
from datetime import UTC, datetime
from typing import Any

import grpc
import pytest
import pytest_asyncio
from api.conftest import Vision
from api.guarded import Guarded, refusal
from api.pictures import grey
from api.test_access import DENIED, EXHAUSTED, UNAUTHENTICATED, Guard, guard
from google.protobuf.message import Message
from grpc_health.v1 import health_pb2, health_pb2_grpc
from sightings import sighting

from facesvc.api.access import address_of
from facesvc.client import CallError, frame, opening
from facesvc.security.roles import Role
from facesvc.stream.policy import Outcome
from facesvc.v1 import admin_pb2, recognition_pb2, recognition_pb2_grpc

__all__ = ["guard"]  # fixtures
DETECT = "/facesvc.v1.RecognitionService/Detect"
INFO = "/facesvc.v1.AdminService/GetServerInfo"
OPENING = recognition_pb2.RecognizeRequest(opening=opening("door"))
LATE = grpc.StatusCode.DEADLINE_EXCEEDED


@pytest_asyncio.fixture
async def guarded(guard: Guard) -> Guarded:
    return await guard()


async def silence() -> AsyncIterator[bytes]:
    """A request that never comes."""
    await asyncio.Event().wait()
    yield b""


async def told(call: Any) -> CallError:
    """How a bare call ended that was refused."""
    try:
        while await call.read() is not grpc.aio.EOF:
            pass
    except grpc.aio.AioRpcError as error:
        return CallError(error, "here")
    finally:
        call.cancel()
    raise AssertionError("it was let in")


def asked(message: Message) -> bytes:
    return message.SerializeToString()


async def test_a_stranger_is_refused_before_anything_is_read_of_them(guarded: Guarded) -> None:
    error = await told(guarded.channel().stream_stream(DETECT)(silence(), timeout=20))
    assert error.code is UNAUTHENTICATED


async def test_a_role_likewise(guarded: Guarded) -> None:
    channel = guarded.channel(guarded.token("lobby", Role.DASHBOARD))
    assert (await told(channel.stream_stream(DETECT)(silence(), timeout=20))).code is DENIED


async def test_a_request_that_does_not_come_is_waited_for_no_longer_than_set(guard: Guard) -> None:
    guarded = await guard(request_timeout_seconds=0.1)
    channel = guarded.channel(guarded.token("camera", Role.CAMERA))
    error = await told(channel.stream_stream(DETECT)(silence(), timeout=20))
    assert (error.code, error.reason) == (LATE, "REQUEST_TOO_SLOW")
    assert str(error) == "no message came within 0.1 s: the call is ended"


@pytest.mark.parametrize(
    ("peer", "address"),
    [
        ("ipv4:10.0.0.7:51234", "ipv4:10.0.0.7"),
        ("ipv6:%5B2001:db8:1:2:3:4:5:6%5D:51234", "ipv6:2001:db8:1:2::/64"),
        ("ipv6:%5B::ffff:10.0.0.7%5D:51234", "ipv4:10.0.0.7"),
        ("unix:", "unix:"),
    ],
)
def test_whoever_has_many_ports_or_addresses_is_one_caller(peer: str, address: str) -> None:
    assert address_of(peer) == address


async def test_who_is_put_out_hears_so_although_they_do_not_read(guarded: Guarded) -> None:
    token = guarded.token("wall", Role.DASHBOARD)
    call = guarded.channel(token).stream_stream("/facesvc.v1.PresenceService/WatchEvents")()
    await call.write(b"")
    await call.read()
    now = datetime.now(UTC)
    strangers = (sighting(track_id=f"t{n}", outcome=Outcome.UNKNOWN, seen_time=now) for n in range(4000))
    guarded.service.observer.note(list(strangers))  # more than a connection holds for who does not read
    await guarded.service.observer.read(lambda: None)
    async with asyncio.timeout(20):
        while guarded.service.observer._backlog:  # noqa: ASYNC110 - what is waited for sets no event
            await asyncio.sleep(0)
    guarded.service.tokens.revoke("wall")
    guarded.server._gatekeeper.put_out()
    assert (await told(call)).code is UNAUTHENTICATED


async def test_a_stream_that_falls_silent_is_ended(guard: Guard) -> None:
    guarded = await guard(stream_idle_timeout_seconds=0.3)
    channel = guarded.channel(guarded.token("camera", Role.CAMERA))
    call = recognition_pb2_grpc.RecognitionServiceStub(channel).Recognize()
    await call.write(OPENING)
    error = await told(call)
    assert (error.code, error.reason) == (LATE, "STREAM_IDLE")


async def test_what_is_no_request_is_said_to_be_none(guarded: Guarded) -> None:
    channel = guarded.channel(guarded.token("camera", Role.CAMERA))
    call = channel.unary_unary(DETECT)(b"\xff\xff\xff")
    error = await refusal(call)
    assert error.code is grpc.StatusCode.INVALID_ARGUMENT
    assert "no request of this call" in str(error)
    await guarded.client(guarded.token("admin", Role.ADMIN)).server_info()


async def test_a_caller_sends_so_many_bytes_a_second(guard: Guard) -> None:
    guarded = await guard(bytes_per_second=1e6, burst_seconds=1, max_image_bytes=4 << 20)
    camera, other = (guarded.client(guarded.token(name, Role.CAMERA)) for name in ("a", "b"))
    padded = grey() + bytes(1 << 20)
    await camera.detect(padded)
    error = await refusal(camera.detect(padded))
    assert (error.code, error.reason) == (EXHAUSTED, "TOO_MANY_BYTES")
    assert 0 < (error.retry_delay_s or 0) <= 2
    assert str(error).startswith("a sends more bytes than the settings allow: come again in")
    await other.detect(padded)


async def test_a_caller_sends_so_many_frames_a_second(guard: Guard) -> None:
    guarded = await guard(messages_per_second=0.001, burst_seconds=5000)
    channel = guarded.channel(guarded.token("camera", Role.CAMERA))
    call = recognition_pb2_grpc.RecognitionServiceStub(channel).Recognize()
    await call.write(OPENING)
    for number in range(4):
        await call.write(recognition_pb2.RecognizeRequest(frame=frame(number, grey())))
    await call.read()
    again = recognition_pb2_grpc.RecognitionServiceStub(channel).Recognize()
    await again.write(OPENING)
    error = await told(again)
    assert (error.code, error.reason) == (EXHAUSTED, "TOO_MANY_MESSAGES")
    assert (error.retry_delay_s or 0) > 0
    call.cancel()


async def test_a_stream_that_sends_too_much_is_ended(guard: Guard) -> None:
    guarded = await guard(messages_per_second=0.001, burst_seconds=3000)
    channel = guarded.channel(guarded.token("camera", Role.CAMERA))
    call = recognition_pb2_grpc.RecognitionServiceStub(channel).Recognize()
    await call.write(OPENING)
    await call.read()
    for number in range(3):
        await call.write(recognition_pb2.RecognizeRequest(frame=frame(number, grey())))
    error = await told(call)
    assert (error.code, error.reason) == (EXHAUSTED, "TOO_MANY_MESSAGES")


async def test_a_caller_has_so_many_streams(guard: Guard) -> None:
    guarded = await guard(max_streams_per_caller=2)
    token = guarded.token("wall", Role.DASHBOARD)
    client, other = guarded.client(token), guarded.client(guarded.token("other", Role.DASHBOARD))
    watches = [client.watch_events() for _ in range(2)]
    for watch in watches:
        await anext(watch)
    error = await refusal(client.watch_events())
    assert (error.code, error.reason) == (EXHAUSTED, "TOO_MANY_OPEN_STREAMS")
    assert str(error) == "wall has 2 streams open, and may have no more: end one, or come again"
    await client.get_statistics()
    await anext(other.watch_events())
    await watches[0].aclose()
    async with asyncio.timeout(20):
        while (error := await _tried(client)) is not None:
            assert error.reason == "TOO_MANY_OPEN_STREAMS"
    await watches[1].aclose()


async def _tried(client: Any) -> CallError | None:
    watch = client.watch_events()
    try:
        await anext(watch)
    except CallError as error:
        return error
    await watch.aclose()
    return None


async def test_a_caller_has_so_many_calls_in_the_works(guard: Guard) -> None:
    vision = Vision()
    vision.gate.clear()
    guarded = await guard(vision=vision, max_calls_per_caller=1)
    client = guarded.client(guarded.token("camera", Role.CAMERA))
    slow = asyncio.create_task(client.detect(grey()))
    assert await asyncio.to_thread(vision.entered.acquire, timeout=30)
    error = await refusal(client.detect(grey()))
    assert (error.code, error.reason) == (EXHAUSTED, "TOO_MANY_OPEN_CALLS")
    vision.gate.set()
    await slow
    await client.detect(grey())


async def test_a_day_has_so_many_probes_of_those_who_may_not_read_templates(guard: Guard) -> None:
    guarded = await guard(probes_per_day=2)
    officer = guarded.client(guarded.token("officer", Role.ENROLLER))
    admin = guarded.client(guarded.token("admin", Role.ADMIN))
    await officer.compare(grey(), grey())
    await officer.search(grey())
    error = await refusal(officer.compare(grey(), grey()))
    assert (error.code, error.reason) == (EXHAUSTED, "TOO_MANY_PROBES")
    assert 40_000 < (error.retry_delay_s or 0) <= 43_200
    await officer.detect(grey())
    for _ in range(3):
        await admin.compare(grey(), grey())


async def test_what_somebody_may_not_is_counted_too(guard: Guard) -> None:
    guarded = await guard(calls_per_second=0.001, burst_seconds=2000)
    camera = guarded.client(guarded.token("door", Role.CAMERA))
    reasons = [(await refusal(camera.get_statistics())).reason for _ in range(3)]
    assert reasons == ["FORBIDDEN", "FORBIDDEN", "TOO_MANY_CALLS"]


async def test_an_administrator_is_held_to_the_limits_too(guard: Guard) -> None:
    guarded = await guard(probes_per_second=0.001, burst_seconds=1000)
    client = guarded.client(guarded.token("admin", Role.ADMIN))
    await client.embed(grey())
    assert (await refusal(client.compare(grey(), grey()))).reason == "TOO_MANY_CALLS"


async def test_health_is_for_everybody_but_not_without_an_end(guard: Guard) -> None:
    guarded = await guard(max_calls_per_caller=2)
    stub = health_pb2_grpc.HealthStub(guarded.channel())
    watch = stub.Watch(health_pb2.HealthCheckRequest())
    assert (await watch.read()).status == health_pb2.HealthCheckResponse.SERVING
    assert await _health(stub) is grpc.StatusCode.OK
    hanging = guarded.channel().stream_unary("/grpc.health.v1.Health/Check")(silence(), timeout=20)
    async with asyncio.timeout(20):
        while (await _health(stub)) is not EXHAUSTED:
            pass
    assert (await told(stub.Watch(health_pb2.HealthCheckRequest()))).reason == "TOO_MANY_OPEN_CALLS"
    watch.cancel()
    hanging.cancel()


async def test_strangers_are_not_listened_to_for_long(guarded: Guarded) -> None:
    stub = health_pb2_grpc.HealthStub(guarded.channel())
    error = await told(stub.Watch(health_pb2.HealthCheckRequest(service="x" * (1 << 20))))
    assert error.code is grpc.StatusCode.INVALID_ARGUMENT
    assert "and may have 1024" in str(error)


async def _health(stub: health_pb2_grpc.HealthStub) -> grpc.StatusCode:
    try:
        await stub.Check(health_pb2.HealthCheckRequest())
    except grpc.aio.AioRpcError as error:
        return error.code()
    return grpc.StatusCode.OK


async def test_a_thousand_who_connect_and_say_nothing_stop_nobody_and_are_cut_off(guard: Guard) -> None:
    guarded = await guard(handshake_timeout_seconds=0.5)
    loop = asyncio.get_running_loop()
    with ExitStack() as stack:
        silent = [
            stack.enter_context(socket.create_connection(("127.0.0.1", guarded.port), timeout=20)) for _ in range(1000)
        ]
        assert (await guarded.client(guarded.token("admin", Role.ADMIN)).server_info()).version
        for one in silent:
            one.setblocking(False)  # noqa: FBT003 - the library's argument
        assert set(await asyncio.gather(*(loop.sock_recv(one, 1) for one in silent))) == {b""}


async def test_who_says_nothing_after_the_handshake_is_cut_off(guard: Guard) -> None:
    guarded = await guard(handshake_timeout_seconds=0.5)
    context = ssl.create_default_context(cadata=guarded.authority.pem.decode())
    context.set_alpn_protocols(["h2"])
    reader, writer = await asyncio.open_connection("127.0.0.1", guarded.port, ssl=context, server_hostname="localhost")
    async with asyncio.timeout(20):
        await reader.read()
    writer.close()


async def test_a_connection_without_a_call_is_closed(guard: Guard) -> None:
    guarded = await guard(connection_idle_timeout_seconds=1.0)
    channel = guarded.channel(guarded.token("admin", Role.ADMIN))
    await channel.unary_unary(INFO)(asked(admin_pb2.GetServerInfoRequest()))
    async with asyncio.timeout(20):
        while (state := channel.get_state()) is grpc.ChannelConnectivity.READY:
            await channel.wait_for_state_change(state)
