"""An event, to its topic."""

import asyncio
import json
from collections.abc import Callable
from contextlib import suppress

from pydantic import JsonValue

from facesvc.errors import FacesvcError
from facesvc.events.link import Link, Sleep
from facesvc.events.outside import as_json
from facesvc.events.plugin import About, Box, Delivery, Facts, Forgets, Plugin, TryLaterError, UndeliverableError
from facesvc.events.records import ArrivedEvent, Event, LeftEvent
from facesvc_mqtt.client import Client, Outgoing, expiry
from facesvc_mqtt.discovery import OFFLINE
from facesvc_mqtt.house import House
from facesvc_mqtt.settings import MqttSettings
from facesvc_mqtt.topics import Topics, slug

MAX_PAYLOAD_BYTES = 64 << 10
"""Of an event; Home Assistant keeps what it gets in its database. Above it what a plugin found out is left out."""


class Mqtt(Plugin, Forgets):
    """Publishes events, and keeps Home Assistant told."""

    def __init__(self, settings: MqttSettings, box: Box, *, sleep: Sleep = asyncio.sleep) -> None:
        self.settings = settings
        self.topics = Topics(settings.topic_prefix, settings.discovery_prefix)
        self.client_id = settings.client_id or f"facesvc-{slug(settings.topic_prefix)}"
        self._box = box
        self._house = House(settings, box, self.topics)
        self._link = Link(settings, self._client, self._serve, sleep=sleep)

    async def start(self) -> None:
        """Connect, and say who is present."""
        await self._link.open()

    async def handle(self, delivery: Delivery) -> Facts | None:
        """Home Assistant's state first, so that a second attempt repeats only that: it says the same twice."""
        client = self._link.client
        event = delivery.event
        left = None if delivery.expire_time is None else delivery.expire_time - self._box.now()
        if left is not None and left.total_seconds() <= 0:
            raise UndeliverableError("the event has expired")
        await self._house.see(client, event.camera_id)
        if isinstance(event, ArrivedEvent | LeftEvent):
            await self._house.move(client, event)
        names = self.settings.names and await self._house.covered((event.collection_id, event.about)) is not None
        lasts = expiry(self.settings.message_expiry_s, left)
        await client.send(Outgoing(self.topics.event(event), payload(event, names=names), expiry=lasts))
        return None

    async def forget(self, about: About) -> None:
        """Take back what the broker keeps of them; while it is away that is done when it comes back."""
        client = None
        with suppress(TryLaterError):
            client = self._link.client
        with suppress(TryLaterError):
            await self._house.forget(client, about)

    async def stop(self) -> None:
        """Say that this box is gone: a connection that is closed in good order leaves no will."""
        with suppress(FacesvcError):
            await self._link.client.send(Outgoing(self.topics.status, OFFLINE.encode(), retain=True))
        await self._link.close()

    def _client(self) -> Client:
        return Client(self.settings, self.client_id, will=self.topics.status)

    async def _serve(self, client: Client, up: Callable[[], None]) -> None:
        await self._house.connect(client)
        up()
        async for messages in client.heard():
            await self._house.heard(client, messages)


def payload(event: Event, *, names: bool) -> bytes:
    """An event as JSON, with ``event_type`` as Home Assistant wants it."""
    told = as_json(event, names=names)
    whole: dict[str, JsonValue] = {"event_type": told["kind"], **told}
    text = json.dumps(whole, separators=(",", ":")).encode()
    if len(text) > MAX_PAYLOAD_BYTES and whole.pop("values", None) is not None:
        text = json.dumps(whole, separators=(",", ":")).encode()
    return text
