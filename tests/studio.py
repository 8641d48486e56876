"""A camera whose pictures are painted: real decoding, alignment, quality and gallery around scripted networks.

Each person is a patch of grey of their own, tinted so that the scripted embedder can tell from the aligned chip whom it
shows. A frame holds the patches where a test wants them, and the scripted detector finds them there.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from hashlib import sha256
from pathlib import Path

import cv2
import numpy as np
from evidence import CLOCK0, POLICY, T0
from galleries import open_gallery
from ulid import ULID

from facesvc.gallery import EmbeddingContract, Sample, Subject
from facesvc.stream.look import Pace
from facesvc.stream.policy import Capture, Policy
from facesvc.stream.recognizer import LivenessScorer, Question, Recognizer
from facesvc.stream.session import Session
from facesvc.stream.shown import Followed, Seen
from facesvc.vision.decode import ImageLimits
from facesvc.vision.detection import Detection, Floats, MinimumFace, Pixels
from facesvc.vision.embed import Embedder
from facesvc.vision.geometry import Box
from facesvc.vision.pipeline import Pipeline

WIDTH, HEIGHT = 640, 360
SIDE = 112
SIZE = 80.0
# ArcFace's places of the landmarks in a chip of 112.
TEMPLATE = np.array([(38.3, 51.7), (73.5, 51.5), (56.0, 71.7), (41.5, 92.4), (70.7, 92.2)], np.float32)
# By their tint: the first four are enrolled.
PEOPLE = ("ada", "bob", "cyd", "dan", "eve", "fay", "gus", "hal")
ENROLLED = PEOPLE[:4]
_TINT = 8
# A rough look is off by so many pixels.
ROUGH = 2.0


def patch(name: str) -> Pixels:
    """Somebody's face, (112, 112, 3) uint8 RGB."""
    number = PEOPLE.index(name)
    random = np.random.default_rng(number)
    coarse = random.integers(70, 180, (8, 8)).astype(np.float32)
    grey = cv2.resize(coarse, (SIDE, SIDE), interpolation=cv2.INTER_CUBIC) + random.normal(0, 12, (SIDE, SIDE))
    tint = _TINT * (number - len(PEOPLE) // 2)
    return np.clip(np.stack([grey + tint, grey, grey - tint], axis=-1), 0, 255).astype(np.uint8)


def background(seed: int) -> Pixels:
    """An empty room, (360, 640, 3) uint8 RGB."""
    coarse = np.random.default_rng(seed).integers(0, 255, (9, 16), np.uint8)
    return np.stack([cv2.resize(coarse, (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC)] * 3, axis=-1)


@dataclass(frozen=True)
class Shown:
    """Somebody before the camera: where the middle of the face is, and what the detector says of it.

    ``rough_score`` is what it says in a rough look, where that is another.
    """

    name: str
    x: float
    y: float = 180.0
    size: float = SIZE
    score: float = 0.95
    rough_score: float | None = None

    def found(self, *, rough: bool) -> Detection:
        """The face as the detector finds it."""
        box = Box(self.x - self.size / 2, self.y - self.size / 2, self.size, self.size)
        corner = np.array([box.left, box.top], np.float32)
        landmarks = corner + TEMPLATE * np.float32(self.size / SIDE) + np.float32(ROUGH if rough else 0)
        score = self.rough_score if rough and self.rough_score is not None else self.score
        return Detection(box, landmarks.astype(np.float32), score)


def recognizer_over(camera: "Camera", path: Path, contract: str = "painted/1") -> Recognizer:
    """A recognizer with the camera's networks and a gallery of its own, of those who are enrolled."""
    gallery = open_gallery(path, EmbeddingContract(contract, len(PEOPLE) + 1), T0)
    for name in ENROLLED:
        gallery.create_subject(
            Subject(collection_id="office", subject_id=name, display_name=name.title(), create_time=T0, update_time=T0)
        )
        sample = Sample(
            sample_id=str(ULID()),
            collection_id="office",
            subject_id=name,
            vector=camera.vector(name),
            quality=1.0,
            source="painted",
            image_sha256=sha256(name.encode()).digest(),
            create_time=T0,
        )
        gallery.add_sample(sample, None, T0, contract_id=contract)
    embedder = Embedder(camera.network, SIDE, (0, 0, 0), 1.0, TEMPLATE, len(PEOPLE) + 1)
    pipeline = Pipeline(camera, embedder, ImageLimits(), lambda: camera.clock)
    return Recognizer(pipeline, gallery, contract, lambda: camera.now, camera.new_id)


@dataclass
class Camera:
    """The scripted networks, both clocks, and one stream. ``looks`` are 8 a second, exact in binary.

    :ivar says: whom the embedder takes somebody for, where that is not themselves; ``vector`` says how to write
        that somebody is only like that person.
    :ivar embedded: who was embedded, in order.
    """

    folder: Path
    policy: Policy = POLICY
    lost_s: float = 2.0
    max_faces: int = 8
    pace: Pace = field(default_factory=lambda: Pace(3.0))
    room: int = 0
    zoom: float = 1.0
    seconds: float = 0.0
    embedding_s: float = 0.0
    liveness: LivenessScorer | None = None
    says: dict[str, str] = field(default_factory=dict)
    embedded: list[str] = field(default_factory=list)
    asked_for: list[float] = field(default_factory=list)
    shown: list[Shown] = field(default_factory=list)
    detail: float = 48.0
    scanned_face: float = 12.0

    LOOK_S = 0.125

    def __post_init__(self) -> None:
        self._spent = 0.0
        self._ids = 0
        self.question = Question("office", self.policy, 3, MinimumFace(40), self.max_faces)
        self.session = Session(self.question, self.lost_s)
        self.recognizer = recognizer_over(self, self.folder / "gallery.db")

    @property
    def clock(self) -> float:
        return CLOCK0 + self.seconds + self._spent

    @property
    def now(self) -> datetime:
        return T0 + timedelta(seconds=self.seconds + self._spent)

    def new_id(self) -> str:
        self._ids += 1
        return f"id-{self._ids:05}"

    def smallest_face(self, width: int, height: int, minimum_face: float) -> float:
        return minimum_face

    def detect(self, pixels: Pixels, minimum_face: float, *, rough: bool = False) -> list[Detection]:
        assert pixels.shape == (HEIGHT * self.zoom, WIDTH * self.zoom, 3)
        self.asked_for.append(minimum_face)
        return [one.found(rough=rough).scaled(self.zoom) for one in self.shown]

    def refine(self, pixels: Pixels, detection: Detection, minimum_face: float) -> Detection:
        found = {one.found(rough=True).scaled(self.zoom).box: one.found(rough=False) for one in self.shown}
        return found[detection.box].scaled(self.zoom)

    def network(self, blob: Floats) -> tuple[Floats, ...]:
        """The vector of whom the chip shows."""
        self._spent += self.embedding_s
        middle = blob[0, :, 30:-30, 30:-30]
        tint = float((middle[0] - middle[2]).mean()) / 2
        name = PEOPLE[round(tint / _TINT) + len(PEOPLE) // 2]
        self.embedded.append(name)
        return (self.vector(self.says.get(name, name))[None],)

    def vector(self, name: str) -> Floats:
        """Nobody is like anybody else.

        ``ada?`` is like Ada with a cosine of 0.7, ``ada!`` with one of 0.95, ``ada-`` with one that names nobody.
        """
        likeness = {"?": 0.7, "!": 0.95, "-": 0.3}.get(name[-1], 1.0)
        vector = np.zeros(len(PEOPLE) + 1, np.float32)
        vector[PEOPLE.index(name.rstrip("?!-"))] = likeness
        vector[-1] = np.sqrt(1 - likeness**2)
        return vector

    def picture(self, shown: Iterable[Shown]) -> bytes:
        """The room with people in it; who comes later stands before the others."""
        frame = background(self.room)
        for one in shown:
            size = round(one.size)
            left, top = round(one.x - one.size / 2), round(one.y - one.size / 2)
            face = cv2.resize(patch(one.name), (size, size), interpolation=cv2.INTER_AREA)
            right, bottom = min(left + size, WIDTH), min(top + size, HEIGHT)
            if right > max(left, 0) and bottom > max(top, 0):
                part = face[max(-top, 0) : bottom - top, max(-left, 0) : right - left]
                frame[max(top, 0) : bottom, max(left, 0) : right] = part
        sent = cv2.resize(frame[:, :, ::-1], None, fx=self.zoom, fy=self.zoom, interpolation=cv2.INTER_AREA)
        encoded, data = cv2.imencode(".png", sent)
        assert encoded
        return data.tobytes()

    def look(self, *shown: Shown, hidden: Iterable[Shown] = ()) -> Seen:
        """The next frame; ``hidden`` are painted but not found."""
        self.shown, self._spent = list(shown), 0.0
        seen = self.session.look(
            self.recognizer, self.picture([*hidden, *shown]), self.policy, self.capture, self.clock, self.pace
        )
        self.seconds += self.LOOK_S
        return seen

    @property
    def capture(self) -> Capture:
        return Capture(T0 + timedelta(seconds=self.seconds), CLOCK0 + self.seconds)


def name_of(one: Followed) -> str:
    """Who a face is said to be; empty for nobody."""
    return one.decision.subject.subject_id if one.decision and one.decision.subject else ""


def names(seen: Seen) -> dict[str, str]:
    """Who each track is said to be."""
    return {one.track.track_id: name_of(one) for one in seen.faces}
