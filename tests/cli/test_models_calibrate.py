"""``facesvc models calibrate``: six people through the real networks, and folders that are not enough."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import simplejpeg
import typer
from cli.views import portraits, view_of
from typer.testing import CliRunner, Result

from facesvc.cli import commands, models_calibrate
from facesvc.cli.evaluation import Look
from facesvc.cli.models_calibrate import Looked, Shown
from facesvc.config import EnrollmentSettings, ModelSettings, PolicySettings, Settings
from facesvc.engine import library
from facesvc.errors import InputError, NotFoundError
from facesvc.models.calibration import Calibration, OperatingPoint, bounds
from facesvc.models.default_pack import CALIBRATION


@pytest.fixture(scope="session")
def people(pack_cache: Path, group_jpeg: bytes, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four photos of each of six people; do not change its files."""
    folder = tmp_path_factory.mktemp("office")
    for name, pixels in zip("ABCDEF", portraits(group_jpeg, pack_cache), strict=True):
        (folder / name).mkdir()
        for number in (1, 2, 3, 4):
            (folder / name / f"{number}.jpg").write_bytes(view_of(pixels, number))
    return folder


@pytest.fixture
def own(pack_cache: Path, tmp_path: Path) -> Settings:
    """The default pack in a cache folder where a calibration may be left."""
    (tmp_path / "packs").mkdir()
    (tmp_path / "packs" / "default").symlink_to(pack_cache / "default")
    return Settings(
        models=ModelSettings(cache_dir=tmp_path / "packs"),
        enrollment=EnrollmentSettings(conflict_false_match_rate=0.02),
        policies={
            "presence": PolicySettings(false_match_rate=0.05),
            "access": PolicySettings(false_match_rate=1e-4),
            "guess": PolicySettings(false_match_rate=1e-5, extrapolate=True),
        },
    )


def run(settings: Settings, *arguments: object) -> Result:
    app = typer.Typer()
    app.command()(models_calibrate.calibrate)
    return CliRunner().invoke(app, [str(argument) for argument in arguments], obj=settings)


def wall() -> bytes:
    """A picture of nobody."""
    return bytes(simplejpeg.encode_jpeg(np.full((150, 150, 3), 90, np.uint8)))


def empty_people(folder: Path, sizes: dict[str, int]) -> Path:
    """Folders with so many files each; nobody looks into them."""
    for name, size in sizes.items():
        (folder / name).mkdir(parents=True)
        for number in range(size):
            (folder / name / f"{number}.jpg").touch()
    return folder


def test_the_table_is_told_and_kept(own: Settings, people: Path, tmp_path: Path) -> None:
    folder = tmp_path / "office"
    folder.mkdir()
    for person in people.iterdir():
        (folder / person.name).symlink_to(person)
    (folder / "G").mkdir()
    (folder / "G" / "wall.jpg").write_bytes(wall())
    (folder / "G" / "broken.jpg").write_bytes(b"\xff\xd8\xff\xe0 no picture")
    (folder / "loose.jpg").write_bytes(wall())
    result = run(own, "default", "--images", folder, "--json")
    assert result.exit_code == 0, result.output
    told = json.loads(result.stdout)
    assert (told["pack"], told["people"], told["pictures"]) == ("default", 6, 24)
    assert (told["impostor_pairs"], told["genuine_pairs"]) == (24 * 20, 24 * 3)
    assert told["without_face"] == [str(folder / "G" / "wall.jpg")]
    assert len(told["unreadable"]) == 1
    table = told["calibration"]
    assert [line["fmr"] for line in table] == pytest.approx([0.1, 0.03, 0.01, 3 / 480])
    assert table[0]["fmr_bounds"] == list(bounds(48, 480))
    assert table[0]["tmr_bounds"] == list(bounds(round(table[0]["tmr"] * 72), 72))
    assert all(0.7 < line["similarity"] <= 1 and line["tmr"] > 0.5 for line in table)
    kept = library(own).peek("default").calibration
    assert kept.points == tuple(OperatingPoint(line["fmr"], line["similarity"], line["tmr"]) for line in table)
    assert (kept.impostor_pairs, kept.genuine_pairs) == (480, 72)
    assert kept.source == "office, 6 people on 24 pictures, each against every other"
    assert "broken.jpg" in result.stderr
    assert "no person's folder" in result.stderr
    # The rates of the settings that are out of reach now are named, and no others.
    assert "policies.access.false_match_rate is 0.0001" in result.stderr
    assert result.stderr.count("this table ends at") == 1


def test_the_table_for_people(own: Settings) -> None:
    table = models_calibrate.as_rich(CALIBRATION, "default")
    assert table.row_count == len(CALIBRATION.points)
    assert (
        str(table.caption) == f"{CALIBRATION.impostor_pairs:,} impostor and {CALIBRATION.genuine_pairs:,} genuine pairs"
    )
    assert models_calibrate.percent_bounds((0.97, 0.991)) == "97.0 to 99.1 %"


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ({}, "of 0 people: two are the least"),
        ({"A": 50, "B": 0}, "of 1 people: two are the least"),
        (
            {"A": 10, "B": 10},
            r"20 pictures of 2 people, which make 200 comparisons .* 0\.01 takes 300, about 25 pictures",
        ),
        ({"A": 1, "B": 299}, None),
        (dict.fromkeys(map(str, range(18)), 1), "one picture of each person"),
    ],
)
def test_folders_that_are_not_enough(sizes: dict[str, int], message: str | None, own: Settings, tmp_path: Path) -> None:
    folder = empty_people(tmp_path / "people", sizes)
    folder.mkdir(exist_ok=True)
    shown = models_calibrate.find_pictures(folder)
    counts = {name: size for name, size in sizes.items() if size}
    assert [len([one for one in shown if one.person == name]) for name in counts] == list(counts.values())
    if message is None:
        models_calibrate.check_enough(counts.values(), folder)
        return
    with pytest.raises(InputError, match=message):
        raise run(own, "default", "--images", folder).exception or AssertionError("nothing was raised")
    assert library(own).peek("default").calibration == CALIBRATION


def test_what_is_promised_to_be_enough_is_enough(tmp_path: Path) -> None:
    models_calibrate.check_enough([13, 12], tmp_path)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (("other", "--images", "."), NotFoundError, "no model pack 'other'"),
        (("default", "--images", "none"), InputError, "none is no folder"),
        (("default", "--images", ".", "--minimum-face", "5"), InputError, "12 to 4096 pixels"),
    ],
)
def test_options_that_cannot_be(
    arguments: tuple[str, ...],
    error: type[Exception],
    message: str,
    own: Settings,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(empty_people(tmp_path / "people", {"A": 20, "B": 20}))
    with pytest.raises(error, match=message):
        raise run(own, *arguments).exception or AssertionError("nothing was raised")


def looked(vectors: Callable[[int], tuple[float, float]]) -> Looked:
    """Twenty people with two pictures each, with these vectors in the plane."""
    found = []
    for person in range(20):
        vector = np.array(vectors(person), np.float32)
        found += [(Shown(str(person), Path(str(number))), Look(vector, vector)) for number in range(2)]
    return Looked(tuple(found), (), ())


def test_people_apart_are_told_apart(tmp_path: Path) -> None:
    table = models_calibrate.calibration_of(looked(lambda person: (np.cos(person / 20), np.sin(person / 20))), tmp_path)
    assert (table.impostor_pairs, table.genuine_pairs) == (40 * 38, 40)
    assert {point.tmr for point in table.points} == {1.0}
    similarities = np.cos(np.abs(np.subtract.outer(np.arange(40) // 2, np.arange(40) // 2)) / 20)
    impostor = similarities[similarities < 1 - 1e-9]
    for point in table.points:
        assert np.mean(impostor >= point.similarity) <= point.fmr


def test_pictures_that_are_all_the_same_tell_nobody_apart(own: Settings, tmp_path: Path) -> None:
    table = models_calibrate.calibration_of(looked(lambda person: (1.0, 0.0)), tmp_path)
    assert table == Calibration((), 1520, 40, table.source)
    models = models_calibrate.load_for_measuring(own, "default")
    with pytest.raises(InputError, match="pictures of different people are the same"):
        models_calibrate.keep(own, models, table)
    assert library(own).peek("default").calibration == CALIBRATION


@pytest.mark.usefixtures("no_logs")
def test_the_command_is_registered() -> None:
    assert CliRunner().invoke(commands.app, ["models", "calibrate", "--help"]).exit_code == 0
