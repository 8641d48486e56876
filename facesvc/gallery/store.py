"""The gallery in its database: what is kept of people, as plain SQL over ``facesvc.database``.

Every change is one transaction: it is there as a whole or not at all, and durable once the method has returned. Each
has a number, and the subject that it was about bears it: who keeps a view of the gallery follows the numbers.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from collections.abc import Set as AbstractSet
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime
from typing import Self

from ulid import ULID

from facesvc.database import Database
from facesvc.errors import AlreadyExistsError, DependencyError, InputError, NotFoundError, PreconditionError
from facesvc.gallery import rows
from facesvc.gallery.boxes import Boxes
from facesvc.gallery.contracts import Contracts
from facesvc.gallery.crops import Crops, check_crop
from facesvc.gallery.crypto import Cipher
from facesvc.gallery.keyring import NOBODY, Keyring, KeySource
from facesvc.gallery.receipts import Receipts
from facesvc.gallery.records import Consent, EmbeddingContract, ErasureReceipt, Sample, SampleName, Subject, check_text
from facesvc.gallery.sealing import open_sealed

MAX_PAGE_SIZE = 1000
UPDATABLE = frozenset({"display_name", "external_ids", "metadata", "consent", "enabled"})

_INSERT_SUBJECT = """
    INSERT INTO subjects VALUES (
        :collection_id, :subject_id, :enabled, :create_time, :update_time, :change, :sealed)
"""
_UPDATE_SUBJECT = """
    UPDATE subjects SET enabled = :enabled, update_time = :update_time, change = :change, sealed = :sealed
     WHERE collection_id = :collection_id AND subject_id = :subject_id
"""
_INSERT_SAMPLE = """
    INSERT INTO samples (sample_id, collection_id, subject_id, quality, create_time, image_tag, sealed)
    VALUES (:sample_id, :collection_id, :subject_id, :quality, :create_time, :image_tag, :sealed)
    RETURNING row_id
"""
_MOVE_SAMPLE = """
    UPDATE samples
       SET collection_id = :collection_id, subject_id = :subject_id, image_tag = :image_tag, sealed = :sealed
     WHERE row_id = :row_id
"""
_NEXT_CHANGE = "UPDATE changes SET change = change + 1 RETURNING change"
_CHANGED = "UPDATE subjects SET change = ? WHERE collection_id = ? AND subject_id = ?"
_DELETE_SUBJECT = "DELETE FROM subjects WHERE collection_id = ? AND subject_id = ?"
_SAMPLE_IDS = "SELECT sample_id FROM samples WHERE collection_id = ? AND subject_id = ? ORDER BY row_id"
_SAME_IMAGE = "SELECT sample_id FROM samples WHERE collection_id = ? AND subject_id = ? AND image_tag = ?"
_ROW_ID = "SELECT row_id FROM samples WHERE collection_id = ? AND subject_id = ? AND sample_id = ?"
_EXISTS = "SELECT 1 FROM subjects WHERE collection_id = ? AND subject_id = ?"
_OF_SUBJECT = " WHERE subjects.collection_id = ? AND subjects.subject_id = ?"
_SAMPLES_OF_SUBJECT = """
     WHERE samples.collection_id = :collection_id AND samples.subject_id = :subject_id ORDER BY samples.row_id
"""
_CROP_COUNT = "SELECT count(*) FROM crops JOIN samples USING (row_id) WHERE collection_id = ? AND subject_id = ?"
_PAGE = """
    WHERE subjects.collection_id = :collection_id AND subjects.subject_id > :after
    ORDER BY subjects.subject_id LIMIT :limit
"""
_EVERYBODY = """
    WHERE (subjects.collection_id, subjects.subject_id) > (:collection_id, :subject_id)
    ORDER BY subjects.collection_id, subjects.subject_id LIMIT :limit
"""
_PAGE_OF_CHANGES = """
    SELECT subjects.collection_id, subjects.subject_id, change, key_id, wrapped
      FROM subjects
      JOIN keyring.subject_keys AS own
        ON own.collection_id = subjects.collection_id AND own.subject_id = subjects.subject_id
     WHERE (subjects.collection_id, subjects.subject_id) > (:collection_id, :subject_id)
     ORDER BY subjects.collection_id, subjects.subject_id LIMIT :limit
"""
_COLLECTIONS = """
    SELECT collection_id, count(*),
           (SELECT count(*) FROM samples WHERE samples.collection_id = subjects.collection_id)
      FROM subjects GROUP BY collection_id ORDER BY collection_id
"""
_CHANGED_SINCE = "SELECT collection_id, subject_id FROM subjects WHERE change > ? ORDER BY change"
_WITHOUT_KEY = """
    SELECT collection_id, subject_id FROM subjects
     WHERE NOT EXISTS (
               SELECT 1 FROM keyring.subject_keys AS own
                WHERE own.collection_id = subjects.collection_id AND own.subject_id = subjects.subject_id)
     LIMIT 1
"""
_KEY_WITHOUT_SUBJECT = """
    SELECT own.collection_id, own.subject_id FROM keyring.subject_keys AS own
     WHERE own.subject_id <> '' AND NOT EXISTS (
               SELECT 1 FROM subjects
                WHERE own.collection_id = subjects.collection_id AND own.subject_id = subjects.subject_id)
"""
_LATEST = datetime.max.replace(tzinfo=UTC)
_BATCH = 1000  # subjects per statement while all are read


class DuplicateImageError(InputError):
    """A subject already has a sample of this very image: ``sample_id``."""

    reason = "DUPLICATE_IMAGE"

    def __init__(self, subject_id: str, sample_id: str) -> None:
        super().__init__(f"subject {subject_id} already has this image as sample {sample_id}", field="image.data")
        self.sample_id = sample_id


class Store:
    """Subjects, samples, and receipts of what was erased. Every method may be called from any thread."""

    def __init__(self, database: Database, contract: EmbeddingContract) -> None:
        self.keyring = Keyring(database)
        self.contracts = Contracts(database, self.keyring, contract)
        self.crops = Crops(database, self.keyring)
        self.receipts = Receipts(database, self.keyring)
        self.boxes = Boxes(database)
        self._database = database

    @classmethod
    def open(cls, database: Database, contract: EmbeddingContract, now: datetime, keys: Sequence[KeySource]) -> Self:
        """The store in ``database``, made or brought up to date where needed; ``keys`` as for ``Keyring.open``.

        Raises as that and ``Contracts.settle``, ``PreconditionError`` where a newer facesvc wrote it, and
        ``DependencyError`` where the database cannot be used.
        """
        store = cls(database, contract)
        open_sealed(database, store.keyring, keys, now)
        store.receipts.prepare()
        store._settle_keys()
        store.contracts.settle(now)
        return store

    def _settle_keys(self) -> None:
        """Destroy the keys to nobody: what a power cut has left of a creation, or of an erasure. See ``keyring``."""
        if self._database.shared:
            return
        self.keyring.check()
        if self._database.select(_WITHOUT_KEY):
            message = (
                f"keys to people of {self._database.where} are missing; put back the file of keys that belongs to it,"
                " or restore a backup"
            )
            raise DependencyError(message, reason="KEY_MISSING")
        with self._database.transaction():
            for key in self._database.select(_KEY_WITHOUT_SUBJECT):
                self.keyring.destroy(*key)
        self._database.forget()  # also what a process that was killed had no time to forget

    def close(self) -> None:
        """Let go of the database; closing twice is allowed."""
        self._database.close()

    def transaction(self) -> AbstractContextManager[None]:
        """Several changes as one."""
        return self._database.transaction()

    @property
    def shared(self) -> bool:
        """Whether other boxes may change the gallery too."""
        return self._database.shared

    def wait_for_change(self, timeout_s: float) -> bool:
        """Until another box has changed something, at most so long; whether one has. Raises ``DependencyError``."""
        return self._database.wait_for_change(timeout_s)

    @property
    def change(self) -> int:
        """The number of the last change."""
        [(change,)] = self._database.select("SELECT change FROM changes")
        return int(change)

    def next_change(self) -> int:
        """Begin a change, inside the caller's transaction: nobody else's comes before it ends. Its number."""
        [(change,)] = self._database.select(_NEXT_CHANGE)
        self._database.announce()
        return int(change)

    def changed_since(self, change: int) -> list[tuple[str, str]]:
        """Collection and id of everybody whom a later change was about: changed, or erased."""
        return self._database.select(_CHANGED_SINCE, (change,)) + self.receipts.erased_after(change)

    def create_subject(self, subject: Subject, request_id: str = "") -> Subject:
        """The subject as stored; where the same ``request_id`` has created it before, the one that is there.

        Raises ``AlreadyExistsError`` for an id that is taken, and ``InputError`` (``REQUEST_ID_REUSED``) where
        ``request_id`` has created somebody else.
        """
        key = (subject.collection_id, subject.subject_id)
        with self.creating([key]):
            if first := self.created_by(request_id):
                if (first.collection_id, first.subject_id) == key:
                    return first
                message = f"request_id {request_id} has already created subject {first.subject_id}; use a new one"
                raise InputError(message, field="request_id", reason="REQUEST_ID_REUSED")
            created = self.add_subject(subject)
            if request_id:
                self._database.execute("INSERT INTO requests VALUES (?, ?, ?)", (request_id, *key))
        return created

    @contextmanager
    def creating(self, people: Iterable[tuple[str, str]]) -> Iterator[None]:
        """A transaction in which ``people`` may be made known by ``add_subject``; not inside of another one.

        Their keys are on the disk before them, see ``keyring``.
        """
        if not self._database.shared:
            with self._database.transaction():
                for key in people:
                    if not self._database.select(_EXISTS, key):
                        self.keyring.make(*key)
        with self._database.transaction():
            yield

    def add_subject(self, subject: Subject) -> Subject:
        """Somebody new, inside of ``creating``; as stored. Raises ``AlreadyExistsError``."""
        key = (subject.collection_id, subject.subject_id)
        change = self.next_change()
        if self._database.select(_EXISTS, key):
            message = f"collection {key[0]} already has a subject {key[1]}"
            raise AlreadyExistsError(message, field="subject.subject_id")
        cipher = self.keyring.make(*key) if self._database.shared else self.keyring.get(*key)
        self._database.execute(_INSERT_SUBJECT, rows.subject_to_row(subject, change, cipher))
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
        return rows.subject_from_row(found[0], self.keyring)

    def list_subjects(
        self,
        collection_id: str,
        page_size: int,
        page_token: str = "",
        accept: Callable[[Subject], bool] = lambda _: True,
    ) -> tuple[list[Subject], str]:
        """One page of those whom ``accept`` lets pass, by id, and the token of the next one, empty after the last."""
        if not 1 <= page_size <= MAX_PAGE_SIZE:
            raise InputError(f"page_size {page_size} is not within 1 to {MAX_PAGE_SIZE}", field="page_size")
        after, page = rows.from_page_token(page_token) if page_token else "", list[Subject]()
        while True:
            names = {"collection_id": collection_id, "after": after, "limit": page_size + 1}
            found = self._database.select(rows.SELECT_SUBJECT + _PAGE, names)
            page += filter(accept, (rows.subject_from_row(row, self.keyring) for row in found))
            if len(page) > page_size:  # one more tells that there is a next page
                return page[:page_size], rows.to_page_token(page[page_size - 1].subject_id)
            if len(found) <= page_size:
                return page, ""
            after = found[-1][1]

    def update_subject(self, subject: Subject, fields: AbstractSet[str], now: datetime) -> Subject:
        """Takes over the named ``fields`` (of ``UPDATABLE``) of ``subject``; the subject as stored since."""
        if not fields or not fields <= UPDATABLE:
            named = ", ".join(sorted(fields - UPDATABLE)) or "nothing"
            message = f"update_mask names {named}; it may name {', '.join(sorted(UPDATABLE))}"
            raise InputError(message, field="update_mask")
        with self._database.transaction():
            change = self.next_change()
            current = self.get_subject(subject.collection_id, subject.subject_id)
            changes = {name: getattr(subject, name) for name in fields}
            updated = replace(current, update_time=now, **changes)
            cipher = self.keyring.get(subject.collection_id, subject.subject_id)
            self._database.execute(_UPDATE_SUBJECT, rows.subject_to_row(updated, change, cipher))
        return updated

    def erase_subject(
        self,
        collection_id: str,
        subject_id: str,
        now: datetime,
        *,
        event_count: int = 0,
        only_if: Callable[[Subject], bool] = lambda _: True,
    ) -> ErasureReceipt:
        """Removes a subject, everything of it, and its key, for good; the receipt is all that stays.

        Where the disk was full when the key was to be destroyed, the next call does it. Raises ``PreconditionError``
        (``SUBJECT_CHANGED``) where ``only_if`` does not hold.
        """
        key = (collection_id, subject_id)
        with self._erasing(key):
            if not self._database.select(_EXISTS, key) and self.keyring.has(*key):
                return self.receipts.last_of(*key)
            if not only_if(self.get_subject(*key)):
                message = f"subject {subject_id} was changed meanwhile, and is not erased"
                raise PreconditionError(message, reason="SUBJECT_CHANGED")
            return self._delete_subject(key, now, event_count)

    @contextmanager
    def _erasing(self, key: tuple[str, str]) -> Iterator[None]:
        """A transaction in which somebody is deleted; their key after them, see ``keyring``."""
        with self._database.transaction():
            yield
            if self._database.shared:
                self.keyring.destroy(*key)
        if not self._database.shared:
            self.keyring.destroy(*key)
        self._database.forget()

    def _delete_subject(self, key: tuple[str, str], now: datetime, event_count: int) -> ErasureReceipt:
        change = self.next_change()
        if not self._database.select(_EXISTS, key):
            raise NotFoundError(f"collection {key[0]!a} has no subject {key[1]!a}", field="subject_id")
        receipt = ErasureReceipt(
            receipt_id=str(ULID.from_datetime(now)),
            collection_id=key[0],
            subject_id=key[1],
            sample_ids=tuple(sample_id for (sample_id,) in self._database.select(_SAMPLE_IDS, key)),
            erase_time=now,
            event_count=event_count,
            crop_count=self._database.select(_CROP_COUNT, key)[0][0],
        )
        self._database.execute(_DELETE_SUBJECT, key)
        return self.receipts.put(receipt, change)

    def add_sample(self, sample: Sample, crop: bytes | None = None) -> int:
        """Stores a sample, its vector under the current contract, and its crop; a row id never given before.

        Raises ``NotFoundError`` without its subject, ``DuplicateImageError`` where the subject has this image,
        ``InputError`` for a vector of another dimension, and as ``check_crop``; before anything is written.
        """
        contract = self.contracts.current
        vector = sample.checked_vector(contract)
        if crop is not None:
            check_crop(crop)
        key = (sample.collection_id, sample.subject_id)
        with self._database.transaction():
            self._database.execute(_CHANGED, (self.next_change(), *key))
            cipher = self.keyring.get(*key)
            if found := self._database.select(_SAME_IMAGE, (*key, rows.image_tag(sample.image_sha256, cipher))):
                raise DuplicateImageError(sample.subject_id, found[0][0])
            if self._database.select("SELECT 1 FROM samples WHERE sample_id = ?", (sample.sample_id,)):
                raise AlreadyExistsError(f"there already is a sample {sample.sample_id}", field="sample.sample_id")
            [(row_id,)] = self._database.select(_INSERT_SAMPLE, rows.sample_to_row(sample, cipher))
            self.contracts.put_vector(row_id, sample.name, contract.contract_id, vector, cipher)
            if crop is not None:
                self.crops.put(row_id, sample.name, crop, cipher)
        return int(row_id)

    def list_samples(self, collection_id: str, subject_id: str) -> list[Sample]:
        """The samples of a subject, oldest first; ``NotFoundError`` without the subject."""
        return [sample for _, sample in self.rows_of(collection_id, subject_id)]

    def rows_of(self, collection_id: str, subject_id: str, contract_id: str | None = None) -> list[tuple[int, Sample]]:
        """The samples of a subject, oldest first, each with its row id; ``NotFoundError`` without the subject.

        The vectors are those under ``contract_id``, by default the current contract; None where there is none.
        """
        self.get_subject(collection_id, subject_id)
        contract_id = contract_id or self.contracts.current.contract_id
        names = {"collection_id": collection_id, "subject_id": subject_id, "contract_id": contract_id}
        found = self._database.select(rows.SELECT_SAMPLE + _SAMPLES_OF_SUBJECT, names)
        return [rows.sample_from_row(row, contract_id, self.keyring) for row in found]

    def delete_sample(self, collection_id: str, subject_id: str, sample_id: str) -> int:
        """Removes a sample for good; the row id that it had."""
        with self._database.transaction():
            self._database.execute(_CHANGED, (self.next_change(), collection_id, subject_id))
            row_id = self._row_id(SampleName(collection_id, subject_id, sample_id))
            self._database.execute("DELETE FROM samples WHERE row_id = ?", (row_id,))
        return row_id

    def move_sample(self, name: SampleName, subject_id: str) -> None:
        """Makes a sample another subject's: everything of it is sealed anew, with the key of that one.

        Raises ``NotFoundError`` without the sample or the subject, ``DuplicateImageError`` where that has this image.
        """
        moved = replace(name, subject_id=subject_id)
        with self._database.transaction():
            change = self.next_change()
            for key in ((name.collection_id, name.subject_id), (name.collection_id, subject_id)):
                self._database.execute(_CHANGED, (change, *key))
            row_id = self._row_id(name)
            old, new = (self.keyring.get(one.collection_id, one.subject_id) for one in (name, moved))
            sample = next(one for at, one in self.rows_of(name.collection_id, name.subject_id) if at == row_id)
            same = (name.collection_id, subject_id, rows.image_tag(sample.image_sha256, new))
            if found := self._database.select(_SAME_IMAGE, same):
                raise DuplicateImageError(subject_id, found[0][0])
            row = rows.sample_to_row(replace(sample, subject_id=subject_id), new)
            self._database.execute(_MOVE_SAMPLE, row | {"row_id": row_id})
            self._reseal(row_id, name, moved, old, new)

    def merge_subjects(
        self, collection_id: str, subject_id: str, merged_id: str, now: datetime
    ) -> tuple[Subject, ErasureReceipt]:
        """As ``Gallery.merge_subjects``."""
        gone = (collection_id, merged_id)
        with self._erasing(gone):
            both = self.merged(collection_id, subject_id, merged_id, now)
            for sample in self.list_samples(collection_id, merged_id):
                with suppress(DuplicateImageError):
                    self.move_sample(sample.name, subject_id)
            self.update_subject(both, UPDATABLE, now)
            receipt = self._delete_subject(gone, now, 0)
            return self.get_subject(collection_id, subject_id), receipt

    def merged(self, collection_id: str, subject_id: str, merged_id: str, now: datetime) -> Subject:
        """What is known of ``subject_id`` once ``merged_id`` is the same: nothing is allowed that was not to both.

        Raises as ``Gallery.merge_subjects``.
        """
        if subject_id == merged_id:
            raise InputError("somebody cannot be merged with themselves", field="merged_subject_id")
        kept, other = (self.get_subject(collection_id, one) for one in (subject_id, merged_id))
        for one in (kept, other):
            if one.consent_expired(now):
                message = f"the consent of subject {one.subject_id} has run out; renew it before merging"
                raise PreconditionError(message, reason="CONSENT_EXPIRED")
        consents = [one.consent for one in (kept, other) if one.consent]
        return replace(
            kept,
            display_name=kept.display_name or other.display_name,
            external_ids={**other.external_ids, **kept.external_ids},
            metadata={**other.metadata, **kept.metadata},
            consent=min(consents, key=_expires, default=None),
            enabled=kept.enabled and other.enabled,
        )

    def split_subject(
        self, collection_id: str, subject_id: str, sample_ids: Sequence[str], other: Subject, *, create: bool
    ) -> Subject:
        """As ``Gallery.split_subject``."""
        key = (collection_id, other.subject_id)
        with self.creating([key] if create else []):
            subject = self.get_subject(collection_id, subject_id)
            if create and not self._database.select(_EXISTS, key):
                self.add_subject(replace(other, consent=subject.consent))
            self.get_subject(*key)
            for sample_id in sample_ids:
                self.move_sample(SampleName(collection_id, subject_id, sample_id), other.subject_id)
            return self.get_subject(collection_id, other.subject_id)

    def _reseal(self, row_id: int, name: SampleName, moved: SampleName, old: Cipher, new: Cipher) -> None:
        self.contracts.reseal(row_id, name, moved, old, new)
        self.crops.reseal(row_id, name, moved, old, new)

    def _row_id(self, name: SampleName) -> int:
        found = self._database.select(_ROW_ID, (name.collection_id, name.subject_id, name.sample_id))
        if not found:
            message = (
                f"subject {name.subject_id!a} of collection {name.collection_id!a} has no sample {name.sample_id!a}"
            )
            raise NotFoundError(message, field="sample_id")
        return int(found[0][0])

    def collections(self) -> dict[str, tuple[int, int]]:
        """Every collection that has subjects: how many subjects and how many samples."""
        return {name: (subjects, samples) for name, subjects, samples in self._database.select(_COLLECTIONS)}

    def subjects(self) -> Iterator[Subject]:
        """Everybody, by collection and id."""
        return (subject for subject, _, _ in self.subjects_with_change())

    def subjects_with_change(self) -> Iterator[tuple[Subject, int, Cipher]]:
        """Everybody, by collection and id, with the number of their last change and their key."""
        last = dict(zip(("collection_id", "subject_id"), NOBODY, strict=True))
        while batch := self._database.select(rows.SELECT_SUBJECT + _EVERYBODY, last | {"limit": _BATCH}):
            for row in batch:
                yield rows.subject_from_row(row, self.keyring), row[-1], self.keyring.unwrap(*row[:4])
            last = {"collection_id": batch[-1][0], "subject_id": batch[-1][1]}

    def page_of_changes(self, after: tuple[str, str], limit: int) -> list[tuple[tuple[str, str], int, Cipher]]:
        """Of some subjects after one, by collection and id: which, the number of their last change, and their key."""
        names = {"collection_id": after[0], "subject_id": after[1], "limit": limit}
        found = self._database.select(_PAGE_OF_CHANGES, names)
        return [((row[0], row[1]), row[2], self.keyring.unwrap(row[0], row[1], *row[3:])) for row in found]


def _expires(consent: Consent) -> datetime:
    return consent.expire_time or _LATEST
