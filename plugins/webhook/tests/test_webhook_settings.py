"""The settings, and how they are refused."""

import re
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import pytest
from facesvc_webhook import PLUGIN
from facesvc_webhook.network import tls_context
from facesvc_webhook.settings import WebhookSettings
from pydantic import ValidationError

from facesvc.errors import ConfigError
from facesvc.events.plugin import GROUP

README = Path(__file__).parent.parent / "README.md"
LEAST = {"url": "https://rooms.example/facesvc", "secret": "env:WEBHOOK_SECRET"}


def made(**changes: Any) -> WebhookSettings:
    return WebhookSettings.model_validate({**LEAST, **changes})


def test_the_server_finds_it() -> None:
    (entry,) = entry_points(group=GROUP, name="webhook")
    assert entry.load() is PLUGIN


def test_the_readme_has_every_setting_and_its_default() -> None:
    rows = dict(re.findall(r"^\| `(\w+)` \| `?(.+?)`? \|", README.read_text(), re.MULTILINE))
    defaults = {
        "url": "\N{EN DASH}",
        "secret": "\N{EN DASH}",
        "kinds": "all",
        "previous_secret": "empty",
        "ca_file": "empty",
    }
    for name, field in WebhookSettings.model_fields.items():
        defaults.setdefault(
            name, f"{field.default:g}" if isinstance(field.default, float) else str(field.default).lower()
        )
    assert rows == defaults


def test_what_has_to_be_set_is_little_and_the_rest_is_careful() -> None:
    given = made()
    assert (given.host, given.port, given.encrypted) == ("rooms.example", 443, True)
    assert not given.names
    assert not given.allow_private
    assert given.kinds == {"seen", "arrived", "left", "unknown_person", "spoof_attempt", "enriched"}


def test_a_port_and_an_address_are_understood() -> None:
    given = made(url="http://[::1]:8080/x", allow_private=True)
    assert (given.host, given.port, given.encrypted) == ("::1", 8080, False)
    assert made(url="http://10.0.0.1", allow_private=True).port == 80


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"url": ""}, "1 to 2048 characters"),
        ({"url": "https://rooms.example/" + "x" * 2048}, "1 to 2048 characters"),
        ({"url": "https://rooms.example/a b"}, "no spaces"),
        ({"url": "https://rooms.example/\r\nHost: x"}, "no spaces"),
        ({"url": "ftp://rooms.example/"}, "starts with https"),
        ({"url": "rooms.example"}, "starts with https"),
        ({"url": "https:///x"}, "starts with https"),
        ({"url": f"https://{'a' * 64}.example/"}, "no address"),
        ({"url": "https://rooms..example/"}, "no address"),
        ({"url": "https://rooms.example:65536/"}, "1 to 65535"),
        ({"url": "https://rooms.example:x/"}, "no address"),
        ({"url": "https://me:pw@rooms.example/"}, "no user and no password"),
        ({"url": "https://rooms.example/#x"}, "no #"),
        ({"url": "http://rooms.example/"}, "write https"),
        ({"url": "https://127.0.0.1/"}, "allow_private"),
        ({"url": "https://[::ffff:10.0.0.1]/"}, "allow_private"),
        ({"url": "http://93.184.216.34/", "allow_private": True}, "use https"),
        ({"url": "https://224.0.0.1/", "allow_private": True}, "multicast"),
        ({"secret": ""}, "at least 1 character"),
        ({"secret": "a secret of the tests, long enough"}, "says where a secret is"),
        ({"previous_secret": "a secret of the tests, long enough"}, "says where a secret is"),
        ({"kinds": []}, "at least 1 item"),
        ({"kinds": ["seen", "gone"]}, "there is no kind gone, only seen"),
        ({"source": ""}, "pattern"),
        ({"source": "a b"}, "pattern"),
        ({"type_prefix": "com..facesvc"}, "pattern"),
        ({"type_prefix": "com.facesvc."}, "pattern"),
        ({"timeout_s": 0}, "greater than"),
        ({"timeout_s": 61}, "less than"),
        ({"timeout_s": float("nan")}, "less than"),
        ({"max_body_bytes": 1}, "greater than"),
        ({"secrets": "env:X"}, "not permitted"),
    ],
)
def test_a_bad_value_is_refused_in_words(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError) as caught:
        made(**changes)
    assert words in str(caught.value)


def test_a_secret_in_the_place_of_its_place_is_not_repeated() -> None:
    with pytest.raises(ValidationError) as caught:
        made(secret="5ecret-5ecret-5ecret")
    assert "5ecret" not in str(caught.value)


def test_a_secret_that_could_be_guessed_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WEBHOOK_SECRET", "hunter2")
    with pytest.raises(ConfigError, match="shorter than 16") as caught:
        made().secrets()
    assert "hunter2" not in str(caught.value)


def test_a_missing_secret_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WEBHOOK_SECRET")
    with pytest.raises(ConfigError, match="env:WEBHOOK_SECRET"):
        made().secrets()


def test_certificates_that_are_none_are_named(tmp_path: Path) -> None:
    path = tmp_path / "ca.pem"
    with pytest.raises(ConfigError, match=r"ca\.pem cannot be used: No such file"):
        tls_context(made(ca_file=path))
    path.write_text("no certificate")
    with pytest.raises(ConfigError, match="PEM"):
        tls_context(made(ca_file=path))
