"""The plugin itself: what happens on an event, in the background, and when it is asked."""

import asyncio
from collections.abc import AsyncIterator, Mapping

import structlog
from pydantic import JsonValue

from facesvc.errors import FacesvcError, InputError, NotFoundError
from facesvc.events.plugin import NOBODY, About, Box, Delivery, Facts, Step, TryLaterError
from facesvc.events.records import Event, LeftEvent, SeenEvent
from facesvc_graph import photos
from facesvc_graph.checks import steps
from facesvc_graph.client import Client
from facesvc_graph.facts import facts_of
from facesvc_graph.look import look
from facesvc_graph.lookup import find, lookup
from facesvc_graph.memory import Known, Memory
from facesvc_graph.people import People
from facesvc_graph.poller import Poller, Sleep
from facesvc_graph.presence import Presences
from facesvc_graph.replies import NoSuchError
from facesvc_graph.sessions import Sessions
from facesvc_graph.settings import GraphSettings

_log = structlog.get_logger(__name__)


class GraphPlugin:
    """Facts from Microsoft 365 about whoever is there. ``sleep`` waits between two rounds."""

    def __init__(self, settings: GraphSettings, box: Box, *, sleep: Sleep = asyncio.sleep) -> None:
        self._settings = settings
        self._box = box
        self._sleep = sleep
        self._memory = Memory()
        self._client: Client | None = None
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Read the secret, and begin the rounds. Nothing is asked yet. Raises ``ConfigError``."""
        await self.stop()
        self._settings.credential()
        client = self._client = Client(self._settings, self._box.now)
        self._presences = Presences(client, self._box.now)
        self._people = People(client, self._box, self._memory, addresses=self._settings.calendar == "free_busy")
        self._sessions = (
            Sessions(client, self._settings.client_id, self._settings.poll_interval, self._box.now)
            if self._settings.set_presence
            else None
        )
        self._poller = Poller(
            self._settings,
            client,
            self._box,
            self._memory,
            self._people,
            self._presences,
            self._sessions,
            self._sleep,
        )
        self._task = asyncio.create_task(self._poller.run())

    async def stop(self) -> None:
        """End the rounds, let go of connections."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        client, self._client = self._client, None
        if client is not None:
            await client.close()

    async def round(self) -> None:
        """A round now."""
        await self._poller.round()

    async def handle(self, delivery: Delivery) -> Facts | None:
        """Facts about whoever came; None where there are none, or they are known already."""
        event = delivery.event
        about = (event.collection_id, event.about)
        if not event.about:
            return None
        try:
            if isinstance(event, LeftEvent):
                await self._left(about, event.external_ids)
                return None
            known = await self._people.known(about, _external_ids(event))
            if known is None or (isinstance(event, SeenEvent) and self._is_shown(known)):
                return None
            return await self._facts(known)
        except NotFoundError:
            return None  # erased meanwhile

    async def _facts(self, known: Known) -> Facts | None:
        await asyncio.gather(self._presence(known), look(self._running, self._settings, [known], self._box.now))
        if isinstance(known.profile.error, NoSuchError):
            await self._people.missing(known)
            return None
        await self._extras(known)
        errors = [one.error for one in (known.presence, known.calendar, known.profile) if one.error is not None]
        main = known.presence if self._settings.has_presence else known.calendar
        if isinstance(main.error, TryLaterError):
            await self._poller.tell(known)  # the last known answer, with its age
            raise main.error
        facts = facts_of(known, self._settings, self._box.now())
        if facts is None and errors:
            raise errors[0]
        known.shown = facts
        return facts

    async def _presence(self, known: Known) -> None:
        if self._settings.has_presence and known.presence.due(self._box.now(), self._settings.poll_interval):
            await self._presences.of(known)

    async def _extras(self, known: Known) -> None:
        """What an administrator asked for besides; it is tried again in a round, or at the next arrival."""
        errors = []
        if self._sessions is not None and await self._is_present(known.about):  # an event may be late
            errors += await self._sessions.renew([known])
        if self._settings.enroll_photos:
            try:
                await photos.enrol_if_due(self._running, self._box, known.about, known)
            except FacesvcError as error:
                errors.append(error)
        for one in errors:
            _log.warning("graph_extra_failed", subject_id=known.about[1], error=one.message)

    async def _left(self, about: About, external_ids: Mapping[str, str]) -> None:
        """Take back the presence of somebody who is nowhere any more."""
        if self._sessions is None:
            return
        if await self._is_present(about):
            return
        known = await self._people.known(about, external_ids)
        if known is not None:
            await self._sessions.clear(known)

    async def _is_present(self, about: About) -> bool:
        return any((stay.collection_id, stay.subject_id) == about for stay in await self._box.present())

    def _is_shown(self, known: Known) -> bool:
        return known.shown is not None and known.shown.expire_time > self._box.now()

    @property
    def _running(self) -> Client:
        if self._client is None:
            raise TryLaterError("the plugin graph has not been started")
        return self._client

    async def forget(self, about: About) -> None:
        """Somebody was erased."""
        self._memory.forget(about)
        if self._client is not None:
            self._people.forget(about)

    async def check(self) -> AsyncIterator[Step]:
        """As ``facesvc graph check``."""
        async for step in steps(self._settings, self._box.now):
            yield step

    async def call(self, command: str, arguments: Mapping[str, str]) -> JsonValue:
        """``lookup user=…``, ``status``, and ``enrol-photo collection_id=… subject_id=…``."""
        if command == "status" and not arguments:
            return self._status()
        if command == "lookup" and set(arguments) == {"user"}:
            profile = await find(self._running, arguments["user"])
            return (await lookup(self._running, self._settings, profile, self._box.now)).as_json()
        if command == "enrol-photo" and set(arguments) == {"collection_id", "subject_id"}:
            return await self._enrol((arguments["collection_id"], arguments["subject_id"]))
        raise InputError(
            "write: lookup user=ID_OR_ADDRESS, status, or enrol-photo collection_id=ID subject_id=ID",
            field="command",
        )

    def _status(self) -> JsonValue:
        calls: dict[str, JsonValue] = dict(self._running.calls)
        return {
            "rounds": self._poller.rounds,
            "people": len(self._memory),
            "calls": calls,
            "problem": self._poller.problem,
        }

    async def _enrol(self, about: About) -> JsonValue:
        person = None if about == NOBODY else await self._box.person(about)
        if person is None:
            raise NotFoundError("this person is not in the gallery", field="subject_id")
        known = await self._people.known(about, person.external_ids)
        if known is None:
            raise NotFoundError("this person is not in Microsoft 365, or has no external id", field="subject_id")
        return {"verdict": await photos.enrol(self._running, self._box, known)}


def _external_ids(event: Event) -> Mapping[str, str]:
    if isinstance(event, SeenEvent):
        return event.decision.subject.external_ids if event.decision.subject is not None else {}
    ids: Mapping[str, str] = getattr(event, "external_ids", {})
    return ids
