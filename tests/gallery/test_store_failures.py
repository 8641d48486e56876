"""What the store refuses to open, and what it says when the disk fails."""

import sqlite3
import stat
from collections.abc import Callable
from contextlib import closing
from datetime import datetime
from pathlib import Path

import numpy as np
import pytest
from galleries import open_gallery, open_store

from facesvc.database.exchange import keyring_path
from facesvc.errors import ContractMismatchError, DependencyError, PreconditionError
from facesvc.gallery import EmbeddingContract, Gallery, Sample, Subject
from facesvc.gallery.store import Store

CONTRACT = "resnet-a/1"
MakeSubject = Callable[..., Subject]
MakeSample = Callable[..., Sample]


@pytest.mark.parametrize("other", [EmbeddingContract("resnet-b/7", 4), EmbeddingContract("resnet-a/1", 8)])
def test_a_gallery_of_another_contract_is_refused_by_name(
    path: Path,
    contract: EmbeddingContract,
    now: datetime,
    other: EmbeddingContract,
    make_subject: MakeSubject,
    make_sample: MakeSample,
) -> None:
    with closing(open_store(path, contract, now)) as store:
        store.create_subject(make_subject())
        store.add_sample(make_sample())
    with pytest.raises(ContractMismatchError) as refused:
        open_store(path, other, now)
    assert f"{contract.contract_id} ({contract.dimension} values)" in refused.value.message
    assert f"{other.contract_id} ({other.dimension} values)" in refused.value.message
    assert "start with it (`facesvc models use NAME`)" in refused.value.message
    open_store(path, contract, now).close()  # the refusal let go of the file and changed nothing


def test_a_gallery_of_a_newer_facesvc_is_refused(path: Path, contract: EmbeddingContract, now: datetime) -> None:
    open_store(path, contract, now).close()
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("INSERT INTO migrations VALUES ('0999_iris', 0)")
    with pytest.raises(PreconditionError, match=r"written by a newer facesvc \(it has 0999_iris\)") as refused:
        open_store(path, contract, now)
    assert refused.value.reason == "GALLERY_TOO_NEW"


def test_a_migration_that_fails_leaves_nothing_half_done(
    path: Path, contract: EmbeddingContract, now: datetime
) -> None:
    path.parent.mkdir()
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE samples (someone_elses TEXT)")  # in the way of the second table
    with pytest.raises(DependencyError, match="table samples already exists"):
        open_store(path, contract, now)
    with closing(sqlite3.connect(path)) as connection:
        tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")}
        assert tables == {"samples"}


@pytest.mark.parametrize("content", [b"hello", b"\x89PNG\r\n\x1a\n" + b"x" * 5000])
def test_a_file_that_is_no_database_is_named(
    path: Path, contract: EmbeddingContract, now: datetime, content: bytes
) -> None:
    path.parent.mkdir()
    path.write_bytes(content)
    with pytest.raises(DependencyError, match=f"gallery {path}: it is not a SQLite database; check the path"):
        open_gallery(path, contract, now)
    assert path.read_bytes() == content


def test_a_damaged_file_is_named(
    path: Path,
    contract: EmbeddingContract,
    make_subject: MakeSubject,
    make_sample: MakeSample,
    now: datetime,
) -> None:
    with closing(open_store(path, contract, now)) as store:
        store.create_subject(make_subject())
        for _ in range(100):
            store.add_sample(make_sample())
    content = path.read_bytes()
    half = len(content) // 2
    path.write_bytes(content[:half] + b"\xff" * (len(content) - half))
    with pytest.raises(DependencyError, match=r"damaged.*restore the last backup") as refused:
        open_gallery(path, contract, now)
    assert refused.value.reason == "GALLERY_DAMAGED"


@pytest.mark.parametrize(
    "damage",
    [
        "UPDATE vectors SET sealed = zeroblob(45)",
        "UPDATE vectors SET sealed = x'01'",
        "UPDATE samples SET sealed = zeroblob(45)",
        "UPDATE samples SET create_time = 9223372036854775807",
        "UPDATE subjects SET sealed = zeroblob(45)",
        "UPDATE subjects SET sealed = x'01'",
        "UPDATE keyring.subject_keys SET wrapped = zeroblob(61) WHERE subject_id = 'ada'",
        "UPDATE keyring.subject_keys SET key_id = 'nobody''s' WHERE subject_id = 'ada'",
    ],
)
def test_a_damaged_row_is_named(
    path: Path,
    contract: EmbeddingContract,
    make_subject: MakeSubject,
    make_sample: MakeSample,
    now: datetime,
    damage: str,
) -> None:
    with closing(open_store(path, contract, now)) as store:
        store.create_subject(make_subject())
        store.add_sample(make_sample())
        assert store._database.execute(damage) == 1
    with pytest.raises(DependencyError, match=r"subject ada.* is damaged .*restore the last backup") as refused:
        open_gallery(path, contract, now)
    assert refused.value.reason == "GALLERY_DAMAGED"


@pytest.mark.parametrize("content", ["{", "[]", '{"display_name": "Ada"}', "\\udcff"])
def test_a_row_that_holds_something_else_is_named(store: Store, make_subject: MakeSubject, content: str) -> None:
    store.create_subject(make_subject())
    sealed = store.keyring.seal("office", "ada", content.encode(), "subject", "office", "ada")
    store._database.execute("UPDATE subjects SET sealed = ?", (sealed,))
    with pytest.raises(DependencyError, match=r"subject ada.* is damaged .*restore the last backup"):
        store.get_subject("office", "ada")


def test_a_path_that_cannot_be_used_is_named(tmp_path: Path, contract: EmbeddingContract, now: datetime) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(DependencyError, match=f"gallery {tmp_path}/file/gallery.sqlite cannot be .*; check"):
        open_store(tmp_path / "file" / "gallery.sqlite", contract, now)
    with pytest.raises(DependencyError, match=r"cannot be opened \(Is a directory\)"):
        open_store(tmp_path, contract, now)


def test_one_process_at_a_time(path: Path, contract: EmbeddingContract, now: datetime, store: Store) -> None:
    with pytest.raises(DependencyError, match="another process has it open") as refused:
        open_store(path, contract, now)
    assert refused.value.reason == "GALLERY_IN_USE"
    store.close()
    open_store(path, contract, now).close()


def test_only_the_owner_can_read_it(
    path: Path, contract: EmbeddingContract, now: datetime, make_subject: MakeSubject
) -> None:
    for subject_id in ("ada", "bob"):  # new, and opened again
        with closing(open_store(path, contract, now)) as store:
            store.create_subject(make_subject(subject_id))
            assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
            files = {file.name: stat.S_IMODE(file.stat().st_mode) for file in path.parent.iterdir()}
            names = ("gallery.sqlite", "gallery.sqlite-wal", "gallery.sqlite-keys", "gallery.sqlite-keys-wal")
            assert files == dict.fromkeys(names, 0o600)


def test_a_file_that_others_could_read_is_closed_to_them(
    path: Path, contract: EmbeddingContract, now: datetime
) -> None:
    path.parent.mkdir()
    for file in (path, keyring_path(path)):
        file.touch(mode=0o644)
    open_store(path, contract, now).close()
    for file in (path, keyring_path(path)):
        assert stat.S_IMODE(file.stat().st_mode) == 0o600


@pytest.mark.parametrize("seed", [160, 294])  # two of the few with which SQLite leaves a copy behind
def test_a_destroyed_key_is_on_no_page_of_any_file(path: Path, store: Store, seed: int) -> None:
    generator = np.random.default_rng(seed)
    with store._database.transaction():
        for number in generator.permutation(400):
            store.keyring.make("office", f"p{number:03}" + "x" * int(generator.integers(118)))
    found = store._database.select("SELECT subject_id, wrapped FROM keyring.subject_keys WHERE subject_id <> ''")
    keys: dict[str, bytes] = dict(found)

    def on_disk() -> set[str]:
        content = b"".join(file.read_bytes() for file in path.parent.iterdir())
        pieces = {name: (wrapped[:16], wrapped[16:32], wrapped[-16:]) for name, wrapped in keys.items()}
        return {name for name, some in pieces.items() if any(piece in content for piece in some)}

    assert on_disk() == set(keys)
    destroyed = generator.permutation(sorted(keys))[: int(generator.integers(20, 380))].tolist()
    for subject_id in destroyed:
        store.keyring.destroy("office", subject_id)
    store._database.forget()
    assert on_disk() == keys.keys() - set(destroyed)


def test_a_deleted_sample_leaves_the_files(
    path: Path, contract: EmbeddingContract, now: datetime, make_subject: MakeSubject, make_sample: MakeSample
) -> None:
    sample = make_sample(direction=(1, 2, 3, 4))
    with closing(open_store(path, contract, now)) as store:
        store.create_subject(make_subject())
        store.add_sample(sample, b"crop")
        sealed = [store._database.select(f"SELECT sealed FROM {table}")[0][0] for table in ("vectors", "crops")]

        def in_the_files(trace: bytes) -> bool:
            return any(trace in file.read_bytes() for file in path.parent.iterdir())

        assert all(map(in_the_files, sealed))
        store.delete_sample("office", "ada", sample.sample_id)
    assert not any(map(in_the_files, sealed))  # once the log is emptied; until then only the key opens it


def test_a_full_disk_is_named_and_nothing_is_half_written(
    gallery: Gallery, make_subject: MakeSubject, make_sample: MakeSample, now: datetime
) -> None:
    gallery.create_subject(make_subject())
    database = gallery._store._database  # SQLite's own limit stands in for a full disk
    [(pages,)] = database.select("PRAGMA page_count")
    database.execute(f"PRAGMA max_page_count = {pages + 1}")
    added: list[str] = []

    def fill() -> None:
        for _ in range(1000):
            sample = make_sample()
            gallery.add_sample(sample, None, now, contract_id=CONTRACT)
            added.append(sample.sample_id)

    with pytest.raises(DependencyError, match="the disk is full; nothing was changed, free some space") as refused:
        fill()
    assert refused.value.reason == "DISK_FULL"
    assert added
    assert [sample.sample_id for sample in gallery.list_samples("office", "ada")] == added
    assert gallery.sample_count("office") == len(added)
    [[candidate]] = gallery.search(CONTRACT, "office", np.eye(4, dtype=np.float32)[:1], 1, now)
    assert candidate.subject_id == "ada"
    database.execute("PRAGMA max_page_count = 100000")
    gallery.add_sample(make_sample(), None, now, contract_id=CONTRACT)
    assert gallery.sample_count("office") == len(added) + 1


def test_the_promises_to_the_disk_are_switched_on(store: Store) -> None:
    # That SQLite syncs is taken on trust, and a distribution's may have some of these on by itself.
    names = ("locking_mode", "foreign_keys", "temp_store")
    assert [store._database.select(f"PRAGMA {name}")[0][0] for name in names] == ["exclusive", 1, 2]
    for file in ("main", "keyring"):
        names = ("journal_mode", "synchronous", "secure_delete")
        assert [store._database.select(f"PRAGMA {file}.{name}")[0][0] for name in names] == ["wal", 2, 1]
