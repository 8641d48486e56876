"""Keys of an identity provider, fetched over TLS from one that a test scripts: what is taken, and what never is."""

import asyncio
import gzip
import json
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from security.provider import DISCOVERY, KEYS, Provider, answer, private_key, providing, public

from facesvc.errors import ConfigError, DependencyError, UnavailableError
from facesvc.security import jwks
from facesvc.security.jwks import Published, Source

ALGORITHMS = frozenset({"RS256", "PS256", "ES256", "EdDSA"})


class Clock:
    """Seconds that a test turns."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest_asyncio.fixture
async def provider(tmp_path: Path) -> AsyncIterator[Provider]:
    async with providing(tmp_path) as one:
        yield one


def source(provider: Provider, **changes: Any) -> Source:
    return replace(Source(issuer=provider.issuer, ca_file=provider.ca_file, algorithms=ALGORITHMS), **changes)


async def fetched(provider: Provider, **changes: Any) -> set[tuple[str, str]]:
    where = source(provider, **changes)
    return set(await jwks.fetch(where, jwks.trust(where)))


def kept(*keys: dict[str, Any], algorithms: frozenset[str] = ALGORITHMS) -> set[tuple[str, str]]:
    """What is taken of some keys, beside one that always is."""
    return set(jwks.read({"keys": [public("ed"), *keys]}, "here", algorithms)) - {("ed", "EdDSA")}


async def test_the_provider_says_where_its_keys_are(provider: Provider) -> None:
    assert await fetched(provider) == {("rsa", "RS256"), ("rsa", "PS256"), ("p256", "ES256"), ("ed", "EdDSA")}
    assert provider.asked == [DISCOVERY, KEYS]


async def test_it_is_not_asked_where_the_settings_say_so(provider: Provider) -> None:
    assert await fetched(provider, jwks_url=provider.issuer + "/keys")
    assert provider.asked == [KEYS]


async def test_an_issuer_is_exactly_the_one_of_the_settings(provider: Provider) -> None:
    slash = provider.issuer + "/"
    with pytest.raises(DependencyError, match=r"is of the issuer .*, and not of .*: compare oidc\.issuer"):
        await fetched(provider, issuer=slash)
    provider.answers[DISCOVERY] = answer({"issuer": slash, "jwks_uri": provider.issuer + "/keys"})
    assert await fetched(provider, issuer=slash)
    assert set(provider.asked) == {DISCOVERY, KEYS}  # and its slash is not doubled


@pytest.mark.parametrize(
    "url",
    ["http://{}/keys", "http://127.0.0.1/keys", "https://user@{}/keys", "file:///etc/passwd", "https:///", "[", 7],
)
async def test_keys_are_not_fetched_from_where_it_is_not_safe(provider: Provider, url: object) -> None:
    where = url.format(provider.issuer.split("/")[2]) if isinstance(url, str) else url
    provider.answers[DISCOVERY] = answer({"issuer": provider.issuer, "jwks_uri": where})
    with pytest.raises(DependencyError, match="is no safe address"):
        await fetched(provider)
    assert provider.asked == [DISCOVERY]


async def test_plain_text_is_for_a_provider_on_this_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")  # where nobody is: it is not gone by
    async with providing(tmp_path, plain=True) as provider:
        assert await fetched(provider)
        provider.answers[DISCOVERY] = answer({"issuer": provider.issuer, "jwks_uri": "http://idp.example/keys"})
        with pytest.raises(DependencyError, match="is no safe address"):
            await fetched(provider)


async def test_a_certificate_that_is_not_trusted_ends_it(provider: Provider, tmp_path: Path) -> None:
    with pytest.raises(DependencyError, match="CERTIFICATE_VERIFY_FAILED"):
        await fetched(provider, ca_file=None)
    with pytest.raises(DependencyError, match=r"certificate is not valid for 'localhost'|mismatch"):
        await fetched(provider, issuer=provider.issuer.replace("127.0.0.1", "localhost"))
    assert provider.asked == []


def test_a_file_of_authorities_that_is_none_is_named(tmp_path: Path) -> None:
    for content in (b"", b"nonsense"):
        (tmp_path / "ca.pem").write_bytes(content)
        with pytest.raises(ConfigError, match=r"oidc\.ca_file .*ca\.pem cannot be used"):
            Published(Source(issuer="https://idp", ca_file=tmp_path / "ca.pem", algorithms=ALGORITHMS), Clock())
    with pytest.raises(ConfigError, match=r"absent\.pem cannot be used"):
        Published(Source(issuer="https://idp", ca_file=tmp_path / "absent.pem", algorithms=ALGORITHMS), Clock())


BOMB = gzip.compress(b" " * (10 << 20))


@pytest.mark.parametrize("path", [DISCOVERY, KEYS])
@pytest.mark.parametrize(
    ("bad", "why"),
    [
        (b"\x00\x01 nonsense\r\n\r\n", "cannot be reached"),
        (b"", "cannot be reached"),
        (answer(b"<html>"), "no JSON"),
        (answer(b"[" * 100_000), "no JSON"),
        (answer(b"[]"), "JSON that is no object"),
        (answer(b"{}"), "is no set of keys|is of the issuer none"),
        (answer({}, 500), "the status 500"),
        (answer({}, 204), "the status 204"),
        (answer({}, 302, "Location: https://elsewhere.example/"), "redirects, which is not followed"),
        (answer(b" " * (jwks.MAX_BYTES + 1)), f"more than {jwks.MAX_BYTES} bytes"),
        (answer(BOMB, 200, "Content-Encoding: gzip"), "an encoding that nobody asked for"),
    ],
)
async def test_what_a_provider_answers_is_not_believed(provider: Provider, path: str, bad: bytes, why: str) -> None:
    provider.answers[path] = bad
    with pytest.raises(DependencyError, match=why):
        await fetched(provider)


async def test_an_answer_without_an_end_is_cut(provider: Provider) -> None:
    endless = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    provider.answers[KEYS] = endless + (b"ffff\r\n" + b" " * 0xFFFF + b"\r\n") * 10
    with pytest.raises(DependencyError, match="more than"):
        await fetched(provider)


@pytest.mark.parametrize("path", [DISCOVERY, KEYS])
async def test_who_takes_their_time_is_not_waited_for(
    provider: Provider, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jwks, "_TIMEOUT_S", 0.5)
    provider.answers[path] = None
    with pytest.raises(DependencyError, match=r"did not answer within 0\.5 s"):
        await fetched(provider)


def test_a_key_is_for_the_algorithms_of_its_kind() -> None:
    assert kept(public("rsa")) == {("rsa", "RS256"), ("rsa", "PS256")}
    assert kept(public("rsa", alg="PS256")) == {("rsa", "PS256")}
    assert kept(public("p256")) == {("p256", "ES256")}
    assert kept(public("p384")) == set()  # whose ES384 was not asked for
    assert kept(public("p384"), algorithms=ALGORITHMS | {"ES384"}) == {("p384", "ES384")}
    for algorithm in ("HS256", "ES256", "none", "RSA-OAEP", 7):
        assert kept(public("rsa", alg=algorithm)) == set()


def with_private(name: str) -> dict[str, Any]:
    numbers = private_key(name).private_numbers()
    return public(name, d=str(numbers.private_value))


@pytest.mark.parametrize(
    "bad",
    [
        {"kty": "oct", "k": "c2VjcmV0LXNlY3JldC1zZWNyZXQtc2VjcmV0LXNlY3JldA", "kid": "oct", "alg": "HS256"},
        {"kty": "oct", "k": "c2VjcmV0LXNlY3JldC1zZWNyZXQtc2VjcmV0LXNlY3JldA", "kid": "oct"},
        public("rsa", use="enc"),
        public("rsa", use=7),
        public("rsa", key_ops=["encrypt"]),
        public("rsa", key_ops="verify"),
        public("rsa", kid=None),
        public("rsa", kid=""),
        public("rsa", kid=7),
        public("rsa", kid="k" * 300),
        public("rsa", crv="P-256"),
        public("rsa", n=None),
        public("rsa", n=7),
        public("rsa", n="_" * 2048),
        public("rsa", n="€"),
        public("rsa", e="AA"),
        public("rsa-short"),
        public("p256", crv="P-384"),
        public("p256", crv="secp256k1"),
        public("p256", crv="P-256", x="AAAA"),
        public("p256", x=public("p256")["y"]),
        public("p256", kty="RSA"),
        public("ed", kid="other", crv="X25519"),
        public("ed", kid="other", x="AAAA"),
        with_private("p256"),
        {},
    ],
)
def test_other_keys_are_passed_over(bad: dict[str, Any]) -> None:
    assert kept(bad) == set()


def test_a_set_is_of_keys_and_not_of_many() -> None:
    for keys in (None, {}, "keys"):
        with pytest.raises(DependencyError, match="here is no set of keys"):
            jwks.read({"keys": keys}, "here", ALGORITHMS)
    with pytest.raises(DependencyError, match="here has no key, with an id, for ES256, EdDSA, PS256, RS256"):
        jwks.read({"keys": [7, None, []]}, "here", ALGORITHMS)
    many = [public("ed", kid=str(number)) for number in range(jwks.MAX_KEYS + 1)]
    assert len(jwks.read({"keys": many[1:]}, "here", ALGORITHMS)) == jwks.MAX_KEYS
    with pytest.raises(DependencyError, match="has 65 keys, more than 64"):
        jwks.read({"keys": many}, "here", ALGORITHMS)


def test_of_two_keys_of_one_name_the_first_stays() -> None:
    found = jwks.read({"keys": [public("rsa", kid="k"), public("rsa-2", kid="k")]}, "here", ALGORITHMS)
    assert found["k", "RS256"].key.public_numbers() == private_key("rsa").public_key().public_numbers()


async def test_there_is_nothing_to_tell_by_until_they_were_fetched(provider: Provider, clock: Clock) -> None:
    published = Published(source(provider), clock)
    with pytest.raises(UnavailableError, match="keys could not be fetched") as caught:
        published.find("rsa", "RS256")
    assert caught.value.reason == "IDENTITY_PROVIDER_AWAY"
    await published.refresh()
    assert published.find("rsa", "RS256") is not None
    assert published.find("rsa", "ES256") is None
    assert published.find("other", "RS256") is None


async def test_while_the_provider_is_away_the_last_keys_hold_for_a_day(provider: Provider, clock: Clock) -> None:
    published = Published(source(provider), clock)
    await published.refresh()
    for bad in (b"", answer({}, 503), answer({"keys": []}), answer({"keys": [public("rsa", use="enc")]})):
        provider.answers[KEYS] = bad
        clock.now += 3600
        await published.refresh()
        assert published.find("rsa", "RS256") is not None
    clock.now = 1000 + 86_400
    assert published.find("rsa", "RS256") is not None
    clock.now += 1
    with pytest.raises(UnavailableError):
        published.find("rsa", "RS256")
    del provider.answers[KEYS]
    await published.refresh()
    assert published.find("rsa", "RS256") is not None


async def test_a_key_that_was_taken_back_is_gone_with_the_next_look(provider: Provider, clock: Clock) -> None:
    published = Published(source(provider), clock)
    await published.refresh()
    provider.keys = [public("rsa-2")]
    await published.refresh()
    assert published.find("rsa", "RS256") is None
    assert published.find("rsa-2", "RS256") is not None


async def test_a_mistake_of_ours_does_not_end_the_looking(
    provider: Provider, clock: Clock, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError("by design")

    monkeypatch.setattr(jwks, "read", broken)
    published = Published(source(provider), clock)
    for _ in range(2):
        await published.refresh()
    assert caplog.text.count("by design") == 1  # said once


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not condition():  # noqa: ASYNC110 - what is waited for happens in the code under test, which tells nobody
            await asyncio.sleep(0.001)


async def known(published: Published, key_id: str) -> None:
    await until(lambda: (key_id, "RS256") in published._keys)


async def test_who_invents_ids_does_not_make_us_hammer_the_provider(provider: Provider, clock: Clock) -> None:
    published = Published(source(provider), clock)
    running = asyncio.create_task(published.run())
    await known(published, "rsa")
    for number in range(1000):
        published.find(f"invented-{number}", "RS256")
        clock.now += 0.0299  # in all, just short of the shortest time
        if number % 100 == 0:
            await asyncio.sleep(0.001)
    assert not published._wanted.is_set()
    assert provider.asked.count(KEYS) == 1
    clock.now += 1
    provider.keys = [public("rsa-2")]
    for number in range(1000):
        published.find(f"invented-{number}", "RS256")
    await known(published, "rsa-2")
    for number in range(1000):
        published.find(f"invented-{number}", "RS256")
    assert not published._wanted.is_set()
    assert provider.asked.count(KEYS) == 2
    running.cancel()


async def test_a_known_key_asks_for_nothing(provider: Provider, clock: Clock) -> None:
    published = Published(source(provider), clock)
    await published.refresh()
    clock.now += 10_000
    published.find("rsa", "RS256")
    assert not published._wanted.is_set()


async def test_keys_are_looked_at_on_a_schedule(
    provider: Provider, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jwks, "_REFRESH_S", 0.001)
    running = asyncio.create_task(Published(source(provider), clock).run())
    await until(lambda: provider.asked.count(KEYS) >= 3)
    running.cancel()


async def test_a_provider_that_is_away_is_asked_again_soon(
    provider: Provider, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jwks, "_SHORTEST_WAIT_S", 0.001)
    provider.answers[KEYS] = answer(json.dumps({}).encode(), 503)
    published = Published(source(provider), clock)
    running = asyncio.create_task(published.run())
    await until(lambda: provider.asked.count(KEYS) >= 2)
    del provider.answers[KEYS]
    await known(published, "rsa")
    running.cancel()
