"""The index answers exactly, also when there is nothing to answer with."""

import numpy as np
import pytest

from facesvc.gallery.index import VectorIndex

AXES = np.eye(4, dtype=np.float32)


def ids(*values: int) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    return np.array(values, np.int64)


def test_an_empty_index_finds_nobody() -> None:
    similarities, found = VectorIndex(4).search(AXES[:2], 3)
    np.testing.assert_array_equal(similarities, np.full((2, 3), -1, np.float32))
    np.testing.assert_array_equal(found, np.full((2, 3), -1))
    assert similarities.dtype == np.float32
    assert found.dtype == np.int64


def test_no_query_no_answer() -> None:
    index = VectorIndex(4)
    index.add(ids(7), AXES[:1])
    similarities, found = index.search(np.zeros((0, 4), np.float32), 3)
    assert similarities.shape == found.shape == (0, 3)


def test_the_best_comes_first_under_the_ids_of_the_caller() -> None:
    index = VectorIndex(4)
    index.add(ids(30, 10), AXES[:2])
    index.add(ids(20), -AXES[:1])
    similarities, found = index.search(AXES[:1], 4)
    assert found.tolist() == [[30, 10, 20, -1]]
    assert similarities.tolist() == [[1, 0, -1, -1]]
    assert len(index) == 3


def test_what_was_removed_is_found_no_more() -> None:
    index = VectorIndex(4)
    index.add(ids(1, 2, 3), AXES[:3])
    index.remove(ids(2, 99))
    index.remove(ids())
    assert len(index) == 2
    assert sorted(index.search(AXES[1:2], 3)[1][0].tolist()) == [-1, 1, 3]
    index.add(ids(2), AXES[1:2])
    assert index.search(AXES[1:2], 1)[1].tolist() == [[2]]


def test_a_similarity_is_never_beyond_one() -> None:
    vectors = np.random.default_rng(1).normal(size=(200, 128)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    index = VectorIndex(128)
    index.add(np.arange(200), vectors)
    index.add(np.arange(200, 400), -vectors)
    similarities, _ = index.search(vectors, 400)
    assert similarities.max() == 1.0
    assert similarities.min() == -1.0


@pytest.mark.parametrize("queries", [1, 16])
@pytest.mark.parametrize("dimension", [128, 509])
def test_a_similarity_depends_on_nothing_but_its_two_vectors(queries: int, dimension: int) -> None:
    generator = np.random.default_rng(2)
    vectors = generator.normal(size=(301, dimension)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    index = VectorIndex(dimension)
    index.add(np.arange(301), vectors)
    index.add(np.arange(301, 602), vectors)  # everybody twice
    wanted = np.stack([index.search(vectors[n : n + 1], 602)[0][0] for n in range(queries)])
    similarities, _ = index.search(vectors[:queries], 602)
    np.testing.assert_array_equal(similarities, wanted)
    np.testing.assert_array_equal(similarities[:, ::2], similarities[:, 1::2])
