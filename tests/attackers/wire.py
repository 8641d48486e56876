"""HTTP/2 as an attacker writes it, by hand (RFC 9113, RFC 7541): no client of gRPC would send such things.

Header fields are literals without an index and without Huffman's code. What a server answers is not decoded but for its
frames: messages of gRPC stand in it as they are, or in Huffman's code.
"""

import select
import socket
import ssl
import struct
import time
import zlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

DATA, HEADERS, RST_STREAM, SETTINGS, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = 0, 1, 3, 4, 6, 7, 8, 9
ACK, END_STREAM, END_HEADERS = 1, 1, 4
_INITIAL_WINDOW = 65_535
_WINDOW_SIZE = 4  # SETTINGS_INITIAL_WINDOW_SIZE
_MOST = 16_384  # of a frame's payload
_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

Field = tuple[str, str]


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    return struct.pack(">I", len(payload))[1:] + bytes([kind, flags]) + struct.pack(">I", stream) + payload


def block(path: str, *more: Field) -> bytes:
    """The header fields of a call."""
    fields = [
        (":method", "POST"),
        (":scheme", "https"),
        (":path", path),
        (":authority", "localhost"),
        ("te", "trailers"),
        ("content-type", "application/grpc"),
        *more,
    ]
    return b"".join(b"\0" + _text(name) + _text(value) for name, value in fields)


def _text(value: str) -> bytes:
    """With its length before it, an integer with a prefix of 7 bits (RFC 7541, 5.1)."""
    data = value.encode()
    if len(data) < 127:
        return bytes([len(data)]) + data
    left, head = len(data) - 127, b"\x7f"
    while left >= 128:
        head += bytes([left % 128 + 128])
        left //= 128
    return head + bytes([left]) + data


def message(content: bytes, *, compressed: bool = False, length: int | None = None) -> bytes:
    """With gRPC's prefix, which may lie about the ``length``."""
    return struct.pack(">BI", compressed, len(content) if length is None else length) + content


@cache
def bomb(megabytes: int) -> bytes:
    """So many MiB of zeros, as gzip (RFC 1952): one MiB, and again and again the same bytes."""
    squeeze = zlib.compressobj(9, zlib.DEFLATED, -15)
    block = squeeze.compress(bytes(1 << 20)) + squeeze.flush(zlib.Z_FULL_FLUSH)
    check = 0
    for _ in range(megabytes):
        check = zlib.crc32(bytes(1 << 20), check)
    head, end = b"\x1f\x8b\x08\0\0\0\0\0\0\xff", b"\x03\0"
    return head + block * megabytes + end + struct.pack("<II", check, megabytes << 20)


def secured(port: int, ca: Path) -> ssl.SSLSocket:
    """A connection to a server of gRPC."""
    context = ssl.create_default_context(cafile=ca)
    context.set_alpn_protocols(["h2"])
    plain = socket.create_connection(("127.0.0.1", port), timeout=20)
    return context.wrap_socket(plain, server_hostname="localhost")


@dataclass
class Wire:
    """One connection. ``frames`` are those that came: kind, flags, stream, payload; ``over`` the calls that have ended.

    ``takes``: so many bytes of each answer, and no more.
    """

    socket: ssl.SSLSocket
    takes: int = 1 << 30
    frames: list[tuple[int, int, int, bytes]] = field(default_factory=list)
    over: set[int] = field(default_factory=set)
    closed: bool = False
    _in: bytes = b""
    _out: bytearray = field(default_factory=bytearray)
    _window: int = _INITIAL_WINDOW
    _windows: dict[int, int] = field(default_factory=dict)
    _initial: int = _INITIAL_WINDOW

    def __post_init__(self) -> None:
        self.socket.settimeout(0)
        self.put(_PREFACE + frame(SETTINGS, 0, 0, struct.pack(">HI", _WINDOW_SIZE, self.takes)))
        self.put(frame(WINDOW_UPDATE, 0, 0, struct.pack(">I", 1 << 30)))

    def put(self, data: bytes) -> None:
        """Send it as soon as there is room."""
        self._out += data

    def call(self, path: str, *fields: Field, body: Iterable[bytes] = (), stream: int = 1, ends: bool = True) -> None:
        """A call's headers and its body, until the server has ended it."""
        self.put(frame(HEADERS, END_HEADERS, stream, block(path, *fields)))
        self._windows[stream] = self._initial
        for part in body:
            if self.closed or self.ended(stream):
                return
            self.send(part, stream)
        if ends:
            self.put(frame(DATA, END_STREAM, stream))

    def send(self, part: bytes, stream: int = 1) -> None:
        """More of a body, as fast as the server's windows allow; nothing to a call that has ended."""
        for start in range(0, len(part), _MOST):
            piece = part[start : start + _MOST]
            while not self._has_room(len(piece), stream):
                self.turn()
            if self.closed or self.ended(stream):
                return
            self._window -= len(piece)
            self._windows[stream] -= len(piece)
            self.put(frame(DATA, 0, stream, piece))
        self.turn(0)

    def _has_room(self, size: int, stream: int) -> bool:
        """Whether so much may be sent, or nothing will ever be again."""
        is_over = self.closed or self.ended(stream)
        return is_over or (min(self._window, self._windows[stream]) >= size and len(self._out) <= 1 << 20)

    def ended(self, stream: int = 1) -> bool:
        """Whether the server has ended a call, in whatever way."""
        return stream in self.over

    def wait(self, stream: int = 1, timeout_s: float = 20) -> bytes:
        """All that the server said until it ended a call, or the connection."""
        end = time.monotonic() + timeout_s
        while not (self.closed or self.ended(stream)):
            assert time.monotonic() < end, "the server neither answers nor hangs up"
            self.turn()
        return b"".join(payload for kind, _, _, payload in self.frames if kind in {HEADERS, DATA, GOAWAY})

    def drain(self) -> None:
        """Send what is waiting, as far as the other side takes it."""
        while self._out and not self.closed:
            self.turn()

    def turn(self, wait_s: float = 0.05) -> None:
        """Send and receive what can be; where nothing can, wait for a moment."""
        try:
            while self._out:
                del self._out[: self.socket.send(self._out[:65536])]
        except (ssl.SSLWantWriteError, ssl.SSLWantReadError):
            pass
        except OSError:
            self.closed = True
        try:
            data = self.socket.recv(65536)
            self.closed |= not data
            self._in += data
        except ssl.SSLWantReadError:
            select.select([self.socket], [self.socket] if self._out else [], [], wait_s)
        except OSError:
            self.closed = True
        self._parse()

    def _parse(self) -> None:
        while len(self._in) >= 9 and len(self._in) >= 9 + (size := int.from_bytes(self._in[:3])):
            kind, flags, stream = self._in[3], self._in[4], int.from_bytes(self._in[5:9]) & 0x7FFFFFFF
            payload, self._in = self._in[9 : 9 + size], self._in[9 + size :]
            self.frames.append((kind, flags, stream, payload))
            if kind == RST_STREAM or (kind in {HEADERS, DATA} and flags & END_STREAM):
                self.over.add(stream)
            if kind == WINDOW_UPDATE and stream:
                self._windows[stream] = self._windows.get(stream, 0) + int.from_bytes(payload)
            elif kind == WINDOW_UPDATE:
                self._window += int.from_bytes(payload)
            elif kind == SETTINGS and not flags & ACK:
                self._settle(payload)
            elif kind == PING and not flags & ACK:
                self.put(frame(PING, ACK, 0, payload))

    def _settle(self, payload: bytes) -> None:
        for start in range(0, len(payload), 6):
            name, value = struct.unpack(">HI", payload[start : start + 6])
            if name == _WINDOW_SIZE:
                for stream in self._windows:
                    self._windows[stream] += value - self._initial
                self._initial = value
        self.put(frame(SETTINGS, ACK, 0))
