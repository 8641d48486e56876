"""A backup that cannot be made says why, and leaves nothing that is seen; one that went bad is noticed."""

import resource
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from backup.offices import Office, at, contents, office, shelf_of

from facesvc.backup import folder
from facesvc.errors import DependencyError, PreconditionError, UnavailableError


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Callable[[int], None]]:
    """Puts a disk of so many bytes where the backups are."""
    place = tmp_path / "backups"

    def put(size: int) -> None:
        command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(place)]
        if subprocess.run(command, capture_output=True, check=False).returncode:
            pytest.skip("this user may not mount a small disk")

    yield put
    while place.is_mount():
        subprocess.run(["umount", place], check=True)


def test_a_full_disk_is_named_and_leaves_nothing_behind(
    open_office: Office, tmp_path: Path, small_disk: Callable[[int], None]
) -> None:
    place, failures = tmp_path / "backups", []
    for size in range(1 << 16, 1 << 20, 5 << 14):  # the smallest are too small for the copy, the next for a chunk
        small_disk(size)
        try:
            open_office.backups.create(at(1))
            break
        except DependencyError as error:
            failures.append(error)
        assert {path.parent.name for path in contents(place)} <= {"backups", "chunks"}
        subprocess.run(["umount", place], check=True)
    said = f"the disk of the backup folder {place} is full; nothing was changed, free some space"
    assert {(error.reason, error.message) for error in failures} == {("DISK_FULL", said)}
    assert len(failures) > 3
    assert [shelf_of(tmp_path).describe(name, verify=True).problem for name in shelf_of(tmp_path).names()] == [""]
    first = contents(place)
    open_office.enrol(*(f"person-{number}" for number in range(10)))
    with pytest.raises(DependencyError, match="is full"):
        open_office.backups.create(at(2))
    left = contents(place)
    assert {path: left[path] for path in first} == first
    assert {path.parent.name for path in left if path not in first} <= {"chunks"}
    assert len(open_office.people()) == 12


def test_a_file_that_may_not_grow_is_a_full_disk_too(open_office: Office, tmp_path: Path) -> None:
    open_office.backups.create(at(1))
    open_office.enrol("cem")
    [(size,)] = open_office.database.select("SELECT page_count * page_size FROM pragma_page_count, pragma_page_size")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))  # the copy fits, and its chunk is a little larger
    try:
        with pytest.raises(DependencyError, match="is full; nothing was changed"):
            open_office.backups.create(at(2))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert len(shelf_of(tmp_path).names()) == 1


class Stopped(BaseException):
    """Stands in for the end of the process."""


def test_an_interruption_at_any_point_leaves_nothing_that_is_seen(
    open_office: Office, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = open_office.backups.create(at(1))
    open_office.enrol("cem")
    real = {name: getattr(folder.os, name) for name in ("fsync", "replace", "rename", "unlink")}
    left = [0]

    def counted(name: str) -> Callable[..., object]:
        def call(*arguments: object, **named: object) -> object:
            left[0] -= 1
            if left[0] == 0:
                raise Stopped
            return real[name](*arguments, **named)

        return call

    steps = 0
    while True:
        steps += 1
        left[0] = steps
        with monkeypatch.context() as patched:
            patched.setattr(folder, "_clear", lambda room: None)
            for name in real:
                patched.setattr(f"os.{name}", counted(name))
            try:
                open_office.backups.create(at(2))
                break
            except Stopped:
                pass
        shelf = shelf_of(tmp_path)
        seen = shelf.names()
        assert seen[0] == first.name
        assert [shelf.describe(name, verify=True).problem for name in seen] == [""] * len(seen)
        open_office.backups.open()
        assert {path.parent.name for path in contents(tmp_path / "backups")} <= {
            "backups",
            "chunks",
            "keys",
            "manifests",
        }
        assert sorted(path.stem for path in (tmp_path / "backups" / "keys").iterdir()) == seen
        for name in seen[1:]:
            folder.Folder(tmp_path / "backups").remove(name)
    assert steps > 6
    assert [shelf_of(tmp_path).describe(name, verify=True).problem for name in shelf_of(tmp_path).names()] == ["", ""]


def test_a_chunk_that_went_bad_is_written_anew_by_the_next_backup(open_office: Office, tmp_path: Path) -> None:
    first = open_office.backups.create(at(1))
    [chunk] = (tmp_path / "backups" / "chunks").iterdir()
    chunk.write_bytes(chunk.read_bytes()[:-1] + b"?")
    assert "was changed" in shelf_of(tmp_path).describe(first.name, verify=True).problem
    assert open_office.backups.create(at(2)).new_bytes > 0
    assert shelf_of(tmp_path).describe(first.name, verify=True).problem == ""


def test_a_disk_that_does_not_keep_what_it_is_given_is_noticed(
    open_office: Office, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = folder.write

    def lossy(path: Path, content: bytes) -> None:
        write(path, content[:-1] + bytes([content[-1] ^ 1]))

    for module in ("shelf", "backups"):
        with monkeypatch.context() as patched:
            patched.setattr(f"facesvc.backup.{module}.write", lossy)
            with pytest.raises(DependencyError) as no:
                open_office.backups.create(at(1))
        assert no.value.reason in {"DISK_FAILED", "BACKUP_DAMAGED"}
        assert shelf_of(tmp_path).names() == []


def test_one_at_a_time_in_whatever_process(open_office: Office, tmp_path: Path) -> None:
    open_office.backups.create(at(1))
    other = folder.Folder(tmp_path / "backups")
    with other.alone(), pytest.raises(PreconditionError, match=r"a backup is being made in .*; wait for it") as no:
        open_office.backups.create(at(2))
    assert no.value.reason == "BACKUP_RUNNING"
    open_office.backups.create(at(2))


def test_a_server_that_stops_does_not_wait_for_a_backup(open_office: Office, tmp_path: Path) -> None:
    open_office.backups.close()
    with pytest.raises(UnavailableError, match="the server is stopping"):
        open_office.backups.create(at(1))
    assert shelf_of(tmp_path).names() == []


def test_a_folder_that_cannot_be_used_is_named_and_stops_no_server(tmp_path: Path) -> None:
    (tmp_path / "backups").touch()
    with office(tmp_path) as opened:
        opened.enrol("ada")
        with pytest.raises(
            DependencyError, match=rf"the backup folder {tmp_path}/backups cannot be used .*; check"
        ) as no:
            opened.backups.create(at(1))
        assert no.value.reason == "BACKUP_FOLDER_UNUSABLE"
        reached, unreached = opened.erase("ada", at(2))
        assert reached == ()
        assert "cannot be used" in unreached[0]
