"""The gallery as the rest of facesvc uses it: people on disk, and the same people in memory for searching.

Two locks. ``_changing`` is held over a whole change, so that what was checked (is this face somebody else's?) is still
so at the commit. The one inside ``Views`` guards the memory, and nobody holds it while the disk works: a search waits
for other searches, never for a commit. A change is committed before the memory learns of it.
"""

from collections.abc import Set as AbstractSet
from datetime import datetime
from pathlib import Path
from threading import Lock
from typing import Self

from facesvc.errors import InputError, PreconditionError
from facesvc.gallery.crypto import Vault
from facesvc.gallery.migration import Migration
from facesvc.gallery.records import Candidate, EmbeddingContract, ErasureReceipt, Floats, Sample, Subject
from facesvc.gallery.store import Store
from facesvc.gallery.views import View, Views, mismatch


class IdentityConflictError(InputError):
    """A face that looks like somebody else who is enrolled: ``subject_id``, with ``similarity``."""

    reason = "IDENTITY_CONFLICT"

    def __init__(self, subject_id: str, similarity: float) -> None:
        super().__init__(
            f"this face has similarity {similarity:.3f} to subject {subject_id}; enrol it there, or erase that subject",
            field="image.data",
        )
        self.subject_id = subject_id
        self.similarity = similarity


class Gallery:
    """People and their templates. Every method may be called from any thread."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._changing = Lock()
        self._views = Views(self._load(store.contracts.current))

    @classmethod
    def open(cls, path: Path, contract: EmbeddingContract, now: datetime, vault: Vault | None = None) -> Self:
        """The gallery at ``path``, made where there is none, with everything in memory; raises as ``Store.open``.

        ``vault`` seals the crops that ``add_sample`` is given; a gallery that has some does not open without.
        """
        store = Store.open(path, contract, now, vault)
        try:
            return cls(store)
        except BaseException:
            store.close()
            raise

    def _load(self, contract: EmbeddingContract) -> View:
        """Everybody, with the vectors of ``contract``."""
        return View(contract, self._store.subjects(), self._store.contracts.samples(contract.contract_id))

    def close(self) -> None:
        """Lets go of the file; closing twice is allowed."""
        with self._changing:
            self._store.close()

    @property
    def contract(self) -> EmbeddingContract:
        """What the vectors of this gallery are; a migration changes it."""
        return self._views.contract

    @property
    def previous_contract(self) -> EmbeddingContract | None:
        """The contract before this one, whose vectors are kept, so that ``begin_migration`` can go back to it."""
        return self._store.contracts.previous

    def has_vectors_for(self, contract_id: str) -> tuple[int, int]:
        """How many samples have a vector under a contract, and how many samples there are."""
        return self._store.contracts.counts(contract_id)

    def begin_migration(self, contract: EmbeddingContract) -> Migration:
        """The way to another contract, one at a time; what is stored of its vectors already is used.

        The contract before the current one is no longer searchable from here on. Raises ``PreconditionError``:
        ``MIGRATION_RUNNING``, or ``CONTRACT_CURRENT`` where there is nothing to migrate, and
        ``ContractMismatchError`` where the gallery knows ``contract`` with another dimension.
        """
        with self._changing:
            if running := self._views.preparing:
                message = f"the gallery is being migrated to {running}; wait for that, or abandon it"
                raise PreconditionError(message, reason="MIGRATION_RUNNING")
            self._store.contracts.register(contract)
            if contract == self.contract:
                raise PreconditionError(f"the gallery already is of {contract}", reason="CONTRACT_CURRENT")
            self._views.prepare(self._load(contract))
            return Migration(self._store, self._views, self._changing, contract)

    def retire(self, contract_id: str) -> None:
        """Ends searching under the contract before the current one, if it is this one; its vectors stay on the disk."""
        with self._changing:
            self._views.retire(contract_id)

    def search(
        self, contract_id: str, collection_id: str, vectors: Floats, limit: int, now: datetime
    ) -> list[list[Candidate]]:
        """For each of ``vectors`` (N, D) float32 of unit length, the ``limit`` most similar subjects, best first.

        ``contract_id`` says what the vectors are: of the current contract, or of the one before while it is
        searchable; ``ContractMismatchError`` otherwise. Nobody who is disabled or whose consent has run out at
        ``now``; ties in the order of the ids. An unknown collection has nobody in it.
        """
        return self._views.search(contract_id, collection_id, vectors, limit, lambda subject: subject.recognisable(now))

    def recognises(self, collection_id: str, subject_id: str, now: datetime) -> bool:
        """Whether somebody is known, enabled, and has not taken back their consent."""
        subject = self._views.subject(collection_id, subject_id)
        return subject is not None and subject.recognisable(now)

    def create_subject(self, subject: Subject, request_id: str = "") -> Subject:
        """As ``Store.create_subject``."""
        with self._changing:
            created = self._store.create_subject(subject, request_id)
            self._views.put_subject(created)
        return created

    def get_subject(self, collection_id: str, subject_id: str) -> Subject:
        """As ``Store.get_subject``."""
        return self._store.get_subject(collection_id, subject_id)

    def list_subjects(
        self, collection_id: str, page_size: int, page_token: str = "", prefix: str = ""
    ) -> tuple[list[Subject], str]:
        """As ``Store.list_subjects``."""
        return self._store.list_subjects(collection_id, page_size, page_token, prefix)

    def update_subject(self, subject: Subject, fields: AbstractSet[str], now: datetime) -> Subject:
        """As ``Store.update_subject``; the next search obeys it."""
        with self._changing:
            updated = self._store.update_subject(subject, fields, now)
            self._views.put_subject(updated)
        return updated

    def erase_subject(self, collection_id: str, subject_id: str, now: datetime) -> ErasureReceipt:
        """As ``Store.erase_subject``; the next search does not find the subject."""
        with self._changing:
            receipt = self._store.erase_subject(collection_id, subject_id, now)
            self._views.drop_subject(collection_id, subject_id)
        return receipt

    def get_receipt(self, receipt_id: str) -> ErasureReceipt:
        """As ``Store.get_receipt``."""
        return self._store.get_receipt(receipt_id)

    def add_sample(
        self,
        sample: Sample,
        conflict_similarity: float | None,
        now: datetime,
        *,
        contract_id: str,
        crop: bytes | None = None,
    ) -> None:
        """Stores a sample, with the crop that its vector was made from, and makes it visible to the next search.

        Raises ``ContractMismatchError`` unless ``contract_id``, under which its vector was made, is the current one
        (embed the face again), ``IdentityConflictError`` where any other subject of the collection, disabled ones too,
        has ``conflict_similarity`` or more (None: not checked), ``PreconditionError`` where the subject's consent has
        run out at ``now``, and as ``Store.add_sample``.
        """
        with self._changing:
            if contract_id != self.contract.contract_id:
                raise mismatch(contract_id, self.contract)
            vector = sample.checked_vector(self.contract)
            subject = self._store.get_subject(sample.collection_id, sample.subject_id)
            if subject.consent_expired(now):
                message = f"the consent of subject {subject.subject_id} has run out; renew it before adding samples"
                raise PreconditionError(message, reason="CONSENT_EXPIRED")
            if conflict_similarity is not None:
                self._refuse_conflict(subject, vector, conflict_similarity)
            row_id = self._store.add_sample(sample, crop)
            self._views.add_sample(row_id, sample)

    def _refuse_conflict(self, subject: Subject, vector: Floats, conflict_similarity: float) -> None:
        [others] = self._views.search(
            self.contract.contract_id,
            subject.collection_id,
            vector[None],
            1,
            lambda other: other.subject_id != subject.subject_id,
        )
        for other in others:
            if other.similarity >= conflict_similarity:
                raise IdentityConflictError(other.subject_id, other.similarity)

    def list_samples(self, collection_id: str, subject_id: str) -> list[Sample]:
        """As ``Store.list_samples``."""
        return self._store.list_samples(collection_id, subject_id)

    def delete_sample(self, collection_id: str, subject_id: str, sample_id: str) -> None:
        """As ``Store.delete_sample``; the next search does not find the sample."""
        with self._changing:
            row_id = self._store.delete_sample(collection_id, subject_id, sample_id)
            self._views.drop_sample(collection_id, row_id)

    def collections(self) -> list[str]:
        """The ids of the collections that have subjects, sorted."""
        return sorted(self._views.counts())

    def subject_count(self, collection_id: str) -> int:
        """How many subjects a collection has; none where it is unknown."""
        return self._views.counts().get(collection_id, (0, 0))[0]

    def sample_count(self, collection_id: str) -> int:
        """How many samples of a collection a search compares with; none where it is unknown."""
        return self._views.counts().get(collection_id, (0, 0))[1]
