"""The people of one collection as a search sees them: in memory, no disk, no lock, no clock."""

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from facesvc.gallery.admission import Admission
from facesvc.gallery.index import PeopleIndex
from facesvc.gallery.records import Audience, Candidate, Floats, Sample, Subject
from facesvc.gallery.saved_view import Part

Owners = NDArray[np.int64]


class Roster:
    """Subjects, and an index of their samples by row id. Not thread-safe; ``Views`` locks.

    The index knows a subject by a number, its owner, which is given to somebody else once the subject is gone.
    """

    def __init__(self, index: PeopleIndex) -> None:
        self.index = index
        self._admission = Admission()
        self._owners: dict[str, int] = {}
        self._subjects: dict[int, Subject] = {}
        self._samples: dict[int, dict[int, str]] = {}
        self._free: list[int] = []

    @property
    def subject_count(self) -> int:
        """How many people there are, with samples or without."""
        return len(self._owners)

    @property
    def sample_count(self) -> int:
        """How many samples a search compares with."""
        return len(self.index)

    @property
    def subject_ids(self) -> list[str]:
        """Everybody."""
        return list(self._owners)

    def put_subject(self, subject: Subject) -> None:
        """Adds a subject, or replaces what was known of it."""
        owner = self._owners.get(subject.subject_id)
        if owner is None:
            owner = self._free.pop() if self._free else len(self._owners)
            self._owners[subject.subject_id] = owner
            self._samples[owner] = {}
        self._subjects[owner] = subject
        self._admission.put(owner, subject)

    def subject(self, subject_id: str) -> Subject | None:
        """Somebody who is here."""
        owner = self._owners.get(subject_id)
        return None if owner is None else self._subjects[owner]

    def drop_subject(self, subject_id: str) -> None:
        """Removes a subject and its samples."""
        owner = self._owners.pop(subject_id)
        self.index.remove(np.array(list(self._samples.pop(owner)), np.int64))
        self._admission.drop(owner)
        del self._subjects[owner]
        self._free.append(owner)

    def add_samples(self, samples: Sequence[tuple[int, Sample]]) -> None:
        """Makes samples, with a vector, of subjects that are here visible to searches."""
        if not samples:
            return
        owners = self.own((row_id, sample.subject_id, sample.sample_id) for row_id, sample in samples)
        rows = np.array([row_id for row_id, _ in samples], np.int64)
        vectors = [sample.vector for _, sample in samples]
        self.index.add(rows, owners, np.stack(vectors))  # type: ignore[arg-type]  # the callers have looked: none is None

    def own(self, samples: Iterable[tuple[int, str, str]]) -> Owners:
        """Takes in whose samples some rows of the index are: row id, subject, sample. The owners, (N,) int64."""
        owners = []
        for row_id, subject_id, sample_id in samples:
            owner = self._owners[subject_id]
            self._samples[owner][row_id] = sample_id
            owners.append(owner)
        return np.array(owners, np.int64)

    def part(self, subject_id: str) -> Part | None:
        """What the index holds of a subject, to be saved; None where it is not here."""
        owner = self._owners.get(subject_id)
        if owner is None:
            return None
        taken = self.index.export(np.array(list(self._samples[owner]), np.int64))
        return Part(taken.ids, tuple(self._samples[owner][row_id] for row_id in taken.ids.tolist()), taken.codes)

    def drop_sample(self, subject_id: str, row_id: int) -> None:
        """Removes one sample; one that is not here is passed over."""
        self.index.remove(np.array([row_id], np.int64))
        self._samples[self._owners[subject_id]].pop(row_id, None)

    def search(self, vector: Floats, limit: int, audience: Audience) -> list[Candidate]:
        """The ``limit`` subjects of ``audience`` most similar to ``vector`` (D,), best first, ties by subject id."""
        mask = self._admission.mask(audience, self._owners.get(audience.but))
        found = [
            (hit.similarity, self._subjects[hit.owner], self._samples[hit.owner][hit.row])
            for hit in self.index.search(vector, limit, mask)
        ]
        found.sort(key=lambda one: (-one[0], one[1].subject_id))
        return [
            Candidate(subject.subject_id, subject.display_name, similarity, sample_id, subject.external_ids)
            for similarity, subject, sample_id in found[:limit]
        ]
