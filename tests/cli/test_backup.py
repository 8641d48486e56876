"""``facesvc backup`` and ``facesvc keys``: from a running server into an empty box."""

import io
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from cli.running import Result, serving, settings_for

from facesvc.backup import Shelf
from facesvc.cli import commands, console
from facesvc.client import Client
from facesvc.config import Settings
from facesvc.gallery.masterkey import KeyFile
from facesvc.v1 import enrollment_pb2

Run = Callable[..., Result]


@pytest.fixture(scope="module")
def box(pack_cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """A box with a folder for backups; its server is started where it is wanted."""
    folder = tmp_path_factory.mktemp("box")
    settings = settings_for(folder, pack_cache)
    backup = settings.backup.model_copy(update={"folder": folder / "backups"})
    return settings.model_copy(update={"backup": backup})


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], box: Settings) -> Run:
    """The command line under the settings of the box, or of another one: ``run("backup", "list", box=…)``."""
    monkeypatch.setattr(commands, "_set_up_logs", lambda level: None)
    monkeypatch.setattr(console.out, "width", 200)

    def run(*arguments: object, box: Settings = box, at: str = "127.0.0.1:1") -> Result:
        listening = box.model_copy(update={"server": box.server.model_copy(update={"listen": at})})
        with monkeypatch.context() as patched:
            patched.setattr(commands.config, "load", lambda path: listening)
            with pytest.raises(SystemExit) as end:
                console.run(commands.app, [str(argument) for argument in arguments])
        captured = capsys.readouterr()
        said = [line for line in captured.out.splitlines(keepends=True) if "[info" not in line]  # not the server's log
        return Result(end.value.code if isinstance(end.value.code, int) else 0, "".join(said), captured.err)

    return run


def know(client: Client, *subject_ids: str) -> None:
    for subject_id in subject_ids:
        client.create_subject(enrollment_pb2.Subject(subject_id=subject_id, display_name=subject_id.title()))


def test_from_one_box_into_another(box: Settings, tmp_path: Path, run: Run, pack_cache: Path) -> None:
    with serving(box) as address, Client(address) as client:
        know(client, "ada", "bob")
        made = run("backup", "create", at=address)
        assert (made.status, made.err.strip().splitlines()[-1:]) == (0, [])
        know(client, "cem")
        second = run("backup", "create", "--json", at=address).json
        assert (second["subject_count"], second["problem"]) == (3, "")
        listed = run("backup", "list", at=address)
        assert "whole" in listed.out
        rows = run("backup", "list", "--json", at=address).json
        assert rows[1] == second
        first = rows[0]["name"]
        assert made.out.startswith(f"{first}: 2 people, ")
        client.erase_subject("ada")
        in_use = run("backup", "restore", first, "--yes")
        assert (in_use.status, "another process has it open; stop that one first" in in_use.err) == (2, True)
    assert run("backup", "list", "--json", "--folder", box.backup.folder).json[0]["subject_count"] == 1
    assert run("backup", "verify", first).status == 0

    empty = settings_for(tmp_path / "empty", pack_cache)
    without = run("backup", "restore", "latest", "--folder", box.backup.folder, box=empty)
    assert without.status == 2
    assert f"there is none in the file {empty.gallery.key_path}; put it there first" in without.err
    empty.gallery.key_path.parent.mkdir(parents=True)
    shutil.copy(box.gallery.key_path, empty.gallery.key_path)
    restored = run("backup", "restore", "latest", "--folder", box.backup.folder, box=empty)
    assert restored.status == 0, restored.err
    assert f"restored {second['name']} of" in restored.out
    assert "2 people with 0 samples" in restored.out
    with serving(empty) as address, Client(address) as client:
        assert sorted(one.subject_id for one in client.list_subjects()) == ["bob", "cem"]
        assert [entry.action for entry in client.list_audit()][-1] == "RestoreBackup"
        assert client.verify_audit().broken_sequence == 0


def test_back_to_a_backup_and_the_former_gallery_goes_with_the_start(
    tmp_path: Path, run: Run, pack_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = settings_for(tmp_path, pack_cache)
    settings = settings.model_copy(
        update={"backup": settings.backup.model_copy(update={"folder": tmp_path / "backups"})}
    )
    with serving(settings) as address, Client(address) as client:
        know(client, "ada")
        name = client.create_backup().name
        shutil.copytree(tmp_path / "backups", tmp_path / "copy")
        know(client, "bob")
        client.erase_subject("ada")
    refused = run("backup", "restore", name, box=settings)
    assert (refused.status, "say --yes to restore a backup in its place" in refused.err) == (2, True)
    monkeypatch.setattr(sys, "stdin", Terminal("n\n"))
    asked = run("backup", "restore", name, box=settings)
    assert (asked.status, "nothing was changed" in asked.err) == (1, True)
    assert f"The gallery {settings.gallery.path} will be as it was at" in asked.out
    done = run("backup", "restore", name, "--yes", "--json", "--folder", tmp_path / "copy", box=settings).json
    former = settings.gallery.path.with_name("gallery.db.before-restore")
    assert done["still_erased"] == [{"collection_id": "default", "subject_id": "ada"}]
    assert (done["subject_count"], done["former"], former.exists()) == (0, str(former), True)
    with serving(settings) as address, Client(address) as client:
        assert list(client.list_subjects()) == []
        assert not former.exists()


class Terminal(io.StringIO):
    """Somebody who answers."""

    def isatty(self) -> bool:
        return True


def test_an_erasure_reaches_the_backups_of_every_box(tmp_path: Path, pack_cache: Path, postgres_url: str) -> None:
    def box(name: str) -> Settings:
        settings = settings_for(tmp_path / name, pack_cache)
        updates = {
            "store": {"url": postgres_url, "box_id": name},
            "backup": {"folder": tmp_path / name / "backups"},
            "gallery": {"key_file": tmp_path / "shared.key"},
        }
        sections = {one: getattr(settings, one).model_copy(update=values) for one, values in updates.items()}
        return settings.model_copy(update=sections)

    with serving(box("one")) as first, serving(box("two")) as second, Client(first) as one, Client(second) as two:
        know(one, "ada", "bob")
        mine, other = one.create_backup(), two.create_backup()
        receipt = one.erase_subject("ada")
        assert (list(receipt.backup_names), sorted(receipt.box_ids)) == ([mine.name], ["one", "two"])
        until = time.monotonic() + 20
        while two.list_backups()[0].subject_count == 2:  # the other box does it as soon as it hears of it
            assert time.monotonic() < until
        assert two.list_backups(verify=True)[0].problem == ""
        assert other.subject_count == 2
    left = box("two").backup.folder
    assert left is not None
    key = KeyFile(tmp_path / "shared.key").read()
    assert key is not None
    shelf = Shelf(left, [key])
    assert [row[1] for row in shelf.key_tables(shelf.open(other.name)).people] == ["bob"]


def test_what_is_wrong_with_a_backup_is_said(box: Settings, tmp_path: Path, run: Run) -> None:
    folder = tmp_path / "backups"
    shutil.copytree(box.backup.folder, folder)
    names = sorted(path.stem for path in (folder / "manifests").iterdir())
    (folder / "keys" / f"{names[0]}.keys").unlink()
    found = run("backup", "verify", "--folder", folder)
    assert found.status == 1
    assert "its keys are missing" in found.out
    assert run("backup", "verify", "latest", "--folder", folder).status == 0
    [broken] = run("backup", "verify", names[0], "--folder", folder, "--json").json
    assert broken["problem"].startswith(f"backup {names[0]} cannot be restored: its keys are missing")
    for command in ("verify", "restore"):
        unknown = run("backup", command, "nobody", "--folder", folder)
        assert (unknown.status, "there is no backup 'nobody' in" in unknown.err) == (2, True)
    nowhere = run("backup", "verify", "--folder", tmp_path / "nowhere")
    assert (nowhere.status, "cannot be used (No such file or directory" in nowhere.err) == (2, True)


def test_without_a_folder_there_is_a_word(settings: Settings, server: str, run: Run) -> None:
    assert "say with --folder where the backups are" in run("backup", "verify", box=settings).err
    assert "set backup.folder, best on another disk" in run("backup", "create", at=server).err


def test_the_key_is_exchanged_and_its_state_said(box: Settings, run: Run) -> None:
    path = box.gallery.key_path
    [key] = run("keys", "status", "--json").json
    assert key == {"source": f"the file {path}", "role": "in use", "problem": ""}
    with serving(box) as address:
        rotated = run("keys", "rotate", at=address)
        assert rotated.status == 0
        assert "keys are under a new master key; put a copy of it where the old one was kept" in rotated.out
        assert run("keys", "rotate", "--json", at=address).json == {"key_count": 3}
        assert [one["problem"] for one in run("backup", "list", "--json", at=address).json] == ["", ""]
    assert run("backup", "verify").status == 0
    nextkey = path.with_name(f"{path.name}.next")
    shutil.copy(path, nextkey)
    path.chmod(0o644)
    status = run("keys", "status")
    assert status.status == 1
    assert "the next one, while keys are wrapped anew" in status.out
    assert "chmod 600 it" in status.out
    path.chmod(0o600)
    nextkey.unlink()
