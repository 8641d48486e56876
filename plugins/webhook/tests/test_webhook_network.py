"""Which address is connected to, and how: through real sockets."""

from pathlib import Path
from typing import Any

import pytest
import trustme
from facesvc_webhook.plugin import Webhook
from webhook_making import HOST, Make, resolving, settings
from webhook_receiver import Receiver, receiving

from facesvc.delivery import kit
from facesvc.delivery.kit import MemoryBox
from facesvc.events.plugin import TryLaterError
from facesvc.events.records import Event

ANA = kit.person("ana", display_name="Ana Díaz", external_ids={"employee_no": "17"})


def arrived() -> Event:
    return kit.arrived(ANA, kit.NOW)


async def post(plugin: Webhook, event: Event | None = None) -> None:
    await plugin.handle(kit.delivery(event or arrived()))


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
    async with receiving(host="127.0.0.2", port=receiver.port) as checked:
        await post(await webhook(resolving(["127.0.0.2"], ["127.0.0.1"])))
        assert (len(checked.taken), receiver.connections) == (1, 0)


async def test_the_next_address_is_tried_where_the_first_is_away(webhook: Make, receiver: Receiver) -> None:
    await post(await webhook(resolving(["127.0.0.2", "127.0.0.1"])))
    assert len(receiver.taken) == 1


async def test_what_was_sent_is_not_sent_to_the_next_address_too(webhook: Make, receiver: Receiver) -> None:
    receiver.usual = b"no HTTP\r\n\r\n"
    async with receiving(host="127.0.0.2", port=receiver.port) as elsewhere:
        with pytest.raises(TryLaterError, match="does not answer in HTTP"):
            await post(await webhook(resolving(["127.0.0.1", "127.0.0.2"])))
        assert (len(receiver.requests), elsewhere.connections) == (1, 0)


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


async def test_the_real_resolver_is_asked(box: MemoryBox, receiver: Receiver) -> None:
    plugin = Webhook(settings(receiver.port, url=f"http://localhost:{receiver.port}/"), box)
    await plugin.start()
    await post(plugin)
    await plugin.stop()
    assert receiver.taken
