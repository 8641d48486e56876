"""What the tests of the webhook share: a receiver, and a plugin that posts to it."""

import ssl
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import trustme
from facesvc_webhook.network import Resolve
from facesvc_webhook.plugin import Webhook
from webhook_harness import SECRET
from webhook_making import HOST, Make, resolving, settings
from webhook_receiver import Receiver, receiving

from facesvc.delivery.kit import MemoryBox


@pytest.fixture
def box() -> MemoryBox:
    return MemoryBox(name="webhook")


@pytest.fixture(autouse=True)
def secret(monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("WEBHOOK_SECRET", SECRET)
    monkeypatch.setenv("WEBHOOK_OLD_SECRET", SECRET[::-1])
    return SECRET


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    """One without TLS."""
    async with receiving() as one:
        yield one


@pytest.fixture(scope="session")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="session")
def ca_file(authority: trustme.CA, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("ca") / "ca.pem"
    authority.cert_pem.write_to_path(path)
    return path


@pytest.fixture
async def tls_receiver(authority: trustme.CA) -> AsyncIterator[Receiver]:
    """One with a certificate for ``HOST``."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert(HOST).configure_cert(context)
    async with receiving(context) as one:
        yield one


@pytest.fixture
async def webhook(box: MemoryBox, receiver: Receiver) -> AsyncIterator[Make]:
    """Makes and starts a plugin that posts to ``receiver``; ``changes`` are settings."""
    made: list[Webhook] = []

    async def make(resolve: Resolve | None = None, **changes: Any) -> Webhook:
        given = settings(receiver.port, **changes)
        plugin = Webhook(given, box, resolve=resolve or resolving(["127.0.0.1"]))
        made.append(plugin)
        await plugin.start()
        return plugin

    yield make
    for one in made:
        await one.stop()
