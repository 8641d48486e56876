"""Packs beside each other in one folder: which there are, which is in use, and what was there before."""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from models import tiny_packs

from facesvc.errors import DependencyError, InputError, NotFoundError, WeightsError
from facesvc.models import folders, intake
from facesvc.models.calibration import Calibration, OperatingPoint
from facesvc.models.library import Library
from facesvc.models.packs import MANIFEST, Pack, dump_manifest, load_manifest

NOW = datetime(2026, 5, 4, tzinfo=UTC)
MEASURED = Calibration((OperatingPoint(1e-2, 0.5, 0.99), OperatingPoint(1e-3, 0.6, 0.9)), 5000, 500, "a door")
Install = Callable[..., Pack]


@pytest.fixture
def library(pack: Pack, tmp_path: Path) -> Library:
    """A library with the default pack."""
    (tmp_path / "packs").mkdir()
    (tmp_path / "packs" / "default").symlink_to(pack.folder)
    return Library(tmp_path / "packs")


@pytest.fixture
def install(library: Library, tmp_path: Path) -> Install:
    """Installs the tiny pack with the embedder of a seed."""

    def install(seed: int = 0, name: str = "tiny") -> Pack:
        folder = tmp_path / f"brought-{name}-{seed}"
        if not folder.exists():
            tiny_packs.write(folder, seed=seed)
        return intake.draft(folder, name, library, accepted=True, now=NOW).install(library)

    return install


def test_an_empty_library_has_the_default_pack(tmp_path: Path) -> None:
    library = Library(tmp_path / "absent")
    assert library.names() == ["default"]
    assert library.active() == "default"
    assert library.chosen() == ""
    assert library.path("default") == tmp_path / "absent" / "default"


def test_packs_are_listed_by_name_the_default_one_first(library: Library, install: Install) -> None:
    install(name="zoo")
    install(name="Attic")
    (library.folder / "no_pack").mkdir()
    (library.folder / "odd name").mkdir()
    (library.folder / "odd name" / MANIFEST).write_bytes(b"{}")
    assert library.names() == ["default", "Attic", "zoo"]
    assert library.open("zoo").name == "zoo"
    assert library.open("default").name == "default"


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "/etc", ".hidden", "a b", "ä", "a\n", "x" * 65, "chosen"])
def test_what_is_no_name_is_refused(name: str, library: Library) -> None:
    for use in (library.path, library.open, library.peek, library.choose, library.remove, library.rollback):
        with pytest.raises(InputError, match="cannot be the name of a pack"):
            use(name)


def test_a_pack_that_is_not_there_is_named(library: Library) -> None:
    for use in (library.open, library.peek, library.choose, library.remove, library.rollback):
        with pytest.raises(NotFoundError, match=r"no model pack 'absent' in .*, only default: pull or add it first"):
            use("absent")
    assert library.chosen() == ""


def test_the_settings_win_over_what_was_chosen(library: Library, install: Install) -> None:
    install()
    library.choose("tiny")
    assert library.active() == library.chosen() == "tiny"
    assert library.active("default") == "default"
    library.choose("default")
    assert library.active() == "default"


@pytest.mark.parametrize("content", [b"", b"../../etc\n", b"a b", b"x" * 100])
def test_a_choice_that_is_no_name_is_none(content: bytes, library: Library) -> None:
    (library.folder / "chosen").write_bytes(content)
    assert library.active() == "default"


def test_a_choice_that_cannot_be_read_is_said(library: Library) -> None:
    (library.folder / "chosen").write_bytes(b"\xff")
    with pytest.raises(DependencyError, match="choose a pack again"):
        library.active()


def test_a_damaged_pack_is_not_opened(library: Library, install: Install) -> None:
    pack = install()
    pack.path(pack.embedder.file).write_bytes(b"x")
    with pytest.raises(WeightsError, match=r"pack tiny is damaged: embedder.onnx has 1 bytes.*add or pull it again"):
        library.open("tiny")
    # Its manifest is whole.
    assert library.peek("tiny") == pack
    (pack.folder / MANIFEST).write_bytes(b"{}")
    with pytest.raises(WeightsError, match="cannot be used"):
        library.peek("tiny")


def test_a_folder_has_the_name_of_its_pack(library: Library, install: Install) -> None:
    install().folder.rename(library.folder / "other")
    for use in (library.open, library.peek):
        with pytest.raises(WeightsError, match="holds the pack tiny: give the folder that name"):
            use("other")


def test_the_version_before_is_kept_and_can_be_gone_back_to(library: Library, install: Install) -> None:
    first = install(1)
    assert not library.has_previous("tiny")
    with pytest.raises(NotFoundError, match="no earlier version of pack tiny"):
        library.rollback("tiny")
    second = install(2)
    assert second.contract_id != first.contract_id
    assert library.has_previous("tiny")
    assert library.rollback("tiny") == first
    assert library.rollback("tiny") == second
    # The same once more is no other version.
    install(2)
    assert library.rollback("tiny") == first


def test_an_earlier_version_that_is_damaged_is_not_gone_back_to(library: Library, install: Install) -> None:
    install(1)
    second = install(2)
    (folders.previous(second.folder) / "embedder.onnx").write_bytes(b"")
    with pytest.raises(WeightsError, match="the earlier version of pack tiny is damaged"):
        library.rollback("tiny")
    assert library.open("tiny") == second


def test_a_pack_in_pieces_is_not_installed(library: Library, install: Install) -> None:
    first = install(1)
    with pytest.raises(WeightsError, match=r"damaged: embedder.onnx cannot be read"):
        library.install(first, [("detector.onnx", first.path("detector.onnx").read_bytes())])

    def breaks() -> list[tuple[str, bytes]]:
        raise OSError("the cable was pulled")

    second = install(2)
    with pytest.raises(OSError, match="cable"):
        library.install(second, ((name, content) for _ in range(1) for name, content in breaks()))
    assert library.open("tiny") == second


def test_what_was_removed_is_gone_with_the_version_before(library: Library, install: Install) -> None:
    install(1)
    install(2)
    library.remove("tiny")
    assert library.names() == ["default"]
    assert [path.name for path in library.folder.iterdir() if "tiny" in path.name] == []


def test_what_was_measured_is_kept_by_contract(library: Library, install: Install) -> None:
    pack = install()
    assert pack.calibration == intake.UNCALIBRATED
    library.calibrate(pack.contract_id, MEASURED)
    assert library.open("tiny").calibration == library.peek("tiny").calibration == MEASURED
    assert load_manifest(pack.folder).calibration == intake.UNCALIBRATED
    # Also for the same under another name, and after it was removed; for no other.
    library.remove("tiny")
    assert install(name="again").calibration == MEASURED
    assert install(3).calibration == intake.UNCALIBRATED
    assert "calibrations" not in library.names()


def test_a_measurement_that_cannot_be_used_is_said(library: Library, install: Install) -> None:
    pack = install()
    library.calibrate(pack.contract_id, MEASURED)
    (path,) = (library.folder / "calibrations").iterdir()
    path.write_text("[]")
    with pytest.raises(WeightsError, match="calibrate pack tiny again, or remove that file"):
        library.open("tiny")


def test_a_hostile_manifest_leads_nowhere(library: Library, install: Install) -> None:
    pack = install()
    content = dump_manifest(replace(pack, contract_id="x")).replace(b'"contract_id": "x"', b'"contract_id": "../../x"')
    (pack.folder / MANIFEST).write_bytes(content)
    for use in (library.open, library.peek):
        with pytest.raises(WeightsError, match=r"'../../x' is not a plain name"):
            use("tiny")
