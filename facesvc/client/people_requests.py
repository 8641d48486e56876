"""The messages that are sent about people: one function a call, and what callers make themselves for the streams.

An empty text and a zero leave the choice to the server; the proto files say what it is.
"""

from collections.abc import Iterable, Sequence

from google.protobuf import field_mask_pb2

from facesvc.client.requests import Filters, filters_of, image
from facesvc.v1 import enrollment_pb2


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


def create_subject(subject: enrollment_pb2.Subject, request_id: str) -> enrollment_pb2.CreateSubjectRequest:
    """For ``CreateSubject``."""
    return enrollment_pb2.CreateSubjectRequest(subject=subject, request_id=request_id)


def get_subject(subject_id: str, collection_id: str) -> enrollment_pb2.GetSubjectRequest:
    """For ``GetSubject``."""
    return enrollment_pb2.GetSubjectRequest(collection_id=collection_id, subject_id=subject_id)


def list_subjects(
    collection_id: str, prefix: str, filters: Filters | None, page_size: int, page_token: str
) -> enrollment_pb2.ListSubjectsRequest:
    """For ``ListSubjects``: one page."""
    return enrollment_pb2.ListSubjectsRequest(
        collection_id=collection_id,
        prefix=prefix,
        filters=filters_of(filters),
        page_size=page_size,
        page_token=page_token,
    )


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


def encoding(
    subject_id: str,
    embedding: Sequence[float],
    *,
    collection_id: str = "",
    embedding_contract: str = "",
    display_name: str = "",
    create_subject: bool = False,
    source: str = "",
    allow_conflict: bool = False,
) -> enrollment_pb2.ImportEncodingsRequest:
    """An encoding of a person for ``import_encodings``; with ``create_subject`` the person need not be known yet."""
    return enrollment_pb2.ImportEncodingsRequest(
        collection_id=collection_id,
        subject_id=subject_id,
        embedding=embedding,
        embedding_contract=embedding_contract,
        display_name=display_name,
        create_subjects=create_subject,
        source=source,
        allow_conflict=allow_conflict,
    )


def importing(one: object) -> enrollment_pb2.ImportEncodingsRequest:
    """For ``ImportEncodings``: ``one``, if it is a message, as ``enrolling``."""
    if not isinstance(one, enrollment_pb2.ImportEncodingsRequest):
        raise TypeError(f"import_encodings takes what `encoding` makes, not {type(one).__name__}")
    return one


def split_subject(
    subject_id: str, sample_ids: Iterable[str], new_subject_id: str, display_name: str, collection_id: str
) -> enrollment_pb2.SplitSubjectRequest:
    """For ``SplitSubject``."""
    return enrollment_pb2.SplitSubjectRequest(
        collection_id=collection_id,
        subject_id=subject_id,
        sample_ids=sample_ids,
        new_subject_id=new_subject_id,
        display_name=display_name,
    )
