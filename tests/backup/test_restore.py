"""A restore gives back what was in the backup, nobody who was erased, and never a mixture."""

import shutil
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
from backup.offices import (
    at,
    contents,
    key_of,
    name_of,
    office,
    shelf_of,
    traces_of,
)

from facesvc.backup.manifest import Opened
from facesvc.backup.restore import Restore, Restored
from facesvc.backup.shelf import Shelf
from facesvc.database import to_microseconds
from facesvc.database.exchange import Exchange
from facesvc.database.opening import open_database
from facesvc.database.sqlite import SqliteDatabase
from facesvc.errors import DependencyError, InputError, PreconditionError
from facesvc.events.journal import Wanted
from facesvc.gallery.crypto import is_signed
from facesvc.gallery.masterkey import KeyFile, KnownKey


def restore(folder: Path, name: str, hour: float = 10) -> Restored:
    return Restore(shelf_of(folder), name, [key_of(folder)], at(hour), "user 0").to_file(
        folder / "gallery" / "gallery.db"
    )


def test_an_empty_box_has_it_all_back(tmp_path: Path) -> None:
    box, empty = tmp_path / "box", tmp_path / "empty"
    with office(box) as opened:
        opened.enrol("ada", "bob")
        name = opened.backups.create(at(1)).name
        token = opened.journal.token(opened.journal.head)
    shutil.copytree(box / "backups", empty / "backups")
    shutil.copytree(box / "key", empty / "key")
    restored = restore(empty, name)
    assert (restored.subject_count, restored.sample_count, restored.create_time) == (2, 2, at(1))
    assert (restored.still_erased, restored.problem) == ([], "")
    with office(empty) as opened:
        assert (opened.people(), opened.found("ada")) == ({"ada", "bob"}, "ada")
        assert opened.gallery.get_subject("office", "ada").display_name == name_of("ada")
        assert opened.gallery.crops("office", "bob").popitem()[1].startswith(b"crop of bob")
        assert len(opened.journal.list_events(Wanted(subject_id="ada"), 10).events) == 1
        assert len(list(opened.journal.stays(Wanted()))) == 2
        assert opened.audit.verify().broken_sequence == 0
        with pytest.raises(InputError, match="replaced: watch without one"):  # its numbers may be given again
            opened.journal.place(token)
        opened.enrol("cem")
        assert opened.erase("ada", at(11))[0] == (name,)
    assert sorted(path.name for path in (empty / "gallery").iterdir()) == ["gallery.db", "gallery.db-keys"]


def test_a_gallery_that_is_there_goes_back_in_time(tmp_path: Path) -> None:
    with office(tmp_path) as opened:
        opened.enrol("ada")
        name = opened.backups.create(at(1)).name
        opened.enrol("bob")
    restore(tmp_path, name)
    with office(tmp_path) as opened:
        assert (opened.people(), opened.found("bob")) == ({"ada"}, "")
        changes = opened.database.select("SELECT change FROM changes UNION SELECT change FROM subjects")
        # Who keeps something of before sees that everybody may be another.
        assert changes == [(to_microseconds(at(10)) + 1,)]
        opened.enrol("cem")
    restore(tmp_path, name, hour=9)  # by a clock that was set back
    with office(tmp_path) as opened:
        assert opened.gallery._store.change > to_microseconds(at(10)) + 2


@pytest.mark.parametrize("place", ["gallery", "kept elsewhere"])
def test_a_view_saved_before_shows_nobody_afterwards(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    monkeypatch.setattr("facesvc.gallery.gallery.WORTH_SAVING", 0)
    view = tmp_path / place / "gallery.db-view"
    view.parent.mkdir(exist_ok=True)
    with office(tmp_path, view=view) as opened:
        opened.enrol("ada", "bob")
        name = opened.backups.create(at(1)).name
        opened.add("stranger", "ada")  # the number of this change would be given again, and its row too
        assert opened.found("stranger") == "ada"
        assert opened.gallery.save_view()
    for file in (tmp_path / "gallery").glob("gallery.db*"):
        if file != view:
            file.unlink()
    restore(tmp_path, name)
    assert view.exists() == (place != "gallery")
    with office(tmp_path, view=view) as opened:
        assert opened.found("stranger") == ""
        opened.add("guest", "bob")
        assert opened.found("guest") == "bob"


def test_an_erased_face_that_was_under_another_name_is_not_brought_back(tmp_path: Path) -> None:
    with office(tmp_path) as opened:
        opened.enrol("ada")
        sample = opened.add("bob", "ada")
        name = opened.backups.create(at(1)).name
        opened.split(sample, "bob")
        opened.erase("bob", at(2))
    restored = restore(tmp_path, name)
    assert (restored.subject_count, restored.sample_count, restored.problem) == (1, 1, "")
    with office(tmp_path) as opened:
        assert (opened.found("ada"), opened.found("bob")) == ("ada", "")
        assert [crop[:11] for crop in opened.gallery.crops("office", "ada").values()] == [b"crop of ada"]
        # A second restore knows it from the receipt that the first one has carried over.
    assert restore(tmp_path, name).sample_count == 1


def test_a_damaged_receipt_is_told_and_the_others_count(tmp_path: Path) -> None:
    with office(tmp_path) as opened:
        opened.enrol("ada", "cem")
        sample = opened.add("bob", "ada")
        name = opened.backups.create(at(1)).name
        opened.split(sample, "bob")
        opened.erase("bob", at(2))
        opened.erase("cem", at(2))
        opened.database.execute("UPDATE receipts SET receipt = '{' WHERE subject_id = 'cem'")
        [(receipt_id,)] = opened.database.select("SELECT receipt_id FROM receipts WHERE subject_id = 'cem'")
    restored = restore(tmp_path, name)
    assert (restored.problem, restored.sample_count) == (f"receipt {receipt_id} is damaged", 1)


def test_the_gallery_that_was_there_is_kept_until_it_is_discarded(tmp_path: Path) -> None:
    path = tmp_path / "gallery" / "gallery.db"
    with office(tmp_path) as opened:
        opened.enrol("ada")
        name = opened.backups.create(at(1)).name
        opened.enrol("bob")
    before = contents(path.parent)
    restore(tmp_path, name)
    restore(tmp_path, name, hour=11)  # again: the one that was in use is kept, not that of the first restore
    exchange = Exchange(path)
    kept = {file.name: content for file, content in contents(path.parent).items() if "before" in file.name}
    assert kept == {
        "gallery.db.before-restore": before[path],
        "gallery.db.before-restore-keys": before[path.with_name("gallery.db-keys")],
    }
    exchange.discard_former()
    exchange.discard_former()
    assert sorted(file.name for file in path.parent.iterdir()) == ["gallery.db", "gallery.db-keys"]


def test_the_erased_stay_so(tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    with office(tmp_path) as opened:
        opened.enrol("ada", "bob", "cem")
        name = opened.backups.create(at(1)).name
        opened.erase("ada", at(2))
        shutil.copytree(tmp_path / "backups", copy)
        opened.erase("bob", at(3))
        receipts = opened.database.select("SELECT * FROM receipts ORDER BY receipt_id")
        opened.audit.note("ExportSubject", "office", "cem", actor="dpo")
        last = opened.audit.verify().entry_count
    shutil.rmtree(tmp_path / "backups")
    copy.rename(tmp_path / "backups")  # bob's key is in it again
    restored = restore(tmp_path, name)
    assert (restored.subject_count, restored.still_erased) == (1, [("office", "bob")])
    with office(tmp_path) as opened:
        assert (opened.people(), opened.found("ada"), opened.found("bob")) == ({"cem"}, "", "")
        assert opened.database.select("SELECT DISTINCT subject_id FROM events UNION SELECT subject_id FROM stays") == [
            ("cem",)
        ]
        assert opened.database.select("SELECT * FROM receipts ORDER BY receipt_id") == receipts
        for receipt_id, *_ in receipts:
            receipt = opened.gallery.get_receipt(receipt_id)
            assert is_signed(receipt.document.encode(), receipt.signature, receipt.public_key)
        verdict = opened.audit.verify()
        assert (verdict.broken_sequence, verdict.entry_count) == (0, last + 1)
        newest = opened.audit.list_entries(asked(), 10)[-1]
        said = (newest.actor, newest.action, newest.detail)
        assert said == ("user 0", "RestoreBackup", f"backup {name} of 2026-03-02 09:00:00 UTC")
        assert opened.audit.list_entries(asked(), 10)[-2].actor == "dpo"
    left = b"".join(content for path, content in contents(tmp_path).items() if "before-restore" not in path.name)
    assert not [trace for one in ("ada", "bob") for trace in traces_of(one) if trace in left]


def asked() -> object:
    from facesvc.events.audit import Asked

    return Asked()


def test_nothing_opens_what_the_restored_files_still_hold_of_the_erased(tmp_path: Path) -> None:
    with office(tmp_path) as opened:
        opened.enrol("ada", "bob")
        sealed = opened.database.select("SELECT sealed FROM subjects UNION SELECT sealed FROM vectors")
        keys = opened.database.select("SELECT wrapped FROM keyring.subject_keys WHERE subject_id = 'ada'")
        name = opened.backups.create(at(1)).name
        opened.erase("ada", at(2))
    restore(tmp_path, name)
    Exchange(tmp_path / "gallery" / "gallery.db").discard_former()
    with closing(SqliteDatabase(tmp_path / "gallery" / "gallery.db")) as database:
        left = {row for table in ("subjects", "vectors") for row in database.select(f"SELECT sealed FROM {table}")}
        assert len(left & set(sealed)) == 2
        people = database.select("SELECT subject_id FROM keyring.subject_keys WHERE subject_id <> ''")
        assert people == [("bob",)]
    everything = b"".join(contents(tmp_path).values())
    assert not [key for (key,) in keys if key in everything]


def test_it_goes_on_without_a_gallery_that_cannot_be_read(tmp_path: Path) -> None:
    path = tmp_path / "gallery" / "gallery.db"
    with office(tmp_path) as opened:
        opened.enrol("ada")
        name = opened.backups.create(at(1)).name
        opened.erase("ada", at(2))
        opened.enrol("bob")
        second = opened.backups.create(at(3)).name
    path.write_bytes(b"\xff" * 10_000)
    path.with_name("gallery.db-keys-wal").write_bytes(b"the log of another")
    restored = restore(tmp_path, second)
    assert "it is not a SQLite database" in restored.problem
    assert restored.subject_count == 1
    assert path.with_name("gallery.db.before-restore").read_bytes() == b"\xff" * 10_000
    assert path.with_name("gallery.db.before-restore-keys-wal").read_bytes() == b"the log of another"
    with office(tmp_path) as opened:
        assert opened.people() == {"bob"}
    assert restore(tmp_path, name).subject_count == 0  # her key was taken out of the backup itself


def test_a_gallery_whose_key_is_lost_still_says_who_was_erased(tmp_path: Path) -> None:
    with office(tmp_path) as opened:
        opened.enrol("ada", "bob")
        shutil.copytree(opened.backups.shelf.folder.path, tmp_path / "none")
        name = opened.backups.create(at(1)).name
        shutil.copytree(opened.backups.shelf.folder.path, tmp_path / "copy")
        opened.erase("ada", at(2))
    with closing(SqliteDatabase(tmp_path / "gallery" / "gallery.db")) as database:
        database.execute("UPDATE keyring.master_keys SET sealed_check = x'00'")
    shelf = Shelf(tmp_path / "copy", shelf_of(tmp_path).masters)
    restored = Restore(shelf, name, [key_of(tmp_path)], at(3)).to_file(tmp_path / "gallery" / "gallery.db")
    assert (restored.subject_count, restored.still_erased) == (1, [("office", "ada")])
    assert "is not the one that the gallery was sealed with" in restored.problem


def test_a_running_server_is_not_robbed_of_its_gallery(tmp_path: Path) -> None:
    with office(tmp_path) as opened:
        opened.enrol("ada")
        name = opened.backups.create(at(1)).name
        with pytest.raises(DependencyError, match="another process has it open; stop that one first") as refused:
            restore(tmp_path, name)
        assert refused.value.reason == "GALLERY_IN_USE"
        opened.enrol("bob")
        assert opened.people() == {"ada", "bob"}


def test_no_server_starts_in_the_middle_of_a_restore(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "gallery" / "gallery.db"
    with office(tmp_path) as opened:
        opened.enrol("ada")
        name = opened.backups.create(at(1)).name
    path.unlink()
    pieces = Shelf.pieces

    def start_in_between(self: Shelf, opened: Opened) -> Iterator[bytes]:
        with pytest.raises(DependencyError, match="is being restored; wait until that is done") as refused:
            SqliteDatabase(path)
        assert refused.value.reason == "GALLERY_IN_USE"
        return pieces(self, opened)

    monkeypatch.setattr(Shelf, "pieces", start_in_between)
    assert restore(tmp_path, name).subject_count == 1
    with office(tmp_path) as opened:
        assert opened.people() == {"ada"}


@pytest.mark.parametrize("damage", ["chunk", "lost chunk", "keys", "copy"])
def test_a_damaged_backup_changes_nothing(tmp_path: Path, damage: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with office(tmp_path) as opened:
        opened.enrol("ada")
        name = opened.backups.create(at(1)).name
        opened.enrol("bob")
    [chunk] = (tmp_path / "backups" / "chunks").iterdir()
    keys = tmp_path / "backups" / "keys" / f"{name}.keys"
    if damage == "chunk":
        chunk.write_bytes(chunk.read_bytes()[:-1])
    elif damage == "lost chunk":
        chunk.unlink()
    elif damage == "keys":
        keys.write_bytes(keys.read_bytes()[:-1])
    else:  # sealed as it should be, and yet no database
        pieces = Shelf.pieces
        monkeypatch.setattr(Shelf, "pieces", lambda self, known: [b"".join(pieces(self, known))[:-70_000]])
    before = contents(tmp_path / "gallery")
    with pytest.raises(DependencyError) as refused:
        restore(tmp_path, name)
    assert refused.value.reason in {"BACKUP_DAMAGED", "GALLERY_DAMAGED"}
    assert contents(tmp_path / "gallery") == before
    with office(tmp_path) as opened:
        assert opened.people() == {"ada", "bob"}


def test_the_key_is_needed_and_its_absence_said(tmp_path: Path) -> None:
    with office(tmp_path) as opened:
        opened.enrol("ada")
        name = opened.backups.create(at(1)).name
    path, other = tmp_path / "elsewhere" / "gallery.db", KeyFile(tmp_path / "other.key")
    with pytest.raises(
        DependencyError, match=rf"there is none in the file {other.path}; put it there first"
    ) as refused:
        shelf_of(tmp_path, [other])
    assert refused.value.reason == "KEY_MISSING"
    other.make()
    with pytest.raises(DependencyError, match="under another master key") as refused:
        Restore(shelf_of(tmp_path, [other]), name, [other], at(2)).to_file(path)
    assert refused.value.reason == "KEY_WRONG"
    assert not path.parent.exists()
    # With the former key named beside, the gallery is the new one's.
    former = KnownKey(key_of(tmp_path).make(), "the former")
    Restore(shelf_of(tmp_path, [other, former]), name, [other, former], at(2)).to_file(path)
    with closing(SqliteDatabase(path)) as database:
        assert len(database.select("SELECT key_id FROM keyring.master_keys")) == 1


def test_a_backup_of_a_newer_schema_is_refused(tmp_path: Path) -> None:
    with office(tmp_path) as opened:
        opened.enrol("ada")
        opened.database.execute("INSERT INTO events_migrations VALUES ('0999_dreams', 0)")
        name = opened.backups.create(at(1)).name
        assert "0999_dreams" in opened.backups.shelf.open(name).manifest.steps["events_migrations"]
    with pytest.raises(PreconditionError, match=r"written by a newer facesvc \(it has 0999_dreams\)"):
        Restore(shelf_of(tmp_path), name, [key_of(tmp_path)], at(2)).to_file(tmp_path / "new" / "gallery.db")
    assert not list((tmp_path / "new").iterdir())


def test_a_disk_that_is_full_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with office(tmp_path) as opened:
        opened.enrol("ada")
        name = opened.backups.create(at(1)).name

    def full(self: Shelf, opened: object) -> object:
        yield b"a piece"
        raise OSError(28, "No space left on device")

    before = contents(tmp_path / "gallery")
    monkeypatch.setattr(Shelf, "pieces", full)
    with pytest.raises(DependencyError, match=r"No space left on device\); nothing was changed, make room") as refused:
        restore(tmp_path, name)
    assert refused.value.reason == "RESTORE_FAILED"
    assert contents(tmp_path / "gallery") == before


def test_between_the_two_kinds_of_databases(database_url: str, tmp_path: Path) -> None:
    with office(tmp_path / "box") as opened:
        opened.enrol("ada", "bob", "cem")
        name = opened.backups.create(at(1)).name
        opened.erase("ada", at(2))
    keys, shelf = [key_of(tmp_path / "box")], shelf_of(tmp_path / "box")
    with closing(open_database(database_url)) as database:
        restored = Restore(shelf, name, keys, at(3)).to_database(database)
        with pytest.raises(PreconditionError, match="is not empty"):
            Restore(shelf, name, keys, at(3)).to_database(database)
    assert (restored.subject_count, restored.sample_count) == (2, 2)
    with office(tmp_path / "second", url=database_url, keys=keys) as opened:
        assert (opened.people(), opened.found("bob")) == ({"bob", "cem"}, "bob")
        assert opened.audit.verify().broken_sequence == 0
        opened.enrol("dan")
        second = opened.backups.create(at(4)).name
    path = tmp_path / "third" / "gallery.db"
    assert Restore(shelf_of(tmp_path / "second", keys), second, keys, at(5)).to_file(path).subject_count == 3


def test_a_database_is_filled_as_a_whole_or_not_at_all(
    database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with office(tmp_path / "box") as opened:
        opened.enrol("ada")
        name = opened.backups.create(at(1)).name
    keys, shelf = [key_of(tmp_path / "box")], shelf_of(tmp_path / "box")
    with closing(open_database(database_url)) as database:
        with monkeypatch.context() as patched:
            patched.setattr("facesvc.backup.restore.insert_keys", broken_the_second_time())
            with pytest.raises(InterruptedError):
                Restore(shelf, name, keys, at(3)).to_database(database)
        assert Restore(shelf, name, keys, at(3)).to_database(database).subject_count == 1


def broken_the_second_time() -> Callable[..., None]:
    from facesvc.backup.tables import insert_keys

    calls: list[object] = []

    def insert(*arguments: object) -> None:
        calls.append(arguments)
        if len(calls) == 2:
            raise InterruptedError
        insert_keys(*arguments)  # type: ignore[arg-type]  # handed through

    return insert
