"""Galleries as earlier releases of facesvc left them, in their own words: nothing sealed but crops."""

import json
import secrets
import sqlite3
from collections.abc import Iterable, Mapping
from contextlib import closing
from datetime import datetime
from pathlib import Path

import numpy as np
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from numpy.typing import NDArray
from ulid import ULID

from facesvc.database import to_microseconds
from facesvc.gallery import EmbeddingContract, Sample, Subject
from facesvc.gallery.schema import GALLERY

_MIGRATIONS = "CREATE TABLE migrations (name TEXT PRIMARY KEY, apply_time INTEGER NOT NULL) STRICT"
_SUBJECT = "INSERT INTO subjects VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
_SAMPLE = """
    INSERT INTO samples (sample_id, collection_id, subject_id, vector, quality, source, image_sha256, create_time)
    VALUES (?, ?, ?, ?, ?, ?, ?, ?)
"""
_ROW_ID = "SELECT row_id FROM samples WHERE sample_id = ?"


def write_first(
    path: Path, contract: EmbeddingContract, now: datetime, subjects: Iterable[Subject], samples: Iterable[Sample]
) -> None:
    """A gallery of the first release, which knew one contract; row ids are given from 1 on."""
    path.parent.mkdir(parents=True, exist_ok=True)
    time = to_microseconds(now)
    with closing(sqlite3.connect(path)) as connection, connection:
        for statement in (_MIGRATIONS, *GALLERY.steps[0].statements):
            connection.execute(statement)
        connection.execute("INSERT INTO migrations VALUES ('0001_gallery', ?)", (time,))
        connection.execute("INSERT INTO meta VALUES (1, ?, ?, ?)", (contract.contract_id, contract.dimension, time))
        connection.executemany(_SUBJECT, map(_subject_row, subjects))
        connection.executemany(_SAMPLE, map(_sample_row, samples))


def _subject_row(subject: Subject) -> tuple[object, ...]:
    consent = subject.consent
    return (
        subject.collection_id,
        subject.subject_id,
        subject.display_name,
        json.dumps(dict(subject.external_ids), ensure_ascii=False),
        json.dumps(dict(subject.metadata), ensure_ascii=False),
        consent.purpose if consent else None,
        to_microseconds(consent.given_time) if consent else None,
        to_microseconds(consent.expire_time) if consent and consent.expire_time else None,
        int(subject.enabled),
        to_microseconds(subject.create_time),
        to_microseconds(subject.update_time),
    )


def _sample_row(sample: Sample) -> tuple[object, ...]:
    assert sample.vector is not None
    return (
        sample.sample_id,
        sample.collection_id,
        sample.subject_id,
        sample.vector.astype("<f4").tobytes(),
        sample.quality,
        sample.source,
        sample.image_sha256,
        to_microseconds(sample.create_time),
    )


def erase(path: Path, subject_id: str, now: datetime, receipt_id: str) -> None:
    """Erases somebody of "office" there, with the receipt of those days, which names no sample."""
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("PRAGMA foreign_keys = ON")
        connection.execute("DELETE FROM subjects WHERE collection_id = 'office' AND subject_id = ?", (subject_id,))
        row = (receipt_id, "office", subject_id, "[]", to_microseconds(now))
        connection.execute("INSERT INTO receipts VALUES (?, ?, ?, ?, ?)", row)


def remember_request(path: Path, request_id: str, subject_id: str) -> None:
    """Says that a request has created somebody of "office"."""
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("INSERT INTO requests VALUES (?, 'office', ?)", (request_id, subject_id))


def to_second(
    path: Path,
    now: datetime,
    key: bytes,
    other: EmbeddingContract,
    vectors: Mapping[str, NDArray[np.float32]],
    crops: Mapping[str, bytes],
) -> None:
    """Makes a gallery of the first release one of the second, which knew several contracts and kept crops.

    ``vectors`` are under ``other``, the contract before; ``crops`` are sealed with ``key`` itself. Both by sample.
    """
    time = to_microseconds(now)
    with closing(sqlite3.connect(path)) as connection, connection:
        for statement in GALLERY.steps[1].statements:
            connection.execute(statement)
        connection.execute("INSERT INTO migrations VALUES ('0002_contracts', ?)", (time,))
        connection.execute("INSERT INTO contracts VALUES (?, ?)", (other.contract_id, other.dimension))
        connection.execute("UPDATE meta SET previous_contract_id = ?", (other.contract_id,))
        for sample_id, vector in vectors.items():
            [(row_id,)] = connection.execute(_ROW_ID, (sample_id,))
            row = (row_id, other.contract_id, vector.astype("<f4").tobytes())
            connection.execute("INSERT INTO vectors VALUES (?, ?, ?)", row)
        key_id = str(ULID())
        if crops:
            sealed_check = _seal(key, b"", "key check", key_id)
            connection.execute("INSERT INTO keys VALUES (?, ?, ?)", (key_id, sealed_check, time))
        for sample_id, crop in crops.items():
            sql = "SELECT row_id, collection_id, subject_id FROM samples WHERE sample_id = ?"
            [(row_id, *name)] = connection.execute(sql, (sample_id,))
            sealed = _seal(key, crop, "crop", *name, sample_id)
            connection.execute("INSERT INTO crops VALUES (?, ?, ?)", (row_id, key_id, sealed))


def _seal(key: bytes, plaintext: bytes, *name: str) -> bytes:
    """As it was done then: a version byte, a nonce, AES-256-GCM, all bound to ``name``."""
    nonce = secrets.token_bytes(12)
    bound = b"".join(len(part.encode()).to_bytes(4, "big") + part.encode() for part in name)
    return b"\x01" + nonce + AESGCM(key).encrypt(nonce, plaintext, b"\x01" + bound)
