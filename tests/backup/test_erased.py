"""Whoever was erased cannot be read in any backup, whatever happened between the erasure and the backup."""

import json
import shutil
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from backup.offices import at, contents, key_of, office, shelf_of, traces_of
from structlog.testing import capture_logs

from facesvc.backup import Backups, keys, manifest
from facesvc.backup.restore import Restore
from facesvc.backup.shelf import Shelf
from facesvc.database.sqlite import SqliteDatabase
from facesvc.errors import UnavailableError
from facesvc.gallery.crypto import Cipher, SealBrokenError


def opened_by_all_keys(shelf: Shelf, name: str) -> bytes:
    """Everything in a backup that the master key, and all keys found with it, open; and the rest as it is."""
    opened = shelf.open(name)
    copy = shelf.folder.path / "copy.db"
    copy.write_bytes(b"".join(shelf.pieces(opened)))
    tables = shelf.key_tables(opened)
    ciphers = [opened.cipher]
    found = []
    with closing(SqliteDatabase(copy)) as database:
        for table, columns in (
            ("subjects", "sealed"),
            ("samples", "sealed"),
            ("vectors", "sealed"),
            ("crops", "sealed"),
        ):
            found += [value for (value,) in database.select(f"SELECT {columns} FROM {table}")]
    return b"".join(found) + json.dumps([list(map(str, row)) for row in tables.people]).encode() + bytes(len(ciphers))


def key_left(shelf: Shelf, name: str, subject_id: str) -> bool:
    return subject_id in {row[1] for row in shelf.key_tables(shelf.open(name)).people}


def test_an_erasure_reaches_every_backup(tmp_path: Path) -> None:
    with office(tmp_path) as opened:
        opened.enrol("ada", "bob")
        first, second = (opened.backups.create(at(hour)).name for hour in (1, 2))
        opened.enrol("cem")
        third = opened.backups.create(at(3)).name
        before = contents(tmp_path / "backups" / "keys")
        assert opened.erase("ada", at(4)) == ((first, second, third), ())
        assert opened.backups.puncture("office", "ada") == ((), ())
        assert opened.erase("cem", at(4)) == ((third,), ())
        after = contents(tmp_path / "backups" / "keys")
        assert {path: len(content) for path, content in before.items()} == {
            path: len(content) for path, content in after.items()
        }
        shelf = opened.backups.shelf
        assert [shelf.describe(name, verify=True).problem for name in shelf.names()] == ["", "", ""]
        assert [shelf.describe(name).subject_count for name in shelf.names()] == [1, 1, 1]


def test_nothing_that_opens_what_was_known_of_them_is_left(tmp_path: Path) -> None:
    with office(tmp_path) as opened:
        opened.enrol("ada", "bob")
        name = opened.backups.create(at(1)).name
        shelf = opened.backups.shelf
        backup = shelf.open(name)
        [place] = keys.places_of(shelf.folder.keys(name).read_bytes(), backup.cipher, [("office", "ada")])
        sealed = shelf.folder.keys(name).read_bytes()[place[0] : sum(place)]
        [wrapped] = [row[3] for row in shelf.key_tables(backup).people if row[1] == "ada"]
        opened.erase("ada", at(2))
        everything = b"".join(contents(tmp_path / "backups").values()) + opened_by_all_keys(shelf, name)
        assert sealed not in everything
        assert wrapped not in everything
        assert str(wrapped).encode() not in everything
        assert not [trace for trace in traces_of("ada") if trace in everything]
        assert key_left(shelf, name, "bob")


def test_a_record_that_was_half_overwritten_is_finished_at_the_next_start(tmp_path: Path) -> None:
    with office(tmp_path) as opened:
        opened.enrol("ada", "bob")
        name = opened.backups.create(at(1)).name
        file = opened.backups.shelf.folder.keys(name)
        content = file.read_bytes()
        [place] = keys.places_of(content, opened.backups.shelf.open(name).cipher, [("office", "ada")])
        opened.erase("ada", at(2))
        file.write_bytes(content[: place[0]] + bytes(20) + content[place[0] + 20 :])  # as a power cut left it
        assert "its keys were changed" in opened.backups.shelf.describe(name, verify=True).problem
    with office(tmp_path) as opened:
        assert opened.backups.shelf.describe(name, verify=True).problem == ""
        assert not key_left(opened.backups.shelf, name, "ada")


def test_a_start_makes_good_for_an_erasure_that_missed_a_backup(tmp_path: Path) -> None:
    folder, away = tmp_path / "backups", tmp_path / "away"
    with office(tmp_path) as opened:
        opened.enrol("ada", "bob")
        name = opened.backups.create(at(1)).name
        folder.rename(away)
        reached, [unreached] = opened.erase("ada", at(2))
        assert reached == ()
        assert f"the backup folder {folder} cannot be used (No such file" in unreached
    away.rename(folder)
    assert key_left(shelf_of(tmp_path), name, "ada")
    with office(tmp_path):
        pass
    assert not key_left(shelf_of(tmp_path), name, "ada")


def test_a_backup_with_their_face_under_another_name_is_named(tmp_path: Path) -> None:
    with office(tmp_path) as opened:
        opened.enrol("ada", "bob")
        sample = opened.add("bob again", "ada")
        first = opened.backups.create(at(1)).name
        [given] = opened.gallery.list_samples("office", "bob")
        opened.split(sample, "bob")
        second = opened.backups.create(at(2)).name
        opened.gallery.erase_subject("office", "bob", at(3))
        had = (given.sample_id, sample.sample_id)
        words = "holds samples of theirs under another person: destroy it, or make a new one and remove this"
        named = (f"{first}: {words}",)
        assert opened.backups.puncture("office", "bob", had) == ((first, second), named)
        assert opened.backups.puncture("office", "bob", had) == ((), named)  # it does not come clean by asking again
        many = (*had, *(f"unknown {number}" for number in range(20)))
        assert opened.backups.puncture("office", "bob", many) == ((), named)
        assert opened.backups.puncture("office", "bob", many[2:]) == ((), ())
        assert opened.backups.puncture("office", "bob") == ((), ())
        ada = [one.sample_id for one in opened.gallery.list_samples("office", "ada")]
        assert opened.backups.puncture("office", "ada", [*ada, sample.sample_id]) == ((first, second), ())
        assert opened.backups.puncture("office", "bob", had) == ((), ())  # with ada's key it is gone


def test_a_start_tells_of_a_backup_with_their_face_under_another_name(tmp_path: Path) -> None:
    with office(tmp_path) as opened:
        opened.enrol("ada")
        sample = opened.add("bob", "ada")
        name = opened.backups.create(at(1)).name
        opened.split(sample, "bob")
        opened.gallery.erase_subject("office", "bob", at(2))
    with capture_logs() as logs, office(tmp_path):
        pass
    [told] = [one for one in logs if one["log_level"] == "error"]
    assert told["backup"].startswith(f"{name}: holds samples of theirs under another person")


def test_a_key_is_taken_out_of_a_record_whose_samples_cannot_be_read(tmp_path: Path) -> None:
    with office(tmp_path) as opened:
        opened.enrol("ada", "bob")
        name = opened.backups.create(at(1)).name
        shelf = opened.backups.shelf
        file, cipher = shelf.folder.keys(name), shelf.open(name).cipher
        content = file.read_bytes()
        [(start, length)] = keys.places_of(content, cipher, [("office", "ada")])
        file.write_bytes(content[:start] + b"\xff" + content[start + 1 :])
        assert opened.backups.puncture("office", "ada", ["any"])[1][0].startswith(f"{name}: backup {name} cannot be")
        assert file.read_bytes()[start : start + length] == bytes(length)
        assert shelf.describe(name, verify=True).problem == ""


def test_who_was_taken_for_another_and_is_erased_during_a_backup_is_not_in_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keep_pieces = Backups._keep_pieces

    def erased_meanwhile(self: Backups, *arguments: object) -> object:
        opened.split(sample, "bob")
        opened.erase("bob", at(2))
        return keep_pieces(self, *arguments)  # type: ignore[arg-type]  # handed through

    with office(tmp_path) as opened:
        opened.enrol("ada")
        sample = opened.add("bob", "ada")
        with monkeypatch.context() as patched:
            patched.setattr(Backups, "_keep_pieces", erased_meanwhile)
            with pytest.raises(UnavailableError, match="was another person when the backup was begun; make it again"):
                opened.backups.create(at(1))
        assert opened.backups.shelf.names() == []
        assert opened.backups.create(at(3)).problem == ""


def test_a_start_makes_good_for_an_erasure_after_a_restore(tmp_path: Path) -> None:
    with office(tmp_path) as opened:
        opened.enrol("ada", "bob")
        first = opened.backups.create(at(1)).name
        opened.enrol("cem", "dan", "eve")
        second = opened.backups.create(at(2)).name
    folder, away = tmp_path / "backups", tmp_path / "away"
    shutil.rmtree(tmp_path / "gallery")  # nothing is left that knows how far the numbers of the second one go
    Restore(shelf_of(tmp_path), first, [key_of(tmp_path)], at(3)).to_file(tmp_path / "gallery" / "gallery.db")
    with office(tmp_path) as opened:
        folder.rename(away)
        opened.erase("ada", at(4))
    away.rename(folder)
    with office(tmp_path) as opened:
        assert [key_left(opened.backups.shelf, name, "ada") for name in (first, second)] == [False, False]
        assert key_left(opened.backups.shelf, second, "bob")


def test_a_start_goes_on_without_a_backup_whose_keys_were_cut_off(tmp_path: Path) -> None:
    people = [f"person-{number}" for number in range(12)]
    with office(tmp_path) as opened:
        opened.enrol(*people)
        first, second = (opened.backups.create(at(hour)).name for hour in (1, 2))
        folder = opened.backups.shelf.folder
        whole = folder.keys(second).read_bytes()
        folder.keys(first).write_bytes(folder.keys(first).read_bytes()[:-10])
        for one in people[:9]:
            opened.erase(one, at(3))
        folder.keys(second).write_bytes(whole)
    with office(tmp_path) as opened:
        assert "its keys were changed" in opened.backups.shelf.describe(first).problem
        assert opened.backups.shelf.describe(second, verify=True).subject_count == 3


def test_many_are_taken_out_at_once(tmp_path: Path) -> None:
    people = [f"person-{number}" for number in range(12)]
    with office(tmp_path) as opened:
        opened.enrol(*people)
        name = opened.backups.create(at(1)).name
        shelf = opened.backups.shelf
        assert shelf.take_out(name, [("office", one) for one in (*people[:10], "stranger")]) == (10, False)
        assert shelf.take_out(name, [("office", one) for one in people[:11]]) == (1, False)
        assert [row[1] for row in shelf.key_tables(shelf.open(name)).people] == ["person-11"]
        assert shelf.describe(name, verify=True).subject_count == 1


def test_who_came_back_is_in_later_backups(tmp_path: Path) -> None:
    with office(tmp_path) as opened:
        opened.enrol("ada")
        first = opened.backups.create(at(1)).name
        opened.erase("ada", at(2))
        opened.enrol("ada", now=at(3))
        second = opened.backups.create(at(4)).name
    with office(tmp_path) as opened:
        assert [key_left(opened.backups.shelf, name, "ada") for name in (first, second)] == [False, True]


@pytest.mark.parametrize("damage", ["manifest", "keys", "key"])
def test_a_backup_out_of_reach_is_named_with_why(tmp_path: Path, damage: str) -> None:
    with office(tmp_path) as opened:
        opened.enrol("ada", "bob")
        first, second = (opened.backups.create(at(hour)).name for hour in (1, 2))
        folder = opened.backups.shelf.folder
        if damage == "manifest":
            folder.manifest(first).write_bytes(folder.manifest(first).read_bytes()[:-1])
        elif damage == "keys":
            folder.keys(first).unlink()
        else:
            folder.manifest(first).write_bytes(shelf_of_another(tmp_path))
        reached, [unreached] = opened.erase("ada", at(3))
        assert reached == (second,)
        assert unreached.startswith(f"{first}: backup {first}")
        assert {"manifest": "its manifest was", "keys": "its keys are", "key": "another master key"}[
            damage
        ] in unreached


def shelf_of_another(folder: Path) -> bytes:
    """A manifest under a key that nobody here has."""
    with office(folder / "other") as opened:
        opened.enrol("ada")
        name = opened.backups.create(at(1)).name
        return opened.backups.shelf.folder.manifest(name).read_bytes()


def test_a_key_opens_its_own_backup_only(tmp_path: Path) -> None:
    with office(tmp_path) as opened:
        opened.enrol("ada")
        first, second = (opened.backups.create(at(hour)).name for hour in (1, 2))
        folder = opened.backups.shelf.folder
        folder.keys(second).write_bytes(folder.keys(first).read_bytes())
        assert "its keys were changed" in opened.backups.shelf.describe(second, verify=True).problem
        folder.manifest(second).write_bytes(folder.manifest(first).read_bytes())
        assert "another master key" in opened.backups.shelf.describe(second).problem
        assert opened.backups.shelf.describe(first, verify=True).problem == ""


def test_any_damage_is_noticed(tmp_path: Path) -> None:
    with office(tmp_path) as opened:
        opened.enrol("ada")
        name = opened.backups.create(at(1)).name
        shelf = opened.backups.shelf
    [chunk] = (tmp_path / "backups" / "chunks").iterdir()
    for file, step in ((shelf.folder.manifest(name), 7), (shelf.folder.keys(name), 13), (chunk, 40_001)):
        content = file.read_bytes()
        for at_byte in range(0, len(content), step):
            file.write_bytes(content[:at_byte] + bytes([content[at_byte] ^ 1]) + content[at_byte + 1 :])
            described = shelf.describe(name, verify=True)
            assert described.problem, (file, at_byte)
        file.write_bytes(content[: len(content) // 2])
        assert shelf.describe(name, verify=True).problem
        file.unlink()
        assert file == shelf.folder.manifest(name) or "missing" in shelf.describe(name, verify=True).problem
        file.write_bytes(content)
    assert shelf.describe(name, verify=True).problem == ""


def test_the_chunks_must_make_up_what_was_copied(tmp_path: Path) -> None:
    with office(tmp_path) as opened:
        opened.enrol("ada")
        opened.database.execute("CREATE TABLE ballast (content BLOB)")
        opened.database.execute("INSERT INTO ballast VALUES (randomblob(3000000))")
        name = opened.backups.create(at(1)).name
        shelf = opened.backups.shelf
        known = shelf.open(name)
        turned = replace(known, manifest=replace(known.manifest, chunks=known.manifest.chunks[::-1]))
        shelf.folder.manifest(name).write_bytes(manifest.seal(turned, Cipher(shelf.masters[0])))
        assert "its chunks do not make up what was copied" in shelf.describe(name, verify=True).problem


def test_a_manifest_of_the_future_is_named(tmp_path: Path) -> None:
    with office(tmp_path) as opened:
        opened.enrol("ada")
        name = opened.backups.create(at(1)).name
        file = opened.backups.shelf.folder.manifest(name)
        file.write_bytes(file.read_bytes().replace(b'"format": 1', b'"format": 2'))
        problem = opened.backups.shelf.describe(name).problem
        assert problem == f"backup {name} was made by a newer facesvc (it has format 2); restore it with that version"


def test_a_backup_opens_with_its_master_key_only(tmp_path: Path) -> None:
    with office(tmp_path) as opened:
        opened.enrol("ada")
        name = opened.backups.create(at(1)).name
    other = Shelf(tmp_path / "backups", [bytes(32)])
    assert (
        "is sealed under another master key than the one that is here; put that one back"
        in other.describe(name).problem
    )
    content = other.folder.manifest(name).read_bytes()
    key = key_of(tmp_path).read()
    assert key is not None
    with pytest.raises(SealBrokenError):
        Cipher(key).unseal(content.partition(b"\n")[2], b"")
    assert key not in b"".join(contents(tmp_path / "backups").values())
