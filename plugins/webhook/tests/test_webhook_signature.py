"""The signature, and what the README tells receivers about it."""

import json
import re
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from facesvc_webhook.signature import HEADER, SignatureError, sign, verify
from hypothesis import given
from hypothesis import strategies as st
from webhook_harness import SECRET

README = Path(__file__).parent.parent / "README.md"
NOW = 1772440200
BODY = b'{"id":"1"}'
# printf '%s.%s' 1772440200 '{"id":"1"}' | openssl dgst -sha256 -hmac 'a secret of the tests, long enough'
BY_OPENSSL = "cc4fb2fa455aae92c5d5dac85e00a37c32be1df5cc14470e506d490e2fe40bfa"


def test_the_signature_is_the_one_that_openssl_makes() -> None:
    assert sign(BODY, [SECRET], NOW) == f"t={NOW},v1={BY_OPENSSL}"


def test_what_was_signed_verifies() -> None:
    verify(BODY, sign(BODY, [SECRET], NOW), [SECRET], now=NOW + 299)


def test_while_a_secret_is_exchanged_either_verifies() -> None:
    header = sign(BODY, ["the new secret", "the old secret"], NOW)
    assert header.count("v1=") == 2
    verify(BODY, header, ["the new secret"], now=NOW)
    verify(BODY, header, ["the old secret"], now=NOW)
    verify(BODY, sign(BODY, ["the old secret"], NOW), ["the new secret", "the old secret"], now=NOW)


@pytest.mark.parametrize(
    ("body", "secret", "now"),
    [
        (BODY + b" ", SECRET, NOW),
        (b"", SECRET, NOW),
        (BODY, "another secret", NOW),
        (BODY, "", NOW),
        (BODY, SECRET, NOW + 301),
        (BODY, SECRET, NOW - 301),
    ],
)
def test_another_body_secret_or_time_does_not(body: bytes, secret: str, now: float) -> None:
    with pytest.raises(SignatureError):
        verify(body, sign(BODY, [SECRET], NOW), [secret], now=now)


def test_the_time_is_signed_too() -> None:
    header = sign(BODY, [SECRET], NOW).replace(f"t={NOW}", f"t={NOW + 1}")
    with pytest.raises(SignatureError, match="this secret"):
        verify(BODY, header, [SECRET], now=NOW)


def test_without_any_secret_nothing_is_genuine() -> None:
    with pytest.raises(SignatureError):
        verify(BODY, sign(BODY, [], NOW), [], now=NOW)


def test_other_versions_of_signatures_are_passed_over() -> None:
    verify(BODY, f"v0=00,t={NOW},v2=zz,v1={BY_OPENSSL},", [SECRET], now=NOW)


@pytest.mark.parametrize(
    "header",
    [
        "",
        "t=",
        f"v1={BY_OPENSSL}",
        f"t={NOW}",
        f"t={NOW},v1=",
        f"t=-{NOW},v1={BY_OPENSSL}",
        f"t={NOW}.5,v1={BY_OPENSSL}",
        f"t=٣{NOW},v1={BY_OPENSSL}",
        f"t={NOW},t={NOW},v1={BY_OPENSSL}",
        f"t={NOW},v0={BY_OPENSSL}",
        f"t={NOW},v1={BY_OPENSSL}ü",
        f"t={NOW},v1={BY_OPENSSL}" + "," * 1024,
    ],
)
def test_a_header_that_is_none_is_refused(header: str) -> None:
    with pytest.raises(SignatureError):
        verify(BODY, header, [SECRET], now=NOW)


@given(st.text() | st.from_regex(r"t=[0-9]{1,13}(,v1=.*)*"))
def test_nothing_that_was_not_signed_verifies(header: str) -> None:
    with pytest.raises(SignatureError):
        verify(BODY, header, [SECRET], now=NOW)


def test_the_readme_names_the_header() -> None:
    assert f"\n{HEADER}: t=" in README.read_text()


def snippet(language: str) -> str:
    found = re.search(rf"^```{language}\n(.*?)^```", README.read_text(), re.DOTALL | re.MULTILINE)
    assert found is not None
    return found[1]


def cases() -> list[tuple[str, str, str, bool]]:
    """Body, header, secret, and whether that is genuine."""
    now = int(time.time())  # the snippets are for receivers, and ask the real clock
    body = '{"id":"1","name":"Zoë"}'

    def signed(secrets: list[str], at: int = now) -> str:
        return sign(body.encode(), secrets, at)

    return [
        (body, signed([SECRET]), SECRET, True),
        (body, signed(["the new secret", SECRET]), SECRET, True),
        (body, signed(["the new secret", SECRET]), "the new secret", True),
        (body, signed(["the new secret"]), SECRET, False),
        (body + " ", signed([SECRET]), SECRET, False),
        (body, signed([SECRET], now - 400), SECRET, False),
        (body, signed([SECRET], now + 400), SECRET, False),
        (body, signed([SECRET]).replace("v1=", "v0="), SECRET, False),
        (body, "", SECRET, False),
        (body, "t=x,v1=00", SECRET, False),
        (body, f"t={now},v1=00", SECRET, False),
    ]


def test_a_receiver_in_python_verifies_as_the_readme_says() -> None:
    names: dict[str, Any] = {}
    exec(compile(snippet("python"), "README.md", "exec"), names)
    is_genuine: Callable[[bytes, str, str], bool] = names["is_genuine"]
    assert [is_genuine(body.encode(), header, secret) for body, header, secret, _ in cases()] == [
        genuine for *_, genuine in cases()
    ]


def test_a_receiver_in_node_verifies_as_the_readme_says() -> None:
    node = shutil.which("node")
    if node is None:
        pytest.skip("node is not installed: Debian has it as nodejs")
    program = (
        snippet("js")
        + f"\nconst cases = {json.dumps(cases())};"
        + "\nconsole.log(JSON.stringify(cases.map(([body, header, secret]) =>"
        + " isGenuine(Buffer.from(body), header, secret))));"
    )
    done = subprocess.run([node, "-"], input=program, capture_output=True, text=True, check=True, timeout=30)
    assert json.loads(done.stdout) == [genuine for *_, genuine in cases()]
