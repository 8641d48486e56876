"""Tiers, and the change between them, with more people than a coarse search looks into."""

import threading
from contextlib import nullcontext

import numpy as np
import pytest
from gallery.crowds import Crowd, Floats, Ids, unit

from facesvc.errors import InputError
from facesvc.gallery.index import MAX_OWNERS, Bounds, PeopleIndex, Taken, coarse, measure
from facesvc.gallery.index.coarse import Coarse
from facesvc.gallery.index.encodings import BYTES
from facesvc.gallery.index.sketches import Calibration

PEOPLE, SAMPLES, DIMENSION = 2500, 3, 264
ROWS = PEOPLE * SAMPLES
OWNERS = np.repeat(np.arange(PEOPLE), SAMPLES)
BOUNDS = Bounds(coarse_from=5000, flat_below=3000)


@pytest.fixture(autouse=True)
def few_probes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measure, "_PROBES", 300)


@pytest.fixture(scope="module")
def crowd() -> Crowd:
    return Crowd(PEOPLE + 50, DIMENSION)


@pytest.fixture(scope="module")
def vectors(crowd: Crowd) -> Floats:
    return crowd.samples(OWNERS)


@pytest.fixture
def flat(vectors: Floats) -> PeopleIndex:
    index = PeopleIndex(DIMENSION, BOUNDS)
    index.add(np.arange(ROWS), OWNERS, vectors)
    return index


@pytest.fixture(scope="module")
def saved(vectors: Floats) -> tuple[bytes, Taken]:
    """One that has become coarse, and looks into 64 of its 2500 units."""
    index = PeopleIndex(DIMENSION, BOUNDS)
    index.add(np.arange(ROWS), OWNERS, vectors)
    settle(index)
    assert index.tier == "coarse"
    tier_of(index).depth = 64
    return index.trained(), index.export(index.rows)


@pytest.fixture
def index(saved: tuple[bytes, Taken]) -> PeopleIndex:
    trained, rows = saved
    index = PeopleIndex.restore(DIMENSION, trained, BOUNDS)
    index.add_codes(*rows)
    return index


def settle(index: PeopleIndex) -> None:
    assert index.wants_rebuild
    rebuild = index.begin_rebuild()
    rebuild.run(nullcontext())
    assert rebuild.finish()
    assert not index.wants_rebuild


def tier_of(index: PeopleIndex) -> Coarse:
    assert isinstance(index._tier, Coarse)
    return index._tier


def first(index: PeopleIndex, vector: Floats, allowed: Ids | None = None) -> int:
    return index.search(vector, 1, allowed)[0].owner


def ids(*values: int) -> Ids:
    return np.array(values, np.int64)


def test_it_becomes_coarse_and_flat_again_with_some_play(flat: PeopleIndex) -> None:
    settle(flat)
    assert flat.tier == "coarse"
    flat.remove(np.arange(3000, ROWS))
    assert not flat.wants_rebuild
    flat.remove(ids(0))
    settle(flat)
    assert flat.tier == "flat"
    assert len(flat) == 2999


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


def test_until_a_rebuild_has_finished_the_old_tier_answers_and_nothing_is_lost(
    flat: PeopleIndex, crowd: Crowd, vectors: Floats, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(measure, "_PROBES", 20)
    lock, generator = threading.Lock(), np.random.default_rng(4)
    model = dict(zip(range(ROWS), OWNERS.tolist(), strict=True))
    rebuild = flat.begin_rebuild()
    worker = threading.Thread(target=lambda: rebuild.run(lock))
    worker.start()
    row = ROWS
    while worker.is_alive() or row < ROWS + 300:
        owners = generator.integers(PEOPLE + 50, size=3)
        samples = crowd.samples(owners)
        gone = generator.integers(row, size=2)
        with lock:
            flat.add(np.arange(row, row + 3), owners, samples)
            flat.remove(gone)
            assert flat.tier == "flat"
            assert first(flat, samples[0]) == owners[0]
        model.update(zip(range(row, row + 3), owners.tolist(), strict=True))
        for each in gone.tolist():
            model.pop(each, None)
        row += 3
    worker.join()
    while not rebuild.finish():
        rebuild.run(lock)
    assert flat.tier == "coarse"
    taken = flat.export(flat.rows)
    assert dict(zip(taken.ids.tolist(), taken.owners.tolist(), strict=True)) == model
    old = [known for known in model if known < ROWS]
    for known in old[::50]:
        assert flat.search(vectors[known], 1)[0].row == known


def test_a_rebuild_that_has_fallen_behind_says_so(flat: PeopleIndex, vectors: Floats) -> None:
    rebuild = flat.begin_rebuild()
    assert not rebuild.finish()
    rebuild.run(nullcontext())
    flat.remove(np.arange(600))
    assert not rebuild.finish()
    assert flat.tier == "flat"
    rebuild.run(nullcontext())
    flat.add(np.arange(300), OWNERS[:300], vectors[:300])
    assert rebuild.finish()
    assert flat.tier == "coarse"
    assert sorted(flat.rows.tolist()) == [*range(300), *range(600, ROWS)]


def test_a_rebuild_that_was_abandoned_changes_nothing(flat: PeopleIndex) -> None:
    abandoned = flat.begin_rebuild()
    rebuild = flat.begin_rebuild()
    for each in (abandoned, rebuild):
        each.run(nullcontext())
    assert abandoned.finish()
    assert flat.tier == "flat"
    flat.abandon_rebuild()
    assert rebuild.finish()
    assert flat.tier == "flat"


def test_sketches_that_do_not_find_enough_are_refused_until_there_are_twice_as_many(
    flat: PeopleIndex, crowd: Crowd, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(measure, "BAR", 1.1)
    settle(flat)
    assert flat.tier == "flat"
    flat.remove(np.arange(1))
    more = np.arange(ROWS, 2 * ROWS)
    flat.add(more, OWNERS, crowd.samples(OWNERS))
    assert not flat.wants_rebuild
    flat.add(ids(0), ids(0), crowd.samples(ids(0)))
    monkeypatch.undo()
    settle(flat)
    assert flat.tier == "coarse"


def test_sketches_that_have_become_bad_are_made_anew(index: PeopleIndex, vectors: Floats) -> None:
    off = Calibration(np.full(DIMENSION, 3.0, np.float32), np.full(DIMENSION, 0.01, np.float32))
    bad = Coarse(DIMENSION, off)
    bad.add(*index.export(index.rows))
    index._tier = bad
    assert measure.measure(bad, nullcontext()).depth != 256
    index._measured_rows = len(index) // 2
    settle(index)
    assert index._tier is not bad
    assert not bad._sketches._blocks.any()
    assert tier_of(index).depth == 256
    assert [first(index, vector) for vector in vectors[:90]] == OWNERS[:90].tolist()


def test_good_sketches_are_measured_again_and_kept(index: PeopleIndex) -> None:
    tier, rows = index._tier, index.export(np.arange(ROWS))
    index._measured_rows = len(index) // 2
    settle(index)
    assert index._tier is tier
    assert tier_of(index).depth == 256
    for before, after in zip(rows, index.export(np.arange(ROWS)), strict=True):
        np.testing.assert_array_equal(before, after)


def test_what_is_measured_is_whether_a_new_sample_is_found(index: PeopleIndex) -> None:
    measured = measure.measure(tier_of(index), nullcontext())
    assert measured.probes == 300
    assert measured.recall is not None
    assert measured.recall >= 0.999
    index.remove(np.arange(ROWS)[np.arange(ROWS) % 3 > 0])  # one sample each: nobody could be found by another
    assert measure.measure(tier_of(index), nullcontext()) == measure.Measured(0, 256, None)


@pytest.mark.parametrize("tier", ["flat", "index"])
def test_a_saved_index_answers_as_before(tier: str, request: pytest.FixtureRequest, vectors: Floats) -> None:
    index: PeopleIndex = request.getfixturevalue(tier)
    if tier == "index":
        tier_of(index).depth = 1024
    restored = PeopleIndex.restore(DIMENSION, index.trained(), BOUNDS)
    for part in np.array_split(index.rows, 5):
        restored.add_codes(*index.export(part))
    assert restored.tier == index.tier
    assert restored.wants_rebuild == index.wants_rebuild
    for query in vectors[:100:3]:
        assert restored.search(query, 3) == index.search(query, 3)


def test_what_is_saved_besides_the_rows_is_of_nobody(index: PeopleIndex) -> None:
    assert len(index.trained()) < 10 * DIMENSION


DAMAGE = {
    "rows are float64": lambda rows, owners, codes: (rows * 1.0, owners, codes),
    "with 2 axes": lambda rows, owners, codes: (rows[None], owners, codes),
    "owners are int32": lambda rows, owners, codes: (rows, owners.astype(np.int32), codes),
    "3 rows and 2 owners": lambda rows, owners, codes: (rows, owners[:2], codes),
    "an owner is not within": lambda rows, owners, codes: (rows, owners - 2, codes),
    "owner is not within": lambda rows, owners, codes: (rows, owners + MAX_OWNERS, codes),
    "comes twice": lambda rows, owners, codes: (rows * 0, owners, codes),
    "held already": lambda rows, owners, codes: (rows - 3, owners, codes),
    "codes are int8": lambda rows, owners, codes: (rows, owners, codes.view(np.int8)),
    "is needed in the": lambda rows, owners, codes: (rows, owners, codes[:, 1:]),
    "uint8 .3, ": lambda rows, owners, codes: (rows, owners, codes[:2]),
    "no vector of unit length": lambda rows, owners, codes: (rows, owners, codes * 0),
    "of unit length": lambda rows, owners, codes: (rows, owners, codes * 0 + 255),
}


@pytest.mark.parametrize("what", DAMAGE)
@pytest.mark.parametrize("tier", ["flat", "coarse"])
def test_saved_rows_that_cannot_be_right_are_refused(
    what: str, tier: str, saved: tuple[bytes, Taken], vectors: Floats
) -> None:
    trained = saved[0] if tier == "coarse" else PeopleIndex(DIMENSION).trained()
    index, restored = (PeopleIndex.restore(DIMENSION, trained) for _ in range(2))
    index.add(np.arange(6), OWNERS[:6], vectors[:6])
    assert index.tier == tier
    restored.add_codes(*index.export(np.arange(3)))
    with pytest.raises(InputError, match=what):
        restored.add_codes(*DAMAGE[what](*index.export(np.arange(3, 6))))
    assert len(restored) == 3
    restored.add_codes(*index.export(np.arange(3, 6)))
    assert len(restored) == 6


def test_a_damaged_header_is_refused(index: PeopleIndex) -> None:
    trained = index.trained()
    for damaged, what in {
        b"": "no version",
        b"x" + trained[1:]: "no version",
        trained[:20]: "no version",
        trained[:-1]: "calibration has",
        trained[:12] + b"\xff\xff" + trained[14:]: "header",
        trained[:12] + b"\x00\x00" + trained[14:]: "header",
    }.items():
        with pytest.raises(InputError, match=what):
            PeopleIndex.restore(DIMENSION, damaged)
    with pytest.raises(InputError, match="264 values"):
        PeopleIndex.restore(DIMENSION + 1, trained)


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
