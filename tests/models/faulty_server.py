"""A real HTTP server that does what servers, proxies and lines do wrong, one answer at a time."""

import hashlib
import re
import ssl
import threading
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Self


@dataclass(frozen=True)
class Answer:
    """What is wrong with the answer to one request; by default nothing."""

    status: int | None = None
    """Instead of the file: this status and a short text."""
    headers: Mapping[str, str | None] = field(default_factory=dict)
    """Instead of those that are right; without those that are None."""
    cut_after: int | None = None
    """The connection ends after so many bytes."""
    stall_after: int | None = None
    """Nothing comes after so many bytes until the server is released."""
    corrupt_at: int | None = None
    """The byte at this place of the file is another one."""
    ignore_ranges: bool = False
    endless: bool = False


FINE = Answer()


@dataclass(frozen=True)
class Asked:
    """A request as it came."""

    path: str
    headers: Mapping[str, str]

    @property
    def range(self) -> str | None:
        return self.headers.get("range")


class FaultyServer(ThreadingHTTPServer):
    """Serves ``files`` (path to content); each request takes its answer from ``script``, and a fine one after that."""

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        if tls is not None:
            self.socket = tls.wrap_socket(self.socket, server_side=True)
        self.url = f"http{'s' if tls else ''}://127.0.0.1:{self.server_address[1]}"
        self.files: dict[str, bytes] = {}
        self.script: deque[Answer] = deque()
        self.asked: list[Asked] = []
        self.released = threading.Event()
        self._thread = threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.01})

    @property
    def ranges(self) -> list[str | None]:
        """The ranges that were asked for."""
        return [asked.range for asked in self.asked]

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.released.set()
        self.shutdown()
        self._thread.join(10)
        self.server_close()

    def handle_error(self, request: object, client_address: object) -> None:
        """Clients that go away are what is tested here."""


class _Handler(BaseHTTPRequestHandler):
    server: FaultyServer
    protocol_version = "HTTP/1.1"
    timeout = 20  # of a connection that a client leaves open

    def log_message(self, *_: object) -> None:
        """Says nothing."""

    def do_GET(self) -> None:
        server = self.server
        server.asked.append(Asked(self.path, {name.lower(): value for name, value in self.headers.items()}))
        answer = server.script.popleft() if server.script else FINE
        content = server.files.get(self.path)
        if answer.status is not None or content is None:
            self._send(answer.status or 404, {}, b"sorry", answer)
            return
        etag = f'"{hashlib.sha256(content).hexdigest()[:16]}"'
        if answer.corrupt_at is not None:
            at = answer.corrupt_at
            content = content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :]
        match = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        if match is None or answer.ignore_ranges or self.headers.get("If-Range", etag) != etag:
            self._send(200, {"ETag": etag}, content, answer)
            return
        start, end = int(match[1]), min(int(match[2] or len(content)), len(content) - 1)
        if start > end:
            self._send(416, {"Content-Range": f"bytes */{len(content)}"}, b"", answer)
            return
        headers = {"ETag": etag, "Content-Range": f"bytes {start}-{end}/{len(content)}"}
        self._send(206, headers, content[start : end + 1], answer)

    def _send(self, status: int, headers: Mapping[str, str], body: bytes, answer: Answer) -> None:
        self.send_response_only(status)
        length = {} if answer.endless else {"Content-Length": str(len(body))}
        for name, value in {**length, **headers, **answer.headers}.items():
            if value is not None:
                self.send_header(name, value)
        self.end_headers()
        if answer.endless:
            while True:  # until the client goes away
                self.wfile.write(body)
        if answer.cut_after is not None:
            self.wfile.write(body[: answer.cut_after])
            self.close_connection = True
        elif answer.stall_after is not None:
            self.wfile.write(body[: answer.stall_after])
            self.server.released.wait(60)
            self.close_connection = True
        else:
            self.wfile.write(body)
            # Where the client cannot know the end from the length, only the end of the connection says it.
            self.close_connection = "Content-Length" in answer.headers or self.close_connection


def self_signed(folder: Path) -> ssl.SSLContext:
    """The server's side of TLS with a certificate that nobody vouches for; it lies in ``folder`` as ``ca.pem``."""
    from datetime import UTC, datetime, timedelta
    from ipaddress import ip_address

    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number(), now, now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    (folder / "ca.pem").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    pem = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    (folder / "key.pem").write_bytes(key.private_bytes(*pem))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "ca.pem", folder / "key.pem")
    return context
