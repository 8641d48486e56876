"""``facesvc models``: pull, add, update, rollback, use and remove, from a real server and from folders."""

import hashlib
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from models import tiny_packs
from models.faulty_server import Answer, FaultyServer
from rich.console import Console
from typer.testing import CliRunner, Result

from facesvc.cli import models_get
from facesvc.cli.models import app
from facesvc.config import ModelSettings, Settings
from facesvc.errors import DependencyError, InputError, NotFoundError, PreconditionError, WeightsError
from facesvc.models import catalog
from facesvc.models.catalog import Entry, Remote
from facesvc.models.chunks import CHUNK_BYTES
from facesvc.models.description import read_toml
from facesvc.models.library import Library
from facesvc.models.packs import MANIFEST

NON_COMMERCIAL = 'commercial_use = false\nlicence_file = "LICENCE"'
EDGE_S = Path("models", "insightface", "edge_s")

# Python announces every call that touches the disk to audit hooks before it is made: each is a moment to be killed at.
# A fork for each moment, because starting Python anew takes longer than all that is done here.
INSTALL_KILLED_AT_EVERY_MOMENT = """
import os, shutil, signal, sys
from pathlib import Path
from facesvc.models.library import Library
from facesvc.models.packs import load_manifest

old, new, work = map(Path, sys.argv[1:])
pack = load_manifest(new)
contents = [(file.name, pack.path(file.name).read_bytes()) for file in pack.files]
status, moment, seen = -signal.SIGKILL, 0, []
while status == -signal.SIGKILL:
    moment += 1
    folder = work / str(moment)
    shutil.copytree(old, folder)
    child = os.fork()
    if child == 0:
        calls = 0

        def hook(event, arguments):
            global calls
            if event == "open" or event.startswith("os."):
                calls += 1
                if calls == moment:
                    os.kill(os.getpid(), signal.SIGKILL)

        sys.addaudithook(hook)
        Library(folder).install(pack, contents)
        os._exit(0)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    seen.append(Library(folder).open("tiny").contract_id)
print(status, *seen)
"""


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.fixture
def server() -> Iterator[FaultyServer]:
    with FaultyServer() as running:
        yield running


@pytest.fixture
def box(settings: Settings, server: FaultyServer, tmp_path: Path) -> Settings:
    """A box without packs, with the server as its mirror."""
    models = ModelSettings(cache_dir=tmp_path / "box", mirror=server.url)
    return settings.model_copy(update={"models": models})


@pytest.fixture
def library(box: Settings) -> Library:
    return Library(box.models.cache_dir)


@pytest.fixture
def other(settings: Settings, tmp_path: Path) -> Settings:
    """Another box."""
    return settings.model_copy(update={"models": ModelSettings(cache_dir=tmp_path / "other")})


def run(settings: Settings, *arguments: object, answer: str = "") -> Result:
    return CliRunner(env={"COLUMNS": "200"}).invoke(
        app, [str(argument) for argument in arguments], obj=settings, input=answer
    )


def done(settings: Settings, *arguments: object) -> str:
    """What a command that must succeed prints."""
    result = run(settings, *arguments)
    assert result.exit_code == 0, result.exception or result.output
    return result.stdout


def release(other: Settings, server: FaultyServer, tmp_path: Path, seed: int) -> str:
    """Adds a version of ``tiny`` to the other box, whose cache folder the server has; its contract."""
    folder = tiny_packs.write(tmp_path / f"version {seed}", seed=seed, padding_bytes=3 * CHUNK_BYTES)
    contract_id = json.loads(done(other, "add", folder, "--json"))["contract_id"]
    for path in (other.models.cache_dir / "tiny").iterdir():
        server.files[f"/tiny/{path.name}"] = path.read_bytes()
    assert isinstance(contract_id, str)
    return contract_id


def publish(server: FaultyServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Puts a pack ``tiny`` into the catalogue."""
    folder = tiny_packs.write(tmp_path / "published", padding_bytes=300_000)
    remotes = []
    for name in ("detector.onnx", "embedder.onnx"):
        content = (folder / name).read_bytes()
        server.files[f"/opencv_zoo/{name}"] = content
        sha256 = hashlib.sha256(content).hexdigest()
        remotes.append(Remote("opencv_zoo", f"some/{name}", "2026", "MIT", sha256, len(content)))
    monkeypatch.setattr(catalog, "ENTRIES", {"tiny": Entry("tiny", tuple(remotes), read_toml(folder))})


def test_pull_goes_on_where_the_line_broke(
    box: Settings, server: FaultyServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(server, tmp_path, monkeypatch)
    server.script += [Answer(), Answer(cut_after=100_000)]
    said = done(box, "pull", "tiny")
    assert server.ranges == [None, None, "bytes=100000-"]
    fetched = sum(map(len, server.files.values()))
    assert f"8 values a face; {fetched:,} of {fetched:,} bytes were fetched" in said
    assert "tiny: not in use; `facesvc models use tiny` chooses it" in said
    assert "up to date and whole" in done(box, "pull", "tiny")
    assert "up to date and whole" in done(box, "update", "tiny")
    assert json.loads(done(box, "update", "tiny", "--json"))["changed"] is False
    assert "tiny: 2 files" in done(box, "verify", "tiny")


@pytest.mark.slow
def test_pull_of_an_archive_at_a_terminal(
    box: Settings, library: Library, server: FaultyServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        archive.writestr("det.onnx", tiny_packs.detector())
        archive.writestr("rec.onnx", tiny_packs.embedder())
    server.files["/insightface/buffalo_sc.zip"] = content.getvalue()
    monkeypatch.setattr(models_get, "err", Console(stderr=True, force_terminal=True, width=100))
    result = run(box, "pull", "buffalo_sc", "--accept-license")
    assert result.exit_code == 0, result.exception
    assert "buffalo_sc.zip" in result.stderr  # its bar
    sha256 = hashlib.sha256(content.getvalue()).hexdigest()
    assert f"no SHA-256 is published for insightface/buffalo_sc.zip: from now on only {sha256}" in result.stdout
    assert len(library.open("buffalo_sc").acceptances) == 1
    again = run(box, "pull", "buffalo_sc", "--accept-license", "--new-pin", "--json")
    assert json.loads(again.stdout)["pins"] == {"insightface/buffalo_sc.zip": sha256}


@pytest.mark.parametrize("mirror", ["ftp://box", "box:8080", "https://", "http://box/?a=b"])
def test_mirrors_that_are_none(mirror: str) -> None:
    with pytest.raises(ValueError, match="mirror"):
        ModelSettings(mirror=mirror)


def test_a_mirror_ends_without_a_slash() -> None:
    assert ModelSettings(mirror="https://box/packs/").mirror == "https://box/packs"
    assert ModelSettings().mirror == ""


def test_pull_of_other_bytes_keeps_nothing(
    box: Settings, library: Library, server: FaultyServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(server, tmp_path, monkeypatch)
    server.script.append(Answer(corrupt_at=10))
    assert isinstance(run(box, "pull", "tiny").exception, WeightsError)
    assert library.names() == ["default"]
    assert not list(library.folder.glob(".downloads/*/*"))


def test_pull_onto_a_full_disk(
    box: Settings, library: Library, server: FaultyServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(server, tmp_path, monkeypatch)
    with monkeypatch.context() as full:
        full.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=1000))
        result = run(box, "pull", "tiny")
    assert isinstance(result.exception, DependencyError)
    assert "where 1000 are free" in str(result.exception)
    assert library.names() == ["default"]
    done(box, "pull", "tiny")


def test_update_and_rollback(
    box: Settings, other: Settings, library: Library, server: FaultyServer, tmp_path: Path
) -> None:
    first = release(other, server, tmp_path, seed=0)
    done(box, "pull", "tiny")
    assert "up to date and whole" in done(box, "update", "tiny")
    done(box, "use", "tiny")
    second = release(other, server, tmp_path, seed=1)
    server.asked.clear()
    said = done(box, "update", "tiny")
    assert [(one.path, one.range) for one in server.asked] == [
        (f"/tiny/{MANIFEST}", None),
        ("/tiny/embedder.onnx", f"bytes=0-{CHUNK_BYTES - 1}"),
    ]
    assert f"{CHUNK_BYTES:,} of 3,1" in said
    assert "another version is kept: `facesvc models rollback tiny`" in said
    assert "in use after a restart of the server, or by `facesvc models migrate tiny`" in said
    assert "do not compare with those of the other version" in said
    assert library.open("tiny").contract_id == second
    assert "the version before is there again" in done(box, "rollback", "tiny")
    assert library.open("tiny").contract_id == first
    assert json.loads(done(box, "rollback", "tiny", "--json"))["same_contract"] is False
    assert library.open("tiny").contract_id == second


def test_a_liveness_pack_comes_from_a_mirror_as_any_other(
    box: Settings, other: Settings, library: Library, server: FaultyServer, tmp_path: Path
) -> None:
    done(other, "add", tiny_packs.write_liveness(tmp_path / "brought"))
    for path in (other.models.cache_dir / "alive").iterdir():
        server.files[f"/alive/{path.name}"] = path.read_bytes()
    assert "tells living faces from pictures" in done(box, "pull", "alive")
    assert library.open_liveness("alive").networks[1].scale == 4.0
    assert "up to date and whole" in done(box, "update", "alive")
    told = json.loads(done(box, "update", "alive", "--json"))
    assert (told["kind"], told["changed"], "contract_id" in told) == ("liveness", False, False)


def test_rollback_of_nothing(box: Settings, tmp_path: Path) -> None:
    done(box, "add", tiny_packs.write(tmp_path / "mine"))
    result = run(box, "rollback", "tiny")
    assert isinstance(result.exception, NotFoundError)
    assert "no earlier version" in str(result.exception)


def test_rollback_to_what_is_damaged(box: Settings, library: Library, tmp_path: Path) -> None:
    done(box, "add", tiny_packs.write(tmp_path / "mine"))
    done(box, "add", tiny_packs.write(tmp_path / "newer", seed=1))
    now = library.open("tiny")
    (library.folder / ".tiny.previous" / "embedder.onnx").write_bytes(b"")
    result = run(box, "rollback", "tiny")
    assert isinstance(result.exception, WeightsError)
    assert "the earlier version of pack tiny is damaged" in str(result.exception)
    assert library.open("tiny") == now


def test_update_of_what_is_not_there(box: Settings) -> None:
    assert isinstance(run(box, "update", "tiny").exception, NotFoundError)
    assert "facesvc models build" in str(run(box, "update", "default").exception)


def test_a_licence_is_refused_or_accepted_and_recorded(box: Settings, library: Library, tmp_path: Path) -> None:
    folder = tiny_packs.write(tmp_path / "mine", licence="research", more=NON_COMMERCIAL)
    (folder / "LICENCE").write_text("For research alone.")
    refused = run(box, "add", folder)
    assert isinstance(refused.exception, PreconditionError)
    assert refused.exception.reason == "LICENCE_NOT_ACCEPTED"
    assert "--accept-license). For research alone." in str(refused.exception)
    assert library.names() == ["default"]
    done(box, "add", folder, "--accept-license")
    (acceptance,) = library.open("tiny").acceptances
    assert acceptance.text_sha256 == hashlib.sha256(b"For research alone.").hexdigest()
    tiny = next(pack for pack in json.loads(done(box, "list", "--json")) if pack["name"] == "tiny")
    assert tiny["accepted"] == [f"{acceptance.time}: research"]
    assert f"accepted {acceptance.time}: research" in done(box, "list")


@pytest.mark.parametrize(("answer", "packs"), [("y\n", ["default", "tiny"]), ("\n", ["default"]), ("n\n", ["default"])])
def test_at_a_terminal_the_licence_is_asked_about(
    answer: str, packs: list[str], box: Settings, library: Library, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(models_get, "_at_a_terminal", lambda: True)
    folder = tiny_packs.write(tmp_path / "mine", licence="research", more=NON_COMMERCIAL)
    (folder / "LICENCE").write_text("For research alone.")
    result = run(box, "add", folder, answer=answer)
    assert "For research alone." in result.stderr
    assert "Is it accepted? [y/N]" in result.stderr
    assert library.names() == packs
    assert isinstance(result.exception, PreconditionError) == (len(packs) == 1)


@pytest.mark.parametrize("kind", ["folder", "folder in a folder", "zip", "gztar"])
def test_add(kind: str, box: Settings, library: Library, tmp_path: Path) -> None:
    path = tiny_packs.write(tmp_path / "outer" / "mine")
    if kind == "folder in a folder":
        path = path.parent
    elif kind != "folder":
        path = Path(shutil.make_archive(str(tmp_path / "archive"), kind, path.parent))
    said = done(box, "add", path, "--name", "lobby")
    assert said.startswith(f"lobby: added, 0.0 MB, 8 values a face, in {library.folder / 'lobby'}")
    assert library.open("lobby").licences == ("tiny 1: MIT",)


def test_add_refuses(box: Settings, library: Library, tmp_path: Path) -> None:
    folder = tiny_packs.write(tmp_path / "mine")
    for name in ("default", "../up", "chosen"):
        assert isinstance(run(box, "add", folder, "--name", name).exception, InputError)
    assert "there is no" in str(run(box, "add", tmp_path / "nothing").exception)
    (folder / "embedder.onnx").write_bytes(tiny_packs.detector())
    assert "is no embedder" in str(run(box, "add", folder).exception)
    with zipfile.ZipFile(tmp_path / "bad.zip", "w") as archive:
        archive.writestr("../../escaped", "!")
    refused = run(box, "add", tmp_path / "bad.zip").exception
    assert isinstance(refused, WeightsError)
    assert "bad.zip is refused at '../../escaped'" in str(refused)
    assert not list(tmp_path.rglob("escaped"))
    assert library.names() == ["default"]


def test_use(box: Settings, library: Library, pack_cache: Path, tmp_path: Path) -> None:
    shutil.copytree(pack_cache / "default", library.folder / "default")
    done(box, "add", tiny_packs.write(tmp_path / "mine"))
    said = done(box, "use", "tiny")
    assert library.active() == "tiny"
    assert "a running server changes with `facesvc models migrate tiny`" in said
    assert "its vectors do not compare with those of default" in said
    assert "`facesvc models calibrate tiny`" in said
    assert "do not compare" not in done(box, "use", "tiny")
    assert json.loads(done(box, "use", "default", "--json"))["same_contract"] is False
    assert library.active() == "default"
    assert isinstance(run(box, "use", "other").exception, NotFoundError)


def test_use_refuses_what_is_damaged(box: Settings, library: Library, tmp_path: Path) -> None:
    done(box, "add", tiny_packs.write(tmp_path / "mine"))
    (library.folder / "tiny" / "embedder.onnx").unlink()
    assert isinstance(run(box, "use", "tiny").exception, WeightsError)
    assert library.active() == "default"


def test_use_does_not_argue_with_the_settings(box: Settings, library: Library, tmp_path: Path) -> None:
    done(box, "add", tiny_packs.write(tmp_path / "mine"))
    fixed = box.model_copy(update={"models": box.models.model_copy(update={"pack": "default"})})
    refused = run(fixed, "use", "tiny").exception
    assert isinstance(refused, PreconditionError)
    assert "the settings say that pack default is used: write tiny there" in str(refused)
    assert library.chosen() == ""
    chosen = box.model_copy(update={"models": box.models.model_copy(update={"pack": "tiny"})})
    done(chosen, "use", "tiny")


def test_remove(box: Settings, library: Library, tmp_path: Path) -> None:
    done(box, "add", tiny_packs.write(tmp_path / "mine"))
    done(box, "add", tiny_packs.write(tmp_path / "newer", seed=1))
    library.choose("tiny")
    refused = run(box, "remove", "tiny").exception
    assert isinstance(refused, PreconditionError)
    assert "is in use: `facesvc models use` another one first" in str(refused)
    library.choose("default")
    assert "removed, with the version before it" in done(box, "remove", "tiny")
    assert library.names() == ["default"]
    assert not (library.folder / ".tiny.previous").exists()
    assert isinstance(run(box, "remove", "default").exception, PreconditionError)
    assert isinstance(run(box, "remove", "tiny").exception, NotFoundError)


def test_add_kept_what_was_there_when_it_was_killed(box: Settings, library: Library, tmp_path: Path) -> None:
    done(box, "add", tiny_packs.write(tmp_path / "mine"))
    old = library.open("tiny").contract_id
    newer = box.model_copy(update={"models": ModelSettings(cache_dir=tmp_path / "newer box")})
    done(newer, "add", tiny_packs.write(tmp_path / "newer", seed=1))
    new = Library(newer.models.cache_dir).open("tiny")
    script = [sys.executable, "-c", INSTALL_KILLED_AT_EVERY_MOMENT, library.folder, new.folder, tmp_path / "killed"]
    ran = subprocess.run(script, capture_output=True, text=True, timeout=60, check=False)
    assert ran.returncode == 0, ran.stderr
    status, *seen = ran.stdout.split()
    assert status == "0", signal.Signals(-int(status))
    assert set(seen) == {old, new.contract_id}
    assert len(seen) > 12  # two files and a manifest, each opened and synced, and some renames
    assert seen == sorted(seen, key=[old, new.contract_id].index)


def test_add_and_use_of_real_weights(box: Settings, library: Library, pack_cache: Path) -> None:
    shared = Path(os.environ.get("FACESVC_SHARED") or Path(__file__).resolve().parents[3] / "shared")
    if not (shared / EDGE_S).is_dir():
        pytest.skip(f"no shared test material: {shared} is not there; FACESVC_SHARED may name another folder")
    assert isinstance(run(box, "add", shared / EDGE_S).exception, PreconditionError)
    told = json.loads(done(box, "add", shared / EDGE_S, "--accept-license", "--json"))
    assert (told["pack"], told["dimension"]) == ("edge_s", 128)
    assert told["licences"] == ["edge_s 1: non-commercial research"]
    shutil.copytree(pack_cache / "default", library.folder / "default")
    done(box, "use", "edge_s")
    assert done(box, "verify").startswith("edge_s: 2 files, 7.3 MB, all whole")
