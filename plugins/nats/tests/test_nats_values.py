"""What needs no server: settings, subjects, messages, and how long to wait before the next attempt."""

import asyncio
import json
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from facesvc_nats import PLUGIN
from facesvc_nats.client import Client
from facesvc_nats.messages import EXPIRE_TIME, MAX_TOKEN, message, subject, token
from facesvc_nats.nkeys import UserKey
from facesvc_nats.settings import NatsSettings
from facesvc_nats.stream import covers
from hypothesis import given
from hypothesis import strategies as st
from nats_making import ANA, settings
from nats_server import free_port
from pydantic import ValidationError

from facesvc.delivery.kit import NOW, arrived, delivery, seen
from facesvc.errors import FacesvcError
from facesvc.events.link import Link, pause
from facesvc.events.plugin import TryLaterError
from facesvc.events.records import UnknownPersonEvent

ONE = settings("127.0.0.1:4222")


@given(st.text())
def test_a_zone_is_one_token(zone: str) -> None:
    made = token(zone)
    assert 0 < len(made) <= MAX_TOKEN + 13
    assert all(one.isascii() and (one.isalnum() or one in "_-") for one in made)
    assert subject(ONE, zone, "seen").count(".") == 3


@given(
    st.lists(
        st.one_of(st.text(max_size=3), st.sampled_from(["", "_", "a.b", "a_b", token("a.b"), token(token("a.b"))])),
        max_size=8,
    )
)
def test_no_two_zones_have_one_token(zones: list[str]) -> None:
    assert len({token(one) for one in zones}) == len(set(zones))


def test_what_a_subject_is_is_never_changed() -> None:
    assert subject(ONE, "lobby", "seen") == "facesvc.berlin.lobby.seen"
    assert subject(ONE, "", "enriched") == "facesvc.berlin._.enriched"
    assert subject(ONE, "1. Stock *", "left") == "facesvc.berlin.1__Stock__-ca05e9706b17.left"


def test_names_are_told_by_a_setting() -> None:
    one = delivery(arrived(ANA, NOW))
    assert b"Ana" not in message(ONE, one).body
    assert b"example.org" not in message(ONE, one).body
    told = json.loads(message(settings("a", names=True), one).body)
    assert told["data"]["subject"]["display_name"] == "Ana Lima"


def test_a_message_says_until_when_it_is_good() -> None:
    one = seen(ANA, NOW)
    assert message(ONE, delivery(one)).headers[EXPIRE_TIME] == "2026-03-02T08:30:02.000000Z"
    until = NOW + timedelta(seconds=1)
    assert message(ONE, delivery(one, expire_time=until)).headers[EXPIRE_TIME] == "2026-03-02T08:30:01.000000Z"
    assert EXPIRE_TIME not in message(ONE, delivery(arrived(ANA, NOW))).headers


def test_nobody_is_no_subject_of_a_cloud_event() -> None:
    one = seen(ANA, NOW)
    of = {name: getattr(one, name) for name in type(one).__dataclass_fields__}
    nobody = UnknownPersonEvent(**{**of, "decision": replace(one.decision, outcome="UNKNOWN", subject=None)})
    told = json.loads(message(ONE, delivery(nobody)).body)
    assert "subject" not in told
    assert told["type"] == "com.facesvc.unknown_person"


def test_the_same_event_is_the_same_message() -> None:
    event = arrived(ANA, NOW)
    assert message(ONE, delivery(event)) == message(ONE, delivery(event, number=9, attempt=3))


@pytest.mark.parametrize(
    ("pattern", "wanted", "covered"),
    [
        ("facesvc.>", "facesvc.berlin.lobby.seen", True),
        ("facesvc.*.*.seen", "facesvc.berlin.lobby.seen", True),
        ("facesvc.berlin.lobby.seen", "facesvc.berlin.lobby.seen", True),
        (">", "facesvc.berlin.lobby.seen", True),
        ("facesvc.*", "facesvc.berlin.lobby.seen", False),
        ("other.>", "facesvc.berlin.lobby.seen", False),
        ("facesvc.berlin.lobby.seen.>", "facesvc.berlin.lobby.seen", False),
        ("facesvc.*.*.left", "facesvc.berlin.lobby.seen", False),
    ],
)
def test_which_subjects_a_stream_takes(pattern: str, wanted: str, *, covered: bool) -> None:
    assert covers(pattern, wanted) is covered


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"site": "a.b"}, "site"),
        ({"site": "a\n"}, "site"),
        ({"site": ""}, "site"),
        ({"prefix": "a.>"}, "prefix"),
        ({"prefix": "a..b"}, "prefix"),
        ({"stream": "a b"}, "stream"),
        ({"servers": []}, "servers"),
        ({"servers": ["nats://user:password@host"]}, "servers"),
        ({"servers": ["host:1:2"]}, "servers"),
        ({"token": "hunter2"}, "never what it is"),
        ({"token": "env:A", "nkey_seed": "env:B"}, "choose one"),
        ({"user": "a"}, "belong together"),
        ({"password": "env:A"}, "belong together"),
        ({"ca_file": "/x"}, "set tls = true"),
        ({"key_file": "/x", "tls": True}, "belong to a certificate_file"),
        ({"duplicates_s": 86400, "max_age_s": 3600}, "duplicates_s"),
        ({"max_age_s": 1}, "max_age_s"),
        ({"reconnect_min_s": 10, "reconnect_max_s": 5}, "reconnect_max_s"),
        ({"nonsense": 1}, "nonsense"),
    ],
)
def test_settings_that_cannot_be_used_are_named(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        settings("127.0.0.1:4222", **changes)


@pytest.mark.parametrize("server", ["nats.example.org", "10.0.0.1:4222", "[::1]:4222", "localhost"])
def test_servers_are_hosts_with_or_without_a_port(server: str) -> None:
    assert settings(server).servers == (server,)


def test_a_careful_default() -> None:
    one = NatsSettings(servers=("nats.example.org",), site="berlin")
    assert (one.tls, one.names, one.create_stream) == (True, False, False)
    assert PLUGIN.lifetime is None
    assert not PLUGIN.heeds_expiry


def test_a_seed_of_another_tool_is_read() -> None:
    known = UserKey.of_seed("SUAGMJH5XLGZKQQWAWKRZJIGMOU4HPFUYLXJMXOO5NLFEO2OOQJ5LPRDPM")
    assert known.public.startswith("U")
    assert len(known.public) == 56


def test_pauses_grow_up_to_the_longest_and_differ() -> None:
    one = settings("a", reconnect_min_s=1, reconnect_max_s=10)
    assert [pause(one, failures, 1) for failures in (1, 2, 3, 4, 5, 5000)] == [1, 2, 4, 8, 10, 10]
    assert pause(one, 5, 0) == 5


class Scripted(Client):
    def connected(self) -> Any:
        return nullcontext()


async def test_a_connection_is_tried_again_for_as_long_as_it_takes() -> None:
    served: list[int] = []
    slept: list[float] = []
    over = asyncio.Event()

    async def serve(client: Client, up: Callable[[], None]) -> None:
        served.append(1)
        if len(served) in {1, 5}:
            up()
        if len(served) == 7:
            over.set()
            await asyncio.Event().wait()
        raise TryLaterError("gone")

    async def sleep(seconds: float) -> None:
        slept.append(seconds)
        await asyncio.sleep(0)

    one = settings("a", reconnect_min_s=1, reconnect_max_s=4)
    link = Link(one, lambda: Scripted(one), serve, sleep=sleep, part=lambda: 1)
    await link.open()
    await over.wait()
    assert slept == [1, 2, 4, 4, 1, 2]
    with pytest.raises(TryLaterError, match="gone"):
        _ = link.client
    await link.close()


async def test_a_first_attempt_that_fails_is_told_and_leaves_nothing() -> None:
    one = settings(f"127.0.0.1:{free_port()}", timeout_s=1)

    async def serve(*_: Any) -> None:
        raise AssertionError

    with pytest.raises(FacesvcError, match="cannot be reached"):
        await Link(one, lambda: Client(one), serve).open()
    assert len(asyncio.all_tasks()) == 1
