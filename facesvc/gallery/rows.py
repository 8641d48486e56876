"""Records as rows of the tables, and back: one function each way. Pure values, no database.

A row that cannot have been written by this module is a damaged gallery, a ``DependencyError``: the caller who asked
for it did nothing wrong.
"""

import base64
import json
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

from facesvc.errors import DependencyError, InputError
from facesvc.gallery.records import Consent, ErasureReceipt, Floats, Sample, Subject, check_id
from facesvc.sqlite import Row, from_microseconds, to_microseconds

# The columns in the order in which the functions below take them apart.
SELECT_SUBJECT = """
    SELECT collection_id, subject_id, display_name, external_ids, metadata,
           consent_purpose, consent_given_time, consent_expire_time, enabled, create_time, update_time,
           (SELECT count(*) FROM samples
             WHERE samples.collection_id = subjects.collection_id AND samples.subject_id = subjects.subject_id)
      FROM subjects
"""
# Named parameter ``contract_id``: under which the vector is, NULL where there is none.
SELECT_SAMPLE = """
    SELECT samples.row_id, sample_id, collection_id, subject_id, vector, quality, source, image_sha256, create_time
      FROM samples LEFT JOIN vectors ON vectors.row_id = samples.row_id AND vectors.contract_id = :contract_id
"""


def to_blob(vector: Floats) -> bytes:
    """(D,) float32 as 4·D little-endian bytes. Vectors reach the disk here only: encryption at rest belongs here."""
    return vector.astype("<f4").tobytes()


def from_blob(blob: bytes) -> Floats:
    """The inverse of ``to_blob``."""
    return np.frombuffer(blob, "<f4").astype(np.float32)


def subject_to_row(subject: Subject) -> dict[str, object]:
    """The columns of ``subjects``, for named parameters."""
    consent = subject.consent
    expire_time = consent.expire_time if consent else None
    return {
        "collection_id": subject.collection_id,
        "subject_id": subject.subject_id,
        "display_name": subject.display_name,
        "external_ids": json.dumps(dict(subject.external_ids), ensure_ascii=False),
        "metadata": json.dumps(dict(subject.metadata), ensure_ascii=False),
        "consent_purpose": consent.purpose if consent else None,
        "consent_given_time": to_microseconds(consent.given_time) if consent else None,
        "consent_expire_time": to_microseconds(expire_time) if expire_time else None,
        "enabled": int(subject.enabled),
        "create_time": to_microseconds(subject.create_time),
        "update_time": to_microseconds(subject.update_time),
    }


def subject_from_row(row: Row) -> Subject:
    """A row of ``SELECT_SUBJECT`` as a record."""
    collection_id, subject_id, display_name, external_ids, metadata, *consent, enabled, created, updated, count = row
    with _undamaged(f"subject {subject_id} of collection {collection_id}"):
        return Subject(
            collection_id=collection_id,
            subject_id=subject_id,
            display_name=display_name,
            external_ids=json.loads(external_ids),
            metadata=json.loads(metadata),
            consent=_consent_from_row(*consent),
            enabled=bool(enabled),
            create_time=from_microseconds(created),
            update_time=from_microseconds(updated),
            sample_count=count,
        )


def _consent_from_row(purpose: str | None, given_time: int | None, expire_time: int | None) -> Consent | None:
    if purpose is None or given_time is None:
        return None
    return Consent(
        purpose, from_microseconds(given_time), None if expire_time is None else from_microseconds(expire_time)
    )


def sample_to_row(sample: Sample) -> dict[str, object]:
    """The columns of ``samples`` but ``row_id``, for named parameters; the vector has a table of its own."""
    return {
        "sample_id": sample.sample_id,
        "collection_id": sample.collection_id,
        "subject_id": sample.subject_id,
        "quality": sample.quality,
        "source": sample.source,
        "image_sha256": sample.image_sha256,
        "create_time": to_microseconds(sample.create_time),
    }


def sample_from_row(row: Row) -> tuple[int, Sample]:
    """A row of ``SELECT_SAMPLE`` as its row id and the record."""
    row_id, sample_id, collection_id, subject_id, vector, quality, source, image_sha256, create_time = row
    with _undamaged(f"sample {sample_id} of subject {subject_id}"):
        return row_id, Sample(
            sample_id=sample_id,
            collection_id=collection_id,
            subject_id=subject_id,
            vector=None if vector is None else from_blob(vector),
            quality=quality,
            source=source,
            image_sha256=image_sha256,
            create_time=from_microseconds(create_time),
        )


def receipt_to_row(receipt: ErasureReceipt) -> dict[str, object]:
    """The columns of ``receipts``, for named parameters."""
    return {
        "receipt_id": receipt.receipt_id,
        "collection_id": receipt.collection_id,
        "subject_id": receipt.subject_id,
        "sample_ids": json.dumps(receipt.sample_ids),
        "erase_time": to_microseconds(receipt.erase_time),
    }


def receipt_from_row(row: Row) -> ErasureReceipt:
    """A row of ``receipts`` as a record."""
    receipt_id, collection_id, subject_id, sample_ids, erase_time = row
    with _undamaged(f"receipt {receipt_id}"):
        return ErasureReceipt(
            receipt_id, collection_id, subject_id, tuple(json.loads(sample_ids)), from_microseconds(erase_time)
        )


@contextmanager
def _undamaged(what: str) -> Iterator[None]:
    try:
        yield
    except (InputError, ValueError, OverflowError) as error:
        message = f"the gallery's {what} is damaged ({error}); restore the last backup"
        raise DependencyError(message, reason="GALLERY_DAMAGED") from error


def to_page_token(last_subject_id: str) -> str:
    """The token of the page that follows ``last_subject_id``."""
    return base64.urlsafe_b64encode(last_subject_id.encode()).decode()


def from_page_token(token: str) -> str:
    """The subject id that ``token`` was made of; an ``InputError`` for anything but such a token."""
    try:
        last_subject_id = base64.b64decode(token, altchars=b"-_", validate=True).decode()
        check_id(last_subject_id, "page_token")
    except (InputError, ValueError) as error:
        message = "page_token is not one that this server gave out; start again without it"
        raise InputError(message, field="page_token") from error
    return last_subject_id
