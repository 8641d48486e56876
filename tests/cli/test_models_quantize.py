"""``facesvc models quantize``: a small pack whose faces are green squares, and where it is there a real one."""

import itertools
import json
import os
import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import simplejpeg
import typer
from galleries import open_gallery
from numpy.typing import NDArray
from typer.testing import CliRunner, Result
from ulid import ULID

from facesvc.cli import commands, models_quantize, quantizing, quantizing_frames
from facesvc.cli.models_quantize import Measured
from facesvc.cli.quantizing import Quantised, quantise, recall
from facesvc.config import GallerySettings, ModelSettings, Settings
from facesvc.engine import library
from facesvc.errors import DependencyError, FacesvcError, InputError, NotFoundError, PreconditionError
from facesvc.gallery import EmbeddingContract, Gallery, Sample, Subject
from facesvc.gallery.masterkey import KeyFile
from facesvc.models.default_pack import CALIBRATION
from facesvc.models.graph import GraphWriter
from facesvc.models.intake import UNCALIBRATED, draft
from facesvc.models.library import Library
from facesvc.models.packs import DetectorSpec, EmbedderSpec, Pack, contract_of, verify
from facesvc.models.parts import Acceptance, Source, stored
from facesvc.models.quantize import quantize as made_int8
from facesvc.vision.detection import Detection, Pixels
from facesvc.vision.geometry import Box

SIDE = 32
RANDOM = np.random.default_rng(5)


def convolution(
    writer: GraphWriter, x: str, weights: NDArray[np.float64], bias: NDArray[np.float64], stride: int
) -> str:
    return writer.node("Conv", [x, writer.constant(weights), writer.constant(bias)], strides=[stride, stride])


def detector_graph() -> bytes:
    """An "SCRFD" of six outputs: at stride 32, a face of 64 pixels where it is green."""
    writer = GraphWriter("detector")
    image = writer.input("image", (1, 3, "H", "W"))
    scores, boxes = {}, {}
    for stride in (8, 16, 32):
        green = np.zeros((1, 3, stride, stride))
        green[:, 0], green[:, 1], green[:, 2] = -15 / stride**2, 15 / stride**2, -15 / stride**2
        bias = np.array([-20.0 if stride == 32 else -100.0])
        rows = writer.constant(np.array([-1, 1]))
        score = writer.node("Sigmoid", [convolution(writer, image, green, bias, stride)])
        scores[f"s{stride}"] = (writer.node("Reshape", [score, rows]), ("N", 1))
        same = convolution(writer, image, np.zeros((4, 3, stride, stride)), np.ones(4), stride)
        last = writer.node("Transpose", [same], perm=[0, 2, 3, 1])
        boxes[f"b{stride}"] = (writer.node("Reshape", [last, writer.constant(np.array([-1, 4]))]), ("N", 4))
    content: bytes = writer.finish({**scores, **boxes}).SerializeToString()
    return content


def embedder_graph() -> bytes:
    """Chips to vectors of 16 values, by two convolutions and a mean."""
    writer = GraphWriter("embedder")
    x = writer.input("chip", (1, 3, SIDE, SIDE))
    x = writer.node("Relu", [convolution(writer, x, RANDOM.normal(size=(8, 3, 3, 3)), RANDOM.normal(size=8), 2)])
    x = convolution(writer, x, RANDOM.normal(size=(16, 8, 3, 3)), RANDOM.normal(size=16), 2)
    vector = writer.node("Flatten", [writer.node("GlobalAveragePool", [x])])
    content: bytes = writer.finish({"vector": (vector, (1, 16))}).SerializeToString()
    return content


FILES = {"detector.onnx": detector_graph(), "embedder.onnx": embedder_graph()}
DETECTOR = DetectorSpec("scrfd", {"detector": "detector.onnx"}, (127.5,) * 3, 128.0, "RGB")
TEMPLATE = ((11.0, 12.0), (21.0, 12.0), (16.0, 18.0), (12.0, 23.0), (20.0, 23.0))
EMBEDDER = EmbedderSpec("embedder.onnx", SIDE, (127.5,) * 3, 128.0, "RGB", TEMPLATE)


def small_pack(files: dict[str, bytes] = FILES, detector: DetectorSpec = DETECTOR) -> Pack:
    records = tuple(stored(name, content) for name, content in files.items())
    contract = contract_of(detector, EMBEDDER, records, 16)
    source = Source("ours", "1", "embedder.onnx", "0" * 64, "theirs")
    acceptance = Acceptance("theirs", "1" * 64, "2026-01-01T00:00:00+00:00")
    return Pack("small", Path(), contract, 16, (source,), records, detector, EMBEDDER, CALIBRATION, (acceptance,))


@pytest.fixture(autouse=True)
def few_frames(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Small networks need no more."""
    if "slow" not in request.keywords:
        monkeypatch.setattr(quantizing, "_CALIBRATION_FRAMES", 8)
        monkeypatch.setattr(quantizing, "_TRIAL_FRAMES", 8)


@pytest.fixture
def packs(tmp_path: Path) -> Library:
    """A library with the small pack."""
    made = Library(tmp_path / "packs")
    made.install(small_pack(), FILES.items())
    return made


@pytest.fixture
def settings(packs: Library, tmp_path: Path) -> Settings:
    gallery = GallerySettings(path=tmp_path / "data" / "gallery.db")
    return Settings(models=ModelSettings(cache_dir=packs.folder), gallery=gallery)


@pytest.fixture
def out(tmp_path: Path) -> Path:
    (tmp_path / "made").mkdir()
    return tmp_path / "made"


def scene(seed: int, faces: int = 2) -> Pixels:
    """Green squares with a pattern of their own on black, where a cell of the detector is."""
    random = np.random.default_rng(seed)
    pixels = np.zeros((256, 320, 3), np.uint8)
    for at in range(faces):
        face = random.integers(0, 60, (96, 96, 3))
        face[..., 1] = random.integers(235, 256, (96, 96))
        pixels[96:192, 32 + 160 * at : 128 + 160 * at] = face
    return pixels


SCENES = [scene(seed) for seed in range(4)]


def twice_as_fast() -> Callable[[], float]:
    """A clock by which whatever comes first takes two seconds, and what comes second one."""
    return itertools.accumulate(itertools.cycle([0.0, 2.0, 1.0])).__next__


def quantised(packs: Library, out: Path, clock: Callable[[], float], unseen: int = 9) -> Quantised:
    return quantise(packs.open("small"), "small-int8", iter(SCENES), iter([scene(unseen)]), 7, out, clock)


def operators(content: bytes) -> set[str]:
    return {node.op_type for node in onnx.load_model_from_string(content).graph.node}


def test_both_networks_become_int8_and_say_nearly_the_same(packs: Library, out: Path) -> None:
    before = packs.open("small")
    made = quantised(packs, out, twice_as_fast())
    assert (made.embedder.kept, made.detector.kept) == ("", "")
    contents = dict(made.contents())
    assert all("QuantizeLinear" in operators(content) for content in contents.values())
    assert made.detector.recall == 1
    assert made.embedder.pace is not None
    assert (made.embedder.pace.speedup, made.embedder.float_bytes) == (2, len(FILES["embedder.onnx"]))
    assert made.embedder.int8_bytes == len(contents["embedder.onnx"])
    record = made.pack.quantization
    assert record is not None
    assert (record.weight_bits, record.images, record.speedup, record.accuracy_loss) == (7, 4, 2, None)
    assert 0.9 < record.least_cosine <= record.mean_cosine < 1
    installed = packs.install(made.pack, made.contents())
    assert verify(installed.folder) == []
    assert (installed.name, installed.calibration) == ("small-int8", UNCALIBRATED)
    assert installed.contract_id == contract_of(DETECTOR, EMBEDDER, installed.files, 16) != before.contract_id
    assert (installed.sources, installed.acceptances) == (before.sources, before.acceptances)
    assert packs.open("small") == before


@pytest.mark.slow
def test_a_network_that_gets_no_faster_stays_float(packs: Library, out: Path) -> None:
    with pytest.raises(PreconditionError, match=r"embedder gets 1\.00 times as fast.*detector gets 1\.00") as caught:
        quantised(packs, out, itertools.count().__next__)
    assert caught.value.reason == "QUANTIZATION_GAINS_NOTHING"
    assert {name: (out / name).read_bytes() for name in FILES} == FILES


def test_a_detector_that_overlooks_faces_stays_float(
    packs: Library, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(quantizing, "recall", lambda exact, small, frames: 0.994)
    made = quantised(packs, out, twice_as_fast())
    assert made.detector.kept == "finds 99.40% of the faces again, less than 99.5%"
    assert (out / "detector.onnx").read_bytes() == FILES["detector.onnx"]
    assert (made.embedder.kept, (out / "embedder.onnx").read_bytes() != FILES["embedder.onnx"]) == ("", True)


@pytest.mark.slow
def test_an_embedder_that_is_int8_already_stays_and_the_detector_is_made_int8(packs: Library, out: Path) -> None:
    chips = [RANDOM.normal(size=(1, 3, SIDE, SIDE)).astype(np.float32)]
    files = {**FILES, "embedder.onnx": made_int8(FILES["embedder.onnx"], chips)}
    packs.install(small_pack(files), files.items())
    made = quantised(packs, out, twice_as_fast())
    assert "int8 already" in made.embedder.kept
    assert made.detector.kept == ""
    assert (out / "embedder.onnx").read_bytes() == files["embedder.onnx"]
    assert made.pack.quantization is not None
    assert (made.pack.quantization.mean_cosine, made.pack.quantization.speedup) == (1, 1)


def test_pictures_without_a_face_are_refused(packs: Library, out: Path) -> None:
    with pytest.raises(InputError, match="no face was found in the pictures"):
        quantise(packs.open("small"), "x", iter([scene(1, faces=0)]), iter(SCENES), 7, out)


@pytest.mark.slow
def test_pictures_are_taken_one_by_one_until_there_are_enough(
    packs: Library, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(quantizing, "_MOST_FACES", 5)
    taken: list[int] = []

    def pictures() -> Iterator[Pixels]:
        for seed in itertools.count():
            taken.append(seed)
            yield scene(seed)

    made = quantise(packs.open("small"), "x", pictures(), iter(SCENES), 7, out, twice_as_fast())
    assert made.pack.quantization is not None
    assert made.pack.quantization.images == len(taken) < 6


class Scripted:
    """A detector that finds squares at these places, whatever it sees."""

    def __init__(self, *places: tuple[float, float]) -> None:
        self.places = places

    def detect(self, pixels: Pixels, minimum_face: float) -> list[Detection]:
        assert pixels.shape == SCENES[0].shape
        assert minimum_face == 40
        return [Detection(Box(x, y, 40, 40), np.zeros((5, 2), np.float32), 1.0) for x, y in self.places]


@pytest.mark.parametrize(
    ("exact", "small", "share"),
    [
        ([(0, 0), (100, 0)], [(100, 0), (0, 0), (300, 300)], 1),
        ([(0, 0), (100, 0)], [(13, 0)], 0.5),
        ([(0, 0)], [(14, 0)], 0),
        ([(0, 0)], [], 0),
        ([], [(0, 0)], 1),
    ],
)
def test_recall(exact: list[tuple[float, float]], small: list[tuple[float, float]], share: float) -> None:
    assert recall(Scripted(*exact), Scripted(*small), SCENES[:2]) == share


def test_mosaics_are_the_same_for_a_seed() -> None:
    crops = [np.full((50, 40, 3), value, np.uint8) for value in (90, 180)]
    first, again, other = (np.stack(list(quantizing_frames.mosaics(crops, 4, seed))) for seed in (1, 1, 2))
    assert first.shape == (4, 640, 640, 3)
    assert (first == again).all()
    assert (first != other).any()


def run(settings: Settings, *arguments: object) -> Result:
    app = typer.Typer()
    app.command()(models_quantize.quantize)
    return CliRunner(env={"COLUMNS": "200"}).invoke(app, [str(argument) for argument in arguments], obj=settings)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """A folder of ten pictures and a note."""
    folder = tmp_path / "photos"
    folder.mkdir()
    (folder / "notes.txt").touch()
    for seed in range(10):
        (folder / f"{seed}.jpg").write_bytes(simplejpeg.encode_jpeg(scene(seed), quality=95))
    return folder


@pytest.fixture
def in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever becomes int8 is twice as fast; who is not in the bundled pictures is a green square."""
    monkeypatch.setattr(quantizing, "quantise", partial(quantise, clock=twice_as_fast()))
    monkeypatch.setattr(quantizing_frames, "portraits", lambda: [scene(99)])


@pytest.mark.usefixtures("in_time")
def test_the_command(settings: Settings, photos: Path) -> None:
    result = run(settings, "small", "--images", photos)
    assert result.exit_code == 0, result.output
    for part in ("Pack small-int8", "2.00 times as fast", "mean cosine", "faces found again", "models use small-int8",
                 "skipped, not pictures: notes.txt", "false-match rates are unknown"):  # fmt: skip
        assert part in result.output
    pack = library(settings).open("small-int8")
    assert pack.quantization is not None
    assert pack.quantization.images == 8  # two are held out


@pytest.mark.slow
@pytest.mark.usefixtures("in_time")
def test_as_json_under_another_name_with_8_bits(settings: Settings, photos: Path) -> None:
    result = run(settings, "small", "--to", "tiny", "--images", photos, "--weight-bits", "8", "--json")
    found = json.loads(result.stdout)
    pack = library(settings).open("tiny")
    assert pack.quantization is not None
    assert (found["pack"], found["contract_id"], found["objections"]) == ("tiny", pack.contract_id, [])
    assert found["quantization"] == asdict(pack.quantization)
    assert pack.quantization.weight_bits == 8
    assert found["embedder"]["int8_bytes"] > 0


@pytest.mark.slow
@pytest.mark.usefixtures("in_time")
def test_what_was_measured_is_in_the_pack_and_forbids_its_use(
    settings: Settings, photos: Path, monkeypatch: pytest.MonkeyPatch, small_lfw: Path
) -> None:
    figures = iter([Measured(0.99, 0.75, UNCALIBRATED), Measured(0.98, 0.70, replace(UNCALIBRATED, source="LFW"))])
    monkeypatch.setattr(models_quantize, "_measured", lambda *_: next(figures))
    result = run(settings, "small", "--images", photos, "--lfw", small_lfw)
    assert result.exit_code == 1
    assert "99.00%" in result.output
    assert "98.00%" in result.output
    assert re.search(r"will not be used: it loses 1\.00 points of accuracy", result.output)
    assert "5.00 points of true matches" in result.output
    packs = library(settings)
    assert packs.open("small-int8").calibration.source == "LFW"
    with pytest.raises(PreconditionError):
        packs.choose("small-int8")


@pytest.mark.slow
@pytest.mark.usefixtures("in_time")
def test_lfw_is_looked_at_with_both_packs(settings: Settings, photos: Path, small_lfw: Path) -> None:
    for number, path in enumerate(sorted((small_lfw / "images").rglob("*.jpg"))):
        path.write_bytes(simplejpeg.encode_jpeg(scene(number // 3), quality=90))
    found = json.loads(run(settings, "small", "--images", photos, "--lfw", small_lfw, "--json").stdout)
    assert found["accuracy"][0] == 1
    assert found["tmr"] == [None, None]  # twenty comparisons say nothing of a rate of 1e-4
    pack = library(settings).open("small-int8")
    assert pack.quantization is not None
    assert (pack.quantization.accuracy_loss, pack.quantization.tmr_loss) == (1 - found["accuracy"][1], None)
    assert pack.calibration.source == "LFW, 4 people with one photo each against 8 other photos"


@pytest.fixture
def small_lfw(tmp_path: Path) -> Path:
    """Three pictures each of four people, who all look alike."""
    folder = tmp_path / "lfw"
    (folder / "images").mkdir(parents=True)
    for name in "ABCD":
        (folder / "images" / name).mkdir()
        for number in (1, 2, 3):
            path = folder / "images" / name / f"{name}_{number:04d}.jpg"
            path.write_bytes(simplejpeg.encode_jpeg(scene(1), quality=95))
    pairs = "2\t2\nA\t1\t2\nB\t1\t2\nA\t1\tB\t1\nB\t2\tC\t1\nC\t1\t2\nD\t1\t2\nC\t1\tD\t1\nD\t2\tA\t2\n"
    (folder / "pairs.txt").write_text(pairs)
    (folder / "identification.txt").write_text("".join(f"{name}\t1\t2,3\n" for name in "ABCD"))
    return folder


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (["absent"], NotFoundError, "no model pack 'absent'"),
        (["small", "--to", "default"], InputError, "belongs to the pack that facesvc builds"),
        (["small", "--to", "small"], PreconditionError, "another name with --to"),
        (["small", "--to", "../x"], InputError, "cannot be the name of a pack"),
        (["small", "--images", "/nowhere"], InputError, "no folder"),
        (["small", "--images", "{empty}"], InputError, "holds no pictures"),
        (["small", "--images", "{damaged}"], InputError, r"face\.jpg: the image cannot be read"),
    ],
)
def test_what_cannot_be(
    arguments: list[str], error: type[FacesvcError], message: str, settings: Settings, tmp_path: Path
) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "damaged").mkdir()
    (tmp_path / "damaged" / "face.jpg").write_bytes(b"\xff\xd8\xff no picture")
    filled = [text.format(empty=tmp_path / "empty", damaged=tmp_path / "damaged") for text in arguments]
    with pytest.raises(error, match=message):
        raise run(settings, *filled).exception or AssertionError("nothing was raised")


@pytest.mark.slow
def test_the_default_pack_and_what_was_made_int8_are_refused(pack_cache: Path, packs: Library, out: Path) -> None:
    settings = Settings(models=ModelSettings(cache_dir=packs.folder))
    made = quantised(packs, out, twice_as_fast())
    packs.install(made.pack, made.contents())
    shutil.copytree(pack_cache / "default", packs.folder / "default")
    for name, message in (("default", "is built with an int8 embedder"), ("small-int8", "was made int8 already")):
        error: Any = run(settings, name).exception
        assert isinstance(error, PreconditionError)
        assert (error.reason, message in error.message) == ("ALREADY_INT8", True)


@pytest.mark.usefixtures("no_logs")
def test_it_is_one_of_the_commands() -> None:
    result = CliRunner(env={"COLUMNS": "200"}).invoke(commands.app, ["models", "quantize", "--help"])
    assert result.exit_code == 0
    assert "Make a pack int8" in result.output


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_real_pack_keeps_its_accuracy(tmp_path: Path) -> None:
    shared = Path(os.environ.get("FACESVC_SHARED") or Path(__file__).resolve().parents[3] / "shared")
    lfw, source = shared / "data" / "lfw", shared / "models" / "insightface" / "edge_s"
    if not (lfw.is_dir() and source.is_dir()):
        pytest.skip(f"no LFW or no edge_s: {lfw} or {source} is not there; FACESVC_SHARED may name another folder")
    packs = Library(tmp_path)
    draft(source, "edge_s", packs, accepted=True, now=datetime(2026, 1, 1, tzinfo=UTC)).install(packs)
    settings = Settings(models=ModelSettings(cache_dir=tmp_path))
    found = json.loads(run(settings, "edge_s", "--lfw", lfw, "--json").stdout)
    assert found["objections"] == []
    assert found["accuracy"][1] > 0.985
    assert found["detector"]["recall"] >= 0.995
    packs.choose("edge_s-int8")


@pytest.fixture
def crops(settings: Settings) -> Gallery:
    """A gallery that keeps the crops of ten pictures of one person."""
    now = datetime(2026, 1, 1, tzinfo=UTC)
    key = KeyFile(settings.gallery.key_path)
    gallery = open_gallery(settings.gallery.path, EmbeddingContract("any", 2), now, key)
    gallery.create_subject(
        Subject(collection_id="default", subject_id="ada", display_name="", create_time=now, update_time=now)
    )
    for seed in range(10):
        sample = Sample(
            sample_id=str(ULID()),
            collection_id="default",
            subject_id="ada",
            vector=np.array([1, 0], np.float32),
            quality=1.0,
            source="",
            image_sha256=bytes([seed]) * 32,
            create_time=now,
        )
        crop = simplejpeg.encode_jpeg(scene(seed), quality=95)
        gallery.add_sample(sample, None, now, contract_id="any", crop=crop)
    return gallery


@pytest.mark.slow
@pytest.mark.usefixtures("in_time")
def test_the_crops_of_the_enrolled_people(settings: Settings, crops: Gallery) -> None:
    with pytest.raises(DependencyError, match="stop that one first"):
        raise_of(run(settings, "small", "--crops"))
    crops.close()
    result = run(settings, "small", "--crops")
    assert result.exit_code == 0, result.output
    pack = library(settings).open("small-int8")
    assert pack.quantization is not None
    assert pack.quantization.images == 9  # one is held out


def raise_of(result: Result) -> None:
    """What a command ended with."""
    assert result.exception is not None
    raise result.exception


@pytest.mark.parametrize(
    ("arguments", "message"),
    [(("--crops",), "there is no gallery at"), (("--crops", "--images", "x"), "not with both")],
)
def test_crops_that_cannot_be_had(settings: Settings, arguments: tuple[str, ...], message: str) -> None:
    with pytest.raises(InputError, match=message):
        raise_of(run(settings, "small", *arguments))
    assert not settings.gallery.path.exists()


def test_a_gallery_that_keeps_none(settings: Settings) -> None:
    contract = EmbeddingContract("any", 2)
    key = KeyFile(settings.gallery.key_path)
    open_gallery(settings.gallery.path, contract, datetime(2026, 1, 1, tzinfo=UTC), key).close()
    with pytest.raises(InputError, match=r"keeps no crops: set enrollment\.keep_crops"):
        raise_of(run(settings, "small", "--crops"))
