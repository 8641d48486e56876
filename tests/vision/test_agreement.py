"""Real weights: SCRFD and MobileFaceNet as insightface itself runs them, and faces of all sizes in one picture.

The weights are test material that is not part of the repository; without it these tests are skipped.
"""

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnx
import pytest

from facesvc.cli.evaluation import figures, looks
from facesvc.cli.lfw import read_protocol
from facesvc.config import ModelSettings
from facesvc.engine import Concurrency, load
from facesvc.models import intake
from facesvc.models.library import Library
from facesvc.models.packs import Pack
from facesvc.models.runtime import Network
from facesvc.vision import detect_grid
from facesvc.vision.decode import ImageLimits
from facesvc.vision.detect_grid import GridDetector, GridInput
from facesvc.vision.detect_scrfd import ScrfdHead
from facesvc.vision.detection import Detection, Floats, MinimumFace, Pixels
from facesvc.vision.embed import Embedder
from facesvc.vision.geometry import overlaps

NOW = datetime(2026, 5, 4, tzinfo=UTC)
# insightface's det_size.
SIDE = 640
YUNET = 'name = "yunet_mbf"\nlicence = "Apache-2.0"\n[detector]\nfile = "yunet.onnx"\n[embedder]\npack = "edge_s"\n'
SCRFD_500M = 'name = "scrfd500"\nlicence = "research"\n[detector]\nfile = "scrfd.onnx"\n[embedder]\npack = "default"\n'


@pytest.fixture(scope="module")
def library(pack_cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Library:
    folder = tmp_path_factory.mktemp("library")
    (folder / "default").symlink_to(pack_cache / "default")
    return Library(folder)


@pytest.fixture(scope="module")
def edge_s(library: Library, shared: Path) -> Pack:
    """The pack of InsightFace, as `facesvc models add` takes it in."""
    folder = shared / "models" / "insightface" / "edge_s"
    return intake.draft(folder, "", library, accepted=True, now=NOW).install(library)


def mixed(library: Library, weights: Path, name: str, text: str, folder: Path) -> Pack:
    """A pack of a detector in a file and the embedder of an installed pack."""
    (folder / name).symlink_to(weights)
    (folder / "pack.toml").write_text(text)
    return intake.draft(folder, "", library, accepted=True, now=NOW).install(library)


@pytest.fixture(scope="module")
def yunet(library: Library, edge_s: Pack, shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Pack:
    weights = shared / "models" / "yunet" / "yunet_n_dynamic.onnx"
    return mixed(library, weights, "yunet.onnx", YUNET, tmp_path_factory.mktemp("yunet"))


@pytest.fixture(scope="module")
def scrfd_500m(library: Library, shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Pack:
    weights = shared / "models" / "scrfd" / "scrfd_500m_bnkps_640.onnx"
    return mixed(library, weights, "scrfd.onnx", SCRFD_500M, tmp_path_factory.mktemp("scrfd"))


def detector_of(pack: Pack, *, coarse_look: bool = True) -> GridDetector:
    detector = load(pack, ModelSettings(), how=Concurrency(1, 1), coarse_look=coarse_look).detector
    assert isinstance(detector, GridDetector)
    return detector


def corners(face: Detection) -> list[float]:
    box = face.box
    return [box.left, box.top, box.left + box.width, box.top + box.height]


@dataclass(frozen=True)
class Seen:
    """A face as insightface sees it: box (4,), landmarks (5, 2), vector (D,)."""

    box: Floats
    landmarks: Floats
    vector: Floats


@pytest.fixture(scope="module")
def insightface_sees(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[Pixels], list[Seen]]:
    root = tmp_path_factory.mktemp("insightface")
    (root / "models").mkdir()
    (root / "models" / "edge_s").symlink_to(shared / "models" / "insightface" / "edge_s")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it is not ours
        from insightface.app import FaceAnalysis

        analysis = FaceAnalysis(name="edge_s", root=str(root), providers=["CPUExecutionProvider"])
        analysis.prepare(0, det_size=(SIDE, SIDE))

    def see(pixels: Pixels) -> list[Seen]:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            faces: list[Any] = analysis.get(np.ascontiguousarray(pixels[:, :, ::-1]))
        return [Seen(face.bbox, face.kps, face.normed_embedding) for face in faces]

    return see


@pytest.fixture(scope="module")
def photos(shared: Path, pictures: Path, astronaut: Pixels) -> dict[str, Pixels]:
    """Two sample pictures of insightface, the astronaut, and twenty of LFW."""
    lfw = sorted((shared / "data" / "lfw" / "images").glob("*/*_0001.jpg"))[:20]
    files = [pictures / "t1.jpg", pictures / "Tom_Hanks_54745.png", *lfw]
    assert len(files) == 22
    read = {file.name: np.ascontiguousarray(cv2.imread(str(file))[:, :, ::-1]) for file in files}  # type: ignore[index]
    return {**read, "astronaut": astronaut}


@pytest.fixture
def letterboxed(edge_s: Pack, monkeypatch: pytest.MonkeyPatch) -> GridDetector:
    """SCRFD of the pack with insightface's input: a square that the longer side fills, however small the picture."""
    monkeypatch.setattr(detect_grid, "_LARGEST_SCALE", 100.0)
    spec = edge_s.detector
    given = GridInput(spec.mean, spec.std, spec.colour_order, SIDE, SIDE, SIDE)
    network = Network.load(edge_s.path(spec.files["detector"]))
    return GridDetector(network, ScrfdHead(), given, coarse_look=False)


@pytest.mark.slow
def test_insightface_sees_the_same_faces_and_the_same_people(
    letterboxed: GridDetector,
    edge_s: Pack,
    insightface_sees: Callable[[Pixels], list[Seen]],
    photos: dict[str, Pixels],
) -> None:
    embedder = load(edge_s, ModelSettings(), how=Concurrency(1, 1)).embedder
    faces = 0
    for name, pixels in photos.items():
        mine, theirs = letterboxed.detect(pixels, 1.0), insightface_sees(pixels)
        assert len(mine) == len(theirs), name
        if not mine:
            # At this size neither sees a face that fills the whole frame.
            assert name.startswith("Tom_Hanks")
            continue
        faces += len(mine)
        boxes = np.array([*(corners(face) for face in mine), *(face.box for face in theirs)], np.float32)
        shared = overlaps(boxes)[: len(mine), len(mine) :]
        # Each of mine is one of theirs, and the other way round.
        assert sorted(shared.argmax(axis=1)) == list(range(len(mine))), name
        assert shared.max(axis=1).min() >= 0.98, name
        for face, best in zip(mine, shared.argmax(axis=1), strict=True):
            assert np.abs(face.landmarks - theirs[best].landmarks).max() <= 0.5, name
            assert cosine(embedder, pixels, face, theirs[best]) >= 0.999, name
    assert faces >= 28


def cosine(embedder: Embedder, pixels: Pixels, face: Detection, other: Seen) -> float:
    return float(embedder.embed(embedder.align(pixels, face.landmarks)) @ other.vector)


def test_without_the_key_point_outputs_the_boxes_are_the_same(edge_s: Pack, astronaut: Pixels, tmp_path: Path) -> None:
    path = edge_s.path(edge_s.detector.files["detector"])
    model = onnx.load(path)
    kept = [output for output in model.graph.output if output.type.tensor_type.shape.dim[-1].dim_value != 10]
    assert len(kept) == 6
    del model.graph.output[:]
    model.graph.output.extend(kept)
    onnx.save(model, tmp_path / "boxes.onnx")
    spec = edge_s.detector
    given = GridInput(spec.mean, spec.std, spec.colour_order, None, 40.0, 20.0)
    (whole,) = GridDetector(Network.load(path), ScrfdHead(), given).detect(astronaut, 60)
    (boxes,) = GridDetector(Network.load(tmp_path / "boxes.onnx"), ScrfdHead(), given).detect(astronaut, 60)
    assert (boxes.box, boxes.score) == (whole.box, whole.score)
    # Where a mean face has them is near enough to tell who it is.
    assert np.abs(boxes.landmarks - whole.landmarks).max() < 0.15 * whole.box.width


# In the astronaut: the middle of the face, and the height of SCRFD's box around it.
FACE_X, FACE_Y, FACE_HEIGHT = 222, 117, 118


def near_and_far(astronaut: Pixels, height: int, width: int, share: float, far: int = 24) -> Pixels:
    """A face whose box is ``share`` of the height of the frame, and beside it one of ``far`` pixels."""
    frame = np.full((height, width, 3), 110, np.uint8)
    near = cv2.resize(astronaut, None, fx=share * height / FACE_HEIGHT, fy=share * height / FACE_HEIGHT)
    top = max(0, round(FACE_Y * share * height / FACE_HEIGHT) - height // 2)
    left = max(0, round(FACE_X * share * height / FACE_HEIGHT) - width * 2 // 5)
    part = near[top : top + height, left : left + width * 4 // 5]
    frame[: part.shape[0], : part.shape[1]] = part
    factor = far / FACE_HEIGHT
    small = cv2.resize(astronaut[:260, 130:320], None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA)
    frame[-small.shape[0] - 20 : -20, -small.shape[1] - 20 : -20] = small
    return frame


def heights(detector: GridDetector, frame: Pixels, minimum: float) -> list[int]:
    return sorted(round(face.box.height) for face in detector.detect(frame, minimum))


@pytest.mark.parametrize("share", [0.45, 1.0])
@pytest.mark.parametrize("name", ["edge_s", "yunet"])
def test_a_face_that_fills_the_frame_and_one_of_24_pixels_are_both_found(
    name: str, share: float, astronaut: Pixels, request: pytest.FixtureRequest
) -> None:
    frame = near_and_far(astronaut, 720, 1280, share)
    small, large = heights(detector_of(request.getfixturevalue(name)), frame, 20)
    assert 18 <= small <= 32
    assert 0.75 * share * 720 <= large <= 1.25 * share * 720


@pytest.mark.parametrize("share", [0.45, 0.8])
def test_and_so_with_a_fixed_input_in_a_frame_no_larger_than_it(
    share: float, astronaut: Pixels, scrfd_500m: Pack
) -> None:
    detector = detector_of(scrfd_500m)
    frame = near_and_far(astronaut, 360, 640, share)
    small, large = heights(detector, frame, 20)
    assert 18 <= small <= 32
    assert 0.75 * share * 360 <= large <= 1.25 * share * 360
    # In a larger one it does not pretend to see as much.
    assert detector.smallest_face(1920, 1080, 24) == 120


@pytest.mark.slow
def test_without_the_coarse_look_the_large_face_is_missed(astronaut: Pixels, edge_s: Pack) -> None:
    frame = near_and_far(astronaut, 720, 1280, 1.0)
    assert max(heights(detector_of(edge_s), frame, 20)) > 500
    assert max(heights(detector_of(edge_s, coarse_look=False), frame, 20)) < 100


def strewn(photos: dict[str, Pixels], side: int) -> Pixels:
    """Eighteen people of LFW in a frame of 1280 x 720, their pictures of ``side`` pixels in three rows."""
    frame = np.full((720, 1280, 3), 110, np.uint8)
    portraits = [pixels for pixels in photos.values() if pixels.shape == (150, 150, 3)][:18]
    for place, portrait in enumerate(portraits):
        left, top = 20 + place % 6 * 205, 20 + place // 6 * 230
        frame[top : top + side, left : left + side] = cv2.resize(portrait, (side, side), interpolation=cv2.INTER_AREA)
    return frame


def by_place(faces: list[Detection]) -> dict[tuple[int, int], Detection]:
    """The surest face of each portrait of ``strewn``, by its column and row."""
    ordered = sorted(faces, key=lambda face: face.score)
    return {(int((face.box.left - 20) // 205), int((face.box.top - 20) // 230)): face for face in ordered}


def off(face: Detection, wanted: Detection) -> float:
    """How far the landmarks are from those wanted, on average, as a share of the width of the face."""
    return float(np.linalg.norm(face.landmarks - wanted.landmarks, axis=1).mean()) / wanted.box.width


@pytest.mark.parametrize("name", ["edge_s", "yunet"])
def test_refined_a_rough_face_is_as_good_as_one_that_was_looked_at_well(
    name: str, photos: dict[str, Pixels], edge_s: Pack, request: pytest.FixtureRequest
) -> None:
    frame, minimum = strewn(photos, 90), 30.0  # faces of about 45 pixels
    detector = detector_of(request.getfixturevalue(name))
    fine, rough = (by_place(detector.detect(frame, minimum, rough=rough)) for rough in (False, True))
    assert len(fine) == 18
    refined = {place: detector.refine(frame, rough[place], minimum) for place in fine}
    # YuNet's rough landmarks are as near to the fine ones on average, and now and then nowhere.
    assert max(off(refined[place], face) for place, face in fine.items()) < 0.07
    # Whoever was looked at from near is known again, as well as by the fine look.
    embedder = load(edge_s, ModelSettings(), how=Concurrency(1, 1)).embedder
    near = strewn(photos, 150)

    def vector(pixels: Pixels, face: Detection) -> Floats:
        return embedder.embed(embedder.align(pixels, face.landmarks))

    known = {place: vector(near, face) for place, face in by_place(detector.detect(near, 40)).items()}
    alike = {
        look: np.mean([vector(frame, faces[place]) @ known[place] for place in fine])
        for look, faces in (("fine", fine), ("rough", rough), ("refined", refined))
    }
    assert alike["refined"] > alike["rough"] + 0.005
    assert alike["refined"] > alike["fine"] - 0.02


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("weights", ["yunet/yunet_n_dynamic.onnx", "scrfd/scrfd_500m_bnkps_640.onnx"])
@pytest.mark.parametrize(("lender", "accuracy"), [("edge_s", 0.985), ("default", 0.975)])
def test_every_mix_of_parts_recognises_the_people_of_lfw(
    weights: str, lender: str, accuracy: float, library: Library, edge_s: Pack, shared: Path, tmp_path: Path
) -> None:
    text = f'name = "mix"\nlicence = "any"\n[detector]\nfile = "net.onnx"\n[embedder]\npack = "{lender}"\n'
    pack = mixed(library, shared / "models" / weights, "net.onnx", text, tmp_path)
    assert (pack.embedder.side == edge_s.embedder.side) == (lender == "edge_s")
    pipeline = load(pack, ModelSettings(), how=Concurrency(2, 1)).pipeline(ImageLimits())
    folder = shared / "data" / "lfw"
    protocol = read_protocol(folder)
    result = figures(protocol, dict(looks(pipeline, folder, protocol, MinimumFace(40), 2)))
    assert result.verification.accuracy >= accuracy
    assert result.identification is not None
    assert result.identification.rank_one >= accuracy - 0.03
    assert len(result.missed) <= 10
