"""Outputs as values: what a cell says, and where the face then is."""

import numpy as np
import pytest

from facesvc.vision.detect_grid import STRIDES
from facesvc.vision.detect_yunet import YunetHead
from facesvc.vision.detection import Floats

HEIGHT, WIDTH = 96, 64
Kinds = dict[tuple[int, str], Floats]


def nothing() -> Kinds:
    """No face anywhere: each output by its stride and its kind."""
    return {
        (stride, kind): np.zeros(((HEIGHT // stride) * (WIDTH // stride), values), np.float32)
        for kind, values in {"face": 1, "anything": 1, "box": 4, "points": 10}.items()
        for stride in STRIDES
    }


def with_face(outputs: Kinds, stride: int, row: int, column: int, scores: tuple[float, float] = (0.9, 0.4)) -> None:
    """A face 2 strides wide and 4 high, its middle a half and a quarter of a stride from the corner of a cell."""
    at = row * (WIDTH // stride) + column
    outputs[stride, "face"][at], outputs[stride, "anything"][at] = scores
    outputs[stride, "box"][at] = (0.5, 0.25, np.log(2), np.log(4))
    outputs[stride, "points"][at] = np.arange(10) / 4


@pytest.mark.parametrize("stride", STRIDES)
@pytest.mark.parametrize("batch", [False, True])
def test_a_cell_says_where_the_face_is(stride: int, batch: bool) -> None:  # noqa: FBT001
    outputs = nothing()
    with_face(outputs, stride, 2, 1)
    given = [output[None] if batch else output for output in outputs.values()]
    found = YunetHead().read(given, HEIGHT, WIDTH, 0.5)
    x, y = 1.5 * stride, 2.25 * stride
    np.testing.assert_allclose(found.boxes, [[x - stride, y - 2 * stride, x + stride, y + 2 * stride]], atol=1e-4)
    expected = np.array([1, 2]) * stride + np.arange(10).reshape(5, 2) / 4 * stride
    np.testing.assert_allclose(found.landmarks, [expected])
    # The geometric mean.
    np.testing.assert_allclose(found.scores, [0.6], rtol=1e-6)
    assert {array.dtype for array in (found.boxes, found.landmarks, found.scores)} == {np.dtype(np.float32)}


def test_the_order_of_the_outputs_does_not_matter() -> None:
    outputs = nothing()
    for stride in STRIDES:
        with_face(outputs, stride, 0, 1)
    expected = YunetHead().read(list(outputs.values()), HEIGHT, WIDTH, 0.5)
    assert len(expected.scores) == 3
    rng = np.random.default_rng(1)
    for _ in range(20):
        found = YunetHead().read([list(outputs.values())[at] for at in rng.permutation(12)], HEIGHT, WIDTH, 0.5)
        np.testing.assert_array_equal(found.boxes, expected.boxes)
        np.testing.assert_allclose(found.scores, expected.scores)


@pytest.mark.parametrize("scores", [(0.9, 0.2), (0.2, 0.9), (np.nan, 1), (-3, -3), (1, -np.inf)])
def test_both_scores_count(scores: tuple[float, float]) -> None:
    outputs = nothing()
    with_face(outputs, 8, 3, 3, scores)
    found = YunetHead().read(list(outputs.values()), HEIGHT, WIDTH, 0.5)
    assert (found.boxes.shape, found.landmarks.shape, found.scores.shape) == ((0, 4), (0, 5, 2), (0,))


def test_a_score_is_one_at_most_and_a_size_has_an_end() -> None:
    outputs = nothing()
    with_face(outputs, 32, 0, 0, (np.inf, 7))
    outputs[32, "box"][0, 2:] = 200
    found = YunetHead().read(list(outputs.values()), HEIGHT, WIDTH, 0.5)
    assert found.scores.tolist() == [1]
    assert np.isfinite(found.boxes).all()


def test_other_outputs_are_refused() -> None:
    whole = nothing()
    bad = [[output for other, output in whole.items() if other != missing] for missing in whole]
    bad += [[], [*whole.values(), whole[8, "box"]], [output[:, :0] for output in whole.values()]]
    for kind in ("face", "box", "points"):
        # Two of a kind in each cell, and one of the others.
        bad.append(list({**whole, (16, kind): np.tile(whole[16, kind], (2, 1))}.values()))
    for outputs in bad:
        with pytest.raises(ValueError, match="not the outputs of YuNet for 96 x 64 pixels"):
            YunetHead().read(outputs, HEIGHT, WIDTH, 0.5)
