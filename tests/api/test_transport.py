"""TLS as it is spoken: which versions, with which certificate, and where plain text is allowed."""

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import grpc
import pytest
import pytest_asyncio
from api.conftest import with_server
from api.guarded import Guarded, guarding, put, refusal, secured
from cryptography import x509

from facesvc.api import transport
from facesvc.api.server import Server
from facesvc.client import AsyncClient, Credentials
from facesvc.config import Settings
from facesvc.errors import ConfigError
from facesvc.security.authority import Authority, write
from facesvc.security.roles import Role

HERE = ["127.0.0.1:0", "127.5.5.5:50051", "[::1]:50051", "localhost:50051", "unix:/run/facesvc.socket"]
OTHERS = ["0.0.0.0:50051", "[::]:50051", "192.168.1.7:50051", "box.office:50051", "127.0.0.1.office.example:50051"]


@pytest_asyncio.fixture
async def guarded(settings: Settings, tmp_path: Path) -> AsyncIterator[Guarded]:
    async with guarding(settings, tmp_path / "guarded") as guarded:
        yield guarded


def shake(guarded: Guarded, **values: Any) -> tuple[str | None, bytes | None]:
    """The version of TLS that a server of gRPC agrees to, and its certificate (DER). Blocks."""
    context = ssl.create_default_context(cadata=guarded.authority.pem.decode())
    context.set_alpn_protocols(["h2"])
    for name, value in values.items():
        setattr(context, name, value)
    with (
        socket.create_connection(("127.0.0.1", guarded.port), timeout=20) as plain,
        context.wrap_socket(plain, server_hostname="localhost") as wrapped,
    ):
        return wrapped.version(), wrapped.getpeercert(binary_form=True)


async def test_only_tls_1_3_is_spoken(guarded: Guarded) -> None:
    assert (await asyncio.to_thread(shake, guarded))[0] == "TLSv1.3"
    with pytest.raises((ssl.SSLError, ConnectionError)):
        await asyncio.to_thread(shake, guarded, maximum_version=ssl.TLSVersion.TLSv1_2)


async def test_a_client_refuses_a_server_of_another_authority_or_name(guarded: Guarded) -> None:
    token = guarded.token("admin", Role.ADMIN)
    other = Authority.make("a test", datetime.now(UTC))
    for credentials in (Credentials(ca=other.pem, token=token), Credentials(token=token)):
        async with AsyncClient(guarded.address, credentials=credentials) as client:
            assert (await refusal(client.server_info())).code is grpc.StatusCode.UNAVAILABLE
    put(guarded.folder, "server", guarded.authority.issue_server(["other.office"], datetime.now(UTC)))
    assert (await refusal(guarded.client(token).server_info())).code is grpc.StatusCode.UNAVAILABLE


async def test_a_renewed_certificate_is_shown_from_the_next_connection_on(guarded: Guarded) -> None:
    client = guarded.client(guarded.token("admin", Role.ADMIN))
    assert (await client.server_info()).version
    before = (await asyncio.to_thread(shake, guarded))[1]
    assert (await asyncio.to_thread(shake, guarded))[1] == before
    guarded.renew()
    after = (await asyncio.to_thread(shake, guarded))[1]
    assert before is not None
    assert after is not None
    assert x509.load_der_x509_certificate(after) == x509.load_pem_x509_certificate(
        (guarded.folder / "server.pem").read_bytes()
    )
    assert after != before
    assert (await client.server_info()).version  # who is connected stays so


@pytest.mark.parametrize("harm", ["gone", "nonsense", "half"])
async def test_a_certificate_that_cannot_be_read_leaves_the_one_before(guarded: Guarded, harm: str) -> None:
    before = (await asyncio.to_thread(shake, guarded))[1]
    file = guarded.folder / "server.pem"
    if harm == "gone":
        file.unlink()
    elif harm == "nonsense":
        file.write_bytes(b"nonsense")
    else:  # the key is new and the certificate is not yet, as in the middle of a renewal
        write(guarded.folder / "server.key", guarded.authority.issue_server(["x"], datetime.now(UTC)).key, secret=True)
    assert (await asyncio.to_thread(shake, guarded))[1] == before
    guarded.renew()
    assert (await asyncio.to_thread(shake, guarded))[1] not in {None, before}


async def test_another_authority_of_clients_is_learnt_without_a_restart(guarded: Guarded) -> None:
    now = datetime.now(UTC)
    other = Authority.make("another", now)
    identity = other.issue_client("gate", Role.CAMERA, now)
    client = guarded.client(identity=identity, address=guarded.mtls)
    assert (await refusal(client.server_info())).code is grpc.StatusCode.UNAVAILABLE
    write(guarded.folder / "ca.pem", other.pem, secret=False)
    late = guarded.client(identity=identity, address=guarded.mtls)
    assert (await late.server_info()).version


@pytest.mark.parametrize("address", HERE)
def test_plain_text_is_for_this_machine(settings: Settings, address: str) -> None:
    assert transport.is_this_machine(address)
    plain = with_server(settings, plaintext=True, listen=address)
    assert transport.ports(plain.server, address) == [(address, None)]


@pytest.mark.parametrize("address", OTHERS)
async def test_plain_text_is_refused_where_others_can_read_along(settings: Settings, address: str) -> None:
    assert not transport.is_this_machine(address)
    server = Server(with_server(settings, plaintext=True))
    with pytest.raises(ConfigError, match=r"server\.plaintext: others can reach"):
        await server.start(address)
    await server.stop()


@pytest.mark.parametrize("address", ["127.0.0.1:0", "unix:/nonexistent/socket"])
async def test_plain_text_has_to_be_asked_for(settings: Settings, address: str) -> None:
    server = Server(with_server(settings, plaintext=False))
    with pytest.raises(ConfigError, match="facesvc init"):
        await server.start(address)
    await server.stop()


async def test_plain_text_goes_beside_certificates(settings: Settings, tmp_path: Path) -> None:
    """``serve --plaintext`` with the settings that ``init`` has made."""
    files = secured(settings, tmp_path, Authority.make("a test", datetime.now(UTC)))
    assert transport.ports(with_server(files, plaintext=True).server, "127.0.0.1:0") == [("127.0.0.1:0", None)]


async def test_a_port_for_certificates_needs_an_authority_and_a_certificate(settings: Settings, tmp_path: Path) -> None:
    files = secured(settings, tmp_path, Authority.make("a test", datetime.now(UTC)), listen_mtls="127.0.0.1:0")
    for without in ({"client_ca_file": None}, {"certificate_file": None, "key_file": None, "plaintext": True}):
        with pytest.raises(ConfigError, match=r"server\.listen_mtls needs"):
            transport.ports(with_server(files, **without).server, "127.0.0.1:0")


async def test_wrong_files_are_named_at_the_start(settings: Settings, tmp_path: Path) -> None:
    authority = Authority.make("a test", datetime.now(UTC))
    files = secured(settings, tmp_path, authority)
    nonsense, missing = tmp_path / "nonsense.pem", tmp_path / "missing.pem"
    nonsense.write_bytes(b"nonsense")
    _, other = put(tmp_path, "other", authority.issue_server(["x"], datetime.now(UTC)))
    for changes, words in (
        ({"certificate_file": nonsense}, "nonsense.pem.*one is no PEM"),
        ({"key_file": other}, "the key is not that of the certificate"),
        ({"key_file": missing}, "missing.pem cannot be read: No such file"),
        ({"client_ca_file": nonsense, "listen_mtls": "127.0.0.1:0"}, "nonsense.pem.*one is no PEM"),
    ):
        server = Server(with_server(files, **changes))
        with pytest.raises(ConfigError, match=words):
            await server.start("127.0.0.1:0")
        await server.stop()
