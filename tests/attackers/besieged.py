"""A box as `facesvc init` makes it, with the server as a process of its own behind TLS, and whoever comes to it."""

import os
import shutil
import socket
import subprocess
import sys
import threading
import tomllib
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path
from typing import Any

import grpc
from models import tiny_packs

from facesvc.cli.init import tokens_in
from facesvc.client import CallError, Client, Credentials, encoding, frame, opening, sample
from facesvc.config import GallerySettings
from facesvc.database.opening import open_database
from facesvc.models import default_pack, intake
from facesvc.models.library import Library
from facesvc.security.authority import Authority, Issued
from facesvc.security.principals import Scope
from facesvc.security.roles import Role
from facesvc.v1 import enrollment_pb2, recognition_pb2

NAME, SUBJECT, CARD, TEAM = "Jane Quartz", "jane-q", "card-77123", "team-obsidian"
OTHER_NAME, OTHER_SUBJECT = "Eve Opal", "eve-o"
SECRETS = (NAME, SUBJECT, CARD, TEAM, OTHER_NAME, OTHER_SUBJECT)
"""What nobody is to learn who may not."""

# Short waits, so that whoever says nothing is cut off within a test; everything else is as it comes.
_MORE = """
[limits]
handshake_timeout_seconds = 2.0
request_timeout_seconds = 2.0
stream_opening_timeout_seconds = 2.0

[liveness]
pack = "alive"

[policies.gate]
liveness_required = true
matches = 2
frames = 3

[backup]
folder = "{folder}/backups"

[metrics]
listen = "127.0.0.1:{metrics}"
"""
# With PR_SET_PDEATHSIG (linux/prctl.h): tests that are killed leave no server behind.
_SERVE = "import ctypes, runpy; ctypes.CDLL(None).prctl(1, 15); runpy.run_module('facesvc', run_name='__main__')"
_GATES = frozenset({"gate", *(f"gate-{number}" for number in range(100))})
_NUMBERS = count()
_SCOPES = {
    "camera": (Role.CAMERA, Scope(camera_ids=_GATES)),
    "wide camera": (Role.CAMERA, Scope()),
    "dashboard": (Role.DASHBOARD, Scope()),
    "lab dashboard": (Role.DASHBOARD, Scope(collection_ids=frozenset({"lab"}))),
    "door": (Role.DOOR, Scope(camera_ids=_GATES)),
    "other door": (Role.DOOR, Scope()),
    "enroller": (Role.ENROLLER, Scope()),
    "climber": (Role.ENROLLER, Scope()),
    "auditor": (Role.AUDITOR, Scope()),
}


@dataclass
class Box:
    """``tokens`` by what they are for, ``picture`` of the one person whom the server knows by their face."""

    folder: Path
    picture: bytes
    tokens: dict[str, str]
    process: "subprocess.Popen[str]"
    address: str
    mtls: str
    metrics: int
    _closing: ExitStack = field(default_factory=ExitStack)

    @property
    def port(self) -> int:
        return int(self.address.rpartition(":")[2])

    @property
    def etc(self) -> Path:
        return self.folder / "etc"

    @property
    def data(self) -> Path:
        return self.folder / "data"

    @property
    def ca(self) -> Path:
        return self.etc / "ca.pem"

    @property
    def authority(self) -> Authority:
        """The box's own: what only the administrator has."""
        return Authority.read(self.ca, self.etc / "ca.key")

    def client(self, token: str = "", identity: Issued | None = None, *, address: str = "") -> Client:
        """Somebody with a token (what it is for, or its text), with a certificate, or with nothing."""
        own = {"certificate": identity.certificate, "key": identity.key} if identity else {}
        credentials = Credentials(ca=self.ca.read_bytes(), token=self.tokens.get(token, token), **own)
        return self._closing.enter_context(Client(address or self.address, credentials=credentials))

    def channel(self, token: str = "") -> grpc.Channel:
        """A bare one."""
        credentials = Credentials(ca=self.ca.read_bytes(), token=self.tokens.get(token, token))
        channel = grpc.secure_channel(self.address, credentials.for_channel())
        self._closing.callback(channel.close)
        return channel

    def bearer(self, name: str) -> tuple[str, str]:
        return "authorization", f"Bearer {self.tokens[name]}"

    def memory_mb(self, what: str = "VmRSS") -> float:
        """What the server has in memory; ``VmHWM``: what it had at most since its start."""
        for line in Path(f"/proc/{self.process.pid}/status").read_text().splitlines():
            if line.startswith(f"{what}:"):
                return int(line.split()[1]) / 1024
        raise AssertionError(what)

    def check_well(self) -> None:
        """That an honest camera is served, over a connection of its own."""
        credentials = Credentials(ca=self.ca.read_bytes(), token=self.tokens["camera"])
        with Client(self.address, credentials=credentials) as honest:
            [face] = honest.detect(self.picture).faces
            assert face.box.width > 0
        assert self.process.poll() is None

    def close(self) -> None:
        self._closing.close()


@contextmanager
def besieged(folder: Path, pack_cache: Path, picture: bytes) -> Iterator[Box]:
    """The box for the time of the block."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("FACESVC_")}
    environment |= {"FACESVC_MODELS__CACHE_DIR": str(_models(folder, pack_cache)), "PYTHONWARNINGS": "ignore"}
    facesvc = [sys.executable, "-m", "facesvc"]
    init = [*facesvc, "init", "--folder", str(folder / "etc"), "--listen", "127.0.0.1:0"]
    gallery = {"FACESVC_GALLERY__PATH": str(folder / "data" / "gallery.db")}
    subprocess.run(init, env=environment | gallery, check=True, stdout=subprocess.DEVNULL, timeout=60)
    mtls, metrics = _free_ports(2)
    settings = folder / "etc" / "facesvc.toml"
    text = settings.read_text().replace("# listen_mtls", f'listen_mtls = "127.0.0.1:{mtls}" #')
    settings.write_text(text + _MORE.format(folder=folder, metrics=metrics))
    assert tomllib.loads(settings.read_text())["server"]["listen_mtls"]
    tokens = _tokens(folder)
    serve = [sys.executable, "-c", _SERVE, "--config", str(settings), "--log-level", "debug", "serve"]
    with (
        (folder / "log").open("wb") as log,
        subprocess.Popen(serve, env=environment, stdout=subprocess.PIPE, stderr=log, text=True) as process,
    ):
        assert process.stdout is not None
        try:
            address = process.stdout.readline().rsplit(" ", 1)[-1].strip()
            box = Box(folder, picture, tokens, process, address, f"127.0.0.1:{mtls}", metrics)
            with closing(box):
                _enrol(box)
                yield box
        finally:
            process.terminate()
            process.wait(20)


def _models(folder: Path, pack_cache: Path) -> Path:
    """The default pack, and one for liveness that takes whatever is green for alive."""
    library = Library(folder / "models")
    shutil.copytree(pack_cache / default_pack.NAME, library.folder / default_pack.NAME)
    made = tiny_packs.write_liveness(folder / "brought")
    intake.draft(made, "", library, accepted=False, now=datetime.now(UTC)).install(library)
    return library.folder


def _free_ports(count: int) -> list[int]:
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        return [one.getsockname()[1] for one in sockets]


def _tokens(folder: Path) -> dict[str, str]:
    """One of each kind, and one that is over: made before the server has the database."""
    made = {"admin": (folder / "etc" / "admin.token").read_text().strip()}
    with closing(open_database(folder / "data" / "gallery.db")) as database:
        gallery = GallerySettings(path=folder / "data" / "gallery.db", key_file=folder / "etc" / "master.key")
        tokens = tokens_in(database, gallery, datetime.now(UTC))
        for name, (role, scope) in _SCOPES.items():
            made[name] = tokens.create(name.replace(" ", "-"), role, scope)[1]
        yesterday = datetime.now(UTC) - timedelta(days=1)
        past = tokens_in(database, gallery, yesterday)
        made["over"] = past.create("over", Role.ADMIN, None, yesterday + timedelta(hours=1))[1]
    return made


def _enrol(box: Box) -> None:
    """Jane by her face, Eve by a vector like hers."""
    admin = box.client("admin")
    for subject_id, name in ((SUBJECT, NAME), (OTHER_SUBJECT, OTHER_NAME)):
        ids, metadata = {"card_number": CARD if name == NAME else "card-2"}, {"team": TEAM}
        admin.create_subject(
            enrollment_pb2.Subject(subject_id=subject_id, display_name=name, external_ids=ids, metadata=metadata)
        )
    [answer] = admin.enroll([sample(SUBJECT, box.picture)])
    assert answer.verdict == enrollment_pb2.ENROLLMENT_VERDICT_ENROLLED, answer
    [face] = admin.embed(box.picture).faces
    vector = [-value for value in face.embedding]
    [imported] = admin.import_encodings([encoding(OTHER_SUBJECT, vector)])
    assert imported.verdict == enrollment_pb2.IMPORT_VERDICT_IMPORTED, imported


def refused(call: Any) -> CallError:
    """How a call was refused: ``call`` makes it, or gives answers of which the first is."""
    try:
        answer = call()
        if hasattr(answer, "__next__"):
            next(answer, None)
    except CallError as error:
        return error
    except grpc.RpcError as error:
        return CallError(error, "here")
    raise AssertionError("it was let in")


def film(box: Box, frames: int = 5, *, policy: str = "", picture: bytes = b"") -> list[recognition_pb2.FrameResult]:
    """What a camera is told while Jane stands before it: another one each time, or it would be no news."""
    opened = opening(f"gate-{next(_NUMBERS)}", every_frame=True, max_candidates=20, policy=policy)
    turn = threading.Semaphore(1)

    def pictures() -> Iterator[recognition_pb2.Frame]:
        for number in range(frames):
            turn.acquire()
            yield frame(number, picture or box.picture)

    results = []
    for result in box.client("camera").recognize(opened, pictures()):
        results.append(result)
        turn.release()
    return results
