"""Events through real sockets."""

import asyncio
import json
import logging
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import trustme
from facesvc_webhook.plugin import Webhook
from facesvc_webhook.sender import MAX_ANSWER_BYTES
from facesvc_webhook.signature import SignatureError, verify
from webhook_making import HOST, Make, resolving, settings
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


async def test_a_long_answer_is_not_read_to_its_end(webhook: Make, receiver: Receiver) -> None:
    receiver.usual = b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000000\r\n\r\n" + b"x" * (2 * MAX_ANSWER_BYTES)
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


async def test_a_proxy_of_the_environment_is_not_used(
    webhook: Make, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    await post(await webhook())
    assert receiver.taken


async def test_a_name_that_leads_inside_is_not_connected_to(box: MemoryBox, tls_receiver: Receiver) -> None:
    given = settings(tls_receiver.port, scheme="https", allow_private=False)
    plugin = Webhook(given, box, resolve=resolving(["127.0.0.1", "::ffff:127.0.0.1"]))
    await plugin.start()
    with pytest.raises(TryLaterError, match=rf"{HOST} is not connected to: 127\.0\.0\.1 is this box itself"):
        await post(plugin)
    await plugin.stop()
    assert tls_receiver.connections == 0


async def test_it_connects_to_the_address_that_was_checked_and_no_other(webhook: Make, receiver: Receiver) -> None:
    # Nothing but this resolver knows the name: had the name been resolved again, the second answer would have led away.
    async with receiving(host="127.0.0.2", port=receiver.port) as elsewhere:
        await post(await webhook(resolving(["127.0.0.1"], ["127.0.0.2"])))
        assert (len(receiver.taken), elsewhere.connections) == (1, 0)


async def test_the_next_address_is_tried_where_the_first_is_away(webhook: Make, receiver: Receiver) -> None:
    await post(await webhook(resolving(["127.0.0.2", "127.0.0.1"])))
    assert len(receiver.taken) == 1


async def test_a_refused_event_is_not_posted_to_the_next_address(webhook: Make, receiver: Receiver) -> None:
    receiver.usual = b""
    plugin = await webhook(resolving(["127.0.0.1", "127.0.0.1", "::1"]), timeout_s=0.2)
    with pytest.raises(TryLaterError):
        await post(plugin)
    assert len(receiver.requests) == 1


async def tls_post(box: MemoryBox, port: int, **changes: Any) -> None:
    plugin = Webhook(settings(port, scheme="https", **changes), box, resolve=resolving(["127.0.0.1"]))
    await plugin.start()
    try:
        await post(plugin)
    finally:
        await plugin.stop()


async def test_tls_is_for_the_name_not_the_address(box: MemoryBox, tls_receiver: Receiver, ca_file: Path) -> None:
    await tls_post(box, tls_receiver.port, ca_file=ca_file)
    assert tls_receiver.names == [HOST]
    assert tls_receiver.taken[0].headers["host"] == f"{HOST}:{tls_receiver.port}"


async def test_a_certificate_for_another_name_is_refused(box: MemoryBox, tls_receiver: Receiver, ca_file: Path) -> None:
    with pytest.raises(TryLaterError, match=r"certificate is not valid for 'other\.example'"):
        await tls_post(box, tls_receiver.port, ca_file=ca_file, url=f"https://other.example:{tls_receiver.port}/")
    assert not tls_receiver.requests


async def test_who_vouches_is_asked(box: MemoryBox, tls_receiver: Receiver, tmp_path: Path) -> None:
    trustme.CA().cert_pem.write_to_path(tmp_path / "other.pem")
    for changes in ({}, {"ca_file": tmp_path / "other.pem"}):
        with pytest.raises(TryLaterError, match="its certificate is refused, unable to get local issuer"):
            await tls_post(box, tls_receiver.port, **changes)
    assert not tls_receiver.requests


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


async def test_the_real_resolver_is_asked(box: MemoryBox, receiver: Receiver) -> None:
    plugin = Webhook(settings(receiver.port, url=f"http://localhost:{receiver.port}/"), box)
    await plugin.start()
    await post(plugin)
    await plugin.stop()
    assert receiver.taken
