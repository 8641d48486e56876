"""``facesvc doctor`` on what keeps others out: certificates, rights, swap."""

import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from facesvc.cli import doctor_security
from facesvc.cli.findings import Finding, Level
from facesvc.cli.init import keep, keep_authority
from facesvc.config import ClientSettings, GallerySettings, ServerSettings, Settings
from facesvc.gallery.keyfile import KeyFile
from facesvc.security import swap
from facesvc.security.authority import CA_DAYS, Authority

NOW = datetime.now(UTC)


def made(
    folder: Path, *, authority_age: timedelta = timedelta(), lifetime: timedelta = timedelta(days=397)
) -> Settings:
    """What ``init`` makes in ``folder``: an authority of that age, and a certificate for so long."""
    folder.mkdir(mode=0o700)
    authority = Authority.make("box", NOW - authority_age)
    keep_authority(folder, authority)
    keep(folder / "server.pem", folder / "server.key", authority.issue_server(["box.office", "::1"], NOW, lifetime))
    KeyFile(folder / "master.key").make()
    (folder / "admin.token").touch(0o600)
    server = ServerSettings(certificate_file=folder / "server.pem", key_file=folder / "server.key")
    return Settings(
        gallery=GallerySettings(path=folder / "gallery.db", key_file=folder / "master.key"),
        client=ClientSettings(ca_file=folder / "ca.pem", token_file=folder / "admin.token"),
    ).model_copy(update={"server": server})


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "etc"


def test_a_certificate_that_is_good(folder: Path) -> None:
    finding = doctor_security.certificate(made(folder))
    until = f"{NOW + timedelta(days=397):%Y-%m-%d}"
    assert finding == Finding(Level.OK, f"{folder / 'server.pem'} for box.office, ::1, good until {until}")


@pytest.mark.parametrize(
    ("lifetime", "level", "words"),
    [
        (timedelta(days=31), Level.OK, "good until"),
        (timedelta(days=29, hours=1), Level.WARNING, "29 days"),
        (timedelta(minutes=5), Level.WARNING, "0 days"),
        (timedelta(minutes=-1), Level.ERROR, "that is over"),
    ],
)
def test_one_that_ends(folder: Path, lifetime: timedelta, level: Level, words: str) -> None:
    finding = doctor_security.certificate(made(folder, lifetime=lifetime))
    assert finding.level is level
    assert words in finding.found
    assert finding.advice.startswith("`facesvc certs renew`" if level is not Level.OK else "")


@pytest.mark.parametrize(("days_left", "level"), [(31, Level.OK), (29, Level.WARNING), (-1, Level.ERROR)])
def test_an_authority_that_ends(folder: Path, days_left: int, level: Level) -> None:
    finding = doctor_security.certificate(made(folder, authority_age=timedelta(days=CA_DAYS - days_left, hours=-1)))
    assert finding.level is level
    assert str(folder / "ca.pem") in finding.found
    assert level is Level.OK or "init --folder" in finding.advice


def test_every_authority_that_is_named_is_looked_at(folder: Path, tmp_path: Path) -> None:
    settings = made(folder)
    old = tmp_path / "clients.pem"
    old.write_bytes(Authority.make("clients", NOW - timedelta(days=CA_DAYS + 1)).pem)
    server = settings.server.model_copy(update={"client_ca_file": old})
    finding = doctor_security.certificate(settings.model_copy(update={"server": server}))
    assert finding.level is Level.ERROR
    assert str(old) in finding.found
    old.unlink()
    assert "cannot be read" in doctor_security.certificate(settings.model_copy(update={"server": server})).found


def test_a_key_that_is_not_its_own(folder: Path, tmp_path: Path) -> None:
    settings = made(folder)
    other = made(tmp_path / "other")
    assert other.server.key_file is not None
    (folder / "server.key").write_bytes(other.server.key_file.read_bytes())
    finding = doctor_security.certificate(settings)
    assert finding.level is Level.ERROR
    assert "not that of" in finding.found
    (folder / "server.key").unlink()
    assert "server.key cannot be read" in doctor_security.certificate(settings).found


@pytest.mark.parametrize("content", [None, b"", b"no PEM"])
def test_a_certificate_that_cannot_be_read(folder: Path, content: bytes | None) -> None:
    settings = made(folder)
    (folder / "server.pem").unlink()
    if content is not None:
        (folder / "server.pem").write_bytes(content)
    finding = doctor_security.certificate(settings)
    assert finding.level is Level.ERROR
    assert "server.pem cannot be read" in finding.found


def test_no_certificate(settings: Settings) -> None:
    assert doctor_security.certificate(settings).level is Level.OK
    server = settings.server.model_copy(update={"plaintext": False})
    finding = doctor_security.certificate(settings.model_copy(update={"server": server}))
    assert (finding.level, finding.advice) == (Level.WARNING, "`facesvc init` makes one")


def test_rights_as_init_sets_them(folder: Path, settings: Settings) -> None:
    assert doctor_security.rights(made(folder)) == Finding(
        Level.OK, "4 files with keys and tokens, each for its owner alone"
    )
    assert doctor_security.rights(settings).found.startswith("0 files")


@pytest.mark.parametrize("name", ["master.key", "server.key", "ca.key", "admin.token"])
def test_a_secret_that_others_may_read(folder: Path, name: str) -> None:
    settings = made(folder)
    (folder / name).chmod(0o640)
    finding = doctor_security.rights(settings)
    assert finding.level is Level.ERROR
    assert str(folder / name) in finding.found
    command, _, rest = finding.advice.partition(";")
    assert "keys rotate" in rest
    assert os.system(command) == 0
    assert doctor_security.rights(settings).level is Level.OK


def test_a_folder_in_which_others_may_put_their_own(folder: Path) -> None:
    settings = made(folder)
    folder.chmod(0o770)
    (folder / "ca.key").chmod(0o604)
    finding = doctor_security.rights(settings)
    assert finding.level is Level.ERROR
    assert finding.advice.startswith(f"chmod 600 {folder / 'ca.key'} && chmod go-w {folder};")
    folder.chmod(0o1777)
    (folder / "ca.key").chmod(0o600)
    assert doctor_security.rights(settings).level is Level.OK  # as /tmp: others may put files beside, and replace none


def test_the_next_master_key_is_a_secret_too(folder: Path) -> None:
    settings = made(folder)
    (folder / "master.key.next").touch(0o644)
    (folder / "master.key.next").chmod(0o644)
    assert "master.key.next" in doctor_security.rights(settings).found


def test_what_cannot_be_looked_at(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = made(folder)
    stat = Path.stat

    def refused(path: Path, **options: bool) -> os.stat_result:
        if path.suffix == ".token":
            raise PermissionError(13, "Permission denied", str(path))
        return stat(path, **options)

    monkeypatch.setattr(Path, "stat", refused)
    finding = doctor_security.rights(settings)
    assert finding.level is Level.WARNING
    assert "admin.token cannot be looked at" in finding.found


def test_a_key_from_elsewhere_is_no_file(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    for key in ("env:THE_KEY", "nonsense"):
        gallery = settings.gallery.model_copy(update={"key": key})
        assert doctor_security.rights(settings.model_copy(update={"gallery": gallery})).found.startswith("0 files")


def test_swap(settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(swap, "CGROUP", tmp_path)
    monkeypatch.setattr(swap, "OWN_CGROUP", tmp_path / "cgroup")
    monkeypatch.setattr(swap, "areas", list)
    assert doctor_security.swapping(settings).level is Level.OK
    monkeypatch.setattr(swap, "areas", lambda: ["/swapfile"])
    finding = doctor_security.swapping(settings)
    assert (finding.level, finding.found) == (Level.WARNING, "/swapfile, not encrypted")
    (tmp_path / doctor_security.SERVICE).mkdir(parents=True)
    (tmp_path / doctor_security.SERVICE / "memory.swap.max").write_text("0\n")
    assert doctor_security.swapping(settings) == Finding(
        Level.OK, "/swapfile, not encrypted; the server is kept out of it"
    )
