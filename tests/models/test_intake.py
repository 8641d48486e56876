"""Folders that somebody brings: what is whole becomes a pack, what is not is refused in words."""

import hashlib
import shutil
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from models import graphs

from facesvc.config import ModelSettings
from facesvc.engine import Concurrency, load
from facesvc.errors import FacesvcError, InputError, NotFoundError, PreconditionError, WeightsError
from facesvc.models import default_pack, intake
from facesvc.models.library import Library
from facesvc.models.packs import Pack, is_manifest, load_manifest, verify
from facesvc.vision.decode import ImageLimits
from facesvc.vision.detection import MinimumFace

NOW = datetime(2026, 5, 4, 12, 30, tzinfo=UTC)
TOML = 'name = "lobby"\nlicence = "MIT"\n[detector]\nfile = "find.onnx"\n[embedder]\nfile = "who.onnx"\n'


@pytest.fixture
def library(pack: Pack, tmp_path: Path) -> Library:
    """A library with the default pack; packs may be added."""
    (tmp_path / "packs").mkdir()
    (tmp_path / "packs" / "default").symlink_to(pack.folder)
    return Library(tmp_path / "packs")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a detector, an embedder and a pack.toml."""
    folder = tmp_path / "brought"
    folder.mkdir()
    (folder / "find.onnx").write_bytes(graphs.detector())
    (folder / "who.onnx").write_bytes(graphs.embedder())
    (folder / "pack.toml").write_text(TOML)
    return folder


def install(folder: Path, library: Library, name: str = "", *, accepted: bool = False) -> Pack:
    return intake.draft(folder, name, library, accepted=accepted, now=NOW).install(library)


def refused(folder: Path, library: Library, kind: type[FacesvcError], message: str, name: str = "") -> FacesvcError:
    with pytest.raises(kind, match=message) as refusal:
        install(folder, library, name, accepted=True)
    assert library.names() == ["default"]
    return refusal.value


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def test_a_folder_becomes_a_pack(folder: Path, library: Library) -> None:
    pack = install(folder, library)
    assert (pack.name, pack.dimension, pack.detector.family) == ("lobby", 8, "scrfd")
    assert (pack.detector.mean, pack.detector.std, pack.detector.colour_order) == ((127.5,) * 3, 128, "RGB")
    assert (pack.embedder.mean, pack.embedder.std, pack.embedder.side) == ((127.5,) * 3, 127.5, 112)
    assert pack.embedder.template[0] == (38.2946, 51.6963)
    assert [(source.package, source.file, source.licence) for source in pack.sources] == [
        ("lobby", "find.onnx", "MIT"), ("lobby", "who.onnx", "MIT"),
    ]  # fmt: skip
    assert pack.sources[1].sha256 == sha256((folder / "who.onnx").read_bytes())
    assert pack.acceptances == ()
    assert verify(pack.folder) == []
    assert load_manifest(pack.folder) == pack
    with pytest.raises(PreconditionError, match="no calibration"):
        pack.calibration.similarity_at(1e-3)
    models = load(pack, ModelSettings(), how=Concurrency(1, 1))
    assert models.detector.detect(np.zeros((50, 50, 3), np.uint8), 20) == []
    assert len(models.embedder.embed(np.full((112, 112, 3), 200, np.uint8))) == 8


def test_the_contract_is_that_of_all_that_makes_vectors(folder: Path, library: Library) -> None:
    def contract(text: str) -> str:
        (folder / "pack.toml").write_text(text)
        return install(folder, library, accepted=True).contract_id

    first = contract(TOML)
    assert first.startswith("scrfd-8-")
    same = [TOML.replace("lobby", "hall"), TOML.replace("MIT", "BSD"), TOML + "mean = 127.5"]
    assert {contract(text) for text in same} == {first}
    others = [TOML + "mean = 127", TOML + "std = 128", TOML + 'colour_order = "BGR"']
    others += [TOML + "side = 112\ntemplate = [[38, 51], [73, 51], [56, 71], [41, 92], [70, 92]]"]
    others += [TOML.replace("find.onnx", 'find.onnx"\nmean = 1\ncolour_order = "BGR')]
    assert len({first, *(contract(text) for text in others)}) == 6


@pytest.mark.parametrize(
    ("side", "left_eye"),
    [
        (112, (38.2946, 51.6963)),
        (224, (76.5892, 103.3926)),
        # A border of 8 pixels left and right of the 112.
        (128, (46.2946, 51.6963)),
        (256, (92.5892, 103.3926)),
    ],
)
@pytest.mark.parametrize("batch", [1, "N"])
def test_arcface_embedders_of_each_size(
    side: int, left_eye: tuple[float, float], batch: int | str, folder: Path, library: Library
) -> None:
    (folder / "who.onnx").write_bytes(graphs.embedder(side, batch=batch))
    pack = install(folder, library)
    assert pack.embedder.side == side
    assert pack.embedder.template[0] == pytest.approx(left_eye)
    embedder = load(pack, ModelSettings(), how=Concurrency(1, 1)).embedder
    rng = np.random.default_rng(1)
    vector = embedder.embed(rng.integers(0, 256, (side, side, 3)).astype(np.uint8))
    assert np.linalg.norm(vector) == pytest.approx(1, abs=1e-6)


def test_a_graph_of_any_size_gets_the_side_that_is_said(folder: Path, library: Library) -> None:
    (folder / "who.onnx").write_bytes(graphs.embedder("S"))
    assert install(folder, library).embedder.side == 112
    (folder / "pack.toml").write_text(TOML + "side = 160")
    assert install(folder, library).embedder.side == 160


@pytest.mark.parametrize(
    ("graph", "family"),
    [
        (graphs.detector(), "scrfd"),
        (graphs.detector(anchors=1), "scrfd"),
        (graphs.detector((1, 4) * 3, (8, 8, 16, 16, 32, 32)), "scrfd"),
        (graphs.detector(height=640, width=640), "scrfd"),
        (graphs.detector((1, 1, 1, 1, 1, 1, 4, 4, 4, 10, 10, 10), anchors=1), "yunet"),
    ],
)
def test_detectors_are_known_by_their_outputs(graph: bytes, family: str, folder: Path, library: Library) -> None:
    (folder / "find.onnx").write_bytes(graph)
    pack = install(folder, library)
    assert pack.detector.family == family
    assert pack.detector.colour_order == {"scrfd": "RGB", "yunet": "BGR"}[family]
    detector = load(pack, ModelSettings(), how=Concurrency(1, 1)).detector
    assert detector.detect(np.zeros((90, 70, 3), np.uint8), 20) == []


def other(graph: bytes, **changes: Any) -> bytes:
    """``graph`` with its weights in a file beside it."""
    model = onnx.load_from_string(graph)
    for tensor in model.graph.initializer:
        onnx.external_data_helper.set_external_data(tensor, **changes)
        tensor.ClearField("raw_data")
    return bytes(model.SerializeToString())


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("find.onnx", b"", "find.onnx cannot be loaded"),
        ("find.onnx", b"no graph", "find.onnx cannot be loaded: .*with one input and its weights in the same file"),
        ("find.onnx", other(graphs.detector(), location="weights"), "find.onnx cannot be loaded"),
        ("find.onnx", graphs.embedder(), "find.onnx has 1 outputs: SCRFD has 6 or 9, YuNet 12"),
        ("find.onnx", graphs.detector((1, 4, 9) * 3), r"no detector of the family scrfd: its outputs are \(128, 1\)"),
        ("find.onnx", graphs.detector((1, 4, 10) * 3), "no detector of the family scrfd"),
        ("find.onnx", graphs.detector(strides=(8, 16, 64)), "no detector of the family scrfd"),
        ("find.onnx", graphs.detector(strides=(4, 8, 16)), "no detector of the family scrfd"),
        ("find.onnx", graphs.detector(anchors=3), "no detector of the family scrfd"),
        ("find.onnx", graphs.detector((1,) * 12), "no detector of the family yunet"),
        ("find.onnx", graphs.detector(height=480, width=640), "640 x 480 pixels: it has to be squares, or any"),
        ("find.onnx", graphs.detector(height=640), "takes pictures of W x 640 pixels"),
        ("find.onnx", graphs.detector(height=600, width=600), "pictures of 600 pixels: multiples of 32"),
        ("who.onnx", graphs.detector(), "who.onnx is no embedder: .*one vector a face"),
        ("who.onnx", graphs.embedder(rank=4), r"who.onnx is no embedder: .*\(1, 8, 1, 1\)"),
        ("who.onnx", graphs.embedder(batch=4), "who.onnx does not run on a picture of 112 x 112 pixels"),
        ("who.onnx", graphs.embedder(last=float("nan")), "who.onnx is damaged"),
        ("who.onnx", graphs.embedder()[:-40], "who.onnx cannot be loaded"),
    ],
)
def test_what_the_graphs_are_not_is_named(
    file: str, content: bytes, message: str, folder: Path, library: Library
) -> None:
    (folder / file).write_bytes(content)
    assert "Traceback" not in refused(folder, library, WeightsError, message).message


@pytest.mark.parametrize(
    ("text", "kind", "message"),
    [
        (TOML + "side = 160", WeightsError, "who.onnx takes chips of 112 pixels, not of 160"),
        (TOML + f"template = {[[200, 3]] * 5}", InputError, "who.onnx cannot be used: the template reaches beyond"),
        (TOML.replace("who.onnx", "absent.onnx"), InputError, "absent.onnx is no file of at most 1024 MiB"),
        (TOML.replace("who.onnx", "find.onnx"), WeightsError, "find.onnx is no embedder"),
        (TOML.replace('"find.onnx"', '"find.onnx"\nfamily = "yunet"'), WeightsError, "detector of the family yunet"),
        (TOML.replace('file = "who.onnx"', 'pack = "absent"'), NotFoundError, "there is no model pack 'absent'"),
        (TOML.replace("lobby", "default"), InputError, "belongs to the pack that facesvc builds"),
        (TOML.replace("lobby", "chosen"), InputError, "cannot be the name of a pack"),
    ],
)
def test_what_is_said_wrongly_is_named(
    text: str, kind: type[FacesvcError], message: str, folder: Path, library: Library
) -> None:
    (folder / "pack.toml").write_text(text)
    refused(folder, library, kind, message)


def test_a_vector_may_be_too_long(folder: Path, library: Library) -> None:
    (folder / "who.onnx").write_bytes(graphs.embedder(dimension=5000))
    refused(folder, library, InputError, "no pack can be made of .*: a dimension of 5000")


@pytest.mark.parametrize("name", ["../up", "a/b", ".hidden", "default", "calibrations", "x" * 65, "a\n"])
def test_a_name_that_no_pack_can_have_is_refused_before_all(name: str, tmp_path: Path, library: Library) -> None:
    refused(tmp_path / "absent", library, InputError, "cannot be the name|belongs to the pack", name)


def test_no_folder_is_refused(tmp_path: Path, library: Library) -> None:
    (tmp_path / "file").write_bytes(b"")
    for path in (tmp_path / "absent", tmp_path / "file"):
        refused(path, library, InputError, "is no folder")


def test_a_licence_has_to_be_accepted_and_that_is_kept(folder: Path, library: Library) -> None:
    text = TOML.replace('"MIT"', '"research"\ncommercial_use = false\nlicence_file = "LICENCE"')
    (folder / "pack.toml").write_text(text)
    (folder / "LICENCE").write_text("Für Forschung.")
    with pytest.raises(PreconditionError, match=r"licence 'research'.*--accept-license.*Für Forschung") as refusal:
        install(folder, library)
    assert refusal.value.reason == "LICENCE_NOT_ACCEPTED"
    (acceptance,) = install(folder, library, accepted=True).acceptances
    assert (acceptance.licence, acceptance.time) == ("research", "2026-05-04T12:30:00+00:00")
    assert acceptance.text_sha256 == sha256("Für Forschung.".encode())
    # Whoever borrows a part of it comes under the same licence.
    (folder / "pack.toml").write_text(TOML.replace("lobby", "mixed").replace('file = "who.onnx"', 'pack = "lobby"'))
    mixed = install(folder, library)
    assert mixed.acceptances == (acceptance,)
    assert [(source.file, source.licence) for source in mixed.sources] == [
        ("find.onnx", "MIT"), ("who.onnx", "research"),
    ]  # fmt: skip


def test_a_borrowed_embedder_brings_its_own_sources_alone(folder: Path, library: Library) -> None:
    (folder / "pack.toml").write_text(TOML.replace('file = "who.onnx"', 'pack = "default"'))
    pack = install(folder, library)
    assert (pack.dimension, pack.embedder.side) == (128, default_pack.EMBEDDER.side)
    assert [source.package for source in pack.sources] == ["lobby", "face_recognition_models", *["insightface"] * 2]
    assert sorted(file.name for file in pack.files) == ["detector.onnx", "embedder.onnx"]


def test_a_borrowed_detector_brings_its_own_sources_alone(folder: Path, library: Library) -> None:
    (folder / "pack.toml").write_text(TOML.replace('file = "find.onnx"', 'pack = "default"'))
    pack = install(folder, library)
    assert (pack.detector.family, pack.dimension) == ("mtcnn", 8)
    assert [source.package for source in pack.sources] == ["mtcnn"] * 3 + ["lobby"]
    load(pack, ModelSettings(), how=Concurrency(1, 1))


@pytest.mark.parametrize("name", ["detector.onnx", "pnet.onnx", "manifest.json", "deep/er/who.onnx"])
def test_no_file_takes_the_place_of_another_whatever_it_is_called(name: str, folder: Path, library: Library) -> None:
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / "who.onnx").rename(folder / name)
    text = TOML.replace('file = "find.onnx"', 'pack = "default"').replace("who.onnx", name)
    (folder / "pack.toml").write_text(text)
    pack = install(folder, library)
    contents = {file.name: file.sha256 for file in pack.files}
    default = {file.name: file.sha256 for file in library.open("default").files}
    assert {file: contents[file] for file in pack.detector.files.values()} == {
        file: default[file] for file in default_pack.DETECTOR.files.values()
    }
    assert contents[pack.embedder.file] == sha256((folder / name).read_bytes())


def test_a_pack_of_another_box_is_copied_whole_or_not_at_all(folder: Path, library: Library, tmp_path: Path) -> None:
    pack = install(folder, library)
    copy = tmp_path / "stick"
    shutil.copytree(pack.folder, copy)
    library.remove("lobby")
    assert install(copy, library, "hall").contract_id == pack.contract_id
    library.remove("hall")
    assert install(copy, library).name == "lobby"
    library.remove("lobby")
    (copy / pack.embedder.file).write_bytes(b"x")
    refused(copy, library, WeightsError, "is damaged: embedder.onnx has 1 bytes instead of")


@pytest.mark.parametrize("content", [b"", b"[" * 500_000, b'{"manifest_version": 2}', b"[]", b'{"contract_id": 1}'])
def test_a_manifest_of_somebody_else_is_not_ours(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_bytes(content)
    assert not is_manifest(tmp_path)


@pytest.mark.parametrize(
    ("weights", "lender"),
    [("yunet/yunet_n_dynamic.onnx", "edge_s"), ("scrfd/scrfd_500m_bnkps_640.onnx", "default")],
)
def test_mixed_packs_tell_people_apart(weights: str, lender: str, shared: Path, library: Library, folder: Path) -> None:
    if lender == "edge_s":
        install(shared / "models" / "insightface" / "edge_s", library, accepted=True)
    (folder / "net.onnx").symlink_to(shared / "models" / weights)
    text = TOML.replace("find.onnx", "net.onnx").replace('file = "who.onnx"', f'pack = "{lender}"')
    (folder / "pack.toml").write_text(text)
    models = load(install(folder, library, accepted=True), ModelSettings(), how=Concurrency(1, 1))
    pipeline = models.pipeline(ImageLimits())
    images = shared / "data" / "lfw" / "images"
    vectors = []
    for photo in [*sorted(images.glob("Abdullah_Gul/*.jpg"))[:2], *sorted(images.glob("Adrien_Brody/*.jpg"))[:1]]:
        vector = pipeline.embed(photo.read_bytes(), MinimumFace(60), 8).faces[0].vector
        assert vector is not None
        vectors.append(vector)
    assert len(vectors) == 3
    assert vectors[0] @ vectors[1] > vectors[0] @ vectors[2] + 0.03
