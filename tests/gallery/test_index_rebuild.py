"""The change from one tier to another, beside the one that answers."""

import threading
from contextlib import nullcontext

import numpy as np
import pytest
from gallery import crowds
from gallery.crowds import (
    DIMENSION,
    OWNERS,
    PEOPLE,
    ROWS,
    Crowd,
    Floats,
    first,
    ids,
    settle,
    tier_of,
)

from facesvc.gallery.index import PeopleIndex, measure
from facesvc.gallery.index.coarse import Coarse
from facesvc.gallery.index.sketches import Calibration


@pytest.fixture(autouse=True)
def few_probes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measure, "_PROBES", 300)


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


def test_it_becomes_coarse_and_flat_again_with_some_play(flat: PeopleIndex) -> None:
    settle(flat)
    assert flat.tier == "coarse"
    flat.remove(np.arange(3000, ROWS))
    assert not flat.wants_rebuild
    flat.remove(ids(0))
    settle(flat)
    assert flat.tier == "flat"
    assert len(flat) == 2999


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


@pytest.mark.slow
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


def test_a_rebuild_of_which_nearly_all_was_removed_comes_to_nothing(flat: PeopleIndex, vectors: Floats) -> None:
    rebuild = flat.begin_rebuild()
    flat.remove(np.arange(ROWS))
    rebuild.run(nullcontext())
    flat.add(np.arange(ROWS), OWNERS, vectors)
    while not rebuild.finish():
        rebuild.run(nullcontext())
    assert flat.tier == "flat"
    assert flat.wants_rebuild
    settle(flat)
    assert flat.tier == "coarse"
    assert [first(flat, vector) for vector in vectors[:20]] == OWNERS[:20].tolist()
