"""Makes a pack of a folder that somebody brings: of InsightFace, of their own with a ``pack.toml``, or one of facesvc.

Nothing is believed: every graph is loaded and run once, its outputs are those of the family that it is said to be, and
the values of a vector are counted.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

import numpy as np

from facesvc.errors import InputError, PreconditionError, WeightsError
from facesvc.models.calibration import Calibration
from facesvc.models.description import (
    PACK_TOML,
    Description,
    DetectorPart,
    EmbedderPart,
    describe_insightface,
    read_toml,
)
from facesvc.models.library import Library
from facesvc.models.packs import (
    Acceptance,
    DetectorSpec,
    EmbedderSpec,
    Pack,
    Points,
    Rgb,
    Source,
    contract_of,
    is_manifest,
    load_manifest,
    stored,
    verify,
)
from facesvc.models.runtime import Network

UNCALIBRATED = Calibration((), 0, 0, "never measured")
_MAX_FILE_BYTES = 1 << 30
_TRIED_SIDE = 64

# Deng et al., ArcFace: Additive Angular Margin Loss for Deep Face Recognition, 2019: landmarks in chips of 112 pixels.
_ARCFACE_TEMPLATE = ((38.2946, 51.6963), (73.5318, 51.5014), (56.0252, 71.7366), (41.5493, 92.3655), (70.7299, 92.2041))
_ARCFACE_SIDE = 112

# What the families usually want: mean, std, colour order.
_USUAL_INPUT: Mapping[str, tuple[float, float, str]] = {
    "scrfd": (127.5, 128.0, "RGB"),
    "yunet": (0.0, 1.0, "BGR"),
    "arcface": (127.5, 127.5, "RGB"),
    "sface": (0.0, 1.0, "RGB"),
}
_DETECTOR_OUTPUTS: Mapping[str, tuple[int, ...]] = {"scrfd": (6, 9), "yunet": (12,)}


@dataclass(frozen=True, slots=True)
class Draft:
    """A pack that is not in the library yet, and the content of its files."""

    pack: Pack
    contents: Mapping[str, bytes]

    def install(self, library: Library) -> Pack:
        """The pack in the library."""
        return library.install(self.pack, self.contents.items())


def draft(folder: Path, name: str, library: Library, *, accepted: bool, now: datetime) -> Draft:
    """The pack that the files in ``folder`` make, to be called ``name`` (empty: as it says itself).

    ``accepted`` is whether a licence that forbids commercial use is accepted. Raises ``InputError`` for a folder that
    no pack can be made of, ``PreconditionError`` (``LICENCE_NOT_ACCEPTED``), and ``WeightsError`` for files that are
    damaged or not what they are said to be.
    """
    if not folder.is_dir():
        raise InputError(f"{folder} is no folder", field="path")
    if is_manifest(folder):
        return _copy(folder, name)
    description = read_toml(folder) if (folder / PACK_TOML).is_file() else describe_insightface(folder)
    return build(folder, description, name, library, _accepted(description, accepted=accepted, now=now))


def build(
    folder: Path, description: Description, name: str, library: Library, acceptances: tuple[Acceptance, ...] = ()
) -> Draft:
    """The pack that ``description`` makes of the files in ``folder``; raises as ``draft`` does."""
    contents: dict[str, bytes] = {}
    sources: list[Source] = []
    detector = _detector(folder, description, library, contents, sources)
    embedder, dimension = _embedder(folder, description, library, contents, sources)
    inherited = [
        acceptance
        for part in (description.detector, description.embedder)
        if part.pack
        for acceptance in library.open(part.pack).acceptances
    ]
    files = tuple(stored(file, content) for file, content in contents.items())
    pack = Pack(
        name=name or description.name,
        folder=Path(),
        contract_id=contract_of(detector, embedder, files, dimension),
        dimension=dimension,
        sources=tuple(sources),
        files=files,
        detector=detector,
        embedder=embedder,
        calibration=UNCALIBRATED,
        acceptances=tuple(dict.fromkeys((*acceptances, *inherited))),
    )
    return Draft(pack, contents)


def _copy(folder: Path, name: str) -> Draft:
    """A pack of facesvc as another box has it."""
    if problems := verify(folder):
        raise WeightsError(f"the pack in {folder} is damaged: {'; '.join(problems)}")
    pack = load_manifest(folder)
    return Draft(
        replace(pack, name=name or pack.name), {file.name: pack.path(file.name).read_bytes() for file in pack.files}
    )


def _accepted(description: Description, *, accepted: bool, now: datetime) -> tuple[Acceptance, ...]:
    if description.commercial_use:
        return ()
    if not accepted:
        raise PreconditionError(
            f"these weights come under the licence {description.licence!r}, which has to be accepted"
            f" (--accept-license). {description.licence_text[:1000]}",
            reason="LICENCE_NOT_ACCEPTED",
        )
    digest = hashlib.sha256(description.licence_text.encode()).hexdigest()
    return (Acceptance(description.licence, digest, now.isoformat(timespec="seconds")),)


def _detector(
    folder: Path, description: Description, library: Library, contents: dict[str, bytes], sources: list[Source]
) -> DetectorSpec:
    part = description.detector
    if part.pack:
        lender = library.open(part.pack)
        return _borrowed_detector(lender, contents, sources)
    path = _add(folder, description, part, contents, sources)
    network = Network.load(path)
    family = part.family or _family(network, path)
    mean, std, colour_order = _input(part, family)
    outputs = _run(network, path, _TRIED_SIDE)
    if len(outputs) not in _DETECTOR_OUTPUTS[family] or {output.shape[-1] for output in outputs} - {1, 4, 10}:
        shapes = ", ".join(str(output.shape) for output in outputs)
        raise WeightsError(f"{path.name} is no detector of the family {family}: its outputs are {shapes}")
    return DetectorSpec(family, {"detector": path.name}, mean, std, colour_order)


def _family(network: Network, path: Path) -> str:
    for family, counts in _DETECTOR_OUTPUTS.items():
        if len(network.output_names) in counts:
            return family
    raise WeightsError(
        f"{path.name} has {len(network.output_names)} outputs: SCRFD has 6 or 9, YuNet 12; name its family"
    )


def _borrowed_detector(lender: Pack, contents: dict[str, bytes], sources: list[Source]) -> DetectorSpec:
    names = {role: f"{role}.onnx" for role in lender.detector.files}
    for role, file in lender.detector.files.items():
        contents[names[role]] = lender.path(file).read_bytes()
    sources.extend(lender.sources)
    return replace(lender.detector, files=names)


def _embedder(
    folder: Path, description: Description, library: Library, contents: dict[str, bytes], sources: list[Source]
) -> tuple[EmbedderSpec, int]:
    part = description.embedder
    if part.pack:
        lender = library.open(part.pack)
        file = "embedder.onnx"
        contents[file] = lender.path(lender.embedder.file).read_bytes()
        sources.extend(source for source in lender.sources if source not in sources)
        return replace(lender.embedder, file=file), lender.dimension
    path = _add(folder, description, part, contents, sources)
    network = Network.load(path)
    *_, height, width = network.input_shape
    side = part.side or (height if isinstance(height, int) and height == width else _ARCFACE_SIDE)
    mean, std, colour_order = _input(part, part.family)
    outputs = _run(network, path, side)
    vector = outputs[0]
    if len(outputs) != 1 or vector.ndim != 2 or len(vector) != 1 or not np.isfinite(vector).all():
        raise WeightsError(f"{path.name} is no embedder: it should give one vector a face, not {vector.shape}")
    spec = EmbedderSpec(path.name, side, mean, std, colour_order, part.template or _arcface_template(side))
    return spec, vector.shape[1]


def _add(
    folder: Path,
    description: Description,
    part: DetectorPart | EmbedderPart,
    contents: dict[str, bytes],
    sources: list[Source],
) -> Path:
    """Takes a file of the folder into the pack."""
    assert part.file is not None  # it is not of another pack
    path = folder / part.file
    try:
        if not path.is_file() or path.stat().st_size > _MAX_FILE_BYTES:
            raise InputError(f"{path} is no file of at most {_MAX_FILE_BYTES >> 20} MiB", field="path")
        content = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}", field="path") from error
    contents[part.file] = content
    digest = hashlib.sha256(content).hexdigest()
    sources.append(Source(description.name, description.version, part.file, digest, description.licence))
    return path


def _input(part: DetectorPart | EmbedderPart, family: str) -> tuple[Rgb, float, str]:
    mean, std, colour_order = _USUAL_INPUT[family]
    given = mean if part.mean is None else part.mean
    return given if isinstance(given, tuple) else (given,) * 3, part.std or std, part.colour_order or colour_order


def _run(network: Network, path: Path, side: int) -> tuple[np.ndarray[tuple[int, ...], np.dtype[np.float32]], ...]:
    """The outputs for a grey picture: ``side`` pixels square, or as large as the graph insists on."""
    shape = [1, 3, *(size if isinstance(size, int) else side for size in network.input_shape[-2:])]
    try:
        return network(np.zeros(shape, np.float32))
    except Exception as error:
        # onnxruntime's exceptions have no base of their own.
        raise WeightsError(
            f"{path.name} does not run on a picture of {shape[-1]} x {shape[-2]} pixels: {error}"
        ) from error


def _arcface_template(side: int) -> Points:
    """ArcFace's template in a chip of ``side`` pixels: multiples of 128 have a border of 8 in 128 left and right."""
    if side % _ARCFACE_SIDE and side % 128 == 0:
        return tuple(((x + 8) * side / 128, y * side / 128) for x, y in _ARCFACE_TEMPLATE)
    return tuple((x * side / _ARCFACE_SIDE, y * side / _ARCFACE_SIDE) for x, y in _ARCFACE_TEMPLATE)
