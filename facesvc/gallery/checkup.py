"""What is doubtful in a gallery: who could be taken for somebody else, or not be recognised at all.

=============  ====================================================  ==================================================
kind           when                                                  why
=============  ====================================================  ==================================================
same image     two people have the same picture                      it cannot show both
unlike others  a sample whose best similarity to the person's        98 % of wrong samples are found so among two, 94 %
               others is below that of 1 in 100 pairs of strangers   among five; of right ones 0.5 and 0.06 % are named
alike          two people whose likest samples are as similar as     enrolment refuses such samples; who was enrolled
               strangers are at the rate of enrolment's conflicts    all the same may be the same, or be mixed up
no sample      nothing that a search could find the person by        nobody notices until it matters
poor sample    one sample, of a quality below 0.6                    0.89 of looks match such a sample at a false-match
                                                                     rate of 1e-3, 0.94 match a good one
=============  ====================================================  ==================================================

The figures are of the default pack on 1,371 photos of 197 people of LFW. Samples that hang together count as one: four
pictures, two of each of two people, are two that are unlike the others. A quality of 0 is that of an imported encoding:
unknown, not poor. The kinds come in the order of the table, of each kind the worst comes first.

No database, no clock: what is needed is passed in.
"""

import enum
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice

import numpy as np

from facesvc.errors import PreconditionError
from facesvc.gallery import checkup_words as words
from facesvc.gallery.likeness import Group, Pair, Proceed, Templates, pair_keys
from facesvc.gallery.records import Sample

UNLIKE_FALSE_MATCH_RATE = 1e-2
"""The rate at which strangers are as alike as a sample must be with another of its person's."""
POOR_QUALITY = 0.6
MAX_SAMPLES = 200_000
"""So many are compared pair by pair; at 512 values that takes two cores a few minutes."""

_MAX_NAMED = 100  # samples of one finding

FalseMatchRate = Callable[[float], float]
"""How often two different people are so much alike, or more."""


class Kind(enum.Enum):
    """What kind of doubt; the words are those of the API."""

    SAME_IMAGE = "SAME_IMAGE"
    UNLIKE_OTHERS = "UNLIKE_OTHERS"
    ALIKE = "ALIKE"
    NO_SAMPLE = "NO_SAMPLE"
    POOR_SAMPLE = "POOR_SAMPLE"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """A doubt: about whom, because of which samples, how sure it is, and what to do."""

    kind: Kind
    message: str
    subject_id: str
    other_subject_id: str = ""
    sample_ids: tuple[str, ...] = ()
    similarity: float = 0.0
    false_match_rate: float = 0.0


@dataclass(frozen=True, slots=True)
class Bounds:
    """From which similarity on two people are ``alike``, below which a sample is ``unlike`` its person's others."""

    alike: float
    unlike: float


def check(
    subject_ids: Iterable[str],
    samples: Iterable[Sample],
    bounds: Bounds,
    false_match_rate: FalseMatchRate,
    max_findings: int,
    proceed: Proceed = lambda: None,
) -> list[Finding]:
    """The doubts about the people of a collection, the worst first, ``max_findings`` at most.

    :param samples: theirs, in any order of the people, each one's oldest first.

    Raises ``PreconditionError`` (``GALLERY_TOO_LARGE``) for more than ``MAX_SAMPLES``.
    """
    collection = _Collection(list(subject_ids))
    for sample in samples:
        proceed()
        collection.add(sample)
    checkup = _Checkup(collection, bounds, false_match_rate, max_findings, proceed)
    return list(islice(checkup.findings(), max_findings))


@dataclass(frozen=True, slots=True)
class _Shared:
    """A picture that two people have, and their samples of it."""

    people: tuple[str, str]
    sample_ids: tuple[str, str]


class _Collection:
    """What is looked at. People are numbered in the order of coming; a sample with a vector is a row."""

    def __init__(self, subject_ids: list[str]) -> None:
        self._numbers = {subject_id: number for number, subject_id in enumerate(subject_ids)}
        self._pictures: dict[bytes, tuple[str, str]] = {}
        self.people = subject_ids
        self.sample_counts: Counter[str] = Counter()
        self.shared: list[_Shared] = []
        self.templates = Templates()
        self.sample_ids: list[str] = []
        self.qualities: list[float] = []

    def add(self, sample: Sample) -> None:
        """Takes in a sample; of one without a vector only the picture."""
        who, which = sample.subject_id, sample.sample_id
        self.sample_counts[who] += 1
        other, others = self._pictures.setdefault(sample.image_sha256, (who, which))
        if other != who:
            first, second = sorted(((other, others), (who, which)))
            self.shared.append(_Shared((first[0], second[0]), (first[1], second[1])))
        if sample.vector is None:
            return
        if len(self.sample_ids) == MAX_SAMPLES:
            message = f"there are over {MAX_SAMPLES:,} samples, more than can be compared pair by pair"
            raise PreconditionError(message, reason="GALLERY_TOO_LARGE")
        self.templates.add(sample.vector, self.number(who))
        self.sample_ids.append(which)
        self.qualities.append(sample.quality)

    def number(self, subject_id: str) -> int:
        """Of somebody; also who was made known while all this was read."""
        if subject_id not in self._numbers:
            self._numbers[subject_id] = len(self.people)
            self.people.append(subject_id)
        return self._numbers[subject_id]

    def owner(self, row: int) -> str:
        """Whose a row is."""
        return self.people[self.templates.owners[row]]


@dataclass(frozen=True, slots=True)
class _Checkup:
    """The doubts about a collection, kind by kind."""

    collection: _Collection
    bounds: Bounds
    false_match_rate: FalseMatchRate
    max_findings: int
    proceed: Proceed

    def findings(self) -> Iterator[Finding]:
        """In order; whoever has enough asks for no more."""
        yield from self._same_image()
        yield from self._unlike_others()
        yield from self._alike()
        yield from self._without_good_sample()

    def _same_image(self) -> Iterator[Finding]:
        for one in sorted(self.collection.shared, key=lambda one: one.people):
            yield Finding(
                kind=Kind.SAME_IMAGE,
                message=words.same_image(*one.people),
                subject_id=one.people[0],
                other_subject_id=one.people[1],
                sample_ids=one.sample_ids,
                similarity=1.0,
                false_match_rate=self.false_match_rate(1.0),
            )

    def _unlike_others(self) -> Iterator[Finding]:
        templates = self.collection.templates
        odd = sorted(templates.odd_groups(self.bounds.unlike, self.proceed), key=lambda group: group.similarity)
        odd = odd[: self.max_findings]
        firsts = np.array([group.rows[0] for group in odd], np.int64)
        for group, nearest in zip(odd, templates.nearest_others(firsts, self.proceed), strict=True):
            yield self._unlike(group, nearest)

    def _unlike(self, group: Group, nearest: Pair | None) -> Finding:
        who, rate = self.collection.owner(group.rows[0]), self.false_match_rate(group.similarity)
        message = words.unlike_others(who, len(group.rows), len(group.others), group.similarity, rate)
        other = ""
        if nearest is not None and nearest.similarity >= self.bounds.alike:
            other = self.collection.owner(nearest.second)
            message += words.rather(who, self.collection.sample_ids[group.rows[0]], other, nearest.similarity)
        # Of two halves nobody knows which is the wrong one.
        rows = group.rows + group.others if len(group.rows) == len(group.others) else group.rows
        return Finding(
            kind=Kind.UNLIKE_OTHERS,
            message=message,
            subject_id=who,
            other_subject_id=other,
            sample_ids=tuple(self.collection.sample_ids[row] for row in rows[:_MAX_NAMED]),
            similarity=group.similarity,
            false_match_rate=rate,
        )

    def _alike(self) -> Iterator[Finding]:
        templates = self.collection.templates
        shared = np.array([[self.collection.number(one) for one in pair.people] for pair in self.collection.shared])
        # Who has the same picture looks alike for that reason, and was named for it.
        but = pair_keys(*shared.T.astype(np.int64)) if len(shared) else np.empty(0, np.int64)
        pairs = _pairs_of_two(templates.owners)
        for pair in templates.alike(self.bounds.alike, self.max_findings, but, self.proceed):
            first, second = sorted((pair.first, pair.second), key=self.collection.owner)
            people, similarity = (
                (self.collection.owner(first), self.collection.owner(second)),
                min(pair.similarity, 1.0),
            )
            rate = self.false_match_rate(similarity)
            yield Finding(
                kind=Kind.ALIKE,
                message=words.alike(*people, similarity, rate, pairs),
                subject_id=people[0],
                other_subject_id=people[1],
                sample_ids=(self.collection.sample_ids[first], self.collection.sample_ids[second]),
                similarity=similarity,
                false_match_rate=rate,
            )

    def _without_good_sample(self) -> Iterator[Finding]:
        collection = self.collection
        rows = Counter(collection.templates.owners)
        for number, who in enumerate(collection.people):
            if not rows[number]:
                message = words.no_sample(who, collection.sample_counts[who])
                yield Finding(kind=Kind.NO_SAMPLE, message=message, subject_id=who)
        poor = [
            (quality, row)
            for row, quality in enumerate(collection.qualities)
            if 0 < quality < POOR_QUALITY and rows[collection.templates.owners[row]] == 1
        ]
        for quality, row in sorted(poor):
            who = collection.owner(row)
            message, sample_ids = words.poor_sample(who, quality), (collection.sample_ids[row],)
            yield Finding(kind=Kind.POOR_SAMPLE, message=message, subject_id=who, sample_ids=sample_ids)


def _pairs_of_two(owners: Iterable[int]) -> int:
    """How many pairs of rows are of two owners."""
    counts = Counter(owners)
    return (counts.total() ** 2 - sum(count * count for count in counts.values())) // 2
