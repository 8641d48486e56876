"""The first start: ``facesvc init``, then a server behind TLS and the commands that ask it."""

import json
import os
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import pytest
from typer.testing import CliRunner

from facesvc.cli import commands
from facesvc.cli.init import tokens_in
from facesvc.client import CallError, Client, Credentials
from facesvc.config import GallerySettings
from facesvc.database.opening import open_database
from facesvc.errors import AlreadyExistsError, ConfigError, DependencyError, InputError
from facesvc.security.authority import expiry_of, identity_of, names_of
from facesvc.security.roles import Role
from facesvc.security.tokens import Tokens

SECRETS = {"ca.key", "server.key", "master.key", "admin.token"}
PUBLIC = {"ca.pem", "server.pem", "facesvc.toml"}

Command = Callable[..., str]


@pytest.fixture
def command(no_logs: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Command:
    """The command line in this process, over a gallery of its own; its standard output. What it raises is raised."""
    monkeypatch.setenv("FACESVC_GALLERY__PATH", str(tmp_path / "data" / "gallery.db"))

    def run(*arguments: object) -> str:
        result = CliRunner().invoke(commands.app, [str(one) for one in arguments], catch_exceptions=False)
        assert result.exit_code == 0, result.output
        return result.stdout

    return run


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_it_makes_all_that_a_server_needs_and_shows_the_token_once(command: Command, tmp_path: Path) -> None:
    folder = tmp_path / "a" / "b"
    said = command("init", "--folder", folder, "--name", "box.office", "--listen", "127.0.0.1:0")
    assert {path.name for path in folder.iterdir()} == SECRETS | PUBLIC
    assert folder.stat().st_mode & 0o777 == 0o700
    assert {name: (folder / name).stat().st_mode & 0o777 for name in SECRETS} == dict.fromkeys(SECRETS, 0o600)
    token = (folder / "admin.token").read_text().strip()
    assert said.count(token) == 1
    assert f"--config {folder / 'facesvc.toml'} serve" in said
    assert {"box.office", "localhost", "127.0.0.1", "::1"} <= set(names_of(folder / "server.pem"))
    with closing(open_database(tmp_path / "data" / "gallery.db")) as database:
        key = GallerySettings(path=tmp_path / "data" / "gallery.db", key_file=folder / "master.key")
        found = tokens_in(database, key, datetime.now(UTC)).find(token)
    assert found is not None
    assert (found.name, found.role) == ("admin", Role.ADMIN)
    server = tomllib.loads((folder / "facesvc.toml").read_text())["server"]
    assert server["listen"] == "127.0.0.1:0"
    assert "plaintext" not in server


def test_nothing_that_is_there_is_replaced(command: Command, tmp_path: Path) -> None:
    folder = tmp_path / "etc"
    command("init", "--folder", folder)
    before = contents(folder)
    with pytest.raises(AlreadyExistsError, match="nothing was changed"):
        command("init", "--folder", folder)
    assert command("init", "--folder", folder, "--if-missing") == ""
    assert contents(folder) == before
    (folder / "facesvc.toml").unlink()
    for missing in ("--if-missing", "--listen=[::1]:1"):
        with pytest.raises(AlreadyExistsError, match=r"ca\.key"):
            command("init", "--folder", folder, missing)


def test_a_service_does_not_print_the_token_into_its_log(command: Command, tmp_path: Path) -> None:
    said = command("init", "--folder", tmp_path / "etc", "--if-missing")
    assert (tmp_path / "etc" / "admin.token").read_text().strip() not in said


def test_a_second_time_elsewhere_makes_another_administrator_of_the_same_gallery(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command("init", "--folder", tmp_path / "one")
    with pytest.raises(DependencyError, match="its key is missing"):
        command("init", "--folder", tmp_path / "two")
    monkeypatch.setenv("FACESVC_GALLERY__KEY_FILE", str(tmp_path / "one" / "master.key"))
    for name in ("two", "three"):
        command("init", "--folder", tmp_path / name)
    with closing(open_database(tmp_path / "data" / "gallery.db")) as database:
        tokens = Tokens(database, bytes(32), lambda: datetime.now(UTC))
        assert {token.name for token in tokens.list_tokens()} == {"admin", "admin-2", "admin-3"}
        tokens.revoke("admin")
        tokens.revoke("admin-2")
    command("init", "--folder", tmp_path / "four")
    assert (tmp_path / "four" / "admin.token").exists()


def test_a_gallery_that_is_there_keeps_its_key(command: Command, tmp_path: Path) -> None:
    key = tmp_path / "data" / "gallery.key"
    key.parent.mkdir()
    key.write_bytes(bytes(range(32)))
    key.chmod(0o600)
    said = command("init", "--folder", tmp_path / "etc")
    assert not (tmp_path / "etc" / "master.key").exists()
    assert str(key) in said
    settings = tomllib.loads((tmp_path / "etc" / "facesvc.toml").read_text())
    assert settings["gallery"]["key_file"] == str(key)


def test_a_folder_of_everybody_stays_as_it_is(command: Command, tmp_path: Path) -> None:
    folder = tmp_path / "tmp"
    folder.mkdir()
    folder.chmod(0o1777)
    with pytest.raises(InputError, match="choose a folder of its own"):
        command("init", "--folder", folder)
    assert folder.stat().st_mode & 0o7777 == 0o1777
    assert contents(folder) == {}


def test_what_cannot_be_made_leaves_nothing_half_done(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "etc"
    for arguments in (("--listen", "nowhere"), ("--name", "büro.example")):
        with pytest.raises(InputError):
            command("init", "--folder", folder, *arguments)
        assert not folder.exists()
    (tmp_path / "file").touch()
    with pytest.raises(DependencyError, match="cannot be made"):
        command("init", "--folder", tmp_path / "file" / "etc")
    monkeypatch.setenv("FACESVC_GALLERY__PATH", str(tmp_path / "file" / "gallery.db"))
    with pytest.raises(DependencyError):
        command("init", "--folder", folder)
    monkeypatch.setenv("FACESVC_GALLERY__PATH", str(tmp_path / "data" / "gallery.db"))
    command("init", "--folder", folder)


def test_certificates_are_shown_renewed_and_issued(command: Command, tmp_path: Path) -> None:
    folder = tmp_path / "etc"
    command("init", "--folder", folder, "--name", "box.office")
    certs = ("--config", folder / "facesvc.toml", "certs")
    before, names = contents(folder), names_of(folder / "server.pem")
    shown = json.loads(command(*certs, "show", "--json"))
    assert shown["names"] == names
    assert datetime.fromisoformat(shown["expire_time"]) == expiry_of(folder / "server.pem")
    assert "box.office" in command(*certs, "show")
    command(*certs, "renew", "--days", "7")
    after = contents(folder)
    assert {name for name in after if after[name] != before[name]} == {"server.key", "server.pem"}
    assert (expiry_of(folder / "server.pem") - datetime.now(UTC)).days == 6
    assert names_of(folder / "server.pem") == names
    command(*certs, "issue", "gate-1", "--role", "camera", "--out", tmp_path)
    identity = identity_of((tmp_path / "gate-1.pem").read_bytes(), datetime.now(UTC))
    assert (identity.name, identity.role) == ("gate-1", Role.CAMERA)
    assert (tmp_path / "gate-1.key").stat().st_mode & 0o777 == 0o600


def test_no_key_is_written_over_when_one_is_issued(command: Command, tmp_path: Path) -> None:
    folder = tmp_path / "etc"
    command("init", "--folder", folder)
    issue = ("--config", folder / "facesvc.toml", "certs", "issue", "--role", "camera", "--out", folder)
    before = contents(folder)
    for name, words in (("ca", "there already"), ("server", "there already"), ("../x", "slashes"), ("", "printable")):
        with pytest.raises(InputError, match=words):
            command(*issue, name)
    assert contents(folder) == before


def test_without_certificates_of_ours_there_is_nothing_to_renew(command: Command, tmp_path: Path) -> None:
    for action in ("renew", "show"):
        with pytest.raises(ConfigError, match="facesvc init"):
            command("certs", action)


@pytest.fixture
def served(command: Command, pack_cache: Path, tmp_path: Path) -> Iterator[str]:
    """The address of a server that runs as a process of its own with what ``init`` has made; it logs into ``log``."""
    command("init", "--folder", tmp_path / "etc", "--listen", "127.0.0.1:0")
    ours = {"FACESVC_MODELS__CACHE_DIR": str(pack_cache), "PYTHONWARNINGS": "ignore"}
    environment = {name: value for name, value in os.environ.items() if not name.startswith("FACESVC_")} | ours
    options = ["--log-level", "debug", "--config", str(tmp_path / "etc" / "facesvc.toml")]
    serve = [sys.executable, "-m", "facesvc", *options, "serve"]
    with (
        (tmp_path / "log").open("wb") as log,
        subprocess.Popen(serve, env=environment, stdout=subprocess.PIPE, stderr=log, text=True) as process,
    ):
        assert process.stdout is not None
        try:
            yield process.stdout.readline().rsplit(" ", 1)[-1].strip()
        finally:
            process.terminate()
            process.wait(20)


def test_a_server_is_secure_from_its_first_start(
    served: str, command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "etc"
    own = (folder / "admin.token").read_text().strip()
    config, server = ("--config", folder / "facesvc.toml"), ("--server", served)
    create = (*config, "token", "create", "wall", "--role", "dashboard", "--collection", "lab")
    made = json.loads(command(*create, "--json", *server))
    assert (made["name"], made["role"], made["collection_ids"]) == ("wall", "dashboard", ["lab"])
    listed = command(*config, "token", "list", *server) + command(*config, "token", "list", "--json", *server)
    assert "wall" in listed
    assert "admin" in listed
    wall = Credentials(ca=(folder / "ca.pem").read_bytes(), token=made["token"])
    with Client(served, credentials=wall) as client:
        assert client.server_info().version
        with monkeypatch.context() as stranger:
            stranger.setenv("FACESVC_TOKEN", "fsv_nonsense")
            with pytest.raises(CallError, match="this is no token of this server"):
                command(*config, "token", "list", *server)
        assert "wall is worthless" in command(*config, "token", "revoke", "wall", *server)
        with pytest.raises(CallError, match="was revoked"):
            client.server_info()
    command(*config, "certs", "renew")
    with Client(served, credentials=Credentials.read(folder)) as admin:
        entries = list(admin.list_audit())
    actions = [(entry.action, entry.actor.split(" at ")[0]) for entry in entries]
    assert actions == [("CreateToken", "admin"), ("RevokeToken", "admin")]
    told = (tmp_path / "log").read_text() + "".join(map(str, entries)) + listed
    for secret in (own, made["token"]):
        assert secret[31:] not in told
