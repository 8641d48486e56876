"""Packs of kind liveness: made of a folder with a pack.toml, kept among the others, and never taken for one of them."""

import json
import re
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from models import tiny_packs

from facesvc.config import LivenessSettings, ModelSettings, Settings
from facesvc.engine import load_liveness
from facesvc.errors import FacesvcError, InputError, NotFoundError, PreconditionError, WeightsError
from facesvc.models import intake
from facesvc.models.library import Library
from facesvc.models.liveness_packs import LivenessNetwork, LivenessPack
from facesvc.models.packs import (
    MANIFEST,
    dump_manifest,
    is_manifest,
    kind_of,
    load_any_manifest,
    load_manifest,
    verify,
)

NOW = datetime(2026, 5, 4, 12, 30, tzinfo=UTC)
ADDON_TOML = """
kind = "liveness"
name = "addon"
licence = "research"
licence_file = "LICENCE"
commercial_use = false
family = "insightface"
networks = [{ file = "liveness.onnx" }]
"""


@pytest.fixture
def library(tmp_path: Path) -> Library:
    return Library(tmp_path / "packs")


def install(folder: Path, library: Library, name: str = "", *, accepted: bool = False) -> LivenessPack:
    pack = intake.draft(folder, name, library, accepted=accepted, now=NOW).install(library)
    assert isinstance(pack, LivenessPack)
    return pack


@pytest.fixture
def alive(library: Library, tmp_path: Path) -> LivenessPack:
    """A pack of two networks, installed."""
    return install(tiny_packs.write_liveness(tmp_path / "brought"), library)


def test_a_folder_becomes_a_pack(alive: LivenessPack, library: Library) -> None:
    assert (alive.name, alive.family, kind_of(alive)) == ("alive", "minifasnet", "liveness")
    assert alive.networks == (LivenessNetwork("network1.onnx", 2.7), LivenessNetwork("network2.onnx", 4.0))
    assert [(source.package, source.file, source.licence) for source in alive.sources] == [
        ("alive", "near.onnx", "MIT"), ("alive", "far.onnx", "MIT"),
    ]  # fmt: skip
    assert alive.licences == ("alive 1: MIT",)
    assert alive.path("network1.onnx").read_bytes() == tiny_packs.minifasnet()
    assert verify(alive.folder) == []
    assert is_manifest(alive.folder)
    assert load_any_manifest(alive.folder) == alive == library.open_liveness("alive") == library.peek_any("alive")
    assert library.names() == ["default", "alive"]


def test_the_add_on_of_insightface_is_another_family(library: Library, tmp_path: Path) -> None:
    (tmp_path / "liveness.onnx").write_bytes(tiny_packs.addon())
    (tmp_path / "pack.toml").write_text(ADDON_TOML)
    (tmp_path / "LICENCE").write_text("Research only.")
    with pytest.raises(PreconditionError, match=r"'research', which has to be accepted .* Research only\."):
        install(tmp_path, library)
    pack = install(tmp_path, library, accepted=True)
    assert (pack.family, pack.networks) == ("insightface", (LivenessNetwork("network1.onnx"),))
    assert [(one.licence, one.time) for one in pack.acceptances] == [("research", "2026-05-04T12:30:00+00:00")]
    assert load_any_manifest(pack.folder) == pack


def test_a_pack_of_another_box_is_copied_under_another_name(alive: LivenessPack, library: Library) -> None:
    copied = install(alive.folder, library, "entrance")
    assert copied == replace(alive, name="entrance", folder=library.folder / "entrance")


@pytest.mark.parametrize("use", [Library.open, Library.peek, Library.choose], ids=["open", "peek", "choose"])
def test_it_is_refused_where_somebody_is_to_be_recognised(
    use: Callable[[Library, str], object], alive: LivenessPack, library: Library
) -> None:
    with pytest.raises(NotFoundError, match=r"recognises nobody: .* name it as pack under \[liveness\]") as refusal:
        use(library, "alive")
    assert refusal.value.reason == "PACK_OF_OTHER_KIND"
    assert library.chosen() == ""
    with pytest.raises(NotFoundError, match="recognises nobody"):
        load_manifest(alive.folder)


def test_it_lends_no_part(alive: LivenessPack, library: Library, tmp_path: Path) -> None:
    folder = tiny_packs.write(tmp_path / "other")
    text = (folder / "pack.toml").read_text()
    (folder / "pack.toml").write_text(text.replace('family = "scrfd"\nfile = "detector.onnx"', 'pack = "alive"'))
    with pytest.raises(NotFoundError, match="recognises nobody"):
        intake.draft(folder, "", library, accepted=False, now=NOW)


def test_one_for_recognition_is_refused_as_liveness(library: Library, tmp_path: Path) -> None:
    pack = intake.draft(tiny_packs.write(tmp_path / "tiny"), "", library, accepted=False, now=NOW).install(library)
    assert kind_of(pack) == "recognition"
    assert "kind" not in json.loads(dump_manifest(pack))
    settings = Settings(models=ModelSettings(cache_dir=library.folder), liveness=LivenessSettings(pack="tiny"))
    with pytest.raises(NotFoundError, match=r"for recognition, .* name another under \[liveness\]"):
        load_liveness(settings)


def test_the_version_before_comes_back(alive: LivenessPack, library: Library, tmp_path: Path) -> None:
    changed = install(tiny_packs.write_liveness(tmp_path / "changed", slope=0.1), library)
    assert changed != alive
    assert library.has_previous("alive")
    assert library.rollback("alive") == alive
    library.remove("alive")
    assert library.names() == ["default"]


def test_damage_is_found(alive: LivenessPack, library: Library) -> None:
    path = alive.path("network2.onnx")
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(WeightsError, match=r"alive is damaged: network2\.onnx has .* bytes"):
        library.open_liveness("alive")
    path.unlink()
    with pytest.raises(WeightsError, match=r"network2\.onnx cannot be read"):
        library.open_any("alive")


@pytest.mark.parametrize(
    ("before", "after", "kind", "message"),
    [
        ('family = "minifasnet"', 'family = "other"', InputError, "family: Input should be 'minifasnet' or"),
        ("scale = 2.7", "scale = 0.5", InputError, r"networks\.0\.scale"),
        ("scale = 2.7", "", InputError, "needs a scale"),
        ('kind = "liveness"', 'kind = "gait"', InputError, "kind: Input should be 'recognition'"),
        ('kind = "liveness"', "", InputError, "detector: Field required"),
        ('family = "minifasnet"', 'family = "minifasnet"\nside = 80', InputError, "side: Extra inputs"),
        ('"near.onnx"', '"absent.onnx"', InputError, r"absent\.onnx is no file"),
        ('"near.onnx"', '"embedder.onnx"', WeightsError, r"embedder\.onnx takes pictures of \(1, 3, 112, 112\)"),
        ('"near.onnx"', '"addon.onnx"', WeightsError, r"it should give \(1, 3\), not \(1,\)"),
        ('"near.onnx"', '"nan.onnx"', WeightsError, "something else than numbers"),
        ('family = "minifasnet"', 'family = "insightface"', WeightsError, r"it should give \(1,\), not \(1, 3\)"),
    ],
)
def test_what_is_no_such_pack_is_refused(
    before: str, after: str, kind: type[FacesvcError], message: str, library: Library, tmp_path: Path
) -> None:
    folder = tiny_packs.write_liveness(tmp_path / "brought")
    (folder / "embedder.onnx").write_bytes(tiny_packs.embedder())
    (folder / "addon.onnx").write_bytes(tiny_packs.addon())
    (folder / "nan.onnx").write_bytes(tiny_packs.minifasnet(float("nan")))
    text = (folder / "pack.toml").read_text()
    assert before in text
    (folder / "pack.toml").write_text(text.replace(before, after, 1))
    with pytest.raises(kind, match=message):
        install(folder, library)
    assert library.names() == ["default"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"kind": "gait"}, "there is no kind of packs 'gait'"),
        ({"format": 3}, "format 3 is not the one"),
        ({"family": "other"}, "no liveness family 'other'"),
        ({"family": "insightface"}, "insightface family has one network"),
        ({"networks": []}, "without a network"),
        ({"networks": [{"file": "network1.onnx"}]}, "needs a scale"),
        ({"networks": [{"file": "network1.onnx", "scale": 1e9}]}, "needs a scale"),
        ({"networks": [{"file": "../other.onnx", "scale": 2}]}, "not among the files"),
        ({"networks": [3]}, r"networks\[0\] is not an object"),
        ({"files": []}, "not among the files"),
        ({"name": "../up"}, "is not a plain name"),
    ],
)
def test_a_manifest_that_says_something_else_is_refused(
    change: dict[str, object], message: str, alive: LivenessPack
) -> None:
    path = alive.folder / MANIFEST
    path.write_text(json.dumps({**json.loads(path.read_bytes()), **change}))
    (problem,) = verify(alive.folder)
    assert re.search(message, problem)


def test_nothing_is_loaded_where_no_pack_is_named(library: Library) -> None:
    assert load_liveness(Settings(models=ModelSettings(cache_dir=library.folder))) is None
    named = Settings(models=ModelSettings(cache_dir=library.folder), liveness=LivenessSettings(pack="absent"))
    with pytest.raises(NotFoundError, match="no model pack 'absent'"):
        load_liveness(named)
