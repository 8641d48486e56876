"""What needs no broker: settings, topics, expiry, and how long to wait before the next attempt."""

import asyncio
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import aiomqtt
import pytest
from facesvc_mqtt import PLUGIN
from facesvc_mqtt.client import Client, expiry, why
from facesvc_mqtt.settings import MqttSettings
from facesvc_mqtt.topics import MAX_SLUG, Topics, joined, label, slug
from hypothesis import given
from hypothesis import strategies as st
from mqtt_broker import free_port
from mqtt_harness import Harness
from mqtt_making import ANA, settings
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.reasoncodes import ReasonCode
from pydantic import ValidationError

from facesvc.delivery.kit import NOW, MemoryBox, delivery, person
from facesvc.errors import FacesvcError
from facesvc.events.link import Link, pause
from facesvc.events.plugin import TryLaterError
from facesvc.events.records import EnrichedEvent


@given(st.text())
def test_a_slug_may_stand_anywhere_in_a_topic(text: str) -> None:
    made = slug(text)
    assert 0 < len(made) <= MAX_SLUG + 13
    assert all(one.isascii() and (one.isalnum() or one in "_-") for one in made)
    assert slug(text) == made


@given(
    st.lists(
        st.one_of(st.text(max_size=3), st.sampled_from(["a/b", "a_b", slug("a/b"), slug(slug("a/b"))])), max_size=8
    )
)
def test_no_two_ids_have_one_slug(texts: list[str]) -> None:
    assert len({slug(one) for one in texts}) == len(set(texts))


def test_what_a_slug_is_is_never_changed() -> None:
    assert slug("door-1") == "door-1"
    assert slug("Büro 1") == "B_ro_1-5d261d8a1259"
    assert slug("x" * 41) != slug("x" * 42)
    assert joined("a", "b/c") != joined("a/b", "c")


def test_a_label_can_be_shown() -> None:
    assert label("Ana\x1b[31m\n", "?") == "Ana[31m"
    assert label("\u202e", "?") == "?"
    assert len(label("x" * 1000, "?")) == 100


def test_two_boxes_have_topics_of_their_own() -> None:
    one, other = Topics("a/b", "homeassistant"), Topics("a_b", "homeassistant")
    assert one.node != other.node
    assert one.status != other.status


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"topic_prefix": "a/+"}, "topic_prefix"),
        ({"topic_prefix": "a\n"}, "topic_prefix"),
        ({"topic_prefix": "/a"}, "topic_prefix"),
        ({"password": "hunter2"}, "never what it is"),
        ({"password": "env:X"}, "needs a user"),
        ({"ca_file": "/x"}, "set tls = true"),
        ({"key_file": "/x", "tls": True}, "belong to a certificate_file"),
        ({"reconnect_min_s": 10, "reconnect_max_s": 5}, "reconnect_max_s"),
        ({"message_expiry_s": 0}, "message_expiry_s"),
        ({"client_id": "a b"}, "client_id"),
        ({"nonsense": 1}, "nonsense"),
    ],
)
def test_settings_that_cannot_be_used_are_named(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError, match=words) as caught:
        settings(1883, **changes)
    assert "hunter2" not in str([one["msg"] for one in caught.value.errors()])


@pytest.mark.parametrize(
    ("people", "value", "covered"),
    [
        ("flagged", "true", True),
        ("flagged", " Yes", True),
        ("flagged", "no", False),
        ("flagged", "", False),
        ("all", "no", True),
        ("none", "true", False),
    ],
)
def test_whom_the_broker_may_be_told_of(people: str, value: str, *, covered: bool) -> None:
    assert settings(1883, people=people).covers(person(metadata={"mqtt": value})) is covered


def test_a_careful_default() -> None:
    one = MqttSettings(host="broker.example.org")
    assert (one.tls, one.names, one.people, one.port) == (True, False, "flagged", 8883)
    assert PLUGIN.heeds_expiry
    assert EnrichedEvent in PLUGIN.kinds


@pytest.mark.parametrize(
    ("left", "seconds"),
    [(None, 60), (timedelta(seconds=0.1), 1), (timedelta(seconds=2), 2), (timedelta(hours=1), 60)],
)
def test_an_expiry_is_never_nothing_as_that_means_never(left: timedelta | None, seconds: int) -> None:
    assert expiry(60, left) == seconds


def test_why_a_connection_was_lost() -> None:
    taken = ReasonCode(PacketTypes.DISCONNECT, "Session taken over")
    assert (
        why(aiomqtt.MqttCodeError(taken)) == ": session taken over; does another client use the client_id of this one?"
    )
    assert (
        why(aiomqtt.MqttCodeError(ReasonCode(PacketTypes.DISCONNECT, "Server shutting down")))
        == ": server shutting down"
    )
    assert why(aiomqtt.MqttCodeError(ReasonCode(PacketTypes.DISCONNECT, "Unspecified error"))) == ""
    assert why(OSError()) == ""


def test_pauses_grow_up_to_the_longest_and_differ() -> None:
    one = settings(1883, reconnect_min_s=1, reconnect_max_s=10)
    assert [pause(one, failures, 1) for failures in (1, 2, 3, 4, 5, 5000)] == [1, 2, 4, 8, 10, 10]
    assert pause(one, 5, 0) == 5


async def test_a_connection_is_tried_again_for_as_long_as_it_takes() -> None:
    served: list[int] = []
    slept: list[float] = []
    over = asyncio.Event()

    class Scripted(Client):
        def connected(self) -> Any:
            return self._there()

        def _there(self) -> Any:
            from contextlib import nullcontext

            return nullcontext()

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

    one = settings(free_port(), reconnect_min_s=1, reconnect_max_s=4)
    link = Link(one, lambda: Scripted(one, "x", ""), serve, sleep=sleep, part=lambda: 1)
    await link.open()
    await over.wait()
    assert slept == [1, 2, 4, 4, 1, 2]
    with pytest.raises(TryLaterError, match="gone"):
        _ = link.client
    await link.close()


async def test_a_first_attempt_that_fails_is_told_and_leaves_nothing() -> None:
    one = settings(free_port(), timeout_s=1)

    async def serve(*_: Any) -> None:
        raise AssertionError

    link = Link(one, lambda: Client(one, "x", ""), serve)
    with pytest.raises(FacesvcError, match="refused"):
        await link.open()
    assert len(asyncio.all_tasks()) == 1


async def test_the_harness() -> None:
    harness = Harness()
    await harness.begin()
    try:
        box = MemoryBox(people={("default", "ana"): ANA})
        plugin = PLUGIN.make(PLUGIN.settings.model_validate(harness.settings), box)
        await plugin.start()
        one = harness.event(ANA, NOW)
        await plugin.handle(delivery(one))
        await harness.break_down()
        other = harness.event(ANA, NOW)
        with pytest.raises(TryLaterError):
            await plugin.handle(delivery(other))
        await harness.mend()
        while True:
            try:
                await plugin.handle(delivery(other))
            except TryLaterError:
                await asyncio.sleep(0.01)
            else:
                break
        assert await harness.effects(box) == [one.event_id, other.event_id]
        await plugin.stop()
    finally:
        await harness.end()
