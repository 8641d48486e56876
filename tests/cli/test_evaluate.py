"""``facesvc evaluate``: the files of the protocol, and a small LFW of four people through the real networks."""

import json
import os
from pathlib import Path

import cv2
import numpy as np
import pytest
import simplejpeg
import typer
from typer.testing import CliRunner, Result

from facesvc.cli import evaluate, evaluation, evaluation_plot
from facesvc.cli.lfw import Photo, read_protocol
from facesvc.config import Settings
from facesvc.engine import image_limits, load_models
from facesvc.errors import DependencyError, InputError, NotFoundError
from facesvc.vision.decode import Image
from facesvc.vision.detection import Floats, MinimumFace, Pixels

PAIRS = "2\t2\nA\t1\t2\nB\t1\t2\nA\t1\tB\t1\nB\t2\tC\t1\nC\t1\t2\nD\t1\t2\nC\t1\tD\t1\nD\t2\tA\t2\n"
IDENTIFICATION = "# name\tgallery\tprobes\nA\t1\t2,3\nB\t1\t2,3\nC\t1\t2,3\nD\t1\t2,3\n"


def view_of(pixels: Pixels, number: int) -> bytes:
    """Another photo of the same scene: turned, lit and blurred a little, as JPEG."""
    turn, light, blur = ((0.0, 1.0, 0.1), (5.0, 0.85, 0.6), (-6.0, 1.15, 0.8))[number - 1]
    side = pixels.shape[0]
    matrix = cv2.getRotationMatrix2D((side / 2, side / 2), turn, 150 / side)
    matrix[:, 2] += 75 - side / 2
    turned = cv2.warpAffine(pixels, matrix, (150, 150), borderMode=cv2.BORDER_REPLICATE)
    lit = np.clip(cv2.GaussianBlur(turned, (0, 0), blur) * light, 0, 255).astype(np.uint8)
    return bytes(simplejpeg.encode_jpeg(np.ascontiguousarray(lit), quality=92))


@pytest.fixture(scope="session")
def small_lfw(pack_cache: Path, group_jpeg: bytes, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three photos each of four of the six people in t1.jpg; do not change its files."""
    folder = tmp_path_factory.mktemp("lfw")
    group = Image.of(simplejpeg.decode_jpeg(group_jpeg, "RGB")).pixels
    models = load_models(Settings.model_validate({"models": {"cache_dir": pack_cache}}))
    found = sorted(models.detector.detect(group, 60.0), key=lambda face: face.box.left)[:4]
    for name, face in zip("ABCD", found, strict=True):
        (folder / "images" / name).mkdir(parents=True)
        side = round(2.0 * face.box.height)
        left = round(face.box.left + face.box.width / 2 - side / 2)
        top = round(face.box.top + face.box.height / 2 - side / 2)
        scene = cv2.copyMakeBorder(group, side, side, side, side, cv2.BORDER_REFLECT)
        crop = scene[top + side : top + 2 * side, left + side : left + 2 * side].astype(np.uint8)
        for number in (1, 2, 3):
            Photo(name, number).within(folder).write_bytes(view_of(crop, number))
    (folder / "pairs.txt").write_text(PAIRS)
    (folder / "identification.txt").write_text(IDENTIFICATION)
    return folder


@pytest.fixture
def own_lfw(small_lfw: Path, tmp_path: Path) -> Path:
    """The same with pictures linked, protocol files that may be written, and no identification."""
    (tmp_path / "lfw").mkdir()
    for person in (small_lfw / "images").iterdir():
        (tmp_path / "lfw" / "images" / person.name).mkdir(parents=True)
        for picture in person.iterdir():
            (tmp_path / "lfw" / "images" / person.name / picture.name).symlink_to(picture)
    (tmp_path / "lfw" / "pairs.txt").write_text(PAIRS)
    return tmp_path / "lfw"


def run(settings: Settings, folder: Path, *arguments: str) -> Result:
    app = typer.Typer()
    app.command()(evaluate.evaluate)
    return CliRunner(env={"COLUMNS": "120"}).invoke(app, ["--lfw", str(folder), *arguments], obj=settings)


def test_the_figures_as_json(settings: Settings, small_lfw: Path) -> None:
    result = run(settings, small_lfw, "--json")
    assert result.exit_code == 0, result.output
    assert result.stderr == ""
    figures = json.loads(result.stdout)
    assert figures.pop("seconds") > 0
    similarities = (figures.pop("tar_similarity"), figures.pop("tmr_similarity"))
    assert [list(by_rate) for by_rate in similarities] == [["1e-02", "1e-03"], ["1e-03", "1e-04", "1e-05", "1e-06"]]
    assert all(0.7 < value < 1 for by_rate in similarities for value in by_rate.values())
    calibration = figures.pop("calibration")
    assert [point[0] for point in calibration] == [3 / 24]  # 24 impostor pairs can tell no rate below
    assert figures == {
        "pack": "default",
        "accuracy": 1.0,
        "accuracy_std": 0.0,
        "tar": {"1e-02": 1.0, "1e-03": 1.0},
        "rank1": 1.0,
        "tmr": {"1e-03": 1.0, "1e-04": 1.0, "1e-05": 1.0, "1e-06": 1.0},
        "impostor_pairs": 24,
        "missed": 0,
        "images": 8,
    }


def test_the_figures_as_a_table(settings: Settings, small_lfw: Path) -> None:
    result = run(settings, small_lfw)
    assert result.exit_code == 0, result.output
    for part in (
        "Pack default",
        "accuracy over 8 pairs",
        "100.00% ± 0.00",
        "TAR at FAR 1e-03",
        "rank 1 among 4 people",
    ):
        assert part in result.stdout
    assert "TMR at FMR 1e-06 (too few impostor pairs to tell)" in result.stdout
    assert result.stderr == ""  # no progress bar but in a terminal


def test_without_identification(settings: Settings, own_lfw: Path) -> None:
    figures = json.loads(run(settings, own_lfw, "--json").stdout)
    assert (figures["rank1"], figures["tmr"], figures["impostor_pairs"], figures["calibration"]) == (None, {}, 0, [])
    assert "rank 1" not in run(settings, own_lfw).stdout


def test_the_same_with_any_number_of_threads(settings: Settings, small_lfw: Path) -> None:
    models, protocol = load_models(settings), read_protocol(small_lfw)
    pipeline = models.pipeline(image_limits(settings))

    def vectors(threads: int) -> list[Floats]:
        seen = list(evaluation.looks(pipeline, small_lfw, protocol, MinimumFace(40.0), threads))
        assert [photo for photo, _ in seen] == list(protocol.photos())
        assert [photo for photo, look in seen if look.template is not None] == sorted(protocol.gallery_photos())
        return [look.probe for _, look in seen if look.probe is not None]

    np.testing.assert_array_equal(vectors(1), vectors(3))


def test_a_template_is_not_the_plain_vector(settings: Settings, small_lfw: Path) -> None:
    pipeline = load_models(settings).pipeline(image_limits(settings))
    protocol = read_protocol(small_lfw)
    seen = dict(evaluation.looks(pipeline, small_lfw, protocol, MinimumFace(40.0), 1))
    look = seen[Photo("A", 1)]
    assert look.probe is not None
    assert look.template is not None
    assert 0.95 < float(look.probe @ look.template) < 0.99999


def test_a_picture_without_a_face_counts_against_the_pack(settings: Settings, own_lfw: Path) -> None:
    missed = Photo("A", 2).within(own_lfw)
    missed.unlink()
    missed.write_bytes(simplejpeg.encode_jpeg(np.full((150, 150, 3), 90, np.uint8)))
    (own_lfw / "identification.txt").write_text(IDENTIFICATION)
    figures = json.loads(run(settings, own_lfw, "--json").stdout)
    assert figures["missed"] == 1
    assert figures["accuracy"] == pytest.approx(6 / 8)  # it is in two pairs, one of each kind
    assert figures["tar"]["1e-03"] == pytest.approx(3 / 4)
    assert figures["rank1"] == pytest.approx(7 / 8)
    assert figures["tmr"]["1e-03"] == pytest.approx(7 / 8)
    assert figures["impostor_pairs"] == 21


def test_the_face_nearest_the_centre_is_meant(settings: Settings, own_lfw: Path) -> None:
    ours, larger = (Photo("B", 1).within(own_lfw), Photo("C", 1).within(own_lfw))
    pixels = simplejpeg.decode_jpeg(ours.read_bytes(), "RGB")
    neighbour = cv2.resize(simplejpeg.decode_jpeg(larger.read_bytes(), "RGB"), (200, 200))
    wide = np.full((200, 560, 3), 127, np.uint8)
    wide[25:175, 205:355] = pixels
    wide[:, :200] = neighbour
    ours.unlink()
    ours.write_bytes(simplejpeg.encode_jpeg(wide, quality=95))
    figures = json.loads(run(settings, own_lfw, "--json").stdout)
    assert (figures["accuracy"], figures["missed"]) == (1.0, 0)


@pytest.mark.parametrize(
    ("pairs", "message"),
    [
        ("", "line 1 should be the number of folds"),
        ("300\n", "line 1 should be the number of folds"),
        ("0\t300\n", "line 1 should be the number of folds"),
        ("1\t1\nA\t1\t2\nA\t1\tB\t1\n", "line 1 has one fold"),
        (PAIRS + "A\t1\t2\n", "should have 9 lines by its first one, not 10"),
        (PAIRS.replace("B\t1\t2", "B 1 2"), "line 3 should be name<TAB>n<TAB>m, not 'B 1 2'"),
        (PAIRS.replace("A\t1\tB\t1", "A\t1\tA\t1"), "line 4 should be name<TAB>n<TAB>other name<TAB>m"),
        (PAIRS.replace("A\t1\tB\t1", "A\t1\t2"), "line 4 should be name<TAB>n<TAB>other name<TAB>m"),
        (PAIRS.replace("C\t1\t2", "C\t1\tx"), "line 6 has 'x' where the number of a picture belongs"),
        (PAIRS.replace("C\t1\t2", "C\t1\t0"), "line 6 has '0' where"),
        (PAIRS.replace("D\t1\t2", "../D\t1\t2"), r"line 7 has the name '\.\./D'"),
        (PAIRS.replace("D\t1\t2", "D\t1\t7"), r"1 pictures that the protocol names are missing.*D_0007\.jpg"),
    ],
)
def test_malformed_pairs_are_named(pairs: str, message: str, own_lfw: Path) -> None:
    (own_lfw / "pairs.txt").write_text(pairs)
    with pytest.raises(InputError, match=message):
        read_protocol(own_lfw)


@pytest.mark.parametrize(
    ("identification", "message"),
    [
        ("A\t1\n", "line 1 should be name<TAB>gallery<TAB>probe"),
        ("# note\nA\t1\t\n", "line 2 has '' where the number of a picture belongs"),
        ("A\t1\t2\nA\t2\t3\n", "two people or more, each of them once"),
        ("A\t1\t2\n", "two people or more, each of them once"),
    ],
)
def test_malformed_identification_is_named(identification: str, message: str, own_lfw: Path) -> None:
    (own_lfw / "identification.txt").write_text(identification)
    with pytest.raises(InputError, match=message):
        read_protocol(own_lfw)


def test_a_folder_that_is_no_data_set(tmp_path: Path, own_lfw: Path) -> None:
    with pytest.raises(InputError, match=r"is no folder: name the one that holds pairs\.txt"):
        read_protocol(tmp_path / "none")
    (own_lfw / "pairs.txt").unlink()
    with pytest.raises(InputError, match=r"pairs\.txt cannot be read: No such file"):
        read_protocol(own_lfw)
    (own_lfw / "pairs.txt").write_bytes(b"\xff\xfe")
    with pytest.raises(InputError, match=r"pairs\.txt is not text"):
        read_protocol(own_lfw)


def test_a_picture_that_is_damaged_is_named(settings: Settings, own_lfw: Path) -> None:
    damaged = Photo("C", 1).within(own_lfw)
    damaged.unlink()
    damaged.write_bytes(b"\xff\xd8\xff\xe0 no picture")
    error = run(settings, own_lfw, "--json").exception
    assert isinstance(error, InputError)
    assert error.message.startswith(f"{damaged}: the image cannot be read")


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (["--pack", "other"], NotFoundError, "no model pack 'other'"),
        (["--minimum-face", "5"], InputError, "12 to 4096 pixels"),
        (["--plot", "figure.docx"], InputError, r"\.png, \.svg, \.pdf, not '\.docx'"),
        (["--plot", "/nowhere/figure.png"], InputError, "does not exist"),
    ],
)
def test_options_that_cannot_be(
    arguments: list[str], error: type[Exception], message: str, settings: Settings, own_lfw: Path
) -> None:
    with pytest.raises(error, match=message):
        raise run(settings, own_lfw, *arguments).exception or AssertionError("nothing was raised")


def test_the_plot(settings: Settings, small_lfw: Path, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    path = tmp_path / "figure.png"
    result = run(settings, small_lfw, "--json", "--plot", str(path))
    assert result.exit_code == 0, result.output
    picture = cv2.imread(str(path))
    assert picture is not None
    assert picture.shape[0] > 500
    assert len(np.unique(picture.reshape(-1, 3), axis=0)) > 100


def test_the_plot_without_matplotlib(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evaluation_plot, "find_spec", lambda _: None)
    with pytest.raises(DependencyError, match=r"pip install 'facesvc\[plot\]'"):
        evaluation_plot.check_plottable(tmp_path / "figure.png")


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_bars_on_the_real_data(settings: Settings) -> None:
    shared = Path(os.environ.get("FACESVC_SHARED") or Path(__file__).resolve().parents[3] / "shared")
    folder = shared / "data" / "lfw"
    if not folder.is_dir():
        pytest.skip(f"no LFW: {folder} is not there; FACESVC_SHARED may name the folder that holds data/lfw")
    result = run(settings, folder, "--json")
    assert result.exit_code == 0, result.output
    figures = json.loads(result.stdout)
    assert figures["images"] == 3811
    assert figures["missed"] <= 2
    assert figures["accuracy"] >= 0.989
    assert figures["tar"]["1e-03"] >= 0.965
    assert figures["rank1"] >= 0.955
