"""TLS, and every way to be known, against a real server; and what the check says about each."""

import asyncio
import base64
import binascii
import json
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import trustme
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from facesvc_nats.checking import CheckedNats
from facesvc_nats.client import RefusedError
from facesvc_nats.nkeys import UserKey
from facesvc_nats.settings import NatsSettings
from nats_making import ANA, settings
from nats_server import Server, admin, free_port, kept, servers

from facesvc.delivery.kit import NOW, MemoryBox, delivery, seen
from facesvc.errors import ConfigError
from facesvc.events.plugin import TryLaterError

PASSWORD = "correct-horse-battery-staple"
ADMIN = {"user": "admin", "password": "admin"}
USERS = "authorization {{ users: [ {{user: admin, password: admin}}, {{{}}} ] }}"
RIGHTS = "permissions: { publish: [%s], subscribe: [%s] }"


def seed(prefix: int = 20 << 3) -> str:
    """Of a user, made as ``nsc`` makes it."""
    raw = bytes([18 << 3 | prefix >> 5, (prefix & 31) << 3]) + bytes(range(32))
    return base64.b32encode(raw + binascii.crc_hqx(raw, 0).to_bytes(2, "little")).decode().rstrip("=")


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("tls")
    authority, other = trustme.CA(), trustme.CA()
    paths = {name: folder / f"{name}.pem" for name in ("ca", "other", "server", "server_key", "client", "client_key")}
    authority.cert_pem.write_to_path(paths["ca"])
    other.cert_pem.write_to_path(paths["other"])
    for name, issued in (("server", authority.issue_cert("127.0.0.1")), ("client", authority.issue_cert("facesvc"))):
        issued.cert_chain_pems[0].write_to_path(paths[name])
        issued.private_key_pem.write_to_path(paths[f"{name}_key"])
        paths[f"{name}_key"].chmod(0o600)
    return paths


@pytest.fixture
async def tls_server(files: dict[str, Path]) -> AsyncIterator[Server]:
    parts = {"cert_file": files["server"], "key_file": files["server_key"], "ca_file": files["ca"]}
    tls = ", ".join(f'{name}: "{path}"' for name, path in parts.items())
    async with servers(f"tls {{ {tls}, verify: true }}") as one:
        yield one


def tls(address: str, files: dict[str, Path], **changes: Any) -> NatsSettings:
    values = {"ca_file": files["ca"], "certificate_file": files["client"], "key_file": files["client_key"]}
    return settings(address, tls=True, **{**values, **changes})


async def steps(one: NatsSettings) -> list[tuple[str, bool | None, str]]:
    return [(step.name, step.ok, step.detail) async for step in CheckedNats(one, MemoryBox()).check()]


async def publishes(one: NatsSettings) -> None:
    plugin = CheckedNats(one, MemoryBox())
    await plugin.start()
    try:
        await plugin.handle(delivery(seen(ANA, NOW)))
    finally:
        await plugin.stop()


async def test_tls_with_a_client_certificate(tls_server: Server, files: dict[str, Path]) -> None:
    one = tls(tls_server.address, files)
    assert [(name, ok) for name, ok, _ in await steps(one)] == [
        ("settings", True),
        ("connect", True),
        ("authenticate", True),
        ("JetStream", True),
        ("stream", None),
        ("publish", None),
    ]
    await publishes(one)
    assert [ok for _, ok, _ in await steps(one)] == [True] * 6
    await publishes(one)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"ca_file": "other"}, "certificate verify failed"),
        ({"certificate_file": None, "key_file": None}, "cannot be reached"),
    ],
)
async def test_without_trust_there_is_no_connection(
    tls_server: Server, files: dict[str, Path], changes: dict[str, Any], words: str
) -> None:
    named = {name: files.get(value, value) if isinstance(value, str) else value for name, value in changes.items()}
    one = tls(tls_server.address, files, **named)
    with pytest.raises(TryLaterError, match=words):
        await publishes(one)
    assert (await steps(one))[-1][:2] == ("connect", False)


async def test_a_server_that_offers_no_tls_is_told_no_password(
    server: Server, files: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NATS_PASSWORD", PASSWORD)
    heard: list[bytes] = []

    async def between(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b'INFO {"server_id":"x","version":"2.9.10","auth_required":true,"max_payload":1048576}\r\n')
        heard.append(await reader.read())
        writer.close()

    listening = await asyncio.start_server(between, "127.0.0.1", 0)
    port = listening.sockets[0].getsockname()[1]
    for address in (f"127.0.0.1:{port}", server.address):
        one = tls(address, files, user="facesvc", password="env:NATS_PASSWORD")
        with pytest.raises(RefusedError, match="offers no TLS"):
            await publishes(one)
    assert heard == [b""]
    listening.close()
    await listening.wait_closed()


@pytest.mark.parametrize(
    "info", [b"INFO []\r\n", b"INFO {}\r\n+WHAT\r\n", b"HELLO\r\n", b"INFO " + b"x" * 200_000, b"\xff\r\n", b""]
)
async def test_a_server_that_talks_nonsense(info: bytes) -> None:
    async def nonsense(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(info)
        writer.close()

    listening = await asyncio.start_server(nonsense, "127.0.0.1", 0)
    port = listening.sockets[0].getsockname()[1]
    with pytest.raises(TryLaterError, match=rf"NATS at 127\.0\.0\.1:{port}"):
        await publishes(settings(f"127.0.0.1:{port}", timeout_s=1))
    listening.close()
    await listening.wait_closed()


@pytest.mark.parametrize(
    ("user", "changes"),
    [
        (f"user: facesvc, password: {PASSWORD}", {"user": "facesvc", "password": "env:NATS_SECRET"}),
        (f"nkey: {UserKey.of_seed(seed()).public}", {"nkey_seed": "env:NATS_SEED"}),
    ],
)
async def test_a_user_is_known(user: str, changes: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NATS_SECRET", PASSWORD)
    monkeypatch.setenv("NATS_SEED", seed())
    async with servers(USERS.format(user)) as guarded:
        right = settings(guarded.address, **changes)
        await publishes(right)
        assert len(await kept(guarded, **ADMIN)) == 1
        assert all(ok for _, ok, _ in await steps(right))
        assert PASSWORD not in repr(right)
        assert seed() not in repr(right)
        with pytest.raises(RefusedError, match="Authorization Violation"):
            await publishes(settings(guarded.address))
        assert (await steps(settings(guarded.address)))[-1][:2] == ("authenticate", False)


async def test_a_token_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NATS_SECRET", PASSWORD)
    monkeypatch.setenv("NATS_WRONG", "wrong")
    async with servers(f"authorization {{ token: {PASSWORD} }}") as guarded:
        await publishes(settings(guarded.address, token="env:NATS_SECRET"))
        with pytest.raises(RefusedError, match="Authorization Violation"):
            await publishes(settings(guarded.address, token="env:NATS_WRONG"))


def jwt(kind: str, issuer: Ed25519PrivateKey, prefix: int, subject: str, claims: dict[str, Any]) -> str:
    """As the operator of a NATS server signs it."""
    raw = bytes([prefix]) + issuer.public_key().public_bytes_raw()
    name = base64.b32encode(raw + binascii.crc_hqx(raw, 0).to_bytes(2, "little")).decode().rstrip("=")
    parts = [
        {"typ": "JWT", "alg": "ed25519-nkey"},
        {
            "iss": name,
            "sub": subject,
            "iat": int(time.time()),
            "jti": "x",
            "nats": {"type": kind, "version": 2, **claims},
        },
    ]
    text = ".".join(base64.urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=") for part in parts)
    return f"{text}.{base64.urlsafe_b64encode(issuer.sign(text.encode())).decode().rstrip('=')}"


def public(key: Ed25519PrivateKey, prefix: int) -> str:
    raw = bytes([prefix]) + key.public_key().public_bytes_raw()
    return base64.b32encode(raw + binascii.crc_hqx(raw, 0).to_bytes(2, "little")).decode().rstrip("=")


async def test_a_credentials_file_is_known(tmp_path: Path) -> None:
    operator, account, system = (Ed25519PrivateKey.generate() for _ in range(3))
    of_operator, of_account, of_system = public(operator, 14 << 3), public(account, 0), public(system, 0)
    unlimited = {"subs": -1, "data": -1, "payload": -1, "conn": -1, "leaf": -1, "imports": -1, "exports": -1}
    stored = {"mem_storage": -1, "disk_storage": -1, "streams": -1, "consumer": -1, "wildcards": True}
    account_jwt = jwt("account", operator, 14 << 3, of_account, {"limits": {**unlimited, **stored}})
    system_jwt = jwt("account", operator, 14 << 3, of_system, {"limits": unlimited})
    operator_jwt = jwt("operator", operator, 14 << 3, of_operator, {})
    everything = {"subs": -1, "data": -1, "payload": -1}
    user_jwt = jwt("user", account, 0, UserKey.of_seed(seed()).public, everything)
    credentials = tmp_path / "facesvc.creds"
    credentials.write_text(
        f"-----BEGIN NATS USER JWT-----\n{user_jwt}\n------END NATS USER JWT------\n\n"
        f"*** IMPORTANT ***\n-----BEGIN USER NKEY SEED-----\n{seed()}\n------END USER NKEY SEED------\n"
    )
    credentials.chmod(0o600)
    accounts = f"{{ {of_account}: {account_jwt}, {of_system}: {system_jwt} }}"
    lines = (
        f"operator: {operator_jwt}",
        f"system_account: {of_system}",
        "resolver: MEMORY",
        f"resolver_preload: {accounts}",
    )
    async with servers(*lines) as guarded:
        one = settings(guarded.address, credentials=f"file:{credentials}")
        await publishes(one)
        assert all(ok for _, ok, _ in await steps(one))


@pytest.mark.parametrize(
    ("publish", "step"),
    [
        ('"$JS.API.>"', "publish"),
        ('"$JS.API.INFO", "facesvc.>"', "stream"),
        ('"facesvc.>"', "JetStream"),
    ],
)
async def test_a_right_that_is_missing_is_named(publish: str, step: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NATS_SECRET", PASSWORD)
    rights = RIGHTS % (publish, '"_INBOX.>"')
    async with servers(USERS.format(f"user: facesvc, password: {PASSWORD}, {rights}")) as guarded:
        async with admin(guarded, **ADMIN) as context:
            await context.add_stream(name="FACESVC", subjects=["facesvc.>"])
        one = settings(guarded.address, user="facesvc", password="env:NATS_SECRET", timeout_s=0.5, create_stream=False)
        name, ok, detail = (await steps(one))[-1]
        assert (name, ok) == (step, False)
        assert "permissions violation for publish" in detail.lower()
        if step == "publish":
            with pytest.raises(TryLaterError, match=r"(?i)permissions violation for publish to .*facesvc\.berlin"):
                await publishes(one)
        else:
            await publishes(one)  # which needs no more


async def test_the_rights_of_the_readme_are_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NATS_SECRET", PASSWORD)
    needed = [
        "facesvc.berlin.>",
        *(f"$JS.API.{one}" for one in ("INFO", "STREAM.INFO.FACESVC", "STREAM.CREATE.FACESVC")),
    ]
    rights = RIGHTS % (", ".join(f'"{one}"' for one in needed), '"_INBOX.>"')
    async with servers(USERS.format(f"user: facesvc, password: {PASSWORD}, {rights}")) as guarded:
        one = settings(guarded.address, user="facesvc", password="env:NATS_SECRET")
        await publishes(one)
        assert all(ok for _, ok, _ in await steps(one))


async def test_the_check_keeps_nothing(server: Server) -> None:
    assert (await steps(settings(server.address, create_stream=False)))[-1][:2] == ("stream", False)
    await publishes(settings(server.address))
    assert (await steps(settings(server.address)))[-1][:2] == ("publish", True)
    assert len(await kept(server)) == 1
    other = settings(server.address, prefix="other", stream="FACESVC", create_stream=False)
    name, ok, detail = (await steps(other))[-1]
    assert (name, ok) == ("stream", False)
    assert "add other.>" in detail
    assert (await steps(settings(f"127.0.0.1:{free_port()}")))[-1][:2] == ("connect", False)
    assert (await steps(settings(server.address, token="env:NOT_SET")))[-1][:2] == ("settings", False)


def test_a_seed_with_a_mistake_is_refused_and_not_told() -> None:
    assert UserKey.of_seed(seed()).public.startswith("U")
    for wrong in (seed()[:-1] + ("A" if seed()[-1] != "A" else "B"), seed()[:-4], "", "SU", "ä", seed(0)):
        with pytest.raises(ConfigError) as caught:
            UserKey.of_seed(wrong)
        assert not wrong or wrong == "SU" or wrong not in str(caught.value)
    with pytest.raises(ConfigError, match="no block USER NKEY SEED"):
        UserKey.of_credentials("nothing")
    assert seed() not in repr(UserKey.of_seed(seed(), "a.b.c"))
