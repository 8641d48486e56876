"""From a gallery whose people can be read by everybody who has the file to one that is sealed: step ``0003_sealed``.

Vectors, names, ids and consent were in the clear; crops were sealed, all with the master key itself. Such galleries are
files on a box of its own.
"""

import json
from collections.abc import Sequence
from datetime import datetime

import numpy as np

from facesvc.database import Database, Row, from_microseconds, migrate
from facesvc.errors import DependencyError
from facesvc.gallery import rows
from facesvc.gallery.crypto import Cipher, associated
from facesvc.gallery.keyring import Keyring, KeySource
from facesvc.gallery.receipts import Receipts, receipt_to_row
from facesvc.gallery.records import Consent, ErasureReceipt, Sample, SampleName, Subject
from facesvc.gallery.schema import GALLERY

_IN_THE_CLEAR = "SELECT 1 FROM pragma_table_info('subjects') WHERE name = 'display_name'"
_KEPT_CROPS = "SELECT 1 FROM sqlite_schema WHERE name = 'crops'"
_CHECKS = "SELECT key_id, sealed_check FROM keys WHERE EXISTS (SELECT 1 FROM crops WHERE crops.key_id = keys.key_id)"
_RECEIPTS = "SELECT receipt_id, collection_id, subject_id, sample_ids, erase_time FROM receipts"
# The row ids of the erased are not given again.
_NUMBERS = """
    INSERT INTO sqlite_sequence
    SELECT 'sealed_samples', seq FROM sqlite_sequence WHERE name = 'samples'
"""

_SUBJECTS = """
    SELECT collection_id, subject_id, display_name, external_ids, metadata, consent_purpose, consent_given_time,
           consent_expire_time, enabled, create_time, update_time
      FROM subjects ORDER BY collection_id, subject_id
"""
_SAMPLES = """
    SELECT row_id, sample_id, quality, source, image_sha256, create_time
      FROM samples WHERE collection_id = ? AND subject_id = ? ORDER BY row_id
"""
_INSERT_SUBJECT = """
    INSERT INTO sealed_subjects VALUES (
        :collection_id, :subject_id, :enabled, :create_time, :update_time, :change, :sealed)
"""
_INSERT_SAMPLE = """
    INSERT INTO sealed_samples VALUES (
        :row_id, :sample_id, :collection_id, :subject_id, :quality, :create_time, :image_tag, :sealed)
"""


def open_sealed(database: Database, keyring: Keyring, keys: Sequence[KeySource], now: datetime) -> None:
    """Find the keys and bring the tables up to date. Raises as ``Keyring.open`` and ``migrate``."""
    in_the_clear = not database.shared and bool(database.select(_IN_THE_CLEAR))
    if in_the_clear:
        _check_key(database, keys[0])  # before a new one is made
    keyring.open(keys, now)
    if in_the_clear:
        with database.transaction():  # on the disk before what is sealed with them, see ``keyring``
            Receipts(database, keyring).prepare()
            for key in database.select("SELECT collection_id, subject_id FROM subjects"):
                keyring.make(*key)
    migrate(database, GALLERY, now, lambda step: _seal_all(database, keyring) if step == "0003_sealed" else None)
    if in_the_clear:
        database.rewrite()  # what was in the clear stays in no gap of a page


def _check_key(database: Database, source: KeySource) -> None:
    """A ``DependencyError`` unless the key is there that crops were sealed with."""
    if not database.select(_KEPT_CROPS):
        return
    for key_id, sealed_check in database.select(_CHECKS):
        key = source.read()
        if key is None:
            message = (
                f"the gallery keeps sealed crops, and their key is missing: there is none in {source}; put it back"
            )
            raise DependencyError(message, reason="KEY_MISSING")
        if not Cipher(key).fits(sealed_check, associated("key check", key_id)):
            message = (
                f"the key in {source} is not the one that the gallery's crops were sealed with; put back the key that"
                " belongs to this gallery"
            )
            raise DependencyError(message, reason="KEY_WRONG")


def _seal_all(database: Database, keyring: Keyring) -> None:
    """Copy everything from the old tables into the new ones, inside the caller's transaction."""
    if database.shared:
        return
    people = database.select(_SUBJECTS)
    for row in people:
        _seal_subject(database, keyring, _subject(row))
    if people:
        keyring.adopt()
    database.execute("DELETE FROM sqlite_sequence WHERE name = 'sealed_samples'")
    database.execute(_NUMBERS)
    for receipt_id, collection_id, subject_id, sample_ids, erase_time in database.select(_RECEIPTS):
        receipt = ErasureReceipt(
            receipt_id=receipt_id,
            collection_id=collection_id,
            subject_id=subject_id,
            sample_ids=tuple(json.loads(sample_ids)),
            erase_time=from_microseconds(erase_time),
        )
        row = receipt_to_row(Receipts(database, keyring).signed(receipt), 0)
        database.execute("INSERT INTO signed_receipts VALUES (?, ?, ?, ?, ?, ?, ?)", row)


def _subject(row: Row) -> Subject:
    collection_id, subject_id, name, external_ids, metadata, purpose, given, expires, enabled, created, updated = row
    with rows.undamaged(f"subject {subject_id} of collection {collection_id}"):
        return Subject(
            collection_id=collection_id,
            subject_id=subject_id,
            display_name=name,
            external_ids=json.loads(external_ids),
            metadata=json.loads(metadata),
            consent=_consent(purpose, given, expires),
            enabled=bool(enabled),
            create_time=from_microseconds(created),
            update_time=from_microseconds(updated),
        )


def _consent(purpose: str | None, given: int | None, expires: int | None) -> Consent | None:
    if purpose is None or given is None:
        return None
    return Consent(purpose, from_microseconds(given), None if expires is None else from_microseconds(expires))


def _seal_subject(database: Database, keyring: Keyring, subject: Subject) -> None:
    key = (subject.collection_id, subject.subject_id)
    cipher = keyring.get(*key)
    database.execute(_INSERT_SUBJECT, rows.subject_to_row(subject, 0, cipher))
    for row_id, sample_id, quality, source, image_sha256, create_time in database.select(_SAMPLES, key):
        name = SampleName(*key, sample_id)
        with rows.undamaged(f"sample {sample_id} of subject {subject.subject_id}"):
            sample = Sample(
                sample_id=sample_id,
                collection_id=key[0],
                subject_id=key[1],
                vector=None,
                quality=quality,
                source=source,
                image_sha256=image_sha256,
                create_time=from_microseconds(create_time),
            )
        database.execute(_INSERT_SAMPLE, rows.sample_to_row(sample, cipher) | {"row_id": row_id})
        for contract_id, blob in database.select("SELECT contract_id, vector FROM vectors WHERE row_id = ?", (row_id,)):
            vector = np.frombuffer(blob, "<f4").astype(np.float32)
            sealed = rows.seal_vector(vector, name, contract_id, cipher)
            database.execute("INSERT INTO sealed_vectors VALUES (?, ?, ?)", (row_id, contract_id, sealed))
        for (sealed,) in database.select("SELECT sealed FROM crops WHERE row_id = ?", (row_id,)):
            crop = keyring.unseal_by_master(sealed, rows.crop_name(name))
            database.execute("INSERT INTO sealed_crops VALUES (?, ?)", (row_id, rows.seal_crop(crop, name, cipher)))
