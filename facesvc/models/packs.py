"""A pack: a folder of graphs with a manifest that says what they are, where they came from and what they expect."""

import hashlib
import io
import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from facesvc.errors import WeightsError
from facesvc.models import manifest
from facesvc.models.calibration import Calibration, OperatingPoint
from facesvc.models.chunks import CHUNK_BYTES, hashes
from facesvc.models.quantization import Quantization, read_quantization

MANIFEST = "manifest.json"
FORMAT = 2
DETECTOR_ROLES = {"mtcnn": ("pnet", "rnet", "onet"), "scrfd": ("detector",), "yunet": ("detector",)}
"""The graphs that a detector of each family consists of."""
COLOUR_ORDERS = ("RGB", "BGR")

_PLAIN_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}")
_IDENTIFIER = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}")
_SHA256 = re.compile(r"[0-9a-f]{64}")

Rgb = tuple[float, float, float]
Points = tuple[tuple[float, float], ...]


@dataclass(frozen=True, slots=True)
class Source:
    """A weight file that somebody else published: ``file`` is its path within the folder of ``package``."""

    package: str
    version: str
    file: str
    sha256: str
    licence: str

    def __post_init__(self) -> None:
        _check(_SHA256.fullmatch(self.sha256), f"{self.sha256!r} is not a SHA-256")


@dataclass(frozen=True, slots=True)
class StoredFile:
    """A file of the pack, by its plain name; ``chunks`` are the SHA-256 of each of its parts (see ``chunks``)."""

    name: str
    sha256: str
    size_bytes: int
    chunks: tuple[str, ...]

    def __post_init__(self) -> None:
        _check(_PLAIN_NAME.fullmatch(self.name), f"{self.name!r} is not a plain file name")
        for sha256 in (self.sha256, *self.chunks):
            _check(_SHA256.fullmatch(sha256), f"{sha256!r} is not a SHA-256")
        expected = -(-self.size_bytes // CHUNK_BYTES)
        _check(len(self.chunks) == expected, f"{self.name} has {len(self.chunks)} chunks, not {expected}")


@dataclass(frozen=True, slots=True)
class Acceptance:
    """That somebody accepted a licence: its name, the SHA-256 of its text, and when (RFC 3339)."""

    licence: str
    text_sha256: str
    time: str

    def __post_init__(self) -> None:
        _check(_SHA256.fullmatch(self.text_sha256), f"{self.text_sha256!r} is not a SHA-256")


@dataclass(frozen=True, slots=True)
class DetectorSpec:
    """A detector: its family, a file for each role, and its input: ``colour_order``, less ``mean``, over ``std``."""

    family: str
    files: Mapping[str, str]
    mean: Rgb
    std: float
    colour_order: str

    def __post_init__(self) -> None:
        _check(self.family in DETECTOR_ROLES, f"there is no detector family {self.family!r}")
        roles = DETECTOR_ROLES[self.family]
        _check(sorted(self.files) == sorted(roles), f"a detector of {self.family} has the files {', '.join(roles)}")
        _check(self.std > 0, f"a std of {self.std}")
        _check(self.colour_order in COLOUR_ORDERS, f"there is no colour order {self.colour_order!r}")


@dataclass(frozen=True, slots=True)
class EmbedderSpec:
    """An embedder: its file, and how a chip of ``side`` x ``side`` pixels is made and prepared for it.

    ``template`` is where the landmarks go, in pixels of the chip: left and right eye as the picture shows them, tip of
    the nose, left and right corner of the mouth. Pixels in ``colour_order`` then are made less ``mean``, over ``std``.
    """

    file: str
    side: int
    mean: Rgb
    std: float
    colour_order: str
    template: Points

    def __post_init__(self) -> None:
        _check(16 <= self.side <= 1024, f"a chip of {self.side} pixels")
        _check(self.std > 0, f"a std of {self.std}")
        _check(self.colour_order in COLOUR_ORDERS, f"there is no colour order {self.colour_order!r}")
        _check(len(self.template) == 5, f"a template of {len(self.template)} points")
        inside = all(0 <= value <= self.side for point in self.template for value in point)
        _check(inside, "the template reaches beyond the chip")


@dataclass(frozen=True, slots=True)
class Pack:
    """Everything about a pack that lies in ``folder``; vectors of ``dimension`` values belong to ``contract_id``."""

    name: str
    folder: Path
    contract_id: str
    dimension: int
    sources: tuple[Source, ...]
    files: tuple[StoredFile, ...]
    detector: DetectorSpec
    embedder: EmbedderSpec
    calibration: Calibration
    acceptances: tuple[Acceptance, ...] = ()
    quantization: Quantization | None = None
    """Of a pack that `facesvc models quantize` made."""

    def __post_init__(self) -> None:
        _check(_PLAIN_NAME.fullmatch(self.name), f"{self.name!r} is not a plain name")
        _check(_IDENTIFIER.fullmatch(self.contract_id), f"{self.contract_id!r} is not a plain name")
        _check(1 <= self.dimension <= 4096, f"a dimension of {self.dimension}")
        missing = {*self.detector.files.values(), self.embedder.file} - {file.name for file in self.files}
        _check(not missing, f"{', '.join(sorted(missing))} is not among the files")

    @property
    def licences(self) -> tuple[str, ...]:
        """Under which licence each source package comes: ``mtcnn 1.0.0: MIT``."""
        return tuple(dict.fromkeys(f"{source.package} {source.version}: {source.licence}" for source in self.sources))

    def check_fit_for_use(self) -> None:
        """Raises ``PreconditionError`` (``QUANTIZATION_LOSES_TOO_MUCH``) if it lost too much when it was made int8."""
        if self.quantization:
            self.quantization.check(self.name)

    def path(self, name: str) -> Path:
        """Where a file of the pack lies."""
        return self.folder / name


def dump_manifest(pack: Pack) -> bytes:
    """The manifest of ``pack``; the folder is left out."""
    fields = {"format": FORMAT, **asdict(pack)}
    del fields["folder"]
    return json.dumps(fields, indent=1).encode()


def stored(name: str, content: bytes) -> StoredFile:
    """The record of a file with this content."""
    return StoredFile(name, hashlib.sha256(content).hexdigest(), len(content), hashes(io.BytesIO(content)))


def contract_of(detector: DetectorSpec, embedder: EmbedderSpec, files: tuple[StoredFile, ...], dimension: int) -> str:
    """The embedding contract of a pack whose graphs are used as they came: a hash over all that makes vectors.

    The detector belongs to it because its landmarks decide what a chip shows.
    """
    sha256 = {file.name: file.sha256 for file in files}
    parts = {
        "detector": [detector.family, detector.mean, detector.std, detector.colour_order],
        "detector weights": {role: sha256[name] for role, name in detector.files.items()},
        "embedder": [embedder.side, embedder.mean, embedder.std, embedder.colour_order, embedder.template],
        "embedder weights": sha256[embedder.file],
        "normalisation": "unit length",
    }
    canonical = json.dumps(parts, sort_keys=True, separators=(",", ":"))
    return f"{detector.family}-{dimension}-{hashlib.sha256(canonical.encode()).hexdigest()[:12]}"


def is_manifest(folder: Path) -> bool:
    """Whether ``folder`` has a manifest of facesvc; other projects call theirs by the same name."""
    try:
        return bool(manifest.read(folder / MANIFEST).text("contract_id"))
    except (OSError, ValueError):
        return False


def load_manifest(folder: Path) -> Pack:
    """The pack in ``folder``, from its manifest alone. Raises ``WeightsError`` that names what is wrong with it."""
    try:
        return _pack(folder, manifest.read(folder / MANIFEST))
    except (OSError, ValueError) as error:
        raise WeightsError(
            f"{folder / MANIFEST} cannot be used: {error}; `facesvc models build` writes the default pack anew, any"
            " other must be added or pulled again"
        ) from error


def verify(folder: Path) -> list[str]:
    """What is wrong with the pack in ``folder``, a line each; empty when every file is there and whole."""
    try:
        pack = load_manifest(folder)
    except WeightsError as error:
        return [error.message]
    return [problem for file in pack.files if (problem := _problem(pack.path(file.name), file))]


def _problem(path: Path, expected: StoredFile) -> str | None:
    try:
        size_bytes = path.stat().st_size
        if size_bytes != expected.size_bytes:
            return f"{path.name} has {size_bytes} bytes instead of {expected.size_bytes}"
        with path.open("rb") as file:
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        return f"{path.name} cannot be read: {error.strerror}"
    return None if sha256 == expected.sha256 else f"{path.name} has another SHA-256 than the manifest says"


def _check(condition: object, message: str) -> None:
    if not condition:
        raise ValueError(message)


def _pack(folder: Path, fields: manifest.Fields) -> Pack:
    found = fields.integer("format")
    _check(found == FORMAT, f"format {found} is not the one that is read here, {FORMAT}")
    return Pack(
        name=fields.text("name"),
        folder=folder,
        contract_id=fields.text("contract_id"),
        dimension=fields.integer("dimension"),
        sources=tuple(
            Source(*(source.text(name) for name in ("package", "version", "file", "sha256", "licence")))
            for source in fields.objects("sources")
        ),
        files=tuple(
            StoredFile(file.text("name"), file.text("sha256"), file.integer("size_bytes"), file.words("chunks"))
            for file in fields.objects("files")
        ),
        detector=_detector(fields.object("detector")),
        embedder=_embedder(fields.object("embedder")),
        calibration=read_calibration(fields.object("calibration")),
        acceptances=tuple(
            Acceptance(*(acceptance.text(name) for name in ("licence", "text_sha256", "time")))
            for acceptance in fields.objects("acceptances")
        ),
        quantization=read_quantization(fields.object("quantization")) if fields.has("quantization") else None,
    )


def _detector(fields: manifest.Fields) -> DetectorSpec:
    red, green, blue = fields.numbers("mean", 3)
    return DetectorSpec(
        family=fields.text("family"),
        files=fields.texts("files"),
        mean=(red, green, blue),
        std=fields.number("std"),
        colour_order=fields.text("colour_order"),
    )


def _embedder(fields: manifest.Fields) -> EmbedderSpec:
    red, green, blue = fields.numbers("mean", 3)
    return EmbedderSpec(
        file=fields.text("file"),
        side=fields.integer("side"),
        mean=(red, green, blue),
        std=fields.number("std"),
        colour_order=fields.text("colour_order"),
        template=tuple((x, y) for x, y in fields.rows("template", 2)),
    )


def read_calibration(fields: manifest.Fields) -> Calibration:
    """The calibration that ``fields`` hold. Raises ``ValueError``."""
    points = tuple(OperatingPoint(*row) for row in fields.rows("points", 3))
    pairs = fields.integer("impostor_pairs"), fields.integer("genuine_pairs")
    return Calibration(points, *pairs, fields.text("source"))
