"""Events, presence and attendance as messages."""

from collections.abc import Mapping

from facesvc.api.convert import distance as distance_of
from facesvc.api.convert import duration, timestamp
from facesvc.events.attendance import Attendance
from facesvc.events.plugin import Facts
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
from facesvc.stream.presence import Presence, State
from facesvc.v1 import common_pb2, presence_pb2

# Nobody is told of those who are absent.
_STATES: dict[State, presence_pb2.PresenceState.ValueType] = {
    state: presence_pb2.PresenceState.Value(f"PRESENCE_STATE_{state.value}")
    for state in State
    if state is not State.ABSENT
}


def event(record: Event, valid_for: float) -> presence_pb2.Event:
    """An event; its decision, where it has one, holds for ``valid_for`` seconds more."""
    message = presence_pb2.Event(event_id=record.event_id, event_time=timestamp(record.event_time))
    match record:
        case SeenEvent():
            message.seen.CopyFrom(
                presence_pb2.SeenEvent(
                    camera_id=record.camera_id,
                    zone=record.zone,
                    collection_id=record.collection_id,
                    track_id=record.track_id,
                    decision=_decision(record.decision, valid_for),
                )
            )
        case UnknownPersonEvent():
            message.unknown_person.CopyFrom(
                presence_pb2.UnknownPersonEvent(
                    camera_id=record.camera_id,
                    zone=record.zone,
                    collection_id=record.collection_id,
                    track_id=record.track_id,
                    decision=_decision(record.decision, valid_for),
                )
            )
        case SpoofAttemptEvent():
            message.spoof_attempt.CopyFrom(
                presence_pb2.SpoofAttemptEvent(
                    camera_id=record.camera_id,
                    zone=record.zone,
                    collection_id=record.collection_id,
                    track_id=record.track_id,
                    decision=_decision(record.decision, valid_for),
                )
            )
        case ArrivedEvent():
            message.arrived.CopyFrom(
                presence_pb2.ArrivedEvent(
                    camera_id=record.camera_id,
                    zone=record.zone,
                    collection_id=record.collection_id,
                    subject_id=record.subject_id,
                    display_name=record.display_name,
                    external_ids=record.external_ids,
                    arrive_time=timestamp(record.arrive_time),
                )
            )
        case LeftEvent():
            message.left.CopyFrom(
                presence_pb2.LeftEvent(
                    camera_id=record.camera_id,
                    zone=record.zone,
                    collection_id=record.collection_id,
                    subject_id=record.subject_id,
                    display_name=record.display_name,
                    external_ids=record.external_ids,
                    arrive_time=timestamp(record.arrive_time),
                    leave_time=timestamp(record.leave_time),
                )
            )
        case EnrichedEvent():
            message.enriched.CopyFrom(
                presence_pb2.EnrichedEvent(
                    collection_id=record.collection_id,
                    subject_id=record.subject_id,
                    display_name=record.display_name,
                    external_ids=record.external_ids,
                    facts=facts(record.plugin, record),
                )
            )
    return message


def facts(plugin: str, record: Facts | EnrichedEvent) -> presence_pb2.Facts:
    """What a plugin found out."""
    message = presence_pb2.Facts(
        plugin=plugin,
        summary=record.summary,
        fetch_time=timestamp(record.fetch_time),
        expire_time=timestamp(record.expire_time),
    )
    message.values.update(record.values)
    return message


def presence(record: Presence, known: Mapping[str, Facts]) -> presence_pb2.Presence:
    """Somebody who is somewhere, with what plugins know of them."""
    return presence_pb2.Presence(
        collection_id=record.collection_id,
        subject_id=record.subject_id,
        display_name=record.display_name,
        zone=record.zone,
        arrive_time=timestamp(record.arrive_time),
        last_seen_time=timestamp(record.last_seen_time),
        state=_STATES[record.state],
        camera_id=record.camera_id,
        external_ids=record.external_ids,
        facts=[facts(plugin, one) for plugin, one in known.items()],
    )


def attendance(record: Attendance) -> presence_pb2.Attendance:
    """One person on one day."""
    return presence_pb2.Attendance(
        subject_id=record.subject_id,
        first_in_time=timestamp(record.first_in),
        last_out_time=timestamp(record.last_out) if record.last_out else None,
        date=record.day.isoformat(),
        display_name=record.display_name,
        present_duration=duration(record.present.total_seconds()),
        stays=record.stays,
    )


def _decision(record: MadeDecision, valid_for: float) -> common_pb2.Decision:
    message = common_pb2.Decision(
        decision_id=record.decision_id,
        outcome=common_pb2.Outcome.Value(f"OUTCOME_{record.outcome}"),
        subject=_candidate(record.subject) if record.subject else None,
        threshold=record.threshold,
        false_match_rate=record.false_match_rate,
        policy=record.policy,
        capture_time=timestamp(record.capture_time),
        decision_time=timestamp(record.decision_time),
        expire_time=timestamp(record.expire_time),
        low_quality_reason=record.low_quality_reason,
        valid_for=duration(valid_for),
        frames_looked_at=record.frames_looked_at,
        frames_agreeing=record.frames_agreeing,
        settled=record.settled,
    )
    if record.liveness is not None:
        message.liveness.score = record.liveness.score
        message.liveness.frames_looked_at = record.liveness.frames_looked_at
        message.liveness.threshold = record.liveness.threshold
    return message


def _candidate(record: Match) -> common_pb2.Candidate:
    return common_pb2.Candidate(
        subject_id=record.subject_id,
        display_name=record.display_name,
        similarity=record.similarity,
        distance=distance_of(record.similarity),
        external_ids=record.external_ids,
        sample_id=record.sample_id,
    )
