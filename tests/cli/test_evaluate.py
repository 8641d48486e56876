"""``facesvc evaluate``: the files of the protocol, and a small LFW of four people through the real networks."""

import json
import os
from dataclasses import replace
from datetime import UTC, datetime
from itertools import groupby
from pathlib import Path

import cv2
import numpy as np
import pytest
import simplejpeg
import typer
from cli.views import portraits, view_of
from typer.testing import CliRunner, Result

from facesvc.cli import evaluate, evaluate_compare, evaluation, evaluation_plot
from facesvc.cli.lfw import Photo, read_protocol
from facesvc.cli.models_calibrate import load_for_measuring
from facesvc.config import ModelSettings, Settings
from facesvc.engine import image_limits, library, load_models
from facesvc.errors import DependencyError, InputError, NotFoundError
from facesvc.models.calibration import bounds
from facesvc.models.default_pack import CALIBRATION
from facesvc.vision.detection import Floats, MinimumFace
from facesvc.vision.pipeline import Pipeline

PAIRS = "2\t2\nA\t1\t2\nB\t1\t2\nA\t1\tB\t1\nB\t2\tC\t1\nC\t1\t2\nD\t1\t2\nC\t1\tD\t1\nD\t2\tA\t2\n"
IDENTIFICATION = "# name\tgallery\tprobes\nA\t1\t2,3\nB\t1\t2,3\nC\t1\t2,3\nD\t1\t2,3\n"


@pytest.fixture
def settings(pack_cache: Path, tmp_path: Path) -> Settings:
    """The default pack, in a cache folder where figures may be left."""
    (tmp_path / "packs").mkdir()
    (tmp_path / "packs" / "default").symlink_to(pack_cache / "default")
    return Settings(models=ModelSettings(cache_dir=tmp_path / "packs"))


@pytest.fixture(scope="session")
def small_lfw(pack_cache: Path, group_jpeg: bytes, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three photos each of four of the six people in t1.jpg; do not change its files."""
    folder = tmp_path_factory.mktemp("lfw")
    for name, pixels in zip("ABCD", portraits(group_jpeg, pack_cache)[:4], strict=True):
        (folder / "images" / name).mkdir(parents=True)
        for number in (1, 2, 3):
            Photo(name, number).within(folder).write_bytes(view_of(pixels, number))
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
    assert [line["fmr"] for line in calibration] == [3 / 24]  # 24 impostor pairs can tell no rate below
    assert calibration[0]["fmr_bounds"] == list(bounds(3, 24))
    assert calibration[0]["tmr_bounds"] == list(bounds(8, 8))
    assert figures == {
        "pack": "default",
        "accuracy": 1.0,
        "accuracy_std": 0.0,
        "tar": {"1e-02": 1.0, "1e-03": 1.0},
        "rank1": 1.0,
        "tmr": {"1e-03": 1.0, "1e-04": 1.0, "1e-05": 1.0, "1e-06": 1.0},
        "impostor_pairs": 24,
        "genuine_pairs": 8,
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
        "62.5 to 100.0 %",
        "TAR at FAR 1e-03",
        "rank 1 among 4 people",
    ):
        assert part in result.stdout
    assert "TMR at FMR 1e-06 (too few impostor pairs to tell)" in result.stdout
    assert result.stderr == ""  # no progress bar but in a terminal


def test_the_figures_are_kept(settings: Settings, small_lfw: Path) -> None:
    assert run(settings, small_lfw, "--json").exit_code == 0
    packs = library(settings)
    kept = packs.figures(packs.peek("default").contract_id)
    assert kept is not None
    assert (kept.accuracy, kept.deviation, kept.tar, kept.rank_one) == (1.0, 0.0, 1.0, 1.0)
    assert kept.tmr == ()  # there were too few impostors for any rate
    assert kept.data_set == small_lfw.name
    assert packs.peek("default").calibration == CALIBRATION  # which nobody asked to replace


def test_figures_that_cannot_be_kept_are_told_all_the_same(settings: Settings, small_lfw: Path) -> None:
    (settings.models.cache_dir / "figures").write_text("in the way")
    result = run(settings, small_lfw, "--json")
    assert result.exit_code == 0
    assert json.loads(result.stdout)["accuracy"] == 1.0
    assert "not kept" in result.stderr


def scored(genuine: Floats, impostor: Floats) -> evaluation.Identification:
    scores = evaluation.Scores(genuine, impostor)
    return evaluation.Identification(0.9, scores.points(evaluation.IDENTIFICATION_RATES), scores)


def test_the_record_holds_only_what_was_measured() -> None:
    random = np.random.default_rng(1)
    same, others = random.normal(0.9, 0.05, 300), random.normal(0.5, 0.1, 40_000)
    identified = scored(same.astype(np.float32), others.astype(np.float32))
    verification = evaluation.Verification(0.9, 0.1, identified.scores.points((1e-2, 1e-3)), identified.scores)
    result = evaluation.Evaluation(verification, identified, ())
    record = evaluate.record_of(result, identified, "lfw", datetime(2026, 1, 2, 3, 4, 5, 6, tzinfo=UTC))
    assert record.tmr == tuple((point.fmr, point.tmr) for point in identified.points[:2])
    assert (record.tar, record.time) == (verification.points[1].tmr, "2026-01-02T03:04:05+00:00")


def test_a_calibration_is_kept_when_asked_for(settings: Settings, small_lfw: Path) -> None:
    random = np.random.default_rng(1)
    same, others = random.normal(0.9, 0.05, 300), random.normal(0.5, 0.1, 40_000)
    identified = scored(same.astype(np.float32), others.astype(np.float32))
    verification = evaluation.Verification(0.9, 0.1, identified.scores.points((1e-2, 1e-3)), identified.scores)
    models = load_for_measuring(settings, "default")
    task = evaluate.Task(settings, small_lfw, read_protocol(small_lfw), MinimumFace(40.0), calibrate=True, show=False)
    evaluate._keep(task, models, evaluation.Evaluation(verification, identified, ()), identified)
    kept = library(settings).peek("default").calibration
    assert kept.source == f"{small_lfw.name}, 4 people with one photo each against 8 other photos"
    assert (kept.impostor_pairs, kept.genuine_pairs) == (40_000, 300)
    assert kept == identified.calibration(kept.source)


def test_too_little_to_calibrate_is_told_at_once(settings: Settings, own_lfw: Path) -> None:
    with pytest.raises(InputError, match=r"--calibrate needs identification\.txt"):
        raise run(settings, own_lfw, "--calibrate").exception or AssertionError("nothing was raised")
    (own_lfw / "identification.txt").write_text(IDENTIFICATION)
    with pytest.raises(InputError, match=r"24 comparisons of two people are too few for a false-match rate of 0\.01"):
        raise run(settings, own_lfw, "--calibrate").exception or AssertionError("nothing was raised")


@pytest.fixture
def two_packs(settings: Settings, pack_cache: Path) -> Settings:
    """The default pack, and the same under the name ``other``."""
    folder = settings.models.cache_dir / "other"
    folder.mkdir()
    for file in (pack_cache / "default").iterdir():
        (folder / file.name).symlink_to(file)
    manifest = json.loads((folder / "manifest.json").read_bytes())
    (folder / "manifest.json").unlink()
    (folder / "manifest.json").write_text(json.dumps({**manifest, "name": "other"}))
    return settings


@pytest.mark.slow
def test_packs_side_by_side(two_packs: Settings, small_lfw: Path) -> None:
    result = run(two_packs, small_lfw, "--compare", "default, other", "--json")
    assert result.exit_code == 0, result.output
    rows = json.loads(result.stdout)
    assert [row["pack"] for row in rows] == ["default", "other"]
    pack = library(two_packs).peek("other")
    for row in rows:
        assert (row["accuracy"], row["tar"], row["rank1"], row["missed"]) == (1.0, 1.0, 1.0, 0)
        assert row["tmr"] == {"1e-03": 1.0, "1e-04": 1.0, "1e-05": 1.0}
        assert row["frame_ms"] > 0
        assert row["face_ms"] > 0
        assert row["size_bytes"] == sum(file.size_bytes for file in pack.files)
        assert row["licences"] == list(pack.licences)
    assert library(two_packs).figures(pack.contract_id) is not None


def test_packs_side_by_side_as_a_table(settings: Settings, small_lfw: Path, own_lfw: Path) -> None:
    pipeline, protocol = load_models(settings).pipeline(image_limits(settings)), read_protocol(small_lfw)
    result = evaluation.figures(protocol, dict(evaluation.looks(pipeline, small_lfw, protocol, MinimumFace(40.0), 2)))
    pack = library(settings).peek("default")
    rows = [evaluate_compare.Row(pack, result, evaluate_compare.Cost(12.34, 56.78))] * 2
    lines = dict(evaluate_compare._lines(rows))
    assert lines["accuracy"] == ["100.00% ± 0.00"] * 2
    assert lines["TMR at FMR 1e-05"] == ["100.00% *"] * 2
    assert (lines["ms a face"], lines["ms a frame"]) == (["12.3"] * 2, ["56.8"] * 2)
    assert evaluate_compare.as_rich(rows).row_count == len(lines)
    without = replace(rows[0], evaluation=replace(result, identification=None))
    assert "rank 1" not in dict(evaluate_compare._lines([without]))
    assert evaluate_compare.as_object(without)["tmr"] == {}


@pytest.mark.slow
def test_packs_take_turns(settings: Settings, small_lfw: Path) -> None:
    turns: list[str] = []
    pipeline = load_models(settings).pipeline(image_limits(settings))

    def noted(name: str) -> Pipeline:
        def clock() -> float:
            turns.append(name)
            return pipeline.clock()

        return replace(pipeline, clock=clock)

    before = cv2.getNumThreads()
    costs = evaluate_compare.costs([noted("a"), noted("b")], [Photo("A", 1).within(small_lfw)] * 2)
    assert len(costs) == 2
    assert [name for name, _ in groupby(turns)] == ["a", "b"] * (1 + 15 + 2)  # warm-up, frames, chips
    assert cv2.getNumThreads() == before


def test_packs_that_find_nobody_cannot_be_timed(settings: Settings, tmp_path: Path) -> None:
    (tmp_path / "wall.jpg").write_bytes(simplejpeg.encode_jpeg(np.full((150, 150, 3), 90, np.uint8)))
    pipeline = load_models(settings).pipeline(image_limits(settings))
    with pytest.raises(InputError, match="found no face"):
        evaluate_compare.costs([pipeline], [tmp_path / "wall.jpg"])


def test_the_chosen_pack_is_measured_where_none_is_named(two_packs: Settings, small_lfw: Path) -> None:
    library(two_packs).choose("other")
    assert json.loads(run(two_packs, small_lfw, "--json").stdout)["pack"] == "other"


def test_without_identification(settings: Settings, own_lfw: Path) -> None:
    figures = json.loads(run(settings, own_lfw, "--json").stdout)
    assert (figures["rank1"], figures["tmr"], figures["impostor_pairs"], figures["calibration"]) == (None, {}, 0, [])
    assert library(settings).figures(library(settings).peek("default").contract_id) is None  # half a run is none
    assert "rank 1" not in run(settings, own_lfw).stdout


@pytest.mark.slow
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
        (["--compare", "default,other"], NotFoundError, "no model pack 'other'"),
        (["--compare", "default"], InputError, "two packs or more"),
        (["--compare", "default,default"], InputError, "each once"),
        (["--compare", "a,b", "--pack", "default"], InputError, "neither --pack nor --plot"),
        (["--compare", "a,b", "--plot", "x.png"], InputError, "neither --pack nor --plot"),
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


@pytest.mark.slow
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
