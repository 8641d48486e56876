"""Searches in both tiers, with more people than a coarse one looks into; what is added, and what is removed."""

import numpy as np
import pytest
from gallery import crowds
from gallery.crowds import OWNERS, PEOPLE, ROWS, SAMPLES, Crowd, Floats, first, ids, unit

from facesvc.gallery.index import PeopleIndex, coarse
from facesvc.gallery.index.coarse import Coarse
from facesvc.gallery.index.encodings import BYTES


@pytest.fixture
def crowd() -> Crowd:
    return crowds.crowd()


@pytest.fixture
def vectors() -> Floats:
    return crowds.vectors()


@pytest.fixture
def flat() -> PeopleIndex:
    return crowds.flat()


@pytest.fixture
def index() -> PeopleIndex:
    return crowds.coarse()


def test_whoever_is_first_by_exact_search_is_first(index: PeopleIndex, crowd: Crowd, vectors: Floats) -> None:
    people = np.arange(0, PEOPLE, 2)
    queries = crowd.samples(people)
    exact = OWNERS[(vectors @ queries.T).argmax(axis=0)]
    found = np.array([first(index, query) for query in queries])
    assert np.mean(exact == people) > 0.95
    assert np.mean((found == people)[exact == people]) >= 0.999
    assert np.mean(found == exact) > 0.99


def test_a_similarity_is_that_of_the_owners_best_row(index: PeopleIndex, vectors: Floats) -> None:
    for query in vectors[:200:7]:
        for hit in index.search(query, 5):
            similarities = vectors[hit.owner == OWNERS] @ query
            assert hit.similarity == pytest.approx(similarities.max(), abs=5e-3)
            assert OWNERS[hit.row] == hit.owner
            assert vectors[hit.row] @ query == pytest.approx(similarities.max(), abs=5e-3)


@pytest.mark.parametrize("tier", ["flat", "index"])
def test_a_filter_that_leaves_ten_finds_the_best_of_the_ten(
    tier: str, request: pytest.FixtureRequest, vectors: Floats
) -> None:
    index: PeopleIndex = request.getfixturevalue(tier)
    allowed = np.zeros(PEOPLE + 5, np.bool_)
    allowed[np.random.default_rng(2).choice(PEOPLE, 10, replace=False)] = True
    shown = allowed[OWNERS]
    for query in vectors[:300:10]:
        best = OWNERS[shown][(vectors[shown] @ query).argmax()]
        hits = index.search(query, 20, allowed)
        assert hits[0].owner == best
        assert sorted(hit.owner for hit in hits) == np.flatnonzero(allowed).tolist()


@pytest.mark.parametrize("share", [0.6, 0.95])
def test_a_filter_is_applied_before_anything_is_ranked(
    share: float, index: PeopleIndex, crowd: Crowd, vectors: Floats, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(coarse, "_FEW_OWNERS", 10)
    allowed = np.random.default_rng(3).random(PEOPLE) < share
    shown = np.flatnonzero(allowed[OWNERS])
    people = np.arange(0, PEOPLE, 5)
    queries = crowd.samples(people)
    exact = OWNERS[shown[(vectors[shown] @ queries.T).argmax(axis=0)]]
    found = np.array([first(index, query, allowed) for query in queries])
    assert allowed[found].all()
    known = allowed[people] & (exact == people)
    assert (found == exact)[known].all()
    assert np.mean(found == exact) > 0.9


def test_a_filter_that_hides_everybody_near_finds_those_far_away(
    index: PeopleIndex, vectors: Floats, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(coarse, "_FEW_OWNERS", 10)
    nearest = np.argsort(-np.maximum.reduceat(vectors @ vectors[0], np.arange(0, ROWS, SAMPLES)))
    allowed = np.zeros(PEOPLE, np.bool_)
    allowed[nearest[2000:]] = True
    found = first(index, vectors[0], allowed)
    assert found in nearest[2000:2010]


@pytest.mark.parametrize("tier", ["flat", "index"])
def test_what_is_added_is_found_at_once_and_what_is_removed_no_more(
    tier: str, request: pytest.FixtureRequest, crowd: Crowd
) -> None:
    index: PeopleIndex = request.getfixturevalue(tier)
    for turn in range(60):
        owner, rows = PEOPLE + turn % 50, np.arange(3) + 10**12 + 3 * turn
        samples = crowd.samples(np.full(3, owner))
        index.add(rows, np.full(3, owner), samples)
        for row, sample in zip(rows.tolist(), samples, strict=True):
            hit = index.search(sample, 1)[0]
            assert (hit.owner, hit.row) == (owner, row)
            assert hit.similarity == pytest.approx(1, abs=5e-3)
        index.remove(rows[:2])
        assert index.search(samples[0], 1)[0].row == rows[2]
        index.remove(rows)
        assert owner not in {hit.owner for hit in index.search(samples[0], 20)}
    assert len(index) == ROWS


@pytest.mark.parametrize(("tier", "cycles"), [("flat", 100_000), ("index", 20_000)])
def test_coming_and_going_takes_no_more_memory(
    tier: str, cycles: int, request: pytest.FixtureRequest, vectors: Floats
) -> None:
    index: PeopleIndex = request.getfixturevalue(tier)
    index.remove(np.arange(1000, ROWS))

    def size() -> int:
        columns = [index._tier.rows._codes, index._tier.rows._ids, index._tier.rows._owners]
        if isinstance(index._tier, Coarse):
            units = index._tier._units
            columns += [units._slots, units._owners, units._counts, units._next, units._newest, units._unit_of]
            assert len(index._tier._sketches._blocks) < 200
        return sum(len(column._memory) for column in columns)

    before = size()
    for turn in range(cycles // 500):
        rows = np.arange(500) + 500 * turn + ROWS
        index.add(rows, rows % 40, vectors[:500])
        index.remove(rows)
    assert size() <= before * 2
    assert index._tier.rows._places.size < 4000
    assert len(index) == 1000


@pytest.mark.parametrize("tier", ["flat", "index"])
def test_the_bytes_of_what_was_removed_are_overwritten(
    tier: str, request: pytest.FixtureRequest, vectors: Floats
) -> None:
    index: PeopleIndex = request.getfixturevalue(tier)
    rows = np.arange(0, ROWS, 3)
    needles = [codes[:40].tobytes() for codes in index.export(rows).codes[:200]]

    def found() -> int:
        memory = bytes(index._tier.rows._codes._memory)
        return sum(needle in memory for needle in needles)

    assert found() == 200
    index.remove(rows)
    assert found() == 0


def test_rows_that_cannot_be_added_are_a_mistake_of_the_caller() -> None:
    index = PeopleIndex(4)
    index.add(ids(5), ids(1), np.eye(4, dtype=np.float32)[:1])
    for rows, owners, count in ((ids(5), ids(1), 1), (ids(6), ids(-1), 1), (ids(6, 7), ids(1, 1), 1)):
        with pytest.raises(ValueError, match=r"held already|not within|is needed"):
            index.add(rows, owners, np.eye(4, dtype=np.float32)[:count])
    assert len(index) == 1


def test_nobody_is_found_where_nobody_is() -> None:
    index = PeopleIndex(4)
    query = np.eye(4, dtype=np.float32)[0]
    assert index.search(query, 3) == []
    index.add(ids(5), ids(1), query[None])
    assert index.search(query, 3, np.zeros(2, np.bool_)) == []
    index.remove(ids(5, 6))
    assert index.search(query, 3) == []
    empty = PeopleIndex.restore(4, index.trained())
    empty.add_codes(*index.export(ids(5)))
    assert empty.search(query, 3) == []


def test_a_coarse_one_can_become_empty_and_be_filled_again(index: PeopleIndex, vectors: Floats) -> None:
    index.remove(np.arange(ROWS))
    assert len(index) == 0
    assert index.search(vectors[0], 3) == []
    assert index.search(vectors[0], 3, np.ones(PEOPLE, np.bool_)) == []
    index.add(ids(1, 2), ids(7, 8), vectors[:2])
    assert first(index, vectors[1]) == 8


def test_somebody_with_many_samples_is_found_by_each(index: PeopleIndex, crowd: Crowd) -> None:
    looks = crowd.samples(np.full(60, PEOPLE))
    index.add(np.arange(60) + ROWS, np.full(60, PEOPLE), looks)
    assert [index.search(look, 1)[0].row - ROWS for look in looks] == list(range(60))


def test_bytes_are_off_by_little() -> None:
    vectors = unit(np.random.default_rng(9).standard_normal((4000, 512), np.float32))
    errors = (BYTES.decode(BYTES.encode(vectors)) - vectors) @ vectors[:200].T
    assert np.sqrt(np.mean(errors**2)) < 4e-4
    assert np.abs(errors).max() < 2.5e-3
