"""A migration that is killed anywhere leaves a gallery that opens, with everybody in it, and that can go on."""

import signal
import subprocess
import sys
from contextlib import closing
from datetime import datetime
from pathlib import Path

import numpy as np
import pytest
from galleries import open_gallery
from numpy.typing import NDArray

from facesvc.errors import ContractMismatchError
from facesvc.gallery import EmbeddingContract, Gallery
from facesvc.gallery.masterkey import KeyFile

# Goes from contract to contract until it is killed, enrolling meanwhile; a line says what was acknowledged.
MIGRATE = """
import hashlib, sys
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
import numpy as np
from ulid import ULID
from facesvc.database.sqlite import SqliteDatabase
from facesvc.gallery import EmbeddingContract, Gallery, Sample, Subject
from facesvc.gallery.masterkey import KeyFile

def contract_of(n):
    return EmbeddingContract(f"pack/{n}", 16 + n % 3)

def vector_of(seed, n):
    vector = np.random.default_rng([int(seed), n]).normal(size=16 + n % 3)
    return (vector / np.linalg.norm(vector)).astype(np.float32)

now = datetime(2026, 3, 2, tzinfo=UTC)
database = SqliteDatabase(Path(sys.argv[1]))
gallery = Gallery.open(database, contract_of(0), now, [KeyFile(Path(sys.argv[2]))])
seeds = count()

def enrol(n):
    seed = str(next(seeds))
    gallery.create_subject(Subject(
        collection_id="office", subject_id=seed, display_name="", create_time=now, update_time=now))
    sample = Sample(
        sample_id=str(ULID()), collection_id="office", subject_id=seed, quality=1.0, source="test",
        vector=vector_of(seed, n), image_sha256=hashlib.sha256(seed.encode()).digest(), create_time=now)
    gallery.add_sample(sample, None, now, contract_id=contract_of(n).contract_id, crop=seed.encode())
    print("enrolled", seed, flush=True)

for _ in range(20):
    enrol(0)
for n in count(1):
    with gallery.begin_migration(contract_of(n)) as migration:
        for newcomers in (1, 0):
            for _ in range(newcomers):
                enrol(n - 1)
            pending = list(migration.pending())
            for first in range(0, len(pending), 6):
                migration.put_many({row: vector_of(migration.crop(row), n) for row in pending[first : first + 6]})
                print("put", n, flush=True)
            if newcomers:
                enrol(n - 1)
        migration.switch(now, allow_missing=False)
        print("switched", n, flush=True)
"""


def contract_of(n: int) -> EmbeddingContract:
    return EmbeddingContract(f"pack/{n}", 16 + n % 3)


def vector_of(seed: str, n: int) -> NDArray[np.float32]:
    vector = np.random.default_rng([int(seed), n]).normal(size=16 + n % 3)
    return (vector / np.linalg.norm(vector)).astype(np.float32)


def assert_all_there(gallery: Gallery, seeds: list[str], n: int, now: datetime) -> None:
    assert gallery.contract == contract_of(n)
    for seed in seeds:
        [[best]] = gallery.search(contract_of(n).contract_id, "office", vector_of(seed, n)[None], 1, now)
        assert (best.subject_id, best.similarity > 0.999) == (seed, True)
    # One more may have been on its way: a subject, or a subject with its sample.
    assert len(seeds) <= gallery.sample_count("office") <= gallery.subject_count("office") <= len(seeds) + 1


# The first migration takes line 21 to 29: one more person, four batches, another person, a batch, the switch.
@pytest.mark.parametrize(
    "lines", [20, 24, 29, 40, *(pytest.param(lines, marks=pytest.mark.slow) for lines in (21, 22, 26, 27, 28, 31))]
)
def test_a_killed_migration_loses_nobody(path: Path, tmp_path: Path, now: datetime, lines: int) -> None:
    key_path = tmp_path / "master.key"
    command = [sys.executable, "-c", MIGRATE, str(path), str(key_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        said = [child.stdout.readline() for _ in range(lines)]
        child.send_signal(signal.SIGKILL)
        said += child.stdout.readlines()
    assert child.returncode == -signal.SIGKILL
    acknowledged = [line.split() for line in said if line.endswith("\n")]
    seeds = [seed for what, seed in acknowledged if what == "enrolled"]
    switches = [int(n) for what, n in acknowledged if what == "switched"]
    current = max(switches, default=0)
    vault = KeyFile(key_path)
    # As a rule the last acknowledged contract is the current one, or else the one before: it has every vector.
    with closing(open_gallery(path, contract_of(current), now, vault)) as gallery:
        assert_all_there(gallery, seeds, current, now)
    try:
        following = open_gallery(path, contract_of(current + 1), now, vault)
    except ContractMismatchError:
        following = open_gallery(path, contract_of(current), now, vault)
        with following.begin_migration(contract_of(current + 1)) as migration:
            for row_id in list(migration.pending()):
                crop = migration.crop(row_id)
                assert crop is not None
                migration.put(row_id, vector_of(crop.decode(), current + 1))
            migration.switch(now, allow_missing=False)
    with closing(following):
        assert_all_there(following, seeds, current + 1, now)
