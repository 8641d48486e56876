"""The messages that are sent: one function a call, and what callers make themselves for the streams.

An empty text and a zero leave the choice to the server; the proto files say what it is.
"""

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta

from google.protobuf import timestamp_pb2

from facesvc.v1 import admin_pb2, common_pb2, presence_pb2, recognition_pb2

Said = recognition_pb2.Frame | recognition_pb2.ChallengeRequest
"""What is said in a ``converse`` after its opening."""
Filters = Mapping[str, str | Iterable[str]]
"""Which people are meant: for each key of their metadata the value they have, or several of which they have one."""


def image(data: bytes) -> common_pb2.Image:
    """An encoded picture as a message."""
    return common_pb2.Image(data=data)


def filters_of(filters: Filters | None) -> list[common_pb2.SubjectFilter]:
    """For requests that ask about some people only."""
    return [
        common_pb2.SubjectFilter(key=key, values=[values] if isinstance(values, str) else values)
        for key, values in (filters or {}).items()
    ]


def frame(
    frame_id: int, data: bytes, capture_time: datetime | None = None, *, frames_skipped: int = 0
) -> recognition_pb2.Frame:
    """A frame for ``recognize`` and ``converse``; ``capture_time`` must know its zone, None means on arrival."""
    message = recognition_pb2.Frame(frame_id=frame_id, image=image(data), frames_skipped=frames_skipped)
    if capture_time is not None:
        message.capture_time.FromDatetime(capture_time)
    return message


def challenge(
    track_id: str = "", *, steps: int = 0, time_limit_s: float | None = None
) -> recognition_pb2.ChallengeRequest:
    """Asks somebody in a ``converse`` to prove that they are there; without a ``track_id`` the largest face."""
    message = recognition_pb2.ChallengeRequest(track_id=track_id, steps=steps)
    if time_limit_s is not None:
        message.time_limit.FromTimedelta(timedelta(seconds=time_limit_s))
    return message


def opening(
    camera_id: str,
    *,
    zone: str = "",
    collection_id: str = "",
    policy: str = "",
    max_candidates: int = 0,
    options: recognition_pb2.DetectionOptions | None = None,
    direction: recognition_pb2.CameraDirection.ValueType = recognition_pb2.CAMERA_DIRECTION_UNSPECIFIED,
    predictions: bool = False,
    every_frame: bool = False,
    filters: Filters | None = None,
) -> recognition_pb2.StreamOpening:
    """What a stream is and what is wanted of it, for ``recognize`` and ``converse``."""
    return recognition_pb2.StreamOpening(
        camera_id=camera_id,
        zone=zone,
        collection_id=collection_id,
        policy=policy,
        max_candidates=max_candidates,
        options=options,
        direction=direction,
        predictions=predictions,
        every_frame=every_frame,
        filters=filters_of(filters),
    )


def detect(data: bytes, options: recognition_pb2.DetectionOptions | None) -> recognition_pb2.DetectRequest:
    """For ``Detect``."""
    return recognition_pb2.DetectRequest(image=image(data), options=options)


def embed(data: bytes, options: recognition_pb2.DetectionOptions | None) -> recognition_pb2.EmbedRequest:
    """For ``Embed``."""
    return recognition_pb2.EmbedRequest(image=image(data), options=options)


def compare(reference: bytes, data: bytes, policy: str) -> recognition_pb2.CompareRequest:
    """For ``Compare``."""
    return recognition_pb2.CompareRequest(reference=image(reference), image=image(data), policy=policy)


def search(
    data: bytes,
    collection_id: str,
    policy: str,
    max_candidates: int,
    options: recognition_pb2.DetectionOptions | None,
    filters: Filters | None,
) -> recognition_pb2.SearchRequest:
    """For ``Search``."""
    return recognition_pb2.SearchRequest(
        image=image(data),
        collection_id=collection_id,
        policy=policy,
        max_candidates=max_candidates,
        options=options,
        filters=filters_of(filters),
    )


def correct_match(
    subject_id: str, sample_id: str, actual_subject_id: str, decision_id: str, collection_id: str
) -> recognition_pb2.CorrectMatchRequest:
    """For ``CorrectMatch``."""
    return recognition_pb2.CorrectMatchRequest(
        collection_id=collection_id,
        subject_id=subject_id,
        sample_id=sample_id,
        actual_subject_id=actual_subject_id,
        decision_id=decision_id,
    )


def first(opened: recognition_pb2.StreamOpening) -> recognition_pb2.RecognizeRequest:
    """For ``Recognize``: the first message."""
    return recognition_pb2.RecognizeRequest(opening=opened)


def following(one: Said) -> recognition_pb2.RecognizeRequest:
    """For ``Recognize``: every other message."""
    if isinstance(one, recognition_pb2.ChallengeRequest):
        return recognition_pb2.RecognizeRequest(challenge=one)
    return recognition_pb2.RecognizeRequest(frame=one)


def watch_events(resume_token: str, collection_id: str, zone: str) -> presence_pb2.WatchEventsRequest:
    """For ``WatchEvents``."""
    return presence_pb2.WatchEventsRequest(resume_token=resume_token, collection_id=collection_id, zone=zone)


def acknowledge_decision(
    event_id: str, nonce: str, door: str, action: presence_pb2.DoorAction.ValueType, reason: str
) -> presence_pb2.AcknowledgeDecisionRequest:
    """For ``AcknowledgeDecision``."""
    return presence_pb2.AcknowledgeDecisionRequest(
        event_id=event_id, nonce=nonce, door=door, action=action, reason=reason
    )


def list_presence(collection_id: str, zone: str, page_size: int, page_token: str) -> presence_pb2.ListPresenceRequest:
    """For ``ListPresence``: one page."""
    return presence_pb2.ListPresenceRequest(
        collection_id=collection_id, zone=zone, page_size=page_size, page_token=page_token
    )


def list_events(
    start_time: datetime | None,
    end_time: datetime | None,
    collection_id: str,
    zone: str,
    subject_id: str,
    page_size: int,
    page_token: str,
) -> presence_pb2.ListEventsRequest:
    """For ``ListEvents``: one page."""
    return presence_pb2.ListEventsRequest(
        start_time=_timestamp(start_time),
        end_time=_timestamp(end_time),
        collection_id=collection_id,
        zone=zone,
        subject_id=subject_id,
        page_size=page_size,
        page_token=page_token,
    )


def list_attendance(
    start_time: datetime | None,
    end_time: datetime | None,
    collection_id: str,
    zone: str,
    subject_id: str,
    time_zone: str,
    page_size: int,
    page_token: str,
) -> presence_pb2.ListAttendanceRequest:
    """For ``ListAttendance``: one page."""
    return presence_pb2.ListAttendanceRequest(
        start_time=_timestamp(start_time),
        end_time=_timestamp(end_time),
        collection_id=collection_id,
        zone=zone,
        subject_id=subject_id,
        time_zone=time_zone,
        page_size=page_size,
        page_token=page_token,
    )


def list_audit(
    start_time: datetime | None,
    end_time: datetime | None,
    action: str,
    subject_id: str,
    page_size: int,
    page_token: str,
) -> admin_pb2.ListAuditRequest:
    """For ``ListAudit``: one page."""
    return admin_pb2.ListAuditRequest(
        start_time=_timestamp(start_time),
        end_time=_timestamp(end_time),
        action=action,
        subject_id=subject_id,
        page_size=page_size,
        page_token=page_token,
    )


def _timestamp(time: datetime | None) -> timestamp_pb2.Timestamp | None:
    """A time, which must know its zone, as a message."""
    if time is None:
        return None
    if time.tzinfo is None:
        raise ValueError(f"{time!r} does not say in which time zone it is")
    message = timestamp_pb2.Timestamp()
    message.FromDatetime(time)
    return message


def migrate_gallery(name: str, *, rollback: bool, skip_missing: bool) -> admin_pb2.MigrateGalleryRequest:
    """For ``MigrateGallery``."""
    return admin_pb2.MigrateGalleryRequest(name=name, rollback=rollback, skip_missing=skip_missing)
