"""The messages that are sent: one function a call, and what callers make themselves for the streams.

An empty text and a zero leave the choice to the server; the proto files say what it is.
"""

from collections.abc import Iterable
from datetime import datetime, timedelta

from google.protobuf import field_mask_pb2, timestamp_pb2

from facesvc.v1 import admin_pb2, common_pb2, enrollment_pb2, presence_pb2, recognition_pb2

Said = recognition_pb2.Frame | recognition_pb2.ChallengeRequest
"""What is said in a ``converse`` after its opening."""


def image(data: bytes) -> common_pb2.Image:
    """An encoded picture as a message."""
    return common_pb2.Image(data=data)


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


def sample(
    subject_id: str, data: bytes, *, collection_id: str = "", source: str = "", allow_conflict: bool = False
) -> enrollment_pb2.EnrollSamplesRequest:
    """A picture of a person for ``enroll``."""
    return enrollment_pb2.EnrollSamplesRequest(
        collection_id=collection_id,
        subject_id=subject_id,
        image=image(data),
        source=source,
        allow_conflict=allow_conflict,
    )


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
) -> recognition_pb2.SearchRequest:
    """For ``Search``."""
    return recognition_pb2.SearchRequest(
        image=image(data),
        collection_id=collection_id,
        policy=policy,
        max_candidates=max_candidates,
        options=options,
    )


def first(opened: recognition_pb2.StreamOpening) -> recognition_pb2.RecognizeRequest:
    """For ``Recognize``: the first message."""
    return recognition_pb2.RecognizeRequest(opening=opened)


def following(one: Said) -> recognition_pb2.RecognizeRequest:
    """For ``Recognize``: every other message."""
    if isinstance(one, recognition_pb2.ChallengeRequest):
        return recognition_pb2.RecognizeRequest(challenge=one)
    return recognition_pb2.RecognizeRequest(frame=one)


def create_subject(subject: enrollment_pb2.Subject, request_id: str) -> enrollment_pb2.CreateSubjectRequest:
    """For ``CreateSubject``."""
    return enrollment_pb2.CreateSubjectRequest(subject=subject, request_id=request_id)


def get_subject(subject_id: str, collection_id: str) -> enrollment_pb2.GetSubjectRequest:
    """For ``GetSubject``."""
    return enrollment_pb2.GetSubjectRequest(collection_id=collection_id, subject_id=subject_id)


def list_subjects(collection_id: str, page_size: int, page_token: str) -> enrollment_pb2.ListSubjectsRequest:
    """For ``ListSubjects``: one page."""
    return enrollment_pb2.ListSubjectsRequest(collection_id=collection_id, page_size=page_size, page_token=page_token)


def update_subject(subject: enrollment_pb2.Subject, fields: Iterable[str]) -> enrollment_pb2.UpdateSubjectRequest:
    """For ``UpdateSubject``."""
    mask = field_mask_pb2.FieldMask(paths=list(fields))
    return enrollment_pb2.UpdateSubjectRequest(subject=subject, update_mask=mask)


def erase_subject(subject_id: str, collection_id: str) -> enrollment_pb2.EraseSubjectRequest:
    """For ``EraseSubject``."""
    return enrollment_pb2.EraseSubjectRequest(collection_id=collection_id, subject_id=subject_id)


def enrolling(one: object) -> enrollment_pb2.EnrollSamplesRequest:
    """For ``EnrollSamples``: ``one``, if it is a message. gRPC would send anything else as the end of the stream."""
    if not isinstance(one, enrollment_pb2.EnrollSamplesRequest):
        raise TypeError(f"enroll takes what `sample` makes, not {type(one).__name__}")
    return one


def list_samples(subject_id: str, collection_id: str) -> enrollment_pb2.ListSamplesRequest:
    """For ``ListSamples``."""
    return enrollment_pb2.ListSamplesRequest(collection_id=collection_id, subject_id=subject_id)


def delete_sample(subject_id: str, sample_id: str, collection_id: str) -> enrollment_pb2.DeleteSampleRequest:
    """For ``DeleteSample``."""
    return enrollment_pb2.DeleteSampleRequest(collection_id=collection_id, subject_id=subject_id, sample_id=sample_id)


def watch_events(resume_token: str, collection_id: str, zone: str) -> presence_pb2.WatchEventsRequest:
    """For ``WatchEvents``."""
    return presence_pb2.WatchEventsRequest(resume_token=resume_token, collection_id=collection_id, zone=zone)


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
