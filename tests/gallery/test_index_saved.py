"""An index saved and restored, and what is refused."""

import numpy as np
import pytest
from gallery import crowds
from gallery.crowds import BOUNDS, DIMENSION, OWNERS, Crowd, Floats, tier_of

from facesvc.errors import InputError
from facesvc.gallery.index import MAX_OWNERS, PeopleIndex


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


def test_one_that_was_saved_empty_can_be_asked_to_remove_somebody() -> None:
    restored = PeopleIndex.restore(DIMENSION, crowds.saved()[0])
    restored.remove(np.array([1, 2]))
    restored.add_codes(*restored.export(np.array([3])))
    assert len(restored) == 0


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
def test_saved_rows_that_cannot_be_right_are_refused(what: str, tier: str, vectors: Floats) -> None:
    trained = crowds.saved()[0] if tier == "coarse" else PeopleIndex(DIMENSION).trained()
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
