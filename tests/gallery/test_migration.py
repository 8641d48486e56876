"""A gallery changes its contract: who is found before, during and after, and what is refused on the way."""

from collections.abc import Callable, Mapping
from contextlib import closing
from datetime import datetime
from pathlib import Path
from threading import Thread
from typing import Any

import numpy as np
import pytest
from galleries import open_gallery
from numpy.typing import NDArray

from facesvc.errors import ContractMismatchError, DependencyError, InputError, PreconditionError
from facesvc.gallery import EmbeddingContract, Gallery, Migration, Sample, SampleName, Subject
from facesvc.gallery.masterkey import KeyFile

Floats = NDArray[np.float32]
Embed = Callable[[bytes, EmbeddingContract], Floats]
EnrolCrop = Callable[..., Sample]


@pytest.fixture
def found(gallery: Gallery, embed: Embed, now: datetime) -> Callable[[str, EmbeddingContract], list[str]]:
    """Who is found with the face of a subject, embedded under a contract; best first, only those who look like it."""

    def found(subject_id: str, contract: EmbeddingContract) -> list[str]:
        vector = embed(subject_id.encode(), contract)
        [candidates] = gallery.search(contract.contract_id, "office", vector[None], 10, now)
        return [candidate.subject_id for candidate in candidates if candidate.similarity > 0.999]

    return found


@pytest.fixture
def embed_pending(embed: Embed) -> Callable[[Migration], int]:
    """Embeds what a migration lacks at the moment; how many."""

    def embed_pending(migration: Migration) -> int:
        crops = {row_id: migration.crop(row_id) for row_id in list(migration.pending())}
        return migration.put_many({row_id: embed(crop, migration.contract) for row_id, crop in crops.items() if crop})

    return embed_pending


def refused_reason(error: pytest.ExceptionInfo[PreconditionError]) -> str:
    return error.value.reason


def test_the_whole_way(
    gallery: Gallery,
    contract: EmbeddingContract,
    target: EmbeddingContract,
    enrol_crop: EnrolCrop,
    embed: Embed,
    found: Callable[[str, EmbeddingContract], list[str]],
    now: datetime,
) -> None:
    for subject_id in ("ada", "bob", "carl"):
        enrol_crop(subject_id)
    with gallery.begin_migration(target) as migration:
        pending = list(migration.pending())
        assert pending == sorted(pending)
        assert [migration.crop(row_id) for row_id in pending] == [b"ada", b"bob", b"carl"]
        assert migration.unmigratable() == []
        assert migration.search("office", embed(b"bob", target)[None], 1, now) == [[]]
        assert migration.put(pending[1], embed(b"bob", target))
        [[best]] = migration.search("office", embed(b"bob", target)[None], 5, now)
        assert best.subject_id == "bob"
        assert best.similarity == pytest.approx(1, abs=1e-3)
        assert list(migration.pending()) == [pending[0], pending[2]]
        assert migration.put_many({pending[0]: embed(b"ada", target), pending[2]: embed(b"carl", target)}) == 2
        assert gallery.has_vectors_for(target.contract_id) == (3, 3)
        assert (gallery.contract, gallery.previous_contract) == (contract, None)
        with pytest.raises(ContractMismatchError):  # not before everybody is there
            found("ada", target)
        migration.switch(now, allow_missing=False)
    assert (gallery.contract, gallery.previous_contract) == (target, contract)
    for subject_id in ("ada", "bob", "carl"):
        assert found(subject_id, target) == found(subject_id, contract) == [subject_id]
    assert gallery.sample_count("office") == 3
    [sample] = gallery.list_samples("office", "ada")
    np.testing.assert_array_equal(sample.vector, embed(b"ada", target))


def test_an_unknown_contract_is_refused(
    gallery: Gallery, contract: EmbeddingContract, target: EmbeddingContract, embed: Embed, now: datetime
) -> None:
    with pytest.raises(ContractMismatchError) as refused:
        gallery.search(target.contract_id, "office", embed(b"", contract)[None], 1, now)
    assert "vectors are of 'arc-b/1', but the gallery's are of resnet-a/1 (4 values)" in refused.value.message


def test_who_is_enrolled_meanwhile_is_not_forgotten(
    gallery: Gallery,
    target: EmbeddingContract,
    enrol_crop: EnrolCrop,
    embed_pending: Callable[[Migration], int],
    found: Callable[[str, EmbeddingContract], list[str]],
    now: datetime,
) -> None:
    enrol_crop("ada")
    with gallery.begin_migration(target) as migration:
        assert embed_pending(migration) == 1
        enrol_crop("bob")
        with pytest.raises(PreconditionError, match="1 samples have no vector of arc-b/1") as refused:
            migration.switch(now, allow_missing=True)
        assert refused_reason(refused) == "MIGRATION_INCOMPLETE"
        assert found("bob", gallery.contract) == ["bob"]
        assert embed_pending(migration) == 1
        migration.switch(now, allow_missing=False)
    assert found("ada", target) == ["ada"]
    assert found("bob", target) == ["bob"]


def test_who_has_no_crop_is_named_and_left_out_only_on_purpose(
    path: Path,
    vault: KeyFile,
    gallery: Gallery,
    contract: EmbeddingContract,
    target: EmbeddingContract,
    enrol_crop: EnrolCrop,
    embed_pending: Callable[[Migration], int],
    embed: Embed,
    found: Callable[[str, EmbeddingContract], list[str]],
    now: datetime,
) -> None:
    enrol_crop("ada")
    sample = enrol_crop("bob", keep=False)
    with gallery.begin_migration(target) as migration:
        embed_pending(migration)
        assert migration.unmigratable() == [SampleName("office", "bob", sample.sample_id)]
        with pytest.raises(PreconditionError, match="1 samples of 1 subjects have no usable crop") as refused:
            migration.switch(now, allow_missing=False)
        assert refused_reason(refused) == "CROPS_MISSING"
        assert gallery.contract == contract
        migration.switch(now, allow_missing=True)
    assert (found("ada", target), found("bob", target), found("bob", contract)) == (["ada"], [], ["bob"])
    assert (gallery.subject_count("office"), gallery.sample_count("office")) == (2, 1)
    [listed] = gallery.list_samples("office", "bob")
    assert (listed.sample_id, listed.vector) == (sample.sample_id, None)
    gallery.close()
    with closing(open_gallery(path, target, now, vault)) as again:  # it is the current one: nothing is refused
        assert again.has_vectors_for(target.contract_id) == (1, 2)
    with closing(open_gallery(path, contract, now, vault)) as again:  # and the way back loses nobody
        [[best]] = again.search(contract.contract_id, "office", embed(b"bob", contract)[None], 1, now)
        assert best.subject_id == "bob"
        again.delete_sample("office", "bob", sample.sample_id)


def test_a_crop_of_no_use_can_be_given_up(
    gallery: Gallery,
    target: EmbeddingContract,
    enrol_crop: EnrolCrop,
    embed_pending: Callable[[Migration], int],
    now: datetime,
) -> None:
    enrol_crop("ada")
    sample = enrol_crop("bob")
    gallery._store._database.execute("UPDATE crops SET sealed = x'01' WHERE row_id = 2")
    with gallery.begin_migration(target) as migration:
        with pytest.raises(DependencyError) as damaged:
            migration.crop(2)
        assert damaged.value.reason == "GALLERY_DAMAGED"
        migration.give_up(2)
        assert embed_pending(migration) == 1
        assert (list(migration.pending()), len(migration.unmigratable())) == ([], 1)
        migration.switch(now, allow_missing=True)
    with pytest.raises(ContractMismatchError):
        gallery.add_sample(sample, None, now, contract_id="resnet-a/1")


def test_changes_reach_every_view(
    gallery: Gallery,
    contract: EmbeddingContract,
    target: EmbeddingContract,
    enrol_crop: EnrolCrop,
    embed: Embed,
    embed_pending: Callable[[Migration], int],
    found: Callable[[str, EmbeddingContract], list[str]],
    make_subject: Callable[..., Subject],
    now: datetime,
) -> None:
    samples = {subject_id: enrol_crop(subject_id) for subject_id in "abcdefgh"}
    with gallery.begin_migration(target) as migration:
        assert embed_pending(migration) == 8
        enrol_crop("new")
        gallery.erase_subject("office", "a", now)
        gallery.delete_sample("office", "b", samples["b"].sample_id)
        gallery.update_subject(make_subject("c", enabled=False), {"enabled"}, now)
        for subject_id in ("a", "b", "c"):
            [[best]] = migration.search("office", embed(subject_id.encode(), target)[None], 1, now)
            assert best.subject_id not in "abc"
        gallery.delete_sample("office", "new", gallery.list_samples("office", "new")[0].sample_id)
        migration.switch(now, allow_missing=False)
    gallery.erase_subject("office", "d", now)
    gallery.delete_sample("office", "e", samples["e"].sample_id)
    gallery.update_subject(make_subject("f", enabled=False), {"enabled"}, now)
    gallery.update_subject(make_subject("g", display_name="Gina"), {"display_name"}, now)
    enrol_crop("newer")
    gallery.erase_subject("office", "newer", now)
    for one in (contract, target):
        assert [found(subject_id, one) for subject_id in "abcdefgh"] == [[], [], [], [], [], [], ["g"], ["h"]]
        [[best]] = gallery.search(one.contract_id, "office", embed(b"g", one)[None], 1, now)
        assert best.display_name == "Gina"


def test_what_is_gone_or_there_already_is_passed_over(
    gallery: Gallery, target: EmbeddingContract, enrol_crop: EnrolCrop, embed: Embed, now: datetime
) -> None:
    for subject_id in ("ada", "bob", "carl"):
        enrol_crop(subject_id)
    with gallery.begin_migration(target) as migration:
        ada, bob, carl = list(migration.pending())
        gallery.erase_subject("office", "ada", now)
        assert migration.crop(ada) is None
        assert migration.put_many({row_id: embed(b"bob", target) for row_id in (ada, bob)}) == 1
        assert migration.put_many({bob: embed(b"carl", target), carl: embed(b"carl", target)}) == 1
        assert not migration.put(bob, embed(b"bob", target))
        assert migration.put_many({}) == 0
        assert list(migration.pending()) == []
        [[first, second]] = migration.search("office", embed(b"carl", target)[None], 5, now)
        assert (first.subject_id, second.subject_id) == ("carl", "bob")
        assert second.similarity < 0.99


def test_nobody_is_erased_between_the_disk_and_the_memory(
    gallery: Gallery,
    target: EmbeddingContract,
    enrol_crop: EnrolCrop,
    embed: Embed,
    now: datetime,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    enrol_crop("ada")
    put = gallery._store.contracts.put
    erased = Thread(target=gallery.erase_subject, args=("office", "ada", now))

    def put_and_be_overtaken(contract_id: str, vectors: Mapping[int, Floats], change: int) -> list[tuple[int, Sample]]:
        added = put(contract_id, vectors, change)
        assert gallery._changing.locked()  # so the erasure will wait until the memory knows as well
        erased.start()
        return added

    monkeypatch.setattr(gallery._store.contracts, "put", put_and_be_overtaken)
    with gallery.begin_migration(target) as migration:
        assert migration.put(1, embed(b"ada", target))
        erased.join()
        assert migration.search("office", embed(b"ada", target)[None], 1, now) == [[]]


def test_vectors_of_another_kind_are_refused(
    gallery: Gallery, target: EmbeddingContract, enrol_crop: EnrolCrop, embed: Embed
) -> None:
    enrol_crop("ada")
    enrol_crop("bob")
    with gallery.begin_migration(target) as migration:
        sound = embed(b"ada", target)
        wrong: list[Any] = [np.eye(4, dtype=np.float32)[0], 2 * sound, np.nan * sound, sound.astype(np.float64)]
        for vector in wrong:
            with pytest.raises(InputError, match="vector"):
                migration.put_many({2: sound, 1: vector})
        assert list(migration.pending()) == [1, 2]


def test_one_migration_at_a_time(
    gallery: Gallery, contract: EmbeddingContract, target: EmbeddingContract, now: datetime
) -> None:
    third = EmbeddingContract("mobile-c/2", 5)
    with pytest.raises(PreconditionError) as refused:
        gallery.begin_migration(contract)
    assert refused_reason(refused) == "CONTRACT_CURRENT"
    with gallery.begin_migration(target) as migration:
        for wanted in (target, third):
            with pytest.raises(PreconditionError, match=r"is being migrated to arc-b/1") as refused:
                gallery.begin_migration(wanted)
            assert refused_reason(refused) == "MIGRATION_RUNNING"
        migration.switch(now, allow_missing=False)
    with gallery.begin_migration(third):
        pass
    assert gallery.contract == target


def test_a_migration_that_is_over_does_nothing(gallery: Gallery, target: EmbeddingContract, now: datetime) -> None:
    over = gallery.begin_migration(target)
    over.abandon()
    over.abandon()
    with gallery.begin_migration(target) as running:
        calls: list[Callable[[], object]] = [
            over.pending,
            over.unmigratable,
            lambda: over.crop(1),
            lambda: over.give_up(1),
            lambda: over.put(1, np.eye(6, dtype=np.float32)[0]),
            lambda: over.search("office", np.eye(6, dtype=np.float32), 1, now),
            lambda: over.switch(now, allow_missing=True),
        ]
        for call in calls:
            with pytest.raises(PreconditionError) as refused:
                call()
            assert refused_reason(refused) == "MIGRATION_OVER"
        over.abandon()
        assert running.search("office", np.eye(6, dtype=np.float32)[:1], 1, now) == [[]]


def test_an_abandoned_migration_goes_on_where_it_was(
    path: Path,
    vault: KeyFile,
    gallery: Gallery,
    contract: EmbeddingContract,
    target: EmbeddingContract,
    enrol_crop: EnrolCrop,
    embed: Embed,
    now: datetime,
) -> None:
    for subject_id in ("ada", "bob", "carl"):
        enrol_crop(subject_id)
    with gallery.begin_migration(target) as migration:
        migration.put(1, embed(b"ada", target))
    with gallery.begin_migration(target) as migration:
        migration.put(2, embed(b"bob", target))
    gallery.close()
    with closing(open_gallery(path, contract, now, vault)) as again, again.begin_migration(target) as migration:
        assert list(migration.pending()) == [3]
        [[best]] = migration.search("office", embed(b"ada", target)[None], 1, now)
        assert best.subject_id == "ada"
        assert best.similarity == pytest.approx(1, abs=1e-3)
        migration.put(3, embed(b"carl", target))
        migration.switch(now, allow_missing=False)
        assert again.sample_count("office") == 3


def test_the_way_back_needs_no_crop(
    gallery: Gallery,
    contract: EmbeddingContract,
    target: EmbeddingContract,
    enrol_crop: EnrolCrop,
    embed_pending: Callable[[Migration], int],
    found: Callable[[str, EmbeddingContract], list[str]],
    now: datetime,
) -> None:
    enrol_crop("ada")
    with gallery.begin_migration(target) as migration:
        embed_pending(migration)
        migration.switch(now, allow_missing=False)
    gallery._store._database.execute("DELETE FROM crops")
    previous = gallery.previous_contract
    assert previous == contract
    with gallery.begin_migration(previous) as migration:
        assert list(migration.pending()) == []
        assert migration.unmigratable() == []
        migration.switch(now, allow_missing=False)
    assert (gallery.contract, gallery.previous_contract) == (contract, target)
    assert found("ada", contract) == found("ada", target) == ["ada"]


def test_the_old_contract_is_searchable_until_it_is_retired(
    gallery: Gallery,
    contract: EmbeddingContract,
    target: EmbeddingContract,
    enrol_crop: EnrolCrop,
    embed_pending: Callable[[Migration], int],
    found: Callable[[str, EmbeddingContract], list[str]],
    now: datetime,
) -> None:
    enrol_crop("ada")
    with gallery.begin_migration(target) as migration:
        embed_pending(migration)
        migration.switch(now, allow_missing=False)
    gallery.retire("nobody's")
    gallery.retire(target.contract_id)  # current: it stays
    assert found("ada", contract) == found("ada", target) == ["ada"]
    gallery.retire(contract.contract_id)
    with pytest.raises(ContractMismatchError):
        found("ada", contract)
    assert gallery.has_vectors_for(contract.contract_id) == (1, 1)
    with gallery.begin_migration(contract) as migration:
        migration.switch(now, allow_missing=False)
    with gallery.begin_migration(EmbeddingContract("mobile-c/2", 5)), pytest.raises(ContractMismatchError):
        found("ada", target)


def test_a_full_disk_stops_no_search_and_leaves_the_old_contract(
    gallery: Gallery,
    contract: EmbeddingContract,
    target: EmbeddingContract,
    enrol_crop: EnrolCrop,
    embed: Embed,
    embed_pending: Callable[[Migration], int],
    found: Callable[[str, EmbeddingContract], list[str]],
    now: datetime,
) -> None:
    for number in range(150):  # their new vectors fill more than a page
        enrol_crop(f"p{number}")
    database = gallery._store._database  # SQLite's own limit stands in for a full disk
    database.execute("VACUUM main")  # no free pages from before
    with gallery.begin_migration(target) as migration:
        [(pages,)] = database.select("PRAGMA page_count")
        database.execute(f"PRAGMA max_page_count = {pages}")
        with pytest.raises(DependencyError, match="the disk is full"):
            embed_pending(migration)
        assert len(list(migration.pending())) == 150  # a batch is one transaction
        assert migration.search("office", embed(b"p0", target)[None], 1, now) == [[]]
        assert found("p0", contract) == ["p0"]
        database.execute("PRAGMA max_page_count = 100000")
        assert embed_pending(migration) == 150
        migration.switch(now, allow_missing=False)
    assert found("p0", target) == ["p0"]
