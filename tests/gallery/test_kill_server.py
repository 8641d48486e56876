"""``kill -9`` of the real server in the middle of enrolments and erasures: what it has answered stands."""

import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from queue import SimpleQueue
from threading import Thread

import cv2
import numpy as np
import pytest

from facesvc.client import CallError, Client, sample
from facesvc.database.exchange import keyring_path
from facesvc.v1 import enrollment_pb2

_KILLS = 100
_TOGETHER = 3  # pictures in one stream
_ENROLLED = enrollment_pb2.ENROLLMENT_VERDICT_ENROLLED


@dataclass(frozen=True, slots=True)
class Try:
    """A call that was made, and how many pictures it sent."""

    kind: str
    subject_id: str
    pictures: int = 0


@dataclass(slots=True)
class Ledger:
    """What a server has answered: samples by person, and the call that it has not answered, if there is one."""

    people: dict[str, set[str]] = field(default_factory=dict)
    open: Try | None = None

    def began(self, tried: Try) -> None:
        self.open = tried

    def done(self, sample_id: str = "") -> None:
        """Takes an answer; that to one of several pictures leaves the call open."""
        assert self.open is not None
        match self.open.kind:
            case "create":
                self.people[self.open.subject_id] = set()
            case "erase":
                del self.people[self.open.subject_id]
            case "enrol":
                self.people[self.open.subject_id] |= {sample_id} - {""}
                left = self.open.pictures - 1
                self.open = Try("enrol", self.open.subject_id, left) if left else None
                return
        self.open = None

    def check(self, people: dict[str, set[str]]) -> None:
        """That this may be what a server knows after it was killed; from here on it is what is known."""
        tried = self.open or Try("nothing", "")
        doubtful = {tried.subject_id} if tried.kind in {"create", "erase"} else set()
        assert people.keys() - doubtful == self.people.keys() - doubtful
        for subject_id, found in people.items():
            known = self.people.get(subject_id, set())
            assert found >= known
            assert len(found - known) <= (tried.pictures if subject_id == tried.subject_id else 0)
        self.people, self.open = people, None


class Pictures:
    """Pictures of some people, each another one than all before."""

    def __init__(self, portraits: dict[str, np.ndarray]) -> None:
        self.portraits = portraits
        self._noise = np.random.default_rng(3)

    def next(self, name: str) -> bytes:
        pixels = self.portraits[name]
        noisy = np.clip(pixels + self._noise.normal(scale=2, size=pixels.shape), 0, 255).astype(np.uint8)
        return cv2.imencode(".png", noisy)[1].tobytes()


@contextmanager
def serving(folder: Path, pack_cache: Path) -> Iterator[tuple["subprocess.Popen[str]", Client]]:
    """The server as a process of its own, killed at the end unless it has ended; with a client."""
    environment = os.environ | {
        "FACESVC_MODELS__CACHE_DIR": str(pack_cache),
        "FACESVC_GALLERY__PATH": str(folder / "gallery.db"),
        "FACESVC_ENROLLMENT__KEEP_CROPS": "true",
    }
    command = [sys.executable, "-m", "facesvc", "serve", "--listen", "127.0.0.1:0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=environment, text=True) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        try:
            with Client(line.rsplit(" ", 1)[1].strip()) as client:
                client.wait_until_serving()
                yield process, client
        finally:
            process.kill()


def live(
    client: Client, ledger: Ledger, pictures: Pictures, chance: random.Random, answers: "SimpleQueue[str]"
) -> None:
    """Creates, enrols and erases until the server is gone; says of each answer that it came."""
    try:
        while True:
            name = chance.choice(sorted(pictures.portraits))
            if name not in ledger.people:
                ledger.began(Try("create", name))
                client.create_subject(enrollment_pb2.Subject(subject_id=name, display_name=name))
            elif chance.random() < 0.4:
                ledger.began(Try("erase", name))
                client.erase_subject(name)
            else:
                enrol(client, ledger, pictures, name, answers)
                continue
            ledger.done()
            answers.put("done")
    except CallError:
        answers.put("gone")


def enrol(client: Client, ledger: Ledger, pictures: Pictures, name: str, answers: "SimpleQueue[str]") -> None:
    ledger.began(Try("enrol", name, _TOGETHER))
    sent = [sample(name, pictures.next(name), allow_conflict=True) for _ in range(_TOGETHER)]
    for answer in client.enroll(sent):
        ledger.done(answer.sample.sample_id if answer.verdict == _ENROLLED else "")
        answers.put("done")


def known_to(client: Client, pictures: Pictures) -> dict[str, set[str]]:
    """The samples of everybody; whom a search finds are those who have some, each as one of these."""
    ids = [subject.subject_id for subject in client.list_subjects()]
    people = {one: {known.sample_id for known in client.list_samples(one)} for one in ids}
    for name in pictures.portraits:
        [face] = client.search(pictures.next(name)).faces
        found = {candidate.subject_id: candidate.sample_id for candidate in face.decision.candidates}
        assert found.keys() <= {one for one, samples in people.items() if samples}
        if people.get(name):
            assert found[name] in people[name]
    return people


@pytest.fixture
def album(group_jpeg: bytes, pack_cache: Path, tmp_path: Path) -> Pictures:
    """Portraits of those of the group who look straight at the camera: each is found in every picture of theirs."""
    pixels = cv2.imdecode(np.frombuffer(group_jpeg, np.uint8), cv2.IMREAD_COLOR)
    assert pixels is not None
    with serving(tmp_path / "portraits", pack_cache) as (_, client):
        boxes = sorted((face.box for face in client.detect(group_jpeg).faces), key=lambda box: box.left)
    portraits = {}
    for name, box in zip(("ana", "", "cem", "", "", "fay"), boxes, strict=True):
        room = 0.35 * box.width
        rows = slice(max(0, int(box.top - room)), int(box.top + box.height + room))
        portraits[name] = pixels[rows, max(0, int(box.left - room)) : int(box.left + box.width + room)]
    del portraits[""]
    return Pictures(portraits)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_killed_server_has_done_what_it_answered(album: Pictures, pack_cache: Path, tmp_path: Path) -> None:
    folder = tmp_path / "killed"
    chance = random.Random(4)
    ledger, answered = Ledger(), 0
    for _ in range(_KILLS):
        with serving(folder, pack_cache) as (process, client):
            ledger.check(known_to(client, album))
            assert client.verify_audit().broken_sequence == 0
            answers: SimpleQueue[str] = SimpleQueue()
            life = Thread(target=live, args=(client, ledger, album, chance, answers))
            life.start()
            for _ in range(chance.randrange(1, 12)):
                assert answers.get(timeout=60) == "done"
                answered += 1
            time.sleep(chance.uniform(0, 0.15))  # not to wait for anything: so that the kill comes anywhere in a call
            process.send_signal(signal.SIGKILL)
            life.join(60)
            assert not life.is_alive()
    with serving(folder, pack_cache) as (process, client):
        ledger.check(known_to(client, album))
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0
    with closing(sqlite3.connect(folder / "gallery.db")) as connection:
        connection.execute("ATTACH DATABASE ? AS keyring", (str(keyring_path(folder / "gallery.db")),))
        keys = connection.execute("SELECT subject_id FROM keyring.subject_keys WHERE subject_id <> ''").fetchall()
    assert {subject_id for (subject_id,) in keys} == ledger.people.keys()
    assert answered >= _KILLS
