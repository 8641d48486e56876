"""A real server behind TLS, with certificates of its own, and whoever calls it."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, closing
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import grpc
from api.conftest import Vision, with_server, with_vision

from facesvc import app
from facesvc.api.server import Server
from facesvc.api.service import Service
from facesvc.client import AsyncClient, CallError, Credentials
from facesvc.config import Settings
from facesvc.security.authority import Authority, Issued, write
from facesvc.security.principals import Scope
from facesvc.security.roles import Role

NAMES = ("localhost", "127.0.0.1")


@dataclass
class Guarded:
    """A server that wants to know who calls; ``mtls`` is its port for those with a certificate."""

    authority: Authority
    folder: Path
    server: Server
    service: Service
    address: str
    mtls: str
    _closing: AsyncExitStack
    ahead: timedelta = field(default_factory=timedelta)

    @property
    def port(self) -> int:
        return int(self.address.rpartition(":")[2])

    def token(self, name: str, role: Role, *, hours: float = 0, scope: Scope | None = None) -> str:
        """A new one's text."""
        end = datetime.now(UTC) + timedelta(hours=hours) if hours else None
        return self.service.tokens.create(name, role, scope, end)[1]

    def credentials(self, token: str = "", identity: Issued | None = None) -> Credentials:
        own = {"certificate": identity.certificate, "key": identity.key} if identity else {}
        return Credentials(ca=self.authority.pem, token=token, **own)

    def client(self, token: str = "", identity: Issued | None = None, *, address: str = "") -> AsyncClient:
        """Somebody with a token or a certificate, or with neither."""
        client = AsyncClient(address or self.address, credentials=self.credentials(token, identity))
        self._closing.push_async_callback(client.close)
        return client

    def channel(self, token: str = "") -> grpc.aio.Channel:
        """A bare channel."""
        channel = grpc.aio.secure_channel(self.address, self.credentials(token).for_channel())
        self._closing.push_async_callback(channel.close)
        return channel

    def renew(self) -> None:
        """Another certificate of the server's, as ``facesvc certs renew`` leaves it."""
        put(self.folder, "server", self.authority.issue_server(NAMES, datetime.now(UTC)))


def put(folder: Path, name: str, issued: Issued) -> tuple[Path, Path]:
    """A certificate and its key as files."""
    certificate, key = folder / f"{name}.pem", folder / f"{name}.key"
    write(key, issued.key, secret=True)
    write(certificate, issued.certificate, secret=False)
    return certificate, key


def secured(settings: Settings, folder: Path, authority: Authority, **values: Any) -> Settings:
    """``settings`` with TLS and the files for it."""
    certificate, key = put(folder, "server", authority.issue_server(NAMES, datetime.now(UTC)))
    write(folder / "ca.pem", authority.pem, secret=False)
    files = {"certificate_file": certificate, "key_file": key, "client_ca_file": folder / "ca.pem"}
    return with_server(settings, **files, plaintext=False, **values)


@asynccontextmanager
async def guarding(settings: Settings, folder: Path, vision: Vision | None = None) -> AsyncIterator[Guarded]:
    """The server for the time of the block, over a scripted vision."""
    await asyncio.to_thread(folder.mkdir)
    authority = Authority.make("a test", datetime.now(UTC))
    with closing(socket.create_server(("127.0.0.1", 0))) as free:
        mtls = f"127.0.0.1:{free.getsockname()[1]}"
    settings = secured(settings, folder, authority, listen_mtls=mtls)
    async with AsyncExitStack() as stack:
        server = Server(settings)
        stack.push_async_callback(server.stop)
        port = await server.start("127.0.0.1:0")
        service = await asyncio.to_thread(app.load_service, settings)
        stack.callback(service.gallery.close)
        stack.callback(service.workers.close)
        stack.push_async_callback(server.stop)
        await server.open(with_vision(service, vision or Vision()))
        guarded = Guarded(authority, folder, server, service, f"127.0.0.1:{port}", mtls, stack)
        service.tokens._now = lambda: datetime.now(UTC) + guarded.ahead
        yield guarded


async def refusal(call: Any) -> CallError:
    """How a call was refused."""
    try:
        if hasattr(call, "__aiter__"):
            async for _ in call:
                pass
        else:
            await call
    except CallError as error:
        return error
    except grpc.aio.AioRpcError as error:
        return CallError(error, "here")
    raise AssertionError("it was let in")
