"""Error rates against brute force: every threshold is tried."""

import math
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from facesvc.vision import scores as module
from facesvc.vision.scores import (
    Tally,
    best_threshold,
    compare_all,
    cross_validate,
    operating_point,
    rank_one,
    tallied_point,
)

Floats = NDArray[np.float32]

# Few different values, so that ties are common, and neighbours among the float32 numbers.
values = st.one_of(
    st.sampled_from([-1.0, -0.5, 0.0, 0.25, 0.5, float(np.nextafter(np.float32(0.5), np.float32(1))), 1.0]),
    st.floats(-1, 1, width=32),
)
samples = st.lists(values, min_size=1, max_size=30).map(lambda drawn: np.array(drawn, np.float32))
labelled = st.lists(st.tuples(values, st.booleans()), min_size=1, max_size=30)


def right_verdicts(scores: Floats, same: NDArray[np.bool_], threshold: float) -> int:
    return int(np.sum((scores >= threshold) == same))


@given(samples, samples, st.floats(0, 1))
def test_the_share_of_impostors_is_kept_and_no_lower_threshold_keeps_it(
    genuine: Floats, impostor: Floats, fmr: float
) -> None:
    point = operating_point(genuine, impostor, fmr)
    assert point.fmr == fmr
    assert np.mean(impostor >= point.similarity) <= fmr + 1e-9
    assert point.tmr == np.mean(genuine >= point.similarity)
    lower = impostor[impostor < point.similarity]
    if len(lower):
        assert np.mean(impostor >= lower.max()) > fmr


@pytest.mark.parametrize("fmr", [0.07, 0.14, 0.28, 0.29, 0.56, 0.57, 0.58])
def test_a_rate_that_floats_miss_by_a_hair_is_not_made_stricter(fmr: float) -> None:
    impostor = np.arange(100, dtype=np.float32) / 100
    found = operating_point(impostor, impostor, fmr)
    assert np.sum(impostor >= found.similarity) == round(fmr * 100)


def test_rates_at_the_ends() -> None:
    impostor = np.array([-0.9, 0.1, 0.8], np.float32)
    assert operating_point(impostor, impostor, 1.0).tmr == 1
    assert operating_point(impostor, impostor, 1.0).similarity == -1
    none = operating_point(impostor, impostor, 0.0)
    assert (none.tmr, np.float32(none.similarity)) == (0, np.nextafter(np.float32(0.8), np.float32(1)))
    assert math.isnan(operating_point(np.empty(0, np.float32), impostor, 0.5).tmr)


@given(labelled)
def test_no_threshold_is_better(drawn: list[tuple[float, bool]]) -> None:
    scores, same = np.array([s for s, _ in drawn], np.float32), np.array([label for _, label in drawn])
    best = max(right_verdicts(scores, same, threshold) for threshold in (*scores.tolist(), 2.0))
    assert right_verdicts(scores, same, best_threshold(scores, same)) == best


def test_neighbours_among_the_numbers_are_parted() -> None:
    below = np.array([0.5, np.nextafter(np.float32(0.5), np.float32(1))], np.float32)
    for scores in (below, below + np.spacing(below)):
        assert np.array_equal(scores >= best_threshold(scores, np.array([False, True])), [False, True])


def test_the_threshold_is_halfway() -> None:
    scores, same = np.array([0.75, 0.25, 0.125, 1.0], np.float32), np.array([True, False, False, True])
    assert best_threshold(scores, same) == 0.5


@given(labelled, st.integers(2, 5))
def test_cross_validation_is_the_loop_over_folds(drawn: list[tuple[float, bool]], count: int) -> None:
    drawn = drawn * count
    scores, same = np.array([s for s, _ in drawn], np.float32), np.array([label for _, label in drawn])
    folds = np.arange(len(drawn)) % count
    accuracies = []
    for fold in range(count):
        inside, outside = folds == fold, folds != fold
        threshold = best_threshold(scores[outside], same[outside])
        accuracies.append(right_verdicts(scores[inside], same[inside], threshold) / inside.sum())
    mean = sum(accuracies) / count
    deviation = math.sqrt(sum((accuracy - mean) ** 2 for accuracy in accuracies) / (count - 1))
    result = cross_validate(scores, same, folds)
    assert (result.accuracy, result.deviation) == (pytest.approx(mean), pytest.approx(deviation, abs=1e-9))


def test_the_threshold_of_a_fold_does_not_come_from_it() -> None:
    scores = np.array([0.9, 0.1, 0.4, 0.2], np.float32)
    same = np.array([True, False, True, False])
    # Fold 1 parts at 0.3, which is right for fold 0; fold 0 parts at 0.5, which is wrong for the 0.4. A threshold from
    # all four would be right for all.
    assert right_verdicts(scores, same, best_threshold(scores, same)) == len(scores)
    assert cross_validate(scores, same, np.array([0, 0, 1, 1])).accuracy == (1 + 1 / 2) / 2


def test_one_fold_is_refused() -> None:
    with pytest.raises(ValueError, match="two folds"):
        cross_validate(np.zeros(3, np.float32), np.zeros(3, bool), np.zeros(3, np.int64))


@given(st.integers(0, 6), st.integers(1, 6), st.integers(0, 1 << 32))
def test_rank_one_is_the_nearest(probe_count: int, gallery_count: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    vectors = rng.normal(size=(probe_count + gallery_count, 4)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    names = [str(number) for number in rng.integers(0, 3, len(vectors))]
    gallery, probes = vectors[:gallery_count], vectors[gallery_count:]
    hits = []
    for vector, name in zip(probes, names[gallery_count:], strict=True):
        similarities = [sum(float(a) * float(b) for a, b in zip(vector, row, strict=True)) for row in gallery]
        hits.append(names[similarities.index(max(similarities))] == name)
    found = rank_one(gallery, names[:gallery_count], probes, names[gallery_count:])
    assert math.isnan(found) if not hits else found == pytest.approx(sum(hits) / len(hits))


def tally(scores: Floats) -> Tally:
    counted = Tally()
    counted.add(scores)
    return counted


@given(samples, samples, st.floats(0, 1))
@settings(deadline=None, max_examples=30)
def test_a_tally_gives_the_same_point_to_the_next_edge(genuine: Floats, impostor: Floats, fmr: float) -> None:
    exact, tallied = operating_point(genuine, impostor, fmr), tallied_point(tally(genuine), tally(impostor), fmr)
    assert np.mean(impostor >= tallied.similarity) <= fmr + 1e-9
    assert tallied.tmr == np.mean(genuine >= tallied.similarity)
    assert -1e-7 <= tallied.similarity - exact.similarity <= 2**-20 + 1e-7


def test_what_rounding_took_beyond_the_end_counts_as_the_end() -> None:
    counted = tally(np.array([1.0000001, 1.0, -1.0000001], np.float32))
    assert counted.total == 3
    assert counted.lowest_edge(2) == -1 + 2**-20
    assert counted.lowest_edge(1) > 1  # no threshold parts two that are the same
    assert tallied_point(tally(np.ones(1, np.float32)), counted, 0.5).tmr == 0


def test_an_empty_tally() -> None:
    assert Tally().total == 0
    assert Tally().lowest_edge(0) == -1
    assert math.isnan(Tally().share_reaching(0.5))


@pytest.mark.parametrize("block", [1, 7, *(pytest.param(block, marks=pytest.mark.slow) for block in (40, 1 << 21))])
def test_every_template_meets_every_probe_but_its_own(block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_BLOCK_SCORES", block)
    rng = np.random.default_rng(3)
    vectors = rng.normal(size=(2, 13, 8)).astype(np.float32)
    templates, probes = vectors / np.linalg.norm(vectors, axis=2, keepdims=True)
    people = np.array([0, 0, 0, 1, 1, 2, 3, 3, 3, 3, 4, 5, 0])
    pairs = [(i, j) for i in range(13) for j in range(13) if i != j]
    found = [
        [float(templates[i] @ probes[j]) for i, j in pairs if (people[i] == people[j]) == same]
        for same in (True, False)
    ]
    for counted, scores in zip(compare_all(templates, probes, people), found, strict=True):
        assert counted.total == len(scores)
        edges = [counted.lowest_edge(allowed) for allowed in range(len(scores))]
        # The edge that lets n pass lies just above the next score.
        assert edges == pytest.approx(sorted(scores, reverse=True), abs=1e-6 + 1e-7)


def test_blocks_are_bounded() -> None:
    people = np.arange(3000)
    vectors = np.ones((3000, 1), np.float32)
    tracemalloc.start()
    try:
        genuine, impostor = compare_all(vectors, vectors, people)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert (genuine.total, impostor.total) == (0, 3000 * 2999)
    # Two tallies of 16 MB and a block with its bins; all scores at once, with theirs, would be 9e6 * (4 + 8 + 4 + 2).
    assert peak < 120e6
