"""What is told outside: every field by its name, and without names nothing that says who somebody is."""

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from facesvc.delivery.kit import NOW, arrived, left, person, seen
from facesvc.events.outside import KINDS, as_json, kind_of, rfc3339
from facesvc.events.records import EnrichedEvent, Event, SeenEvent, SpoofAttemptEvent, UnknownPersonEvent

ANA = person("s-17", display_name="Ana Lima", external_ids={"mail": "ana@example.org", "card_number": "99"})
ID = "01KJPZG0M0000000000000000A"
HEAD = {
    "event_id": ID,
    "event_time": "2026-03-02T08:30:00.000000Z",
    "camera_id": "door-1",
    "zone": "lobby",
    "collection_id": "default",
}
NAMELESS = {"subject_id": "s-17"}
NAMED = {
    "subject_id": "s-17",
    "display_name": "Ana Lima",
    "external_ids": {"card_number": "99", "mail": "ana@example.org"},
}


def told(event: Event, *, names: bool = True) -> dict[str, Any]:
    """What comes out at the other side."""
    parsed: dict[str, Any] = json.loads(json.dumps(as_json(event, names=names), allow_nan=False))
    return parsed


def ana_seen(**changes: Any) -> SeenEvent:
    return replace(seen(ANA, NOW, **changes), event_id=ID)


def nobody(kind: Callable[..., Event], outcome: str) -> Event:
    one = ana_seen(outcome=outcome, subject=None, liveness=None)
    return kind(**{name: getattr(one, name) for name in SeenEvent.__dataclass_fields__})


def enriched() -> EnrichedEvent:
    return EnrichedEvent(
        event_id=ID,
        event_time=NOW,
        camera_id="",
        zone="",
        collection_id="default",
        subject_id="s-17",
        display_name="Ana Lima",
        external_ids={},
        plugin="graph",
        values={"availability": "Available", "photo": None, "meetings": [{"subject": "Ana's review"}, float("nan")]},
        summary="Available",
        fetch_time=NOW,
        expire_time=NOW + timedelta(seconds=60),
    )


def test_seen_tells_of_the_person_and_the_decision() -> None:
    event = ana_seen()
    assert told(event) == {
        "kind": "seen",
        **HEAD,
        "track_id": "1",
        "subject": NAMED,
        "decision": {
            "decision_id": event.decision.decision_id,
            "outcome": "MATCH",
            "threshold": 0.5,
            "false_match_rate": 1e-5,
            "policy": "access",
            "capture_time": "2026-03-02T08:30:00.000000Z",
            "decision_time": "2026-03-02T08:30:00.000000Z",
            "expire_time": "2026-03-02T08:30:02.000000Z",
            "low_quality_reason": "",
            "frames_looked_at": 5,
            "frames_agreeing": 4,
            "settled": True,
            "liveness": {"score": 0.9, "frames_looked_at": 5, "threshold": 0.5},
            "similarity": 0.7,
        },
    }


@pytest.mark.parametrize(
    ("kind", "outcome", "name"),
    [(UnknownPersonEvent, "UNKNOWN", "unknown_person"), (SpoofAttemptEvent, "SPOOF", "spoof_attempt")],
)
def test_nobody_is_null(kind: type[Event], outcome: str, name: str) -> None:
    one = told(nobody(kind, outcome))
    assert one["kind"] == name
    assert one["subject"] is None
    assert one["decision"]["similarity"] is None
    assert one["decision"]["liveness"] is None


def test_arrived_and_left() -> None:
    came = replace(arrived(ANA, NOW), event_id=ID)
    assert told(came) == {"kind": "arrived", **HEAD, "subject": NAMED, "arrive_time": HEAD["event_time"]}
    went = replace(left(ANA, NOW, since=NOW - timedelta(hours=1)), event_id=ID)
    assert told(went) == {
        "kind": "left",
        **HEAD,
        "subject": NAMED,
        "arrive_time": "2026-03-02T07:30:00.000000Z",
        "leave_time": HEAD["event_time"],
    }


def test_enriched_tells_what_was_found_out_and_no_number_that_json_has_not() -> None:
    assert told(enriched()) == {
        "kind": "enriched",
        **HEAD,
        "camera_id": "",
        "zone": "",
        "subject": {"subject_id": "s-17", "display_name": "Ana Lima", "external_ids": {}},
        "plugin": "graph",
        "fetch_time": HEAD["event_time"],
        "expire_time": "2026-03-02T08:31:00.000000Z",
        "summary": "Available",
        "values": {"availability": "Available", "photo": None, "meetings": [{"subject": "Ana's review"}, None]},
    }


@pytest.mark.parametrize("event", [ana_seen(), arrived(ANA, NOW), left(ANA, NOW, since=NOW), enriched()])
def test_without_names_there_is_the_id_alone(event: Event) -> None:
    assert told(event, names=False)["subject"] == NAMELESS
    text = json.dumps(as_json(event, names=False))
    assert "Ana" not in text
    assert "example.org" not in text
    assert "Available" not in text
    rest = {name: value for name, value in told(event).items() if name not in {"subject", "summary", "values"}}
    assert {name: value for name, value in told(event, names=False).items() if name != "subject"} == rest


def test_the_same_event_gives_the_same_text() -> None:
    turned = dict(reversed(ANA.external_ids.items()))
    other = arrived(replace(ANA, external_ids=turned), NOW)
    one = replace(arrived(ANA, NOW), event_id=other.event_id)
    assert json.dumps(as_json(one, names=True)) == json.dumps(as_json(other, names=True))


def test_times_are_of_one_length() -> None:
    assert rfc3339(datetime(2026, 3, 2, 8, 30, 0, 120, UTC)) == "2026-03-02T08:30:00.000120Z"
    assert rfc3339(NOW) == "2026-03-02T08:30:00.000000Z"


def test_a_kind_that_is_not_known_is_refused() -> None:
    with pytest.raises(ValueError, match="Event is no kind of event"):
        kind_of(Event(event_id=ID, event_time=NOW, camera_id="", zone="", collection_id="c"))


def test_every_kind_has_a_name_of_its_own() -> None:
    assert {kind.__name__ for kind in KINDS} == {kind.__name__ for kind in Event.__subclasses__()}
    assert len(set(KINDS.values())) == len(KINDS)
