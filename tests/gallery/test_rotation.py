"""All keys of a gallery go from one master key to another, while people come and go and whatever interrupts it."""

from collections.abc import Callable
from contextlib import closing
from datetime import datetime
from pathlib import Path

import pytest
from galleries import open_store

from facesvc.database.sqlite import SqliteDatabase
from facesvc.errors import DependencyError
from facesvc.gallery import EmbeddingContract, Subject
from facesvc.gallery.masterkey import KeyFile
from facesvc.gallery.store import Store

MakeSubject = Callable[..., Subject]


def names_of(store: Store) -> list[str]:
    return [subject.display_name for subject in store.subjects()]


def wrapped_of(store: Store) -> dict[str, tuple[str, bytes]]:
    """The wrapped keys by subject, each with the id of the master key."""
    found = store._database.select("SELECT subject_id, key_id, wrapped FROM keyring.subject_keys")
    return {subject_id: (key_id, wrapped) for subject_id, key_id, wrapped in found}


@pytest.fixture
def new_key(tmp_path: Path) -> KeyFile:
    """The next master key."""
    key = KeyFile(tmp_path / "next" / "master.key")
    key.make()
    return key


def test_all_keys_go_to_another_master_key_while_people_come_and_go(
    path: Path,
    contract: EmbeddingContract,
    vault: KeyFile,
    new_key: KeyFile,
    make_subject: MakeSubject,
    now: datetime,
) -> None:
    with closing(open_store(path, contract, now, vault)) as store:
        for number in range(10):
            store.create_subject(make_subject(f"p{number}"))
        before = wrapped_of(store)
        content = store._database.select("SELECT sealed FROM subjects ORDER BY subject_id")
        key = new_key.read()
        assert key is not None
        store.keyring.begin_rotation(key, now)
        assert store.keyring.is_rotating
        assert store.keyring.rewrap(4) == 4
        store.create_subject(make_subject("p91"))
        store.erase_subject("office", "p1", now)
        store.create_subject(make_subject("p1"))
        assert len({key_id for key_id, _ in wrapped_of(store).values()}) == 2
    for sources in ([vault], [new_key]):  # neither alone
        database = SqliteDatabase(path)
        with pytest.raises(DependencyError) as refused:
            Store.open(database, contract, now, sources)
        assert refused.value.reason == "KEY_WRONG"
        database.close()
    with closing(Store.open(SqliteDatabase(path), contract, now, [new_key, vault])) as store:
        assert store.keyring.is_rotating
        rewrapped = [store.keyring.rewrap(4) for _ in range(4)]
        assert rewrapped == [4, 3, 0, 0]
        assert len({key_id for key_id, _ in wrapped_of(store).values()}) == 1
        assert len(names_of(store)) == 11
        files = b"".join(file.read_bytes() for file in path.parent.iterdir())
        assert not [name for name, (_, wrapped) in before.items() if wrapped in files]
        assert store._database.select(  # nothing was sealed anew
            "SELECT sealed FROM subjects WHERE subject_id NOT IN ('p1', 'p91') ORDER BY subject_id"
        ) == [one for number, one in enumerate(content) if number != 1]
    with closing(open_store(path, contract, now, new_key)) as store:
        assert len(names_of(store)) == 11
    with pytest.raises(DependencyError) as refused:
        open_store(path, contract, now, vault)
    assert refused.value.reason == "KEY_WRONG"
