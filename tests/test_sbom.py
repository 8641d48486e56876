"""``make sbom``: valid, complete, the same each time, and with nothing of the machine that made it."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

from facesvc.models import catalog, default_pack

ROOT = Path(__file__).resolve().parent.parent
LOCK = (ROOT / "requirements-plugins.lock").read_text()
PINNED = re.compile(r"^([a-z0-9-]+)==([^ ]+) .*\\\n((?:    --hash=.*\n)+)", re.MULTILINE)


def write(file: Path, **environment: str) -> str:
    subprocess.run(
        [sys.executable, "-W", "error", ROOT / "deploy/sbom.py", file],
        cwd=file.parent,
        env=os.environ | environment,
        check=True,
        timeout=60,
    )
    return file.read_text()


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> str:
    return write(tmp_path_factory.mktemp("sbom") / "sbom.json")


@pytest.fixture(scope="module")
def bill(text: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(text)
    return found


def components(of: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for component in of.get("components", []):
        yield component
        yield from components(component)


def hashes(component: dict[str, Any]) -> set[str]:
    assert {one["alg"] for one in component.get("hashes", [])} <= {"SHA-256"}
    return {one["content"] for one in component.get("hashes", [])}


def test_it_is_what_the_schema_says(text: str) -> None:
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(text) is None


def test_every_pinned_package_is_in_it_with_its_hashes(bill: dict[str, Any]) -> None:
    pinned = {
        (name, version): set(re.findall(r"sha256:([0-9a-f]{64})", lines))
        for name, version, lines in PINNED.findall(LOCK)
    }
    assert len(pinned) == len(re.findall(r"^[a-z]", LOCK, re.MULTILINE))
    found = {
        (one["name"], one["version"]): hashes(one)
        for one in bill["components"]
        if one["type"] == "library" and not one["name"].startswith("facesvc")
    }
    assert found == pinned
    for one in bill["components"]:
        if one["type"] == "library":
            assert one["purl"] == one["bom-ref"] == f"pkg:pypi/{one['name']}@{one['version']}"


def test_facesvc_and_its_plugins_are_in_it(bill: dict[str, Any]) -> None:
    own = bill["metadata"]["component"]
    assert (own["name"], own["type"]) == ("facesvc", "application")
    plugins = {path.parent.name for path in ROOT.glob("plugins/*/pyproject.toml")}
    assert {one["name"] for one in bill["components"]} >= {f"facesvc-{name}" for name in plugins}
    needed = {one["ref"]: one.get("dependsOn", []) for one in bill["dependencies"]}
    assert {"pack:default", "pkg:pypi/onnxruntime@" + version_of("onnxruntime")} <= set(needed[own["bom-ref"]])
    assert own["bom-ref"] in needed[f"pkg:pypi/facesvc-door@{own['version']}"]


def version_of(name: str) -> str:
    match = re.search(rf"^{name}==([^ ]+)", LOCK, re.MULTILINE)
    assert match
    return match[1]


def test_every_model_is_in_it_with_hash_and_licence(bill: dict[str, Any]) -> None:
    models = {one["bom-ref"]: one for one in components(bill) if one["type"] == "machine-learning-model"}
    for role, source in default_pack.WEIGHTS.items():
        assert hashes(models[f"pack:default/{role}"]) == {source.sha256}
    for entry in catalog.ENTRIES.values():
        assert models[f"pack:{entry.name}"]["licenses"]
        for remote in entry.remotes:
            one = models[f"pack:{entry.name}/{remote.name}"]
            assert hashes(one) == ({remote.sha256} if remote.sha256 else set())
            assert remote.sha256 or "pinned on a box" in one["properties"][0]["value"]
            assert remote.licence in json.dumps(one["licenses"])
    assert hashes(next(one for one in components(bill) if one["bom-ref"] == "pack:default/group")) == {
        default_pack.PICTURES["group"].sha256
    }


def test_licences_are_known_of_what_is_installed(bill: dict[str, Any]) -> None:
    unknown = {one["name"] for one in bill["components"] if "licenses" not in one}
    assert len(unknown) <= 8  # one says none, and some are locked for another Python than this one
    assert (
        max(len(one.get("license", {}).get("name", "")) for c in bill["components"] for one in c.get("licenses", []))
        <= 80
    )


@pytest.mark.slow
def test_it_is_the_same_each_time(text: str, tmp_path: Path) -> None:
    assert write(tmp_path / "again.json", PYTHONHASHSEED="7", TZ="Pacific/Auckland", LC_ALL="C") == text
    assert "timestamp" not in json.loads(text)["metadata"]


@pytest.mark.slow
def test_its_serial_number_is_a_hash_of_the_rest(text: str, tmp_path: Path) -> None:
    """In a copy of the tree with one hash less."""
    for name in ("deploy", "plugins"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("tests", "__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    (tmp_path / "requirements-plugins.lock").write_text(re.sub(r"    --hash=.*\\\n", "", LOCK, count=1))
    subprocess.run([sys.executable, tmp_path / "deploy/sbom.py", tmp_path / "out.json"], check=True, timeout=60)
    other = json.loads((tmp_path / "out.json").read_text())
    assert other["serialNumber"] != json.loads(text)["serialNumber"]


def test_nothing_of_this_machine_and_no_index_is_in_it(text: str) -> None:
    hosts = set(re.findall(r"https?://([^/\"]+)", text))
    assert hosts == {"cyclonedx.org", "github.com"}  # the schema, and where the models of the catalogue were published
    for own in (str(ROOT), str(Path.home()), sys.prefix, os.uname().nodename):
        assert f"{own}/" not in text
    assert "pypi.org" not in text
    assert "file:" not in text
