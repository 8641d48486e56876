"""A stolen box, disk or backup: whoever has the files but not the master key has nothing."""

import base64
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import grpc
import numpy as np
import pytest
from attackers.besieged import CARD, NAME, OTHER_NAME, TEAM, Box, film, refused

from facesvc import config
from facesvc.backup.restore import Restore
from facesvc.backup.shelf import Shelf, keys_at_hand
from facesvc.cli import doctor_security
from facesvc.cli.findings import Level
from facesvc.cli.init import tokens_in
from facesvc.config import GallerySettings
from facesvc.database.opening import open_database
from facesvc.errors import DependencyError
from facesvc.gallery import EmbeddingContract, Gallery
from facesvc.gallery.masterkey import KeyFile
from facesvc.security.roles import Role

NOW = datetime.now(UTC)


@pytest.fixture
def loot(box: Box, tmp_path: Path) -> Path:
    """All that the server keeps, with a person who was seen, events, an audit log and a backup; not the keys in etc."""
    film(box)
    box.client("admin").create_backup()
    shutil.copytree(box.data, tmp_path / "data")
    shutil.copytree(box.folder / "backups", tmp_path / "backups")
    return tmp_path


@pytest.fixture
def other_key(tmp_path: Path) -> KeyFile:
    key = KeyFile(tmp_path / "thief" / "master.key")
    key.make()
    return key


def opened(box: Box, loot: Path, key: KeyFile) -> Gallery:
    contract = EmbeddingContract(box.client("admin").embed(box.picture).embedding_contract, 128)
    database = open_database(loot / "data" / "gallery.db")
    try:
        return Gallery.open(database, contract, NOW, [key])
    except BaseException:
        database.close()
        raise


def test_the_database_opens_with_its_key_only(box: Box, loot: Path, other_key: KeyFile) -> None:
    with pytest.raises(DependencyError) as error:
        opened(box, loot, other_key)
    assert error.value.reason == "KEY_WRONG"
    with closing(opened(box, loot, KeyFile(box.etc / "master.key"))) as gallery:
        assert gallery.get_subject("default", "jane-q").display_name == NAME


def pieces(box: Box) -> Iterator[tuple[str, bytes]]:
    """What a thief looks for: names, numbers, faces, tokens, keys."""
    for text in (NAME, OTHER_NAME, CARD, TEAM):
        yield from ((text, text.encode(encoding)) for encoding in ("utf-8", "utf-16-le"))
    [face] = box.client("admin").embed(box.picture).faces
    for kind in ("<f4", "<f2", "<f8", ">f4"):
        yield f"vector {kind}", np.array(face.embedding, kind)[:8].tobytes()
    for name, token in box.tokens.items():
        yield f"token {name}", token[31:].encode()
        yield f"token {name}, as bytes", base64.urlsafe_b64decode(token[31:] + "=")
    yield "the picture", box.picture[100:132]
    key = (box.etc / "master.key").read_bytes()
    yield from (("master key", form) for form in (key, key.hex().encode(), base64.b64encode(key)))


def test_no_file_tells_a_name_a_face_or_a_secret(box: Box, loot: Path) -> None:
    files = [path for path in loot.rglob("*") if path.is_file()]
    assert {path.name for path in files} >= {"gallery.db", "gallery.db-keys"}
    assert len(files) > 5
    content = b"\n".join(path.read_bytes() for path in files)
    assert b"jane-q" in content, "ids are in the clear"
    assert [what for what, piece in pieces(box) if piece in content] == []


def test_a_hash_of_the_database_is_no_token(box: Box, loot: Path) -> None:
    with closing(sqlite3.connect(loot / "data" / "gallery.db")) as connection:
        rows = connection.execute("SELECT token_id, hash FROM tokens WHERE role = 'admin'").fetchall()
    assert rows
    for token_id, digest in rows:
        secret = base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
        error = refused(box.client(f"fsv_{token_id}_{secret}").server_info)
        assert error.code in {grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.RESOURCE_EXHAUSTED}


def test_a_backup_opens_with_its_key_only(box: Box, loot: Path, other_key: KeyFile, tmp_path: Path) -> None:
    target = tmp_path / "restored" / "gallery.db"
    shelf = Shelf(loot / "backups", keys_at_hand([other_key]))
    with pytest.raises(DependencyError) as error:
        Restore(shelf, shelf.names()[-1], [other_key], NOW, "a thief").to_file(target)
    assert error.value.reason == "KEY_WRONG"
    assert not target.parent.exists()


@pytest.mark.parametrize("part", ["manifests", "keys", "chunks"])
def test_a_backup_that_was_changed_is_not_restored(box: Box, loot: Path, tmp_path: Path, part: str) -> None:
    own, target = KeyFile(box.etc / "master.key"), tmp_path / "restored" / "gallery.db"
    files = [path for path in (loot / "backups" / part).iterdir() if path.is_file()]
    assert files
    for path in files:
        whole = path.read_bytes()
        path.write_bytes(whole[:40] + bytes([whole[40] ^ 1]) + whole[41:])
    shelf = Shelf(loot / "backups", keys_at_hand([own]))
    name = shelf.names()[-1]

    def restore() -> None:
        Restore(shelf, name, [own], NOW, "somebody").to_file(target)

    with pytest.raises(DependencyError) as error:
        restore()
    assert error.value.reason in {"BACKUP_DAMAGED", "GALLERY_DAMAGED", "KEY_WRONG"}
    assert not target.exists()


def test_a_restore_makes_no_revoked_token_good_again(box: Box, loot: Path) -> None:
    """Somebody who was put out waits for the box to go back in time, or sees to it."""
    own, path = KeyFile(box.etc / "master.key"), loot / "data" / "gallery.db"
    gallery = GallerySettings(path=path, key_file=box.etc / "master.key")
    with closing(open_database(path)) as database:
        tokens = tokens_in(database, gallery, NOW)
        tokens.revoke("door")
        text = tokens.create("since", Role.DOOR)[1]
    shelf = Shelf(loot / "backups", keys_at_hand([own]))
    Restore(shelf, shelf.names()[-1], [own], datetime.now(UTC), "somebody").to_file(path)
    with closing(open_database(path)) as database:
        tokens = tokens_in(database, gallery, NOW)
        assert tokens.find(box.tokens["door"]) is None
        assert tokens.find(box.tokens["camera"]) is not None
        assert tokens.find(text) is not None


def test_a_key_that_others_can_read_is_reported_and_not_used(box: Box, loot: Path) -> None:
    etc = loot / "etc"
    shutil.copytree(box.etc, etc)
    text = (etc / "facesvc.toml").read_text().replace(str(box.etc), str(etc)).replace(str(box.data), str(loot / "data"))
    (etc / "facesvc.toml").write_text(text)
    settings = config.load(etc / "facesvc.toml")
    assert doctor_security.rights(settings).level is Level.OK
    (etc / "master.key").chmod(0o644)
    finding = doctor_security.rights(settings)
    assert (finding.level, str(etc / "master.key") in finding.found) == (Level.ERROR, True)
    with pytest.raises(DependencyError) as error:
        opened(box, loot, KeyFile(etc / "master.key"))
    assert error.value.reason == "KEY_EXPOSED"
