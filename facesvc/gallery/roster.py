"""The people of one collection as a search sees them: in memory, no disk, no lock, no clock."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from facesvc.gallery.index import VectorIndex
from facesvc.gallery.records import Candidate, Floats, Sample, Subject

_FIRST_FETCH = 32  # vectors asked for at first: enough for a few people with a few samples each
_GROWTH = 4


@dataclass(frozen=True, slots=True)
class _Owner:
    """Whose vector a row of the index is."""

    subject_id: str
    sample_id: str


class Roster:
    """Subjects, and an index of their samples by row id. Not thread-safe; ``Gallery`` locks."""

    def __init__(self, dimension: int) -> None:
        self._index = VectorIndex(dimension)
        self._subjects: dict[str, Subject] = {}
        self._owners: dict[int, _Owner] = {}

    @property
    def subject_count(self) -> int:
        """How many people there are, with samples or without."""
        return len(self._subjects)

    @property
    def sample_count(self) -> int:
        """How many samples a search compares with."""
        return len(self._index)

    def put_subject(self, subject: Subject) -> None:
        """Adds a subject, or replaces what was known of it."""
        self._subjects[subject.subject_id] = subject

    def subject(self, subject_id: str) -> Subject | None:
        """Somebody who is here."""
        return self._subjects.get(subject_id)

    def drop_subject(self, subject_id: str) -> None:
        """Removes a subject and its samples."""
        self._drop([row_id for row_id, owner in self._owners.items() if owner.subject_id == subject_id])
        del self._subjects[subject_id]

    def add_sample(self, row_id: int, sample: Sample) -> None:
        """Makes a sample, with a vector, of a subject that is here visible to searches."""
        assert sample.vector is not None  # the callers have looked
        self._index.add(np.array([row_id], np.int64), sample.vector[None])
        self._owners[row_id] = _Owner(sample.subject_id, sample.sample_id)

    def drop_sample(self, row_id: int) -> None:
        """Removes one sample; one that is not here is passed over."""
        self._drop([row_id])

    def _drop(self, row_ids: list[int]) -> None:
        self._index.remove(np.array(row_ids, np.int64))
        for row_id in row_ids:
            self._owners.pop(row_id, None)

    def search(self, vector: Floats, limit: int, accept: Callable[[Subject], bool]) -> list[Candidate]:
        """The ``limit`` subjects most similar to ``vector`` (D,) among those that ``accept`` lets pass, best first.

        The index answers in samples, and a subject may own many, so more of them are fetched until the answer is
        settled: until the last one fetched is worse than the last subject wanted. All that tie with it are then
        known, and the ids decide among them.
        """
        fetch = min(max(_FIRST_FETCH, limit), len(self._index))
        while fetch:
            similarities, row_ids = (found[0].tolist() for found in self._index.search(vector[None], fetch))
            candidates = self._candidates(similarities, row_ids, accept)[:limit]
            if fetch == len(self._index) or (len(candidates) == limit and similarities[-1] < candidates[-1].similarity):
                return candidates
            fetch = min(_GROWTH * fetch, len(self._index))
        return []

    def _candidates(
        self, similarities: list[float], row_ids: list[int], accept: Callable[[Subject], bool]
    ) -> list[Candidate]:
        """Each accepted subject once, with its best sample; ties by subject id, then by sample id."""
        ranked = sorted(
            (-similarity, owner.subject_id, owner.sample_id)
            for similarity, owner in zip(similarities, map(self._owners.__getitem__, row_ids), strict=True)
            if accept(self._subjects[owner.subject_id])
        )
        best: dict[str, Candidate] = {}
        for negated, subject_id, sample_id in ranked:
            if subject_id not in best:
                subject = self._subjects[subject_id]
                best[subject_id] = Candidate(
                    subject_id, subject.display_name, -negated, sample_id, subject.external_ids
                )
        return list(best.values())
