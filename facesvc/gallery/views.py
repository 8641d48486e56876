"""The people in memory, once for each contract under which they can be searched at present.

A change of a subject, an erasure, the deletion of a sample reach every view at once: a frame that began under the old
contract finds nobody who was erased since. Only vectors differ between views.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from threading import Lock

from facesvc.errors import ContractMismatchError, InputError
from facesvc.gallery.index import PeopleIndex
from facesvc.gallery.records import Audience, Candidate, EmbeddingContract, Floats, Sample, SampleName, Subject
from facesvc.gallery.roster import Roster
from facesvc.gallery.saved_view import Part
from facesvc.gallery.tending import Tending

MAX_CANDIDATES = 1000  # of one face
_BATCH = 4096  # samples taken in at a time


@dataclass(frozen=True, slots=True)
class Known:
    """What the store knows of somebody, ``samples`` with their row ids by contract; nothing of who is not there."""

    subject: Subject | None = None
    samples: Mapping[str, Sequence[tuple[int, Sample]]] = field(default_factory=dict)


class View:
    """Every collection, with the vectors of one contract. Not thread-safe; ``Views`` locks."""

    def __init__(self, contract: EmbeddingContract) -> None:
        self.contract = contract
        self.rosters: dict[str, Roster] = {}

    def fill(self, subjects: Iterable[Subject], samples: Iterable[tuple[int, Sample]]) -> None:
        """Takes in people, and then their samples, however many there are."""
        for subject in subjects:
            self.put_subject(subject)
        remaining = iter(samples)
        while batch := list(islice(remaining, _BATCH)):
            self.add_samples(batch)

    def put_subject(self, subject: Subject) -> None:
        """Adds a subject, or replaces what was known of it."""
        if subject.collection_id not in self.rosters:
            self.rosters[subject.collection_id] = Roster(PeopleIndex(self.contract.dimension))
        self.rosters[subject.collection_id].put_subject(subject)

    def drop_subject(self, collection_id: str, subject_id: str) -> None:
        """Removes a subject and its samples; who is not here is passed over."""
        roster = self.rosters.get(collection_id)
        if roster is None or roster.subject(subject_id) is None:
            return
        roster.drop_subject(subject_id)
        if not roster.subject_count:
            roster.index.abandon_rebuild()
            del self.rosters[collection_id]

    def add_samples(self, samples: Sequence[tuple[int, Sample]]) -> None:
        """Makes samples of subjects that are here visible to searches; one without a vector is passed over."""
        by_collection: dict[str, list[tuple[int, Sample]]] = {}
        for row_id, sample in samples:
            if sample.vector is not None:
                by_collection.setdefault(sample.collection_id, []).append((row_id, sample))
        for collection_id, group in by_collection.items():
            self.rosters[collection_id].add_samples(group)

    def drop_sample(self, name: SampleName, row_id: int) -> None:
        """Removes one sample; one that is not here is passed over."""
        self.rosters[name.collection_id].drop_sample(name.subject_id, row_id)

    def search(self, collection_id: str, vectors: Floats, limit: int, audience: Audience) -> list[list[Candidate]]:
        """For each of ``vectors`` (N, D) the ``limit`` most similar subjects of ``audience``, best first."""
        self.contract.check(vectors, "vectors")
        roster = self.rosters.get(collection_id)
        return [roster.search(vector, limit, audience) if roster else [] for vector in vectors]


class Views:
    """The view of the current contract, of the one being prepared, and of the one before, under one lock.

    The lock is held for work in memory only: a search waits for other searches and never for the disk. Every method
    may be called from any thread; who changes something excludes other changes (``Gallery``).
    """

    def __init__(self, current: View) -> None:
        self._lock = Lock()
        self.tending = Tending(self._lock, self._indexes)
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
        self, contract_id: str, collection_id: str, vectors: Floats, limit: int, audience: Audience
    ) -> list[list[Candidate]]:
        """Searches the view of the current contract or of the one before; ``ContractMismatchError`` for any other."""
        with self._lock:
            for view in (self._current, self._retired):
                if view and view.contract.contract_id == contract_id:
                    return view.search(collection_id, vectors, check_limit(limit), audience)
            raise mismatch(contract_id, self.contract)

    def subject(self, collection_id: str, subject_id: str) -> Subject | None:
        """Somebody as the current view knows them."""
        with self._lock:
            roster = self._current.rosters.get(collection_id)
            return roster.subject(subject_id) if roster else None

    def subject_ids(self, collection_id: str) -> list[str]:
        """Everybody of a collection, sorted."""
        with self._lock:
            roster = self._current.rosters.get(collection_id)
            return sorted(roster.subject_ids) if roster else []

    def search_shadow(
        self, contract_id: str, collection_id: str, vectors: Floats, limit: int, audience: Audience
    ) -> list[list[Candidate]]:
        """Searches the view that is being prepared; ``ContractMismatchError`` where it is of another contract."""
        with self._lock:
            if self._shadow is None or self._shadow.contract.contract_id != contract_id:
                raise mismatch(contract_id, self.contract)
            return self._shadow.search(collection_id, vectors, check_limit(limit), audience)

    def put_subject(self, subject: Subject) -> None:
        """Adds a subject to every view, or replaces what they know of it."""
        with self._lock:
            for view in self._live():
                view.put_subject(subject)

    def refresh(self, people: Mapping[tuple[str, str], Known]) -> None:
        """Replaces all that every view knows of ``people``, by collection and subject, at once.

        All are dropped before any is added: a sample may have gone from one to another.
        """
        with self._lock:
            for view in self._live():
                for key in people:
                    view.drop_subject(*key)
                for known in people.values():
                    if known.subject is not None:
                        view.put_subject(known.subject)
                        view.add_samples(known.samples.get(view.contract.contract_id, ()))
            self.tending.look()

    @property
    def contract_ids(self) -> list[str]:
        """The contracts under which there are views."""
        with self._lock:
            return [view.contract.contract_id for view in self._live()]

    def drop_sample(self, name: SampleName, row_id: int) -> None:
        """Removes a sample from every view."""
        with self._lock:
            for view in self._live():
                view.drop_sample(name, row_id)
            self.tending.look()

    def add_samples(self, samples: Sequence[tuple[int, Sample]]) -> None:
        """Adds samples with their vectors under the current contract."""
        with self._lock:
            self._current.add_samples(samples)
            self.tending.look()

    def prepare(self, shadow: View) -> None:
        """Takes in the view that is being prepared, in the place of the one before."""
        with self._lock:
            self._shadow, self._retired = shadow, None

    def add_to_shadow(self, samples: Sequence[tuple[int, Sample]]) -> None:
        """Adds samples with their vectors under the contract being prepared."""
        with self._lock:
            assert self._shadow is not None  # the migration that calls is running
            self._shadow.add_samples(samples)
            self.tending.look()

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

    def trained(self) -> dict[str, bytes]:
        """What the index of each collection of the current view was trained to."""
        with self._lock:
            return {name: roster.index.trained() for name, roster in self._current.rosters.items()}

    def part(self, key: tuple[str, str]) -> Part | None:
        """What the current view holds of somebody, to be saved; None where they are not here."""
        with self._lock:
            roster = self._current.rosters.get(key[0])
            return roster.part(key[1]) if roster else None

    def everybody(self) -> set[tuple[str, str]]:
        """Collection and id of all whom the current view knows."""
        with self._lock:
            return {(name, one) for name, roster in self._current.rosters.items() for one in roster.subject_ids}

    def reload(self, load: Callable[[EmbeddingContract], View]) -> None:
        """Replaces what every view knows by what ``load`` gives for its contract."""
        with self._lock:
            live = self._live()
        for view in live:
            fresh = load(view.contract)
            with self._lock:
                for roster in view.rosters.values():
                    roster.index.abandon_rebuild()
                view.rosters = fresh.rosters
                self.tending.look()

    def counts(self) -> dict[str, tuple[int, int]]:
        """How many subjects and how many samples each collection has, of those that a search sees."""
        with self._lock:
            rosters = self._current.rosters.items()
            return {name: (roster.subject_count, roster.sample_count) for name, roster in rosters}

    def tend(self) -> None:
        """Begin the rebuild that is due, if one is."""
        with self._lock:
            self.tending.look()

    def _indexes(self) -> Iterable[PeopleIndex]:
        return [roster.index for view in self._live() for roster in view.rosters.values()]

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
