"""The gallery as the rest of facesvc uses it: people on disk, and the same people in memory for searching.

Two locks. ``_changing`` is held over a whole change, so that what was checked (is this face somebody else's?) is still
so at the commit. ``_searching`` guards the memory, and nobody holds it while the disk works: a search waits for other
searches, never for a commit. A change is committed before the memory learns of it.
"""

from collections.abc import Callable
from collections.abc import Set as AbstractSet
from datetime import datetime
from pathlib import Path
from threading import Lock
from typing import Self

from facesvc.errors import InputError, PreconditionError
from facesvc.gallery.records import Candidate, EmbeddingContract, ErasureReceipt, Floats, Sample, Subject
from facesvc.gallery.roster import Roster
from facesvc.gallery.store import Store

MAX_CANDIDATES = 1000  # of one face


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
        self._rosters: dict[str, Roster] = {}
        self._changing = Lock()
        self._searching = Lock()
        for subject in store.subjects():
            self._put_subject(subject)
        for row_id, sample in store.samples():
            self._rosters[sample.collection_id].add_sample(row_id, sample)

    @classmethod
    def open(cls, path: Path, contract: EmbeddingContract, now: datetime) -> Self:
        """The gallery at ``path``, made where there is none, with everything in memory; raises as ``Store.open``."""
        store = Store.open(path, contract, now)
        try:
            return cls(store)
        except BaseException:
            store.close()
            raise

    def close(self) -> None:
        """Lets go of the file; closing twice is allowed."""
        with self._changing:
            self._store.close()

    @property
    def contract(self) -> EmbeddingContract:
        """What the vectors of this gallery are."""
        return self._store.contract

    def search(self, collection_id: str, vectors: Floats, limit: int, now: datetime) -> list[list[Candidate]]:
        """For each of ``vectors`` (N, D) float32 of unit length, the ``limit`` most similar subjects, best first.

        Nobody who is disabled or whose consent has run out at ``now``; ties in the order of the ids. An unknown
        collection has nobody in it.
        """
        if not 1 <= limit <= MAX_CANDIDATES:
            raise InputError(f"limit {limit} is not within 1 to {MAX_CANDIDATES}", field="limit")
        self.contract.check(vectors, "vectors")
        return self._nearest(collection_id, vectors, limit, lambda subject: subject.recognisable(now))

    def _nearest(
        self, collection_id: str, vectors: Floats, limit: int, accept: Callable[[Subject], bool]
    ) -> list[list[Candidate]]:
        with self._searching:
            roster = self._rosters.get(collection_id)
            return [roster.search(vector, limit, accept) if roster else [] for vector in vectors]

    def create_subject(self, subject: Subject, request_id: str = "") -> Subject:
        """As ``Store.create_subject``."""
        with self._changing:
            created = self._store.create_subject(subject, request_id)
            with self._searching:
                self._put_subject(created)
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
            with self._searching:
                self._put_subject(updated)
        return updated

    def erase_subject(self, collection_id: str, subject_id: str, now: datetime) -> ErasureReceipt:
        """As ``Store.erase_subject``; the next search does not find the subject."""
        with self._changing:
            receipt = self._store.erase_subject(collection_id, subject_id, now)
            with self._searching:
                roster = self._rosters[collection_id]
                roster.drop_subject(subject_id)
                if not roster.subject_count:
                    del self._rosters[collection_id]
        return receipt

    def get_receipt(self, receipt_id: str) -> ErasureReceipt:
        """As ``Store.get_receipt``."""
        return self._store.get_receipt(receipt_id)

    def add_sample(self, sample: Sample, conflict_similarity: float | None, now: datetime) -> None:
        """Stores a sample and makes it visible to the next search.

        Raises ``IdentityConflictError`` where any other subject of the collection, disabled ones too, has
        ``conflict_similarity`` or more (None: not checked), ``PreconditionError`` where the subject's consent has run
        out at ``now``, and as ``Store.add_sample``.
        """
        self.contract.check(sample.vector[None], "sample.vector")
        with self._changing:
            subject = self._store.get_subject(sample.collection_id, sample.subject_id)
            if subject.consent_expired(now):
                message = f"the consent of subject {subject.subject_id} has run out; renew it before adding samples"
                raise PreconditionError(message, reason="CONSENT_EXPIRED")
            if conflict_similarity is not None:
                self._refuse_conflict(sample, conflict_similarity)
            row_id = self._store.add_sample(sample)
            with self._searching:
                self._rosters[sample.collection_id].add_sample(row_id, sample)

    def _refuse_conflict(self, sample: Sample, conflict_similarity: float) -> None:
        [others] = self._nearest(
            sample.collection_id, sample.vector[None], 1, lambda subject: subject.subject_id != sample.subject_id
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
            with self._searching:
                self._rosters[collection_id].drop_sample(row_id)

    def collections(self) -> list[str]:
        """The ids of the collections that have subjects, sorted."""
        with self._searching:
            return sorted(self._rosters)

    def subject_count(self, collection_id: str) -> int:
        """How many subjects a collection has; none where it is unknown."""
        with self._searching:
            roster = self._rosters.get(collection_id)
            return roster.subject_count if roster else 0

    def sample_count(self, collection_id: str) -> int:
        """How many samples a collection has; none where it is unknown."""
        with self._searching:
            roster = self._rosters.get(collection_id)
            return roster.sample_count if roster else 0

    def _put_subject(self, subject: Subject) -> None:
        if subject.collection_id not in self._rosters:
            self._rosters[subject.collection_id] = Roster(self.contract.dimension)
        self._rosters[subject.collection_id].put_subject(subject)
