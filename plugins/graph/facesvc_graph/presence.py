"""Presence: one call for all who are present, as often as ``poll_interval`` says and while there is anybody.

Who arrives between two polls is asked for at once; while such a call is on its way, the next who arrive gather, and
share the one after it. So a rush at nine costs a few calls, not one a person.
"""

import asyncio
from collections.abc import Callable, Sequence
from datetime import datetime

from facesvc.errors import FacesvcError
from facesvc_graph.client import Client
from facesvc_graph.memory import Known
from facesvc_graph.records import presences_of
from facesvc_graph.replies import NoSuchError, Part, Workload

MAX_IDS = 650


class Presences:
    """Asks for presence; answers and errors stand in the people afterwards."""

    def __init__(self, client: Client, now: Callable[[], datetime]) -> None:
        self._client = client
        self._now = now
        self._lock = asyncio.Lock()
        self._waiting: list[Known] = []

    async def of(self, known: Known) -> None:
        """Ask about one person, together with all who wait for the same."""
        self._waiting.append(known)
        async with self._lock:
            await self._ask_waiting([])  # nobody, where somebody else asked for this one as well

    async def of_all(self, people: Sequence[Known]) -> None:
        """Ask about many, and those who wait, in calls of at most 650 ids."""
        async with self._lock:
            await self._ask_waiting(people)

    async def _ask_waiting(self, people: Sequence[Known]) -> None:
        waiting, self._waiting = self._waiting, []
        try:
            await self._ask([*people, *waiting])
        except asyncio.CancelledError:  # whoever asked does not wait any longer; the others do
            self._waiting = [*waiting, *self._waiting]
            raise

    async def _ask(self, people: Sequence[Known]) -> None:
        # The same user may be several people here, in several galleries.
        by_id: dict[str, list[Known]] = {}
        for known in dict.fromkeys(people):
            by_id.setdefault(known.user_id, []).append(known)
        ids = list(by_id)
        for first in range(0, len(ids), MAX_IDS):
            some = ids[first : first + MAX_IDS]
            await self._call({user_id: by_id[user_id] for user_id in some})

    async def _call(self, people: dict[str, list[Known]]) -> None:
        [reply] = await self._client.send([presences_part(list(people))])
        now = self._now()
        try:
            found = presences_of(reply.value())
        except FacesvcError as error:
            for known in (one for many in people.values() for one in many):
                known.presence.bad(error, now)
            return
        for user_id, many in people.items():
            for known in many:
                if user_id in found:
                    known.presence.good(found[user_id], now)
                else:
                    known.presence.bad(NoSuchError("Microsoft Graph knows no presence of this user"), now)


def presences_part(ids: Sequence[str]) -> Part:
    """What asks for the presence of users by their object ids."""
    return Part(
        "POST",
        "/communications/getPresencesByUserId",
        Workload.PRESENCE,
        "Presence.Read.All",
        body={"ids": list(ids)},
    )
