"""From the galleries of older releases, which everybody with the file can read, to one that is sealed."""

import random
import shutil
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from galleries import open_gallery, open_store
from gallery import old_galleries
from gallery.filming import FilmedDatabase, lay_out
from numpy.typing import NDArray
from ulid import ULID

from facesvc.errors import DependencyError
from facesvc.gallery import Consent, DuplicateImageError, EmbeddingContract, Sample, Subject
from facesvc.gallery.crypto import is_signed
from facesvc.gallery.masterkey import KeyFile
from facesvc.gallery.store import Store

Floats = NDArray[np.float32]
MakeSubject = Callable[..., Subject]
MakeSample = Callable[..., Sample]


@dataclass(frozen=True)
class Old:
    """What an older facesvc kept: everybody, every sample with its row id, vectors under the contract before, crops."""

    subjects: list[Subject]
    samples: dict[int, Sample]
    former: dict[str, Floats]
    crops: dict[str, bytes]
    receipt_id: str

    @property
    def traces(self) -> list[bytes]:
        """What nobody may read in a file."""
        names = [subject.display_name.encode() for subject in self.subjects if len(subject.display_name) > 3]
        texts = [b"attendance of", b"employee_no", b"a note on", b"camera:lobby", *names]
        vectors = [sample.vector.tobytes() for sample in self.samples.values() if sample.vector is not None]
        images = [sample.image_sha256 for sample in self.samples.values()]
        return [*texts, *vectors, *images, *(vector.tobytes() for vector in self.former.values())]


@pytest.fixture
def old(
    path: Path, contract: EmbeddingContract, make_subject: MakeSubject, make_sample: MakeSample, now: datetime
) -> Old:
    """A gallery of the first release at ``path``, in which somebody was erased."""
    generator = np.random.default_rng(8)
    subjects = [
        make_subject(
            f"p{number:02}",
            display_name=f"Zoë {number} 李雷",
            external_ids={"employee_no": f"E{number}"},
            metadata={"note": f"a note on {number}" + 900 * ".", "more": 900 * str(number % 10)},
            consent=Consent(f"attendance of {number}", now, now + timedelta(days=number)) if number else None,
            enabled=number != 3,
            update_time=now + timedelta(microseconds=number),
        )
        for number in range(12)
    ]
    subjects.append(make_subject("p01", collection_id="lab", display_name="Of the lab"))
    everybody = [subjects[number % len(subjects)] for number in range(30)]
    samples = [
        make_sample(
            subject.subject_id,
            tuple(generator.normal(size=4)),
            collection_id=subject.collection_id,
            quality=float(generator.random()),
        )
        for subject in everybody
    ]
    old_galleries.write_first(path, contract, now, subjects, samples)
    old_galleries.remember_request(path, "r-1", "p02")
    receipt_id = str(ULID())
    old_galleries.erase(path, "p11", now, receipt_id)
    held = {row_id: sample for row_id, sample in enumerate(samples, start=1) if sample.subject_id != "p11"}
    return Old([one for one in subjects if one.subject_id != "p11"], held, {}, {}, receipt_id)


@pytest.fixture
def second(path: Path, old: Old, target: EmbeddingContract, vault: KeyFile, now: datetime) -> Old:
    """The gallery as one of the second release: with vectors of another contract, and crops."""
    generator = np.random.default_rng(9)
    former, crops = {}, {}
    for sample in old.samples.values():
        vector = generator.normal(size=6)
        former[sample.sample_id] = (vector / np.linalg.norm(vector)).astype(np.float32)
        crops[sample.sample_id] = generator.bytes(300)
    kept = dict(list(crops.items())[::2])
    old_galleries.to_second(path, now, vault.make(), target, former, kept)
    return replace(old, former=former, crops=kept)


def check_kept(store: Store, old: Old, target: EmbeddingContract, now: datetime) -> None:
    """Everything of ``old`` is in ``store``, to the bit."""
    counts = dict.fromkeys([(one.collection_id, one.subject_id) for one in old.subjects], 0)
    for sample in old.samples.values():
        counts[sample.collection_id, sample.subject_id] += 1
    wanted = [replace(one, sample_count=counts[one.collection_id, one.subject_id]) for one in old.subjects]
    assert list(store.subjects()) == sorted(wanted, key=lambda one: (one.collection_id, one.subject_id))
    assert store.created_by("r-1") == store.get_subject("office", "p02")
    found = dict(store.contracts.samples("resnet-a/1"))
    assert found.keys() == old.samples.keys()
    former = {sample.sample_id: sample.vector for _, sample in store.contracts.samples(target.contract_id)}
    assert former.keys() == old.former.keys()
    names = ("sample_id", "collection_id", "subject_id", "quality", "source", "image_sha256", "create_time")
    for row_id, sample in old.samples.items():
        assert [getattr(found[row_id], name) for name in names] == [getattr(sample, name) for name in names]
        np.testing.assert_array_equal(found[row_id].vector, sample.vector)
        assert store.crops.get(row_id) == old.crops.get(sample.sample_id)
        if sample.sample_id in former:
            np.testing.assert_array_equal(former[sample.sample_id], old.former[sample.sample_id])
    receipt = store.receipts.get(old.receipt_id)
    assert (receipt.collection_id, receipt.subject_id, receipt.erase_time) == ("office", "p11", now)
    assert is_signed(receipt.document.encode(), receipt.signature, receipt.public_key)


def applied(path: Path) -> list[str]:
    with closing(sqlite3.connect(path)) as connection:
        return [name for (name,) in connection.execute("SELECT name FROM migrations ORDER BY name")]


def test_a_gallery_of_the_first_release_keeps_everything(
    path: Path, old: Old, contract: EmbeddingContract, target: EmbeddingContract, vault: KeyFile, now: datetime
) -> None:
    for days in range(2):
        with closing(open_store(path, contract, now + timedelta(days=days), vault)) as store:
            check_kept(store, old, target, now)
            with pytest.raises(DuplicateImageError):
                store.add_sample(replace(old.samples[1], sample_id=str(ULID())))


def test_a_gallery_of_the_second_release_keeps_everything(
    path: Path, second: Old, contract: EmbeddingContract, target: EmbeddingContract, vault: KeyFile, now: datetime
) -> None:
    for days in range(2):
        with closing(open_store(path, contract, now + timedelta(days=days), vault)) as store:
            check_kept(store, second, target, now)
            assert store.contracts.previous == target
    with closing(open_gallery(path, target, now, vault)) as gallery:  # the way back is open still
        for sample_id, vector in second.former.items():
            [sample] = [one for one in second.samples.values() if one.sample_id == sample_id]
            [[best]] = gallery.search(target.contract_id, sample.collection_id, vector[None], 1, now - timedelta(1))
            assert best.sample_id == sample_id or not gallery.recognises("office", sample.subject_id, now)


def test_an_empty_gallery_is_brought_up_to_date(
    path: Path, contract: EmbeddingContract, make_subject: MakeSubject, make_sample: MakeSample, now: datetime
) -> None:
    old_galleries.write_first(path, contract, now, [], [])
    with closing(open_store(path, contract, now)) as store:
        store.create_subject(make_subject())
        assert store.add_sample(make_sample()) == 1


def test_no_file_tells_what_was_in_the_clear(
    path: Path, second: Old, contract: EmbeddingContract, vault: KeyFile, now: datetime
) -> None:
    def readable() -> list[bytes]:
        content = b"".join(file.read_bytes() for file in path.parent.iterdir())
        return [trace for trace in second.traces if trace in content]

    assert readable() == second.traces
    with closing(open_store(path, contract, now, vault)):
        assert readable() == []  # from the first moment on
    assert readable() == []


def test_the_key_to_old_crops_is_not_made_anew(
    path: Path,
    second: Old,
    contract: EmbeddingContract,
    target: EmbeddingContract,
    vault: KeyFile,
    tmp_path: Path,
    now: datetime,
) -> None:
    missing = KeyFile(tmp_path / "missing")
    with pytest.raises(DependencyError, match=f"their key is missing: there is none in the file {missing.path}") as no:
        open_store(path, contract, now, missing)
    assert no.value.reason == "KEY_MISSING"
    assert not missing.path.exists()
    missing.make()
    with pytest.raises(DependencyError, match="not the one that the gallery's crops were sealed with") as no:
        open_store(path, contract, now, missing)
    assert no.value.reason == "KEY_WRONG"
    assert applied(path) == ["0001_gallery", "0002_contracts"]
    with closing(open_store(path, contract, now, vault)) as store:
        check_kept(store, second, target, now)


def test_crops_that_do_not_open_leave_the_old_gallery(
    path: Path, second: Old, contract: EmbeddingContract, target: EmbeddingContract, vault: KeyFile, now: datetime
) -> None:
    with closing(sqlite3.connect(path)) as connection, connection:
        [(row_id, sealed)] = connection.execute("SELECT row_id, sealed FROM crops ORDER BY row_id DESC LIMIT 1")
        connection.execute("UPDATE crops SET sealed = zeroblob(60) WHERE row_id = ?", (row_id,))
    with pytest.raises(DependencyError, match="restore") as refused:
        open_store(path, contract, now, vault)
    assert refused.value.reason == "GALLERY_DAMAGED"
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("UPDATE crops SET sealed = ? WHERE row_id = ?", (sealed, row_id))
    with closing(open_store(path, contract, now, vault)) as store:
        check_kept(store, second, target, now)


def test_interrupted_anywhere_it_is_the_old_gallery_or_the_new(
    path: Path,
    second: Old,
    contract: EmbeddingContract,
    target: EmbeddingContract,
    vault: KeyFile,
    tmp_path: Path,
    now: datetime,
) -> None:
    database = FilmedDatabase(path)
    Store.open(database, contract, now, [vault]).close()
    chance = random.Random(2)
    seen = set()
    for number, write in enumerate(database.film.writes):
        for part, files in enumerate(write.cuts(chance, 2)):
            folder = tmp_path / f"{number} {part}"
            lay_out(files, folder)
            file = folder / path.name
            state = applied(shutil.copytree(folder, tmp_path / f"{number} {part} raw") / path.name)
            seen.add(len(state))
            with closing(open_store(file, contract, now, vault)) as store:
                check_kept(store, second, target, now)
    assert seen == {2, 3}


KILLED = """
import os, signal, sys
from datetime import UTC, datetime
from pathlib import Path
from facesvc.database.sqlite import SqliteDatabase
from facesvc.gallery import EmbeddingContract, rows
from facesvc.gallery.masterkey import KeyFile
from facesvc.gallery.store import Store

seal_vector, left = rows.seal_vector, int(sys.argv[3])

def seal_some(*args):
    global left
    left -= 1
    if left < 0:
        os.kill(os.getpid(), signal.SIGKILL)
    return seal_vector(*args)

rows.seal_vector = seal_some
database = SqliteDatabase(Path(sys.argv[1]))
Store.open(database, EmbeddingContract("resnet-a/1", 4), datetime(2026, 3, 2, tzinfo=UTC), [KeyFile(Path(sys.argv[2]))])
"""


@pytest.mark.parametrize("sealed", [0, 37])
def test_killed_half_way_it_is_the_old_gallery(
    path: Path,
    second: Old,
    contract: EmbeddingContract,
    target: EmbeddingContract,
    vault: KeyFile,
    now: datetime,
    sealed: int,
) -> None:
    command = [sys.executable, "-c", KILLED, str(path), str(vault.path), str(sealed)]
    assert subprocess.run(command, check=False).returncode == -signal.SIGKILL
    with closing(sqlite3.connect(path)) as connection:
        names = connection.execute("SELECT display_name FROM subjects ORDER BY collection_id, subject_id").fetchall()
    assert sorted(name for (name,) in names) == sorted(one.display_name for one in second.subjects)
    with closing(open_store(path, contract, now, vault)) as store:
        check_kept(store, second, target, now)
