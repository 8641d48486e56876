"""People of an identity provider at a real server over TLS: who gets in, who does not, and who is put out."""

import asyncio
import os
import shutil
import ssl
import subprocess
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import grpc
import httpx
import jwt
import pytest
import pytest_asyncio
import trustme
from api.guarded import Guarded, guarding, refusal
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from security.provider import AUDIENCE, KEYS, Provider, answer, private_key, providing, public

from facesvc import app
from facesvc.config import OidcSettings, Settings
from facesvc.security.jwks import Source
from facesvc.security.oidc import Terms
from facesvc.security.roles import Role
from facesvc.v1 import admin_pb2, presence_pb2, presence_pb2_grpc

UNAUTHENTICATED, DENIED = grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.PERMISSION_DENIED
EXHAUSTED, UNAVAILABLE = grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.UNAVAILABLE
HOUR = timedelta(hours=1)
ROLES: Any = {"facesvc-admins": "admin", "facesvc-walls": "dashboard"}


@dataclass
class World:
    """A server, and the provider that it trusts. ``ahead``: of the clock on the wall; ``later``: of its seconds."""

    guarded: Guarded
    provider: Provider
    ahead: timedelta = timedelta()
    later: float = 0.0

    def good(self, **changes: Any) -> str:
        return self.provider.good(datetime.now(UTC), **changes)

    async def ask(self, token: str) -> str:
        return str((await self.guarded.client(token).server_info()).version)

    async def refusal(self, token: str) -> Any:
        return await refusal(self.guarded.client(token).server_info())

    async def asked_until(self, token: str, code: grpc.StatusCode | None) -> None:
        """Ask until that is the answer; None: until it is let in."""
        client = self.guarded.client(token)
        async with asyncio.timeout(60):  # a provider that was overlooked is asked again after half a minute
            while True:
                try:
                    await client.server_info()
                except Exception as error:  # noqa: BLE001 - whatever it is, it is shown when the time is over
                    got = getattr(error, "code", error)
                else:
                    got = None
                if got == code:
                    return


@asynccontextmanager
async def trusting(settings: Settings, folder: Path, oidc: OidcSettings, provider: Provider) -> AsyncIterator[World]:
    """A server that trusts a provider, whose keys it has."""
    async with guarding(settings.model_copy(update={"oidc": oidc}), folder / "guarded") as guarded:
        world = World(guarded, provider)
        found = guarded.service.oidc
        assert found is not None
        found._now = lambda: datetime.now(UTC) + world.ahead
        found.published._clock = lambda: time.monotonic() + world.later
        yield world


def of(provider: Provider, **changes: Any) -> OidcSettings:
    return OidcSettings(issuer=provider.issuer, audience=AUDIENCE, ca_file=provider.ca_file, roles=ROLES, **changes)


@pytest_asyncio.fixture
async def provider(tmp_path: Path) -> AsyncIterator[Provider]:
    async with providing(tmp_path) as one:
        yield one


@pytest_asyncio.fixture
async def world(settings: Settings, tmp_path: Path, provider: Provider) -> AsyncIterator[World]:
    async with trusting(settings, tmp_path, of(provider), provider) as one:
        await one.asked_until(one.good(), None)
        yield one


def test_the_settings_are_those_that_count(settings: Settings) -> None:
    assert app._oidc(settings) is None
    chosen = OidcSettings(
        issuer="https://idp.example",
        audience="box",
        jwks_url="https://keys.example",
        algorithms=("ES256",),
        roles_claim="groups",
        roles={"staff": "auditor"},
        name_claim="upn",
        leeway_seconds=7,
        max_age_seconds=60,
    )
    oidc = app._oidc(settings.model_copy(update={"oidc": chosen}))
    assert oidc is not None
    assert oidc._terms == Terms(
        issuer="https://idp.example",
        audience="box",
        algorithms=frozenset({"ES256"}),
        roles={"staff": Role.AUDITOR},
        roles_claim="groups",
        name_claim="upn",
        leeway=timedelta(seconds=7),
        max_age=timedelta(minutes=1),
    )
    source = Source(
        issuer="https://idp.example", jwks_url="https://keys.example", ca_file=None, algorithms=frozenset({"ES256"})
    )
    assert oidc.published._source == source


async def test_a_jwt_of_the_provider_lets_somebody_in_with_a_role(world: World) -> None:
    for key, algorithm in (("rsa", "RS256"), ("rsa", "PS256"), ("p256", "ES256"), ("ed", "EdDSA")):
        assert await world.ask(world.provider.sign(world.provider.claims(datetime.now(UTC)), key, algorithm))
    wall = world.guarded.client(world.good(roles=["facesvc-walls"], sub="wall"))
    assert (await wall.server_info()).version
    error = await refusal(wall.list_tokens())
    assert error.code is DENIED
    assert str(error) == "oidc:wall has the role dashboard, which may not call ListTokens"


async def test_the_audit_log_says_who_it_was(world: World) -> None:
    admin = world.guarded.client(world.good(sub="Ana Lima"))
    await admin.create_token(admin_pb2.Token(name="wall", role=admin_pb2.ROLE_DASHBOARD))
    actors = {entry.actor.partition(" at ")[0] async for entry in admin.list_audit()}
    [actor] = actors
    assert actor.startswith("oidc:Ana_Lima~")


async def test_tokens_and_certificates_still_do(world: World) -> None:
    assert await world.ask(world.guarded.token("admin", Role.ADMIN))
    issued = world.guarded.authority.issue_client("boss", Role.ADMIN, datetime.now(UTC))
    assert (await world.guarded.client(identity=issued, address=world.guarded.mtls).server_info()).version


async def test_what_is_wrong_with_a_jwt_is_said(world: World) -> None:
    claims, second = world.provider.claims(datetime.now(UTC)), int(time.time())
    pem = private_key("rsa").public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    confused = jwt.get_algorithm_by_name("HS256").sign(b"", pem)
    header = jwt.api_jws.encode(b"{}", b"k" * 32, "HS256", {"kid": "rsa"}).split(".")[0]
    body = world.good().split(".")[1]
    wrong = {
        world.good(aud="other"): "is for another audience ('other')",
        world.good(iss="https://evil.example"): "is of another issuer",
        world.good(iat=second - 100, exp=second - 40): "expired at",
        world.good(exp=None): "does not say when it is over",
        world.good(nbf=second + 60): "is of the future",
        world.provider.sign(claims, "rsa-stranger", kid="rsa"): "has a wrong signature",
        world.provider.sign(claims, "rsa-stranger"): "names a key that the identity provider does not publish",
        f"{header}.{body}.{confused.hex()}": "is signed by 'HS256'",
        "eyJhbGciOiJub25lIn0.e30.AA": "is signed by 'none'",
    }
    later = time.monotonic()
    for number, (text, why) in enumerate(wrong.items()):
        world.guarded.server._gatekeeper._clock = lambda number=number: later + 1000 * number
        error = await world.refusal(text)
        assert (error.code, error.reason) == (UNAUTHENTICATED, "UNAUTHENTICATED")
        assert str(error).startswith(f"this JWT {why}")
    error = await world.refusal(world.good(roles=["somebody"]))
    assert (error.code, error.reason) == (DENIED, "FORBIDDEN")
    assert "gives you no role" in str(error)


async def test_wrong_ones_are_guesses_and_shut_out_nobody_else(world: World, caplog: pytest.LogCaptureFixture) -> None:
    token, forged = world.guarded.token("admin", Role.ADMIN), world.good()[:-4] + "AAAA"
    errors = [await world.refusal(forged) for _ in range(8)]
    assert [error.code for error in errors] == [UNAUTHENTICATED] * 6 + [EXHAUSTED] * 2
    assert errors[-1].reason == "TOO_MANY_WRONG_TOKENS"
    assert errors[-1].retry_delay_s
    out = caplog.text
    assert out.count("a JWT was refused") == 6
    assert "has a wrong signature" in out
    assert forged.rpartition(".")[2] not in out
    assert await world.ask(token)
    assert await world.ask(world.good())  # and that does not forgive the guesses
    assert (await world.refusal(forged)).code is EXHAUSTED
    assert (await world.refusal("fsv_" + "0" * 26 + "_" + "A" * 43)).code is EXHAUSTED


async def test_a_new_key_is_taken_without_a_restart_and_an_old_one_ends(world: World) -> None:
    claims = world.provider.claims(datetime.now(UTC))
    old, new = world.provider.sign(claims), world.provider.sign(claims, "rsa-2")
    world.provider.keys = [public("rsa-2")]
    asked = world.provider.asked.count(KEYS)
    assert (await world.refusal(new)).code is UNAUTHENTICATED
    assert world.provider.asked.count(KEYS) == asked
    world.later = 30
    await world.asked_until(new, None)
    assert world.provider.asked.count(KEYS) == asked + 1
    assert (await world.refusal(old)).code is UNAUTHENTICATED


async def test_while_the_provider_is_away_people_get_in(world: World) -> None:
    world.provider.answers = {KEYS: answer(b"", 503)}
    oidc = world.guarded.service.oidc
    assert oidc is not None
    await oidc.published.refresh()
    assert await world.ask(world.good())
    world.later = 86_401
    error = await world.refusal(world.good())
    assert (error.code, error.reason) == (UNAVAILABLE, "IDENTITY_PROVIDER_AWAY")


async def test_a_server_starts_and_stops_without_its_provider(
    settings: Settings, tmp_path: Path, provider: Provider
) -> None:
    provider.answers = {KEYS: None}  # and is not waited for at the end either
    async with trusting(settings, tmp_path, of(provider), provider) as world:
        assert (await world.refusal(world.good())).reason == "IDENTITY_PROVIDER_AWAY"
        assert await world.ask(world.guarded.token("admin", Role.ADMIN))
        tasks = world.guarded.server._tasks
    await asyncio.wait(tasks, timeout=20)
    assert all(task.cancelled() for task in tasks)


async def test_an_open_stream_ends_with_the_jwt(world: World) -> None:
    watch = presence_pb2.WatchEventsRequest()
    streams = []
    for changes in ({"sub": "ana"}, {"sub": "ben", "exp": int(time.time()) + 7200}):
        stub = presence_pb2_grpc.PresenceServiceStub(world.guarded.channel(world.good(**changes)))
        streams.append(stub.WatchEvents(watch))
        assert (await anext(aiter(streams[-1]))).resume_token
    ended, stays = streams
    world.ahead = HOUR + timedelta(seconds=31)
    error = await asyncio.wait_for(refusal(ended), 20)
    assert (error.code, error.reason) == (UNAUTHENTICATED, "UNAUTHENTICATED")
    assert "what oidc:ana showed is over" in str(error)
    assert not stays.done()
    stays.cancel()


async def test_without_a_provider_a_jwt_is_no_token(settings: Settings, tmp_path: Path, provider: Provider) -> None:
    async with guarding(settings, tmp_path / "guarded") as guarded:
        error = await refusal(guarded.client(provider.good(datetime.now(UTC))).server_info())
        assert str(error).startswith("this is no token of this server")
    assert provider.asked == []


@dataclass
class Counterpart:
    """oauth2-mock-server, and what it runs in."""

    process: "subprocess.Popen[str]"
    issuer: str
    ca_file: Path

    def line(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def another_key(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        assert self.line() == "done"

    def token(self) -> str:
        """A new one, over HTTP as anybody gets it."""
        with httpx.Client(verify=ssl.create_default_context(cafile=self.ca_file)) as client:
            form = {"grant_type": "client_credentials", "client_id": "robot"}
            return str(client.post(f"{self.issuer}/token", data=form).json()["access_token"])


@contextmanager
def counterpart(folder: Path) -> Iterator[Counterpart]:
    """Somebody else's provider, over TLS; without it the test is skipped with the reason."""
    root = Path(__file__).resolve().parents[2]
    places = [os.environ.get("FACESVC_NPM_BIN", ""), str(root / ".venv" / "npm" / "node_modules" / ".bin")]
    command = shutil.which("oauth2-mock-server", path=os.pathsep.join(one for one in places if one))
    if command is None or shutil.which("node") is None:
        pytest.skip("oauth2-mock-server is not there: make counterparts, or FACESVC_NPM_BIN=…/node_modules/.bin")
    authority, ca_file, certificate = trustme.CA(), folder / "ca.pem", folder / "provider.pem"
    authority.cert_pem.write_to_path(ca_file)
    authority.issue_cert("localhost").private_key_and_cert_chain_pem.write_to_path(certificate)
    module = (Path(command).resolve().parent / "index.mjs").as_uri()
    script = Path(__file__).with_name("identity.mjs")
    with subprocess.Popen(
        ["node", script, module, certificate, AUDIENCE, "facesvc-walls"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        encoding="utf-8",
    ) as process:
        try:
            found = Counterpart(process, "", ca_file)
            found.issuer = f"https://localhost:{found.line()}"
            yield found
        finally:
            process.kill()


async def test_with_a_provider_that_others_wrote(settings: Settings, tmp_path: Path) -> None:
    with counterpart(tmp_path) as other:
        oidc = OidcSettings(issuer=other.issuer, audience=AUDIENCE, ca_file=other.ca_file, roles=ROLES)
        async with trusting(settings, tmp_path, oidc, Provider()) as world:
            await world.asked_until(await asyncio.to_thread(other.token), None)
            await asyncio.to_thread(other.another_key)
            world.later = 30
            tokens = [await asyncio.to_thread(other.token) for _ in range(2)]  # it signs with each key in turn
            assert {jwt.get_unverified_header(token)["alg"] for token in tokens} == {"RS256", "ES256"}
            for token in tokens:
                await world.asked_until(token, None)
                error = await refusal(world.guarded.client(token).list_tokens())
                assert "oidc:robot has the role dashboard" in str(error)
