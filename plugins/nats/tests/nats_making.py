"""Who and what the tests of NATS are about."""

import asyncio
from typing import Any

from facesvc_nats.plugin import Nats
from facesvc_nats.settings import NatsSettings

from facesvc.delivery.kit import person
from facesvc.events.plugin import Delivery, TryLaterError

ANA = person("ana", display_name="Ana Lima", external_ids={"mail": "ana@example.org"})


def settings(address: str, **changes: Any) -> NatsSettings:
    """Without TLS."""
    pauses = {"reconnect_min_s": 0.05, "reconnect_max_s": changes.get("reconnect_min_s", 0.2)}
    values = {"servers": [address], "site": "berlin", "tls": False, "create_stream": True}
    return NatsSettings.model_validate({**values, **pauses, **changes})


async def delivered(plugin: Nats, one: Delivery) -> int:
    """As the host does it: until it works; how many attempts that were."""
    attempts = 1
    while True:
        try:
            await plugin.handle(one)
        except TryLaterError:
            attempts += 1
            await asyncio.sleep(0.01)
        else:
            return attempts
