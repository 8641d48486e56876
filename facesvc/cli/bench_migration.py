"""What a stream notices while the models are changed under it: the time between results, and the names in them."""

import io
import statistics
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import PIL.Image
import PIL.ImageEnhance

from facesvc.cli import bench_stages
from facesvc.cli.local_server import LocalServer
from facesvc.cli.samples import GROUP, sample_picture
from facesvc.client import CallError, Client, frame, opening, sample
from facesvc.config import Settings
from facesvc.errors import DependencyError
from facesvc.v1 import admin_pb2, common_pb2, enrollment_pb2, recognition_pb2

_BASELINE_FRAMES = 60
_WARM_UP_FRAMES = 5
# Pictures of each person: the same face, lighter and darker, so that a migration lasts a while.
_LIGHTS = (0.7, 0.75, 0.8, 0.85, 0.9, 0.95, 1.0, 1.05, 1.1, 1.15, 1.2, 1.25)
_OPTIONS = recognition_pb2.DetectionOptions(minimum_face_pixels=bench_stages.MINIMUM_FACE)
# A person is the one whose face was enrolled nearest to this place, in pixels of the group picture.
_NEAR = 40.0


@dataclass(frozen=True, slots=True)
class Gaps:
    """Times between two results, in milliseconds."""

    frames: int
    median_ms: float
    longest_ms: float


@dataclass(frozen=True, slots=True)
class MigrationResult:
    """Times between results before the migration, while it ran, and under the new models; and what results said."""

    samples: int
    seconds: float
    before: Gaps
    during: Gaps
    after: Gaps
    matches: int
    wrong_names: int
    errors: int
    rank_one: float


def measure(settings: Settings, pack: str) -> MigrationResult:
    """Enrol the people of the group picture, stream that picture without a pause, and migrate to ``pack`` meanwhile."""
    with tempfile.TemporaryDirectory() as folder:
        enrollment = settings.enrollment.model_copy(update={"keep_crops": True})
        gallery = settings.gallery.model_copy(update={"key_file": Path(folder) / "gallery.key"})
        # The pack has to be named: one that was chosen by the migration would be chosen for good.
        models = settings.models.model_copy(update={"pack": settings.models.pack or "default"})
        own = settings.model_copy(update={"enrollment": enrollment, "gallery": gallery, "models": models})
        with LocalServer(own, Path(folder) / "gallery.db") as server, Client(server.address) as client:
            return _Watch(client).migrate(pack)


class _Watch:
    """A stream that runs in a thread of its own while something else happens."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._picture = sample_picture(GROUP)
        self._places: dict[str, tuple[float, float]] = {}
        self._results: list[tuple[float, recognition_pb2.FrameResult]] = []
        self._answered = threading.Semaphore(1)
        self._grown = threading.Condition()
        self._over = threading.Event()
        self._broken: CallError | None = None

    def migrate(self, pack: str) -> MigrationResult:
        samples = self._enrol()
        stream = threading.Thread(target=self._stream)
        stream.start()
        try:
            self._wait_for(_BASELINE_FRAMES)
            before, started = len(self._results), time.perf_counter()
            *_, last = self._client.migrate_gallery(pack)
            seconds, during = time.perf_counter() - started, len(self._results)
            self._wait_for(during + _BASELINE_FRAMES)
        finally:
            self._over.set()
            stream.join()
        return self._summary(samples, seconds, (before, during), last)

    def _enrol(self) -> int:
        picture = PIL.Image.open(io.BytesIO(self._picture)).convert("RGB")
        enrolled = 0
        for number, face in enumerate(self._client.detect(self._picture).faces):
            box, subject_id = face.box, f"person-{number}"
            self._places[subject_id] = (box.left + box.width / 2, box.top + box.height / 2)
            margin = 0.5 * box.height
            portrait = picture.crop(
                (
                    max(0, int(box.left - margin)),
                    max(0, int(box.top - margin)),
                    min(picture.width, int(box.left + box.width + margin)),
                    min(picture.height, int(box.top + box.height + margin)),
                )
            )
            self._client.create_subject(enrollment_pb2.Subject(subject_id=subject_id, display_name=subject_id))
            verdicts = self._client.enroll(sample(subject_id, view, allow_conflict=True) for view in _views(portrait))
            enrolled += sum(one.verdict == enrollment_pb2.ENROLLMENT_VERDICT_ENROLLED for one in verdicts)
        if not enrolled:
            raise DependencyError("nobody of the bundled group picture could be enrolled with these settings")
        return enrolled

    def _stream(self) -> None:
        try:
            for result in self._client.recognize(opening("bench", options=_OPTIONS, every_frame=True), self._frames()):
                with self._grown:
                    self._results.append((time.perf_counter(), result))
                    self._grown.notify_all()
                self._answered.release()
        except CallError as error:
            self._broken = error

    def _frames(self) -> Iterator[recognition_pb2.Frame]:
        while not self._over.is_set():
            self._answered.acquire()
            yield frame(len(self._results), self._picture)

    def _wait_for(self, count: int) -> None:
        with self._grown:
            done = self._grown.wait_for(lambda: len(self._results) >= count or self._broken is not None, timeout=60)
        if self._broken is not None:
            raise self._broken
        if not done:
            raise DependencyError("the stream gives no results any more")

    def _summary(
        self, samples: int, seconds: float, marks: tuple[int, int], last: admin_pb2.MigrateGalleryResponse
    ) -> MigrationResult:
        times = [at for at, _ in self._results]
        gaps = [1000 * (later - earlier) for earlier, later in pairwise(times)]
        before, during = marks
        named = [
            (face.face.box, face.decision.subject.subject_id)
            for _, result in self._results
            for face in result.faces
            if face.decision.HasField("subject")
        ]
        return MigrationResult(
            samples=samples,
            seconds=seconds,
            before=_gaps(gaps[_WARM_UP_FRAMES : before - 1]),
            # The first result under the new models is one that the migration may have held up.
            during=_gaps(gaps[before - 1 : during + 1]),
            after=_gaps(gaps[during + 1 :]),
            matches=len(named),
            wrong_names=sum(not self._is_there(box, subject_id) for box, subject_id in named),
            errors=sum(result.HasField("error") for _, result in self._results),
            rank_one=last.rank_one,
        )

    def _is_there(self, box: common_pb2.BoundingBox, subject_id: str) -> bool:
        x, y = self._places[subject_id]
        return abs(box.left + box.width / 2 - x) < _NEAR and abs(box.top + box.height / 2 - y) < _NEAR


def _gaps(gaps: list[float]) -> Gaps:
    return Gaps(len(gaps), statistics.median(gaps), max(gaps))


def _views(portrait: PIL.Image.Image) -> Iterator[bytes]:
    for light in _LIGHTS:
        encoded = io.BytesIO()
        PIL.ImageEnhance.Brightness(portrait).enhance(light).save(encoded, "PNG")
        yield encoded.getvalue()
