"""The round: everybody who is present, their presence in one call, whatever else is due, and telling what is new.

Facts are published when they changed, and before the old ones would be shown no more. While Graph is away the last
known ones stay, with their age, for half a day.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from datetime import timedelta

import structlog

from facesvc.errors import FacesvcError, NotFoundError
from facesvc.events.plugin import About, Box, Facts, TryLaterError
from facesvc_graph.client import Client
from facesvc_graph.facts import MAX_AGE, facts_of, same
from facesvc_graph.look import is_due, look
from facesvc_graph.memory import Known, Memory
from facesvc_graph.people import People
from facesvc_graph.presence import Presences
from facesvc_graph.replies import NoSuchError
from facesvc_graph.sessions import Sessions
from facesvc_graph.settings import GraphSettings

NAME = "graph"
MAX_LOOKED_AT = 200
"""People whose calendar, profile or photo is asked for in one round; the others' turn is the next."""
MAX_FAILURES = 5
"""Look-ups that may fail in one round; then nobody else is looked up in it: Graph is away."""

_log = structlog.get_logger(__name__)

Sleep = Callable[[float], Awaitable[None]]


class Poller:
    """Rounds, one after the other."""

    def __init__(
        self,
        settings: GraphSettings,
        client: Client,
        box: Box,
        memory: Memory,
        people: People,
        presences: Presences,
        sessions: Sessions | None,
        sleep: Sleep,
    ) -> None:
        self._settings = settings
        self._client = client
        self._box = box
        self._memory = memory
        self._people = people
        self._presences = presences
        self._sessions = sessions
        self._sleep = sleep
        self._life = timedelta(seconds=max(settings.cache_ttl, 3 * settings.poll_interval))
        self._margin = timedelta(seconds=1.5 * settings.poll_interval)
        self.rounds = 0
        self.problem = ""
        """What went wrong in the last round; empty where nothing did."""

    async def run(self) -> None:
        """Round after round, for ever."""
        while True:
            await self._sleep(self._settings.poll_interval)
            try:
                await self.round()
            except FacesvcError as error:
                self._tell(error)
            except Exception:  # noqa: BLE001 - a bug in one round must not end all that would follow
                _log.exception("graph_round_failed")

    async def round(self) -> None:
        """Look after all who are present. Raises what the database has to say."""
        self.rounds += 1
        present = await self._box.present()
        whom: dict[About, Mapping[str, str]] = {
            (stay.collection_id, stay.subject_id): stay.external_ids for stay in present
        }
        if not whom:
            return
        people, trouble = await self._known(whom)
        if self._settings.has_presence and people:
            await self._presences.of_all(people)
            await self._publish(people)
        now = self._box.now()
        due = [one for one in people if is_due(one, self._settings, now)][:MAX_LOOKED_AT]
        await look(self._client, self._settings, due, self._box.now)
        for known in due:
            if isinstance(known.profile.error, NoSuchError):
                await self._people.missing(known)
        errors = [] if self._sessions is None else await self._sessions.renew(people)
        await self._publish(people)
        self._tell(next(iter([*trouble, *_errors(people), *errors]), None))

    async def tell(self, known: Known) -> Facts | None:
        """Publish what is known of somebody, if that is news, or the old would be gone soon."""
        now = self._box.now()
        facts = facts_of(known, self._settings, now) or await self._kept(known)
        if facts is None or (
            same(known.shown, facts) and known.shown is not None and known.shown.expire_time - now > self._margin
        ):
            return None
        await self._box.publish(known.about, facts)
        known.shown = facts
        return facts

    async def _publish(self, people: Sequence[Known]) -> None:
        for known in people:
            try:
                await self.tell(known)
            except NotFoundError:  # erased meanwhile
                self._people.forget(known.about)

    async def _kept(self, known: Known) -> Facts | None:
        """What was told of somebody before we were started, for longer: nothing newer is to be had."""
        now = self._box.now()
        old = (await self._box.facts(known.about)).get(NAME)
        if old is None or now - old.fetch_time > MAX_AGE or not isinstance(known.presence.error, TryLaterError):
            return None
        time = old.fetch_time.astimezone(self._settings.zone)
        told = old.summary if "as of " in old.summary else f"{old.summary} · as of {time:%H:%M}"
        return replace(old, summary=told, expire_time=now + self._life)

    async def _known(self, whom: Mapping[About, Mapping[str, str]]) -> tuple[list[Known], list[FacesvcError]]:
        """Those of them who are in Graph; whoever cannot be looked up now is left for the next round."""
        found: list[Known] = []
        trouble: list[FacesvcError] = []
        for about, external_ids in whom.items():
            if len(trouble) >= MAX_FAILURES and self._memory.get(about) is None:
                continue
            try:
                known = await self._people.known(about, external_ids)
            except TryLaterError as error:
                trouble.append(error)
            except FacesvcError as error:
                _log.warning("graph_no_user", subject_id=about[1], error=error.message)
            else:
                found += [known] if known is not None else []
        return found, trouble

    def _tell(self, error: FacesvcError | None) -> None:
        """Into the log once, not every round."""
        problem = "" if error is None else f"{error.reason}: {error.message}"
        kind = "" if error is None else error.reason
        if kind != self.problem.partition(":")[0]:
            if error is None:
                _log.info("graph_answers_again")
            else:
                _log.warning("graph_trouble", error=error.message)
        self.problem = problem


def _errors(people: Sequence[Known]) -> list[FacesvcError]:
    """What went wrong for any of them but that somebody has no presence, mailbox or photo."""
    answers = (answer for one in people for answer in (one.presence, one.calendar, one.profile, one.photo))
    return [one.error for one in answers if one.error is not None and not isinstance(one.error, NoSuchError)]
