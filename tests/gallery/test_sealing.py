"""What is sealed opens where it was put, with the key of whom it is about, and nowhere else."""

from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import numpy as np
import pytest
from galleries import open_store
from ulid import ULID

from facesvc.errors import DependencyError, FacesvcError
from facesvc.gallery import Consent, DuplicateImageError, EmbeddingContract, Sample, Subject
from facesvc.gallery.crypto import SealBrokenError
from facesvc.gallery.masterkey import KeyFile
from facesvc.gallery.store import Store

MakeSubject = Callable[..., Subject]
MakeSample = Callable[..., Sample]

# Everything that is sealed: where it is, and by what its row is told.
SEALED = {
    "subjects": ("subjects", "sealed", "subject_id"),
    "samples": ("samples", "sealed", "row_id"),
    "vectors": ("vectors", "sealed", "row_id || contract_id"),
    "crops": ("crops", "sealed", "row_id"),
    "keys": ("keyring.subject_keys", "wrapped", "subject_id"),
}


@pytest.fixture
def two(store: Store, target: EmbeddingContract, make_subject: MakeSubject, make_sample: MakeSample) -> Store:
    """A store of two people, "ada" with samples 1 and 2, and "bob" with 3; each with crop and two vectors."""
    store.contracts.register(target)
    for subject_id, directions in {"ada": [(1, 0, 0, 0), (0, 1, 0, 0)], "bob": [(0, 0, 1, 0)]}.items():
        store.create_subject(make_subject(subject_id, consent=Consent("doors", make_subject().create_time)))
        for direction in directions:
            row_id = store.add_sample(make_sample(subject_id, direction), f"crop of {subject_id}".encode())
            store.contracts.put(target.contract_id, {row_id: np.eye(6, dtype=np.float32)[row_id]}, store.next_change())
    return store


def read_all(store: Store) -> None:
    """Opens everything that is sealed."""
    store.keyring.of_nobody()
    list(store.subjects())
    for contract_id in ("resnet-a/1", "arc-b/1"):
        list(store.contracts.samples(contract_id))
    for (row_id,) in store._database.select("SELECT row_id FROM samples"):
        store.crops.get(row_id)


def exchange(store: Store, what: str, one: str, other: str) -> None:
    """Puts two sealed values in each other's places."""
    table, column, name = SEALED[what]
    [(first,)] = store._database.select(f"SELECT {column} FROM {table} WHERE {name} = ?", (one,))
    [(second,)] = store._database.select(f"SELECT {column} FROM {table} WHERE {name} = ?", (other,))
    store._database.execute(f"UPDATE {table} SET {column} = ? WHERE {name} = ?", (second, one))
    store._database.execute(f"UPDATE {table} SET {column} = ? WHERE {name} = ?", (first, other))


@pytest.mark.parametrize(
    ("what", "one", "other"),
    [
        ("subjects", "ada", "bob"),
        ("keys", "ada", "bob"),
        ("keys", "ada", ""),
        ("samples", 1, 3),
        ("samples", 1, 2),
        ("crops", 1, 3),
        ("crops", 1, 2),
        ("vectors", "1resnet-a/1", "3resnet-a/1"),
        ("vectors", "1resnet-a/1", "2resnet-a/1"),
        ("vectors", "1resnet-a/1", "1arc-b/1"),
    ],
)
def test_what_was_moved_does_not_open(two: Store, what: str, one: str, other: str) -> None:
    read_all(two)
    exchange(two, what, one, other)
    with pytest.raises(FacesvcError) as refused:
        read_all(two)
    assert refused.value.reason == "GALLERY_DAMAGED"
    exchange(two, what, one, other)
    read_all(two)


@pytest.mark.parametrize("row", ["samples", "crops"])
def test_not_with_the_key_of_its_new_owner_either(two: Store, row: str) -> None:
    """Somebody who can write the file gives a sample to another person, rows and key and all."""
    two._database.execute("UPDATE samples SET subject_id = 'bob', image_tag = x'00' WHERE row_id = 1")
    with pytest.raises(DependencyError) as refused:
        two.crops.get(1) if row == "crops" else two.rows_of("office", "bob")
    assert refused.value.reason == "GALLERY_DAMAGED"
    [(own,)] = two._database.select("SELECT wrapped FROM keyring.subject_keys WHERE subject_id = 'ada'")
    two._database.execute("UPDATE keyring.subject_keys SET wrapped = ? WHERE subject_id = 'bob'", (own,))
    with pytest.raises(DependencyError) as refused:
        two.crops.get(1) if row == "crops" else two.rows_of("office", "bob")
    assert refused.value.reason == "GALLERY_DAMAGED"


def test_somebody_with_an_id_that_was_erased_is_somebody_else(
    two: Store, make_subject: MakeSubject, make_sample: MakeSample, now: datetime
) -> None:
    select, execute = two._database.select, two._database.execute
    old = {
        "subjects": select("SELECT sealed FROM subjects WHERE subject_id = 'ada'")[0][0],
        "samples": select("SELECT sealed FROM samples WHERE row_id = 1")[0][0],
        "vectors": select("SELECT sealed FROM vectors WHERE row_id = 1 AND contract_id = 'resnet-a/1'")[0][0],
        "crops": select("SELECT sealed FROM crops WHERE row_id = 1")[0][0],
    }
    noted = two.keyring.seal("office", "ada", b"seen at nine", "event", "1")
    tag = select("SELECT image_tag FROM samples WHERE row_id = 1")[0][0]
    [ada, _] = two.list_samples("office", "ada")
    two.erase_subject("office", "ada", now)
    assert two.keyring.unseal("office", "ada", noted, "event", "1") is None
    two.create_subject(make_subject("ada", display_name="Another Ada"))
    row_id = two.add_sample(replace(ada, source="another"), b"another crop")
    with pytest.raises(SealBrokenError):
        two.keyring.unseal("office", "ada", noted, "event", "1")
    assert select("SELECT image_tag FROM samples WHERE row_id = ?", (row_id,)) != [(tag,)]
    for table, sealed in old.items():
        where = "subject_id = 'ada'" if table == "subjects" else f"row_id = {row_id}"
        [(new,)] = select(f"SELECT sealed FROM {table} WHERE {where}")
        execute(f"UPDATE {table} SET sealed = ? WHERE {where}", (sealed,))
        with pytest.raises(DependencyError) as refused:
            read_all(two)
        assert refused.value.reason == "GALLERY_DAMAGED"
        execute(f"UPDATE {table} SET sealed = ? WHERE {where}", (new,))
    read_all(two)


def test_a_sample_that_is_moved_as_it_should_be_opens(two: Store) -> None:
    [first, second] = two.list_samples("office", "ada")
    [tag] = two._database.select("SELECT image_tag FROM samples WHERE row_id = 1")
    two.move_sample(first.name, "bob")
    assert [sample.sample_id for sample in two.list_samples("office", "ada")] == [second.sample_id]
    [moved] = [sample for sample in two.list_samples("office", "bob") if sample.sample_id == first.sample_id]
    np.testing.assert_array_equal(moved.vector, first.vector)
    assert (moved.source, moved.image_sha256) == (first.source, first.image_sha256)
    assert two.crops.get(1) == b"crop of ada"
    other = {row_id: sample.vector for row_id, sample in two.contracts.samples("arc-b/1")}
    np.testing.assert_array_equal(other[1], np.eye(6, dtype=np.float32)[1])
    assert two._database.select("SELECT image_tag FROM samples WHERE row_id = 1") != [tag]
    with pytest.raises(DuplicateImageError):
        two.add_sample(replace(first, subject_id="bob", sample_id=str(ULID())))


def test_the_same_picture_of_two_people_has_two_tags(
    two: Store, make_sample: MakeSample, path: Path, contract: EmbeddingContract, vault: KeyFile, now: datetime
) -> None:
    digest = bytes(range(32))
    for subject_id in ("ada", "bob"):
        two.add_sample(make_sample(subject_id, (1, 1, 1, 1), image_sha256=digest))
    tags = [tag for (tag,) in two._database.select("SELECT image_tag FROM samples ORDER BY row_id DESC LIMIT 2")]
    assert len({*tags, digest}) == 3
    two.close()
    with closing(open_store(path, contract, now, vault)) as again:  # and it is known again
        for subject_id in ("ada", "bob"):
            with pytest.raises(DuplicateImageError):
                again.add_sample(make_sample(subject_id, (1, 1, 1, 1), image_sha256=digest))
