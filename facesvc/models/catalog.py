"""What can be fetched by name: packs of files that others published, with their SHA-256 and their licences.

A pack whose files have a published hash is the same for everybody. The archives of InsightFace have none: what comes
first is pinned (see ``library.Library.pins``), and other bytes under the same name are refused from then on.

Nothing here is changed by a mirror but the address: ``MIRROR/opencv_zoo/FILE`` and ``MIRROR/insightface/NAME.zip``.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from facesvc.models.description import (
    INSIGHTFACE_LICENCE,
    INSIGHTFACE_TERMS,
    Description,
    DetectorPart,
    EmbedderPart,
)

_BASES: Mapping[str, str] = {
    "opencv_zoo": "https://github.com/opencv/opencv_zoo/raw/main/models",
    # The tag that insightface 2.1 itself downloads from (insightface/utils/storage.py); older versions had v0.7.
    "insightface": "https://github.com/deepinsight/insightface/releases/download/model-zoo",
}


@dataclass(frozen=True, slots=True)
class Remote:
    """A file at ``path`` below the base of ``origin``; ``sha256`` is empty where nobody published one."""

    origin: str
    path: str
    version: str
    licence: str
    sha256: str = ""
    size_bytes: int | None = None

    @property
    def name(self) -> str:
        """The plain name of the file."""
        return self.path.rpartition("/")[2]

    @property
    def key(self) -> str:
        """Under which it is pinned, and where it lies on a mirror."""
        return f"{self.origin}/{self.name}"

    def url(self, mirror: str = "") -> str:
        """Where it is fetched from: where it was published or, unless that is empty, the ``mirror``."""
        return f"{mirror}/{self.key}" if mirror else f"{_BASES[self.origin]}/{self.path}"


@dataclass(frozen=True, slots=True)
class Entry:
    """A pack that is made of ``remotes`` as ``description`` says or, without one, of what one archive holds.

    ``terms`` is what has to be agreed to before it is fetched, where its licence forbids commercial use.
    """

    name: str
    remotes: tuple[Remote, ...]
    description: Description | None = None
    terms: str = ""

    def __post_init__(self) -> None:
        if self.description is None and len(self.remotes) != 1:
            raise ValueError(f"{self.name} is one archive, or it has a description")

    @property
    def licences(self) -> tuple[str, ...]:
        """In the form of ``Pack.licences``."""
        return tuple(dict.fromkeys(f"{one.origin} {one.version}: {one.licence}" for one in self.remotes))

    @property
    def size_bytes(self) -> int | None:
        """How much is fetched; None where that is not known."""
        sizes = [remote.size_bytes for remote in self.remotes]
        return None if None in sizes else sum(size for size in sizes if size is not None)


_YUNET = Remote(
    "opencv_zoo", "face_detection_yunet/face_detection_yunet_2023mar.onnx", "YuNet 2023mar", "MIT",
    "8f2383e4dd3cfbb4553ea8718107fc0423210dc964f9f4280604804ed2552fa4", 232_589,
)  # fmt: skip
_SFACE = Remote(
    "opencv_zoo", "face_recognition_sface/face_recognition_sface_2021dec.onnx", "SFace 2021dec", "Apache-2.0",
    "0ba9fbfa01b5270c96627c4ef784da859931e02f04419c829e83484087c34e79", 38_696_353,
)  # fmt: skip
_SFACE_INT8 = Remote(
    "opencv_zoo", "face_recognition_sface/face_recognition_sface_2021dec_int8.onnx", "SFace 2021dec", "Apache-2.0",
    "2b0e941e6f16cc048c20aee0c8e31f569118f65d702914540f7bfdc14048d78a", 9_896_933,
)  # fmt: skip


def _opencv(name: str, detector: Remote, embedder: Remote) -> Entry:
    # OpenCV feeds YuNet with BGR and SFace, by swapping the colours in FaceRecognizerSF, with RGB, both 0 to 255.
    description = Description(
        name=name,
        licence=f"{detector.licence}, {embedder.licence}",
        detector=DetectorPart(family="yunet", file=detector.name),
        embedder=EmbedderPart(family="sface", file=embedder.name),
    )
    return Entry(name, (detector, embedder), description)


def _insightface(name: str) -> Entry:
    return Entry(
        name, (Remote("insightface", f"{name}.zip", "model-zoo", INSIGHTFACE_LICENCE),), terms=INSIGHTFACE_TERMS
    )


# Of the archives that insightface 2.1 names, those with a detector and an embedder of faces.
_INSIGHTFACE_NAMES = ("buffalo_l", "buffalo_m", "buffalo_s", "buffalo_sc", "antelopev2", "raccoon_l", "raccoon_s")

ENTRIES: Mapping[str, Entry] = {
    entry.name: entry
    for entry in (
        _opencv("yunet_sface", _YUNET, _SFACE),
        _opencv("yunet_sface_int8", _YUNET, _SFACE_INT8),
        *(_insightface(name) for name in _INSIGHTFACE_NAMES),
    )
}
"""Every pack that is known, by its name."""
