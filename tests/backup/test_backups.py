"""A backup is of one moment, sealed, shared where nothing changed, and there as a whole or not at all."""

import stat
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from threading import Event

import numpy as np
import pytest
from backup.offices import Office, at, contents, office, shelf_of, traces_of

from facesvc.backup import Shelf
from facesvc.database import sqlite
from facesvc.database.sqlite import SqliteDatabase
from facesvc.errors import NotFoundError


def test_a_backup_is_made_listed_and_whole(open_office: Office, tmp_path: Path) -> None:
    made = open_office.backups.create(at(1))
    assert (made.create_time, made.subject_count, made.problem) == (at(1), 2, "")
    assert 0 < made.new_bytes < made.size_bytes
    shelf = shelf_of(tmp_path)
    assert shelf.names() == [made.name]
    assert shelf.describe(made.name, verify=True) == made
    known = shelf.open(made.name).manifest
    assert (known.contract_id, known.sample_count, known.subject_count) == ("resnet-a/1", 2, 2)
    assert set(known.steps) == {"migrations", "events_migrations", "audit_migrations"}


def test_only_its_owner_can_read_it_and_it_says_nothing(open_office: Office, tmp_path: Path) -> None:
    open_office.backups.create(at(1))
    places = list((tmp_path / "backups").rglob("*"))
    assert {stat.S_IMODE(path.stat().st_mode) for path in places if path.is_dir()} == {0o700}
    assert {stat.S_IMODE(path.stat().st_mode) for path in places if path.is_file()} == {0o600}
    assert {path.parent.name for path in places if path.is_file()} == {"backups", "chunks", "keys", "manifests"}
    said = b"".join(contents(tmp_path / "backups").values())
    assert not [trace for trace in (*traces_of("ada"), b"office", b"samples") if trace in said]


def test_what_has_not_changed_is_shared(open_office: Office, tmp_path: Path) -> None:
    crop = np.random.default_rng(1).bytes(1 << 19)
    open_office.database.execute("CREATE TABLE ballast (number INTEGER PRIMARY KEY, content BLOB)")
    for _ in range(12):
        open_office.database.execute("INSERT INTO ballast (content) VALUES (?)", (crop,))
    first = open_office.backups.create(at(1))
    second = open_office.backups.create(at(2))
    assert second.new_bytes == 0
    open_office.enrol("cem")
    third = open_office.backups.create(at(3))
    assert third.subject_count == 3
    assert 0 < third.new_bytes < first.new_bytes // 2
    shelf = shelf_of(tmp_path)
    assert [shelf.describe(name, verify=True).problem for name in shelf.names()] == ["", "", ""]


def test_the_oldest_are_removed_with_the_chunks_that_nobody_needs(tmp_path: Path) -> None:
    with office(tmp_path, keep=2) as opened:
        names = []
        for hour in range(1, 5):
            opened.enrol(f"person-{hour}")
            names.append(opened.backups.create(at(hour)).name)
        assert opened.backups.shelf.names() == names[2:]
        used = {chunk for name in names[2:] for chunk in opened.backups.shelf.open(name).manifest.chunks}
    there = {path.name for path in contents(tmp_path / "backups")}
    assert there == used | {f"{name}.{kind}" for name in names[2:] for kind in ("keys", "manifest")} | {
        ".making",
        ".changing",
    }


def test_a_clock_that_was_set_back_costs_no_backup(tmp_path: Path) -> None:
    with office(tmp_path, keep=1) as opened:
        opened.enrol("ada")
        opened.backups.create(at(5))
        made = opened.backups.create(at(1))
        assert opened.backups.shelf.names() == [made.name]


def test_chunks_stay_while_somebody_else_s_backup_may_need_them(open_office: Office, tmp_path: Path) -> None:
    first = open_office.backups.create(at(1))
    manifest = tmp_path / "backups" / "manifests" / f"{first.name}.manifest"
    content = manifest.read_bytes()
    manifest.write_bytes(b"{}\n")
    open_office.backups.create(at(2))
    manifest.write_bytes(content)
    assert shelf_of(tmp_path).describe(first.name, verify=True).problem == ""


def test_enrolment_and_erasure_go_on_while_a_backup_is_made(open_office: Office, tmp_path: Path) -> None:
    open_office.database.execute("CREATE TABLE ballast (content BLOB)")
    open_office.database.execute("INSERT INTO ballast VALUES (zeroblob(24000000))")
    stop = Event()

    def change() -> int:
        number = 0
        while not stop.is_set():
            open_office.enrol(f"busy-{number}")
            if number % 3 == 0:
                open_office.erase(f"busy-{number}", at(2))
            number += 1
        return number

    with ThreadPoolExecutor(1) as thread:
        running = thread.submit(change)
        try:
            made = open_office.backups.create(at(1))
        finally:
            stop.set()
        assert running.result() > 2
    shelf = shelf_of(tmp_path)
    opened = shelf.open(made.name)
    assert shelf.describe(made.name, verify=True).problem == ""
    copy = tmp_path / "copy.db"
    copy.write_bytes(b"".join(shelf.pieces(opened)))
    with closing(SqliteDatabase(copy)) as database:
        assert database.select("PRAGMA integrity_check") == [("ok",)]
        copied = {name for (name,) in database.select("SELECT subject_id FROM subjects")}
    keys = {row[1] for row in shelf.key_tables(opened).people}
    assert keys <= copied
    erased = {row[0] for row in open_office.database.select("SELECT subject_id FROM receipts")}
    assert copied - keys <= erased
    assert not keys & erased


def test_a_copy_lets_others_have_their_turn_and_has_what_they_did(
    open_office: Office, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    database = open_office.database
    database.execute("CREATE TABLE ballast (content BLOB)")
    database.execute("INSERT INTO ballast VALUES (zeroblob(24000000))")
    database.execute("CREATE TABLE turns (number INTEGER PRIMARY KEY)")
    stop, done, seen = Event(), [0], list[int]()
    give_way = SqliteDatabase._give_way

    def watched(self: SqliteDatabase) -> None:
        give_way(self)
        seen.append(done[0])

    monkeypatch.setattr(SqliteDatabase, "_give_way", watched)
    monkeypatch.setattr(sqlite, "_TURN_S", 0.02)

    def change() -> None:
        while not stop.is_set():
            database.execute("INSERT INTO turns DEFAULT VALUES")
            done[0] += 1

    with ThreadPoolExecutor(1) as thread:
        running = thread.submit(change)
        try:
            database.copy_to(tmp_path / "copy.db")
        finally:
            stop.set()
        running.result()
    assert seen[0] < seen[-1]
    with closing(SqliteDatabase(tmp_path / "copy.db")) as copy:
        [(count, last)] = copy.select("SELECT count(*), max(number) FROM turns")
        assert copy.select("PRAGMA integrity_check") == [("ok",)]
    assert count == last >= seen[-1]


def test_who_is_erased_during_a_backup_is_not_in_it(
    open_office: Office, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put = Shelf.put
    erased: list[object] = []

    def put_and_erase(self: Shelf, *piece: object) -> object:
        if not erased:
            erased.append(open_office.erase("ada", at(1)))
            open_office.enrol("ada")  # another person's key, which opens nothing in the copy
        return put(self, *piece)  # type: ignore[arg-type]  # handed through

    monkeypatch.setattr(Shelf, "put", put_and_erase)
    made = open_office.backups.create(at(1))
    shelf = shelf_of(tmp_path)
    assert [row[1] for row in shelf.key_tables(shelf.open(made.name)).people] == ["bob"]
    assert (made.subject_count, erased) == (1, [((), ())])


def test_a_backup_that_is_not_there_is_named(tmp_path: Path, open_office: Office) -> None:
    open_office.backups.create(at(1))
    for name in ("01ARZ3NDEKTSV4RRFFQ69G5FAV", "../keys", "", "ä"):
        with pytest.raises(NotFoundError, match="there is no backup"):
            shelf_of(tmp_path).open(name)


def test_both_kinds_of_databases_are_backed_up(database_url: str, tmp_path: Path) -> None:
    with office(tmp_path, url=database_url) as opened:
        opened.enrol("ada", "bob")
        made = opened.backups.create(at(1))
        assert opened.backups.shelf.describe(made.name, verify=True) == made
        assert made.subject_count == 2
        assert opened.erase("ada", at(2)) == ((made.name,), ())
        assert opened.backups.shelf.describe(made.name, verify=True).subject_count == 1
