"""``facesvc models``: what is there, building it, and finding damage."""

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from models import tiny_packs
from typer.testing import CliRunner, Result

from facesvc.cli.models import app
from facesvc.config import LivenessSettings, ModelSettings, Settings
from facesvc.errors import InputError, NotFoundError, PreconditionError
from facesvc.models import catalog, default_pack, packs
from facesvc.models.figures import Figures
from facesvc.models.library import Library


@pytest.fixture
def own(settings: Settings, pack_cache: Path, tmp_path: Path) -> Settings:
    """Settings with a copy of the pack that may be harmed."""
    shutil.copytree(pack_cache / "default", tmp_path / "own" / "default")
    return settings.model_copy(update={"models": ModelSettings(cache_dir=tmp_path / "own")})


def run(settings: Settings, *arguments: str) -> Result:
    return CliRunner(env={"COLUMNS": "200"}).invoke(app, list(arguments), obj=settings)


def size_of(settings: Settings) -> int:
    return sum(path.stat().st_size for path in (settings.models.cache_dir / "default").glob("*.onnx"))


def copy_of_default(settings: Settings, name: str) -> Path:
    """A pack of that name with the files of the default one; its folder."""
    pack = packs.load_manifest(settings.models.cache_dir / "default")
    contents = [(file.name, pack.path(file.name).read_bytes()) for file in pack.files]
    return Library(settings.models.cache_dir).install(replace(pack, name=name), contents).folder


def harm(settings: Settings) -> None:
    graph = settings.models.cache_dir / "default" / "onet.onnx"
    content = bytearray(graph.read_bytes())
    content[-1] ^= 1
    graph.write_bytes(content)


def listed(settings: Settings) -> dict[str, dict[str, Any]]:
    """What ``list`` says, by the name of the pack."""
    return {pack["name"]: pack for pack in json.loads(run(settings, "list", "--json").stdout)}


def test_list_names_everything_about_a_whole_pack(settings: Settings) -> None:
    pack = listed(settings)["default"]
    assert pack.pop("size_bytes") == size_of(settings)
    assert pack.pop("calibration").startswith("LFW")
    assert pack.pop("impostor_pairs") > 1000
    assert {"mtcnn 1.0.0: MIT", "face_recognition_models 0.3.0: CC0-1.0"} <= set(pack.pop("licences"))
    assert pack == {
        "name": "default",
        "kind": "recognition",
        "active": True,
        "state": "whole",
        "accepted": [],
        "dimension": 128,
        "contract_id": default_pack.contract_id(),
        "accuracy": None,
        "data_set": None,
        "has_previous": False,
    }


def test_list_as_a_table(settings: Settings) -> None:
    result = run(settings, "list")
    assert result.exit_code == 0
    size = f"{size_of(settings) / 1e6:.1f} MB"
    for part in ("default", "yes", "whole", "mtcnn 1.0.0: MIT", size, "128", default_pack.contract_id(), "impostor"):
        assert part in result.stdout


def test_list_has_what_can_be_pulled(settings: Settings) -> None:
    known = listed(settings)
    assert next(iter(known)) == "default"
    assert {name for name, pack in known.items() if pack["state"] == "available"} == set(catalog.ENTRIES)
    assert known["yunet_sface"]["size_bytes"] == 38_928_942
    assert known["buffalo_l"]["licences"] == ["insightface model-zoo: non-commercial research"]


def test_list_before_anything_was_built(settings: Settings, tmp_path: Path) -> None:
    empty = settings.model_copy(update={"models": ModelSettings(cache_dir=tmp_path / "none", pack="other")})
    pack = listed(empty)["default"]
    assert (pack["state"], pack["active"], pack["size_bytes"], pack["dimension"]) == ("not built yet", False, None, 128)
    assert pack["licences"]
    missing = listed(empty)["other"]
    assert (missing["state"], missing["active"]) == ("not there", True)
    assert run(empty, "list").exit_code == 0
    assert not (tmp_path / "none").exists()


def test_list_shows_damage_and_other_packs(own: Settings) -> None:
    cache_dir = own.models.cache_dir
    copy_of_default(own, "another")
    copy_of_default(own, "chosen-one")
    Library(cache_dir).choose("chosen-one")
    shutil.copytree(cache_dir / "default", cache_dir / ".default.old")
    shutil.copytree(cache_dir / "default", cache_dir / "misnamed")
    shutil.copytree(cache_dir / "default", cache_dir / "no name for a pack")
    (cache_dir / "broken").mkdir()
    (cache_dir / "broken" / packs.MANIFEST).write_text("{")
    (cache_dir / "no pack").mkdir()
    harm(own)
    found = {
        name: (pack["state"], pack["active"]) for name, pack in listed(own).items() if pack["state"] != "available"
    }
    assert found == {
        "default": ("damaged", False),
        "another": ("whole", False),
        "broken": ("damaged", False),
        "chosen-one": ("whole", True),
        "misnamed": ("damaged", False),
    }
    assert run(own, "list").exit_code == 0


def test_list_has_what_was_measured_here(own: Settings) -> None:
    contract_id = default_pack.contract_id()
    figures = Figures(0.9903, 0.002, 0.97, 0.96, (), "LFW", "2026-11-21T12:00:00+00:00")
    library = Library(own.models.cache_dir)
    library.record(contract_id, figures)
    assert (listed(own)["default"]["accuracy"], listed(own)["default"]["data_set"]) == (0.9903, "LFW")
    assert "accuracy 99.03%, measured here on LFW" in run(own, "list").stdout
    (own.models.cache_dir / "figures" / f"{contract_id}.json").write_text("{")
    result = run(own, "list")
    assert result.exit_code == 0
    assert "evaluate the pack again" in result.stderr


def test_build_leaves_a_whole_pack_alone(own: Settings) -> None:
    report = json.loads(run(own, "build", "--json").stdout)
    assert report.pop("seconds") < 1
    assert report == {"pack": "default", "folder": str(own.models.cache_dir / "default"), "built": False}
    assert "already there and whole" in run(own, "build").stdout


@pytest.mark.slow
def test_build_repairs(own: Settings) -> None:
    harm(own)
    result = run(own, "build")
    assert result.exit_code == 0
    assert re.search(r"default: built in \d+\.\d s, \d+\.\d MB, in ", result.stdout)
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
    assert (result.exit_code, result.stdout.partition(", in ")[0]) == (
        0,
        f"default: 4 files, {size_of(settings) / 1e6:.1f} MB, all whole",
    )
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
    assert isinstance(result.exception, InputError)
    assert ("only default" if name == "other" else "cannot be the name of a pack") in str(result.exception)


def test_verify_another_pack_does_not_point_at_build(own: Settings) -> None:
    (copy_of_default(own, "another") / "rnet.onnx").unlink()
    result = run(own, "verify", "another")
    assert result.exit_code == 1
    assert "`facesvc models pull another` or `facesvc models add` puts it in place again" in result.stdout


def test_verify_what_was_measured_for_a_pack(own: Settings) -> None:
    folder = own.models.cache_dir / "calibrations"
    folder.mkdir()
    (folder / f"{default_pack.contract_id()}.json").write_text("{")
    result = run(own, "verify")
    assert result.exit_code == 1
    assert "calibrate pack default again" in result.stdout


def test_verify_takes_the_chosen_pack(own: Settings) -> None:
    copy_of_default(own, "another")
    Library(own.models.cache_dir).choose("another")
    assert run(own, "verify").stdout.startswith("another: 4 files")


def test_a_pack_of_kind_liveness_is_listed_and_verified_but_not_used(own: Settings, tmp_path: Path) -> None:
    folder = tiny_packs.write_liveness(tmp_path / "brought")
    added = run(own, "add", str(folder))
    assert "alive: added, 0.0 MB, tells living faces from pictures, in" in added.stdout
    assert 'alive: not in use; pack = "alive" under [liveness] in the settings chooses it' in added.stdout
    pack = listed(own)["alive"]
    assert (pack["kind"], pack["state"], pack["active"], pack["contract_id"]) == ("liveness", "whole", False, None)
    assert "never measured" not in run(own, "list").stdout
    assert "alive: 2 files" in run(own, "verify", "alive").stdout
    refusal = run(own, "use", "alive").exception
    assert isinstance(refusal, NotFoundError)
    assert "name it as pack under [liveness]" in str(refusal)
    fixed = own.model_copy(update={"models": own.models.model_copy(update={"pack": "default"})})
    assert "name it as pack under [liveness]" in str(run(fixed, "use", "alive").exception)
    chosen = own.model_copy(update={"liveness": LivenessSettings(pack="alive")})
    assert listed(chosen)["alive"]["active"]
    assert listed(chosen)["default"]["active"]
    assert "in use after a restart of the server" in run(chosen, "add", str(folder)).stdout
    assert isinstance(run(chosen, "remove", "alive").exception, PreconditionError)
    assert json.loads(run(own, "remove", "alive", "--json").stdout) == {"pack": "alive", "removed": True}
    missing = listed(chosen)["alive"]
    assert (missing["kind"], missing["state"], missing["active"]) == ("liveness", "not there", True)
