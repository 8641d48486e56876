"""Somebody who changes what the box goes by: its log, its settings, its models, its database."""

import hashlib
import shutil
import sqlite3
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import pytest
from attackers.besieged import Box
from attackers.test_stolen_box import loot, opened

from facesvc import config
from facesvc.api import transport
from facesvc.cli.init import tokens_in
from facesvc.config import GallerySettings
from facesvc.database.opening import open_database
from facesvc.errors import ConfigError
from facesvc.events.audit import AuditLog
from facesvc.gallery.masterkey import KeyFile
from facesvc.models import default_pack
from facesvc.models.packs import verify

__all__ = ["loot"]  # a fixture


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE audit SET actor = 'somebody else' WHERE sequence = 2",
        "DELETE FROM audit WHERE sequence = 2",
        "DELETE FROM audit WHERE sequence = (SELECT max(sequence) FROM audit)",
        "DELETE FROM audit",
    ],
)
def test_a_log_that_was_changed(box: Box, loot: Path, change: str) -> None:
    key = KeyFile(box.etc / "master.key")
    with closing(sqlite3.connect(loot / "data" / "gallery.db")) as connection, connection:
        assert connection.execute(change).rowcount
    with closing(opened(box, loot, key)) as gallery:
        log = AuditLog(gallery._store._database, gallery.keyring, lambda: datetime.now(UTC))
        assert log.verify().broken_sequence
    assert box.client("auditor").verify_audit().broken_sequence == 0


def test_a_token_that_was_written_into_the_database(box: Box, loot: Path) -> None:
    secret = "A" * 43
    row = ("0" * 26, "me", "admin", '{"camera_ids": [], "collection_ids": [], "names": false}')
    values = (*row, hashlib.sha256(secret.encode()).digest(), 0, None)
    with closing(sqlite3.connect(loot / "data" / "gallery.db")) as connection, connection:
        connection.execute("INSERT INTO tokens VALUES (?, ?, ?, ?, ?, ?, ?)", values)
    with closing(open_database(loot / "data" / "gallery.db")) as database:
        gallery = GallerySettings(path=loot / "data" / "gallery.db", key_file=box.etc / "master.key")
        tokens = tokens_in(database, gallery, datetime.now(UTC))
        assert tokens.find(box.tokens["camera"]) is not None
        assert tokens.find(f"fsv_{'0' * 26}_{secret}") is None


@pytest.mark.parametrize(
    "lines",
    [
        "[server]\nlisten = '0.0.0.0:50051; rm -rf /'",
        "[server]\nplaintxt = true",
        "[limits]\nprobes_per_second = 0",
        "[limits]\nprobes_per_second = inf\nmax_faces = 100000",
        "[limits]\nhandshake_timeout_seconds = -1",
        "[metrics]\nlisten = '0.0.0.0:9464'",
        "[oidc]\nissuer = 'http://evil.example'\naudience = 'a'\n[oidc.roles]\nx = 'admin'",
        "[oidc]\nissuer = 'https://id.example'\naudience = 'a'\nalgorithms = ['none']\n[oidc.roles]\nx = 'admin'",
        "[oidc]\nissuer = 'https://id.example'\naudience = 'a'\nalgorithms = ['HS256']\n[oidc.roles]\nx = 'admin'",
        "[oidc]\nissuer = 'https://id.example'\naudience = 'a'\n[oidc.roles]\nx = 'root'",
        "[policies.access]\ndecision_lifetime_seconds = 86400",
        "[policies.access]\nfalse_match_rate = 2",
        "[store]\nbox_id = '../../etc'",
        "[models]\nmirror = 'file:///etc'",
        "server = '\x00'",
    ],
)
def test_settings_that_would_open_the_box(tmp_path: Path, lines: str) -> None:
    file = tmp_path / "facesvc.toml"
    file.write_text(lines)
    with pytest.raises(ConfigError):
        config.load(file)


@pytest.mark.parametrize("address", ["0.0.0.0:0", "[::]:0", "192.0.2.1:0"])
def test_a_server_in_plain_text_for_everybody_does_not_start(box: Box, address: str) -> None:
    settings = config.load(box.etc / "facesvc.toml")
    with pytest.raises(ConfigError, match="others can reach"):
        transport.check(settings.server.model_copy(update={"plaintext": True}), address)


def test_a_model_that_was_swapped(pack_cache: Path, tmp_path: Path) -> None:
    """This is asked before a pack is opened: one that facesvc builds is built anew, any other ends the start."""
    folder = tmp_path / default_pack.NAME
    shutil.copytree(pack_cache / default_pack.NAME, folder)
    assert verify(folder) == []
    content = bytearray((folder / "embedder.onnx").read_bytes())
    content[len(content) // 2] ^= 1
    (folder / "embedder.onnx").write_bytes(content)
    assert verify(folder) == ["embedder.onnx has another SHA-256 than the manifest says"]
