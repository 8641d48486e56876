"""Who asked how alike faces are, for the audit log: the first time at once, what follows within a minute in one entry.

A door to a gallery that is tried a thousand times a minute thus fills no disk, and every try is counted. While the log
cannot be written, questions are answered all the same, and counted until it can.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import structlog

from facesvc.errors import DependencyError
from facesvc.events.audit import AuditLog

WINDOW_S = 60.0
_LOOK_S = 5.0
MAX_KEYS = 10_000

_log = structlog.get_logger(__name__)


class Probe(NamedTuple):
    """Which kind of question, and whose. ``collection_id`` is empty where no gallery was asked."""

    actor: str
    action: str
    collection_id: str = ""


@dataclass(slots=True)
class _Tally:
    since: float
    calls: int = 0
    faces: int = 0
    matches: int = 0

    def add(self, calls: int, faces: int, matches: int) -> None:
        self.calls, self.faces, self.matches = self.calls + calls, self.faces + faces, self.matches + matches


class Probes:
    """All calls belong on one event loop. ``clock`` gives seconds and never goes back."""

    def __init__(self, audit: AuditLog, clock: Callable[[], float]) -> None:
        self._audit = audit
        self._clock = clock
        self._tallies: dict[Probe, _Tally] = {}

    async def note(self, probe: Probe, faces: int, matches: int) -> None:
        """One was answered: so many faces were compared, and so many of them recognised."""
        tally = self._tallies.get(probe)
        if tally is not None:
            tally.add(1, faces, matches)
            return
        if len(self._tallies) < MAX_KEYS:
            self._tallies[probe] = _Tally(self._clock())
        single = _Tally(0.0, 1, faces, matches)
        if not await self._written(probe, single) and probe in self._tallies:
            self._tallies[probe].add(1, faces, matches)

    async def run(self) -> None:
        """Write what was counted whenever a minute is over, until it is cancelled."""
        while True:
            await asyncio.sleep(_LOOK_S)
            await self.write(self._clock() - WINDOW_S)

    async def write(self, before: float) -> None:
        """Write what was counted in windows that began before then, by the clock."""
        for probe, tally in list(self._tallies.items()):
            if tally.since > before:
                continue
            if not tally.calls:
                del self._tallies[probe]
                continue
            self._tallies[probe] = fresh = _Tally(self._clock())
            if not await self._written(probe, tally):
                fresh.add(tally.calls, tally.faces, tally.matches)

    async def stop(self) -> None:
        """Write all that was counted; stopping twice is allowed."""
        await self.write(self._clock())
        self._tallies.clear()

    async def _written(self, probe: Probe, tally: _Tally) -> bool:
        detail = f"calls: {tally.calls}, faces: {tally.faces}, matches: {tally.matches}"
        try:
            await asyncio.to_thread(
                self._audit.note, probe.action, probe.collection_id, detail=detail, actor=probe.actor
            )
        except DependencyError as error:
            _log.error("a question about faces is not in the audit log", action=probe.action, problem=error.message)
            return False
        return True
