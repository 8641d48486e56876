"""Makes a pack of a folder that somebody brings: of InsightFace, of their own with a ``pack.toml``, or one of facesvc.

Nothing is believed: every graph is loaded and run once, its outputs are those of the family that it is said to be, and
the values of a vector are counted.
"""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

from facesvc.errors import InputError, PreconditionError, WeightsError
from facesvc.models import default_pack, trial
from facesvc.models.calibration import Calibration
from facesvc.models.description import (
    PACK_TOML,
    AnyDescription,
    Description,
    DetectorPart,
    EmbedderPart,
    LivenessDescription,
    NetworkPart,
    describe_insightface,
    read_toml,
)
from facesvc.models.library import Library, check_new_name
from facesvc.models.liveness_packs import LivenessNetwork, LivenessPack
from facesvc.models.packs import (
    AnyPack,
    DetectorSpec,
    EmbedderSpec,
    Pack,
    Points,
    Rgb,
    contract_of,
    is_manifest,
    load_any_manifest,
    verify,
)
from facesvc.models.parts import Acceptance, Source, stored

Agree = Callable[[str], bool]
"""Whether a licence is accepted, asked with what it is about."""

UNCALIBRATED = Calibration((), 0, 0, "never measured")
_MAX_FILE_BYTES = 1 << 30

# Deng et al., ArcFace: Additive Angular Margin Loss for Deep Face Recognition, 2019: landmarks in chips of 112 pixels.
_ARCFACE_TEMPLATE = ((38.2946, 51.6963), (73.5318, 51.5014), (56.0252, 71.7366), (41.5493, 92.3655), (70.7299, 92.2041))

# What the families usually want: mean, std, colour order.
_USUAL_INPUT: Mapping[str, tuple[float, float, str]] = {
    "scrfd": (127.5, 128.0, "RGB"),
    "yunet": (0.0, 1.0, "BGR"),
    "arcface": (127.5, 127.5, "RGB"),
    "sface": (0.0, 1.0, "RGB"),
}
# What the files are called in a pack, however they were called before.
DETECTOR, EMBEDDER = "detector.onnx", "embedder.onnx"


@dataclass(frozen=True, slots=True)
class Draft:
    """A pack that is not in the library yet, and the content of its files."""

    pack: AnyPack
    contents: Mapping[str, bytes]

    def install(self, library: Library) -> AnyPack:
        """The pack in the library."""
        return library.install(self.pack, self.contents.items())


@dataclass(frozen=True, slots=True)
class _Half:
    """What one part, the detector or the embedder, brings along."""

    contents: Mapping[str, bytes]
    sources: tuple[Source, ...]
    acceptances: tuple[Acceptance, ...]


def draft(folder: Path, name: str, library: Library, *, accepted: bool, now: datetime) -> Draft:
    """As ``draft_asking``; ``accepted`` is whether a licence that forbids commercial use is accepted."""
    return draft_asking(folder, name, library, lambda _: accepted, now)


def draft_asking(folder: Path, name: str, library: Library, agree: Agree, now: datetime) -> Draft:
    """The pack that the files in ``folder`` make, to be called ``name`` (empty: as it says itself).

    ``agree`` is asked where the licence forbids commercial use. Raises ``InputError`` for a folder that no pack can be
    made of, ``PreconditionError`` (``LICENCE_NOT_ACCEPTED``), and ``WeightsError`` for files that are damaged or not
    what they are said to be.
    """
    if name:
        check_new_name(name)
    if not folder.is_dir():
        raise InputError(f"{folder} is no folder", field="path")
    if is_manifest(folder):
        return _copy(folder, name)
    description = read_toml(folder) if (folder / PACK_TOML).is_file() else describe_insightface(folder)
    return build(folder, description, name, library, _accepted(description, agree, now))


def not_accepted(licence: str, text: str) -> PreconditionError:
    """That a licence has to be accepted, in the words that are shown to whoever is asked."""
    return PreconditionError(
        f"these weights come under the licence {licence!r}, which has to be accepted (--accept-license). {text[:1000]}",
        reason="LICENCE_NOT_ACCEPTED",
    )


def build(
    folder: Path, description: AnyDescription, name: str, library: Library, acceptances: tuple[Acceptance, ...] = ()
) -> Draft:
    """The pack that ``description`` makes of the files in ``folder``; raises as ``draft`` does."""
    if isinstance(description, LivenessDescription):
        return _build_liveness(folder, description, name, acceptances)
    detector, one = _detector(folder, description, library)
    embedder, dimension, other = _embedder(folder, description, library)
    contents = {**one.contents, **other.contents}
    files = tuple(stored(file, content) for file, content in contents.items())
    try:
        pack = Pack(
            name=name or description.name,
            folder=Path(),
            contract_id=contract_of(detector, embedder, files, dimension),
            dimension=dimension,
            sources=tuple(dict.fromkeys((*one.sources, *other.sources))),
            files=files,
            detector=detector,
            embedder=embedder,
            calibration=UNCALIBRATED,
            acceptances=tuple(dict.fromkeys((*acceptances, *one.acceptances, *other.acceptances))),
        )
    except ValueError as error:
        raise InputError(f"no pack can be made of {folder}: {error}", field="path") from error
    return Draft(pack, contents)


def _build_liveness(
    folder: Path, description: LivenessDescription, name: str, acceptances: tuple[Acceptance, ...]
) -> Draft:
    contents: dict[str, bytes] = {}
    sources: list[Source] = []
    networks: list[LivenessNetwork] = []
    for number, part in enumerate(description.networks, 1):
        file = f"network{number}.onnx"
        path, brought = _own(folder, description, part, file)
        trial.check_liveness(path, brought.contents[file], description.family)
        contents |= brought.contents
        sources += brought.sources
        networks.append(LivenessNetwork(file, part.scale))
    try:
        pack = LivenessPack(
            name=name or description.name,
            folder=Path(),
            family=description.family,
            networks=tuple(networks),
            sources=tuple(sources),
            files=tuple(stored(file, content) for file, content in contents.items()),
            acceptances=acceptances,
        )
    except ValueError as error:
        raise InputError(f"no pack can be made of {folder}: {error}", field="path") from error
    return Draft(pack, contents)


def _copy(folder: Path, name: str) -> Draft:
    """A pack of facesvc as another box has it."""
    if problems := verify(folder):
        raise WeightsError(f"the pack in {folder} is damaged: {'; '.join(problems)}")
    pack = load_any_manifest(folder)
    return Draft(
        replace(pack, name=name or pack.name), {file.name: pack.path(file.name).read_bytes() for file in pack.files}
    )


def _accepted(description: AnyDescription, agree: Agree, now: datetime) -> tuple[Acceptance, ...]:
    if description.commercial_use:
        return ()
    refusal = not_accepted(description.licence, description.licence_text)
    if not agree(refusal.message):
        raise refusal
    digest = hashlib.sha256(description.licence_text.encode()).hexdigest()
    return (Acceptance(description.licence, digest, now.isoformat(timespec="seconds")),)


def _detector(folder: Path, description: Description, library: Library) -> tuple[DetectorSpec, _Half]:
    part = description.detector
    if part.pack:
        lender = library.open(part.pack)
        names = {role: f"{role}.onnx" for role in lender.detector.files}
        contents = {names[role]: lender.path(file).read_bytes() for role, file in lender.detector.files.items()}
        others = [default_pack.WEIGHTS["embedder"], *default_pack.PICTURES.values()]
        return replace(lender.detector, files=names), _borrowed(lender, contents, [lender.embedder.file], others)
    path, half = _own(folder, description, part, DETECTOR)
    family = trial.detector_family(path, half.contents[DETECTOR], part.family)
    mean, std, colour_order = _input(part, family)
    return DetectorSpec(family, {"detector": DETECTOR}, mean, std, colour_order), half


def _embedder(folder: Path, description: Description, library: Library) -> tuple[EmbedderSpec, int, _Half]:
    part = description.embedder
    if part.pack:
        lender = library.open(part.pack)
        contents = {EMBEDDER: lender.path(lender.embedder.file).read_bytes()}
        others = [default_pack.WEIGHTS[role] for role in default_pack.DETECTOR.files]
        half = _borrowed(lender, contents, list(lender.detector.files.values()), others)
        return replace(lender.embedder, file=EMBEDDER), lender.dimension, half
    path, half = _own(folder, description, part, EMBEDDER)
    side, dimension = trial.embedder_sizes(path, half.contents[EMBEDDER], part.side)
    mean, std, colour_order = _input(part, part.family)
    try:
        spec = EmbedderSpec(EMBEDDER, side, mean, std, colour_order, part.template or _arcface_template(side))
    except ValueError as error:
        raise InputError(f"{path.name} cannot be used: {error}", field="path") from error
    return spec, dimension, half


def _borrowed(lender: Pack, contents: dict[str, bytes], others: list[str], weights: list[Source]) -> _Half:
    """A part of an installed pack.

    Its sources are those of the pack, less what is known to belong to the other part: to its files ``others`` or, of
    the default pack, its ``weights``.
    """
    lender.check_fit_for_use()
    foreign = {file.sha256 for file in lender.files if file.name in others} | {source.sha256 for source in weights}
    sources = tuple(source for source in lender.sources if source.sha256 not in foreign)
    return _Half(contents, sources, lender.acceptances)


def _own(
    folder: Path, description: AnyDescription, part: DetectorPart | EmbedderPart | NetworkPart, name: str
) -> tuple[Path, _Half]:
    """A file of the folder; it is to be called ``name`` in the pack."""
    assert part.file is not None  # it is not of another pack
    path = folder / part.file
    try:
        if not path.is_file() or path.stat().st_size > _MAX_FILE_BYTES:
            raise InputError(f"{path} is no file of at most {_MAX_FILE_BYTES >> 20} MiB", field="path")
        content = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}", field="path") from error
    digest = hashlib.sha256(content).hexdigest()
    source = Source(description.name, description.version, part.file, digest, description.licence)
    return path, _Half({name: content}, (source,), ())


def _input(part: DetectorPart | EmbedderPart, family: str) -> tuple[Rgb, float, str]:
    mean, std, colour_order = _USUAL_INPUT[family]
    given = mean if part.mean is None else part.mean
    return given if isinstance(given, tuple) else (given,) * 3, part.std or std, part.colour_order or colour_order


def _arcface_template(side: int) -> Points:
    """ArcFace's template in a chip of ``side`` pixels: multiples of 128 have a border of 8 in 128 left and right."""
    if side % trial.ARCFACE_SIDE and side % 128 == 0:
        return tuple(((x + 8) * side / 128, y * side / 128) for x, y in _ARCFACE_TEMPLATE)
    return tuple((x * side / trial.ARCFACE_SIDE, y * side / trial.ARCFACE_SIDE) for x, y in _ARCFACE_TEMPLATE)
