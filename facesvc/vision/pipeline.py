"""The straight line: bytes, pixels, faces, chips, quality, vectors."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from facesvc.vision.appearance import appearance
from facesvc.vision.crop import SEARCHED_SHARE, kept_crop
from facesvc.vision.decode import Image, ImageHeader, ImageLimits, decode, read_header
from facesvc.vision.detection import Detection, Floats, MinimumFace, Pixels
from facesvc.vision.embed import Embedder
from facesvc.vision.quality import Quality, assess

# A face this wide in the decoded picture is all that the embedder can use: in a chip it is about 100 pixels wide. JPEGs
# in which the smallest face is wider are decoded at a reduced size.
_DETAIL_FOR_EMBEDDING = 100
# So many pixels show a group as well as more of them do; a JPEG of more is decoded at a reduced size.
_DECODED_PIXELS = 12_500_000
# The face in a kept crop may be of any size.
_SMALLEST_FACE = 12
# A kept crop may show parts of other faces.
_CROPPED_FACES = 8

Clock = Callable[[], float]
"""Seconds of a clock that never goes back."""


class Detector(Protocol):
    """Any family of face detectors."""

    @property
    def detail(self) -> float:
        """The width in pixels from which on a face shows all that this detector can use."""
        ...

    @property
    def scanned_face(self) -> float:
        """How many pixels wide the smallest face is in what is scanned: the larger, the more there is to scan."""
        ...

    def smallest_face(self, width: int, height: int, minimum_face: float) -> float:
        """What ``detect`` can be relied on for, asked for ``minimum_face`` in a picture of that size: that, or more."""
        ...

    def detect(self, pixels: Pixels, minimum_face: float, *, rough: bool = False) -> list[Detection]:
        """Faces of at least ``minimum_face`` pixels in (H, W, 3) uint8 RGB, in pixels of that picture.

        With ``rough``, boxes are what matters: where that is cheaper, landmarks may be poor and scores low.
        """
        ...

    def refine(self, pixels: Pixels, detection: Detection, minimum_face: float) -> Detection:
        """A face that a rough look at the same pixels for ``minimum_face`` found, with landmarks as good as any."""
        ...


@dataclass(frozen=True, slots=True)
class Face:
    """A face, in pixels of the full picture; ``vector`` is (D,) float32 of unit length where asked for.

    ``appearance`` is what ``appearance.appearance`` says of it.
    """

    detection: Detection
    quality: Quality
    vector: Floats | None
    appearance: Floats | None = None


@dataclass(slots=True)
class StageTimes:
    """Seconds spent in each stage that ran, in order."""

    seconds: dict[str, float] = field(default_factory=dict)

    def add(self, stage: str, seconds: float) -> None:
        """Count ``seconds`` towards ``stage``."""
        self.seconds[stage] = self.seconds.get(stage, 0.0) + seconds


@dataclass(frozen=True, slots=True)
class Analysis:
    """What a picture shows: its full size as seen, its faces (largest first), and how many more were left out.

    ``minimum_face`` is the smallest that was looked for, in pixels: more than was asked for where the picture is huge,
    or larger than a detector's fixed input. Of the faces between the two some are found all the same.
    """

    width: int
    height: int
    faces: tuple[Face, ...]
    omitted: int
    times: StageTimes
    minimum_face: float


@dataclass(frozen=True, slots=True)
class Scene:
    """A decoded picture and what was found in it, largest first, in pixels of ``image.pixels``.

    ``omitted`` more were left out; ``scanned_face`` is the smallest size that was asked for, in the same pixels, and
    ``minimum_face`` the smallest that was looked for, in pixels of the full picture.
    """

    image: Image
    detections: tuple[Detection, ...]
    omitted: int
    scanned_face: float
    minimum_face: float


@dataclass(frozen=True, slots=True)
class Pipeline:
    """The stages in order, over one detector and one embedder. Calls may run side by side in several threads."""

    detector: Detector
    embedder: Embedder
    limits: ImageLimits
    clock: Clock

    def detect(self, data: bytes, minimum: MinimumFace, max_faces: int) -> Analysis:
        """The faces of an encoded picture, without vectors. Raises ``ImageError``."""
        return self._run(data, minimum, max_faces, embed=False)

    def embed(self, data: bytes, minimum: MinimumFace, max_faces: int) -> Analysis:
        """The faces of an encoded picture with quality and vector. Raises ``ImageError``."""
        return self._run(data, minimum, max_faces, embed=True)

    def template(self, data: bytes, detection: Detection) -> Floats:
        """The gallery vector of one face that ``embed`` found in the same bytes: a mean over jittered chips."""
        header = read_header(data, self.limits)
        image = decode(data, header, _largest_scale(header))
        return self.embedder.embed_template(image.pixels, detection.scaled(image.scale).landmarks)

    def crop(self, data: bytes, detection: Detection) -> bytes:
        """A JPEG of one face that ``embed`` found in the same bytes, with all around it that any models need."""
        header = read_header(data, self.limits)
        image = decode(data, header, _largest_scale(header))
        return kept_crop(image.pixels, detection.scaled(image.scale).box)

    def find(self, crop: bytes) -> Face | None:
        """The face that a kept crop shows, with its vector; None where these models find none in it."""
        analysis = self.embed(crop, MinimumFace(_SMALLEST_FACE, SEARCHED_SHARE), _CROPPED_FACES)
        return nearest_centre(analysis)

    def _run(self, data: bytes, minimum: MinimumFace, max_faces: int, *, embed: bool) -> Analysis:
        times = StageTimes()
        scene = self.scan(data, minimum, max_faces, times, detail=_DETAIL_FOR_EMBEDDING if embed else 0)
        image = scene.image
        faces = tuple(self.face(scene, detection, times, embed=embed) for detection in scene.detections)
        return Analysis(image.width, image.height, faces, scene.omitted, times, scene.minimum_face)

    def scan(
        self,
        data: bytes,
        minimum: MinimumFace,
        max_faces: int,
        times: StageTimes,
        *,
        rough: bool = False,
        detail: float = _DETAIL_FOR_EMBEDDING,
    ) -> Scene:
        """Decode a picture and find its faces, at most ``max_faces``. Raises ``ImageError``.

        :param rough: see ``Detector.detect``.
        :param detail: how wide the smallest face wanted has to be in the decoded picture, if it is so in the full one.
        """
        started = self.clock()
        header = read_header(data, self.limits)
        area = header.width * header.height
        wanted = max(
            minimum.in_frame(*header.seen_size),
            self.detector.scanned_face * math.sqrt(area / self.limits.max_scanned_pixels),
        )
        image = decode(data, header, min(max(self.detector.detail, detail) / wanted, _largest_scale(header)))
        decoded = self.clock()
        times.add("decode", decoded - started)
        scanned = wanted * image.scale
        found = self.detector.detect(image.pixels, scanned, rough=rough)
        found.sort(key=lambda detection: detection.box.area, reverse=True)
        times.add("detect", self.clock() - decoded)
        height, width = image.pixels.shape[:2]
        smallest = self.detector.smallest_face(width, height, scanned) / image.scale
        return Scene(image, tuple(found[:max_faces]), max(0, len(found) - max_faces), scanned, smallest)

    def refine(self, scene: Scene, detection: Detection, times: StageTimes) -> Detection:
        """One of a rough scan's detections with landmarks that are good enough to recognise by."""
        started = self.clock()
        refined = self.detector.refine(scene.image.pixels, detection, scene.scanned_face)
        times.add("detect", self.clock() - started)
        return refined

    def face(self, scene: Scene, detection: Detection, times: StageTimes, *, embed: bool) -> Face:
        """One of a scan's detections with its quality and, if asked for, its vector; in pixels of the full picture."""
        image, started = scene.image, self.clock()
        chip = self.embedder.align(image.pixels, detection.landmarks)
        aligned = self.clock()
        quality, glance = assess(detection, chip, image.scale), appearance(chip)
        assessed = self.clock()
        vector = self.embedder.embed(chip) if embed else None
        times.add("align", aligned - started)
        times.add("quality", assessed - aligned)
        if embed:
            times.add("embed", self.clock() - assessed)
        return Face(detection.scaled(1 / image.scale), quality, vector, glance)


def nearest_centre(analysis: Analysis) -> Face | None:
    """The face in the middle of the picture; None where there is none."""

    def distance(face: Face) -> float:
        box = face.detection.box
        right, down = box.left + box.width / 2 - analysis.width / 2, box.top + box.height / 2 - analysis.height / 2
        return math.hypot(right, down)

    return min(analysis.faces, key=distance, default=None)


def _largest_scale(header: ImageHeader) -> float:
    """The scale at which a picture has as many pixels as are worth decoding."""
    return math.sqrt(_DECODED_PIXELS / (header.width * header.height))
