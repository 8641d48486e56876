"""The plugin: an event comes in, a request goes out."""

from collections.abc import AsyncIterator

from facesvc.events.outside import KINDS
from facesvc.events.plugin import Box, Delivery, Step, UndeliverableError
from facesvc_webhook.answers import judge
from facesvc_webhook.checks import Trial
from facesvc_webhook.cloudevents import encode
from facesvc_webhook.network import Gate, Resolve, system_resolve
from facesvc_webhook.sender import Sender
from facesvc_webhook.settings import WebhookSettings


class Webhook:
    """Posts events to ``settings.url``."""

    def __init__(self, settings: WebhookSettings, box: Box, *, resolve: Resolve = system_resolve) -> None:
        self._settings = settings
        self._box = box
        self._gate = Gate(settings, resolve)
        self._sender: Sender | None = None

    async def start(self) -> None:
        """Raises ``ConfigError`` where a secret or ``ca_file`` cannot be read."""
        self._settings.secrets()
        self._sender = Sender(self._gate)

    async def handle(self, delivery: Delivery) -> None:
        """Post an event, if it is of a kind that is wanted."""
        event, settings = delivery.event, self._settings
        if KINDS.get(type(event)) not in settings.kinds:
            return
        assert self._sender is not None, "start comes first"
        body = encode(event, source=settings.source, type_prefix=settings.type_prefix, names=settings.names)
        if len(body) > settings.max_body_bytes:
            raise UndeliverableError(
                f"the event has {len(body)} bytes, and max_body_bytes is {settings.max_body_bytes}: set it higher if "
                f"the receiver takes that"
            )
        answer = await self._sender.post(body, self._box.now())
        judge(answer, settings.host, self._box.now())

    async def stop(self) -> None:
        """Close all connections."""
        if self._sender is not None:
            await self._sender.close()
            self._sender = None

    async def check(self) -> AsyncIterator[Step]:
        """The secret, the name, a connection, TLS, and a test event that says nothing of anybody."""
        async for step in Trial(self._gate, self._box).steps():
            yield step
