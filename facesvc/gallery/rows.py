"""Records as rows of the tables, and back: one function each way. Pure values, no database.

In the clear are ids, times, and what searches and pages go by; everything else is JSON or a vector, sealed with the
subject's own key and bound to the row that it stands in. A row that cannot have been written by this module is a
damaged gallery, a ``DependencyError``: the caller who asked for it did nothing wrong.
"""

import base64
import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from facesvc.database import Row, from_microseconds, to_microseconds
from facesvc.errors import DependencyError, InputError
from facesvc.gallery.crypto import Cipher, SealBrokenError, associated
from facesvc.gallery.keyring import Keyring
from facesvc.gallery.records import Consent, Floats, Sample, SampleName, Subject, check_id

# The columns in the order in which the functions below take them apart.
SELECT_SUBJECT = """
    SELECT subjects.collection_id, subjects.subject_id, key_id, wrapped, enabled, create_time, update_time, sealed,
           (SELECT count(*) FROM samples
             WHERE samples.collection_id = subjects.collection_id AND samples.subject_id = subjects.subject_id), change
      FROM subjects
      JOIN keyring.subject_keys AS own
        ON own.collection_id = subjects.collection_id AND own.subject_id = subjects.subject_id
"""
# Named parameter ``contract_id``: under which the vector is, NULL where there is none.
SELECT_SAMPLE = """
    SELECT samples.row_id, sample_id, samples.collection_id, samples.subject_id, key_id, wrapped, quality,
           create_time, samples.sealed, vectors.sealed
      FROM samples
      JOIN keyring.subject_keys AS own
        ON own.collection_id = samples.collection_id AND own.subject_id = samples.subject_id
      LEFT JOIN vectors ON vectors.row_id = samples.row_id AND vectors.contract_id = :contract_id
"""


def seal_vector(vector: Floats, name: SampleName, contract_id: str, cipher: Cipher) -> bytes:
    """(D,) float32 as sealed little-endian bytes."""
    return cipher.seal(vector.astype("<f4").tobytes(), _vector_name(name, contract_id))


def unseal_vector(sealed: bytes, name: SampleName, contract_id: str, cipher: Cipher) -> Floats:
    """The inverse of ``seal_vector``."""
    return np.frombuffer(cipher.unseal(sealed, _vector_name(name, contract_id)), "<f4").astype(np.float32, copy=False)


def seal_crop(crop: bytes, name: SampleName, cipher: Cipher) -> bytes:
    """The crop of a sample, an encoded picture."""
    return cipher.seal(crop, crop_name(name))


def unseal_crop(sealed: bytes, name: SampleName, cipher: Cipher) -> bytes:
    """The inverse of ``seal_crop``."""
    return cipher.unseal(sealed, crop_name(name))


def crop_name(name: SampleName) -> bytes:
    """What the crop of a sample is bound to."""
    return associated("crop", name.collection_id, name.subject_id, name.sample_id)


def _vector_name(name: SampleName, contract_id: str) -> bytes:
    return associated("vector", name.collection_id, name.subject_id, name.sample_id, contract_id)


def image_tag(image_sha256: bytes, cipher: Cipher) -> bytes:
    """By which the same picture of the same person is known again."""
    return cipher.tag("image", image_sha256)


def subject_to_row(subject: Subject, change: int, cipher: Cipher) -> dict[str, object]:
    """The columns of ``subjects``, for named parameters."""
    consent = subject.consent
    known = {
        "display_name": subject.display_name,
        "external_ids": dict(subject.external_ids),
        "metadata": dict(subject.metadata),
        "consent": _consent_to_json(consent) if consent else None,
    }
    return {
        "collection_id": subject.collection_id,
        "subject_id": subject.subject_id,
        "enabled": int(subject.enabled),
        "create_time": to_microseconds(subject.create_time),
        "update_time": to_microseconds(subject.update_time),
        "change": change,
        "sealed": cipher.seal(_to_json(known), _subject_name(subject.collection_id, subject.subject_id)),
    }


def subject_from_row(row: Row, keyring: Keyring) -> Subject:
    """A row of ``SELECT_SUBJECT`` as a record."""
    collection_id, subject_id, key_id, wrapped, enabled, created, updated, sealed, count, _ = row
    with undamaged(f"subject {subject_id} of collection {collection_id}"):
        cipher = keyring.unwrap(collection_id, subject_id, key_id, wrapped)
        known = json.loads(cipher.unseal(sealed, _subject_name(collection_id, subject_id)))
        return Subject(
            collection_id=collection_id,
            subject_id=subject_id,
            display_name=known["display_name"],
            external_ids=known["external_ids"],
            metadata=known["metadata"],
            consent=_consent_from_json(known["consent"]) if known["consent"] else None,
            enabled=bool(enabled),
            create_time=from_microseconds(created),
            update_time=from_microseconds(updated),
            sample_count=count,
        )


def _subject_name(collection_id: str, subject_id: str) -> bytes:
    return associated("subject", collection_id, subject_id)


def _consent_to_json(consent: Consent) -> dict[str, object]:
    expire_time = consent.expire_time
    return {
        "purpose": consent.purpose,
        "given_time": to_microseconds(consent.given_time),
        "expire_time": to_microseconds(expire_time) if expire_time else None,
    }


def _consent_from_json(consent: dict[str, Any]) -> Consent:
    expire_time = consent["expire_time"]
    return Consent(
        consent["purpose"],
        from_microseconds(consent["given_time"]),
        None if expire_time is None else from_microseconds(expire_time),
    )


def sample_to_row(sample: Sample, cipher: Cipher) -> dict[str, object]:
    """The columns of ``samples`` but ``row_id``, for named parameters; the vector has a table of its own."""
    known = {"source": sample.source, "image_sha256": sample.image_sha256.hex()}
    return {
        "sample_id": sample.sample_id,
        "collection_id": sample.collection_id,
        "subject_id": sample.subject_id,
        "quality": sample.quality,
        "create_time": to_microseconds(sample.create_time),
        "image_tag": image_tag(sample.image_sha256, cipher),
        "sealed": cipher.seal(_to_json(known), _sample_name(sample.name)),
    }


def sample_from_row(row: Row, contract_id: str, keyring: Keyring) -> tuple[int, Sample]:
    """A row of ``SELECT_SAMPLE`` as its row id and the record."""
    row_id, sample_id, collection_id, subject_id, key_id, wrapped, quality, create_time, sealed, vector = row
    name = SampleName(collection_id, subject_id, sample_id)
    with undamaged(f"sample {sample_id} of subject {subject_id}"):
        cipher = keyring.unwrap(collection_id, subject_id, key_id, wrapped)
        known = json.loads(cipher.unseal(sealed, _sample_name(name)))
        return row_id, Sample(
            sample_id=sample_id,
            collection_id=collection_id,
            subject_id=subject_id,
            vector=None if vector is None else unseal_vector(vector, name, contract_id, cipher),
            quality=quality,
            source=known["source"],
            image_sha256=bytes.fromhex(known["image_sha256"]),
            create_time=from_microseconds(create_time),
        )


def _sample_name(name: SampleName) -> bytes:
    return associated("sample", name.collection_id, name.subject_id, name.sample_id)


def _to_json(value: object) -> bytes:
    return json.dumps(value, ensure_ascii=False).encode()


@contextmanager
def undamaged(what: str) -> Iterator[None]:
    """What cannot be read inside is a damaged gallery, a ``DependencyError``."""
    try:
        yield
    except (SealBrokenError, InputError, ValueError, KeyError, OverflowError, TypeError) as error:
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
