"""Events through real sockets."""

import asyncio
import json
import logging
from datetime import timedelta
from pathlib import Path

import pytest
from facesvc_webhook import sender
from facesvc_webhook.plugin import Webhook
from facesvc_webhook.signature import SignatureError, verify
from webhook_harness import Harness
from webhook_making import HOST, Make, settings
from webhook_receiver import Receiver, answer, receiving

from facesvc.delivery import kit
from facesvc.delivery.kit import MemoryBox
from facesvc.errors import ConfigError
from facesvc.events.plugin import TryLaterError, UndeliverableError
from facesvc.events.records import Event

ANA = kit.person("ana", display_name="Ana Díaz", external_ids={"employee_no": "17"})


def arrived() -> Event:
    return kit.arrived(ANA, kit.NOW)


async def post(plugin: Webhook, event: Event | None = None) -> None:
    await plugin.handle(kit.delivery(event or arrived()))


async def test_an_event_is_a_signed_cloudevent(webhook: Make, receiver: Receiver, box: MemoryBox, secret: str) -> None:
    event = kit.seen(ANA, kit.NOW)
    await post(await webhook(source="https://box-1.example/", type_prefix="org.office"), event)
    (request,) = receiver.requests
    assert request.line == "POST /events HTTP/1.1"
    assert request.headers["content-type"] == "application/cloudevents+json"
    assert request.headers["host"] == f"{HOST}:{receiver.port}"
    verify(request.body, request.headers["facesvc-signature"], [secret], now=box.now().timestamp())
    data = request.event.pop("data")
    assert {name: value for name, value in request.event.items() if name != "data"} == {
        "specversion": "1.0",
        "id": event.event_id,
        "source": "https://box-1.example/",
        "type": "org.office.seen",
        "time": "2026-03-02T08:30:00.000000Z",
        "subject": "ana",
        "datacontenttype": "application/json",
    }
    assert data["subject"] == {"subject_id": "ana"}
    assert data["decision"]["expire_time"] == "2026-03-02T08:30:02.000000Z"


async def test_names_leave_the_box_only_where_somebody_said_so(webhook: Make, receiver: Receiver) -> None:
    await post(await webhook())
    await post(await webhook(names=True))
    without, with_names = receiver.requests
    assert b"Ana" not in without.body
    assert b"17" not in json.dumps(without.event["data"]["subject"]).encode()
    assert with_names.event["data"]["subject"] == {
        "subject_id": "ana",
        "display_name": "Ana Díaz",
        "external_ids": {"employee_no": "17"},
    }


async def test_where_nobody_is_named_there_is_no_subject(webhook: Make, receiver: Receiver) -> None:
    await post(await webhook(), kit.seen(ANA, kit.NOW, outcome="AMBIGUOUS", subject=None))
    assert "subject" not in receiver.requests[0].event


async def test_only_kinds_that_are_wanted_are_posted(webhook: Make, receiver: Receiver) -> None:
    plugin = await webhook(kinds=["left"])
    await post(plugin)
    await post(plugin, Event(event_id="1", event_time=kit.NOW, camera_id="", zone="", collection_id="default"))
    await post(plugin, kit.left(ANA, kit.NOW, since=kit.NOW))
    assert [one.event["type"] for one in receiver.requests] == ["com.facesvc.left"]


async def test_each_try_has_the_same_id_and_is_signed_anew(
    webhook: Make, receiver: Receiver, box: MemoryBox, secret: str
) -> None:
    receiver.answers.append(answer(503, "Retry-After: 7"))
    plugin, event = await webhook(), arrived()
    with pytest.raises(TryLaterError) as caught:
        await post(plugin, event)
    assert caught.value.after == timedelta(seconds=7)
    later = box.clock.advance(3600)
    await plugin.handle(kit.delivery(event, attempt=2))
    first, second = receiver.requests
    assert first.body == second.body
    verify(second.body, second.headers["facesvc-signature"], [secret], now=later.timestamp())
    with pytest.raises(SignatureError):
        verify(first.body, first.headers["facesvc-signature"], [secret], now=later.timestamp())


async def test_a_secret_is_exchanged_without_a_gap(
    webhook: Make, receiver: Receiver, secret: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    plugin = await webhook(previous_secret="env:WEBHOOK_OLD_SECRET")
    await post(plugin)
    monkeypatch.setenv("WEBHOOK_SECRET", "one that was put there since")
    await post(plugin)
    now = kit.NOW.timestamp()
    both, later = ((one.body, one.headers["facesvc-signature"]) for one in receiver.requests)
    verify(*both, [secret], now=now)
    verify(*both, [secret[::-1]], now=now)
    verify(*later, ["one that was put there since"], now=now)


async def test_a_secret_that_is_gone_is_said_and_nothing_is_posted(
    webhook: Make, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    plugin = await webhook()
    monkeypatch.delenv("WEBHOOK_SECRET")
    with pytest.raises(ConfigError, match="WEBHOOK_SECRET"):
        await post(plugin)
    with pytest.raises(ConfigError, match="WEBHOOK_SECRET"):
        await plugin.start()
    assert not receiver.requests


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_a_redirect_is_never_followed(webhook: Make, receiver: Receiver, status: int) -> None:
    async with receiving() as elsewhere:
        receiver.usual = answer(status, f"Location: http://127.0.0.1:{elsewhere.port}/")
        with pytest.raises(UndeliverableError, match=f"{status}: redirects are not followed"):
            await post(await webhook())
        assert elsewhere.connections == 0
    assert len(receiver.requests) == 1


async def test_what_the_receiver_refuses_is_not_tried_again(webhook: Make, receiver: Receiver) -> None:
    receiver.usual = answer(410)
    with pytest.raises(UndeliverableError, match="410"):
        await post(await webhook())


async def test_a_receiver_that_is_away_is_tried_later(webhook: Make) -> None:
    async with receiving() as gone:
        port = gone.port
    with pytest.raises(TryLaterError, match=f"{HOST} could not be reached: Connection refused"):
        await post(await webhook(url=f"http://{HOST}:{port}/"))


async def test_a_receiver_that_says_nothing_is_not_waited_for(webhook: Make, receiver: Receiver) -> None:
    receiver.usual = None
    with pytest.raises(TryLaterError, match=f"{HOST} did not answer within 0.1 s"):
        await post(await webhook(timeout_s=0.1))
    await receiver.hung_up.wait()


@pytest.mark.parametrize(
    "reply", [b"SSH-2.0-OpenSSH_9.2\r\n", b"HTTP/1.1 200 OK\r\nX: " + b"x" * 200_000, b"\x00\r\n\r\n"]
)
async def test_an_answer_that_is_none_is_a_failure_that_may_pass(
    webhook: Make, receiver: Receiver, reply: bytes
) -> None:
    receiver.usual = reply
    with pytest.raises(TryLaterError, match=f"{HOST} (could not be reached|did not answer)"):
        await post(await webhook(timeout_s=0.5))


async def test_an_answer_that_only_trickles_is_not_waited_for(webhook: Make, receiver: Receiver) -> None:
    receiver.usual, receiver.trickles = b"HTTP/1.1 200 OK\r\nX: ", True
    with pytest.raises(TryLaterError, match=r"did not answer within 0\.2 s"):
        await post(await webhook(timeout_s=0.2))


async def test_a_long_answer_is_not_read_to_its_end(
    webhook: Make, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sender, "_DRAIN_S", None)
    receiver.usual = b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000000\r\n\r\n" + b"x" * (2 * sender.MAX_ANSWER_BYTES)
    await post(await webhook())
    await receiver.hung_up.wait()


async def test_an_answer_that_unpacks_to_much_is_not_unpacked(webhook: Make, receiver: Receiver) -> None:
    receiver.usual = answer(200, "Content-Encoding: gzip", body=b"no gzip at all")
    await post(await webhook())


async def test_a_connection_is_used_again(webhook: Make, receiver: Receiver) -> None:
    plugin = await webhook()
    receiver.usual = answer(200, body=b"thanks")
    for _ in range(3):
        await post(plugin)
    assert (len(receiver.requests), receiver.connections) == (3, 1)


async def test_an_event_that_is_too_large_is_not_posted(webhook: Make, receiver: Receiver) -> None:
    large = kit.person("ana", display_name="x" * 5000)
    with pytest.raises(UndeliverableError, match="max_body_bytes is 4096"):
        await post(await webhook(names=True, max_body_bytes=4096), kit.arrived(large, kit.NOW))
    assert not receiver.requests


async def test_a_post_can_be_cancelled(webhook: Make, receiver: Receiver) -> None:
    receiver.answers.append(None)
    plugin = await webhook()
    task = asyncio.create_task(post(plugin))
    await receiver.arrived.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await post(plugin)
    assert len(receiver.taken) == 1


async def test_the_harness_of_the_contract_kit_breaks_and_mends(box: MemoryBox) -> None:
    harness = Harness()
    await harness.begin()
    plugin = harness.manifest.make(harness.manifest.settings.model_validate(harness.settings), box)
    await plugin.start()
    await harness.break_down()
    event = harness.event(ANA, kit.NOW)
    with pytest.raises(TryLaterError, match="503"):
        await plugin.handle(kit.delivery(event))
    assert await harness.effects(box) == []
    await harness.mend()
    await plugin.handle(kit.delivery(event, attempt=2))
    assert await harness.effects(box) == [event.event_id]
    await plugin.stop()
    await harness.end()


async def test_logs_name_nobody_and_no_secret(
    webhook: Make, receiver: Receiver, secret: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG):
        await post(await webhook(names=True))
    assert "Ana" not in caplog.text
    assert secret not in caplog.text


async def test_it_stops_where_it_never_started(box: MemoryBox) -> None:
    plugin = Webhook(settings(1, ca_file=Path("/nowhere")), box)
    with pytest.raises(ConfigError):
        await plugin.start()
    await plugin.stop()
