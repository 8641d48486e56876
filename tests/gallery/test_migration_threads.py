"""People are looked for, come and go while a migration switches: nobody lost, nobody confused, no error."""

import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from threading import Event

import numpy as np
import pytest
from numpy.typing import NDArray

from facesvc.errors import ContractMismatchError, PreconditionError
from facesvc.gallery import EmbeddingContract, Gallery, Sample, Subject

Embed = Callable[[bytes, EmbeddingContract], NDArray[np.float32]]
RESIDENTS = [f"resident-{number}" for number in range(12)]


@pytest.fixture(autouse=True)
def eager_switching() -> Iterator[None]:
    """Threads change places a thousand times as often, so that a missing lock shows."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(5e-6)
    yield
    sys.setswitchinterval(before)


@pytest.fixture
def recognise(gallery: Gallery, embed: Embed, now: datetime) -> Callable[[str, EmbeddingContract], str | None]:
    """Who is found with the face of somebody, embedded under a contract."""

    def recognise(subject_id: str, contract: EmbeddingContract) -> str | None:
        vector = embed(subject_id.encode(), contract)
        [candidates] = gallery.search(contract.contract_id, "office", vector[None], 1, now)
        return candidates[0].subject_id if candidates and candidates[0].similarity > 0.999 else None

    return recognise


@pytest.fixture
def come(
    gallery: Gallery,
    make_subject: Callable[..., Subject],
    make_sample: Callable[..., Sample],
    embed: Embed,
    now: datetime,
) -> Callable[[str], EmbeddingContract]:
    """Enrols somebody, again where the contract changed meanwhile; under which one it was."""

    def come(subject_id: str) -> EmbeddingContract:
        gallery.create_subject(make_subject(subject_id))
        crop = subject_id.encode()
        while True:
            contract = gallery.contract
            sample = make_sample(subject_id, vector=embed(crop, contract))
            try:
                gallery.add_sample(sample, None, now, contract_id=contract.contract_id, crop=crop)
            except ContractMismatchError:
                continue
            return contract

    return come


@pytest.fixture
def migrate(gallery: Gallery, target: EmbeddingContract, embed: Embed, now: datetime) -> Callable[[Event], int]:
    """Goes to the new contract, ten crops between two tries to switch; how often that was too early."""

    def migrate(begun: Event) -> int:
        with gallery.begin_migration(target) as migration:
            begun.set()
            for refusals in range(10_000):
                for row_id in list(migration.pending())[:10]:
                    if crop := migration.crop(row_id):
                        migration.put(row_id, embed(crop, target))
                try:
                    migration.switch(now, allow_missing=False)
                    return refusals
                except PreconditionError as error:
                    if error.reason != "MIGRATION_INCOMPLETE":
                        raise
        pytest.fail("the visitors came faster than they were embedded")

    return migrate


@pytest.mark.parametrize("_round", range(3))
def test_a_switch_while_people_come_and_go(
    gallery: Gallery,
    contract: EmbeddingContract,
    target: EmbeddingContract,
    recognise: Callable[[str, EmbeddingContract], str | None],
    come: Callable[[str], EmbeddingContract],
    migrate: Callable[[Event], int],
    now: datetime,
    _round: int,
) -> None:
    for subject_id in RESIDENTS:
        come(subject_id)
    begun, switched, done = Event(), Event(), Event()

    def look(chosen: Callable[[], EmbeddingContract]) -> int:
        searches = 0
        while not done.is_set():
            subject_id = RESIDENTS[searches % len(RESIDENTS)]
            assert recognise(subject_id, chosen()) == subject_id
            searches += 1
        return searches

    def come_and_go(number: int) -> list[str]:
        stayed = []
        begun.wait()
        for round_ in range(1000):
            subject_id = f"visitor-{number}-{round_}"
            assert recognise(subject_id, come(subject_id)) == subject_id
            if round_ % 3 == 0:
                stayed.append(subject_id)
                continue
            gallery.erase_subject("office", subject_id, now)
            assert [recognise(subject_id, one) for one in (contract, gallery.contract)] == [None, None]
            if switched.is_set() and round_ > 4:
                break
        return stayed

    with ThreadPoolExecutor(4) as pool:
        lookers = [pool.submit(look, lambda: contract), pool.submit(look, lambda: gallery.contract)]
        visitors = [pool.submit(come_and_go, number) for number in range(2)]
        try:
            assert migrate(begun) > 0  # twelve residents are more than ten
            switched.set()
            stayed = [subject_id for visitor in visitors for subject_id in visitor.result()]
        finally:
            begun.set()
            switched.set()
            done.set()
        assert all(looker.result() for looker in lookers)
    assert gallery.contract == target
    for subject_id in (*RESIDENTS, *stayed):
        assert recognise(subject_id, target) == subject_id
    assert gallery.subject_count("office") == gallery.sample_count("office") == len(RESIDENTS) + len(stayed)
