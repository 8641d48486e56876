"""The gallery on disk: what is kept of people, as plain SQL over ``sqlite.Database``.

Every change is one transaction: it is there as a whole or not at all, and durable once the method has returned.
"""

from collections.abc import Iterator
from collections.abc import Set as AbstractSet
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Self

from ulid import ULID

from facesvc.errors import AlreadyExistsError, InputError, NotFoundError
from facesvc.gallery import rows
from facesvc.gallery.contracts import Contracts
from facesvc.gallery.crops import Crops
from facesvc.gallery.crypto import Vault
from facesvc.gallery.records import EmbeddingContract, ErasureReceipt, Sample, Subject, check_text
from facesvc.gallery.schema import GALLERY
from facesvc.sqlite import Database

MAX_PAGE_SIZE = 1000
UPDATABLE = frozenset({"display_name", "external_ids", "metadata", "consent", "enabled"})

_INSERT_SUBJECT = """
    INSERT INTO subjects VALUES (
        :collection_id, :subject_id, :display_name, :external_ids, :metadata,
        :consent_purpose, :consent_given_time, :consent_expire_time, :enabled, :create_time, :update_time)
"""
_UPDATE_SUBJECT = """
    UPDATE subjects
       SET display_name = :display_name, external_ids = :external_ids, metadata = :metadata,
           consent_purpose = :consent_purpose, consent_given_time = :consent_given_time,
           consent_expire_time = :consent_expire_time, enabled = :enabled, update_time = :update_time
     WHERE collection_id = :collection_id AND subject_id = :subject_id
"""
_INSERT_SAMPLE = """
    INSERT INTO samples (
        sample_id, collection_id, subject_id, quality, source, image_sha256, create_time)
    VALUES (
        :sample_id, :collection_id, :subject_id, :quality, :source, :image_sha256, :create_time)
"""
_INSERT_RECEIPT = "INSERT INTO receipts VALUES (:receipt_id, :collection_id, :subject_id, :sample_ids, :erase_time)"
_DELETE_SUBJECT = "DELETE FROM subjects WHERE collection_id = ? AND subject_id = ?"
_SAMPLE_IDS = "SELECT sample_id FROM samples WHERE collection_id = ? AND subject_id = ? ORDER BY row_id"
_SAME_IMAGE = "SELECT sample_id FROM samples WHERE collection_id = ? AND subject_id = ? AND image_sha256 = ?"
_ROW_ID = "SELECT row_id FROM samples WHERE collection_id = ? AND subject_id = ? AND sample_id = ?"
_SAMPLES_OF_SUBJECT = " WHERE collection_id = :collection_id AND subject_id = :subject_id ORDER BY samples.row_id"
_OF_SUBJECT = " WHERE collection_id = ? AND subject_id = ?"
_PAGE = """
    WHERE collection_id = :collection_id AND subject_id > :after
      AND (instr(casefold(subject_id), :prefix) = 1 OR instr(casefold(display_name), :prefix) = 1)
    ORDER BY subject_id LIMIT :limit
"""
_COLLECTIONS = """
    SELECT collection_id, count(*),
           (SELECT count(*) FROM samples WHERE samples.collection_id = subjects.collection_id)
      FROM subjects GROUP BY collection_id ORDER BY collection_id
"""


class DuplicateImageError(InputError):
    """A subject already has a sample of this very image: ``sample_id``."""

    reason = "DUPLICATE_IMAGE"

    def __init__(self, subject_id: str, sample_id: str) -> None:
        super().__init__(f"subject {subject_id} already has this image as sample {sample_id}", field="image.data")
        self.sample_id = sample_id


class Store:
    """Subjects, samples, and receipts of what was erased. Every method may be called from any thread."""

    def __init__(self, database: Database, contract: EmbeddingContract, vault: Vault | None) -> None:
        self.contracts = Contracts(database, contract)
        self.crops = Crops(database, vault)
        self._database = database

    @classmethod
    def open(
        cls,
        path: Path,
        contract: EmbeddingContract,
        now: datetime,
        vault: Vault | None = None,
        busy_timeout_s: float = 5.0,
    ) -> Self:
        """The store at ``path``, made or brought up to date where needed.

        Raises as ``Contracts.settle`` and ``Crops.check_key``, ``PreconditionError`` where a newer facesvc wrote it,
        and ``DependencyError`` where the file cannot be used.
        """
        store = cls(Database(path, GALLERY, busy_timeout_s), contract, vault)
        try:
            store._database.migrate(now)
            store.crops.check_key()
            store.contracts.settle(now)
        except BaseException:
            store.close()
            raise
        return store

    def close(self) -> None:
        """Lets go of the file; closing twice is allowed."""
        self._database.close()

    def create_subject(self, subject: Subject, request_id: str = "") -> Subject:
        """The subject as stored; where the same ``request_id`` has created it before, the one that is there.

        Raises ``AlreadyExistsError`` for an id that is taken, and ``InputError`` (``REQUEST_ID_REUSED``) where
        ``request_id`` has created somebody else.
        """
        key = (subject.collection_id, subject.subject_id)
        with self._database.transaction():
            if first := self.created_by(request_id):
                if (first.collection_id, first.subject_id) == key:
                    return first
                message = f"request_id {request_id} has already created subject {first.subject_id}; use a new one"
                raise InputError(message, field="request_id", reason="REQUEST_ID_REUSED")
            if self._database.select(rows.SELECT_SUBJECT + _OF_SUBJECT, key):
                message = f"collection {key[0]} already has a subject {key[1]}"
                raise AlreadyExistsError(message, field="subject.subject_id")
            self._database.execute(_INSERT_SUBJECT, rows.subject_to_row(subject))
            if request_id:
                self._database.execute("INSERT INTO requests VALUES (?, ?, ?)", (request_id, *key))
        return replace(subject, sample_count=0)

    def created_by(self, request_id: str) -> Subject | None:
        """The subject that a request has created, unless it was erased since or ``request_id`` is empty."""
        if not request_id:
            return None
        check_text(request_id, "request_id", 128)
        sql = "SELECT collection_id, subject_id FROM requests WHERE request_id = ?"
        found = self._database.select(sql, (request_id,))
        return self.get_subject(*found[0]) if found else None

    def get_subject(self, collection_id: str, subject_id: str) -> Subject:
        """The subject, or ``NotFoundError``."""
        found = self._database.select(rows.SELECT_SUBJECT + _OF_SUBJECT, (collection_id, subject_id))
        if not found:
            raise NotFoundError(f"collection {collection_id!a} has no subject {subject_id!a}", field="subject_id")
        return rows.subject_from_row(found[0])

    def list_subjects(
        self, collection_id: str, page_size: int, page_token: str = "", prefix: str = ""
    ) -> tuple[list[Subject], str]:
        """One page in the order of the ids, and the token of the next one, empty after the last.

        ``prefix`` keeps those whose id or display name starts with it, in capitals or not.
        """
        if not 1 <= page_size <= MAX_PAGE_SIZE:
            raise InputError(f"page_size {page_size} is not within 1 to {MAX_PAGE_SIZE}", field="page_size")
        check_text(prefix, "filter")
        parameters = {
            "collection_id": collection_id,
            "after": rows.from_page_token(page_token) if page_token else "",
            "prefix": prefix.casefold(),
            "limit": page_size + 1,  # one more tells whether there is a next page
        }
        found = [rows.subject_from_row(row) for row in self._database.select(rows.SELECT_SUBJECT + _PAGE, parameters)]
        page = found[:page_size]
        return page, rows.to_page_token(page[-1].subject_id) if len(found) > page_size else ""

    def update_subject(self, subject: Subject, fields: AbstractSet[str], now: datetime) -> Subject:
        """Takes over the named ``fields`` (of ``UPDATABLE``) of ``subject``; the subject as stored since."""
        if not fields or not fields <= UPDATABLE:
            named = ", ".join(sorted(fields - UPDATABLE)) or "nothing"
            message = f"update_mask names {named}; it may name {', '.join(sorted(UPDATABLE))}"
            raise InputError(message, field="update_mask")
        with self._database.transaction():
            current = self.get_subject(subject.collection_id, subject.subject_id)
            changes = {name: getattr(subject, name) for name in fields}
            updated = replace(current, update_time=now, **changes)
            self._database.execute(_UPDATE_SUBJECT, rows.subject_to_row(updated))
        return updated

    def erase_subject(self, collection_id: str, subject_id: str, now: datetime) -> ErasureReceipt:
        """Removes a subject and everything of it for good; the receipt is all that stays."""
        key = (collection_id, subject_id)
        with self._database.transaction():
            self.get_subject(*key)
            sample_ids = tuple(sample_id for (sample_id,) in self._database.select(_SAMPLE_IDS, key))
            receipt = ErasureReceipt(str(ULID.from_datetime(now)), *key, sample_ids, now)
            self._database.execute(_DELETE_SUBJECT, key)
            self._database.execute(_INSERT_RECEIPT, rows.receipt_to_row(receipt))
        self._database.forget()
        return receipt

    def get_receipt(self, receipt_id: str) -> ErasureReceipt:
        """The receipt of an erasure, or ``NotFoundError``."""
        found = self._database.select("SELECT * FROM receipts WHERE receipt_id = ?", (receipt_id,))
        if not found:
            raise NotFoundError(f"there is no receipt {receipt_id!a}", field="receipt_id")
        return rows.receipt_from_row(found[0])

    def add_sample(self, sample: Sample, crop: bytes | None = None) -> int:
        """Stores a sample, its vector under the current contract, and its crop, sealed; a row id never given before.

        Raises ``NotFoundError`` without its subject, ``DuplicateImageError`` where the subject has this image,
        ``InputError`` for a vector of another dimension, and as ``Crops.put``.
        """
        contract = self.contracts.current
        vector = sample.checked_vector(contract)
        key = (sample.collection_id, sample.subject_id)
        with self._database.transaction():
            self.get_subject(*key)
            if found := self._database.select(_SAME_IMAGE, (*key, sample.image_sha256)):
                raise DuplicateImageError(sample.subject_id, found[0][0])
            if self._database.select("SELECT 1 FROM samples WHERE sample_id = ?", (sample.sample_id,)):
                raise AlreadyExistsError(f"there already is a sample {sample.sample_id}", field="sample.sample_id")
            row_id = self._database.execute(_INSERT_SAMPLE, rows.sample_to_row(sample))
            self.contracts.put(contract.contract_id, {row_id: vector})
            if crop is not None:
                self.crops.put(row_id, sample, crop)
        return row_id

    def list_samples(self, collection_id: str, subject_id: str) -> list[Sample]:
        """The samples of a subject, oldest first; ``NotFoundError`` without the subject."""
        self.get_subject(collection_id, subject_id)
        sql = rows.SELECT_SAMPLE + _SAMPLES_OF_SUBJECT
        names = {"collection_id": collection_id, "subject_id": subject_id}
        found = self._database.select(sql, names | {"contract_id": self.contracts.current.contract_id})
        return [rows.sample_from_row(row)[1] for row in found]

    def delete_sample(self, collection_id: str, subject_id: str, sample_id: str) -> int:
        """Removes a sample for good; the row id that it had."""
        with self._database.transaction():
            found = self._database.select(_ROW_ID, (collection_id, subject_id, sample_id))
            if not found:
                message = f"subject {subject_id!a} of collection {collection_id!a} has no sample {sample_id!a}"
                raise NotFoundError(message, field="sample_id")
            [(row_id,)] = found
            self._database.execute("DELETE FROM samples WHERE row_id = ?", (row_id,))
        self._database.forget()
        return int(row_id)

    def collections(self) -> dict[str, tuple[int, int]]:
        """Every collection that has subjects: how many subjects and how many samples."""
        return {name: (subjects, samples) for name, subjects, samples in self._database.select(_COLLECTIONS)}

    def subjects(self) -> Iterator[Subject]:
        """Everybody, by collection and id."""
        everybody = self._database.select(rows.SELECT_SUBJECT + " ORDER BY collection_id, subject_id")
        return map(rows.subject_from_row, everybody)
