"""The messages that are sent: one function a call, and what callers make themselves for the streams.

An empty text and a zero leave the choice to the server; the proto files say what it is.
"""

from collections.abc import Iterable
from datetime import datetime

from google.protobuf import field_mask_pb2

from facesvc.v1 import admin_pb2, common_pb2, enrollment_pb2, presence_pb2, recognition_pb2


def image(data: bytes) -> common_pb2.Image:
    """An encoded picture as a message."""
    return common_pb2.Image(data=data)


def frame(frame_id: int, data: bytes, capture_time: datetime | None = None) -> recognition_pb2.Frame:
    """A frame for ``recognize``; ``capture_time`` must know its zone, None means on arrival."""
    message = recognition_pb2.Frame(frame_id=frame_id, image=image(data))
    if capture_time is not None:
        message.capture_time.FromDatetime(capture_time)
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
) -> recognition_pb2.StreamOpening:
    """What a stream is and what is wanted of it, for ``recognize``."""
    return recognition_pb2.StreamOpening(
        camera_id=camera_id,
        zone=zone,
        collection_id=collection_id,
        policy=policy,
        max_candidates=max_candidates,
        options=options,
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


def following(one: recognition_pb2.Frame) -> recognition_pb2.RecognizeRequest:
    """For ``Recognize``: every other message."""
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


def migrate_gallery(name: str, *, rollback: bool, skip_missing: bool) -> admin_pb2.MigrateGalleryRequest:
    """For ``MigrateGallery``."""
    return admin_pb2.MigrateGalleryRequest(name=name, rollback=rollback, skip_missing=skip_missing)
