"""The pack ``default``: MTCNN finds faces, dlib's ResNet-29 embeds them, both under licences that permit anything.

The weights come with two Python packages that are never imported (one would load TensorFlow, the other pkg_resources):
their files are found beside their ``__init__.py``, and only files with the SHA-256 named here are read.

The embedder is made int8 with faces from two pictures that insightface carries: 2.6 times as fast, a quarter of the
size, and on LFW as accurate as in float. Those few faces are nearly all white. The vectors that move most against the
float network's are those of Asian and Black people (the least cosine is 0.987); in the tenth of the photos that moves
most the true-match rate at a false-match rate of 1e-3 is what it was.
"""

import hashlib
import json
import subprocess
import sys
from collections.abc import Iterator
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

import structlog

from facesvc.errors import DependencyError, WeightsError
from facesvc.models import default_chips, folders
from facesvc.models.calibration import Calibration, OperatingPoint
from facesvc.models.packs import (
    MANIFEST,
    DetectorSpec,
    EmbedderSpec,
    Pack,
    dump_manifest,
    load_manifest,
    verify,
)
from facesvc.models.parts import Source, StoredFile, stored
from facesvc.models.quantize import quantize

NAME = "default"
DIMENSION = 128
# Raise either whenever the same weights give other numbers than before; galleries then have to be embedded anew.
CONVERTER_REVISION = 1
QUANTISER_REVISION = 1
# With 7 every processor computes the same vectors (see ``quantize``).
WEIGHT_BITS: Literal[7] = 7

WEIGHTS = {
    "pnet": Source(
        "mtcnn", "1.0.0", "assets/weights/pnet.lz4",
        "ea6b0c3e685ebee3165326ad6484acc95f2ef78f1c94fbf40a55704fa989f7b5", "MIT",
    ),
    "rnet": Source(
        "mtcnn", "1.0.0", "assets/weights/rnet.lz4",
        "cb00e6460f3c98b0bfafaba3c0a0ded4bdf6e62cee7174d969e8670d7e757fee", "MIT",
    ),
    "onet": Source(
        "mtcnn", "1.0.0", "assets/weights/onet.lz4",
        "94f6ea2f4cf985275ee958cdd762d17b6009348a4fb9d8c6be39ba73ffd22ca3", "MIT",
    ),
    "embedder": Source(
        "face_recognition_models", "0.3.0", "models/dlib_face_recognition_resnet_model_v1.dat",
        "55533b28a95800a551ba546ba62fe69625c7e95a7061c338adffead08719da30", "CC0-1.0",
    ),
}  # fmt: skip
"""The weights of each graph, by its role."""
PICTURES = {
    "group": Source(
        "insightface", "2.1", "data/images/t1.jpg",
        "47f682e945b659f93a9e490b9c9c4a2a864abe64dace9e1a2893845ddfd69489", "MIT",
    ),
    "guest": Source(
        "insightface", "2.1", "data/images/Tom_Hanks_54745.png",
        "8545da294e8c7c79911169c3915fed8528f1960cd0ed99b92453788ca4275083", "MIT",
    ),
}  # fmt: skip
"""What the embedder is calibrated with when it is made int8."""
SOURCES = {**WEIGHTS, **PICTURES}
"""Every file that the pack is made from."""

DETECTOR = DetectorSpec(
    family="mtcnn",
    files={role: f"{role}.onnx" for role in ("pnet", "rnet", "onet")},
    mean=(127.5, 127.5, 127.5),
    std=128.0,
    colour_order="RGB",
)
EMBEDDER = EmbedderSpec(
    file="embedder.onnx",
    side=150,
    mean=(122.782, 117.001, 104.298),
    std=256.0,
    colour_order="RGB",
    # Where dlib's own chips have these five points on average; better on LFW than its alignment by five other points.
    template=((46.5, 45.3), (101.8, 45.4), (73.9, 77.4), (50.8, 104.4), (97.0, 104.4)),
)
# Measured by `facesvc evaluate --lfw` on folds 1 to 5 of LFW, similarities rounded up: one gallery template a person,
# as enrolment makes it, against plain photos. It ends where fewer than three impostor pairs would be left to count.
CALIBRATION = Calibration(
    points=(
        OperatingPoint(1e-1, 0.88599, 0.9991),
        OperatingPoint(3e-2, 0.90195, 0.9957),
        OperatingPoint(1e-2, 0.91272, 0.9889),
        OperatingPoint(3e-3, 0.92169, 0.9761),
        OperatingPoint(1e-3, 0.92887, 0.9361),
        OperatingPoint(3e-4, 0.93608, 0.8790),
        OperatingPoint(1e-4, 0.94148, 0.8126),
        OperatingPoint(3e-5, 0.94901, 0.6524),
        OperatingPoint(1.3037583e-5, 0.95122, 0.5971),
    ),
    impostor_pairs=230_104,
    genuine_pairs=1_174,
    source="LFW, 197 people with one photo each against 1,174 other photos",
)

# A conversion takes a second or two; one that takes this long never ends.
_CONVERSION_TIMEOUT_S = 120.0
_PACKAGE_PARENT = Path(__file__).resolve().parents[2]

_log = structlog.get_logger(__name__)


def ensure(cache_dir: Path) -> Pack:
    """The pack in ``cache_dir``, every byte checked; built when it is not there, and again when it is damaged.

    A whole pack needs no lock and no right to write, because packs are put in place at once; so the folder may be part
    of a read-only image. Raises ``WeightsError`` for source packages that are missing or of another version, and
    ``DependencyError`` for a folder that cannot be written to.
    """
    folder = cache_dir / NAME
    if folders.leftovers(folder) or _problems(folder):
        return build(cache_dir)
    return load_manifest(folder)


def build(cache_dir: Path, *, force: bool = False) -> Pack:
    """As ``ensure``; with ``force`` the pack is built also where a whole one is there."""
    folder = cache_dir / NAME
    with folders.locked(cache_dir):
        problems = _problems(folder)
        if problems and folder.exists():
            _log.warning("the pack is damaged or outdated and is built anew", folder=str(folder), problems=problems)
        if problems or force:
            folders.publish(folder, _files(folder))
        else:
            folders.clear_leftovers(folder)
        return load_manifest(folder)


def contract_id() -> str:
    """The embedding contract: a hash over all that makes vectors comparable.

    MTCNN belongs to it because its landmarks decide what a chip shows. The bytes of the graphs do not.
    """
    parts = {
        "weights": {role: source.sha256 for role, source in WEIGHTS.items()},
        "converter_revision": CONVERTER_REVISION,
        "quantisation": f"int8, {WEIGHT_BITS}-bit weights, quantiser revision {QUANTISER_REVISION}",
        "quantised with": {role: source.sha256 for role, source in PICTURES.items()},
        "detector": [DETECTOR.mean, DETECTOR.std],
        "chip": [EMBEDDER.side, EMBEDDER.mean, EMBEDDER.std, EMBEDDER.colour_order],
        "template": EMBEDDER.template,
        "dimension": DIMENSION,
        "normalisation": "unit length",
    }
    canonical = json.dumps(parts, sort_keys=True, separators=(",", ":"))
    return f"dlib-resnet29-{DIMENSION}-{hashlib.sha256(canonical.encode()).hexdigest()[:12]}"


def _problems(folder: Path) -> list[str]:
    """What keeps the pack in ``folder`` from being the one that this version of facesvc would build."""
    if problems := verify(folder):
        return problems
    pack = load_manifest(folder)
    return [] if pack == _pack(folder, pack.files) else ["another version of facesvc built it"]


def _pack(folder: Path, files: tuple[StoredFile, ...]) -> Pack:
    return Pack(NAME, folder, contract_id(), DIMENSION, tuple(SOURCES.values()), files, DETECTOR, EMBEDDER, CALIBRATION)


def _files(folder: Path) -> Iterator[tuple[str, bytes]]:
    """Name and content of every file of the pack; the manifest comes last."""
    files = []
    contents = {role: _content(source) for role, source in SOURCES.items()}
    for role in WEIGHTS:
        name, graph = f"{role}.onnx", converted(role, contents[role])
        if role == "embedder":
            batches = default_chips.chips(contents["group"], contents["guest"], EMBEDDER)
            graph = quantize(graph, batches, weight_bits=WEIGHT_BITS)
        files.append(stored(name, graph))
        yield name, graph
    yield MANIFEST, dump_manifest(_pack(folder, tuple(files)))


def _content(source: Source) -> bytes:
    """The content of a pinned file of an installed package, without importing that package."""
    spec = find_spec(source.package)
    cure = f"pip install --force-reinstall {source.package.replace('_', '-')}=={source.version}"
    if spec is None or not spec.submodule_search_locations:
        raise WeightsError(f"the package {source.package} is not installed: {cure}")
    path = Path(spec.submodule_search_locations[0], source.file)
    try:
        content = path.read_bytes()
    except OSError as error:
        raise WeightsError(f"{path} cannot be read: {error.strerror}; {cure}") from error
    found = hashlib.sha256(content).hexdigest()
    if found != source.sha256:
        raise WeightsError(
            f"{path} (of {source.package} {_version(source.package)}) is not the file of version {source.version}: "
            f"its SHA-256 is {found}, not {source.sha256}; {cure}"
        )
    return content


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "of an unknown version"


def converted(role: str, weights: bytes) -> bytes:
    """The float ONNX graph of one network, written by a process of its own (see ``facesvc.models.convert``)."""
    command = [sys.executable, "-m", "facesvc.models.convert", role]
    try:
        # From there `-m` finds this very package, installed or not, and nothing else that lies where we were started.
        child = subprocess.run(  # noqa: S603 - this interpreter, this package, a fixed role
            command, input=weights, capture_output=True, timeout=_CONVERSION_TIMEOUT_S, cwd=_PACKAGE_PARENT, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise DependencyError(f"the conversion of {role} could not run: {error}") from error
    if child.returncode != 0:
        reason = child.stderr.decode(errors="replace")[-2000:]
        raise WeightsError(f"the conversion of {role} failed (status {child.returncode}): {reason}")
    return child.stdout
