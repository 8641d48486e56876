"""The gallery as the rest of facesvc uses it: people on disk, and the same people in memory for searching.

Two locks. ``_changing`` is held over a whole change, so that what was checked (is this face somebody else's?) is still
so at the commit. The one inside ``Views`` guards the memory, and nobody holds it while the disk works: a search waits
for other searches, never for a commit. A change is committed before the memory learns of it.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from contextlib import contextmanager, suppress
from datetime import datetime
from functools import partial
from pathlib import Path
from threading import Lock
from types import MappingProxyType
from typing import Self

from facesvc.database import Database
from facesvc.errors import DependencyError, FacesvcError, NotFoundError, PreconditionError
from facesvc.gallery.batch import Batch
from facesvc.gallery.following import Following
from facesvc.gallery.keyring import Keyring, KeySource
from facesvc.gallery.loading import WORTH_SAVING, load, save
from facesvc.gallery.migration import Migration
from facesvc.gallery.records import (
    Audience,
    Candidate,
    EmbeddingContract,
    ErasureReceipt,
    Floats,
    Sample,
    SampleName,
    Subject,
    SubjectFilter,
    check_text,
)
from facesvc.gallery.store import Store
from facesvc.gallery.views import Known, Views, mismatch
from facesvc.gallery.wiping import overwrite_freed_arrays


class Gallery:
    """People and their templates. Every method may be called from any thread."""

    def __init__(self, store: Store, view_path: Path | None = None) -> None:
        self._store = store
        self._view_path = view_path
        self._changing = Lock()
        change = store.change
        self._views = Views(load(store, store.contracts.current, view_path))
        self._following = Following(store, self._views, self._changing, change)
        self._views.tend()

    @classmethod
    def open(
        cls,
        database: Database,
        contract: EmbeddingContract,
        now: datetime,
        keys: Sequence[KeySource],
        view_path: Path | None = None,
    ) -> Self:
        """The gallery in ``database``, made where there is none, with everything in memory; as ``Store.open``.

        ``view_path`` is where ``save_view`` writes what makes the next opening of a large gallery quick.
        """
        return cls(Store.open(database, contract, now, keys), view_path)

    def save_view(self) -> bool:
        """Write what makes the next opening quick; whether that was worth it, and the disk had room."""
        if self._view_path is None or sum(samples for _, samples in self._views.counts().values()) < WORTH_SAVING:
            return False
        try:
            save(self._store, self._views, lambda: self._following.change, self._changing, self._view_path)
        except (OSError, DependencyError):
            return False  # it is only a copy
        return True

    def close(self) -> None:
        """Lets go of the database; closing twice is allowed."""
        self._views.tending.close()
        with self._changing:
            self._store.close()

    @property
    def keyring(self) -> Keyring:
        """The keys that everything about a person is sealed with."""
        return self._store.keyring

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
            self._views.prepare(load(self._store, contract))
            return Migration(self._store, self._views, self._changing, contract, self._following.catch_up)

    def retire(self, contract_id: str) -> None:
        """Ends searching under the contract before the current one, if it is this one; its vectors stay on the disk."""
        with self._changing:
            self._views.retire(contract_id)

    def search(
        self,
        contract_id: str,
        collection_id: str,
        vectors: Floats,
        limit: int,
        now: datetime,
        filters: tuple[SubjectFilter, ...] = (),
    ) -> list[list[Candidate]]:
        """For each of ``vectors`` (N, D) float32 of unit length, the ``limit`` most similar subjects, best first.

        ``contract_id`` says what the vectors are: of the current contract, or of the one before while it is
        searchable; ``ContractMismatchError`` otherwise. Nobody who is disabled, whose consent has run out at ``now``,
        or who does not pass all of ``filters``; ties in the order of the ids. An unknown collection has nobody in it.
        """
        return self._views.search(contract_id, collection_id, vectors, limit, Audience(now, filters))

    def recognises(self, collection_id: str, subject_id: str, now: datetime) -> bool:
        """Whether somebody is known, enabled, and has not taken back their consent."""
        subject = self._views.subject(collection_id, subject_id)
        return subject is not None and subject.recognisable(now)

    def create_subject(self, subject: Subject, request_id: str = "") -> Subject:
        """As ``Store.create_subject``."""
        with self._changing:
            created = self._store.create_subject(subject, request_id)
            self._know(created)
        return created

    def get_subject(self, collection_id: str, subject_id: str) -> Subject:
        """As ``Store.get_subject``."""
        return self._store.get_subject(collection_id, subject_id)

    def list_subjects(
        self,
        collection_id: str,
        page_size: int,
        page_token: str = "",
        prefix: str = "",
        filters: tuple[SubjectFilter, ...] = (),
    ) -> tuple[list[Subject], str]:
        """One page in the order of the ids, and the token of the next one, empty after the last.

        ``prefix`` keeps those whose id or display name starts with it, in capitals or not; ``filters`` as ``search``.
        """
        check_text(prefix, "prefix")
        wanted = prefix.casefold()

        def accept(subject: Subject) -> bool:
            named = (subject.subject_id.casefold(), subject.display_name.casefold())
            return any(one.startswith(wanted) for one in named) and all(one.passes(subject) for one in filters)

        return self._store.list_subjects(collection_id, page_size, page_token, accept)

    def update_subject(self, subject: Subject, fields: AbstractSet[str], now: datetime) -> Subject:
        """As ``Store.update_subject``; the next search obeys it."""
        with self._changing:
            updated = self._store.update_subject(subject, fields, now)
            self._know(updated)
        return updated

    def _know(self, subject: Subject) -> None:
        key = (subject.collection_id, subject.subject_id)
        self._following.take_over([key], partial(self._views.put_subject, subject))

    def erase_subject(
        self,
        collection_id: str,
        subject_id: str,
        now: datetime,
        *,
        event_count: int = 0,
        only_if: Callable[[Subject], bool] = lambda _: True,
    ) -> ErasureReceipt:
        """As ``Store.erase_subject``; the next search does not find the subject."""
        with self._changing_in_steps((collection_id, subject_id)):
            erase = partial(self._store.erase_subject, event_count=event_count, only_if=only_if)
            receipt = erase(collection_id, subject_id, now)
            self._following.erased_here((collection_id, subject_id))
            self._views.refresh({(collection_id, subject_id): Known()})
            overwrite_freed_arrays()
        return receipt

    def get_receipt(self, receipt_id: str) -> ErasureReceipt:
        """As ``Store.get_receipt``."""
        return self._store.receipts.get(receipt_id)

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

        Raises what ``add_samples`` returns.
        """
        crops = {} if crop is None else {sample.sample_id: crop}
        [outcome] = self.add_samples([sample], conflict_similarity, now, contract_id=contract_id, crops=crops)
        if isinstance(outcome, FacesvcError):
            raise outcome

    def add_samples(
        self,
        samples: Sequence[Sample],
        conflict_similarity: float | None,
        now: datetime,
        *,
        contract_id: str,
        crops: Mapping[str, bytes] = MappingProxyType({}),
        create: Mapping[tuple[str, str], Subject] = MappingProxyType({}),
    ) -> list[Sample | FacesvcError]:
        """Stores samples in one transaction, and makes them visible to the next search; for each, it or why not.

        ``crops`` by sample id, ``create`` who is made known where a sample is of somebody who is not yet (by collection
        and subject). Raises ``ContractMismatchError`` unless ``contract_id``, under which the vectors were made, is the
        current one (embed the faces again). Refused are samples of unknown subjects, those that ``Store.add_sample``
        refuses, those of subjects whose consent has run out at ``now``, and with ``IdentityConflictError`` those that
        are like any other subject of the collection, a disabled one too, by ``conflict_similarity`` or more (None: not
        checked).
        """
        with self._changing:
            if contract_id != self.contract.contract_id:
                raise mismatch(contract_id, self.contract)
            if self._store.shared and conflict_similarity is not None:
                self._following.catch_up()  # most of it before the others have to wait
            batch = Batch(self._store, self._views, conflict_similarity, now, self._following.follow_to)
            outcomes = batch.add(samples, crops, create)
            keys = {(sample.collection_id, sample.subject_id) for _, sample in batch.added}
            self._following.take_over(keys, partial(self._add, batch))
        return outcomes

    def _add(self, batch: Batch) -> None:
        for subject in batch.created:
            self._views.put_subject(subject)
        self._views.add_samples(batch.added)

    def list_samples(self, collection_id: str, subject_id: str) -> list[Sample]:
        """As ``Store.list_samples``."""
        return self._store.list_samples(collection_id, subject_id)

    def delete_sample(self, collection_id: str, subject_id: str, sample_id: str) -> None:
        """As ``Store.delete_sample``; the next search does not find the sample."""
        with self._changing:
            row_id = self._store.delete_sample(collection_id, subject_id, sample_id)
            name = SampleName(collection_id, subject_id, sample_id)
            self._following.take_over([(collection_id, subject_id)], lambda: self._views.drop_sample(name, row_id))

    def merge_subjects(
        self, collection_id: str, subject_id: str, merged_id: str, now: datetime
    ) -> tuple[Subject, ErasureReceipt]:
        """Makes one subject of two: the samples of ``merged_id`` become those of ``subject_id``, and that is erased.

        What the first lacks of name, ids, and metadata is taken over; of two consents the one that ends first holds,
        and who was disabled stays so. A picture that both have stays once. Raises ``NotFoundError``, ``InputError`` for
        one and the same, and ``PreconditionError`` where a consent has run out.
        """
        keys = [(collection_id, subject_id), (collection_id, merged_id)]
        with self._changing_in_steps(*keys):
            subject, receipt = self._store.merge_subjects(collection_id, subject_id, merged_id, now)
            self._following.erased_here((collection_id, merged_id))
            self._following.refresh(keys)
        return subject, receipt

    def check_merge(self, collection_id: str, subject_id: str, merged_id: str, now: datetime) -> None:
        """Raises as ``merge_subjects`` would, and changes nothing."""
        self._store.merged(collection_id, subject_id, merged_id, now)

    def split_subject(
        self, collection_id: str, subject_id: str, sample_ids: Sequence[str], other: Subject, *, create: bool = True
    ) -> Subject:
        """Makes some samples those of ``other``, who is made known where that is needed; that one as stored.

        Somebody new has the consent of the subject. Raises ``NotFoundError`` without the subject, a sample, or without
        ``create`` the other one, and then nothing has changed.
        """
        with self._changing:
            stored = self._store.split_subject(collection_id, subject_id, sample_ids, other, create=create)
            self._following.refresh([(collection_id, subject_id), (collection_id, other.subject_id)])
        return stored

    def samples(self, collection_id: str, subject_id: str = "") -> Iterator[Sample]:
        """The samples of a collection, or of one subject, by subject, with their vectors under the current contract."""
        for one in [subject_id] if subject_id else self._views.subject_ids(collection_id):
            with suppress(NotFoundError):  # erased since
                yield from self._store.list_samples(collection_id, one)

    def crops(self, collection_id: str, subject_id: str) -> dict[str, bytes]:
        """The crops kept of a subject, encoded pictures by sample id; ``NotFoundError`` without the subject."""
        found = {
            sample.sample_id: self._store.crops.get(row_id)
            for row_id, sample in self._store.rows_of(collection_id, subject_id)
        }
        return {sample_id: crop for sample_id, crop in found.items() if crop is not None}

    def complete_receipt(self, receipt: ErasureReceipt) -> ErasureReceipt:
        """As ``Receipts.complete``."""
        return self._store.receipts.complete(receipt)

    def unconfirmed(self, receipt_id: str) -> list[str]:
        """The boxes sharing this gallery that have not said yet that they followed an erasure; ``NotFoundError``."""
        return self._store.boxes.behind(self._store.receipts.find(receipt_id)[1]) if self._store.shared else []

    def confirm_receipt(self, receipt: ErasureReceipt) -> ErasureReceipt:
        """The receipt with the boxes that have followed the erasure, which are all."""
        if not self._store.shared or receipt.box_ids:
            return receipt
        return self._store.receipts.confirm(receipt.receipt_id, tuple(self._store.boxes.all()))

    @property
    def shared(self) -> bool:
        """Whether other boxes may change it too; then call ``follow`` again and again."""
        return self._store.shared

    def wait_for_change(self, timeout_s: float) -> bool:
        """As ``Store.wait_for_change``."""
        return self._store.wait_for_change(timeout_s)

    def follow(self) -> list[tuple[str, str]]:
        """Takes over what was changed in a shared database since the last time.

        Who was erased by others, also where they are there again: to be forgotten by whoever else knows them. They are
        given again and again, until ``say``.
        """
        return self._following.follow()

    def say(self, box_id: str, now: datetime) -> None:
        """Tells the others that all that ``follow`` gave last was taken over, and those erased forgotten."""
        self._following.say(box_id, now)

    @contextmanager
    def _changing_in_steps(self, *keys: tuple[str, str]) -> Iterator[None]:
        """A change of several transactions: where a later one fails (a full disk), memory follows what has happened."""
        with self._changing:
            try:
                yield
            except DependencyError:
                with suppress(DependencyError):
                    self._following.refresh(keys)
                raise

    def collections(self) -> list[str]:
        """The ids of the collections that have subjects, sorted."""
        return sorted(self._views.counts())

    def subject_count(self, collection_id: str) -> int:
        """How many subjects a collection has; none where it is unknown."""
        return self._views.counts().get(collection_id, (0, 0))[0]

    def sample_count(self, collection_id: str) -> int:
        """How many samples of a collection a search compares with; none where it is unknown."""
        return self._views.counts().get(collection_id, (0, 0))[1]
