"""What is fuzzed: everything that reads bytes of somebody else's, each as a function of those bytes.

A target ends normally or with an error of ours, which is caught here; whatever else leaves it is a crash, and so is
taking longer or more memory than such a reader may. ``python tests/fuzz/fuzz.py`` and the tests run the same table.
"""

import atexit
import io
import re
import resource
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from urllib.parse import urlsplit

import lz4.frame
import numpy as np
import onnx
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import InvalidVersion, load_der_x509_certificate
from fuzz import exploring, mending, plugin_targets, seeds, served_target

from facesvc import config
from facesvc.api import paging
from facesvc.backup import manifest as backup_manifest
from facesvc.cli import encoding_files
from facesvc.cli.sources import film_of
from facesvc.database.sqlite import SqliteDatabase
from facesvc.errors import FacesvcError, InputError
from facesvc.gallery import saved_view
from facesvc.gallery.crypto import Cipher
from facesvc.models import archives, description, dlib_resnet, mtcnn, packs, trial
from facesvc.security.authority import identity_of
from facesvc.security.tokens import Tokens
from facesvc.v1 import enrollment_pb2
from facesvc.vision.decode import ImageLimits, decode, read_header

MAX_CPU_S = 10.0
MAX_GROWTH_BYTES = 256 << 20
_PLAIN = re.compile(r"[A-Za-z0-9_.+=@,() /-]+")
_SCALES = (1.0, 0.5, 0.25, 0.125)
_LIMITS = ImageLimits(max_pixels=1_000_000)

Run = Callable[[bytes], None]


@dataclass(frozen=True, slots=True)
class Target:
    """``seeds`` are what it is glad to read, ``share`` is its part of the tests' time."""

    run: Run
    seeds: Callable[[], Sequence[bytes]]
    share: float = 1.0
    max_growth_bytes: int = MAX_GROWTH_BYTES

    def __call__(self, data: bytes) -> None:
        """Raises ``AssertionError``, or whatever it should not have raised."""
        started, highest = time.process_time(), _highest_memory()
        try:
            self.run(data)
        except FacesvcError as error:
            assert error.message  # noqa: PT017 - whichever it is
        spent, grown = time.process_time() - started, _highest_memory() - highest
        assert spent < MAX_CPU_S, f"{len(data)} bytes kept it busy for {spent:.1f} s"
        assert grown < self.max_growth_bytes, f"{len(data)} bytes made it grow by {grown >> 20} MiB"


def _highest_memory() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10


@cache
def workplace() -> Path:
    """A folder for what has to be a file; it is gone with the process."""
    folder = TemporaryDirectory(prefix="facesvc-fuzz-")
    atexit.register(folder.cleanup)
    return Path(folder.name)


def file_of(data: bytes, name: str) -> Path:
    """A file that holds these bytes."""
    path = workplace() / name
    path.write_bytes(data)
    return path


def run_decode(data: bytes) -> None:
    """A picture, at the scale that the first byte names; it also says whether the checksums of a PNG are put right."""
    kind, picture = data[0] if data else 0, data[1:]
    scale = _SCALES[kind % 4]
    if kind & 4:
        picture = mending.png(picture)
    header = read_header(picture, _LIMITS)
    image = decode(picture, header, scale)
    assert (image.width, image.height) == header.seen_size
    assert image.pixels.dtype == np.uint8


def run_onnx(data: bytes) -> None:
    """A graph as each family of networks, as the first byte says."""
    graph, path = data[1:], Path("graph.onnx")
    match data[0] % 3 if data else 0:
        case 0:
            assert trial.detector_family(path, graph, None) in {"scrfd", "yunet"}
        case 1:
            side, dimension = trial.embedder_sizes(path, graph, None)
            assert side > 0
            assert dimension > 0
        case _:
            trial.check_liveness(path, graph, "minifasnet")


def run_dlib(data: bytes) -> None:
    """The weights of the embedder."""
    assert isinstance(dlib_resnet.build(data), onnx.ModelProto)


def run_mtcnn(data: bytes) -> None:
    """Weights of the detector, as the first byte says: packed or not, of which network."""
    kind, content = (data[0], data[1:]) if data else (0, b"")
    packed = content if kind & 4 else lz4.frame.compress(content)
    try:
        arrays = mtcnn.read_arrays(packed)
    finally:
        assert not seeds.SPRUNG
    for array in arrays:
        assert type(array) is np.ndarray
        assert array.dtype == np.dtype("<f4")
    (mtcnn.build_pnet, mtcnn.build_rnet, mtcnn.build_onet, mtcnn.build_pnet)[kind % 4](packed)


def run_encodings(data: bytes) -> None:
    """A file of encodings: .npz, JSON or a pickle."""
    try:
        found = encoding_files.decode(io.BytesIO(data))
    finally:
        assert not seeds.SPRUNG
    for entry in found.entries:
        assert entry.vector.dtype == np.float32
        assert type(entry.name) is type(entry.subject_id) is str


def run_archive(data: bytes) -> None:
    """A zip or a tar: what comes out lies where it should, and nothing does where it is refused.

    The first byte says whether the checksums of a tar are put right.
    """
    content = mending.tar(data[1:]) if data[:1] and data[0] & 1 else data[1:]
    archive, folder = file_of(content, "archive"), workplace() / "unpacked"
    folder.mkdir(exist_ok=True)
    archives._empty(folder)
    names: list[str] = []
    try:
        names = archives.unpack(archive, folder, max_bytes=1 << 20, max_files=20)
        assert sum((folder / name).stat().st_size for name in names) <= 1 << 20
    finally:
        found = [path for path in folder.rglob("*") if not path.is_dir()]
        assert all(path.is_file() and not path.is_symlink() for path in found)
        assert {path.relative_to(folder).as_posix() for path in found} == set(names)
        assert all(_PLAIN.fullmatch(name) for name in names)


def run_description(data: bytes) -> None:
    """What somebody says of their pack."""
    file_of(data, description.PACK_TOML)
    description.read_toml(workplace())


def run_pack_manifest(data: bytes) -> None:
    """The manifest of a pack that came from elsewhere."""
    file_of(data, packs.MANIFEST)
    packs.load_any_manifest(workplace())


def run_settings(data: bytes) -> None:
    """The settings file."""
    config.load(file_of(data, "facesvc.toml"))


def run_saved_view(data: bytes) -> None:
    """The gallery as it is kept for the next start; the first byte is the width of a row's codes."""
    width, content = data[0] if data else 0, data[1:]
    for entry in saved_view.read(file_of(content, "view")):
        assert saved_view.unseal(entry, "contract", seeds.CIPHER) is None or entry in seeds.view_entries()
    saved_view.Part.from_bytes(content, width)


def run_backup_manifest(data: bytes) -> None:
    """The manifest of a backup, as it is or, where the first byte is odd, written by whoever has its key."""
    content = data[1:]
    if data[:1] and data[0] & 1:
        key = seeds.CIPHER_KEY
        sealed = Cipher(key).seal(content, backup_manifest.associated("backup manifest", "b"))
        content = backup_manifest._first_line("b", key, seeds.CIPHER) + sealed
    backup_manifest.unseal(content, "b", [seeds.CIPHER])


@cache
def _tokens() -> Tokens:
    return Tokens(SqliteDatabase(workplace() / "tokens.db"), bytes(32), lambda: datetime.now(UTC))


def run_token(data: bytes) -> None:
    """What somebody shows as their token; gRPC has it as text."""
    for text in (data.decode("ascii", "replace"), data.decode("latin-1")):
        assert _tokens().find(text) is None
        assert not _tokens().id_of(text)


def run_certificate(data: bytes) -> None:
    """A client's certificate, as PEM or, in the other half, as DER that a library has made PEM of."""
    identity_of(data, datetime.now(UTC))
    try:
        pem = load_der_x509_certificate(data[1:]).public_bytes(Encoding.PEM)
    except (ValueError, InvalidVersion) as error:
        raise InputError("this is no certificate") from error
    identity_of(pem, datetime.now(UTC))


def run_page_token(data: bytes) -> None:
    """Where the next page begins."""
    request = enrollment_pb2.ListSubjectsRequest(collection_id="c", page_token=data.decode("utf-8", "ignore"))
    key = paging.key_after(request, (str, int))
    assert key is None or [type(one) for one in key] == [str, int]


def run_source(data: bytes) -> None:
    """What to play: the name that is shown has no password in it."""
    try:
        film = film_of(data.decode("utf-8", "replace"))
    except OSError as error:  # which a command says in a line, as it does ours
        raise InputError(str(error)) from error
    assert film is None or not film.live or "@" not in urlsplit(film.name).netloc


TARGETS: Mapping[str, Target] = {
    "decode": Target(run_decode, seeds.pictures, 2),
    # The trial of a graph has a limit of its own.
    "onnx": Target(run_onnx, seeds.graphs, max_growth_bytes=5 << 29),
    "dlib": Target(run_dlib, seeds.dlib_weights),
    "mtcnn": Target(run_mtcnn, seeds.mtcnn_weights),
    "encodings": Target(run_encodings, seeds.encodings, 2),
    "archive": Target(run_archive, seeds.archives, 2),
    "description": Target(run_description, seeds.descriptions),
    "pack-manifest": Target(run_pack_manifest, seeds.pack_manifests),
    "settings": Target(run_settings, seeds.settings),
    "saved-view": Target(run_saved_view, seeds.saved_views, 0.5),
    "backup-manifest": Target(run_backup_manifest, seeds.backup_manifests),
    "token": Target(run_token, seeds.tokens, 0.5),
    "source": Target(run_source, seeds.sources, 0.5),
    "certificate": Target(run_certificate, seeds.certificates, 0.5),
    "page-token": Target(run_page_token, seeds.page_tokens, 0.5),
    "server": Target(served_target.run, served_target.seeds, 5),
    **({"graph": Target(plugin_targets.run_graph, plugin_targets.graph_answers)} if find_spec("facesvc_graph") else {}),
    **({"door": Target(plugin_targets.run_door, plugin_targets.door_commands)} if find_spec("facesvc_door") else {}),
}


def seconds_of(name: str) -> float:
    """How long the tests fuzz a target."""
    return exploring.SECONDS * TARGETS[name].share / sum(target.share for target in TARGETS.values())
