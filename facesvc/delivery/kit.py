"""For the tests of plugins: a box in memory, people and events to deliver."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol

from pydantic import JsonValue
from ulid import ULID

from facesvc.errors import InputError
from facesvc.events.plugin import (
    MAX_NOTE_BYTES,
    NOBODY,
    About,
    Box,
    Delivery,
    Facts,
    Manifest,
    Note,
    Notes,
    Person,
)
from facesvc.events.records import (
    ArrivedEvent,
    Event,
    LeftEvent,
    LivenessScore,
    MadeDecision,
    Match,
    SeenEvent,
    Stay,
)

NOW = datetime(2026, 3, 2, 8, 30, tzinfo=UTC)  # a Monday


@dataclass(frozen=True, slots=True, kw_only=True)
class Staged:
    """What a plugin brings to ``facesvc demo --plugins``: its settings, and ids of the people by subject_id."""

    settings: Mapping[str, Any]
    external_ids: Mapping[str, Mapping[str, str]]


@dataclass(slots=True)
class Clock:
    """A time of day that stands still until it is moved."""

    time: datetime = NOW

    def __call__(self) -> datetime:
        """The time of day."""
        return self.time

    def advance(self, seconds: float) -> datetime:
        """Move it; the time since."""
        self.time += timedelta(seconds=seconds)
        return self.time


class Harness(Protocol):
    """A plugin and the world that it acts on, for ``contract``: a broker, a relay, an HTTP server, or its own notes."""

    manifest: Manifest[Any]
    settings: Mapping[str, Any]
    """As in ``[plugins.NAME]``; read after ``begin``, so that they may name a port."""

    async def begin(self) -> None:
        """Set up the world."""
        ...

    async def end(self) -> None:
        """Take it down."""
        ...

    def event(self, one: Person, now: datetime) -> Event:
        """One that the plugin deals with."""
        ...

    async def break_down(self) -> None:
        """From now on whatever the plugin tries fails; where nothing outside can fail, nothing happens."""
        ...

    async def mend(self) -> None:
        """It works again."""
        ...

    async def effects(self, box: Box) -> list[str]:
        """The ids of the events that took effect, in that order, each as often as it did; ``box`` is the plugin's."""
        ...


class MemoryNotes(Notes):
    """Notes that are gone with the process."""

    def __init__(self, now: Clock) -> None:
        self._now = now
        self._kept: dict[tuple[About, str], tuple[str, datetime | None]] = {}

    async def put(
        self, key: str, value: JsonValue, *, about: About = NOBODY, expire_time: datetime | None = None
    ) -> None:
        """As ``Notes``."""
        text = json.dumps(value)
        if len(text) > MAX_NOTE_BYTES:
            raise InputError(f"a note has at most {MAX_NOTE_BYTES} bytes")
        self._kept[about, key] = (text, expire_time)

    async def put_new(
        self, key: str, value: JsonValue, *, about: About = NOBODY, expire_time: datetime | None = None
    ) -> bool:
        """As ``Notes``."""
        if self._live(about, key) is not None:
            return False
        await self.put(key, value, about=about, expire_time=expire_time)
        return True

    async def get(self, key: str, *, about: About = NOBODY) -> JsonValue:
        """As ``Notes``."""
        text = self._live(about, key)
        value: JsonValue = None if text is None else json.loads(text)
        return value

    async def delete(self, key: str, *, about: About = NOBODY) -> bool:
        """As ``Notes``."""
        return self._kept.pop((about, key), None) is not None

    async def list(
        self, prefix: str = "", *, about: About | None = None, after: str = "", limit: int = 1000
    ) -> Sequence[Note]:
        """As ``Notes``."""
        return list(self._found(prefix, about, after))[:limit]

    def _found(self, prefix: str, about: About | None, after: str) -> Iterator[Note]:
        for whom, key in sorted(self._kept, key=lambda one: (one[1], one[0])):
            text = self._live(whom, key)
            if text is not None and key.startswith(prefix) and key > after and about in {None, whom}:
                yield Note(key=key, about=whom, value=json.loads(text))

    def _live(self, about: About, key: str) -> str | None:
        text, expire_time = self._kept.get((about, key), (None, None))
        return None if expire_time is not None and expire_time <= self._now() else text

    def forget(self, about: About) -> None:
        """Everything about somebody."""
        self._kept = {place: value for place, value in self._kept.items() if place[0] != about}


@dataclass(slots=True)
class MemoryBox(Box):
    """A box whose people, stays and facts a test sets and reads; ``name`` is the plugin's."""

    name: str = "test"
    clock: Clock = field(default_factory=Clock)
    people: dict[About, Person] = field(default_factory=dict)
    stays: list[Stay] = field(default_factory=list)
    known: dict[About, dict[str, Facts]] = field(default_factory=dict)
    published: list[tuple[About, Facts]] = field(default_factory=list)
    audited: list[tuple[str, str, About]] = field(default_factory=list)
    enrolled: list[tuple[About, bytes, str]] = field(default_factory=list)
    verdict: str = "ENROLLED"
    memory: MemoryNotes = field(init=False)

    def __post_init__(self) -> None:
        self.memory = MemoryNotes(self.clock)

    @property
    def notes(self) -> Notes:
        """As ``Box``."""
        return self.memory

    def now(self) -> datetime:
        """As ``Box``."""
        return self.clock()

    async def person(self, about: About) -> Person | None:
        """As ``Box``."""
        return self.people.get(about)

    async def present(self) -> Sequence[Stay]:
        """As ``Box``."""
        return list(self.stays)

    async def publish(self, about: About, facts: Facts) -> None:
        """As ``Box``."""
        self.published.append((about, facts))
        self.known.setdefault(about, {})[self.name] = facts

    async def facts(self, about: About) -> Mapping[str, Facts]:
        """As ``Box``."""
        return {name: one for name, one in self.known.get(about, {}).items() if one.expire_time > self.now()}

    async def audit(self, action: str, detail: str, about: About = NOBODY) -> None:
        """As ``Box``."""
        self.audited.append((action, detail, about))

    async def enrol(self, about: About, picture: bytes, source: str) -> str:
        """As ``Box``."""
        self.enrolled.append((about, picture, source))
        return self.verdict


def person(subject_id: str = "ana", **changes: Any) -> Person:
    """Somebody in the collection ``default``; ``changes`` are fields of ``Person``."""
    one = Person(
        collection_id="default",
        subject_id=subject_id,
        display_name=subject_id.capitalize(),
        external_ids={},
        metadata={},
        recognisable=True,
        consent_purpose="",
    )
    return replace(one, **changes)


def decision(one: Person, now: datetime, **changes: Any) -> MadeDecision:
    """A match of the policy ``access``, made just now and good for two seconds; ``changes`` are its fields."""
    made = MadeDecision(
        decision_id=str(ULID.from_datetime(now)),
        outcome="MATCH",
        subject=Match(
            subject_id=one.subject_id,
            display_name=one.display_name,
            external_ids=one.external_ids,
            similarity=0.7,
            sample_id=str(ULID.from_datetime(now)),
        ),
        threshold=0.5,
        false_match_rate=1e-5,
        policy="access",
        capture_time=now,
        decision_time=now,
        expire_time=now + timedelta(seconds=2),
        low_quality_reason="",
        frames_looked_at=5,
        frames_agreeing=4,
        settled=True,
        liveness=LivenessScore(score=0.9, frames_looked_at=5, threshold=0.5),
    )
    return replace(made, **changes)


def seen(one: Person, now: datetime, *, camera_id: str = "door-1", zone: str = "lobby", **changes: Any) -> SeenEvent:
    """Somebody came into view; ``changes`` are fields of the decision."""
    return SeenEvent(**_of(one, now, camera_id, zone), track_id="1", decision=decision(one, now, **changes))


def arrived(one: Person, now: datetime, *, camera_id: str = "door-1", zone: str = "lobby") -> ArrivedEvent:
    """Somebody is present in a zone who was not."""
    return ArrivedEvent(**_of(one, now, camera_id, zone), **_named(one), arrive_time=now)


def left(one: Person, now: datetime, *, since: datetime, camera_id: str = "door-1", zone: str = "lobby") -> LeftEvent:
    """Somebody is no longer present in a zone, in which they had been ``since``."""
    return LeftEvent(**_of(one, now, camera_id, zone), **_named(one), arrive_time=since, leave_time=now)


def stay(one: Person, since: datetime, *, zone: str = "lobby", camera_id: str = "door-1") -> Stay:
    """Somebody who is present in a zone."""
    return Stay(
        stay_id=str(ULID.from_datetime(since)),
        collection_id=one.collection_id,
        zone=zone,
        camera_id=camera_id,
        arrive_time=since,
        last_seen_time=since,
        leave_time=None,
        held=False,
        **_named(one),
    )


def delivery(event: Event, *, number: int = 1, attempt: int = 1, expire_time: datetime | None = None) -> Delivery:
    """An event on its way."""
    return Delivery(event=event, number=number, attempt=attempt, expire_time=expire_time)


def _of(one: Person, now: datetime, camera_id: str, zone: str) -> dict[str, Any]:
    return {
        "event_id": str(ULID.from_datetime(now)),
        "event_time": now,
        "camera_id": camera_id,
        "zone": zone,
        "collection_id": one.collection_id,
    }


def _named(one: Person) -> dict[str, Any]:
    return {
        "subject_id": one.subject_id,
        "display_name": one.display_name,
        "external_ids": dict(one.external_ids),
    }
