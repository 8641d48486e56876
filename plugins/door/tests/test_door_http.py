"""Relays with an HTTP interface, over real sockets."""

import asyncio
import ssl
from pathlib import Path
from typing import Any

import pytest
import trustme
from door_making import http
from door_relay import Relay, relays
from facesvc_door.drivers import RelayError
from facesvc_door.drivers.http import MAX_ANSWER_BYTES, HttpDriver, HttpRelay
from pydantic import ValidationError

from facesvc.errors import ConfigError

SECRET = "open sesame 7"


def driver(relay: Relay, **changes: Any) -> HttpDriver:
    return HttpDriver(HttpRelay.model_validate(http(relay.port, **changes)))


async def test_the_length_of_the_pulse_is_in_the_request(relay: Relay) -> None:
    one = driver(relay)
    await one.on(3.0, "01J/é ?")
    await one.off()
    assert relay.calls == [("/on", {"toggle_after": "3", "event": "01J/é ?"}), ("/off", {})]
    assert relay.methods == ["GET", "GET"]
    await one.close()


async def test_milliseconds_and_another_method(relay: Relay) -> None:
    one = driver(relay, on_url=f"http://127.0.0.1:{relay.port}/on?ms={{milliseconds}}", method="POST")
    await one.on(0.25, "event")
    assert relay.calls == [("/on", {"ms": "250"})]
    assert relay.methods == ["POST"]
    await one.close()


@pytest.mark.parametrize("status", [301, 302, 307, 308, 400, 401, 404, 500, 503])
async def test_only_a_success_is_one_and_no_redirect_is_followed(relay: Relay, status: int) -> None:
    one = driver(relay)
    relay.status["/on"] = status
    with pytest.raises(RelayError, match=f"status {status}"):
        await one.on(3, "event")
    assert relay.calls == []
    await one.close()


async def test_an_answer_without_end_is_given_up(relay: Relay) -> None:
    one = driver(relay)
    relay.body["/on"] = b"x" * (MAX_ANSWER_BYTES + 1)
    with pytest.raises(RelayError, match="more than"):
        await one.on(3, "event")
    await one.close()


async def test_a_relay_that_is_away_is_said() -> None:
    one = HttpDriver(HttpRelay.model_validate(http(1)))
    for call in (one.on(3, "event"), one.off(), one.check()):
        with pytest.raises(RelayError):
            await call
    await one.close()


async def test_proxies_of_the_environment_are_not_asked(relay: Relay, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    one = driver(relay)
    await one.off()
    assert relay.paths == ["/off"]
    await one.close()


@pytest.mark.parametrize(
    ("auth", "name", "begins"), [("basic", "admin", "Basic YWRtaW46"), ("bearer", "", f"Bearer {SECRET}")]
)
async def test_it_says_who_it_is(
    relay: Relay, monkeypatch: pytest.MonkeyPatch, auth: str, name: str, begins: str
) -> None:
    monkeypatch.setenv("RELAY_SECRET", SECRET)
    one = driver(relay, auth=auth, username=name, password="env:RELAY_SECRET")
    await one.off()
    assert relay.headers[-1]["authorization"].startswith(begins)
    assert SECRET not in repr(one) + repr(one._settings) + repr(vars(one))
    await one.close()


async def test_digest_authentication_as_shelly_asks_for_it(relay: Relay, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RELAY_SECRET", SECRET)
    relay.challenge = 'Digest qop="auth", realm="shellyplus1-aabb", nonce="6555", algorithm=SHA-256'
    one = driver(relay, auth="digest", username="admin", password="env:RELAY_SECRET")
    await one.on(3, "event")
    sent = relay.headers[-1]["authorization"]
    assert sent.startswith("Digest ")
    assert "SHA-256" in sent
    assert SECRET not in sent
    assert relay.pulses == ["event"]
    await one.close()


async def test_a_secret_that_is_not_there_fails_at_the_start(relay: Relay, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RELAY_SECRET", raising=False)
    with pytest.raises(ConfigError, match="env:RELAY_SECRET"):
        driver(relay, auth="bearer", password="env:RELAY_SECRET")
    monkeypatch.setenv("RELAY_SECRET", "one\ntwo")
    with pytest.raises(ConfigError, match="no header can carry") as refused:
        driver(relay, auth="bearer", password="env:RELAY_SECRET")
    assert "two" not in refused.value.message


async def test_over_tls_the_relay_has_to_be_the_one_it_says(tmp_path: Path) -> None:
    authority, other = trustme.CA(), trustme.CA()
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    for name, one in (("right", authority), ("wrong", other)):
        one.cert_pem.write_to_path(tmp_path / name)
    async with relays(context) as relay:
        urls = {
            "off_url": f"https://127.0.0.1:{relay.port}/off",
            "on_url": f"https://127.0.0.1:{relay.port}/on?{{seconds}}",
        }
        trusting = driver(relay, **urls, ca_file=str(tmp_path / "right"))
        await trusting.off()
        assert relay.paths == ["/off"]
        await trusting.close()
        for ca_file in (str(tmp_path / "wrong"), ""):
            doubting = driver(relay, **urls, ca_file=ca_file)
            with pytest.raises(RelayError):
                await doubting.off()
            await doubting.close()
        assert relay.paths == ["/off"]
        with pytest.raises(ConfigError, match="ca_file"):
            driver(relay, ca_file=str(tmp_path / "none"))


@pytest.mark.parametrize(
    ("body", "field", "is_open"),
    [
        (b'{"id":0,"state":true}', "state", True),
        (b'{"id":0,"state":false}', "state", False),
        (b'{"input:0":{"state":true}}', "input:0.state", True),
    ],
)
async def test_the_contact_is_read(relay: Relay, body: bytes, field: str, *, is_open: bool) -> None:
    url = f"http://127.0.0.1:{relay.port}/input"
    relay.body["/input"] = body
    for value in (True, False):
        one = driver(relay, input_url=url, input_field=field, input_open=value)
        assert one.has_input
        assert await one.is_open() == (is_open == value)
        assert ("open" if is_open == value else "closed") in await one.check()
        await one.close()


@pytest.mark.parametrize(
    "body",
    [b"", b"{}", b'{"state":1}', b'{"state":"true"}', b'{"state":null}', b"[true]", b"true", b"\xff", b"[" * 60000],
)
async def test_a_contact_that_says_something_else_is_not_read(relay: Relay, body: bytes) -> None:
    one = driver(relay, input_url=f"http://127.0.0.1:{relay.port}/input")
    relay.body["/input"] = body
    with pytest.raises(RelayError, match="no true or false"):
        await one.is_open()
    await one.close()


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"on_url": "http://relay/on"}, "length of the pulse"),
        ({"on_url": "http://relay/on?t={seconds.real}"}, "no places but"),
        ({"on_url": "http://relay/on?t={seconds!r}"}, "no places but"),
        ({"on_url": "http://relay/on?t={seconds:9999999}"}, "no places but"),
        ({"on_url": "http://relay/on?t={0}"}, "no places but"),
        ({"on_url": "http://relay/on?t={}"}, "no places but"),
        ({"on_url": "http://relay/on?t={password}"}, "no places but"),
        ({"on_url": "http://relay/on?t={seconds"}, "on_url"),
        ({"off_url": "http://relay/off?t={seconds}"}, "no places to fill in"),
        ({"off_url": "ftp://relay/off"}, "http://"),
        ({"off_url": "relay/off"}, "http://"),
        ({"off_url": "http:///off"}, "http://"),
        ({"off_url": "http://admin:secret@relay/off"}, "no password"),
        ({"off_url": "http://relay/off#x"}, "http://"),
        ({"off_url": "http://relay:99999/off"}, "maybe a port"),
        ({"auth": "basic"}, "need username and password"),
        ({"auth": "digest", "password": "env:X"}, "need username and password"),
        ({"password": "env:X"}, "need username and password"),
        ({"auth": "bearer", "password": "hunter2"}, "never what it is"),
        ({"input_field": "a..b"}, "input_field"),
        ({"colour": "red"}, "colour"),
    ],
)
def test_what_makes_no_sense_is_refused(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said) as refused:
        HttpRelay.model_validate(http(80, **changes))
    assert "hunter2" not in str(refused.value)


async def test_a_call_that_was_given_up_leaves_the_driver_usable(relay: Relay) -> None:
    one = driver(relay)
    relay.held["/on"] = asyncio.Event()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.1):
            await one.on(3, "event")
    await one.off()
    assert not relay.lit
    await one.close()
