"""Denial of service: whoever is on the network, with or without a token, keeps nobody else from being served."""

import socket
import struct
import zlib
from collections.abc import Iterator
from contextlib import ExitStack

import pytest
from attackers.besieged import Box, refused
from attackers.wire import (
    CONTINUATION,
    DATA,
    END_HEADERS,
    HEADERS,
    PING,
    RST_STREAM,
    Wire,
    block,
    bomb,
    frame,
    message,
    secured,
)

from facesvc.client import frame as picture_frame
from facesvc.client import image, opening
from facesvc.v1 import recognition_pb2

DETECT = "/facesvc.v1.RecognitionService/Detect"
RECOGNIZE = "/facesvc.v1.RecognitionService/Recognize"
INFO = "/facesvc.v1.AdminService/GetServerInfo"
TOO_LARGE = b"message larger than max"
UNAUTHENTICATED, EXHAUSTED = b"\x0bgrpc-status\x0216", b"\x0bgrpc-status\x018"
MOST_GROWTH_MB = 200


@pytest.fixture
def wire(box: Box) -> Iterator[Wire]:
    """A connection, which at the end is closed; the server has not grown by more than a little."""
    before = box.memory_mb()
    with secured(box.port, box.ca) as connection:
        yield Wire(connection)
    assert box.memory_mb("VmHWM") - before < MOST_GROWTH_MB


def test_a_thousand_connections_that_say_nothing(box: Box) -> None:
    with ExitStack() as stack:
        silent = [
            stack.enter_context(socket.create_connection(("127.0.0.1", box.port), timeout=20)) for _ in range(1000)
        ]
        box.check_well()
        assert {one.recv(1) for one in silent} == {b""}, "they are cut off"


def test_connections_that_say_nothing_after_the_handshake(box: Box) -> None:
    with ExitStack() as stack:
        silent = [stack.enter_context(secured(box.port, box.ca)) for _ in range(200)]
        box.check_well()
        for one in silent:
            while one.recv(4096):  # the server's settings, and then its end
                pass


@pytest.mark.parametrize("who", ["", "camera"])
@pytest.mark.parametrize("method", [DETECT, RECOGNIZE])
def test_a_message_of_2_gb(box: Box, wire: Wire, who: str, method: str) -> None:
    """That it is too large is known from its first five bytes."""
    begin = message(bytes(1 << 20), length=2**31 - 1)
    wire.call(method, *([box.bearer(who)] if who else []), body=[begin, *[bytes(1 << 20)] * 2047])
    answer = wire.wait()
    assert (EXHAUSTED if who else UNAUTHENTICATED) in answer
    assert (TOO_LARGE in answer) is bool(who)


@pytest.mark.parametrize("who", ["", "camera"])
def test_a_message_that_inflates_to_1_gb(box: Box, wire: Wire, who: str) -> None:
    packed = bomb(1024)
    body = [message(packed, compressed=True)]
    wire.call(DETECT, ("grpc-encoding", "gzip"), *([box.bearer(who)] if who else []), body=body)
    answer = wire.wait()
    assert (EXHAUSTED if who else UNAUTHENTICATED) in answer
    assert (b"ecompressed " + TOO_LARGE in answer) is bool(who)


def test_many_messages_that_inflate_to_what_is_just_allowed(box: Box, wire: Wire) -> None:
    """One at a time is unpacked: these are 6 GB."""
    packed = bomb(32)
    body = (message(packed, compressed=True) for _ in range(200))
    wire.call(RECOGNIZE, ("grpc-encoding", "gzip"), box.bearer("camera"), body=body)
    assert b"grpc-status" in wire.wait()


def claims(kind: str) -> bytes:
    """The head of a picture of 60,000 x 60,000 pixels, with little behind it."""
    side = 60_000
    if kind == "png":
        head = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
        parts = [(b"IHDR", head), (b"IDAT", zlib.compress(bytes(1 << 20), 9)), (b"IEND", b"")]
        chunks = [
            struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
            for name, data in parts
        ]
        return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)
    if kind == "jpeg":
        frame_head = struct.pack(">BHHB", 8, side, side, 3) + bytes([1, 0x11, 0, 2, 0x11, 0, 3, 0x11, 0])
        return b"\xff\xd8\xff\xc0" + struct.pack(">H", len(frame_head) + 2) + frame_head + b"\xff\xda" + bytes(2000)
    # Lossless: 14 bits for each side less one, so 16,384 x 16,384 at most.
    lossless = b"\x2f" + struct.pack("<I", 0x0FFFFFFF) + bytes(2001)
    body = b"WEBPVP8L" + struct.pack("<I", len(lossless)) + lossless
    return b"RIFF" + struct.pack("<I", len(body)) + body


@pytest.mark.parametrize("kind", ["png", "jpeg", "webp"])
def test_a_picture_that_unpacks_to_gigabytes(box: Box, kind: str) -> None:
    before = box.memory_mb()
    error = refused(lambda: box.client("camera").detect(claims(kind)))
    assert (error.reason, "pixels" in str(error)) == ("IMAGE_TOO_LARGE", True)
    assert box.memory_mb("VmHWM") - before < MOST_GROWTH_MB


def test_a_request_that_dribbles_in(box: Box, wire: Wire) -> None:
    """A byte now and then counts for nothing: the whole message has its time."""
    detect = recognition_pb2.DetectRequest(image=image(box.picture)).SerializeToString()
    body = message(detect)

    def drops() -> Iterator[bytes]:
        for start in range(len(body)):
            wire.turn()
            yield body[start : start + 1]

    wire.call(DETECT, box.bearer("camera"), body=drops())
    assert b"no message came within 2 s" in wire.wait()


def test_headers_that_never_end(box: Box, wire: Wire) -> None:
    """CONTINUATION frames without a last one (CVE-2024-27316 and its like)."""
    wire.put(frame(HEADERS, 0, 1, block(DETECT)))
    junk = frame(CONTINUATION, 0, 1, b"\0\x01x\x7f\x81\x7d" + b"a" * 16_000)
    for _ in range(5_000):  # 80 MB
        wire.put(junk)
        if len(wire._out) > 1 << 20:
            wire.turn()
        if wire.closed or wire.ended():
            break
    wire.wait()
    assert wire.closed or wire.ended(), "long before the end"


def test_a_flood_of_metadata(box: Box, wire: Wire) -> None:
    fields = [(f"x-{number}", "a" * 1000) for number in range(14)]  # as much as a frame holds
    for stream in range(1, 2001, 2):
        wire.call(INFO, *fields, stream=stream)
    assert b"grpc-status" in wire.wait(1999)


def test_ten_thousand_calls_that_are_reset_at_once(box: Box, wire: Wire) -> None:
    """Rapid reset (CVE-2023-44487)."""
    headers = block(DETECT, box.bearer("wide camera"))
    for stream in range(1, 20_001, 2):
        wire.put(frame(HEADERS, END_HEADERS, stream, headers) + frame(RST_STREAM, 0, stream, struct.pack(">I", 8)))
    wire.drain()
    box.check_well()


def test_ten_thousand_calls_at_once(box: Box, wire: Wire) -> None:
    """None of which goes on: of one caller eight may be open, and the rest is refused."""
    headers = block(DETECT, box.bearer("wide camera"))
    for stream in range(1, 20_001, 2):
        wire.put(frame(HEADERS, END_HEADERS, stream, headers))
    wire.drain()
    box.check_well()


def test_a_flood_of_pings(box: Box, wire: Wire) -> None:
    for _ in range(10_000):
        wire.put(frame(PING, 0, 0, bytes(8)))
    wire.wait()
    assert wire.closed, "too many pings end the connection"


def test_who_never_takes_an_answer(box: Box) -> None:
    """What is not taken does not pile up: so many results wait, and the oldest are lost."""
    admin = box.client("admin")
    with secured(box.port, box.ca) as connection:
        wire = Wire(connection, takes=1000)
        begin = recognition_pb2.RecognizeRequest(opening=opening("gate-never", every_frame=True))
        wire.call(RECOGNIZE, box.bearer("wide camera"), body=[message(begin.SerializeToString())], ends=False)
        lost, number = 0, 0
        while lost < 20:
            one = recognition_pb2.RecognizeRequest(frame=picture_frame(number, box.picture))
            wire.send(message(one.SerializeToString()))
            number += 1
            streams = admin.get_statistics().streams
            lost = sum(one.results_dropped for one in streams if one.camera_id == "gate-never")
        assert sum(len(payload) for kind, _, _, payload in wire.frames if kind == DATA) <= 1000
        assert not wire.ended()
