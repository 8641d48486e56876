"""The keys of a gallery: with whose file it opens, what is destroyed, and how all go from one master key to another."""

import shutil
from collections.abc import Callable
from contextlib import closing
from datetime import datetime
from pathlib import Path

import pytest
from galleries import open_store
from gallery.filming import FilmedDatabase, lay_out

from facesvc.database.exchange import keyring_path
from facesvc.errors import DependencyError, NotFoundError
from facesvc.gallery import EmbeddingContract, Gallery, Sample, Subject
from facesvc.gallery.keyring import NOBODY
from facesvc.gallery.masterkey import KeyFile
from facesvc.gallery.store import Store

MakeSubject = Callable[..., Subject]
MakeSample = Callable[..., Sample]
Fill = Callable[[Path, int], None]


@pytest.fixture
def fill(contract: EmbeddingContract, vault: KeyFile, make_subject: MakeSubject, now: datetime) -> Fill:
    """Makes a gallery of so many people more, and closes it."""

    def fill(path: Path, many: int) -> None:
        with closing(open_store(path, contract, now, vault)) as store:
            first = sum(subjects for subjects, _ in store.collections().values())
            for number in range(first, first + many):
                store.create_subject(make_subject(f"p{number}"))

    return fill


def names_of(store: Store) -> list[str]:
    return [subject.display_name for subject in store.subjects()]


def wrapped_of(store: Store) -> dict[str, tuple[str, bytes]]:
    """The wrapped keys by subject, each with the id of the master key."""
    found = store._database.select("SELECT subject_id, key_id, wrapped FROM keyring.subject_keys")
    return {subject_id: (key_id, wrapped) for subject_id, key_id, wrapped in found}


@pytest.mark.parametrize("many", [0, 1, 3])
def test_a_gallery_without_its_file_of_keys_is_refused(
    path: Path, fill: Fill, contract: EmbeddingContract, vault: KeyFile, now: datetime, many: int
) -> None:
    fill(path, many)
    keys = keyring_path(path).read_bytes()
    keyring_path(path).unlink()
    with pytest.raises(DependencyError, match="put back the file of keys that belongs to it, or restore") as refused:
        open_store(path, contract, now, vault)
    assert refused.value.reason == "KEY_MISSING"
    keyring_path(path).write_bytes(keys)
    with closing(open_store(path, contract, now, vault)) as store:
        assert names_of(store) == ["P0", "P1", "P2"][:many]


@pytest.mark.parametrize("many", [0, 1, 2, 5])
def test_the_file_of_keys_of_another_gallery_is_refused_and_not_touched(
    path: Path, tmp_path: Path, fill: Fill, contract: EmbeddingContract, vault: KeyFile, now: datetime, many: int
) -> None:
    fill(path, 2)
    other = tmp_path / "other" / "gallery.sqlite"
    fill(other, many)  # of people with the same ids, under the same master key
    shutil.move(keyring_path(other), keyring_path(path))
    with pytest.raises(DependencyError, match="are not those to its people; put back") as refused:
        open_store(path, contract, now, vault)
    assert refused.value.reason == "KEY_MISSING"
    shutil.move(keyring_path(path), keyring_path(other))
    with closing(open_store(other, contract, now, vault)) as store:
        assert names_of(store) == ["P0", "P1", "P2", "P3", "P4"][:many]


def test_keys_that_lost_their_gallery_are_not_touched(
    path: Path, tmp_path: Path, fill: Fill, contract: EmbeddingContract, vault: KeyFile, now: datetime
) -> None:
    fill(path, 2)
    shutil.move(path, tmp_path / "away")
    with pytest.raises(DependencyError, match="are not those to its people"):
        open_store(path, contract, now, vault)
    shutil.move(tmp_path / "away", path)
    with closing(open_store(path, contract, now, vault)) as store:
        assert names_of(store) == ["P0", "P1"]


def test_the_file_of_keys_under_another_master_key_is_refused(
    path: Path, tmp_path: Path, fill: Fill, contract: EmbeddingContract, vault: KeyFile, now: datetime
) -> None:
    fill(path, 2)
    strange = tmp_path / "strange" / "gallery.sqlite"
    open_store(strange, contract, now, KeyFile(tmp_path / "strange.key")).close()
    shutil.move(keyring_path(strange), keyring_path(path))
    with pytest.raises(DependencyError, match="not the one that the gallery was sealed with") as refused:
        open_store(path, contract, now, vault)
    assert refused.value.reason == "KEY_WRONG"


def test_a_file_of_keys_from_before_is_refused(
    path: Path, fill: Fill, contract: EmbeddingContract, vault: KeyFile, now: datetime
) -> None:
    fill(path, 2)
    before = keyring_path(path).read_bytes()
    fill(path, 1)
    keyring_path(path).write_bytes(before)
    with pytest.raises(DependencyError) as refused:
        open_store(path, contract, now, vault)
    assert refused.value.reason == "KEY_MISSING"


def test_keys_to_nobody_are_destroyed_at_the_next_start(
    path: Path, fill: Fill, contract: EmbeddingContract, vault: KeyFile, now: datetime
) -> None:
    fill(path, 2)
    with closing(open_store(path, contract, now, vault)) as store:
        store.keyring.make("office", "ghost")
        store.keyring.make("lab", "p0")
    with closing(open_store(path, contract, now, vault)) as store:
        assert wrapped_of(store).keys() == {"", "p0", "p1"}
        assert names_of(store) == ["P0", "P1"]


def test_a_key_that_is_left_over_is_nobody_elses(
    store: Store, make_subject: MakeSubject, now: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.keyring.make("office", "ada")
    sealed = store.keyring.seal("office", "ada", b"of one who was erased")
    store.create_subject(make_subject("ada"))
    with pytest.raises(DependencyError, match="changed, or belongs to something else"):
        store.keyring.unseal("office", "ada", sealed)


def test_an_erasure_that_was_interrupted_is_done_by_the_next(
    gallery: Gallery,
    find: Callable[..., list[str]],
    enrol: Callable[..., list[Sample]],
    now: datetime,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    [sample] = enrol("ada", (1, 0, 0, 0))
    keyring = gallery.keyring

    def full(collection_id: str, subject_id: str) -> None:
        raise DependencyError("the disk is full", reason="DISK_FULL")

    with monkeypatch.context() as patched:
        patched.setattr(keyring, "destroy", full)
        with pytest.raises(DependencyError):
            gallery.erase_subject("office", "ada", now)
    assert keyring.has("office", "ada")
    assert find((1, 0, 0, 0)) == []
    assert gallery.subject_count("office") == 0
    receipt = gallery.erase_subject("office", "ada", now)
    assert receipt.sample_ids == (sample.sample_id,)
    assert gallery.get_receipt(receipt.receipt_id) == receipt
    assert not keyring.has("office", "ada")
    with pytest.raises(NotFoundError):
        gallery.erase_subject("office", "ada", now)


def test_a_key_that_was_not_forgotten_is_at_the_next_start(
    path: Path,
    tmp_path: Path,
    contract: EmbeddingContract,
    vault: KeyFile,
    make_subject: MakeSubject,
    now: datetime,
) -> None:
    database = FilmedDatabase(path)
    with closing(Store.open(database, contract, now, [vault])) as store:
        for number in range(3):
            store.create_subject(make_subject(f"p{number}"))
        _, wrapped = wrapped_of(store)["p1"]
        store.erase_subject("office", "p1", now)
    [killed] = [one.before for one in database.film.writes if one.statement.startswith("VACUUM")][1:]  # 0: at the start
    assert any(wrapped in content for content in killed.values())
    folder = tmp_path / "killed"
    lay_out(killed, folder)
    with closing(open_store(folder / path.name, contract, now, vault)) as store:
        assert not any(wrapped in file.read_bytes() for file in folder.iterdir())
        assert names_of(store) == ["P0", "P2"]


def test_no_key_of_the_erased_stays_in_the_cache(store: Store, make_subject: MakeSubject, now: datetime) -> None:
    for subject_id in ("ada", "bob"):
        store.create_subject(make_subject(subject_id))
        store.get_subject("office", subject_id)
    store.erase_subject("office", "ada", now)
    assert store.keyring._unwrapped.cache_info().currsize <= 1  # nobody's, which signed the receipt


def test_everybody_has_a_key_of_their_own(store: Store, make_subject: MakeSubject) -> None:
    for collection_id in ("office", "lab"):
        store.create_subject(make_subject("ada", collection_id=collection_id))
    keyring = store.keyring
    people = [("office", "ada"), ("lab", "ada"), NOBODY]
    sealed = {key: keyring.seal(*key, b"secret", "name") for key in people}
    for key in people:
        assert keyring.unseal(*key, sealed[key], "name") == b"secret"
        for other in {*people} - {key}:
            with pytest.raises(DependencyError):
                keyring.unseal(*key, sealed[other], "name")
        with pytest.raises(DependencyError):
            keyring.unseal(*key, sealed[key], "another name")
    assert keyring.unseal("office", "bob", sealed[NOBODY], "name") is None
    with pytest.raises(NotFoundError):
        keyring.seal("office", "bob", b"secret", "name")


def test_a_tag_is_the_same_again(
    path: Path, tmp_path: Path, contract: EmbeddingContract, vault: KeyFile, now: datetime
) -> None:
    with closing(open_store(path, contract, now, vault)) as store:
        tags = [store.keyring.tag(*one) for one in (("a", b"1"), ("a", b"2"), ("b", b"1"))]
        assert len(set(tags)) == 3
    with closing(open_store(path, contract, now, vault)) as store:
        assert store.keyring.tag("a", b"1") == tags[0]
    with closing(open_store(tmp_path / "other" / "g.db", contract, now, vault)) as store:
        assert store.keyring.tag("a", b"1") not in tags
