"""A search against the obvious way to do it: compare with everything, sort, cut off."""

import itertools
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from facesvc.gallery import Sample, Subject
from facesvc.gallery.index import PeopleIndex
from facesvc.gallery.records import Audience, SubjectFilter
from facesvc.gallery.roster import Roster

# Few directions, so that draws are full of ties, whose similarities are exact in float32.
DIRECTIONS = [sign * axis for axis in np.eye(4, dtype=np.float32) for sign in (1, -1)]


Build = Callable[[list[tuple[str, NDArray[np.float32]]]], tuple[Roster, list[Sample]]]


class Answer(NamedTuple):
    subject_id: str
    similarity: float
    sample_id: str


def brute_force(samples: list[Sample], query: NDArray[np.float32], limit: int, hidden: set[str]) -> list[Answer]:
    best: dict[str, Answer] = {}
    for sample in samples:  # in the order of their row ids: of the equally good ones of somebody the first counts
        assert sample.vector is not None
        vector = sample.vector.astype(np.float16).astype(np.float32)  # as the index holds it
        answer = Answer(sample.subject_id, float(np.clip(vector @ query, -1, 1)), sample.sample_id)
        known = best.get(sample.subject_id, answer)
        best[sample.subject_id] = max(known, answer, key=lambda a: a.similarity)
    shown = [answer for subject_id, answer in best.items() if subject_id not in hidden]
    return sorted(shown, key=lambda answer: (-answer.similarity, answer.subject_id))[:limit]


def search(roster: Roster, query: NDArray[np.float32], limit: int, hidden: set[str]) -> list[Answer]:
    shown = tuple(sorted({f"p{number}" for number in range(12)} - hidden))
    found = roster.search(query, limit, Audience(filters=(SubjectFilter("me", shown or ("nobody",)),)))
    return [Answer(candidate.subject_id, candidate.similarity, candidate.sample_id) for candidate in found]


@pytest.fixture(scope="module")
def subject_ids() -> list[str]:
    return [f"p{number}" for number in range(12)]


@pytest.fixture
def build(make_subject: Callable[..., Subject], make_sample: Callable[..., Sample]) -> Build:
    """A roster of (subject id, vector) pairs, and the samples that went into it."""

    def build(owned: list[tuple[str, NDArray[np.float32]]]) -> tuple[Roster, list[Sample]]:
        roster = Roster(PeopleIndex(len(owned[0][1]) if owned else 4))
        samples = [make_sample(subject_id, vector=vector) for subject_id, vector in owned]
        for row_id, sample in enumerate(samples, start=1):
            roster.put_subject(make_subject(sample.subject_id, metadata={"me": sample.subject_id}))
            roster.add_samples([(row_id, sample)])
        return roster, samples

    return build


def test_exact_with_ties_everywhere(build: Build, subject_ids: list[str]) -> None:
    # A few people own most samples, so that the first fetch seldom settles it.
    owners = st.one_of(st.sampled_from(subject_ids[:2]), st.sampled_from(subject_ids))
    people = st.lists(st.tuples(owners, st.sampled_from(DIRECTIONS)), max_size=200)

    @settings(max_examples=60, deadline=None)
    @given(people, st.sampled_from(DIRECTIONS), st.integers(1, 14), st.sets(st.sampled_from(subject_ids)))
    def check(
        owned: list[tuple[str, NDArray[np.float32]]], query: NDArray[np.float32], limit: int, hidden: set[str]
    ) -> None:
        roster, samples = build(owned)
        assert search(roster, query, limit, hidden) == brute_force(samples, query, limit, hidden)

    check()


@pytest.mark.parametrize("seed", range(3))
def test_exact_on_random_galleries(build: Build, subject_ids: list[str], seed: int) -> None:
    vectors = np.random.default_rng(seed).normal(size=(400, 64))
    vectors[:300] = vectors[0] + 0.02 * vectors[:300]  # the first person has most samples, all close together
    vectors = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
    owners = [subject_ids[0]] * 300 + [subject_ids[number % 12] for number in range(100)]
    roster, samples = build(list(zip(owners, vectors, strict=True)))
    hidden_sets: tuple[set[str], ...] = (set(), {subject_ids[0]}, {subject_ids[0], subject_ids[7]})
    for query, limit, hidden in itertools.product((vectors[0], vectors[350], -vectors[0]), (1, 3, 12), hidden_sets):
        found, wanted = search(roster, query, limit, hidden), brute_force(samples, query, limit, hidden)
        assert [(a.subject_id, a.sample_id) for a in found] == [(a.subject_id, a.sample_id) for a in wanted]
        assert [a.similarity for a in found] == pytest.approx([a.similarity for a in wanted], abs=1e-6)
