"""A scripted identity provider: real sockets, real keys, TLS, and whatever else a test wants it to answer."""

import asyncio
import json
import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import lru_cache
from http import HTTPStatus
from pathlib import Path
from typing import Any

import jwt
import trustme
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm

AUDIENCE = "facesvc"
NOW = datetime(2026, 3, 2, 8, 30, tzinfo=UTC)
DISCOVERY, KEYS = "/tenant/.well-known/openid-configuration", "/tenant/keys"


@lru_cache
def private_key(name: str) -> Any:
    """A key by its name, which says its kind: rsa, p256, p384, ed, and whatever follows."""
    if name.startswith("rsa"):
        return rsa.generate_private_key(65537, 1024 if name == "rsa-short" else 2048)
    if name.startswith("ed"):
        return ed25519.Ed25519PrivateKey.generate()
    return ec.generate_private_key(ec.SECP384R1() if name.startswith("p384") else ec.SECP256R1())


def public(name: str, **members: Any) -> dict[str, Any]:
    """The public half of it as a provider publishes it; ``members`` None: left out."""
    kind = {"r": RSAAlgorithm, "p": ECAlgorithm, "e": OKPAlgorithm}[name[0]]
    data = {**kind.to_jwk(private_key(name).public_key(), as_dict=True), "kid": name, "use": "sig", **members}
    return {member: value for member, value in data.items() if value is not None}


def answer(body: bytes | Mapping[str, Any], status: int = 200, *headers: str) -> bytes:
    """A whole answer of HTTP."""
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    lines = [f"HTTP/1.1 {status} {HTTPStatus(status).phrase}", f"Content-Length: {len(content)}", *headers]
    return "\r\n".join([*lines, "Connection: close", "", ""]).encode() + content


@dataclass
class Provider:
    """``keys`` are published; ``answers`` go out instead of what is right; None: a byte now and then, for ever."""

    issuer: str = ""
    ca_file: Path = Path()
    keys: list[dict[str, Any]] = field(default_factory=lambda: [public("rsa"), public("p256"), public("ed")])
    answers: dict[str, bytes | None] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)

    def claims(self, now: datetime = NOW, **changes: Any) -> dict[str, Any]:
        """What a good JWT says, with changes; None: left out."""
        second = int(now.timestamp())
        good = {
            "iss": self.issuer,
            "aud": AUDIENCE,
            "sub": "ana",
            "iat": second - 60,
            "exp": second + 3600,
            "roles": ["facesvc-admins"],
        }
        return {name: value for name, value in {**good, **changes}.items() if value is not None}

    def sign(self, claims: Mapping[str, Any], key: str = "rsa", algorithm: str = "RS256", **headers: Any) -> str:
        """A JWT."""
        return jwt.api_jws.encode(json.dumps(claims).encode(), private_key(key), algorithm, {"kid": key, **headers})

    def good(self, now: datetime = NOW, **changes: Any) -> str:
        """A JWT that is as it should be, but for changes."""
        return self.sign(self.claims(now, **changes))

    def _answer(self, path: str) -> bytes | None:
        if path in self.answers:
            return self.answers[path]
        if path == DISCOVERY:
            return answer({"issuer": self.issuer, "jwks_uri": self.issuer.removesuffix("/tenant") + KEYS})
        return answer({"keys": self.keys}) if path == KEYS else answer(b"", 404)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One request on one connection."""
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            path = head.split(b" ", 2)[1].decode()
            self.asked.append(path)
            content = self._answer(path)
            writer.write(b"HTTP/1.1 200 OK\r\n\r\n" if content is None else content)
            while content is None:
                writer.write(b" ")
                await writer.drain()
                await asyncio.sleep(0.05)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()


@asynccontextmanager
async def providing(folder: Path, *, plain: bool = False) -> AsyncIterator[Provider]:
    """A provider that listens, for the time of the block."""
    authority, context = trustme.CA(), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    provider = Provider(ca_file=folder / "provider-ca.pem")
    await asyncio.to_thread(authority.cert_pem.write_to_path, provider.ca_file)
    async with await asyncio.start_server(provider.serve, "127.0.0.1", 0, ssl=None if plain else context) as server:
        port = server.sockets[0].getsockname()[1]
        provider.issuer = f"{'http' if plain else 'https'}://127.0.0.1:{port}/tenant"
        yield provider
