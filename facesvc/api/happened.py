"""What cameras saw as the records that are kept of it: of ``facesvc.stream`` in, of ``facesvc.events`` out."""

from datetime import datetime

from facesvc.events.records import (
    ArrivedEvent,
    Event,
    LeftEvent,
    LivenessScore,
    MadeDecision,
    Match,
    SeenEvent,
    SpoofAttemptEvent,
    Stay,
    UnknownPersonEvent,
)
from facesvc.gallery import Candidate
from facesvc.stream.news import News
from facesvc.stream.policy import Decision
from facesvc.stream.presence import Change, Presence, Sighting, State, Told

_OF_NEWS: dict[News, type[SeenEvent | UnknownPersonEvent | SpoofAttemptEvent]] = {
    News.SEEN: SeenEvent,
    News.UNKNOWN_PERSON: UnknownPersonEvent,
    News.SPOOF_ATTEMPT: SpoofAttemptEvent,
}
# After a restart people are given time to be seen again, unless the server was away for longer than this.
_RESTART_S = 600.0


def event_of_news(news: News, sighting: Sighting, event_id: str) -> Event:
    """What is told of a sighting."""
    return _OF_NEWS[news](
        event_id=event_id,
        event_time=sighting.seen_time,
        camera_id=sighting.camera.camera_id,
        zone=sighting.camera.zone,
        collection_id=sighting.collection_id,
        track_id=sighting.track_id,
        decision=_decision(sighting.decision),
    )


def event_of_change(change: Change, event_id: str) -> Event:
    """What is told of an arrival or a leaving."""
    one = change.presence
    if change.told is Told.ARRIVED:
        return ArrivedEvent(
            event_id=event_id,
            event_time=change.time,
            camera_id=one.camera_id,
            zone=one.zone,
            collection_id=one.collection_id,
            subject_id=one.subject_id,
            display_name=one.display_name,
            external_ids=dict(one.external_ids),
            arrive_time=one.arrive_time,
        )
    return LeftEvent(
        event_id=event_id,
        event_time=change.time,
        camera_id=one.camera_id,
        zone=one.zone,
        collection_id=one.collection_id,
        subject_id=one.subject_id,
        display_name=one.display_name,
        external_ids=dict(one.external_ids),
        arrive_time=one.arrive_time,
        leave_time=one.last_seen_time,
    )


def stay_of(one: Presence) -> Stay:
    """The stay of somebody who has arrived; it is over where they are absent by now."""
    return Stay(
        stay_id=one.stay_id,
        collection_id=one.collection_id,
        zone=one.zone,
        subject_id=one.subject_id,
        display_name=one.display_name,
        external_ids=dict(one.external_ids),
        camera_id=one.camera_id,
        arrive_time=one.arrive_time,
        last_seen_time=one.last_seen_time,
        leave_time=one.last_seen_time if one.state is State.ABSENT else None,
        held=one.held,
    )


def presence_of(stay: Stay, now: datetime, clock: float) -> Presence:
    """Somebody who was present when the server stopped.

    Only the wall clock knows how long that is ago. Who was inside a zone is taken to have been seen at this moment, so
    that who still is there has not left; but not where the server was away for long.
    """
    unseen = max(0.0, (now - stay.last_seen_time).total_seconds())
    stayed = max(0.0, (stay.last_seen_time - stay.arrive_time).total_seconds())
    waited = unseen if stay.held or unseen > _RESTART_S else 0.0
    return Presence(
        stay_id=stay.stay_id,
        collection_id=stay.collection_id,
        zone=stay.zone,
        subject_id=stay.subject_id,
        display_name=stay.display_name,
        external_ids=stay.external_ids,
        camera_id=stay.camera_id,
        state=State.PRESENT,
        arrive_time=stay.arrive_time,
        last_seen_time=stay.last_seen_time,
        held=stay.held,
        first_clock=clock - unseen - stayed,
        last_clock=clock - waited,
    )


def _decision(made: Decision) -> MadeDecision:
    return MadeDecision(
        decision_id=made.decision_id,
        outcome=made.outcome.value,
        subject=_match(made.subject) if made.subject else None,
        threshold=made.policy.threshold,
        false_match_rate=made.policy.false_match_rate,
        policy=made.policy.name,
        capture_time=made.capture_time,
        decision_time=made.decision_time,
        expire_time=made.expire_time,
        low_quality_reason=made.low_quality_reason,
        frames_looked_at=made.frames_looked_at,
        frames_agreeing=made.frames_agreeing,
        settled=made.settled,
        liveness=_liveness(made),
    )


def _match(subject: Candidate) -> Match:
    return Match(
        subject_id=subject.subject_id,
        display_name=subject.display_name,
        external_ids=dict(subject.external_ids),
        similarity=subject.similarity,
        sample_id=subject.sample_id,
    )


def _liveness(made: Decision) -> LivenessScore | None:
    if made.liveness is None:
        return None
    return LivenessScore(
        score=made.liveness.score,
        frames_looked_at=made.liveness.frames,
        threshold=made.policy.liveness_threshold,
    )
