"""A resolver and settings that lead to a receiver of the tests."""

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from facesvc_webhook.network import Resolve
from facesvc_webhook.plugin import Webhook
from facesvc_webhook.settings import WebhookSettings

Make = Callable[..., Awaitable[Webhook]]

HOST = "rooms.example"
"""A name that no DNS knows (RFC 2606)."""


def resolving(*answers: Sequence[str]) -> Resolve:
    """A resolver that gives these addresses, one after another; the last one again and again."""
    left = list(answers)

    async def resolve(_host: str, _port: int) -> Sequence[str]:
        return left.pop(0) if len(left) > 1 else left[0]

    return resolve


def settings(port: int, *, scheme: str = "http", **changes: Any) -> WebhookSettings:
    """Settings for a receiver at that port of this box."""
    given = {"url": f"{scheme}://{HOST}:{port}/events", "secret": "env:WEBHOOK_SECRET", "allow_private": True}
    return WebhookSettings.model_validate({**given, **changes})
