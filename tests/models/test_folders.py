"""A folder is there as a whole or not at all: whoever kills the writer, and at whatever moment."""

import resource
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from facesvc.errors import DependencyError
from facesvc.models import folders

Files = dict[str, bytes]
Script = Callable[..., subprocess.CompletedProcess[str]]
OLD = {"a": b"old a", "b": b"old b"}
ANCIENT = {"a": b"ancient a"}
NEW = {"a": b"new a", "b": b"new b", "c": b"new c"}

# Python announces every call that touches the disk to audit hooks before it is made: each is a moment to be killed at.
KILLED_AT_A_MOMENT = """
import os, signal, sys
from pathlib import Path
from facesvc.models import folders

folder, moment, change = Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
calls = 0

def hook(event, arguments):
    global calls
    if event == "open" or event.startswith("os."):
        calls += 1
        if calls == moment:
            os.kill(os.getpid(), signal.SIGKILL)

with folders.locked(folder.parent):
    sys.addaudithook(hook)
    if change == "publish":
        folders.publish(folder, [("a", b"new a"), ("b", b"new b"), ("c", b"new c")])
    elif change == "keep":
        folders.publish(folder, [("a", b"new a"), ("b", b"new b"), ("c", b"new c")], keep=True)
    elif change == "swap":
        folders.swap(folder)
    else:
        folders.remove(folder)
"""


def content(folder: Path) -> dict[str, bytes] | None:
    return {path.name: path.read_bytes() for path in folder.iterdir()} if folder.exists() else None


def publish(folder: Path, files: dict[str, bytes]) -> None:
    with folders.locked(folder.parent):
        folders.publish(folder, files.items())


@pytest.mark.parametrize("before", [None, OLD], ids=["nothing before", "another before"])
def test_killed_at_every_moment(before: dict[str, bytes] | None, tmp_path: Path, script: Script) -> None:
    moment, status, seen = 0, -signal.SIGKILL, []
    while status == -signal.SIGKILL:
        moment += 1
        folder = tmp_path / str(moment) / "pack"
        if before is not None:
            publish(folder, before)
        status = script(KILLED_AT_A_MOMENT, folder, moment, "publish").returncode
        seen.append(content(folder))
        assert seen[-1] in (None, before, NEW)
        publish(folder, OLD)
        assert content(folder) == OLD
        assert folders.leftovers(folder) == []
    assert status == 0
    assert seen[-1] == NEW
    assert moment > 6  # one for the folder, each file, each rename at least: the hook saw them
    assert before in seen
    assert None in seen


# Whatever the moment, what is there and what is kept as the previous content are one of these pairs in the end.
KEPT = [
    ("publish", None, [(OLD, None), (NEW, None)]),
    ("keep", None, [(OLD, None), (NEW, OLD)]),
    ("keep", ANCIENT, [(OLD, ANCIENT), (NEW, OLD)]),
    ("swap", ANCIENT, [(OLD, ANCIENT), (ANCIENT, OLD)]),
    ("remove", ANCIENT, [(OLD, ANCIENT), (None, ANCIENT), (None, None)]),
]


@pytest.mark.parametrize(("change", "kept", "allowed"), KEPT)
def test_what_was_there_survives_a_kill(
    change: str, kept: Files | None, allowed: list[tuple[Files | None, Files | None]], tmp_path: Path, script: Script
) -> None:
    moment, status, seen = 0, -signal.SIGKILL, []
    while status == -signal.SIGKILL:
        moment += 1
        folder = tmp_path / str(moment) / "pack"
        if kept is not None:
            publish(folder, kept)
        with folders.locked(folder.parent):
            folders.publish(folder, OLD.items(), keep=True)
        status = script(KILLED_AT_A_MOMENT, folder, moment, change).returncode
        with folders.locked(folder.parent):
            folders.clear_leftovers(folder, keep=change != "publish")
        assert folders.leftovers(folder) == []
        seen.append((content(folder), content(folders.previous(folder)) or None))
        assert seen[-1] in allowed
    assert status == 0
    assert seen[0] == allowed[0]
    assert seen[-1] == allowed[-1]


def test_leftovers_can_be_removed_alone(tmp_path: Path, script: Script) -> None:
    folder = tmp_path / "pack"
    assert script(KILLED_AT_A_MOMENT, folder, 4, "publish").returncode == -signal.SIGKILL
    assert folders.leftovers(folder)
    with folders.locked(tmp_path):
        folders.clear_leftovers(folder)
    assert sorted(tmp_path.iterdir()) == [tmp_path / ".lock"]


def test_what_fails_midway_changes_nothing(tmp_path: Path) -> None:
    def files() -> Iterator[tuple[str, bytes]]:
        yield "a", b"new a"
        raise KeyError("no second file")

    publish(tmp_path / "pack", OLD)
    with pytest.raises(KeyError, match="no second file"):
        folders.publish(tmp_path / "pack", files())
    assert content(tmp_path / "pack") == OLD
    assert folders.leftovers(tmp_path / "pack") == []


def test_a_full_disk_is_named_and_changes_nothing(tmp_path: Path) -> None:
    publish(tmp_path / "pack", OLD)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
    try:
        with pytest.raises(DependencyError, match=rf"{tmp_path} cannot be written to: File too large; free space"):
            folders.publish(tmp_path / "pack", [("a", bytes(100)), ("b", bytes(2000))])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert content(tmp_path / "pack") == OLD
    assert folders.leftovers(tmp_path / "pack") == []


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(DependencyError, match=r"file/cache cannot be written to: Not a directory"):
        publish(tmp_path / "file" / "cache" / "pack", NEW)


def test_a_file_in_the_place_of_the_folder_gives_way(tmp_path: Path) -> None:
    (tmp_path / "pack").write_bytes(b"not a folder")
    publish(tmp_path / "pack", NEW)
    assert content(tmp_path / "pack") == NEW
    assert folders.leftovers(tmp_path / "pack") == []
