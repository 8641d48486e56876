"""Searching while others enrol and erase: no error, no ghost, nobody missed."""

import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from threading import Barrier, Event

import numpy as np
import pytest
from numpy.typing import NDArray

from facesvc.gallery import Gallery, IdentityConflictError, Sample, Subject

Floats = NDArray[np.float32]
CONTRACT = "resnet-a/1"
X, Y = np.eye(4, dtype=np.float32)[:2, None]


@pytest.fixture(autouse=True)
def eager_switching() -> Iterator[None]:
    """Threads change places a thousand times as often, so that a missing lock shows."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(5e-6)
    yield
    sys.setswitchinterval(before)


def test_searching_while_people_come_and_go(
    gallery: Gallery,
    enrol: Callable[..., list[Sample]],
    make_subject: Callable[..., Subject],
    make_sample: Callable[..., Sample],
    now: datetime,
) -> None:
    enrol("resident", (1, 0, 0, 0))
    done = Event()

    def found(vector: Floats) -> set[str]:
        return {candidate.subject_id for candidate in gallery.search(CONTRACT, "office", vector, 100, now)[0]}

    def come_and_go(number: int) -> None:
        for round_ in range(8):
            subject_id = f"visitor-{number}-{round_}"
            gallery.create_subject(make_subject(subject_id))
            for _ in range(3):
                gallery.add_sample(make_sample(subject_id, (0, 1, 0, number / 10)), None, now, contract_id=CONTRACT)
            assert subject_id in found(Y)
            gallery.erase_subject("office", subject_id, now)
            assert subject_id not in found(Y)

    def look() -> int:
        searches = 0
        while not done.is_set():
            [[best, *_]] = gallery.search(CONTRACT, "office", X, 100, now)
            assert (best.subject_id, best.similarity) == ("resident", 1)
            searches += 1
        return searches

    with ThreadPoolExecutor(5) as pool:
        lookers = [pool.submit(look) for _ in range(2)]
        visitors = [pool.submit(come_and_go, number) for number in range(3)]
        try:
            for visitor in visitors:
                visitor.result()
        finally:
            done.set()
        assert all(looker.result() for looker in lookers)
    assert (gallery.subject_count("office"), gallery.sample_count("office")) == (1, 1)


@pytest.mark.parametrize("_round", range(5))
def test_one_face_becomes_one_of_many_subjects(
    gallery: Gallery,
    make_subject: Callable[..., Subject],
    make_sample: Callable[..., Sample],
    now: datetime,
    _round: int,
) -> None:
    for number in range(8):
        gallery.create_subject(make_subject(f"p{number}"))
    together = Barrier(8)

    def claim(number: int) -> IdentityConflictError | None:
        sample = make_sample(f"p{number}")
        together.wait()
        try:
            gallery.add_sample(sample, 0.5, now, contract_id=CONTRACT)
        except IdentityConflictError as error:
            return error
        return None

    with ThreadPoolExecutor(8) as pool:
        refused = [error for error in pool.map(claim, range(8)) if error]
    assert len(refused) == 7
    assert gallery.sample_count("office") == 1
