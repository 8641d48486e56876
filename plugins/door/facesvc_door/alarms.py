"""What a door's contact tells: held open too long, forced, or nothing any more. And the book of alarms.

One step for every reading, without a clock: the time is passed in.

    reading   before      alarm
    open      closed      FORCED, unless the relay was on just now; once a minute
    open      open        HELD, once, when it has been open for too long since it was last allowed to be
    closed    held        CLOSED_AGAIN
    failed    -           INPUT_LOST, once, when it failed three times running
    any       lost        INPUT_BACK

A door that stands open at the first reading may have been opened by anybody before: that is no FORCED, but it is HELD
some time later.
"""

import asyncio
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import Enum

import structlog
from pydantic import JsonValue

from facesvc.errors import FacesvcError
from facesvc.events.plugin import Box

_log = structlog.get_logger(__name__)

FAILED_READINGS = 3
FORCED_PAUSE = timedelta(minutes=1)
MAX_WAITING = 200
"""Alarms that wait in memory while the database is away; the oldest go first."""


class Kind(Enum):
    """Of an alarm."""

    FORCED = "the door was opened, and the relay had not let it"
    HELD = "the door is held open"
    CLOSED_AGAIN = "the door that was held open is closed again"
    INPUT_LOST = "the door's contact cannot be read"
    INPUT_BACK = "the door's contact can be read again"
    RELAY_STUCK = "the relay does not confirm that it is off; it is switched off again and again"
    DURESS = "somebody is under duress"


@dataclass(frozen=True, slots=True)
class Watch:
    """What is remembered of a door between two readings."""

    is_open: bool | None = None
    since: datetime | None = None
    """Of an open door: when it was last allowed to be open."""
    held: bool = False
    failures: int = 0
    forced_time: datetime | None = None


def read(
    watch: Watch, *, is_open: bool, allowed: bool, now: datetime, held_after: timedelta
) -> tuple[Watch, list[Kind]]:
    """One that worked; ``allowed``: whether the door may be opened at this moment."""
    alarms = [Kind.INPUT_BACK] if watch.failures >= FAILED_READINGS else []
    after = replace(watch, is_open=is_open, failures=0)
    if not is_open:
        alarms += [Kind.CLOSED_AGAIN] if watch.held else []
        return replace(after, held=False), alarms
    if allowed or not watch.is_open or after.since is None:
        after = replace(after, since=now)
    told_lately = watch.forced_time is not None and now - watch.forced_time < FORCED_PAUSE
    if not allowed and watch.is_open is False and not told_lately:
        alarms.append(Kind.FORCED)
        after = replace(after, forced_time=now)
    if not after.held and after.since is not None and now - after.since >= held_after:
        alarms.append(Kind.HELD)
        after = replace(after, held=True)
    return after, alarms


def missed(watch: Watch) -> tuple[Watch, list[Kind]]:
    """A reading that failed."""
    failures = min(watch.failures + 1, FAILED_READINGS)
    told = watch.failures >= FAILED_READINGS
    return replace(watch, failures=failures), [Kind.INPUT_LOST] if failures == FAILED_READINGS and not told else []


@dataclass(frozen=True, slots=True)
class _Alarm:
    key: str
    kind: Kind
    door: str
    words: str
    time: datetime


class Book:
    """Alarms, audited and kept; those that cannot be written wait until they can."""

    def __init__(self, box: Box, keep: timedelta) -> None:
        self._box = box
        self._keep = keep
        self._count = 0
        self._waiting: deque[_Alarm] = deque(maxlen=MAX_WAITING)
        self._one = asyncio.Lock()

    async def add(self, kind: Kind, door: str, words: str = "") -> None:
        """An alarm now; ``door`` is empty for one that is about all."""
        _log.warning("alarm", kind=kind.name, door=door)
        now = self._box.now()
        self._count += 1
        # Keys sort the newest first: that is the order in which they are asked for.
        key = f"alarm/{10**16 - int(now.timestamp() * 1e6):017}/{10**9 - self._count:010}"
        self._waiting.append(_Alarm(key, kind, door, words or kind.value, now))
        await self.write()

    async def write(self) -> None:
        """Write what waits, the oldest first, as far as the database is there."""
        async with self._one:
            while self._waiting:
                first = self._waiting[0]
                try:
                    await self._write(first)
                except FacesvcError as error:
                    _log.warning("an alarm waits to be written", waiting=len(self._waiting), reason=error.reason)
                    return
                if self._waiting[0] is first:  # else it had to make room meanwhile
                    self._waiting.popleft()

    async def _write(self, alarm: _Alarm) -> None:
        value: JsonValue = {
            "time": alarm.time.isoformat(),
            "kind": alarm.kind.name,
            "door": alarm.door,
            "words": alarm.words,
        }
        await self._box.notes.put(alarm.key, value, expire_time=alarm.time + self._keep)
        where = f"door {alarm.door}" if alarm.door else "all doors"
        await self._box.audit("DoorAlarm", f"{where}: {alarm.kind.name}: {alarm.words}")

    async def last(self, limit: int, door: str = "") -> Sequence[JsonValue]:
        """The newest first, of one door or of all; alarms about all doors belong to each."""
        found: list[JsonValue] = []
        after = ""
        while len(found) < limit:
            page = await self._box.notes.list("alarm/", after=after)
            found += [note.value for note in page if not door or _door(note.value) in {door, ""}]
            if not page:
                break
            after = page[-1].key
        return found[:limit]


def _door(value: JsonValue) -> JsonValue:
    return value.get("door") if isinstance(value, dict) else None
