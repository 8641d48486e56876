"""The people in memory, once for each contract under which they can be searched at present.

A change of a subject, an erasure, the deletion of a sample reach every view at once: a frame that began under the old
contract finds nobody who was erased since. Only vectors differ between views.
"""

from collections.abc import Callable, Iterable
from threading import Lock

from facesvc.errors import ContractMismatchError, InputError
from facesvc.gallery.records import Candidate, EmbeddingContract, Floats, Sample, Subject
from facesvc.gallery.roster import Roster

MAX_CANDIDATES = 1000  # of one face

Accept = Callable[[Subject], bool]


class View:
    """Every collection, with the vectors of one contract. Not thread-safe; ``Views`` locks."""

    def __init__(
        self, contract: EmbeddingContract, subjects: Iterable[Subject], samples: Iterable[tuple[int, Sample]]
    ) -> None:
        self.contract = contract
        self.rosters: dict[str, Roster] = {}
        for subject in subjects:
            self.put_subject(subject)
        self.add_samples(samples)

    def put_subject(self, subject: Subject) -> None:
        """Adds a subject, or replaces what was known of it."""
        if subject.collection_id not in self.rosters:
            self.rosters[subject.collection_id] = Roster(self.contract.dimension)
        self.rosters[subject.collection_id].put_subject(subject)

    def drop_subject(self, collection_id: str, subject_id: str) -> None:
        """Removes a subject and its samples."""
        roster = self.rosters[collection_id]
        roster.drop_subject(subject_id)
        if not roster.subject_count:
            del self.rosters[collection_id]

    def add_samples(self, samples: Iterable[tuple[int, Sample]]) -> None:
        """Makes samples of subjects that are here visible to searches."""
        for row_id, sample in samples:
            self.rosters[sample.collection_id].add_sample(row_id, sample)

    def drop_sample(self, collection_id: str, row_id: int) -> None:
        """Removes one sample; one that is not here is passed over."""
        self.rosters[collection_id].drop_sample(row_id)

    def search(self, collection_id: str, vectors: Floats, limit: int, accept: Accept) -> list[list[Candidate]]:
        """For each of ``vectors`` (N, D) the ``limit`` most similar subjects that ``accept`` lets pass, best first."""
        self.contract.check(vectors, "vectors")
        roster = self.rosters.get(collection_id)
        return [roster.search(vector, limit, accept) if roster else [] for vector in vectors]


class Views:
    """The view of the current contract, of the one being prepared, and of the one before, under one lock.

    The lock is held for work in memory only: a search waits for other searches and never for the disk. Every method
    may be called from any thread; who changes something excludes other changes (``Gallery``).
    """

    def __init__(self, current: View) -> None:
        self._lock = Lock()
        self._current = current
        self._shadow: View | None = None
        self._retired: View | None = None

    @property
    def contract(self) -> EmbeddingContract:
        """The current contract."""
        return self._current.contract

    @property
    def preparing(self) -> EmbeddingContract | None:
        """The contract of the view that is being prepared, if one is."""
        shadow = self._shadow
        return shadow.contract if shadow else None

    def search(
        self, contract_id: str, collection_id: str, vectors: Floats, limit: int, accept: Accept
    ) -> list[list[Candidate]]:
        """Searches the view of the current contract or of the one before; ``ContractMismatchError`` for any other."""
        with self._lock:
            for view in (self._current, self._retired):
                if view and view.contract.contract_id == contract_id:
                    return view.search(collection_id, vectors, check_limit(limit), accept)
            raise mismatch(contract_id, self.contract)

    def subject(self, collection_id: str, subject_id: str) -> Subject | None:
        """Somebody as the current view knows them."""
        with self._lock:
            roster = self._current.rosters.get(collection_id)
            return roster.subject(subject_id) if roster else None

    def search_shadow(
        self, contract_id: str, collection_id: str, vectors: Floats, limit: int, accept: Accept
    ) -> list[list[Candidate]]:
        """Searches the view that is being prepared; ``ContractMismatchError`` where it is of another contract."""
        with self._lock:
            if self._shadow is None or self._shadow.contract.contract_id != contract_id:
                raise mismatch(contract_id, self.contract)
            return self._shadow.search(collection_id, vectors, check_limit(limit), accept)

    def put_subject(self, subject: Subject) -> None:
        """Adds a subject to every view, or replaces what they know of it."""
        with self._lock:
            for view in self._live():
                view.put_subject(subject)

    def drop_subject(self, collection_id: str, subject_id: str) -> None:
        """Removes a subject and its samples from every view."""
        with self._lock:
            for view in self._live():
                view.drop_subject(collection_id, subject_id)

    def drop_sample(self, collection_id: str, row_id: int) -> None:
        """Removes a sample from every view."""
        with self._lock:
            for view in self._live():
                view.drop_sample(collection_id, row_id)

    def add_sample(self, row_id: int, sample: Sample) -> None:
        """Adds a sample with its vector under the current contract."""
        with self._lock:
            self._current.add_samples([(row_id, sample)])

    def prepare(self, shadow: View) -> None:
        """Takes in the view that is being prepared, in the place of the one before."""
        with self._lock:
            self._shadow, self._retired = shadow, None

    def add_to_shadow(self, samples: Iterable[tuple[int, Sample]]) -> None:
        """Adds samples with their vectors under the contract being prepared."""
        with self._lock:
            assert self._shadow is not None  # the migration that calls is running
            self._shadow.add_samples(samples)

    def switch(self) -> None:
        """The prepared view becomes the current one, and today's the one before."""
        with self._lock:
            assert self._shadow is not None  # the migration that calls is running
            self._current, self._retired, self._shadow = self._shadow, self._current, None

    def drop_shadow(self) -> None:
        """Lets go of the view that is being prepared."""
        with self._lock:
            self._shadow = None

    def retire(self, contract_id: str) -> None:
        """Lets go of the view of the contract before, where it is this one."""
        with self._lock:
            if self._retired and self._retired.contract.contract_id == contract_id:
                self._retired = None

    def counts(self) -> dict[str, tuple[int, int]]:
        """How many subjects and how many samples each collection has, of those that a search sees."""
        with self._lock:
            rosters = self._current.rosters.items()
            return {name: (roster.subject_count, roster.sample_count) for name, roster in rosters}

    def _live(self) -> list[View]:
        return [view for view in (self._current, self._shadow, self._retired) if view]


def check_limit(limit: int) -> int:
    """``limit``, or an ``InputError``."""
    if not 1 <= limit <= MAX_CANDIDATES:
        raise InputError(f"limit {limit} is not within 1 to {MAX_CANDIDATES}", field="limit")
    return limit


def mismatch(contract_id: str, current: EmbeddingContract) -> ContractMismatchError:
    """Vectors of ``contract_id`` came where those of ``current`` are needed."""
    return ContractMismatchError(
        f"the vectors are of {contract_id[:256]!a}, but the gallery's are of {current}; embed the faces again with the"
        " models that are loaded now"
    )
