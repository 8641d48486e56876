"""A pack: a folder of graphs with a manifest that says what they are, where they came from and what they expect."""

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from facesvc.errors import NotFoundError, WeightsError
from facesvc.models import liveness_packs, manifest, parts
from facesvc.models.calibration import Calibration, OperatingPoint
from facesvc.models.liveness_packs import LivenessPack
from facesvc.models.parts import PLAIN_NAME, Acceptance, Source, StoredFile, check
from facesvc.models.quantization import Quantization, read_quantization

MANIFEST = "manifest.json"
FORMAT = 2
RECOGNITION = "recognition"
"""The kind of packs that this file is about."""
OTHER_KIND = "PACK_OF_OTHER_KIND"
DETECTOR_ROLES = {"mtcnn": ("pnet", "rnet", "onet"), "scrfd": ("detector",), "yunet": ("detector",)}
"""The graphs that a detector of each family consists of."""
COLOUR_ORDERS = ("RGB", "BGR")

_IDENTIFIER = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}")

Rgb = tuple[float, float, float]
Points = tuple[tuple[float, float], ...]


@dataclass(frozen=True, slots=True)
class DetectorSpec:
    """A detector: its family, a file for each role, and its input: ``colour_order``, less ``mean``, over ``std``."""

    family: str
    files: Mapping[str, str]
    mean: Rgb
    std: float
    colour_order: str

    def __post_init__(self) -> None:
        check(self.family in DETECTOR_ROLES, f"there is no detector family {self.family!r}")
        roles = DETECTOR_ROLES[self.family]
        check(sorted(self.files) == sorted(roles), f"a detector of {self.family} has the files {', '.join(roles)}")
        check(self.std > 0, f"a std of {self.std}")
        check(self.colour_order in COLOUR_ORDERS, f"there is no colour order {self.colour_order!r}")


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
        check(16 <= self.side <= 1024, f"a chip of {self.side} pixels")
        check(self.std > 0, f"a std of {self.std}")
        check(self.colour_order in COLOUR_ORDERS, f"there is no colour order {self.colour_order!r}")
        check(len(self.template) == 5, f"a template of {len(self.template)} points")
        inside = all(0 <= value <= self.side for point in self.template for value in point)
        check(inside, "the template reaches beyond the chip")


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
        check(PLAIN_NAME.fullmatch(self.name), f"{self.name!r} is not a plain name")
        check(_IDENTIFIER.fullmatch(self.contract_id), f"{self.contract_id!r} is not a plain name")
        check(1 <= self.dimension <= 4096, f"a dimension of {self.dimension}")
        missing = {*self.detector.files.values(), self.embedder.file} - {file.name for file in self.files}
        check(not missing, f"{', '.join(sorted(missing))} is not among the files")

    @property
    def licences(self) -> tuple[str, ...]:
        """Under which licence each source package comes: ``mtcnn 1.0.0: MIT``."""
        return parts.licences(self.sources)

    def check_fit_for_use(self) -> None:
        """Raises ``PreconditionError`` (``QUANTIZATION_LOSES_TOO_MUCH``) if it lost too much when it was made int8."""
        if self.quantization:
            self.quantization.check(self.name)

    def path(self, name: str) -> Path:
        """Where a file of the pack lies."""
        return self.folder / name


AnyPack = Pack | LivenessPack


def dump_manifest(pack: AnyPack) -> bytes:
    """The manifest of ``pack``; the folder is left out, and so is the kind of one for recognition."""
    kind = {"kind": liveness_packs.KIND} if isinstance(pack, LivenessPack) else {}
    fields = {"format": FORMAT, **kind, **asdict(pack)}
    del fields["folder"]
    return json.dumps(fields, indent=1).encode()


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


def kind_of(pack: AnyPack) -> str:
    """What the pack is for."""
    return liveness_packs.KIND if isinstance(pack, LivenessPack) else RECOGNITION


def is_manifest(folder: Path) -> bool:
    """Whether ``folder`` has a manifest of facesvc; other projects call theirs by the same name."""
    try:
        fields = manifest.read(folder / MANIFEST)
        return bool(fields.text("contract_id" if _kind(fields) == RECOGNITION else "family"))
    except (OSError, ValueError):
        return False


def load_manifest(folder: Path) -> Pack:
    """The pack for recognition in ``folder``, from its manifest alone.

    Raises ``WeightsError`` that names what is wrong with it, and ``NotFoundError`` (``PACK_OF_OTHER_KIND``).
    """
    pack = load_any_manifest(folder)
    if isinstance(pack, LivenessPack):
        raise NotFoundError(
            f"the pack {pack.name} recognises nobody: it is of kind {liveness_packs.KIND}, name it as pack under"
            " [liveness] in the settings, or in FACESVC_LIVENESS__PACK",
            field="pack",
            reason=OTHER_KIND,
        )
    return pack


def load_any_manifest(folder: Path) -> AnyPack:
    """As ``load_manifest``, for a pack of any kind."""
    try:
        fields = manifest.read(folder / MANIFEST)
        found = fields.integer("format")
        check(found == FORMAT, f"format {found} is not the one that is read here, {FORMAT}")
        return _pack(folder, fields) if _kind(fields) == RECOGNITION else liveness_packs.read(folder, fields)
    except (OSError, ValueError) as error:
        raise WeightsError(
            f"{folder / MANIFEST} cannot be used: {error}; `facesvc models build` writes the default pack anew, any"
            " other must be added or pulled again"
        ) from error


def verify(folder: Path) -> list[str]:
    """What is wrong with the pack in ``folder``, a line each; empty when every file is there and whole."""
    try:
        pack = load_any_manifest(folder)
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


def _kind(fields: manifest.Fields) -> str:
    """The kind that a manifest states; none, as before there were kinds: recognition."""
    kind = fields.text("kind") if fields.has("kind") else RECOGNITION
    check(kind in (RECOGNITION, liveness_packs.KIND), f"there is no kind of packs {kind!r}")
    return kind


def _pack(folder: Path, fields: manifest.Fields) -> Pack:
    return Pack(
        name=fields.text("name"),
        folder=folder,
        contract_id=fields.text("contract_id"),
        dimension=fields.integer("dimension"),
        sources=parts.read_sources(fields),
        files=parts.read_files(fields),
        detector=_detector(fields.object("detector")),
        embedder=_embedder(fields.object("embedder")),
        calibration=read_calibration(fields.object("calibration")),
        acceptances=parts.read_acceptances(fields),
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
