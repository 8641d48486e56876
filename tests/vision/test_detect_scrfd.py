"""Outputs as values: what a cell says, and where the face then is."""

import itertools

import numpy as np
import pytest

from facesvc.vision.detect_grid import STRIDES
from facesvc.vision.detect_scrfd import ScrfdHead
from facesvc.vision.detection import Floats

HEIGHT, WIDTH = 64, 96
Outputs = list[Floats]


def nothing(anchors: int = 2, *, points: bool = True) -> dict[tuple[int, int], Floats]:
    """No face anywhere: each output by its stride and its number of values."""
    return {
        (stride, values): np.zeros((anchors * (HEIGHT // stride) * (WIDTH // stride), values), np.float32)
        for values in ((1, 4, 10) if points else (1, 4))
        for stride in STRIDES
    }


def with_face(outputs: dict[tuple[int, int], Floats], stride: int, row: int, column: int, anchors: int = 2) -> None:
    """A face whose edges are 1, 2, 3 and 4 strides from the corner of a cell; its points go down to the right."""
    at = (row * (WIDTH // stride) + column) * anchors
    outputs[stride, 1][at] = 0.75
    outputs[stride, 4][at] = (1, 2, 3, 4)
    if (stride, 10) in outputs:
        outputs[stride, 10][at] = np.arange(10) / 4


@pytest.mark.parametrize("stride", STRIDES)
@pytest.mark.parametrize("anchors", [1, 2])
@pytest.mark.parametrize("batch", [False, True])
def test_a_cell_says_where_the_face_is(stride: int, anchors: int, batch: bool) -> None:  # noqa: FBT001
    outputs = nothing(anchors)
    with_face(outputs, stride, 1, 2, anchors)
    given = [output[None] if batch else output for output in outputs.values()]
    found = ScrfdHead().read(given, HEIGHT, WIDTH, 0.5)
    x, y = 2 * stride, stride
    np.testing.assert_allclose(found.boxes, [[x - stride, y - 2 * stride, x + 3 * stride, y + 4 * stride]])
    expected = np.array([x, y]) + np.arange(10).reshape(5, 2) / 4 * stride
    np.testing.assert_allclose(found.landmarks, [expected])
    np.testing.assert_allclose(found.scores, [0.75])
    assert {array.dtype for array in (found.boxes, found.landmarks, found.scores)} == {np.dtype(np.float32)}


def test_both_anchors_of_a_cell_may_have_a_face() -> None:
    outputs = nothing()
    at = 2 * (3 * (WIDTH // 16) + 5)
    for anchor, reach in enumerate((1, 2)):
        outputs[16, 1][at + anchor] = 0.6 + anchor / 10
        outputs[16, 4][at + anchor] = reach
    found = ScrfdHead().read(list(outputs.values()), HEIGHT, WIDTH, 0.5)
    np.testing.assert_allclose(found.boxes, [[64, 32, 96, 64], [48, 16, 112, 80]])
    np.testing.assert_allclose(found.scores, [0.6, 0.7])


def test_the_order_of_the_outputs_does_not_matter() -> None:
    outputs = nothing()
    for stride in STRIDES:
        with_face(outputs, stride, 0, 1)
    expected = ScrfdHead().read(list(outputs.values()), HEIGHT, WIDTH, 0.5)
    assert len(expected.scores) == 3
    rng = np.random.default_rng(1)
    for _ in range(20):
        shuffled = [list(outputs.values())[index] for index in rng.permutation(9)]
        found = ScrfdHead().read(shuffled, HEIGHT, WIDTH, 0.5)
        np.testing.assert_array_equal(found.boxes, expected.boxes)
        np.testing.assert_array_equal(found.landmarks, expected.landmarks)


def test_without_key_points_they_are_those_of_a_mean_face() -> None:
    outputs = nothing(points=False)
    with_face(outputs, 32, 1, 1)
    found = ScrfdHead().read(list(outputs.values()), HEIGHT, WIDTH, 0.5)
    ((left, top, right, bottom),) = found.boxes
    (points,) = found.landmarks
    assert points.shape == (5, 2)
    within = (points - [left, top]) / [right - left, bottom - top]
    assert ((within > 0.2) & (within < 0.8)).all()
    assert points[0, 0] < points[2, 0] < points[1, 0]
    assert points[0, 1] < points[2, 1] < points[3, 1]


def test_what_is_not_sure_enough_or_no_number_is_no_face() -> None:
    outputs = nothing()
    outputs[8, 1][:3, 0] = (0.49, np.nan, -np.inf)
    found = ScrfdHead().read(list(outputs.values()), HEIGHT, WIDTH, 0.5)
    assert (found.boxes.shape, found.landmarks.shape, found.scores.shape) == ((0, 4), (0, 5, 2), (0,))


def refused(outputs: Outputs, height: int = HEIGHT, width: int = WIDTH) -> str:
    with pytest.raises(ValueError, match="not the outputs of SCRFD for") as refusal:
        ScrfdHead().read(outputs, height, width, 0.5)
    return str(refusal.value)


def test_other_outputs_are_refused() -> None:
    whole = nothing()
    refused([])
    for missing in whole:
        kept = [output for key, output in whole.items() if key != missing]
        if missing[1] != 10:
            refused(kept)
    # Of another size, twice the same, with values of another kind, without any.
    refused(list(whole.values()), 64, 64)
    refused([*whole.values(), whole[8, 1]])
    refused([*whole.values(), whole[8, 10]])
    refused([output[:, :0] for output in whole.values()])
    refused([np.ones((), np.float32)] * 9)
    # Two scores a cell and one box.
    refused(list({**whole, (8, 4): nothing(1)[8, 4]}.values()))
    assert "(192, 1)" in refused(list({**whole, (8, 4): nothing(1)[8, 4]}.values()))


def test_no_two_strides_can_be_mixed_up() -> None:
    """For each size a stride has 16, 4 or 1 times the cells of the largest, and one box or two in each."""
    counts = [{cells, 2 * cells} for cells in (16, 4, 1)]
    for one, other in itertools.combinations(counts, 2):
        assert not one & other
    for height in range(32, 2049, 32):
        for width in range(32, 2049, 32):
            largest = (height // 32) * (width // 32)
            assert [(height // stride) * (width // stride) // largest for stride in STRIDES] == [16, 4, 1]
