"""Events in words and as JSON: the same for those that happen and those that have happened."""

from typing import Any

from google.protobuf.json_format import MessageToDict

from facesvc.cli.times import in_words, length
from facesvc.v1 import common_pb2, presence_pb2

_Named = common_pb2.Candidate | presence_pb2.ArrivedEvent | presence_pb2.LeftEvent | presence_pb2.EnrichedEvent
_WORDS = {
    "seen": "seen",
    "arrived": "arrived",
    "left": "left",
    "unknown_person": "unknown",
    "spoof_attempt": "spoof",
    "enriched": "known",
}
_STRANGERS = {"unknown_person": "somebody unknown", "spoof_attempt": "a face that is not alive"}
_WIDTH = max(map(len, _WORDS.values()))


def is_known(event: presence_pb2.Event) -> bool:
    """Whether it is of a kind that has words; a newer server may tell of more."""
    return event.WhichOneof("payload") in _WORDS


def event_in_words(event: presence_pb2.Event) -> str:
    """One line: when, what, who, which camera, where, and what more there is to say."""
    kind = event.WhichOneof("payload")
    assert kind is not None
    parts = [
        in_words(event.event_time),
        _WORDS[kind].ljust(_WIDTH),
        _STRANGERS.get(kind) or _name(event),
        *_place(event),
        _detail(event),
    ]
    return "  ".join(parts).rstrip()


def event_as_json(event: presence_pb2.Event) -> dict[str, Any]:
    """For programs."""
    kind = event.WhichOneof("payload")
    assert kind is not None
    payload = getattr(event, kind)
    value = {
        "event_id": event.event_id,
        "event_time": event.event_time.ToJsonString(),
        "kind": kind,
        "camera_id": "" if kind == "enriched" else payload.camera_id,
        "zone": "" if kind == "enriched" else payload.zone,
        "collection_id": payload.collection_id,
    }
    if kind == "enriched":
        return value | _person_as_json(payload) | facts_as_json(payload.facts)
    if kind in {"arrived", "left"}:
        value |= _person_as_json(payload) | {"arrive_time": payload.arrive_time.ToJsonString()}
    if kind == "left":
        value["leave_time"] = payload.leave_time.ToJsonString()
    if kind in {"seen", "unknown_person", "spoof_attempt"}:
        value |= {"track_id": payload.track_id} | _decision_as_json(payload.decision)
    return value


def facts_as_json(facts: presence_pb2.Facts) -> dict[str, Any]:
    """What a plugin found out, for programs."""
    return {
        "plugin": facts.plugin,
        "summary": facts.summary,
        "values": MessageToDict(facts.values),
        "fetch_time": facts.fetch_time.ToJsonString(),
        "expire_time": facts.expire_time.ToJsonString(),
    }


def _place(event: presence_pb2.Event) -> tuple[str, ...]:
    """Which camera, and where; nowhere for what a plugin found out."""
    if event.HasField("enriched"):
        return (event.enriched.facts.plugin,)
    payload = getattr(event, event.WhichOneof("payload") or "")
    return payload.camera_id, payload.zone or "-"


def _name(event: presence_pb2.Event) -> str:
    person: _Named
    if event.HasField("seen"):
        person = event.seen.decision.subject
    elif event.HasField("enriched"):
        person = event.enriched
    else:
        person = event.arrived if event.HasField("arrived") else event.left
    return person.display_name or person.subject_id


def _detail(event: presence_pb2.Event) -> str:
    if event.HasField("enriched"):
        return event.enriched.facts.summary
    if event.HasField("seen"):
        return f"{event.seen.decision.subject.similarity:.3f}"
    if event.HasField("left"):
        stayed = event.left.leave_time.ToDatetime() - event.left.arrive_time.ToDatetime()
        return f"after {length(stayed.total_seconds())}"
    if event.HasField("spoof_attempt") and event.spoof_attempt.decision.HasField("liveness"):
        liveness = event.spoof_attempt.decision.liveness
        return f"liveness {liveness.score:.2f} below {liveness.threshold:.2f}"
    return ""


def _person_as_json(person: _Named) -> dict[str, Any]:
    return {
        "subject_id": person.subject_id,
        "display_name": person.display_name,
        "external_ids": dict(person.external_ids),
    }


def _decision_as_json(decision: common_pb2.Decision) -> dict[str, Any]:
    value = _person_as_json(decision.subject) if decision.HasField("subject") else {}
    if decision.HasField("subject"):
        value["similarity"] = decision.subject.similarity
    if decision.HasField("liveness"):
        value["liveness"] = decision.liveness.score
    return value | {"decision_id": decision.decision_id, "expire_time": decision.expire_time.ToJsonString()}
