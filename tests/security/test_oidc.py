"""JWTs of an identity provider: which are good, for whom, and every way to be refused."""

import base64
import json
import string
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, get_args

import jwt
import pytest
import pytest_asyncio
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from hypothesis import given
from hypothesis import strategies as st
from security.provider import AUDIENCE, NOW, Provider, answer, private_key, providing, public

from facesvc.config import OidcSettings
from facesvc.errors import ForbiddenError, InputError, UnauthenticatedError, UnavailableError
from facesvc.security import jwks
from facesvc.security.authority import Authority, identity_of
from facesvc.security.jwks import Published, Source
from facesvc.security.oidc import MAX_BYTES, Oidc, Terms, is_jwt
from facesvc.security.principals import Principal
from facesvc.security.roles import Role

ALGORITHMS = frozenset({"RS256", "PS256", "ES256", "EdDSA"})
HOUR = timedelta(hours=1)
SECOND = int(NOW.timestamp())


class World:
    """A provider, and what knows its people at a time that a test turns."""

    def __init__(self, provider: Provider) -> None:
        self.provider = provider
        self.now = NOW
        source = Source(issuer=provider.issuer, ca_file=provider.ca_file, algorithms=ALGORITHMS)
        self.published = Published(source, lambda: 0.0)
        roles = {"facesvc-admins": Role.ADMIN, "facesvc-reception": Role.ENROLLER, "facesvc-walls": Role.DASHBOARD}
        self.terms = Terms(issuer=provider.issuer, audience=AUDIENCE, algorithms=ALGORITHMS, roles=roles)
        self.oidc = self.under()

    def under(self, **changes: Any) -> Oidc:
        """With other terms."""
        return Oidc(replace(self.terms, **changes), self.published, lambda: self.now)

    def refusal(self, text: str) -> str:
        with pytest.raises(UnauthenticatedError) as caught:
            self.oidc.find(text)
        return caught.value.message


@pytest_asyncio.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with providing(tmp_path) as provider:
        world = World(provider)
        await world.published.refresh()
        yield world


def segment(data: object) -> str:
    content = data if isinstance(data, bytes) else json.dumps(data).encode()
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode()


def with_header(world: World, header: object) -> str:
    """A good JWT under another header, rightly signed by a key of the provider's."""
    signed = f"{segment(header)}.{segment(world.provider.claims())}"
    algorithm = jwt.get_algorithm_by_name("RS256")
    return f"{signed}.{segment(algorithm.sign(signed.encode(), private_key('rsa')))}"


async def test_a_good_jwt_is_somebody_with_a_role(world: World) -> None:
    over = NOW + HOUR + timedelta(seconds=30)
    ana = Principal(name="oidc:ana", role=Role.ADMIN, expire_time=over)
    for key, algorithm in (("rsa", "RS256"), ("rsa", "PS256"), ("p256", "ES256"), ("ed", "EdDSA")):
        text = world.provider.sign(world.provider.claims(), key, algorithm)
        assert is_jwt(text)
        assert world.oidc.find(text) == ana


async def test_types_that_are_taken(world: World) -> None:
    for kind in ("JWT", "jwt", "at+jwt", "application/at+jwt", None):
        assert world.oidc.find(world.provider.sign(world.provider.claims(), typ=kind)).role is Role.ADMIN
    for kind in ("dpop+jwt", "logout+jwt", "application/secevent+jwt", 7, ["JWT"]):
        text = with_header(world, {"alg": "RS256", "kid": "rsa", "typ": kind})
        assert "; taken are JWT and at+jwt" in world.refusal(text)


async def test_what_the_header_brings_along_is_not_looked_at(world: World) -> None:
    stranger = public("rsa-stranger")
    brought = {"jku": "https://evil.example/keys", "x5u": "https://evil.example/x", "jwk": stranger, "x5c": ["AAAA"]}
    before = list(world.provider.asked)
    assert world.oidc.find(world.provider.sign(world.provider.claims(), **brought)).name == "oidc:ana"
    for kid in ("rsa", "rsa-stranger"):
        forged = world.provider.sign(world.provider.claims(), "rsa-stranger", **{**brought, "kid": kid})
        assert world.refusal(forged)
    assert world.provider.asked == before


async def test_a_signature_of_somebody_else_is_none(world: World) -> None:
    good = world.provider.good()
    wrong = "this JWT has a wrong signature"
    assert world.refusal(world.provider.sign(world.provider.claims(), "rsa-stranger", kid="rsa")) == wrong
    head, body, signature = good.split(".")
    for text in (
        f"{head}.{segment(world.provider.claims(sub='eve'))}.{signature}",
        f"{head}.{body}.AAAA",
        f"{head}.{body}.{signature[:-2]}",
        f"{head}.{body}.{'A' * len(signature)}",
        world.provider.sign(world.provider.claims(), "rsa", "PS256").rsplit(".", 1)[0] + "." + signature,
    ):
        assert world.refusal(text) == wrong


async def test_no_algorithm_and_no_shared_secret_is_ever_taken(world: World) -> None:
    claims = world.provider.claims()
    unsigned = f"{segment({'alg': 'none', 'kid': 'rsa'})}.{segment(claims)}."
    assert world.refusal(unsigned) == "this JWT has not the form of one"
    assert "is signed by 'none'; taken are" in world.refusal(unsigned + "AAAA")
    own = private_key("rsa").public_key()
    for form in (serialization.Encoding.PEM, serialization.Encoding.DER):
        secret = own.public_bytes(form, serialization.PublicFormat.SubjectPublicKeyInfo)
        signed = f"{segment({'alg': 'HS256', 'kid': 'rsa', 'typ': 'JWT'})}.{segment(claims)}"
        mac = jwt.get_algorithm_by_name("HS256").sign(signed.encode(), secret)
        assert "is signed by 'HS256'; taken are" in world.refusal(f"{signed}.{segment(mac)}")
    for algorithm in ("None", "rs256", "RS512", "HS512", "", None, 7, ["RS256"]):
        assert "is signed by" in world.refusal(with_header(world, {"alg": algorithm, "kid": "rsa"}))


async def test_a_key_is_not_used_with_what_it_is_not_for(world: World) -> None:
    for kid in ("p256", "ed"):
        assert "does not publish" in world.refusal(world.provider.sign(world.provider.claims(), kid=kid))
    world.provider.keys = [public("rsa", alg="PS256")]
    await world.published.refresh()
    assert "does not publish" in world.refusal(world.provider.good())
    assert world.oidc.find(world.provider.sign(world.provider.claims(), "rsa", "PS256"))


async def test_what_the_settings_do_not_take_is_not_taken_of_a_known_key_either(world: World) -> None:
    only = world.under(algorithms=frozenset({"PS256"}))
    with pytest.raises(UnauthenticatedError, match="is signed by 'RS256'; taken are PS256"):
        only.find(world.provider.good())


@pytest.mark.parametrize(
    ("header", "why"),
    [
        ({"alg": "RS256", "kid": "rsa", "crit": ["exp"], "exp": 1}, "critical extensions|cannot be read"),
        ({"alg": "RS256", "kid": "rsa", "crit": ["b64"], "b64": True}, "critical extensions"),
        ({"alg": "RS256", "kid": "rsa", "crit": []}, "critical extensions|cannot be read"),
        ({"alg": "RS256", "kid": "rsa", "b64": False}, "critical extensions"),
        ({"alg": "RS256"}, "names no key"),
        ({"alg": "RS256", "kid": ""}, "names no key"),
        ({"alg": "RS256", "kid": 7}, "names no key|cannot be read"),
        ({"alg": "RS256", "kid": "other"}, "does not publish; if it is new, come again soon"),
        (["RS256"], "cannot be read"),
        (b"\xff{}", "cannot be read"),
        (b"[" * 4000, "cannot be read"),
        (b'{"alg": ' + b"[" * 900 + b"]" * 900 + b"}", "is signed by none|cannot be read"),
        (b'{"alg": ' + b"9" * 5000 + b"}", "is signed by none|cannot be read"),
    ],
)
async def test_headers_that_are_refused(world: World, header: object, why: str) -> None:
    with pytest.raises(UnauthenticatedError, match=why):
        world.oidc.find(with_header(world, header))


@pytest.mark.parametrize("content", [b"", b"[]", b"7", b"\xff", b"[" * 4000, b"9" * 5000])
async def test_content_that_is_no_object(world: World, content: bytes) -> None:
    text = jwt.api_jws.encode(content, private_key("rsa"), "RS256", {"kid": "rsa"})
    assert world.refusal(text) in {"this JWT cannot be read", "this JWT has not the form of one"}


async def test_a_jwt_is_not_large(world: World) -> None:
    fits = world.provider.good(more="x" * 5000)
    assert MAX_BYTES - 1200 < len(fits) <= MAX_BYTES
    assert world.oidc.find(fits)
    assert world.refusal(world.provider.good(more="x" * 7000)) == "this JWT has more than 8192 bytes"
    assert world.refusal("A" * (1 << 20) + ".A.A") == "this JWT has more than 8192 bytes"


async def test_padding_and_other_letters_are_no_part_of_it(world: World) -> None:
    good = world.provider.good()
    for text in (
        good + "=",
        good + " ",
        good + "\n",
        good.replace(".", "=.", 1),
        "..",
        "a.b.",
        "ä.ö.ü",
        ".".join("abcd"),
    ):
        assert world.refusal(text) == "this JWT has not the form of one"
    letters = string.ascii_uppercase + string.ascii_lowercase + string.digits + "-_"
    another = good[:-1] + letters[letters.index(good[-1]) + 1]  # whose last bits are of no account
    assert base64.urlsafe_b64decode(another[-2:] + "==") == base64.urlsafe_b64decode(good[-2:] + "==")
    for text in (another, "a.b.c"):
        assert world.refusal(text) == "this JWT cannot be read"


async def test_an_issuer_is_the_one(world: World) -> None:
    own = world.provider.issuer
    for other in ("https://evil.example", own + "/", own[:-1], own.upper(), "", None, 7, [], [own]):
        assert "is of another issuer (" in world.refusal(world.provider.good(iss=other))
    assert "('https://evil.example')" in world.refusal(world.provider.good(iss="https://evil.example"))


async def test_an_audience_is_the_one(world: World) -> None:
    for others in ("other", ["other", "more"], f"{AUDIENCE}/", [[AUDIENCE]], {AUDIENCE: 1}, "", [], None, 7):
        assert "is for another audience (" in world.refusal(world.provider.good(aud=others))
    assert "('other, more')" in world.refusal(world.provider.good(aud=["other", "more"]))
    assert world.oidc.find(world.provider.good(aud=["other", AUDIENCE]))


async def test_a_jwt_is_good_until_its_time_and_a_little(world: World) -> None:
    text = world.provider.good()
    world.now = NOW + HOUR + timedelta(seconds=29)
    found = world.oidc.find(text)
    assert world.oidc.is_live(found)
    world.now += timedelta(seconds=1)
    assert world.refusal(text) == "this JWT expired at 2026-03-02 09:30:00 UTC: get a new one"
    assert not world.oidc.is_live(found)


async def test_a_jwt_of_the_future_is_refused(world: World) -> None:
    assert world.oidc.find(world.provider.good(nbf=SECOND + 30, iat=SECOND + 30))
    for claim in ("nbf", "iat"):
        times = {"nbf": SECOND, "iat": SECOND, claim: SECOND + 31}
        assert "is of the future" in world.refusal(world.provider.good(**times))
        assert "is of the future" in world.refusal(world.provider.good(**{claim: SECOND + 31}))
    assert world.under(leeway=timedelta(0)).find(world.provider.good(iat=SECOND, nbf=SECOND))


async def test_a_jwt_is_short_lived(world: World) -> None:
    day = 86_400
    assert world.oidc.find(world.provider.good(iat=SECOND, exp=SECOND + day))
    refusal = world.refusal(world.provider.good(iat=SECOND, exp=SECOND + day + 1))
    assert refusal == "this JWT holds for 1 day, 0:00:01, and at most 1 day, 0:00:00 are taken"


@pytest.mark.parametrize("claim", ["exp", "iat", "nbf"])
async def test_times_are_numbers_and_are_there(world: World, claim: str) -> None:
    bad = [str(SECOND), True, -1, 1e300, float("nan"), float("inf"), [], {}, 10**30]
    for value in bad if claim == "nbf" else [*bad, None]:
        assert f"({claim})" in world.refusal(world.provider.good(**{claim: value}))
    assert world.oidc.find(world.provider.good(iat=SECOND - 0.5, exp=SECOND + 0.5, nbf=SECOND - 0.5))


async def test_there_is_no_role_but_of_the_settings(world: World) -> None:
    for shown in (None, [], "", "admin", ["admin", "Facesvc-Admins"], {"facesvc-admins": 1}, [["facesvc-admins"]], 7):
        with pytest.raises(ForbiddenError, match="gives you no role on this server: no roles of the JWT is one"):
            world.oidc.find(world.provider.good(roles=shown))
    assert world.oidc.find(world.provider.good(roles="facesvc-walls")).role is Role.DASHBOARD


async def test_of_several_roles_the_first_line_of_the_settings_counts(world: World) -> None:
    both = world.provider.good(roles=["facesvc-walls", "other", "facesvc-reception"])
    assert world.oidc.find(both).role is Role.ENROLLER
    turned = world.under(roles=dict(reversed(world.terms.roles.items())))
    assert turned.find(both).role is Role.DASHBOARD


async def test_roles_are_where_the_settings_say(world: World) -> None:
    keycloak = {"facesvc": {"roles": ["facesvc-walls"]}}
    text = world.provider.good(roles=None, resource_access=keycloak, groups=["facesvc-admins"])
    assert world.under(roles_claim="resource_access.facesvc.roles").find(text).role is Role.DASHBOARD
    assert world.under(roles_claim="groups").find(text).role is Role.ADMIN
    for nowhere in ("resource_access.other.roles", "groups.0", "resource_access.facesvc.roles.0", "..", "iss.x"):
        with pytest.raises(ForbiddenError):
            world.under(roles_claim=nowhere).find(text)
    dotted = world.provider.good(roles=None, **{"https://office.example/roles": ["facesvc-admins"]})
    assert world.under(roles_claim="https://office.example/roles").find(dotted).role is Role.ADMIN


async def test_a_name_is_of_the_letters_of_names_and_nobody_elses(world: World) -> None:
    named = world.under(name_claim="preferred_username")

    def name(given: object) -> str:
        return named.find(world.provider.good(preferred_username=given)).name

    assert name("ana.lima@contoso.example") == "oidc:ana.lima@contoso.example"
    odd = ["Ana Lima", "Ana_Lima~", "Ana\nLima", "Ana\u202eLima", "Änä", "=cmd()", "\ud800", "x" * 101, "x" * 999]
    names = [name(one) for one in odd]
    assert len(set(names)) == len(odd)
    for one in names:
        assert len(one) <= 128
        assert one.isascii()
        assert one.isprintable()
        assert " " not in one
    for missing in (None, "", 7, ["ana"]):
        with pytest.raises(UnauthenticatedError, match="it has no preferred_username"):
            name(missing)


def test_no_certificate_has_such_a_name() -> None:
    now = datetime.now(UTC)
    authority = Authority.make("a test", now)
    with pytest.raises(InputError, match="oidc: are those of the identity provider's people"):
        authority.issue_client("oidc:ana", Role.CAMERA, now)
    issued = authority.issue_client("oidc", Role.CAMERA, now).certificate
    assert identity_of(issued, now).name == "oidc"
    subject = x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATIONAL_UNIT_NAME, "camera"),
            x509.NameAttribute(NameOID.COMMON_NAME, "oidc:ana"),
        ]
    )
    of_before = authority._issue(subject, ExtendedKeyUsageOID.CLIENT_AUTH, None, now, HOUR)
    with pytest.raises(InputError, match="has the name of somebody of the identity provider's"):
        identity_of(of_before.certificate, now)


async def test_without_keys_nobody_is_refused_for_good(world: World) -> None:
    world.provider.answers["/tenant/keys"] = answer({}, 503)
    fresh = Oidc(world.terms, Published(world.published._source, lambda: 0.0), lambda: NOW)
    await fresh.published.refresh()
    with pytest.raises(UnavailableError):
        fresh.find(world.provider.good())
    with pytest.raises(UnauthenticatedError):  # what no key could make good
        fresh.find("a.b.c")


JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from(["alg", "kid", "iss", "exp", "roles"]), inner),
    max_leaves=8,
)


def offline() -> Oidc:
    """What knows one key, and asks nobody."""
    published = Published(Source(issuer="https://idp.example", algorithms=ALGORITHMS), lambda: 0.0)
    published._keys, published._seen = jwks.read({"keys": [public("ed")]}, "here", ALGORITHMS), 0.0
    roles = {"facesvc-admins": Role.ADMIN}
    terms = Terms(issuer="https://idp.example", audience=AUDIENCE, algorithms=ALGORITHMS, roles=roles)
    return Oidc(terms, published, lambda: NOW)


OFFLINE = offline()


@given(st.text(), JSON, JSON, st.binary(max_size=64))
def test_whatever_is_shown_is_refused_in_words(text: str, header: object, claims: object, signature: bytes) -> None:
    for shown in (text, f"{text}.{text}.{text}", f"{segment(header)}.{segment(claims)}.{segment(signature)}"):
        with pytest.raises(UnauthenticatedError):
            OFFLINE.find(shown)


@given(st.dictionaries(st.sampled_from(["iss", "aud", "iat", "exp", "nbf", "sub", "roles"]), JSON))
def test_whatever_is_signed_is_taken_or_refused_in_words(changes: dict[str, Any]) -> None:
    claims = Provider("https://idp.example").claims() | changes
    text = jwt.api_jws.encode(json.dumps(claims).encode(), private_key("ed"), "EdDSA", {"kid": "ed"})
    try:
        OFFLINE.find(text)
    except (UnauthenticatedError, ForbiddenError):
        return
    assert claims["iss"] == "https://idp.example"
    assert claims["aud"] == AUDIENCE or AUDIENCE in claims["aud"]


def test_a_token_of_this_server_is_no_jwt() -> None:
    assert not is_jwt(f"fsv_{'0' * 26}_{'A' * 43}")


def test_every_role_can_be_given() -> None:
    annotation = OidcSettings.model_fields["roles"].annotation
    assert set(get_args(get_args(annotation)[1])) == {role.value for role in Role}
