"""What the store refuses to open, and what it says when the disk fails."""

import sqlite3
import stat
from collections.abc import Callable
from contextlib import closing
from datetime import datetime
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from facesvc.errors import ContractMismatchError, DependencyError, PreconditionError
from facesvc.gallery import EmbeddingContract, Gallery, Sample, Subject
from facesvc.gallery.store import Store

CONTRACT = "resnet-a/1"
MakeSubject = Callable[..., Subject]
MakeSample = Callable[..., Sample]
Embed = Callable[[bytes, EmbeddingContract], NDArray[np.float32]]


@pytest.mark.parametrize("other", [EmbeddingContract("resnet-b/7", 4), EmbeddingContract("resnet-a/1", 8)])
def test_a_gallery_of_another_contract_is_refused_by_name(
    path: Path,
    contract: EmbeddingContract,
    now: datetime,
    other: EmbeddingContract,
    make_subject: MakeSubject,
    make_sample: MakeSample,
) -> None:
    with closing(Store.open(path, contract, now)) as store:
        store.create_subject(make_subject())
        store.add_sample(make_sample())
    with pytest.raises(ContractMismatchError) as refused:
        Store.open(path, other, now)
    assert f"{contract.contract_id} ({contract.dimension} values)" in refused.value.message
    assert f"{other.contract_id} ({other.dimension} values)" in refused.value.message
    assert "start with it (`facesvc models use NAME`)" in refused.value.message
    Store.open(path, contract, now).close()  # the refusal let go of the file and changed nothing


def test_a_gallery_of_a_newer_facesvc_is_refused(path: Path, contract: EmbeddingContract, now: datetime) -> None:
    Store.open(path, contract, now).close()
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("INSERT INTO migrations VALUES ('0999_iris', 0)")
    with pytest.raises(PreconditionError, match=r"written by a newer facesvc \(it has 0999_iris\)") as refused:
        Store.open(path, contract, now)
    assert refused.value.reason == "GALLERY_TOO_NEW"


def test_a_migration_that_fails_leaves_nothing_half_done(
    path: Path, contract: EmbeddingContract, now: datetime
) -> None:
    path.parent.mkdir()
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE samples (someone_elses TEXT)")  # in the way of the second table
    with pytest.raises(DependencyError, match="table samples already exists"):
        Store.open(path, contract, now)
    with closing(sqlite3.connect(path)) as connection:
        tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")}
        assert tables == {"samples", "migrations"}
        assert connection.execute("SELECT * FROM migrations").fetchall() == []


@pytest.mark.parametrize("content", [b"hello", b"\x89PNG\r\n\x1a\n" + b"x" * 5000])
def test_a_file_that_is_no_database_is_named(
    path: Path, contract: EmbeddingContract, now: datetime, content: bytes
) -> None:
    path.parent.mkdir()
    path.write_bytes(content)
    with pytest.raises(DependencyError, match=f"gallery {path}: it is not a SQLite database; check the path"):
        Gallery.open(path, contract, now)
    assert path.read_bytes() == content


def test_a_damaged_file_is_named(
    path: Path,
    contract: EmbeddingContract,
    make_subject: MakeSubject,
    make_sample: MakeSample,
    now: datetime,
) -> None:
    with closing(Store.open(path, contract, now)) as store:
        store.create_subject(make_subject())
        for _ in range(100):
            store.add_sample(make_sample())
    content = path.read_bytes()
    half = len(content) // 2
    path.write_bytes(content[:half] + b"\xff" * (len(content) - half))
    with pytest.raises(DependencyError, match=r"damaged.*restore the last backup") as refused:
        Gallery.open(path, contract, now)
    assert refused.value.reason == "GALLERY_DAMAGED"


@pytest.mark.parametrize(
    "damage",
    [
        "UPDATE vectors SET vector = zeroblob(16)",
        "UPDATE vectors SET vector = x'00'",
        "UPDATE samples SET create_time = 9223372036854775807",
        "UPDATE subjects SET metadata = '{'",
        "UPDATE subjects SET display_name = char(7)",
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
    with closing(Store.open(path, contract, now)) as store:
        store.create_subject(make_subject())
        store.add_sample(make_sample())
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute(damage)
    with pytest.raises(DependencyError, match=r"subject ada.* is damaged .*restore the last backup"):
        Gallery.open(path, contract, now)


def test_a_path_that_cannot_be_used_is_named(tmp_path: Path, contract: EmbeddingContract, now: datetime) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(DependencyError, match=r"cannot be opened \(File exists\)"):
        Store.open(tmp_path / "file" / "gallery.sqlite", contract, now)
    with pytest.raises(DependencyError, match=r"cannot be opened \(Is a directory\)"):
        Store.open(tmp_path, contract, now)


def test_one_process_at_a_time(path: Path, contract: EmbeddingContract, now: datetime, store: Store) -> None:
    with pytest.raises(DependencyError, match="another process has it open") as refused:
        Store.open(path, contract, now, busy_timeout_s=0.0)
    assert refused.value.reason == "GALLERY_IN_USE"
    store.close()
    Store.open(path, contract, now).close()


def test_only_the_owner_can_read_it(path: Path, store: Store, make_subject: MakeSubject) -> None:
    store.create_subject(make_subject())
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    files = {file.name: stat.S_IMODE(file.stat().st_mode) for file in path.parent.iterdir()}
    assert files == {"gallery.sqlite": 0o600, "gallery.sqlite-wal": 0o600}


def test_a_file_that_others_could_read_is_closed_to_them(
    path: Path, contract: EmbeddingContract, now: datetime
) -> None:
    path.parent.mkdir()
    path.touch(mode=0o644)
    Store.open(path, contract, now).close()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


@pytest.mark.parametrize("seed", [1, 3])  # two with which SQLite leaves copies behind, unless the file is written anew
def test_what_was_erased_is_on_no_page_of_any_file(
    path: Path,
    store: Store,
    make_subject: MakeSubject,
    make_sample: MakeSample,
    now: datetime,
    target: EmbeddingContract,
    embed: Embed,
    seed: int,
) -> None:
    generator = np.random.default_rng(seed)
    store.contracts.register(target)
    traces: dict[str, list[bytes]] = {}
    pieces: dict[str, list[bytes]] = {}
    for number in generator.permutation(60):
        subject_id = f"person-{number:02}"
        note = f"Note on {subject_id}." + "." * int(generator.integers(900))
        store.create_subject(make_subject(subject_id, display_name=f"Name of {subject_id}.", metadata={"note": note}))
        sample = make_sample(subject_id, tuple(generator.normal(size=4)))
        row_id = store.add_sample(sample, generator.bytes(int(generator.integers(1, 9000))))
        [(sealed,)] = store._database.select("SELECT sealed FROM crops WHERE row_id = ?", (row_id,))
        other = embed(subject_id.encode(), target)
        store.contracts.put(target.contract_id, {row_id: other})
        assert sample.vector is not None
        vectors = [sample.vector.tobytes(), other.tobytes()]
        traces[subject_id] = [f"Name of {subject_id}.".encode(), note[:18].encode(), *vectors, sealed[:32]]
        pieces[subject_id] = [sealed[at : at + 32] for at in range(0, len(sealed) - 31, 100)]  # it may span pages

    def on_disk() -> dict[str, int]:
        content = b"".join(file.read_bytes() for file in path.parent.iterdir())
        return {subject_id: sum(trace in content for trace in left) for subject_id, left in traces.items()}

    assert set(on_disk().values()) == {5}
    erased = set(list(traces)[::2])
    for subject_id in erased:
        store.erase_subject("office", subject_id, now)
    assert on_disk() == {subject_id: 0 if subject_id in erased else 5 for subject_id in traces}
    content = b"".join(file.read_bytes() for file in path.parent.iterdir())
    assert not [subject_id for subject_id in erased for piece in pieces[subject_id] if piece in content]


def test_a_deleted_sample_is_on_no_page_of_any_file(
    path: Path, store: Store, make_subject: MakeSubject, make_sample: MakeSample
) -> None:
    store.create_subject(make_subject())
    sample = make_sample(direction=(1, 2, 3, 4))
    assert sample.vector is not None
    store.add_sample(sample, b"crop")
    [(sealed,)] = store._database.select("SELECT sealed FROM crops")
    traces = (sample.vector.tobytes(), sealed)
    assert all(trace in b"".join(file.read_bytes() for file in path.parent.iterdir()) for trace in traces)
    store.delete_sample("office", "ada", sample.sample_id)
    assert not any(trace in file.read_bytes() for file in path.parent.iterdir() for trace in traces)


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
    # A power cut cannot be tested here, and a distribution's SQLite may have some of these on by itself.
    names = ("journal_mode", "locking_mode", "synchronous", "foreign_keys", "secure_delete", "temp_store")
    found = [store._database.select(f"PRAGMA {name}")[0][0] for name in names]
    assert found == ["wal", "exclusive", 2, 1, 1, 2]
