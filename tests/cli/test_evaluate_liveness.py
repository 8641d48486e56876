"""``facesvc evaluate --liveness``: errors by kind, on real pictures and on attacks made of them."""

import json
import re
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
import typer
from models import tiny_packs
from typer.testing import CliRunner, Result

from facesvc.cli import evaluate, evaluate_liveness
from facesvc.cli.evaluate_liveness import Presentation, grouped
from facesvc.cli.pictures import pixels_of, write
from facesvc.config import ModelSettings, Settings
from facesvc.errors import FacesvcError, InputError, NotFoundError
from facesvc.models import intake
from facesvc.models.library import Library

NOW = datetime(2026, 5, 4, 12, 30, tzinfo=UTC)


@pytest.fixture
def settings(pack_cache: Path, tmp_path: Path) -> Settings:
    """The default pack, and ``alive``, to which what is green is genuine."""
    (tmp_path / "packs").mkdir()
    (tmp_path / "packs" / "default").symlink_to(pack_cache / "default")
    library = Library(tmp_path / "packs")
    folder = tiny_packs.write_liveness(tmp_path / "brought")
    intake.draft(folder, "", library, accepted=False, now=NOW).install(library)
    return Settings(models=ModelSettings(cache_dir=library.folder))


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Few and short tracks."""
    monkeypatch.setattr(evaluate_liveness, "FRAMES", 2)
    monkeypatch.setattr(evaluate_liveness, "_TAKES", 2)


@pytest.fixture
def folder(group_jpeg: bytes, tmp_path: Path) -> Path:
    """A face in green, another in red, and a wall."""
    folder = tmp_path / "shown"
    folder.mkdir()
    pixels = pixels_of(group_jpeg)[:440, 760:]
    for name, tint in {"genuine": (0.7, 1.0, 0.7), "spoof_print_1": (1.0, 0.6, 0.6)}.items():
        write(folder / f"{name}.png", np.clip(pixels * tint, 0, 255).astype(np.uint8))
    write(folder / "spoof_print_2.png", np.full((200, 200, 3), 90, np.uint8))
    write(folder / "readme.png", np.full((20, 20, 3), 90, np.uint8))
    return folder


def run(settings: Settings, *arguments: object) -> Result:
    app = typer.Typer()
    app.command()(evaluate.evaluate)
    return CliRunner(env={"COLUMNS": "200"}).invoke(app, [str(one) for one in arguments], obj=settings)


def refusal(settings: Settings, *arguments: object) -> FacesvcError:
    error = run(settings, *arguments).exception
    assert isinstance(error, FacesvcError)
    return error


def test_scores_are_counted_by_kind() -> None:
    shown = [
        *(Presentation("people", genuine=True, simulated=False, score=score) for score in (0.9, 0.5, 0.4, None)),
        *(Presentation("print", genuine=False, simulated=False, score=score) for score in (0.5, 0.1)),
        Presentation("screen", genuine=False, simulated=True, score=None),
    ]
    people, print_, screen = grouped(shown, 0.5)
    assert (people.kind, people.error_rate, people.without_face) == ("people", pytest.approx(1 / 3), 1)
    assert people.quantiles["0.5"] == 0.5
    assert (print_.kind, print_.error_rate, print_.scores) == ("print", 0.5, (0.5, 0.1))
    assert (screen.kind, screen.error_rate, screen.quantiles, screen.without_face) == ("screen", None, {}, 1)


@pytest.mark.slow
def test_the_figures_as_json(settings: Settings, folder: Path) -> None:
    result = run(settings, "--liveness", folder, "--pack", "alive", "--json")
    assert result.exit_code == 0, result.exception
    assert "skipped, named neither genuine nor spoof_KIND: readme.png" in result.stderr
    figures = json.loads(result.stdout)
    assert (figures["pack"], figures["detector"], figures["threshold"]) == ("alive", "default", 0.5)
    by_kind = {one["kind"]: one for one in figures["presentations"]}
    assert list(by_kind) == [
        "people of a group", "pictures of shown", "filmed still",
        "print, real", "close-up photo", "held-up photo", "screen replay",
    ]  # fmt: skip
    assert (by_kind["pictures of shown"]["bpcer"], by_kind["pictures of shown"]["scored"]) == (0, 1)
    assert (by_kind["print, real"]["apcer"], by_kind["print, real"]["without_face"]) == (0, 1)
    assert by_kind["people of a group"]["scored"] == 6
    # Two of each kind, of the green face and of those of the six.
    assert by_kind["held-up photo"]["scored"] + by_kind["held-up photo"]["without_face"] == 2 * 7
    assert all(("apcer" in one) != one["genuine"] for one in by_kind.values())
    assert "too few to certify" in figures["note"]


@pytest.mark.slow
def test_a_table_says_what_it_was_measured_on(settings: Settings, folder: Path) -> None:
    settings = settings.model_copy(update={"liveness": settings.liveness.model_copy(update={"pack": "alive"})})
    result = run(settings, "--liveness", folder)
    assert result.exit_code == 0, result.exception
    assert "Liveness pack alive on faces found by default, threshold 0.5" in result.stdout
    assert re.search(
        "1 real attack and [34][0-9] made of still pictures: far too few to certify anything", result.stdout
    )
    assert "BPCER 0.0%" in result.stdout


def test_what_cannot_be_measured_is_refused_at_once(settings: Settings, folder: Path, tmp_path: Path) -> None:
    assert "name a liveness pack" in str(refusal(settings, "--liveness", folder))
    wrong = refusal(settings, "--liveness", folder, "--pack", "default")
    assert isinstance(wrong, NotFoundError)
    assert "for recognition" in str(wrong)
    assert "is no folder" in str(refusal(settings, "--liveness", tmp_path / "absent", "--pack", "alive"))
    (folder / "genuine.png").unlink()
    assert "needs pictures of both kinds" in str(refusal(settings, "--liveness", folder, "--pack", "alive"))
    assert "goes with --pack and --lfw only" in str(refusal(settings, "--liveness", folder, "--calibrate"))
    neither = refusal(settings)
    assert isinstance(neither, InputError)
    assert "--lfw DIR, or --liveness DIR" in str(neither)
