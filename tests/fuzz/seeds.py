"""What each target is glad to read, a few small examples of each, made here: from them the fuzzers set out."""

import base64
import gzip
import io
import json
import lzma
import pickle
import tarfile
import zipfile
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import lz4.frame
import numpy as np
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import load_pem_x509_certificate
from fuzz import nasty
from models import tiny_packs
from vision.test_decode_hostile import FILES

from facesvc.api.paging import token_after
from facesvc.backup.manifest import Manifest, Opened, _to_object, seal
from facesvc.gallery import saved_view
from facesvc.gallery.crypto import KEY_SIZE, Cipher
from facesvc.models import default_pack, intake
from facesvc.models.library import Library
from facesvc.security.authority import Authority
from facesvc.security.roles import Role
from facesvc.v1 import enrollment_pb2

NOW = datetime(2026, 1, 2, tzinfo=UTC)
CIPHER_KEY = bytes(range(KEY_SIZE))
CIPHER = Cipher(CIPHER_KEY)


SPRUNG: list[str] = []
"""Whatever a pickle has called."""


def spring() -> list[str]:
    """Called by nobody but a reader that runs what a pickle says."""
    SPRUNG.append("a pickle was run")
    return SPRUNG


class Trap:
    """What it is pickled as is a call of ``spring``."""

    def __reduce__(self) -> tuple[object, ...]:
        return spring, ()


def behind(first: int, contents: Sequence[bytes]) -> list[bytes]:
    """Contents behind the byte that tells a target what to do with them."""
    return [bytes([first]) + content for content in contents]


@cache
def pictures() -> Sequence[bytes]:
    """Of every format and kind that is read, and the nasty ones that are small."""
    few = [one for one in map(nasty.made, nasty.SMALL) if len(one) < 50_000]
    return [*behind(4, list(FILES.values())), *behind(3, [FILES["JPEG"]]), *behind(0, few)]


@cache
def graphs() -> Sequence[bytes]:
    """Tiny graphs of each family."""
    return [b"\0" + tiny_packs.detector(), b"\1" + tiny_packs.embedder(), b"\2" + tiny_packs.minifasnet()]


def _dlib_integer(value: int) -> bytes:
    size = -(-value.bit_length() // 8)
    return bytes([size]) + value.to_bytes(size, "little")


def _dlib_tensor(*shape: int) -> bytes:
    values = np.zeros(int(np.prod(shape)), "<f4").tobytes()
    return b"".join(map(_dlib_integer, (2, *shape))) + values


def _dlib_layer(tag: str, *content: bytes) -> bytes:
    return _dlib_integer(len(tag)) + tag.encode() + b"".join(content)


def _dlib_window(*numbers: int) -> bytes:
    return b"".join(map(_dlib_integer, numbers))


@cache
def dlib_weights() -> Sequence[bytes]:
    """A stem, a block with and one without an average pool, and a head: the grammar, with few channels."""

    def convolution(inputs: int, stride: int) -> bytes:
        weights = _dlib_tensor(1, 1, 1, 2 * (inputs * 9 + 1))
        window = _dlib_window(3, 3, stride, stride, 0, 0)
        return _dlib_layer("con_4", weights, _dlib_integer(2), window) + _dlib_layer(
            "affine_", _dlib_tensor(1, 2, 1, 2)
        )

    relu, pool = _dlib_layer("relu_"), _dlib_window(2, 2, 2, 2, 0, 0)
    stem = convolution(3, 2) + relu + _dlib_layer("max_pool_2", pool)
    wide = convolution(2, 1) + relu + convolution(2, 1) + _dlib_layer("add_prev_") + relu
    down = convolution(2, 2) + relu + convolution(2, 1) + _dlib_layer("avg_pool_2", pool)
    dense = _dlib_layer("fc_2", _dlib_integer(128), _dlib_integer(2), _dlib_tensor(2, 128, 1, 1))
    head = _dlib_layer("avg_pool_2", _dlib_window(0, 0, 1, 1, 0, 0)) + dense
    whole = stem + wide + down + _dlib_layer("add_prev_") + relu + head
    return [whole, stem + head, stem]


@cache
def mtcnn_weights() -> Sequence[bytes]:
    """Those of the package ``mtcnn``, packed, and the smallest unpacked; a pickle that wants more than arrays."""
    packed = [default_pack._content(default_pack.WEIGHTS[role]) for role in ("pnet",)]
    return [b"\4" + packed[0], b"\0" + lz4.frame.decompress(packed[0]), b"\0" + pickle.dumps([Trap()], 4)]


def _npz(**arrays: Any) -> bytes:
    file = io.BytesIO()
    np.savez(file, **arrays)
    return file.getvalue()


@cache
def encodings() -> Sequence[bytes]:
    """Each form of file that is read, and pickles of every protocol."""
    vectors = np.eye(2, 4)
    pairs = {"encodings": list(vectors), "names": ["Ana", "Ben"]}
    lists = {"Ana": [[0.5, 1, -2]], "Ben": [[1, 2, 3], [4, 5, 6]]}
    return [
        _npz(embeddings=vectors, names=np.array(["Ana", "Ben"])),
        _npz(embeddings=vectors.astype("f4"), subject_ids=np.array(["a", "b"]), contract=np.array("c")),
        json.dumps(lists).encode(),
        json.dumps([{"name": "Ana", "encoding": [1, 2]}]).encode(),
        *(pickle.dumps(value, protocol) for value in (pairs, lists) for protocol in (0, 2, 3, 4, 5)),
        pickle.dumps(["Ana", "Ben"]) + pickle.dumps(vectors),
        *(pickle.dumps({"Ana": Trap()}, protocol) for protocol in (0, 2, 4)),
    ]


def _tar(**options: Any) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", **options) as archive:
        for name in ("det.onnx", "sub/rec.onnx", "m" * 60 + "/" + "n" * 60 + ".onnx"):
            info = tarfile.TarInfo(name)
            info.size = 5
            archive.addfile(info, io.BytesIO(b"bytes"))
    return file.getvalue()


def _zip(compression: int) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", compression) as archive:
        archive.writestr("det.onnx", b"bytes" * 20)
        archive.writestr("sub/rec.onnx", b"b")
    return file.getvalue()


@cache
def archives() -> Sequence[bytes]:
    """Each kind of archive that is read."""
    plain = _tar(format=tarfile.GNU_FORMAT)
    packed = [gzip.compress(plain, mtime=0), lzma.compress(plain), _zip(zipfile.ZIP_STORED), _zip(zipfile.ZIP_DEFLATED)]
    return [*behind(1, [plain, _tar(format=tarfile.PAX_FORMAT)]), *behind(0, packed)]


@cache
def descriptions() -> Sequence[bytes]:
    """A pack of each kind."""
    pack = tiny_packs.PACK_TOML.format(version=1, licence="MIT", more="[embedder.more]\n")
    return [one.encode() for one in (pack, tiny_packs.PACK_TOML.format(version=1, licence="MIT", more=""),
                                     tiny_packs.LIVENESS_TOML.format(licence="MIT", more=""))]  # fmt: skip


@cache
def pack_manifests() -> Sequence[bytes]:
    """What ``models add`` writes of tiny packs of each kind."""
    with TemporaryDirectory() as folder:
        library = Library(Path(folder) / "library")
        found = []
        for write, name in ((tiny_packs.write, "tiny"), (tiny_packs.write_liveness, "alive")):
            draft = intake.draft(write(Path(folder) / name), name, library, accepted=True, now=NOW)
            found.append((draft.install(library).folder / "manifest.json").read_bytes())
        return found


@cache
def settings() -> Sequence[bytes]:
    """A little of everything that a settings file has."""
    return [
        b'[server]\nlisten = "127.0.0.1:0"\nworkers = 2\n[limits]\nmax_faces = 3\n[models]\nproviders = ["CPU"]\n',
        b'[policies.presence]\nmatches = 2\nframes = 3\n[policies.own]\nmargin = 0.1\n[streams.weights]\n"a b" = 2.0\n',
        b'[plugins.mqtt]\nenabled = false\n[gallery]\npath = "g.db"\nkey = "env:K"\n[backup]\nfolder = ""\n',
        b"policies = 1\n", b"[server]\nlisten = 2026-01-02T03:04:05Z\n",
    ]  # fmt: skip


@cache
def view_entries() -> Sequence[saved_view.Entry]:
    """A collection and a person of it."""
    part = saved_view.Part(np.arange(2), ("0" * 26, "1" * 26), np.zeros((2, 4), np.uint8))
    return [
        saved_view.seal(("default", ""), 1, "contract", b"trained", CIPHER),
        saved_view.seal(("default", "p1"), 2, "contract", part.to_bytes(), CIPHER),
    ]


@cache
def saved_views() -> Sequence[bytes]:
    """A view in a file, and the rows of one person."""
    with TemporaryDirectory() as folder:
        saved_view.write(Path(folder) / "view", iter(view_entries()))
        rows = saved_view.Part(np.arange(2), ("0" * 26, "1" * 26), np.zeros((2, 4), np.uint8)).to_bytes()
        return [b"\4" + (Path(folder) / "view").read_bytes(), b"\4" + rows]


@cache
def backup_manifests() -> Sequence[bytes]:
    """One that is sealed, and the rest of one before it is sealed."""
    manifest = Manifest(
        name="b", create_time=NOW, steps={"gallery": ["0001"]}, contract_id="c", change=1, subject_count=1,
        sample_count=1, size_bytes=4, new_bytes=4, digest="0" * 64, chunk_key=CIPHER_KEY, chunks=("1" * 64,),
    )  # fmt: skip
    sealed = seal(Opened(manifest, CIPHER_KEY), CIPHER)
    first = json.loads(sealed.partition(b"\n")[0])
    return [b"\0" + sealed, b"\1" + json.dumps(_to_object(manifest)).encode(),
            b"\0" + json.dumps(first | {"format": 2}).encode() + b"\n"]  # fmt: skip


def tokens() -> Sequence[bytes]:
    """What looks like one."""
    return [b"fsv_" + b"0" * 26 + b"_" + b"A" * 43, b"Bearer fsv_"]


def sources() -> Sequence[bytes]:
    """Cameras and files."""
    return [b"rtsp://user:secret@[::1]:554/stream?x=1#y", b"http://u:p@q@h/", b"0", b"/dev/null", b"rtsp:///x"]


@cache
def certificates() -> Sequence[bytes]:
    """One of a client, as PEM and as DER."""
    pem = Authority.make("box", NOW).issue_client("camera", Role.CAMERA, NOW).certificate
    return [pem, b"\0" + load_pem_x509_certificate(pem).public_bytes(Encoding.DER)]


@cache
def page_tokens() -> Sequence[bytes]:
    """One that fits its question, and some that nearly do."""
    request = enrollment_pb2.ListSubjectsRequest(collection_id="c")
    loose = (b"[]", b'["q", 1e999, {}]', b"[" * 100)
    return [token_after(request, "key", 7).encode(), *map(base64.urlsafe_b64encode, loose)]
