"""Under which contract a gallery opens, and how one of the time of a single contract becomes one of several."""

from collections.abc import Callable
from contextlib import closing
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from galleries import open_gallery
from gallery import old_galleries
from numpy.typing import NDArray
from ulid import ULID

from facesvc.errors import ContractMismatchError
from facesvc.gallery import EmbeddingContract, Gallery, Sample, Subject
from facesvc.gallery.masterkey import KeyFile

Embed = Callable[[bytes, EmbeddingContract], NDArray[np.float32]]


@pytest.fixture
def old_gallery(
    path: Path,
    contract: EmbeddingContract,
    make_subject: Callable[..., Subject],
    make_sample: Callable[..., Sample],
    now: datetime,
) -> list[Sample]:
    """A gallery at ``path`` as the first release left it, with a gap where somebody was erased; its samples."""
    generator = np.random.default_rng(4)
    samples = [make_sample(f"p{number}", tuple(generator.normal(size=4))) for number in range(30)]
    subjects = [make_subject(sample.subject_id, display_name="") for sample in samples]
    old_galleries.write_first(path, contract, now, subjects, samples)
    old_galleries.erase(path, "p29", now, str(ULID()))
    return samples[:29]


@pytest.fixture
def migrate(embed: Embed, now: datetime) -> Callable[[Gallery, EmbeddingContract], None]:
    """Takes a gallery whose crops are its subjects' ids to another contract."""

    def migrate(gallery: Gallery, contract: EmbeddingContract) -> None:
        with gallery.begin_migration(contract) as migration:
            for row_id in list(migration.pending()):
                migration.put(row_id, embed(migration.crop(row_id) or b"", contract))
            migration.switch(now, allow_missing=False)

    return migrate


def assert_finds(gallery: Gallery, subject_ids: list[str], embed: Embed, now: datetime) -> None:
    """Each is found first, as itself, under the gallery's contract."""
    contract = gallery.contract
    for subject_id in subject_ids:
        vector = embed(subject_id.encode(), contract)
        [[best]] = gallery.search(contract.contract_id, "office", vector[None], 1, now)
        assert best.subject_id == subject_id
        assert best.similarity == pytest.approx(1, abs=1e-3)  # the index holds half floats


def test_a_gallery_of_one_contract_keeps_its_vectors(
    path: Path,
    contract: EmbeddingContract,
    old_gallery: list[Sample],
    make_sample: Callable[..., Sample],
    target: EmbeddingContract,
    now: datetime,
) -> None:
    with pytest.raises(ContractMismatchError, match="0 of 29 samples"):
        open_gallery(path, target, now)
    for _ in range(2):
        with closing(open_gallery(path, contract, now + timedelta(days=1))) as gallery:
            assert (gallery.contract, gallery.previous_contract) == (contract, None)
            assert gallery.has_vectors_for(contract.contract_id) == (29, 29)
            for sample in old_gallery:
                assert sample.vector is not None
                [[best]] = gallery.search(contract.contract_id, "office", sample.vector[None], 1, now)
                assert best.sample_id == sample.sample_id
                [found] = gallery.list_samples("office", sample.subject_id)
                np.testing.assert_array_equal(found.vector, sample.vector)
                assert (found.image_sha256, found.create_time) == (sample.image_sha256, now)
    with closing(open_gallery(path, contract, now)) as gallery:
        row_id = gallery._store.add_sample(make_sample("p1"))
        assert row_id == 31  # not 30, which was of the erased
        gallery.erase_subject("office", "p1", now)
        assert gallery.has_vectors_for(contract.contract_id) == (28, 28)


def test_an_empty_gallery_takes_any_contract(
    path: Path,
    contract: EmbeddingContract,
    target: EmbeddingContract,
    make_subject: Callable[..., Subject],
    now: datetime,
) -> None:
    with closing(open_gallery(path, contract, now)) as gallery:
        gallery.create_subject(make_subject())
    with closing(open_gallery(path, target, now)) as gallery:
        assert gallery.contract == target
        assert gallery.subject_count("office") == 1


def test_a_gallery_opens_under_any_contract_of_which_it_has_every_vector(
    path: Path,
    contract: EmbeddingContract,
    target: EmbeddingContract,
    vault: KeyFile,
    gallery: Gallery,
    enrol_crop: Callable[..., Sample],
    migrate: Callable[[Gallery, EmbeddingContract], None],
    embed: Embed,
    now: datetime,
) -> None:
    people = [f"p{number}" for number in range(8)]
    for subject_id in people:
        enrol_crop(subject_id)
    migrate(gallery, target)
    gallery.close()
    for wanted, other in [(target, contract), (contract, target), (contract, target), (target, contract)]:
        with closing(open_gallery(path, wanted, now, vault)) as again:
            assert (again.contract, again.previous_contract) == (wanted, other)
            assert again.has_vectors_for(other.contract_id) == (8, 8)
            assert_finds(again, people, embed, now)


def test_a_gallery_does_not_open_where_somebody_would_be_missing(
    path: Path,
    contract: EmbeddingContract,
    target: EmbeddingContract,
    vault: KeyFile,
    gallery: Gallery,
    enrol_crop: Callable[..., Sample],
    migrate: Callable[[Gallery, EmbeddingContract], None],
    embed: Embed,
    now: datetime,
) -> None:
    enrol_crop("ada")
    migrate(gallery, target)
    enrol_crop("bob")
    gallery.close()
    with pytest.raises(ContractMismatchError) as refused:
        open_gallery(path, contract, now, vault)
    for said in (str(target), str(contract), "1 of 2 samples", "`facesvc models migrate NAME`"):
        assert said in refused.value.message
    with closing(open_gallery(path, target, now, vault)) as again:
        assert_finds(again, ["ada", "bob"], embed, now)
        migrate(again, contract)
    with closing(open_gallery(path, contract, now, vault)) as again:
        assert_finds(again, ["ada", "bob"], embed, now)


def test_vectors_of_the_contract_before_the_previous_go(
    contract: EmbeddingContract,
    target: EmbeddingContract,
    gallery: Gallery,
    enrol_crop: Callable[..., Sample],
    migrate: Callable[[Gallery, EmbeddingContract], None],
    embed: Embed,
    now: datetime,
) -> None:
    third = EmbeddingContract("mobile-c/2", 5)
    enrol_crop("ada")
    enrol_crop("bob")
    migrate(gallery, target)
    assert gallery.has_vectors_for(contract.contract_id) == (2, 2)
    migrate(gallery, third)
    assert (gallery.contract, gallery.previous_contract) == (third, target)
    assert [gallery.has_vectors_for(one.contract_id)[0] for one in (contract, target, third)] == [0, 2, 2]
    known = gallery._store._database.select("SELECT contract_id FROM contracts ORDER BY contract_id")
    assert known == [("arc-b/1",), ("mobile-c/2",)]
    assert_finds(gallery, ["ada", "bob"], embed, now)


def test_a_contract_has_one_dimension(gallery: Gallery, contract: EmbeddingContract, target: EmbeddingContract) -> None:
    gallery.begin_migration(target).abandon()
    for known in (contract, target):
        with pytest.raises(ContractMismatchError, match=r"knows .*one of them is wrong"):
            gallery.begin_migration(EmbeddingContract(known.contract_id, 9))
    gallery.begin_migration(target).abandon()
