"""The view that is kept in a file: what it gives back is what the store has, whatever has happened in between."""

from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from threading import Lock

import numpy as np
import pytest
from galleries import key_beside
from numpy.typing import NDArray
from structlog.testing import capture_logs

from facesvc.database.sqlite import SqliteDatabase
from facesvc.gallery import EmbeddingContract, Gallery, Sample, Subject
from facesvc.gallery.index import PeopleIndex, Rebuild
from facesvc.gallery.index.tiers import Bounds
from facesvc.gallery.loading import Loader
from facesvc.gallery.store import Store
from facesvc.gallery.tending import Tending

Floats = NDArray[np.float32]
CONTRACT = "resnet-a/1"
DIRECTIONS = np.eye(4)


@pytest.fixture(autouse=True)
def _always_worth_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("facesvc.gallery.gallery.WORTH_SAVING", 0)


@pytest.fixture
def view_path(tmp_path: Path) -> Path:
    return tmp_path / "view"


@pytest.fixture
def reopen(path: Path, view_path: Path, contract: EmbeddingContract, now: datetime) -> Iterator[Callable[..., Gallery]]:
    opened: list[Gallery] = []

    def reopen(*, saved: bool = True, contract: EmbeddingContract = contract) -> Gallery:
        for gallery in opened:
            gallery.close()
        database = SqliteDatabase(path, busy_timeout_s=0.1)
        where = view_path if saved else None
        opened.append(Gallery.open(database, contract, now, [key_beside(path)], where))
        return opened[-1]

    yield reopen
    for gallery in opened:
        gallery.close()


@pytest.fixture
def read_from_store(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Whose samples a loader had to read from the store, one by one."""
    read: list[str] = []
    add_stale = Loader._add_stale

    def watched(loader: Loader) -> None:
        read.extend(subject_id for _, subject_id in loader._stale)
        add_stale(loader)

    monkeypatch.setattr(Loader, "_add_stale", watched)
    return read


def enrol(gallery: Gallery, make_subject: Callable[..., Subject], sample: Sample, now: datetime) -> None:
    if not any(one.subject_id == sample.subject_id for one in gallery.list_subjects("office", 100)[0]):
        gallery.create_subject(make_subject(sample.subject_id))
    gallery.add_sample(sample, None, now, contract_id=CONTRACT)


def answers(gallery: Gallery, now: datetime) -> list[list[tuple[str, str, float]]]:
    found = gallery.search(CONTRACT, "office", DIRECTIONS.astype(np.float32), 10, now)
    return [[(one.subject_id, one.sample_id, round(one.similarity, 3)) for one in each] for each in found]


@pytest.fixture
def filled(
    reopen: Callable[..., Gallery],
    make_subject: Callable[..., Subject],
    make_sample: Callable[..., Sample],
    now: datetime,
) -> Gallery:
    """Four people of two samples each."""
    gallery = reopen()
    for number, name in enumerate(("ada", "bob", "cyd", "dan")):
        for other in (0.1, 0.4):
            direction = DIRECTIONS[number] + other * DIRECTIONS[(number + 1) % 4]
            enrol(gallery, make_subject, make_sample(name, tuple(direction)), now)
    return gallery


def test_a_saved_view_is_taken_over(
    filled: Gallery, reopen: Callable[..., Gallery], read_from_store: list[str], now: datetime
) -> None:
    before = answers(filled, now)
    assert filled.save_view()
    assert answers(reopen(), now) == before
    assert read_from_store == []
    assert answers(reopen(saved=False), now) == before
    assert sorted(read_from_store) == ["ada", "bob", "cyd", "dan"]


def test_only_who_has_changed_since_is_read_anew(
    filled: Gallery,
    reopen: Callable[..., Gallery],
    make_subject: Callable[..., Subject],
    make_sample: Callable[..., Sample],
    read_from_store: list[str],
    now: datetime,
) -> None:
    filled.save_view()
    enrol(filled, make_subject, make_sample("bob", (0, 1, 0, 1)), now)
    filled.delete_sample("office", "cyd", filled.list_samples("office", "cyd")[0].sample_id)
    filled.update_subject(make_subject("dan", display_name="Daniel"), {"display_name"}, now)
    filled.erase_subject("office", "ada", now)
    enrol(filled, make_subject, make_sample("eve", (1, 0, 0, 0)), now)
    before = answers(filled, now)
    assert answers(reopen(), now) == before
    assert sorted(read_from_store) == ["bob", "cyd", "dan", "eve"]


@pytest.mark.parametrize("changed", [1, 12])
def test_a_few_are_read_one_by_one_and_many_all_together(
    reopen: Callable[..., Gallery],
    make_subject: Callable[..., Subject],
    make_sample: Callable[..., Sample],
    monkeypatch: pytest.MonkeyPatch,
    now: datetime,
    changed: int,
) -> None:
    gallery = reopen()
    for number in range(20):
        enrol(gallery, make_subject, make_sample(f"p{number}", (1, number / 5, number % 3, 0)), now)
    gallery.save_view()
    for number in range(changed):
        enrol(gallery, make_subject, make_sample(f"p{number}", (0, number / 5, 1, 1)), now)
    before = answers(gallery, now)
    one_by_one: list[str] = []
    rows_of = Store.rows_of

    def watched(store: Store, collection_id: str, subject_id: str, *rest: str) -> list[tuple[int, Sample]]:
        one_by_one.append(subject_id)
        return rows_of(store, collection_id, subject_id, *rest)

    monkeypatch.setattr(Store, "rows_of", watched)
    assert answers(reopen(), now) == before
    assert one_by_one == (["p0"] if changed == 1 else [])


def test_a_gallery_that_grows_changes_its_tier_while_it_is_searched(
    reopen: Callable[..., Gallery],
    make_subject: Callable[..., Subject],
    make_sample: Callable[..., Sample],
    monkeypatch: pytest.MonkeyPatch,
    now: datetime,
) -> None:
    monkeypatch.setattr("facesvc.gallery.views.PeopleIndex", partial(PeopleIndex, bounds=Bounds(30, 20)))
    gallery = reopen()
    tiers = set()
    for number in range(60):
        enrol(gallery, make_subject, make_sample(f"p{number}", (1, number / 9, number % 5, number % 2)), now)
        assert len(answers(gallery, now)[0]) == min(number + 1, 10)
        tiers.add(gallery._views._current.rosters["office"].index.tier)
    gallery._views.tending.join()
    tiers.add(gallery._views._current.rosters["office"].index.tier)
    assert tiers == {"flat", "coarse"}
    before = answers(gallery, now)
    assert gallery.save_view()
    assert answers(reopen(), now) == before


def test_who_was_erased_and_comes_again_is_not_who_was_saved(
    filled: Gallery,
    reopen: Callable[..., Gallery],
    make_subject: Callable[..., Subject],
    make_sample: Callable[..., Sample],
    now: datetime,
) -> None:
    filled.save_view()
    filled.erase_subject("office", "ada", now)
    enrol(filled, make_subject, make_sample("ada", (0, 0, 0, 1)), now)
    before = answers(filled, now)
    assert answers(reopen(), now) == before


def test_the_file_says_nothing(filled: Gallery, view_path: Path) -> None:
    filled.save_view()
    content = view_path.read_bytes()
    assert view_path.stat().st_mode & 0o777 == 0o600
    for sample in filled.samples("office"):
        assert sample.vector is not None
        assert sample.vector.astype(np.float16).tobytes() not in content
        assert sample.sample_id.encode() not in content
    assert b"Ada" not in content


@pytest.mark.parametrize("damage", ["cut", "flipped", "empty", "foreign", "huge"])
def test_a_damaged_file_costs_time_and_nothing_else(
    filled: Gallery, reopen: Callable[..., Gallery], view_path: Path, now: datetime, damage: str
) -> None:
    before = answers(filled, now)
    filled.save_view()
    content = view_path.read_bytes()
    step = max(1, len(content) // 12)
    for at in range(0, len(content), step):
        flipped = content[:at] + bytes([content[at] ^ 0xFF]) + content[at + 1 :]
        broken = {
            "cut": content[:at],
            "flipped": flipped,
            "empty": b"",
            "foreign": b"x" * at,
            "huge": content[:at] + b"\xff" * 64,
        }[damage]
        view_path.write_bytes(broken)
        assert answers(reopen(), now) == before


def test_a_view_of_another_contract_is_of_no_use(
    filled: Gallery, reopen: Callable[..., Gallery], target: EmbeddingContract, now: datetime
) -> None:
    filled.save_view()
    for name in ("ada", "bob", "cyd", "dan"):
        filled.erase_subject("office", name, now)
    vector = np.eye(6, dtype=np.float32)[:1]
    assert reopen(contract=target).search(target.contract_id, "office", vector, 1, now + timedelta(days=1)) == [[]]


def test_a_full_disk_keeps_the_file_of_before(
    filled: Gallery, view_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    filled.save_view()
    before = view_path.read_bytes()

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    assert not filled.save_view()
    assert view_path.read_bytes() == before
    assert [one.name for one in view_path.parent.glob("view*")] == ["view"]


def test_a_small_gallery_is_not_saved(filled: Gallery, view_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("facesvc.gallery.gallery.WORTH_SAVING", 9)
    assert not filled.save_view()
    assert not view_path.exists()


def test_a_vector_that_a_migration_adds_makes_what_was_saved_stale(
    reopen: Callable[..., Gallery],
    target: EmbeddingContract,
    now: datetime,
    make_subject: Callable[..., Subject],
    make_sample: Callable[..., Sample],
    embed: Callable[[bytes, EmbeddingContract], Floats],
) -> None:
    gallery = reopen()
    gallery.create_subject(make_subject("ada"))
    for crop in (b"first", b"second"):
        gallery.add_sample(make_sample("ada"), None, now, contract_id=CONTRACT, crop=crop)
    with gallery.begin_migration(target) as migration:
        first, second = migration.pending()
        migration.put(first, embed(b"first", target))
        migration.give_up(second)
        migration.switch(now, allow_missing=True)
    gallery.save_view()
    with reopen(contract=EmbeddingContract(CONTRACT, 4)).begin_migration(target) as migration:
        migration.put(second, embed(b"second", target))
        migration.switch(now, allow_missing=False)
    assert reopen(contract=target).sample_count("office") == 2


def test_what_was_saved_after_a_database_that_was_put_back_is_of_no_use(
    filled: Gallery, reopen: Callable[..., Gallery], read_from_store: list[str], now: datetime
) -> None:
    before = answers(filled, now)
    filled.save_view()
    filled._store._database.execute("UPDATE changes SET change = change - 1")
    assert answers(reopen(), now) == before
    assert sorted(read_from_store) == ["ada", "bob", "cyd", "dan"]


def test_a_view_that_does_not_fit_is_read_anew(filled: Gallery, reopen: Callable[..., Gallery], now: datetime) -> None:
    filled.save_view()
    moved = filled.list_samples("office", "ada")[0]
    database = filled._store._database
    changes = database.select("SELECT collection_id, subject_id, change FROM subjects")
    filled._store.move_sample(moved.name, "bob")
    for _, subject_id, change in changes:
        if subject_id == "ada":  # as if nothing had happened to them
            database.execute("UPDATE subjects SET change = ? WHERE subject_id = ?", (change, subject_id))
    assert answers(reopen(), now)[0][0][:2] == answers(reopen(saved=False), now)[0][0][:2]


def test_a_rebuild_that_fails_is_tried_again_only_at_another_size(monkeypatch: pytest.MonkeyPatch) -> None:
    index = PeopleIndex(4, Bounds(coarse_from=100, flat_below=50))
    vectors = np.random.default_rng(7).normal(size=(200, 4)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    tries: list[int] = []

    def fail(*_: object) -> None:
        tries.append(len(index))
        raise MemoryError

    def add(start: int, end: int) -> None:
        rows = np.arange(start, end)
        with lock:
            index.add(rows, rows, vectors[start:end])
            tending.look()
        tending.join()

    lock = Lock()
    tending = Tending(lock, lambda: [index])
    monkeypatch.setattr(Rebuild, "run", fail)
    with capture_logs() as logged:
        for start, end in ((0, 100), (100, 105), (105, 109), (109, 110)):
            add(start, end)
    assert tries == [100, 110]
    assert [entry["event"] for entry in logged] == ["rebuild_failed"] * 2
    monkeypatch.undo()
    add(110, 200)
    assert index.tier == "coarse"
