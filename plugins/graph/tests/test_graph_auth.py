"""Tokens from real MSAL over TLS, with a secret and with certificates."""

import base64
import json
from pathlib import Path

import pytest
import trustme
from facesvc_graph.auth import Tokens, roles_of, trust
from facesvc_graph.scripted import ROLES, Failure, ScriptedGraph
from facesvc_graph.scripted_http import Request, Response
from graph_making import World
from pydantic import ValidationError

from facesvc.errors import ConfigError
from facesvc.events.plugin import TryLaterError


def private(path: Path, content: bytes) -> str:
    path.touch(0o600)
    path.write_bytes(content)
    return str(path)


def certificate_file(folder: Path) -> tuple[str, trustme.LeafCert]:
    leaf = trustme.CA().issue_cert("app.example", key_type=trustme.KeyType.RSA)
    content = leaf.private_key_pem.bytes() + leaf.cert_chain_pems[0].bytes()
    return private(folder / "app.pem", content), leaf


async def test_a_secret_gives_a_token_and_the_second_comes_from_msals_cache(world: World) -> None:
    tokens = Tokens(world.settings())
    token = await tokens.token()
    assert roles_of(token) == ROLES
    assert await tokens.token() == token
    assert world.graph.calls["token"] == 1
    other = await tokens.renew(token)
    assert other != token
    assert await tokens.renew(token) == other  # somebody else renewed it meanwhile
    assert world.graph.calls["token"] == 2
    await tokens.close()


async def test_a_certificate_signs_what_msal_asserts(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    path, _ = certificate_file(world.folder)
    bodies = []
    real = type(world.graph)._token

    def token(self: ScriptedGraph, request: Request) -> Response:
        bodies.append(request.body.decode())
        return real(self, request)

    monkeypatch.setattr(type(world.graph), "_token", token)
    tokens = Tokens(world.settings(client_secret_file=None, certificate_file=path))
    assert await tokens.token()
    await tokens.close()
    [body] = bodies
    assertion = body.partition("client_assertion=")[2].partition("&")[0]
    first = assertion.split(".")[0]
    header = json.loads(base64.urlsafe_b64decode(first + "=" * (-len(first) % 4)))
    assert header["alg"] == "PS256"
    assert "x5t#S256" in header
    assert "client_secret" not in body


async def test_a_key_alone_needs_the_thumbprint(world: World) -> None:
    _, leaf = certificate_file(world.folder)
    path = private(world.folder / "key.pem", leaf.private_key_pem.bytes())
    settings = world.settings(client_secret_file=None, certificate_file=path)
    with pytest.raises(ConfigError, match="set certificate_thumbprint"):
        await Tokens(settings).token()
    settings = world.settings(client_secret_file=None, certificate_file=path, certificate_thumbprint="AB" * 20)
    tokens = Tokens(settings)
    assert await tokens.token()
    await tokens.close()


def test_a_certificate_file_is_read_before_it_is_needed(world: World) -> None:
    _, leaf = certificate_file(world.folder)
    other = trustme.CA().issue_cert("app.example")
    stranger = other.cert_chain_pems[0].bytes()
    cases = {
        "no private key": b"hello",
        "damaged certificate": leaf.private_key_pem.bytes() + b"-----BEGIN CERTIFICATE-----\nAAAA\n",
        "no RSA key": other.private_key_pem.bytes(),
        "is not that of the key": leaf.private_key_pem.bytes() + stranger,
    }
    for told, content in cases.items():
        path = private(world.folder / "bad.pem", content)
        with pytest.raises(ConfigError, match=told):
            world.settings(client_secret_file=None, certificate_file=path).credential()
    Path(path).chmod(0o644)
    with pytest.raises(ConfigError, match="chmod 600"):
        world.settings(client_secret_file=None, certificate_file=path).credential()


async def test_a_wrong_secret_is_said_with_what_to_do(world: World) -> None:
    wrong = private(world.folder / "wrong", b"not the secret")
    tokens = Tokens(world.settings(client_secret_file=wrong))
    with pytest.raises(TryLaterError, match=r"AADSTS7000215.*write its value, not its id") as caught:
        await tokens.token()
    assert "not the secret" not in str(caught.value)
    private(world.folder / "wrong", b"scripted")
    await tokens.close()
    assert await tokens.token()  # mended, and no restart
    await tokens.close()


async def test_a_sign_in_that_is_away_or_none_is_tried_later(world: World) -> None:
    tokens = Tokens(world.settings())
    world.graph.outage = True
    with pytest.raises(TryLaterError, match="cannot be reached"):
        await tokens.token()
    world.graph.mend()
    world.graph.fail("token", Failure(400, code="x"))
    with pytest.raises(TryLaterError, match="gives no token"):
        await tokens.token()
    assert await tokens.token()  # MSAL stumbled over that answer, and is made anew
    await tokens.close()
    lost = Tokens(world.settings(authority=f"{world.graph.url}/nowhere"))
    with pytest.raises(TryLaterError, match="is no sign-in"):
        await lost.token()
    await lost.close()


async def test_only_the_authorities_of_ca_file_are_trusted(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    other = world.folder / "other.pem"
    trustme.CA().cert_pem.write_to_path(other)
    tokens = Tokens(world.settings(ca_file=str(other)))
    with pytest.raises(TryLaterError, match="CERTIFICATE_VERIFY_FAILED"):
        await tokens.token()
    await tokens.close()
    with pytest.raises(ConfigError, match="ca_file"):
        trust(world.settings(ca_file="/nowhere.pem"))
    # What requests would take instead of ca_file: tokens are not fetched with it.
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(other))
    tokens = Tokens(world.settings())
    assert await tokens.token()
    await tokens.close()


def test_roles_are_read_from_whatever_a_token_is() -> None:
    def token(claims: object) -> str:
        return "x." + base64.urlsafe_b64encode(json.dumps(claims).encode()).decode().rstrip("=") + ".y"

    assert roles_of(token({"roles": ["a", 5]})) == {"a"}
    assert roles_of(token({})) == frozenset()
    for other in ("opaque", "a.b.c", token([1]), token({"roles": 5}), "", "a.\u00e9.c"):
        assert roles_of(other) is None


def test_settings_fit_together(world: World) -> None:
    def told(**changes: object) -> str:
        with pytest.raises(ValidationError) as caught:
            world.settings(**changes)
        return str(caught.value)

    assert "exactly one" in told(client_secret_file=None)
    assert "exactly one" in told(client_secret="env:X")
    assert "says where a secret is" in told(client_secret_file=None, client_secret="hunter2")
    assert "one tenant's" in told(tenant_id="Common")
    assert "https://HOST/TENANT" in told(authority="https://login.example")
    assert "https://HOST/TENANT" in told(authority="http://login.example/x")
    assert "http only for this machine" in told(base_url="http://graph.example")
    assert "http only for this machine" in told(base_url="https://user@graph.example")
    assert "no time zone" in told(time_zone="Mars/Olympus")
    assert "poll_interval" in told(set_presence=True, poll_interval=300)
    assert "has no presence" in told(set_presence=True, cloud="govsg")
    assert "poll_interval" in told(poll_interval=1)
    assert world.settings(base_url="http://127.0.0.1:9/").root() == "http://127.0.0.1:9/v1.0"


@pytest.mark.parametrize(
    ("cloud", "login", "graph"),
    [
        ("global", "login.microsoftonline.com", "graph.microsoft.com"),
        ("us-gov", "login.microsoftonline.us", "graph.microsoft.us"),
        ("us-dod", "login.microsoftonline.us", "dod-graph.microsoft.us"),
        ("china", "login.partner.microsoftonline.cn", "microsoftgraph.chinacloudapi.cn"),
        ("bleu", "login.sovcloud-identity.fr", "graph.svc.sovcloud.fr"),
        ("delos", "login.sovcloud-identity.de", "graph.svc.sovcloud.de"),
        ("govsg", "login.sovcloud-identity.sg", "graph.svc.sovcloud.sg"),
    ],
)
def test_every_cloud_has_its_places(world: World, cloud: str, login: str, graph: str) -> None:
    settings = world.settings(cloud=cloud, authority="", base_url="", tenant_id="contoso.example")
    assert settings.sign_in() == f"https://{login}/contoso.example"
    assert settings.root() == f"https://{graph}/v1.0"
    assert settings.scope() == f"https://{graph}/.default"
    assert world.settings(cloud=cloud).scope() == f"https://{graph}/.default"  # behind a proxy, too
    assert settings.has_presence == (cloud not in {"china", "delos", "govsg"})
