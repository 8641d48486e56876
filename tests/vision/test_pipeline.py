"""The stages in a line: real networks, a clock that counts."""

import io
import itertools

import cv2
import numpy as np
import PIL.Image
import pytest

from facesvc.app import Models
from facesvc.errors import ImageError, InputError
from facesvc.vision.appearance import appearance
from facesvc.vision.decode import ImageLimits, decode, read_header
from facesvc.vision.detection import Detection, MinimumFace, Pixels
from facesvc.vision.geometry import Box, overlaps
from facesvc.vision.pipeline import Analysis, Pipeline, StageTimes

MINIMUM = MinimumFace(60)


class Clock:
    """Each look at it is a second later."""

    def __init__(self) -> None:
        self._seconds = itertools.count()

    def __call__(self) -> float:
        return float(next(self._seconds))


class Scripted:
    """What a detector says of itself, with MTCNN's numbers."""

    detail = 48.0
    scanned_face = 12.0

    def smallest_face(self, width: int, height: int, minimum_face: float) -> float:
        return minimum_face

    def refine(self, pixels: Pixels, detection: Detection, minimum_face: float) -> Detection:
        return detection


@pytest.fixture(scope="module")
def pipeline(models: Models) -> Pipeline:
    return Pipeline(models.detector, models.embedder, ImageLimits(), Clock())


@pytest.fixture(scope="module")
def embedded(pipeline: Pipeline, group_jpeg: bytes) -> Analysis:
    return pipeline.embed(group_jpeg, MINIMUM, 32)


def jpeg(pixels: Pixels, **options: object) -> bytes:
    file = io.BytesIO()
    PIL.Image.fromarray(pixels).save(file, "JPEG", quality=92, **options)
    return file.getvalue()


def corners(box: Box) -> list[float]:
    return [box.left, box.top, box.left + box.width, box.top + box.height]


def assert_same_boxes(found: Analysis, expected: Analysis) -> None:
    """All boxes but one agree well: one head is tilted so far that its box wavers."""
    assert len(found.faces) == len(expected.faces)
    boxes = np.array([corners(face.detection.box) for face in (*expected.faces, *found.faces)], np.float32)
    count = len(expected.faces)
    shared = np.sort(overlaps(boxes)[:count, count:].max(axis=1))
    assert shared[0] >= 0.6
    assert shared[1] >= 0.85


def test_faces_come_largest_first_with_all_that_was_asked_for(embedded: Analysis, group: Pixels) -> None:
    assert (embedded.height, embedded.width) == group.shape[:2]
    areas = [face.detection.box.area for face in embedded.faces]
    assert len(areas) == 6
    assert areas == sorted(areas, reverse=True)
    assert embedded.omitted == 0
    for face in embedded.faces:
        assert face.vector is not None
        assert np.linalg.norm(face.vector) == pytest.approx(1, abs=1e-6)
        assert face.quality.face_pixels == min(face.detection.box.width, face.detection.box.height)


@pytest.mark.parametrize("most", [0, 1, 5, 6, 7])
def test_the_largest_stay_and_the_others_are_counted(
    most: int, pipeline: Pipeline, group_jpeg: bytes, embedded: Analysis
) -> None:
    found = pipeline.detect(group_jpeg, MINIMUM, most)
    assert [face.detection.box for face in found.faces] == [face.detection.box for face in embedded.faces[:most]]
    assert found.omitted == max(0, 6 - most)


def test_without_embedding_there_is_no_vector(pipeline: Pipeline, group_jpeg: bytes, embedded: Analysis) -> None:
    found = pipeline.detect(group_jpeg, MINIMUM, 32)
    assert all(face.vector is None for face in found.faces)
    assert [face.quality for face in found.faces] == [face.quality for face in embedded.faces]


def test_times_are_the_clocks(pipeline: Pipeline, group_jpeg: bytes) -> None:
    # Each stage is between two looks at the clock, for each face anew.
    assert pipeline.embed(group_jpeg, MINIMUM, 2).times.seconds == {
        "decode": 1, "detect": 1, "align": 2, "quality": 2, "embed": 2,
    }  # fmt: skip
    assert pipeline.detect(group_jpeg, MINIMUM, 1).times.seconds == {"decode": 1, "detect": 1, "align": 1, "quality": 1}
    assert pipeline.embed(jpeg(np.zeros((90, 90, 3), np.uint8)), MINIMUM, 9).times.seconds == {"decode": 1, "detect": 1}


def test_no_face_is_an_empty_answer(pipeline: Pipeline) -> None:
    found = pipeline.embed(jpeg(np.full((90, 120, 3), 200, np.uint8)), MINIMUM, 9)
    assert (found.width, found.height, found.faces, found.omitted) == (120, 90, (), 0)


def test_no_picture_is_an_error(pipeline: Pipeline, models: Models, group_jpeg: bytes) -> None:
    for data in (b"", b"nothing", group_jpeg[: len(group_jpeg) // 2]):
        with pytest.raises(ImageError):
            pipeline.detect(data, MINIMUM, 9)
    strict = Pipeline(models.detector, models.embedder, ImageLimits(max_pixels=1000), Clock())
    with pytest.raises(ImageError, match="at most 1,000"):
        strict.embed(group_jpeg, MINIMUM, 9)


@pytest.fixture(scope="module")
def large(group: Pixels) -> bytes:
    """The picture as a 4K camera would take it."""
    return jpeg(cv2.resize(group, None, fx=3, fy=3, interpolation=cv2.INTER_CUBIC))  # type: ignore[arg-type]


@pytest.mark.parametrize("embed", [False, True])
def test_a_large_jpeg_is_decoded_smaller_and_its_faces_are_where_they_are(
    embed: bool,  # noqa: FBT001
    large: bytes,
    pipeline: Pipeline,
    models: Models,
) -> None:
    seen = []

    class Watcher(Scripted):
        def detect(self, pixels: Pixels, minimum_face: float, *, rough: bool = False) -> list[Detection]:
            seen.append((pixels.shape, minimum_face))
            return models.detector.detect(pixels, minimum_face)

    watching = Pipeline(Watcher(), models.embedder, ImageLimits(), Clock())
    minimum = MinimumFace(250)
    found = (watching.embed if embed else watching.detect)(large, minimum, 32)
    image = decode(large, read_header(large, ImageLimits()))
    reduction = 2 if embed else 4
    assert seen == [((-(-image.height // reduction), -(-image.width // reduction), 3), minimum.pixels / reduction)]
    file = io.BytesIO()
    # A bitmap is never reduced.
    PIL.Image.fromarray(image.pixels).save(file, "BMP")
    full = Pipeline(models.detector, models.embedder, ImageLimits(max_bytes=1 << 28), Clock())
    whole = (full.embed if embed else full.detect)(file.getvalue(), minimum, 32)
    assert (found.width, found.height) == (whole.width, whole.height)
    assert_same_boxes(found, whole)
    if embed:
        for face in found.faces:
            assert face.vector is not None
            assert max(float(face.vector @ other.vector) for other in whole.faces if other.vector is not None) > 0.9


def test_a_turned_picture_has_the_same_faces(pipeline: Pipeline, group: Pixels) -> None:
    exif = PIL.Image.Exif()
    exif[0x0112] = 6
    turned = pipeline.detect(jpeg(np.ascontiguousarray(np.rot90(group)), exif=exif), MINIMUM, 32)
    assert (turned.height, turned.width) == group.shape[:2]
    assert_same_boxes(turned, pipeline.detect(jpeg(group), MINIMUM, 32))


def test_a_minimum_by_share_is_one_of_the_picture_as_seen(pipeline: Pipeline, group_jpeg: bytes, group: Pixels) -> None:
    largest = max(
        max(face.detection.box.width, face.detection.box.height)
        for face in pipeline.detect(group_jpeg, MINIMUM, 32).faces
    )
    share = (largest + 20) / min(group.shape[:2])
    assert pipeline.detect(group_jpeg, MinimumFace(12, share), 32).faces == ()


@pytest.mark.parametrize(("pixels", "fraction"), [(11.9, 0), (4097, 0), (float("nan"), 0), (40, -0.1), (40, 1.1)])
def test_a_minimum_out_of_range_is_refused(pixels: float, fraction: float) -> None:
    with pytest.raises(InputError) as refused:
        MinimumFace(pixels, fraction)
    assert refused.value.field == f"options.minimum_face_{'fraction' if pixels == 40 else 'pixels'}"


def test_a_template_is_the_embedders(pipeline: Pipeline, embedded: Analysis, group_jpeg: bytes, models: Models) -> None:
    face = embedded.faces[0]
    pixels = decode(group_jpeg, read_header(group_jpeg, ImageLimits())).pixels
    expected = models.embedder.embed_template(pixels, face.detection.landmarks)
    template = pipeline.template(group_jpeg, face.detection)
    np.testing.assert_array_equal(template, expected)
    assert face.vector is not None
    assert float(template @ face.vector) > 0.95


def test_a_huge_picture_is_scanned_for_larger_faces_only(models: Models) -> None:
    data = jpeg(np.full((1500, 2000, 3), 120, np.uint8))
    scanned: list[float] = []

    class Watcher(Scripted):
        def detect(self, pixels: Pixels, minimum_face: float, *, rough: bool = False) -> list[Detection]:
            scanned.append(pixels.shape[0] * pixels.shape[1] * (12 / minimum_face) ** 2)
            return []

    limits = ImageLimits(max_scanned_pixels=100_000)
    bounded = Pipeline(Watcher(), models.embedder, limits, Clock()).detect(data, MinimumFace(12), 32)
    assert scanned == [pytest.approx(limits.max_scanned_pixels, rel=0.01)]
    assert bounded.minimum_face > 12
    free = Pipeline(Watcher(), models.embedder, ImageLimits(), Clock()).detect(data, MinimumFace(30), 32)
    assert free.minimum_face == 30


@pytest.mark.parametrize(("detail", "embed", "width"), [(48, False, 500), (56, False, 1000), (48, True, 1000)])
def test_a_jpeg_keeps_the_detail_that_the_detector_needs(
    detail: float,
    embed: bool,  # noqa: FBT001
    width: int,
    models: Models,
) -> None:
    seen = []

    class Watcher(Scripted):
        def detect(self, pixels: Pixels, minimum_face: float, *, rough: bool = False) -> list[Detection]:
            seen.append((pixels.shape[1], minimum_face))
            return []

    watcher = Watcher()
    watcher.detail = detail
    pipeline = Pipeline(watcher, models.embedder, ImageLimits(), Clock())
    data = jpeg(np.full((600, 1000, 3), 120, np.uint8))
    analysis = (pipeline.embed if embed else pipeline.detect)(data, MinimumFace(100), 9)
    assert seen == [(width, 100 * width / 1000)]
    assert analysis.minimum_face == 100


def test_what_a_detector_cannot_see_is_not_claimed_to_have_been_looked_for(models: Models) -> None:
    asked = []

    class Coarse(Scripted):
        """Its input has 640 pixels, and in it faces need 40."""

        def smallest_face(self, width: int, height: int, minimum_face: float) -> float:
            return max(minimum_face, 40 * max(width, height) / 640)

        def detect(self, pixels: Pixels, minimum_face: float, *, rough: bool = False) -> list[Detection]:
            asked.append(minimum_face)
            return []

    pipeline = Pipeline(Coarse(), models.embedder, ImageLimits(), Clock())
    data = jpeg(np.full((1080, 1920, 3), 120, np.uint8))
    assert pipeline.detect(data, MinimumFace(30), 9).minimum_face == 120
    assert pipeline.detect(data, MinimumFace(400), 9).minimum_face == 400
    # What it finds all the same is welcome; the second picture was decoded at an eighth.
    assert asked == [30, 50]


def test_how_much_is_scanned_depends_on_how_large_the_detector_needs_faces(models: Models) -> None:
    class Demanding(Scripted):
        scanned_face = 40.0

        def detect(self, pixels: Pixels, minimum_face: float, *, rough: bool = False) -> list[Detection]:
            return []

    pipeline = Pipeline(Demanding(), models.embedder, ImageLimits(max_scanned_pixels=1_000_000), Clock())
    data = jpeg(np.full((1000, 2000, 3), 120, np.uint8))
    assert pipeline.detect(data, MinimumFace(12), 9).minimum_face == pytest.approx(40 * 2**0.5)


class Rough(Scripted):
    """Finds two faces; roughly, their landmarks are off by ten pixels."""

    def __init__(self) -> None:
        self.asked: list[tuple[bool, float]] = []
        self.refined: list[tuple[tuple[int, ...], float]] = []

    def detect(self, pixels: Pixels, minimum_face: float, *, rough: bool = False) -> list[Detection]:
        self.asked.append((rough, minimum_face))
        return [self.face(place, off=10 * rough) for place in (0, 1)]

    def refine(self, pixels: Pixels, detection: Detection, minimum_face: float) -> Detection:
        self.refined.append((pixels.shape, minimum_face))
        return self.face(0 if detection.box.left == 50 else 1, off=0)

    @staticmethod
    def face(place: int, off: float) -> Detection:
        """The second one is the larger."""
        left, side = (50.0, 60.0) if place == 0 else (200.0, 90.0)
        points = np.array([(0.3, 0.4), (0.7, 0.4), (0.5, 0.6), (0.35, 0.8), (0.65, 0.8)]) * side + (left, 50) + off
        return Detection(Box(left, 50, side, side), points.astype(np.float32), 0.9)


@pytest.fixture(scope="module")
def crowd(group: Pixels) -> bytes:
    """A picture that is decoded at half its size where faces of 200 pixels are wanted."""
    return jpeg(cv2.resize(group, (1280, 800)))  # type: ignore[arg-type]


def test_a_rough_scan_is_refined_face_by_face(models: Models, crowd: bytes) -> None:
    detector, times = Rough(), StageTimes()
    pipeline = Pipeline(detector, models.embedder, ImageLimits(), Clock())
    scene = pipeline.scan(crowd, MinimumFace(200), 9, times, rough=True)
    assert (scene.image.width, scene.image.height, scene.image.pixels.shape) == (1280, 800, (400, 640, 3))
    assert (scene.scanned_face, scene.minimum_face, scene.omitted) == (100, 200, 0)
    # The larger first, in pixels of what was decoded.
    assert [detection.box.left for detection in scene.detections] == [200, 50]
    refined = [pipeline.refine(scene, detection, times) for detection in scene.detections]
    assert detector.asked == [(True, 100)]
    assert detector.refined == [((400, 640, 3), 100)] * 2
    np.testing.assert_array_equal(refined[0].landmarks, Rough.face(1, off=0).landmarks)
    assert times.seconds == {"decode": 1, "detect": 3}


def test_no_more_faces_come_of_a_scan_than_were_asked_for(models: Models, crowd: bytes) -> None:
    pipeline = Pipeline(Rough(), models.embedder, ImageLimits(), Clock())
    scene = pipeline.scan(crowd, MinimumFace(200), 1, StageTimes())
    assert ([detection.box.left for detection in scene.detections], scene.omitted) == ([200], 1)


def test_a_face_of_a_scan_is_in_pixels_of_the_full_picture(models: Models, crowd: bytes) -> None:
    pipeline = Pipeline(Rough(), models.embedder, ImageLimits(), Clock())
    times = StageTimes()
    scene = pipeline.scan(crowd, MinimumFace(200), 9, StageTimes())
    face = pipeline.face(scene, scene.detections[0], times, embed=True)
    assert (face.detection.box.left, face.detection.box.width, face.quality.face_pixels) == (400, 180, 180)
    chip = models.embedder.align(scene.image.pixels, scene.detections[0].landmarks)
    assert face.appearance is not None
    np.testing.assert_array_equal(face.appearance, appearance(chip))
    assert face.vector is not None
    np.testing.assert_array_equal(face.vector, models.embedder.embed(chip))
    assert times.seconds == {"align": 1, "quality": 1, "embed": 1}
    glance = pipeline.face(scene, scene.detections[0], times, embed=False)
    assert (glance.vector, glance.quality) == (None, face.quality)


def test_a_picture_is_what_its_scan_and_its_faces_are(
    pipeline: Pipeline, embedded: Analysis, group_jpeg: bytes
) -> None:
    scene = pipeline.scan(group_jpeg, MINIMUM, 32, StageTimes())
    faces = [pipeline.face(scene, detection, StageTimes(), embed=True) for detection in scene.detections]
    for face, expected in zip(faces, embedded.faces, strict=True):
        assert (face.quality, face.detection.box) == (expected.quality, expected.detection.box)
        np.testing.assert_array_equal(np.asarray(face.vector), np.asarray(expected.vector))


@pytest.mark.parametrize(("detail", "width"), [(None, 640), (48.0, 320)])
def test_a_scan_keeps_the_detail_that_is_asked_for(
    detail: float | None, width: int, models: Models, crowd: bytes
) -> None:
    pipeline = Pipeline(Rough(), models.embedder, ImageLimits(), Clock())
    asked = {} if detail is None else {"detail": detail}
    assert pipeline.scan(crowd, MinimumFace(200), 9, StageTimes(), **asked).image.pixels.shape[1] == width
