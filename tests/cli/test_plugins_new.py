"""``facesvc plugins new``: what it writes is a plugin that works."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import typer

from facesvc.cli import console, plugins_new
from facesvc.delivery.roll import Installed
from facesvc.errors import AlreadyExistsError, InputError

ROOT = Path(__file__).parents[2]
SHORTEST, LONGEST = "a", "z" * 40


@pytest.fixture(scope="module")
def skeleton(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Writes the plugin of that name, once: its folder."""
    made: dict[str, Path] = {}

    def make(name: str) -> Path:
        if name not in made:
            made[name] = tmp_path_factory.mktemp("plugin") / name
            plugins_new.new(name, made[name])
        return made[name]

    return make


def run(folder: Path, *command: str, **environment: str) -> None:
    """Run a Python module in a folder; what it says is shown where it fails."""
    done = subprocess.run(
        [sys.executable, "-m", *command],
        cwd=folder,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=80,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("name", [SHORTEST, "my-door", LONGEST])
def test_its_style_is_kept(skeleton: Callable[[str], Path], name: str) -> None:
    run(skeleton(name), "ruff", "check", "--no-cache")
    run(skeleton(name), "ruff", "format", "--check", "--no-cache")


def test_it_keeps_the_rules_of_this_project(skeleton: Callable[[str], Path]) -> None:
    # But for the order of imports: there facesvc is somebody else's.
    rules = ["--config", str(ROOT / "pyproject.toml"), "--ignore", "I001"]
    run(skeleton("my-door"), "ruff", "check", "--no-cache", *rules, "facesvc_my_door")


@pytest.mark.slow
def test_its_types_are_right(skeleton: Callable[[str], Path], tmp_path: Path) -> None:
    options = ["--cache-dir", str(tmp_path), "--explicit-package-bases", "facesvc_my_door", "tests"]
    run(skeleton("my-door"), "mypy", *options, MYPYPATH=f"{ROOT}:tests")


@pytest.mark.slow
def test_its_tests_pass(skeleton: Callable[[str], Path]) -> None:
    run(skeleton("my-door"), "pytest", "-q", "-p", "no:cacheprovider")


def test_its_files_are_named_after_it(skeleton: Callable[[str], Path]) -> None:
    folder = skeleton("my-door")
    # Python and the tests left files of their own.
    found = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file() and path.suffix != ".pyc"}
    assert found == {
        "README.md",
        "facesvc_my_door/__init__.py",
        "facesvc_my_door/plugin.py",
        "facesvc_my_door/py.typed",
        "facesvc_my_door/settings.py",
        "pyproject.toml",
        "tests/my_door_harness.py",
        "tests/test_my_door.py",
        "tests/test_my_door_contract.py",
    }
    texts = {name: (folder / name).read_text() for name in found}
    assert not [name for name, text in texts.items() if "$" in text or "NAME" in text]
    assert 'my-door = "facesvc_my_door:PLUGIN"' in texts["pyproject.toml"]


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text("mine")
    with pytest.raises(AlreadyExistsError, match=r"has README\.md already"):
        plugins_new.new("my-door", tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["README.md"]
    assert (tmp_path / "README.md").read_text() == "mine"


def test_a_folder_with_other_files_is_used(tmp_path: Path) -> None:
    (tmp_path / "LICENSE").write_text("mine")
    plugins_new.new("my-door", tmp_path)
    assert (tmp_path / "pyproject.toml").is_file()


def test_without_a_folder_it_is_written_here_and_says_how_to_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    app = typer.Typer()
    app.command()(plugins_new.new)
    with pytest.raises(SystemExit) as left:
        console.run(app, ["my-door"])
    assert left.value.code == 0
    assert (tmp_path / "my-door" / "pyproject.toml").is_file()
    said = capsys.readouterr().out
    assert "pip install -e my-door " in said
    assert "[plugins.my-door]" in said


@pytest.mark.parametrize(
    "name",
    ["", "My-Door", "my_door", "my--door", "-door", "door-", "1door", "my.door", "../door", "tür", "z" * 41, "a\n"],
)
def test_other_names_are_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is no name for a plugin"):
        plugins_new.new(name, tmp_path / "new")
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("name", plugins_new.OURS)
def test_names_of_this_project_are_taken(name: str, tmp_path: Path) -> None:
    with pytest.raises(AlreadyExistsError, match=f"a plugin {name} already"):
        plugins_new.new(name, tmp_path / "new")


def test_a_name_that_is_installed_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def found() -> list[Installed]:
        return [Installed("my-door", "1.0", None, "broken, but there")]

    monkeypatch.setattr(plugins_new, "installed", found)
    with pytest.raises(AlreadyExistsError, match="my-door"):
        plugins_new.new("my-door", tmp_path / "new")


def test_a_module_of_that_name_is_in_the_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "facesvc_my_door.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(AlreadyExistsError, match="my-door"):
        plugins_new.new("my-door", tmp_path / "new")
