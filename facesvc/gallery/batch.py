"""Samples on their way into the gallery, several in one transaction, each judged on its own."""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime

import numpy as np

from facesvc.errors import FacesvcError, InputError, NotFoundError, PreconditionError
from facesvc.gallery.records import Audience, Candidate, Floats, Sample, Subject
from facesvc.gallery.store import Store
from facesvc.gallery.views import Views


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


class Batch:
    """One transaction; ``added`` and ``created`` are what a search has to learn once it is committed.

    ``follow_to`` takes over what other boxes have changed up to a change, into ``views``.
    """

    def __init__(
        self,
        store: Store,
        views: Views,
        conflict_similarity: float | None,
        now: datetime,
        follow_to: Callable[[int], None],
    ) -> None:
        self.added: list[tuple[int, Sample]] = []
        self.created: list[Subject] = []
        self._store = store
        self._views = views
        self._conflict_similarity = conflict_similarity
        self._now = now
        self._follow_to = follow_to

    def add(
        self,
        samples: Sequence[Sample],
        crops: Mapping[str, bytes],
        create: Mapping[tuple[str, str], Subject],
    ) -> list[Sample | FacesvcError]:
        """For each sample, it or why it was refused; see ``Gallery.add_samples``."""
        outcomes: list[Sample | FacesvcError] = []
        self._vectors = np.empty((len(samples), self._store.contracts.current.dimension), np.float32)
        with self._store.creating(create):
            if self._store.shared:
                self._begin_among_others()
            for sample in samples:
                try:
                    self._add_one(sample, crops.get(sample.sample_id), create)
                    outcomes.append(sample)
                except (InputError, PreconditionError) as error:
                    outcomes.append(error)
        return outcomes

    def _begin_among_others(self) -> None:
        """From here on no other box changes anything: two cannot enrol one face as two people at the same moment."""
        change = self._store.next_change()
        self._store.contracts.check_current()
        if self._conflict_similarity is not None:
            self._follow_to(change - 1)

    def _add_one(self, sample: Sample, crop: bytes | None, create: Mapping[tuple[str, str], Subject]) -> None:
        vector = sample.checked_vector(self._store.contracts.current)
        subject, is_new = self._subject(sample, create)
        if subject.consent_expired(self._now):
            message = f"the consent of subject {subject.subject_id} has run out; renew it before adding samples"
            raise PreconditionError(message, reason="CONSENT_EXPIRED")
        if self._conflict_similarity is not None:
            self._refuse_conflict(subject, vector, self._conflict_similarity)
        if is_new:
            self.created.append(self._store.add_subject(subject))
        row_id = self._store.add_sample(sample, crop)
        self._vectors[len(self.added)] = vector
        self.added.append((row_id, sample))

    def _subject(self, sample: Sample, create: Mapping[tuple[str, str], Subject]) -> tuple[Subject, bool]:
        """Whose sample it is, and whether that one has to be made known."""
        key = (sample.collection_id, sample.subject_id)
        try:
            return self._store.get_subject(*key), False
        except NotFoundError:
            if key not in create:
                raise
            return create[key], True

    def _refuse_conflict(self, subject: Subject, vector: Floats, conflict_similarity: float) -> None:
        contract_id = self._store.contracts.current.contract_id
        others = Audience(but=subject.subject_id)
        [found] = self._views.search(contract_id, subject.collection_id, vector[None], 1, others)
        for other in (*found, *self._among_added(subject, vector)):
            if other.similarity >= conflict_similarity:
                raise IdentityConflictError(other.subject_id, other.similarity)

    def _among_added(self, subject: Subject, vector: Floats) -> list[Candidate]:
        """The others of this batch, whom no search knows yet."""
        likenesses = self._vectors[: len(self.added)] @ vector
        return [
            Candidate(one.subject_id, "", float(likeness), one.sample_id, {})
            for (_, one), likeness in zip(self.added, likenesses, strict=True)
            if one.collection_id == subject.collection_id and one.subject_id != subject.subject_id
        ]
