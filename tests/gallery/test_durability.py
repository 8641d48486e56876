"""What was acknowledged survives ``kill -9``."""

import signal
import subprocess
import sys
from contextlib import closing
from datetime import datetime
from pathlib import Path

import numpy as np
from galleries import open_gallery

from facesvc.gallery import EmbeddingContract
from facesvc.gallery.masterkey import KeyFile

# Enrols until it is killed; a line says what the gallery has acknowledged: sample id, subject id, seed of the vector.
ENROL = """
import hashlib, sys
from datetime import UTC, datetime
from pathlib import Path
import numpy as np
from ulid import ULID
from facesvc.database.sqlite import SqliteDatabase
from facesvc.gallery import EmbeddingContract, Gallery, Sample, Subject
from facesvc.gallery.masterkey import KeyFile

now = datetime(2026, 3, 2, tzinfo=UTC)
database = SqliteDatabase(Path(sys.argv[1]))
gallery = Gallery.open(database, EmbeddingContract("resnet-a/1", 64), now, [KeyFile(Path(sys.argv[2]))])
for seed in range(1_000_000):
    subject_id = f"p{seed // 3}"
    if seed % 3 == 0:
        gallery.create_subject(Subject(
            collection_id="office", subject_id=subject_id, display_name="", create_time=now, update_time=now))
    vector = np.random.default_rng(seed).normal(size=64)
    sample = Sample(
        sample_id=str(ULID()), collection_id="office", subject_id=subject_id, quality=1.0, source="test",
        vector=(vector / np.linalg.norm(vector)).astype(np.float32),
        image_sha256=hashlib.sha256(str(seed).encode()).digest(), create_time=now)
    gallery.add_sample(sample, 0.99, now, contract_id="resnet-a/1")
    print(sample.sample_id, subject_id, seed, flush=True)
"""


def test_every_acknowledged_sample_survives_a_kill(path: Path, vault: KeyFile, now: datetime) -> None:
    command = [sys.executable, "-c", ENROL, str(path), str(vault.path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        lines = [child.stdout.readline() for _ in range(40)]
        child.send_signal(signal.SIGKILL)
        lines += child.stdout.readlines()
    assert child.returncode == -signal.SIGKILL
    acknowledged = [line.split() for line in lines if line.endswith("\n")]
    assert len(acknowledged) >= 40
    with closing(open_gallery(path, EmbeddingContract("resnet-a/1", 64), now, vault)) as gallery:
        stored = {
            sample.sample_id
            for number in range(gallery.subject_count("office"))
            for sample in gallery.list_samples("office", f"p{number}")
        }
        assert {sample_id for sample_id, _, _ in acknowledged} <= stored
        assert gallery.sample_count("office") == len(stored) <= len(acknowledged) + 1
        for sample_id, subject_id, seed in acknowledged:
            vector = np.random.default_rng(int(seed)).normal(size=64)
            query = (vector / np.linalg.norm(vector)).astype(np.float32)
            [[best]] = gallery.search("resnet-a/1", "office", query[None], 1, now)
            assert (best.subject_id, best.sample_id) == (subject_id, sample_id)
            assert best.similarity > 0.999
