"""The rules of ``facesvc evaluate``: who counts as missed, how far a calibration reaches, what the curve shows."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from facesvc.cli import evaluation, evaluation_plot, lfw
from facesvc.cli.evaluation import NOT_COMPARED, Look, Scores
from facesvc.cli.lfw import Pair, Person, Photo, Protocol
from facesvc.errors import InputError


def test_operating_points_lie_on_the_curve() -> None:
    random = np.random.default_rng(1)
    scores = Scores(random.normal(0.9, 0.05, 500).astype(np.float32), random.normal(0.7, 0.05, 2000).astype(np.float32))
    false, true = evaluation_plot.roc(scores)
    for point in scores.points((0.1, 0.01, 0.001)):
        at = int(np.argmin(np.abs(false - point.fmr)))
        assert false[at] == pytest.approx(point.fmr)
        assert true[at] == pytest.approx(point.tmr)


def test_the_curve_where_scores_are_equal() -> None:
    scores = Scores(np.array([0.5, 0.9], np.float32), np.array([0.1, 0.5, 0.9], np.float32))
    false, true = evaluation_plot.roc(scores)
    assert false == pytest.approx([1 / 3, 2 / 3])
    assert true == pytest.approx([0.5, 1.0])


def looking(angle: float | None, *, template: bool = False) -> Look:
    """A vector at ``angle`` degrees in the plane; None for a missed face."""
    if angle is None:
        return Look(None, None)
    vector = np.array([np.cos(np.radians(angle)), np.sin(np.radians(angle))], np.float32)
    return Look(vector, vector if template else None)


def photos(name: str) -> Iterator[Photo]:
    return (Photo(name, number) for number in range(1, 9))


def test_a_missed_pair_is_wrong_whichever_kind_it_is() -> None:
    (a1, a2, *_), (b1, b2, *_) = photos("A"), photos("B")
    pairs = tuple(Pair(fold, *two) for fold in (0, 1) for two in ((a1, a2), (b1, b2), (a1, b1), (a2, b2)))
    seen = {a1: looking(0), a2: looking(5), b1: looking(90), b2: looking(95)}
    assert evaluation.verify(pairs, seen).accuracy == 1
    result = evaluation.verify(pairs, seen | {a2: looking(None)})
    assert result.accuracy == 0.5
    # At a fixed rate of false matches it is no match; impostors are only those who were compared.
    assert sorted(result.scores.genuine) == pytest.approx([NOT_COMPARED] * 2 + [np.cos(np.radians(5))] * 2)
    assert result.scores.impostor == pytest.approx([0, 0], abs=1e-6)
    assert [point.tmr for point in result.points] == [0.5, 0.5]


def test_nothing_to_compare_is_an_error() -> None:
    (a1, a2, *_), (b1, *_) = photos("A"), photos("B")
    nobody = dict.fromkeys((a1, a2, b1), looking(None))
    pairs = tuple(Pair(fold, *two) for fold in (0, 1) for two in ((a1, a2), (a1, b1)))
    people = (Person(a1, (a2,)), Person(b1, (b1,)))
    with pytest.raises(InputError, match="--minimum-face"):
        evaluation.verify(pairs, nobody)
    with pytest.raises(InputError, match="--minimum-face"):
        evaluation.identify(people, nobody)


def test_identification_counts_who_was_missed() -> None:
    (a1, a2, a3, *_), (b1, b2, *_), (c1, c2, *_) = photos("A"), photos("B"), photos("C")
    people = (Person(a1, (a2, a3)), Person(b1, (b2,)), Person(c1, (c2,)))
    seen = {
        a1: looking(0, template=True), a2: looking(3), a3: looking(None),
        b1: looking(90, template=True), b2: looking(20),
        c1: looking(None), c2: looking(180),
    }  # fmt: skip
    result = evaluation.identify(people, seen)
    assert result.rank_one == pytest.approx(1 / 4)  # only a2: a3 and c1 were missed, and b2 is nearer to A
    cosine = [np.cos(np.radians(angle)) for angle in (3, 70)]
    assert sorted(result.scores.genuine) == pytest.approx(sorted([*cosine, NOT_COMPARED, NOT_COMPARED]))
    others = [np.cos(np.radians(angle)) for angle in (87, 20, 180, 90)]
    assert sorted(result.scores.impostor) == pytest.approx(sorted(others), abs=1e-6)


def test_calibration_ends_where_the_pairs_do() -> None:
    impostor = np.linspace(-1, 0.9, 10_000).astype(np.float32)
    identification = evaluation.Identification(1, (), Scores(np.ones(3, np.float32), impostor))
    table = identification.calibration("a test")
    assert [point.fmr for point in table.points] == pytest.approx([1e-1, 3e-2, 1e-2, 3e-3, 1e-3, 3e-4])
    assert [point.tmr for point in table.points] == [1.0] * 6
    assert (table.impostor_pairs, table.genuine_pairs, table.source) == (10_000, 3, "a test")
    for point in table.points:
        assert np.mean(impostor >= point.similarity) == pytest.approx(point.fmr)


def test_pictures_are_counted_once() -> None:
    (a1, a2, a3, *_), (b1, *_) = photos("A"), photos("B")
    protocol = Protocol((Pair(0, a1, a2), Pair(0, a1, b1)), (Person(a1, (a3, a2)), Person(b1, (b1,))))
    assert protocol.pair_photos() == {a1, a2, b1}
    assert protocol.photos() == (a1, a2, a3, b1)
    assert lfw.Photo("Al", 12).within(Path("x")) == Path("x/images/Al/Al_0012.jpg")
