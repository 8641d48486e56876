"""What somebody says of the files that they bring: ``pack.toml``, or the same found out about an InsightFace folder.

    name = "lobby"
    licence = "Apache-2.0"          # commercial_use = false for one that has to be accepted; licence_file = its text

    [detector]
    family = "yunet"                # or scrfd
    file = "yunet.onnx"             # or pack = "edge_s": the one of a pack that is installed

    [embedder]
    family = "arcface"              # or sface
    file = "w_mbf.onnx"

What a family usually has need not be said: ``mean`` (a number, or three in the colour order), ``std``, ``colour_order``
and, of an embedder, ``side`` and ``template``, five points in pixels of the chip.

A pack of kind liveness has networks instead:

    kind = "liveness"
    name = "minifasnet"
    licence = "Apache-2.0"
    family = "minifasnet"           # or insightface, the add-on of insightface 2.1: one network, no scale

    [[networks]]
    file = "minifasnet_v2_2.7_80x80.onnx"
    scale = 2.7                     # how much the box of a face is grown for it
"""

import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from facesvc.errors import DependencyError, InputError, WeightsError

PACK_TOML = "pack.toml"
INSIGHTFACE_LICENCE = "non-commercial research"
# In our words: the text stands in the project's README, not in its archives.
INSIGHTFACE_TERMS = (
    "The InsightFace project provides its pretrained models for non-commercial research only. For any other use ask its"
    " authors for a licence: https://github.com/deepinsight/insightface#license"
)

_MAX_TEXT_BYTES = 1 << 20
_TIMEOUT_S = 120.0
_PACKAGE_PARENT = Path(__file__).resolve().parents[2]


def _within(path: str) -> str:
    """A path of a file that cannot lead out of its folder."""
    if not path or "\\" in path or "\0" in path or any(part in ("", ".", "..") for part in path.split("/")):
        raise ValueError(f"{path!a} is no path within the folder")
    return path


_Plain = Annotated[str, Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}$")]
_File = Annotated[str, Field(max_length=200), AfterValidator(_within)]
_Text = Annotated[str, Field(min_length=1, max_length=200)]
_Finite = Annotated[float, Field(allow_inf_nan=False)]
_PerColour = _Finite | tuple[_Finite, _Finite, _Finite]


class _Part(BaseModel):
    """Half of a pack: a file of the folder, or that of an installed pack."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    file: _File | None = None
    pack: _Plain | None = None
    mean: _PerColour | None = None
    std: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    colour_order: Literal["RGB", "BGR"] | None = None

    @model_validator(mode="after")
    def _one_origin(self) -> Self:
        if (self.file is None) == (self.pack is None):
            raise ValueError("name either file or pack")
        if self.pack is not None and self.model_fields_set != {"pack"}:
            raise ValueError("all about the part of an installed pack is known: name nothing beside pack")
        return self


class DetectorPart(_Part):
    """The detector."""

    family: Literal["scrfd", "yunet"] | None = None


class EmbedderPart(_Part):
    """The embedder."""

    family: Literal["arcface", "sface"] = "arcface"
    side: Annotated[int, Field(ge=16, le=1024)] | None = None
    template: Annotated[tuple[tuple[_Finite, _Finite], ...], Field(min_length=5, max_length=5)] | None = None


class _Said(BaseModel):
    """What has to be said of a pack of any kind."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: _Plain
    version: _Text = "1"
    licence: _Text
    licence_file: _File | None = None
    licence_text: Annotated[str, Field(max_length=_MAX_TEXT_BYTES)] = ""
    commercial_use: bool = True


class Description(_Said):
    """All that has to be said of a pack for recognition."""

    kind: Literal["recognition"] = "recognition"
    detector: DetectorPart
    embedder: EmbedderPart


class NetworkPart(BaseModel):
    """A network of a liveness pack."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    file: _File
    scale: Annotated[float, Field(ge=1, le=10)] | None = None


class LivenessDescription(_Said):
    """All that has to be said of a pack of kind liveness."""

    kind: Literal["liveness"]
    family: Literal["minifasnet", "insightface"]
    networks: Annotated[tuple[NetworkPart, ...], Field(min_length=1, max_length=8)]


AnyDescription = Description | LivenessDescription
_Kind = TypeVar("_Kind", bound=_Said)


def read_toml(folder: Path) -> AnyDescription:
    """What the ``pack.toml`` in ``folder`` says. Raises ``InputError`` that names what is wrong with it."""
    path = folder / PACK_TOML
    try:
        values = tomllib.loads(_text(path))
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path} is not TOML: {error}", field="path") from error
    if values.get("kind") == "liveness":
        return _with_licence(_description(LivenessDescription, path, values), folder)
    return _with_licence(_description(Description, path, values), folder)


def describe_insightface(folder: Path) -> Description:
    """What the insightface package says of ``folder``: see ``insightface_program``.

    Raises ``WeightsError`` for files whose hashes are not those of the folder's manifest or that no model is made of,
    and ``InputError`` where there is no detector with an embedder.
    """
    command = [sys.executable, "-m", "facesvc.models.insightface_program", str(folder.resolve())]
    try:
        child = subprocess.run(  # noqa: S603 - this interpreter, this package
            command, capture_output=True, timeout=_TIMEOUT_S, cwd=_PACKAGE_PARENT, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise DependencyError(f"the insightface package could not be asked about {folder}: {error}") from error
    if child.returncode != 0:
        reason = child.stderr.decode(errors="replace")[-500:].strip()
        raise WeightsError(f"the insightface package does not open {folder}: {reason}")
    models = {model["task"]: model for model in reversed(json.loads(child.stdout))}
    if missing := {"detection", "recognition"} - models.keys():
        raise InputError(
            f"{folder} holds no model for {' and '.join(sorted(missing))}: name a folder with {PACK_TOML}, or one of"
            " InsightFace with a detector and an embedder",
            field="path",
        )
    detector, embedder, licence = models["detection"], models["recognition"], folder / "MODEL.LICENSE"
    values = {
        "name": re.sub(r"[^A-Za-z0-9_.-]", "_", folder.resolve().name).lstrip(".-")[:64] or "insightface",
        "licence": INSIGHTFACE_LICENCE,
        "licence_text": _text(licence) if licence.is_file() else INSIGHTFACE_TERMS,
        "commercial_use": False,
        "detector": {"family": "scrfd", **_said(detector)},
        "embedder": _said(embedder),
    }
    return _description(Description, folder, values)


def _with_licence(description: _Kind, folder: Path) -> _Kind:
    if not description.licence_file:
        return description
    return description.model_copy(update={"licence_text": _text(folder / description.licence_file)})


def _said(model: dict[str, Any]) -> dict[str, Any]:
    return {name: model[name] for name in ("file", "mean", "std")}


def _description(model: type[_Kind], path: Path, values: dict[str, Any]) -> _Kind:
    try:
        return model.model_validate(values)
    except ValidationError as error:
        problems = "; ".join(f"{'.'.join(map(str, item['loc']))}: {item['msg']}" for item in error.errors())
        raise InputError(f"{path} cannot be used: {problems}", field="path") from error


def _text(path: Path) -> str:
    """The text in a file of somebody's. Raises ``InputError``."""
    try:
        if not path.is_file() or path.stat().st_size > _MAX_TEXT_BYTES:
            raise InputError(f"{path} is no file of at most {_MAX_TEXT_BYTES} bytes", field="path")
        return path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path} cannot be read as UTF-8: {error}", field="path") from error
