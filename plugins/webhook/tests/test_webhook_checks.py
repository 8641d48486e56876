"""``facesvc plugins test webhook``, through real sockets."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from facesvc_webhook.network import Resolve
from facesvc_webhook.plugin import Webhook
from facesvc_webhook.signature import verify
from webhook_making import HOST, resolving, settings
from webhook_receiver import Receiver, answer, receiving

from facesvc.delivery.kit import MemoryBox
from facesvc.events.plugin import Checks, Step


async def steps(
    port: int, *, resolve: Resolve | None = None, box: MemoryBox | None = None, **changes: Any
) -> list[Step]:
    plugin = Webhook(settings(port, **changes), box or MemoryBox(), resolve=resolve or resolving(["127.0.0.1"]))
    assert isinstance(plugin, Checks)
    return [step async for step in plugin.check()]


def shown(found: Sequence[Step]) -> list[tuple[str, bool | None]]:
    return [(one.name, one.ok) for one in found]


async def test_all_is_well(tls_receiver: Receiver, ca_file: Path, box: MemoryBox, secret: str) -> None:
    found = await steps(tls_receiver.port, box=box, scheme="https", ca_file=ca_file)
    assert shown(found) == [
        ("secret", True),
        ("name", True),
        ("connection", True),
        ("TLS", True),
        ("test event", True),
    ]
    details = [one.detail for one in found]
    assert details[1:3] == [f"{HOST} is 127.0.0.1", f"127.0.0.1 port {tls_receiver.port} answers"]
    assert details[3].startswith("TLSv1.3; the certificate is good until ")
    (request,) = tls_receiver.taken
    verify(request.body, request.headers["facesvc-signature"], [secret], now=box.now().timestamp())
    assert request.event["type"] == "com.facesvc.test"
    assert request.event["data"] == {"kind": "test"}
    assert "subject" not in request.event


async def test_without_tls_that_is_said(receiver: Receiver) -> None:
    found = await steps(receiver.port)
    assert shown(found)[-2:] == [("TLS", None), ("test event", True)]
    assert "can be read on the way" in found[-2].detail


async def test_a_secret_that_is_missing(receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WEBHOOK_SECRET")
    found = await steps(receiver.port)
    assert shown(found) == [("secret", False)]
    assert receiver.connections == 0


async def test_two_secrets_are_two_signatures(receiver: Receiver) -> None:
    found = await steps(receiver.port, previous_secret="env:WEBHOOK_OLD_SECRET")
    assert "two signatures" in found[0].detail


async def test_a_name_that_leads_inside(receiver: Receiver) -> None:
    found = await steps(receiver.port, scheme="https", allow_private=False)
    assert shown(found)[-1] == ("name", False)
    assert "set allow_private" in found[-1].detail


async def test_a_name_that_nobody_knows(receiver: Receiver) -> None:
    async def fails(_host: str, _port: int) -> Sequence[str]:
        raise OSError(-2, "Name or service not known")

    found = await steps(receiver.port, resolve=fails)
    assert found[-1].detail == f"{HOST} cannot be resolved: Name or service not known"


async def test_a_port_that_is_closed() -> None:
    async with receiving() as gone:
        port = gone.port
    found = await steps(port)
    assert shown(found)[-1] == ("connection", False)
    assert "refused" in found[-1].detail.lower()


async def test_a_certificate_that_nobody_vouches_for(tls_receiver: Receiver) -> None:
    found = await steps(tls_receiver.port, scheme="https")
    assert shown(found)[-1] == ("TLS", False)
    assert "ca_file" in found[-1].detail


async def test_a_port_without_tls(receiver: Receiver) -> None:
    found = await steps(receiver.port, scheme="https", timeout_s=0.5)
    assert shown(found)[-1] == ("TLS", False)


async def test_a_receiver_that_refuses_the_event(receiver: Receiver) -> None:
    receiver.usual = answer(401)
    found = await steps(receiver.port)
    assert shown(found)[-1] == ("test event", False)
    assert found[-1].detail == f"{HOST} answered 401: check that it has the same secret, and the right time"


async def test_a_receiver_that_says_nothing(receiver: Receiver) -> None:
    receiver.usual = None
    found = await steps(receiver.port, timeout_s=0.1)
    assert shown(found)[-1] == ("test event", False)
    assert "0.1 s" in found[-1].detail
