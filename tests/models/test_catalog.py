"""What is known by name: every address, hash and licence is of a form that can be used, and none is made up here."""

from importlib.util import find_spec
from pathlib import Path

import pytest

from facesvc.models import catalog
from facesvc.models.catalog import ENTRIES, Entry, Remote
from facesvc.models.library import check_new_name
from facesvc.models.parts import Source


@pytest.mark.parametrize("entry", ENTRIES.values(), ids=ENTRIES)
def test_every_entry_can_become_a_pack(entry: Entry) -> None:
    check_new_name(entry.name)
    for remote in entry.remotes:
        Source(remote.origin, remote.version, remote.name, remote.sha256 or "0" * 64, remote.licence)
        assert remote.url().startswith("https://github.com/")
        assert remote.url().endswith(f"/{remote.name}")
    if entry.description is not None:
        parts = entry.description.detector, entry.description.embedder
        assert [part.file for part in parts] == [remote.name for remote in entry.remotes]
        assert all(remote.sha256 and remote.size_bytes for remote in entry.remotes)
        assert entry.description.commercial_use
        assert not entry.terms
    else:
        assert "non-commercial" in entry.terms


def test_where_files_are() -> None:
    detector, embedder = ENTRIES["yunet_sface"].remotes
    assert detector.url() == (
        "https://github.com/opencv/opencv_zoo/raw/main/models/face_detection_yunet/face_detection_yunet_2023mar.onnx"
    )
    assert embedder.url("http://box/m") == "http://box/m/opencv_zoo/face_recognition_sface_2021dec.onnx"
    (archive,) = ENTRIES["buffalo_l"].remotes
    assert archive.url("http://box") == "http://box/insightface/buffalo_l.zip"


def test_insightface_is_where_the_package_has_it() -> None:
    spec = find_spec("insightface")
    assert spec is not None
    assert spec.submodule_search_locations
    folder = Path(spec.submodule_search_locations[0])
    base = ENTRIES["buffalo_l"].remotes[0].url().removesuffix("buffalo_l.zip")
    assert base in (folder / "utils" / "storage.py").read_text()
    named = (folder / "gui" / "core" / "model_downloads.py").read_text()
    archives = [remote.name for entry in ENTRIES.values() for remote in entry.remotes if remote.origin == "insightface"]
    assert len(archives) == 7
    assert all(f'"{archive}"' in named for archive in archives)


def test_sizes_and_licences() -> None:
    assert ENTRIES["yunet_sface"].size_bytes == 232_589 + 38_696_353
    assert ENTRIES["buffalo_l"].size_bytes is None
    assert ENTRIES["yunet_sface"].licences == (
        "opencv_zoo YuNet 2023mar: MIT",
        "opencv_zoo SFace 2021dec: Apache-2.0",
    )
    assert ENTRIES["antelopev2"].licences == ("insightface model-zoo: non-commercial research",)


def test_without_a_description_it_is_one_archive() -> None:
    remote = Remote("insightface", "a.zip", "1", "MIT")
    with pytest.raises(ValueError, match="one archive"):
        catalog.Entry("a", (remote, remote))
