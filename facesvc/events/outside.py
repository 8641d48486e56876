"""An event as JSON for other people's programs: what the plugins send out.

Every object has ``kind``, ``event_id``, ``event_time``, ``camera_id``, ``zone`` and ``collection_id``, and further, by
its kind:

================== =========================================================================================
``seen``           ``track_id``, ``subject``, ``decision``
``unknown_person`` ``track_id``, ``subject`` (null), ``decision``
``spoof_attempt``  ``track_id``, ``subject`` (null), ``decision``
``arrived``        ``subject``, ``arrive_time``
``left``           ``subject``, ``arrive_time``, ``leave_time``
``enriched``       ``subject``, ``plugin``, ``fetch_time``, ``expire_time``; with names ``summary`` and ``values``
================== =========================================================================================

``subject``: ``subject_id``; with names ``display_name`` and ``external_ids`` too. Without names a stranger cannot say
who it was, as long as subject_ids are no names: what a plugin found out may be a picture, a mail address or what a
meeting is about, so ``summary`` and ``values`` are left out as well.

``decision``: the fields of ``records.MadeDecision`` by their names, ``liveness`` as an object or null, and in the place
of its subject ``similarity``, null where nobody is named. Which sample was alike stays inside.

Times are RFC 3339 in UTC, always of the form 2026-03-02T08:30:00.000000Z, so that they sort as text. A number that is
not finite is null. Keys stand in the same order each time: the same event gives the same text. Fields may be added, and
none is renamed or taken away.
"""

import math
from collections.abc import Mapping
from dataclasses import asdict
from datetime import datetime
from types import MappingProxyType
from typing import Any

from pydantic import JsonValue

from facesvc.events.records import (
    ArrivedEvent,
    EnrichedEvent,
    Event,
    LeftEvent,
    MadeDecision,
    Match,
    SeenEvent,
    SpoofAttemptEvent,
    UnknownPersonEvent,
)

KINDS: Mapping[type[Event], str] = MappingProxyType(
    {
        SeenEvent: "seen",
        ArrivedEvent: "arrived",
        LeftEvent: "left",
        UnknownPersonEvent: "unknown_person",
        SpoofAttemptEvent: "spoof_attempt",
        EnrichedEvent: "enriched",
    }
)
"""Every kind of event and its name, which is that of the journal and of the API."""


def kind_of(event: Event) -> str:
    """The name of its kind. Raises ``ValueError`` for one that is not known here."""
    name = KINDS.get(type(event))
    if name is None:
        raise ValueError(f"{type(event).__name__} is no kind of event that can be told outside")
    return name


def as_json(event: Event, *, names: bool) -> dict[str, JsonValue]:
    """An event as an object that ``json.dumps`` takes. Raises ``ValueError`` for a kind that is not known here."""
    told: dict[str, JsonValue] = {
        "kind": kind_of(event),
        "event_id": event.event_id,
        "event_time": rfc3339(event.event_time),
        "camera_id": event.camera_id,
        "zone": event.zone,
        "collection_id": event.collection_id,
    }
    match event:
        case SeenEvent() | UnknownPersonEvent() | SpoofAttemptEvent():
            told["track_id"] = event.track_id
            found = event.decision.subject
            told["subject"] = _subject(found, names=names) if found else None
            told["decision"] = _decision(event.decision)
        case ArrivedEvent() | LeftEvent() | EnrichedEvent():
            told["subject"] = _subject(event, names=names)
    match event:
        case ArrivedEvent():
            told["arrive_time"] = rfc3339(event.arrive_time)
        case LeftEvent():
            told["arrive_time"] = rfc3339(event.arrive_time)
            told["leave_time"] = rfc3339(event.leave_time)
        case EnrichedEvent():
            told["plugin"] = event.plugin
            told["fetch_time"] = rfc3339(event.fetch_time)
            told["expire_time"] = rfc3339(event.expire_time)
            if names:
                told["summary"] = event.summary
                told["values"] = _plain(dict(event.values))
    return told


def rfc3339(time: datetime) -> str:
    """A time of an event, which is UTC, as text of always the same length."""
    return time.replace(tzinfo=None).isoformat(timespec="microseconds") + "Z"


def _subject(one: Match | ArrivedEvent | LeftEvent | EnrichedEvent, *, names: bool) -> dict[str, JsonValue]:
    told: dict[str, JsonValue] = {"subject_id": one.subject_id}
    if names:
        told["display_name"] = one.display_name
        told["external_ids"] = dict(sorted(one.external_ids.items()))
    return told


def _decision(made: MadeDecision) -> dict[str, JsonValue]:
    told = asdict(made)
    told.pop("subject")
    told["similarity"] = made.subject.similarity if made.subject else None
    return {name: _plain(value) for name, value in told.items()}


def _plain(value: Any) -> JsonValue:
    """What may stand in JSON: times as text, and no number that is not finite."""
    match value:
        case datetime():
            return rfc3339(value)
        case float() if not math.isfinite(value):
            return None
        case dict():
            return {str(key): _plain(one) for key, one in value.items()}
        case list() | tuple():
            return [_plain(one) for one in value]
        case _:
            plain: JsonValue = value
            return plain
