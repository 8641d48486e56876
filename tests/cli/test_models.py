"""``facesvc models``: what is there, building it, and finding damage."""

import json
import re
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from facesvc.cli.models import app
from facesvc.config import ModelSettings, Settings
from facesvc.errors import NotFoundError
from facesvc.models import default_pack, packs


@pytest.fixture
def own(settings: Settings, pack_cache: Path, tmp_path: Path) -> Settings:
    """Settings with a copy of the pack that may be harmed."""
    shutil.copytree(pack_cache / "default", tmp_path / "own" / "default")
    return settings.model_copy(update={"models": ModelSettings(cache_dir=tmp_path / "own")})


def run(settings: Settings, *arguments: str) -> Result:
    return CliRunner(env={"COLUMNS": "200"}).invoke(app, list(arguments), obj=settings)


def harm(settings: Settings) -> None:
    graph = settings.models.cache_dir / "default" / "onet.onnx"
    content = bytearray(graph.read_bytes())
    content[-1] ^= 1
    graph.write_bytes(content)


def test_list_names_everything_about_a_whole_pack(settings: Settings) -> None:
    (pack,) = json.loads(run(settings, "list", "--json").stdout)
    assert pack.pop("size_bytes") > 20e6
    assert pack == {
        "name": "default",
        "active": True,
        "state": "whole",
        "licences": ["mtcnn 1.0.0: MIT", "face_recognition_models 0.3.0: CC0-1.0"],
        "dimension": 128,
        "contract_id": default_pack.contract_id(),
    }


def test_list_as_a_table(settings: Settings) -> None:
    result = run(settings, "list")
    assert result.exit_code == 0
    for part in ("default", "yes", "whole", "mtcnn 1.0.0: MIT", "24.4 MB", "128", default_pack.contract_id()):
        assert part in result.stdout


def test_list_before_anything_was_built(settings: Settings, tmp_path: Path) -> None:
    empty = settings.model_copy(update={"models": ModelSettings(cache_dir=tmp_path / "none", pack="other")})
    (pack,) = json.loads(run(empty, "list", "--json").stdout)
    assert (pack["state"], pack["active"], pack["size_bytes"], pack["dimension"]) == ("not built yet", False, None, 128)
    assert len(pack["licences"]) == 2
    assert not (tmp_path / "none").exists()


def test_list_shows_damage_and_other_packs(own: Settings) -> None:
    cache_dir = own.models.cache_dir
    shutil.copytree(cache_dir / "default", cache_dir / "another")
    shutil.copytree(cache_dir / "default", cache_dir / ".default.old")
    (cache_dir / "broken").mkdir()
    (cache_dir / "broken" / packs.MANIFEST).write_text("{")
    (cache_dir / "no pack").mkdir()
    harm(own)
    listed = json.loads(run(own, "list", "--json").stdout)
    assert [(pack["name"], pack["state"]) for pack in listed] == [
        ("default", "damaged"),
        ("another", "whole"),
        ("broken", "damaged"),
    ]
    assert run(own, "list").exit_code == 0


def test_build_leaves_a_whole_pack_alone(own: Settings) -> None:
    report = json.loads(run(own, "build", "--json").stdout)
    assert report.pop("seconds") < 1
    assert report == {"pack": "default", "folder": str(own.models.cache_dir / "default"), "built": False}
    assert "already there and whole" in run(own, "build").stdout


def test_build_repairs(own: Settings) -> None:
    harm(own)
    result = run(own, "build")
    assert result.exit_code == 0
    assert re.search(r"default: built in \d+\.\d s, 24\.4 MB, in ", result.stdout)
    assert packs.verify(own.models.cache_dir / "default") == []


def test_build_by_force(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[bool] = []

    def fake(cache_dir: Path, *, force: bool) -> packs.Pack:
        asked.append(force)
        return packs.load_manifest(cache_dir / "default")

    monkeypatch.setattr(default_pack, "build", fake)
    run(settings, "build", "--force")
    run(settings, "build")
    assert asked == [True, False]


def test_verify_a_whole_pack(settings: Settings) -> None:
    result = run(settings, "verify")
    assert (result.exit_code, result.stdout.partition(", in ")[0]) == (0, "default: 4 files, 24.4 MB, all whole")
    report = json.loads(run(settings, "verify", "default", "--json").stdout)
    assert (report["whole"], report["problems"]) == (True, [])


def test_verify_names_the_damage_and_the_cure(own: Settings) -> None:
    harm(own)
    (own.models.cache_dir / "default" / "pnet.onnx").unlink()
    result = run(own, "verify")
    assert result.exit_code == 1
    assert "default: onet.onnx has another SHA-256 than the manifest says" in result.stdout
    assert "default: pnet.onnx cannot be read: No such file or directory" in result.stdout
    assert "`facesvc models build` writes it anew" in result.stdout
    as_json = run(own, "verify", "--json")
    report = json.loads(as_json.stdout)
    assert (as_json.exit_code, report["whole"], len(report["problems"])) == (1, False, 2)


def test_verify_what_was_never_built(settings: Settings, tmp_path: Path) -> None:
    empty = settings.model_copy(update={"models": ModelSettings(cache_dir=tmp_path / "none")})
    result = run(empty, "verify")
    assert result.exit_code == 1
    assert "manifest.json is missing" in result.stdout


@pytest.mark.parametrize("name", ["other", "../packs/default", "."])
def test_verify_a_pack_that_is_not_there(settings: Settings, name: str) -> None:
    result = run(settings, "verify", name)
    assert isinstance(result.exception, NotFoundError)
    assert "only default" in str(result.exception)


def test_verify_another_pack_does_not_point_at_build(own: Settings) -> None:
    cache_dir = own.models.cache_dir
    shutil.copytree(cache_dir / "default", cache_dir / "another")
    (cache_dir / "another" / "rnet.onnx").unlink()
    result = run(own, "verify", "another")
    assert result.exit_code == 1
    assert "put the pack in place again" in result.stdout
