"""Several boxes over one database, at the moments at which one of them does not know yet what another has done."""

from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from threading import Barrier, Thread

import numpy as np
import pytest
from numpy.typing import NDArray

from facesvc.api.follower import Follower
from facesvc.database.opening import open_database
from facesvc.errors import ContractMismatchError, DependencyError
from facesvc.gallery import EmbeddingContract, Gallery, Sample, Subject
from facesvc.gallery.batch import IdentityConflictError
from facesvc.gallery.keyring import Keyring
from facesvc.gallery.loading import Loader
from facesvc.gallery.masterkey import KnownKey

CONTRACT = "resnet-a/1"
KEY = KnownKey(b"k" * 32, "the key")
NEW_KEY = KnownKey(b"n" * 32, "the new key")
MakeSubject = Callable[..., Subject]
MakeSample = Callable[..., Sample]
Embed = Callable[[bytes, EmbeddingContract], NDArray[np.float32]]
OpenBox = Callable[..., Gallery]


@pytest.fixture
def open_box(postgres_url: str, contract: EmbeddingContract, now: datetime) -> Iterator[OpenBox]:
    opened: list[Gallery] = []

    def open_box(
        view: Path | None = None, contract: EmbeddingContract = contract, keys: tuple[KnownKey, ...] = (KEY,)
    ) -> Gallery:
        database = open_database(postgres_url)
        try:
            opened.append(Gallery.open(database, contract, now, keys, view))
        except BaseException:
            database.close()
            raise
        return opened[-1]

    yield open_box
    for box in opened:
        box.close()


@pytest.fixture
def a(open_box: OpenBox) -> Gallery:
    return open_box()


@pytest.fixture
def b(a: Gallery, open_box: OpenBox) -> Gallery:
    return open_box()


@pytest.fixture
def _always_worth_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("facesvc.gallery.gallery.WORTH_SAVING", 0)


def enrol(box: Gallery, sample: Sample, crop: bytes | None = None, conflict: float | None = None) -> None:
    box.add_sample(sample, conflict, sample.create_time, contract_id=CONTRACT, crop=crop)


def found(box: Gallery, now: datetime, contract: EmbeddingContract | None = None) -> list[tuple[str, str]]:
    contract = contract or box.contract
    face = np.eye(contract.dimension, dtype=np.float32)[:1]
    [candidates] = box.search(contract.contract_id, "office", face, 10, now)
    return [(one.subject_id, one.sample_id) for one in candidates]


@pytest.mark.usefixtures("_always_worth_it")
@pytest.mark.parametrize("moved", [False, True])
def test_a_view_is_saved_only_as_far_as_the_box_has_followed(
    a: Gallery,
    open_box: OpenBox,
    tmp_path: Path,
    now: datetime,
    make_subject: MakeSubject,
    make_sample: MakeSample,
    moved: bool,  # noqa: FBT001 - pytest passes parameters by name
) -> None:
    b = open_box(tmp_path / "view")
    a.create_subject(make_subject("ada"))
    first, second = make_sample("ada"), make_sample("ada", (1, 0.1, 0, 0))
    enrol(a, first)
    enrol(a, second)
    b.follow()
    a.delete_sample("office", "ada", first.sample_id)
    if moved:
        a.split_subject("office", "ada", [second.sample_id], make_subject("bob"))
    assert b.save_view()
    b.close()
    assert found(open_box(tmp_path / "view"), now) == [("bob" if moved else "ada", second.sample_id)]


@pytest.mark.usefixtures("_always_worth_it")
def test_a_view_that_cannot_be_saved_is_no_failure(a: Gallery, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def away(*_: object) -> list[object]:
        raise DependencyError("the database is away", reason="GALLERY_AWAY")

    a._view_path = tmp_path / "view"
    monkeypatch.setattr(a._store, "page_of_changes", away)
    assert not a.save_view()


def test_somebody_may_be_erased_while_a_box_starts(
    a: Gallery,
    open_box: OpenBox,
    now: datetime,
    make_subject: MakeSubject,
    make_sample: MakeSample,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    a.create_subject(make_subject("ada"))
    enrol(a, make_sample("ada"))
    add_stale = Loader._add_stale

    def erase_first(loader: Loader) -> None:
        a.erase_subject("office", "ada", now)
        add_stale(loader)

    monkeypatch.setattr(Loader, "_add_stale", erase_first)
    b = open_box()
    assert b.follow() == [("office", "ada")]
    assert b.subject_count("office") == 0


@pytest.mark.usefixtures("_always_worth_it")
def test_a_sample_may_be_moved_while_a_box_starts(
    open_box: OpenBox,
    tmp_path: Path,
    now: datetime,
    make_subject: MakeSubject,
    make_sample: MakeSample,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    a = open_box(tmp_path / "view")
    people = ["ada", "bob", *(f"p{number}" for number in range(18))]
    for name in people:
        a.create_subject(make_subject(name))
        enrol(a, make_sample(name, (0, 0, 1, len(name))))
    a.follow()
    assert a.save_view()
    sample = make_sample("ada")
    enrol(a, sample)
    enrol(a, make_sample("bob", (0, 1, 0, 0)))  # these two are read one by one
    rows_of = a._store.rows_of
    moved: list[str] = []

    def move_after(store: object, collection_id: str, subject_id: str, *contract: str) -> list[tuple[int, Sample]]:
        read = rows_of(collection_id, subject_id, *contract)
        if subject_id == "ada" and not moved:
            moved.append("ada")
            a._store.move_sample(sample.name, "bob")
        return read

    monkeypatch.setattr("facesvc.gallery.store.Store.rows_of", move_after)
    b = open_box(tmp_path / "view")
    assert moved
    assert found(b, now)[0] == ("bob", sample.sample_id)


def test_a_box_follows_a_database_that_was_put_back(
    a: Gallery, now: datetime, make_subject: MakeSubject, make_sample: MakeSample
) -> None:
    for name in ("ada", "bob", "cyd"):
        a.create_subject(make_subject(name))
    enrol(a, make_sample("ada"))
    a.erase_subject("office", "cyd", now)
    a.follow()
    a.say("a", now)
    database = a._store._database
    database.execute("DELETE FROM subjects WHERE subject_id = 'bob'")
    database.execute("UPDATE subjects SET change = 2")
    database.execute("UPDATE changes SET change = 2")
    assert a.follow() == []  # nobody was erased: they were not there at the time
    a.say("a", now)
    assert a.subject_count("office") == 1
    assert len(found(a, now)) == 1
    assert database.select("SELECT change FROM boxes") == [(2,)]


def test_a_migration_takes_in_whom_another_box_has_just_enrolled(
    a: Gallery,
    b: Gallery,
    target: EmbeddingContract,
    now: datetime,
    make_subject: MakeSubject,
    make_sample: MakeSample,
    embed: Embed,
) -> None:
    with a.begin_migration(target) as migration:
        b.create_subject(make_subject("ada"))
        enrol(b, make_sample("ada"), b"crop")
        [row_id] = migration.pending()
        assert migration.put(row_id, embed(b"crop", target))
        migration.switch(now, allow_missing=False)
    [[one]] = a.search(target.contract_id, "office", embed(b"crop", target)[None], 1, now)
    assert one.subject_id == "ada"


def test_two_boxes_may_migrate_together(
    a: Gallery,
    b: Gallery,
    target: EmbeddingContract,
    now: datetime,
    make_subject: MakeSubject,
    make_sample: MakeSample,
    embed: Embed,
) -> None:
    for name in ("ada", "bob"):
        a.create_subject(make_subject(name))
        enrol(a, make_sample(name), name.encode())
    b.follow()
    with a.begin_migration(target) as of_a, b.begin_migration(target) as of_b:
        first, second = of_a.pending()
        of_a.put(first, embed(b"ada", target))
        of_b.put(second, embed(b"bob", target))
        of_a.switch(now, allow_missing=False)
        with pytest.raises(ContractMismatchError, match="another box has changed"):
            of_b.switch(now, allow_missing=False)
    for name in ("ada", "bob"):
        [[one]] = a.search(target.contract_id, "office", embed(name.encode(), target)[None], 1, now)
        assert one.subject_id == name


def test_after_a_switch_nobody_is_enrolled_under_the_former_contract(
    a: Gallery,
    b: Gallery,
    open_box: OpenBox,
    target: EmbeddingContract,
    now: datetime,
    make_subject: MakeSubject,
    make_sample: MakeSample,
    embed: Embed,
) -> None:
    a.create_subject(make_subject("ada"))
    enrol(a, make_sample("ada"), b"crop")
    b.follow()
    with a.begin_migration(target) as migration:
        [row_id] = migration.pending()
        migration.put(row_id, embed(b"crop", target))
        migration.switch(now, allow_missing=False)
    with pytest.raises(ContractMismatchError, match="another box has changed"):
        enrol(b, make_sample("ada", (0, 1, 0, 0)))
    assert len(a.list_samples("office", "ada")) == 1
    with pytest.raises(ContractMismatchError):  # nor does a start take the gallery back under the others
        open_box()
    assert a._store.contracts.counts(target.contract_id) == (1, 1)
    a._store.contracts.check_current()


def test_who_was_erased_is_told_until_it_was_handled(
    a: Gallery, b: Gallery, now: datetime, make_subject: MakeSubject
) -> None:
    a.create_subject(make_subject("ada"))
    b.follow()
    b.say("b", now)
    receipt = a.erase_subject("office", "ada", now)
    a.create_subject(make_subject("ada"))  # before b looks
    failures = [DependencyError("the folder of backups is away", reason="BACKUP_AWAY")]
    told: list[tuple[str, str]] = []

    def forget(collection_id: str, subject_id: str) -> None:
        assert a.unconfirmed(receipt.receipt_id) == ["b"]
        if failures:
            raise failures.pop()
        told.append((collection_id, subject_id))

    follower = Follower(b, "b", 1.0, lambda: now, forget)
    with pytest.raises(DependencyError):
        follower._follow()
    follower._follow()
    assert told == [("office", "ada")]
    assert a.unconfirmed(receipt.receipt_id) == []
    assert b.follow() == []


def test_the_keys_of_the_erased_are_let_go_of(a: Gallery, b: Gallery, now: datetime, make_subject: MakeSubject) -> None:
    a.create_subject(make_subject("ada"))
    b.follow()
    key = b.keyring.get("office", "ada")
    [row] = b._store._database.select("SELECT key_id, wrapped FROM keyring.subject_keys WHERE subject_id = 'ada'")
    assert b.keyring.unwrap("office", "ada", *row) is key
    a.erase_subject("office", "ada", now)
    b.follow()
    assert b.keyring.unwrap("office", "ada", *row) is not key


def test_boxes_may_open_an_empty_database_together(
    postgres_url: str, contract: EmbeddingContract, now: datetime
) -> None:
    together = Barrier(3)
    problems: list[Exception] = []

    def start() -> None:
        database = open_database(postgres_url)
        try:
            together.wait(30)
            Gallery.open(database, contract, now, [KEY])
        except Exception as problem:  # noqa: BLE001 - the test shows it
            problems.append(problem)
        finally:
            database.close()

    threads = [Thread(target=start) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert problems == []


def test_boxes_that_exchange_the_master_key_together_use_one(
    a: Gallery, postgres_url: str, now: datetime, make_subject: MakeSubject
) -> None:
    a.create_subject(make_subject("ada"))
    together = Barrier(2)
    rings: list[Keyring] = []
    databases = [open_database(postgres_url) for _ in range(2)]

    def start(ring: Keyring) -> None:
        together.wait(30)
        ring.open([NEW_KEY, KEY], now)
        rings.append(ring)

    threads = [Thread(target=start, args=(Keyring(database),)) for database in databases]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    first, second = rings
    assert first._current == second._current
    assert [ring.rewrap(500) for ring in (first, second)] == [2, 0]
    for database in databases:
        database.close()


def test_a_box_with_the_former_master_key_wraps_nothing_any_more(
    a: Gallery, open_box: OpenBox, make_subject: MakeSubject
) -> None:
    b = open_box(keys=(NEW_KEY, KEY))
    while b.keyring.rewrap(500):
        pass
    with pytest.raises(DependencyError) as caught:
        a.create_subject(make_subject("ada"))
    assert caught.value.reason == "KEY_WRONG"
    with pytest.raises(DependencyError):
        a.keyring.rewrap(500)
    open_box(keys=(NEW_KEY,)).create_subject(make_subject("ada"))


def test_one_face_is_not_enrolled_as_two_people_at_the_same_moment(
    a: Gallery, b: Gallery, make_subject: MakeSubject, make_sample: MakeSample, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("ada", "bob"):
        a.create_subject(make_subject(name))
    b.follow()
    catch_up = b._following.catch_up

    def be_overtaken() -> None:
        catch_up()
        enrol(a, make_sample("ada"), conflict=0.5)

    monkeypatch.setattr(b._following, "catch_up", be_overtaken)
    with pytest.raises(IdentityConflictError):
        enrol(b, make_sample("bob"), conflict=0.5)
    assert a.list_samples("office", "bob") == []


def test_a_box_may_change_somebody_to_whom_another_has_just_moved_a_sample(
    a: Gallery, b: Gallery, now: datetime, make_subject: MakeSubject, make_sample: MakeSample
) -> None:
    for name in ("ada", "bob"):
        a.create_subject(make_subject(name))
    sample = make_sample("ada")
    enrol(a, sample)
    b.follow()
    a._store.move_sample(sample.name, "bob")
    b.update_subject(make_subject("bob", display_name="Robert"), {"display_name"}, now)
    assert found(b, now) == [("bob", sample.sample_id)]


def test_a_sample_may_be_moved_while_a_box_follows(
    a: Gallery,
    b: Gallery,
    now: datetime,
    make_subject: MakeSubject,
    make_sample: MakeSample,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("ada", "bob"):
        a.create_subject(make_subject(name))
    sample = make_sample("ada")
    enrol(a, sample)
    rows_of = b._store.rows_of
    moved: list[str] = []

    def move_after(collection_id: str, subject_id: str, contract_id: str) -> list[tuple[int, Sample]]:
        read = rows_of(collection_id, subject_id, contract_id)
        if subject_id == "ada" and not moved:
            moved.append("ada")
            a._store.move_sample(sample.name, "bob")
            a._store.update_subject(make_subject("ada"), frozenset({"display_name"}), now)  # is read first again
        return read

    order = b._store.changed_since
    monkeypatch.setattr(b._store, "changed_since", lambda change: sorted(order(change)))
    monkeypatch.setattr(b._store, "rows_of", move_after)
    b.follow()
    assert found(b, now) == [("bob", sample.sample_id)]


def test_who_asked_for_an_erasure_is_not_told_of_it(
    a: Gallery, b: Gallery, now: datetime, make_subject: MakeSubject
) -> None:
    """It sees to its backups itself; told a second time, it would find nothing left to remove."""
    for name in ("ada", "bob", "cyd"):
        a.create_subject(make_subject(name))
    b.follow()
    a.erase_subject("office", "ada", now)
    a.merge_subjects("office", "bob", "cyd", now)
    assert a.follow() == []
    assert b.follow() == [("office", "ada"), ("office", "cyd")]
    b.create_subject(make_subject("ada"))
    b.erase_subject("office", "ada", now)
    assert a.follow() == [("office", "ada")]
