"""What Home Assistant is told to have, and in which state that is.

The broker keeps the configurations: what was ever told is noted, so that it can be taken back. Somebody's note is gone
with them, and what a broker still keeps of them without a note (it was away when they were erased) is removed when it
comes back: it hands on all that is retained for this box.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import UTC, datetime

import aiomqtt
from pydantic import JsonValue

from facesvc.errors import ExhaustedError, NotFoundError
from facesvc.events.plugin import About, Box, Person
from facesvc.events.records import ArrivedEvent, LeftEvent
from facesvc_mqtt.client import Client, Outgoing
from facesvc_mqtt.discovery import OFF, ON, ONLINE, Camera, Presence
from facesvc_mqtt.settings import MqttSettings
from facesvc_mqtt.topics import Topics, slug

MAX_ENTITIES = 10_000
"""Persons times zones, and as many cameras: each is some hundred bytes that a broker keeps."""
_PAGE = 1000
_CAMERA, _PRESENCE = "camera/", "presence/"
_log = logging.getLogger(__name__)


class House:
    """The entities of this box in Home Assistant."""

    def __init__(self, settings: MqttSettings, box: Box, topics: Topics) -> None:
        self._settings = settings
        self._box = box
        self._topics = topics
        self._told: dict[str, bytes] = {}  # every configuration by its topic, as it was sent over this connection
        self._people: dict[About, dict[str, Presence]] = {}  # by zone
        self._cameras: set[str] = set()
        self._said = datetime.min.replace(tzinfo=UTC)
        self._lock = asyncio.Lock()  # nothing is told of somebody while they are being forgotten

    async def connect(self, client: Client) -> None:
        """All anew, as a broker may have lost everything; then listen for what it still keeps, and for a birth."""
        async with self._lock:
            self._told.clear()
            self._people.clear()
            self._cameras.clear()
            async for key, _, value in self._noted(_CAMERA):
                await self._recall_camera(client, key, str(value.get("camera_id", "")))
            async for key, about, value in self._noted(_PRESENCE):
                await self._recall_presence(client, key, about, str(value.get("zone", "")))
        await self.say(client)
        if self._settings.home_assistant:
            await client.listen(self._topics.birth)
            await client.listen(self._topics.configs)

    async def say(self, client: Client) -> None:
        """That this box is there, and who is present."""
        await client.send(Outgoing(self._topics.status, ONLINE.encode(), retain=True))
        async with self._lock:
            self._said = self._box.now()
            present = {((stay.collection_id, stay.subject_id), stay.zone) for stay in await self._box.present()}
            for about, zone in sorted(present):
                await self._tell(client, Presence(about, zone))
            await client.send(
                *(
                    self._state(one, here=(about, zone) in present)
                    for about, zones in self._people.items()
                    for zone, one in zones.items()
                )
            )

    async def heard(self, client: Client, messages: Sequence[aiomqtt.Message]) -> None:
        """What Home Assistant or the broker says: that it is back, or what it still keeps."""
        async with self._lock:
            # Another topic than those it was asked for is nothing that we would have a broker remove.
            own = [one.topic.value for one in messages if one.retain and one.topic.matches(self._topics.configs)]
            await client.send(*(Outgoing(topic, b"", retain=True) for topic in own if topic not in self._told))
        if any(one.topic.value == self._topics.birth and one.payload == ONLINE.encode() for one in messages):
            await self.say(client)

    async def see(self, client: Client, camera_id: str) -> None:
        """Something happened in front of a camera."""
        if not self._settings.home_assistant or not camera_id or camera_id in self._cameras:
            return
        async with self._lock:
            if len(self._cameras) >= MAX_ENTITIES:
                return
            if await self._note(_CAMERA + slug(camera_id), {"camera_id": camera_id}, ("", "")):
                await self._send_configs(client, Camera(camera_id).configs(self._topics))
                self._cameras.add(camera_id)

    async def move(self, client: Client, event: ArrivedEvent | LeftEvent) -> None:
        """Somebody arrived or left. What was before the last time that all was said is known already."""
        if event.event_time < self._said:
            return
        one = Presence((event.collection_id, event.subject_id), event.zone)
        here = isinstance(event, ArrivedEvent)
        async with self._lock:
            if here:
                await self._tell(client, one)
            if one.zone in self._people.get(one.about, {}):
                await client.send(self._state(one, here=here))

    async def forget(self, client: Client | None, about: About) -> None:
        """Somebody was erased; without a connection the broker is told at the next."""
        async with self._lock:
            topics = [one.topic(self._topics) for one in self._people.pop(about, {}).values()]
            for topic in topics:
                self._told.pop(topic, None)
            if client is not None:
                await client.send(*(Outgoing(topic, b"", retain=True) for topic in topics))

    async def covered(self, about: About) -> Person | None:
        """Somebody of whom the broker may be told; None for all others."""
        one = await self._box.person(about)
        return one if one is not None and self._settings.covers(one) else None

    async def _tell(self, client: Client, one: Presence) -> None:
        """Have Home Assistant have it, if it may and there is room."""
        person = await self.covered(one.about) if self._settings.home_assistant else None
        if person is None:
            await self._take_back(client, one.about)
            return
        zones = self._people.get(one.about, {})
        if one.zone not in zones:
            if sum(map(len, self._people.values())) >= MAX_ENTITIES:
                return
            if not await self._note(_PRESENCE + one.object_id, {"zone": one.zone}, one.about):
                return
        shown_as = person.display_name if self._settings.names else person.subject_id
        await self._send_configs(client, {one.topic(self._topics): one.config(self._topics, shown_as)})
        self._people.setdefault(one.about, {})[one.zone] = one

    async def _take_back(self, client: Client, about: About) -> None:
        """Somebody whom ``people`` no longer covers."""
        for one in self._people.pop(about, {}).values():
            topic = one.topic(self._topics)
            self._told.pop(topic, None)
            await client.send(Outgoing(topic, b"", retain=True))
            await self._box.notes.delete(_PRESENCE + one.object_id, about=about)

    async def _send_configs(self, client: Client, configs: Mapping[str, bytes]) -> None:
        new = {topic: config for topic, config in configs.items() if self._told.get(topic) != config}
        self._told |= new  # before it is sent: what comes back must be known
        try:
            await client.send(*(Outgoing(topic, config, retain=True) for topic, config in new.items()))
        except BaseException:
            for topic in new:
                self._told[topic] = b""  # not known: to be sent again
            raise

    async def _recall_camera(self, client: Client, key: str, camera_id: str) -> None:
        configs = Camera(camera_id).configs(self._topics)
        if self._settings.home_assistant:
            await self._send_configs(client, configs)
            self._cameras.add(camera_id)
        else:
            await client.send(*(Outgoing(topic, b"", retain=True) for topic in configs))
            await self._box.notes.delete(key)

    async def _recall_presence(self, client: Client, key: str, about: About, zone: str) -> None:
        one = Presence(about, zone)
        if self._settings.home_assistant and await self.covered(about) is not None:
            self._people.setdefault(about, {})[zone] = one
            await self._tell(client, one)
        else:
            await client.send(Outgoing(one.topic(self._topics), b"", retain=True))
            await self._box.notes.delete(key, about=about)

    async def _note(self, key: str, value: dict[str, JsonValue], about: About) -> bool:
        try:
            await self._box.notes.put(key, value, about=about)
        except NotFoundError:
            return False  # erased a moment ago
        except ExhaustedError as error:
            _log.warning("Home Assistant is not told of more: %s", error)
            return False
        return True

    async def _noted(self, prefix: str) -> AsyncIterator[tuple[str, About, dict[str, JsonValue]]]:
        after = ""
        while page := await self._box.notes.list(prefix, after=after, limit=_PAGE):
            for note in page:
                if isinstance(note.value, dict):
                    yield note.key, note.about, note.value
            after = page[-1].key

    def _state(self, one: Presence, *, here: bool) -> Outgoing:
        topic = self._topics.presence(one.about, one.zone)
        return Outgoing(topic, (ON if here else OFF).encode(), expiry=self._settings.message_expiry_s)
