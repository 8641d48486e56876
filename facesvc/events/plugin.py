"""What a plugin is: with ``records``, all that whoever writes one has to know.

A plugin is a distribution of its own. Its entry point in the group ``facesvc.plugins`` is a ``Manifest``, of the same
name::

    [project.entry-points."facesvc.plugins"]
    hello = "facesvc_hello:PLUGIN"

It is at work where the settings have a table ``[plugins.hello]``, whose values are those of ``Manifest.settings``. The
server then makes it with those and a ``Box``, on an event loop and in a thread of its own, calls ``start``, and
``handle`` for every event that it wants:

- in the order in which they happened for each person; for different people at the same time;
- at least once: again after a failure, and after a crash of the server; ``Event.event_id`` is the same each time. With
  ``at_most_once`` instead never twice: what was begun when the server crashed is recorded, and not repeated;
- not after ``Delivery.expire_time``.

``handle`` returns when the event is dealt with. It raises ``TryLaterError`` where that did not work this time, and
``UndeliverableError`` where it never will; any other exception counts as the first, and so does a call that takes
longer than the settings allow. An event that fails too often waits among the dead letters until somebody replays it.

One that *enriches* returns facts about the person, which are kept for as long as they say and shown beside them. One
that *acts* returns None. What a plugin has to remember it keeps in ``Box.notes``, not in files: there it is sealed with
the key of the person it is about, and gone when they are erased.
"""

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import Enum
from types import MappingProxyType
from typing import Any, Generic, Protocol, TypeVar, runtime_checkable

from pydantic import BaseModel, ConfigDict, JsonValue

from facesvc.errors import FacesvcError
from facesvc.events.records import Event, Stay

API_VERSION = 1
GROUP = "facesvc.plugins"
MAX_FACTS_BYTES = 256 << 10
"""Of ``Facts.values`` as JSON: room for a small picture in base64."""
MAX_NOTE_BYTES = 64 << 10

About = tuple[str, str]
"""Whom something is about: collection_id and subject_id."""
NOBODY: About = ("", "")


class PluginSettings(BaseModel):
    """Base of every plugin's settings. Durations in seconds, secrets as ``secrets.Secret``."""

    # What is wrong with a value is said without the value: it may be a secret in the wrong place.
    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)


S_contra = TypeVar("S_contra", bound=PluginSettings, contravariant=True)
S = TypeVar("S", bound=PluginSettings)


class TryLaterError(FacesvcError):
    """It did not work this time; ``after`` is how long the other side asked to be left alone, None if it did not."""

    reason = "TRY_LATER"

    def __init__(self, message: str, *, after: timedelta | None = None) -> None:
        super().__init__(message)
        self.after = after


class UndeliverableError(FacesvcError):
    """It will never work, however often it is tried."""

    reason = "UNDELIVERABLE"


class Role(Enum):
    """What a plugin does with an event."""

    ENRICHES = "enriches"
    ACTS = "acts"


@dataclass(frozen=True, slots=True, kw_only=True)
class Needs:
    """Which decisions a plugin may be given; those that do not meet it are passed over, not delivered.

    ``policy``: only decisions that this policy made, empty for any; a server that has no such policy does not start.
    ``max_false_match_rate``: only decisions made at this rate or a stricter one. ``liveness``: only faces that passed.
    Events that carry no decision (arrived, left, enriched) are passed over where anything is asked for.
    """

    policy: str = ""
    max_false_match_rate: float = 1.0
    liveness: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What a plugin found out about a person. Of an earlier one of the same plugin nothing stays.

    ``values`` are for programs and named in the plugin's README; ``summary`` is a line for people, such as "Available ·
    in 'Design review' until 15:00". ``fetch_time``: when it was so. ``expire_time``: until when it may be shown.
    """

    values: Mapping[str, JsonValue]
    summary: str
    fetch_time: datetime
    expire_time: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Person:
    """Somebody who is enrolled, as the gallery knows them at this moment."""

    collection_id: str
    subject_id: str
    display_name: str
    external_ids: Mapping[str, str]
    metadata: Mapping[str, str]
    recognisable: bool
    """Enabled, and their consent has not run out."""
    consent_purpose: str
    """What they gave their consent for; empty where none is recorded."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Note:
    """Something that a plugin keeps."""

    key: str
    about: About
    value: JsonValue


class Notes(Protocol):
    """What one plugin keeps: values by key, durable and sealed; what is about a person goes when they are erased.

    Keys are 1 to 200 characters. Raises ``InputError`` for a value of more than ``MAX_NOTE_BYTES`` as JSON,
    ``ExhaustedError`` where the plugin keeps too many, ``NotFoundError`` where a person is not known, and
    ``DependencyError`` while the database is away.
    """

    async def put(
        self, key: str, value: JsonValue, *, about: About = NOBODY, expire_time: datetime | None = None
    ) -> None:
        """Keep a value, until ``expire_time`` where there is one, in the place of what has this key."""
        ...

    async def put_new(
        self, key: str, value: JsonValue, *, about: About = NOBODY, expire_time: datetime | None = None
    ) -> bool:
        """Keep a value unless there is one of this key; whether it was new. Of two at the same time one is."""
        ...

    async def get(self, key: str, *, about: About = NOBODY) -> JsonValue:
        """The value; None where there is none, or its time is over."""
        ...

    async def delete(self, key: str, *, about: About = NOBODY) -> bool:
        """Remove it; whether it was there."""
        ...

    async def list(
        self, prefix: str = "", *, about: About | None = None, after: str = "", limit: int = 1000
    ) -> Sequence[Note]:
        """Some whose key starts with ``prefix`` and comes after ``after``, by key; about anybody if None.

        At most ``limit`` and 1000; a page may be shorter and not the last one: go on after its last key until one is
        empty. Keys that go by (0 to 9, A to Z, a to z), and that nobody else's note has, are never passed over.
        """
        ...


class Box(Protocol):
    """What a plugin is given of the server. Every method belongs on the plugin's own event loop."""

    @property
    def notes(self) -> Notes:
        """What it keeps."""
        ...

    def now(self) -> datetime:
        """The time of day, UTC. Nothing else says what time it is."""
        ...

    async def person(self, about: About) -> Person | None:
        """Somebody who is enrolled; None where they are not (any more)."""
        ...

    async def present(self) -> Sequence[Stay]:
        """Who is present somewhere at this moment, by the server's own table; of one person there may be several."""
        ...

    async def publish(self, about: About, facts: Facts) -> None:
        """Facts about a person, found out without an event; as if ``handle`` had returned them."""
        ...

    async def facts(self, about: About) -> Mapping[str, Facts]:
        """What all plugins know of a person and may still be shown, by the plugin's name."""
        ...

    async def audit(self, action: str, detail: str, about: About = NOBODY) -> None:
        """An entry in the audit log: ``action`` in CamelCase, ``detail`` in words and never with a name in it."""
        ...

    async def enrol(self, about: About, picture: bytes, source: str) -> str:
        """Enrol a face of a known person from an encoded picture; the verdict in the words of ``EnrollSamples``."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """One event on its way to a plugin.

    ``number`` grows from event to event. ``attempt`` is 1 the first time. ``expire_time``: after it, acting is wrong;
    None for an event that is never too old.
    """

    event: Event
    number: int
    attempt: int
    expire_time: datetime | None


class Plugin(Protocol):
    """What a manifest makes. All calls come on one event loop, which is this plugin's alone."""

    async def start(self) -> None:
        """Get ready, before the first event. An exception is shown, and ``start`` called again a while later."""
        ...

    async def handle(self, delivery: Delivery) -> Facts | None:
        """Deal with an event; may be called for several at the same time, see above."""
        ...

    async def stop(self) -> None:
        """Let go of everything, also where ``start`` failed."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One step of a check: what was tried, whether it worked (None: only to know), and what was found or is to do."""

    name: str
    ok: bool | None
    detail: str


@runtime_checkable
class Checks(Protocol):
    """A plugin that can find out whether its settings work; ``facesvc plugins test NAME`` shows the steps."""

    def check(self) -> AsyncIterator[Step]:
        """Step by step, without events and without ``start``, ending with the first that fails; harmless."""
        ...


@runtime_checkable
class Answers(Protocol):
    """A plugin that can be asked; ``facesvc plugins call NAME COMMAND KEY=VALUE …`` does, and so does an RPC."""

    async def call(self, command: str, arguments: Mapping[str, str]) -> JsonValue:
        """Carry out one of ``Manifest.commands``. Raises ``InputError`` for arguments that cannot be used."""
        ...


@runtime_checkable
class Forgets(Protocol):
    """A plugin that keeps something about people in memory, or outside of its notes."""

    async def forget(self, about: About) -> None:
        """Somebody was erased. Their notes and facts are gone already."""
        ...


def _nothing(_: Any) -> Needs:
    return Needs()


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest(Generic[S]):
    """A plugin's declaration.

    ``name``: lower-case letters, digits and hyphens, as in ``[plugins.NAME]``. ``kinds``: the events that it wants.
    ``needs``: what it demands of decisions, by its settings. ``lifetime``: an event that is older is recorded as
    expired and not delivered; None: however old. ``heeds_expiry``: nor is one whose decision has expired.
    ``commands``: what can be asked of it, with a line of help each, where it ``Answers``.
    """

    name: str
    summary: str
    role: Role
    settings: type[S]
    make: Callable[[S, Box], Plugin]
    kinds: frozenset[type[Event]]
    needs: Callable[[S], Needs] = _nothing
    lifetime: timedelta | None = None
    heeds_expiry: bool = False
    at_most_once: bool = False
    commands: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    api_version: int = API_VERSION
