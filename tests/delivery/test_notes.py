"""What plugins keep and found out, over each kind of database."""

import asyncio
import threading
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from events.making import T0, at

from facesvc.database import Database, migrate
from facesvc.delivery import notes
from facesvc.delivery.notes import FactStore, NoteStore, PluginNotes, forget, forget_expired
from facesvc.delivery.schema import DELIVERY
from facesvc.errors import ExhaustedError, InputError, NotFoundError
from facesvc.events.plugin import MAX_FACTS_BYTES, MAX_NOTE_BYTES, NOBODY, Facts, Note
from facesvc.gallery.keyring import Keyring

JANE, JOE = ("c", "jane"), ("c", "joe")
MakeStore = Callable[[str], NoteStore]


class Clock:
    now = T0

    def __call__(self) -> datetime:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def store_of(database: Database, keyring: Keyring, clock: Clock) -> MakeStore:
    """The notes of a plugin; two people are known."""
    migrate(database, DELIVERY, T0)
    for about in (JANE, JOE):
        keyring.make(*about)
    return lambda plugin: NoteStore(database, keyring, plugin, clock)


@pytest.fixture
def store(store_of: MakeStore) -> NoteStore:
    return store_of("hello")


@pytest.fixture
def kept(store: NoteStore) -> PluginNotes:
    return PluginNotes(store)


async def test_a_note_is_kept_replaced_and_removed(kept: PluginNotes) -> None:
    assert await kept.get("key") is None
    await kept.put("key", {"a": [1, None, "ü"]})
    assert await kept.get("key") == {"a": [1, None, "ü"]}
    await kept.put("key", 2)
    assert await kept.get("key") == 2
    assert await kept.delete("key")
    assert not await kept.delete("key")
    assert await kept.get("key") is None


async def test_notes_about_different_people_are_different(kept: PluginNotes) -> None:
    for number, about in enumerate([NOBODY, JANE, JOE]):
        await kept.put("key", number, about=about)
    assert [await kept.get("key", about=about) for about in (NOBODY, JANE, JOE)] == [0, 1, 2]
    assert await kept.delete("key", about=JANE)
    assert [await kept.get("key", about=about) for about in (NOBODY, JANE, JOE)] == [0, None, 2]


async def test_notes_of_one_plugin_are_nothing_to_another(store_of: MakeStore) -> None:
    mine, other = PluginNotes(store_of("hello")), PluginNotes(store_of("other"))
    await mine.put("key", 1, about=JANE)
    assert await other.get("key", about=JANE) is None
    assert await other.list() == []
    assert not await other.delete("key", about=JANE)
    assert await other.put_new("key", 2, about=JANE)
    assert await mine.get("key", about=JANE) == 1


async def test_a_note_is_over_with_its_time(kept: PluginNotes, clock: Clock, database: Database) -> None:
    await kept.put("key", 1, expire_time=at(10))
    await kept.put("for ever", 2)
    clock.now = at(9.999999)
    assert await kept.get("key") == 1
    assert not await kept.put_new("key", 3)
    clock.now = at(10)
    assert await kept.get("key") is None
    assert [note.key for note in await kept.list()] == ["for ever"]
    assert await kept.put_new("key", 3, expire_time=at(20))
    assert await kept.get("key") == 3
    forget_expired(database, at(20))
    clock.now = at(0)
    assert [note.key for note in await kept.list()] == ["for ever"]


async def test_putting_for_ever_takes_a_time_away(kept: PluginNotes, clock: Clock) -> None:
    await kept.put("key", 1, expire_time=at(10))
    await kept.put("key", 2)
    clock.now = at(1000)
    assert await kept.get("key") == 2


async def test_of_many_that_put_at_the_same_time_one_was_first(store_of: MakeStore) -> None:
    stores = [store_of("hello") for _ in range(6)]
    barrier, new = threading.Barrier(6), list[int]()

    def put(number: int) -> None:
        barrier.wait()
        if stores[number].put("key", number, JANE, None, replace=False):
            new.append(number)

    await asyncio.gather(*(asyncio.to_thread(put, number) for number in range(6)))
    assert len(new) == 1
    assert stores[0].get("key", JANE) == new[0]


async def test_a_list_goes_by_key_in_pages(kept: PluginNotes) -> None:
    keys = ["a/1", "a/10", "a/2", "a/é", "a/\U0001f600", "a", "b/1", "A/1", "a0"]
    for key in keys:
        await kept.put(key, key, about=JANE if key.endswith("1") else NOBODY)
    ordered = sorted((key for key in keys if key.startswith("a/")), key=str.encode)
    found = await kept.list("a/")
    assert [note.key for note in found] == ordered
    assert found[0] == Note(key="a/1", about=JANE, value="a/1")
    pages, after = [], ""
    while page := await kept.list("a/", after=after, limit=2):
        pages.append([note.key for note in page])
        after = page[-1].key
    assert pages == [ordered[:2], ordered[2:4], ordered[4:]]
    assert [note.key for note in await kept.list(about=JANE)] == ["A/1", "a/1", "b/1"]
    assert len(await kept.list()) == len(keys)
    assert len(await kept.list(limit=-5)) == 1


@pytest.mark.parametrize("key", ["", "x" * 201, "a\0b", "half a pair \ud800"])
async def test_a_key_that_is_none(kept: PluginNotes, key: str) -> None:
    for call in (kept.put(key, 1), kept.put_new(key, 1), kept.get(key), kept.delete(key)):
        with pytest.raises(InputError):
            await call


async def test_a_prefix_that_is_no_text(kept: PluginNotes) -> None:
    with pytest.raises(InputError):
        await kept.list("a\0")


async def test_what_is_too_large(kept: PluginNotes) -> None:
    await kept.put("k" * 200, "x" * (MAX_NOTE_BYTES - 2))
    with pytest.raises(InputError, match=f"{MAX_NOTE_BYTES} is the most"):
        await kept.put("key", "x" * (MAX_NOTE_BYTES - 1))


async def test_too_many(
    kept: PluginNotes, store_of: MakeStore, monkeypatch: pytest.MonkeyPatch, clock: Clock, database: Database
) -> None:
    monkeypatch.setattr(notes, "MAX_NOTES", 3)
    for number in range(3):
        await kept.put(f"{number}", number, expire_time=at(number) if number else None)
    for put in (kept.put, kept.put_new):
        with pytest.raises(ExhaustedError):
            await put("3", 3)
    assert await kept.get("3") is None
    # What is there may be changed, and another plugin has room of its own.
    await kept.put("1", "new", expire_time=at(100))
    assert not await kept.put_new("1", 5)
    await PluginNotes(store_of("other")).put("3", 3)
    # What is removed makes room.
    assert await kept.delete("0")
    await kept.put("3", 3)
    with pytest.raises(ExhaustedError):
        await kept.put("4", 4)
    clock.now = at(50)
    forget_expired(database, clock.now)
    await kept.put("4", 4)


async def test_nothing_is_kept_about_somebody_who_is_not_known(kept: PluginNotes) -> None:
    with pytest.raises(NotFoundError):
        await kept.put("key", 1, about=("c", "stranger"))
    assert await kept.list() == []


async def test_an_erased_person_is_gone_from_notes_and_facts(
    kept: PluginNotes, database: Database, keyring: Keyring
) -> None:
    facts = FactStore(database, keyring)
    for about in (JANE, JOE):
        await kept.put("key", 1, about=about)
        facts.put("hello", about, fact())
    assert forget(database, JANE) == 2
    assert [note.about for note in await kept.list()] == [JOE]
    assert facts.of(JANE, T0) == {}
    assert set(facts.of(JOE, T0)) == {"hello"}
    assert forget(database, JANE) == 0


async def test_what_a_backup_brought_back_of_an_erased_person_is_unreadable(
    kept: PluginNotes, database: Database, keyring: Keyring
) -> None:
    facts = FactStore(database, keyring)
    await kept.put("key", 1, about=JANE)
    facts.put("hello", JANE, fact())
    keyring.destroy(*JANE)
    assert await kept.get("key", about=JANE) is None
    assert await kept.list() == []
    assert facts.of(JANE, T0) == {}


async def test_nothing_can_be_read_from_the_files(
    tmp_path: Path, kept: PluginNotes, database: Database, keyring: Keyring
) -> None:
    await kept.put("key", "Jane Marple-Smythe", about=JANE)
    await kept.put("key", "Jane Marple-Smythe")
    FactStore(database, keyring).put("hello", JANE, fact(summary="Jane Marple-Smythe"))
    if database.shared:
        rows = database.select("SELECT payload FROM plugin_notes") + database.select("SELECT payload FROM facts")
        content = b"".join(payload for (payload,) in rows)
    else:
        database.close()
        content = all_files(tmp_path)
    assert len(content) > 100
    assert b"Marple" not in content


def all_files(folder: Path) -> bytes:
    return b"".join(path.read_bytes() for path in folder.rglob("*") if path.is_file())


def fact(**changes: Any) -> Facts:
    one = Facts(values={"room": "12"}, summary="in a meeting", fetch_time=T0, expire_time=at(60))
    return replace(one, **changes)


@pytest.fixture
def facts(database: Database, keyring: Keyring, store: NoteStore) -> FactStore:
    return FactStore(database, keyring)


def test_facts_are_kept_by_plugin_and_shown_until_they_expire(facts: FactStore) -> None:
    assert facts.put("one", JANE, fact())
    assert facts.put("two", JANE, fact(summary="elsewhere", expire_time=at(30)))
    assert facts.of(JANE, at(29)) == {"one": fact(), "two": fact(summary="elsewhere", expire_time=at(30))}
    assert facts.of(JANE, at(30)) == {"one": fact()}
    assert facts.of(JOE, T0) == {}


def test_facts_are_kept_as_they_are_at_that_moment(facts: FactStore) -> None:
    values: dict[str, Any] = {"rooms": ("12", "13")}
    kept = facts.put("one", JANE, fact(values=values))
    values.clear()
    assert kept == fact(values={"rooms": ["12", "13"]})


def test_only_what_facts_say_makes_them_others(facts: FactStore, database: Database) -> None:
    assert facts.put("one", JANE, fact())
    assert not facts.put("one", JANE, fact(fetch_time=at(50), expire_time=at(110)))
    assert facts.of(JANE, at(100))["one"].fetch_time == at(50)
    assert facts.put("one", JANE, fact(summary="gone"))
    assert facts.put("one", JANE, fact(summary="gone", values={}))
    forget_expired(database, at(60))
    assert facts.put("one", JANE, fact(summary="gone", values={}))


@pytest.mark.parametrize(
    "bad",
    [
        {"room": 12},
        None,
        fact(values={"when": object()}),
        fact(values=[1]),
        fact(summary=None),
        fact(fetch_time=T0.replace(tzinfo=None)),
        fact(expire_time=T0.replace(tzinfo=None)),
        fact(expire_time="soon"),
        fact(summary="half a pair \ud800"),
    ],
    ids=["another", "nothing", "object", "list", "no summary", "no zone", "expiry without zone", "soon", "surrogate"],
)
def test_facts_that_are_none_are_refused(facts: FactStore, bad: Any) -> None:
    with pytest.raises(InputError, match="plugin one gave facts that are none"):
        facts.put("one", JANE, bad)
    assert facts.of(JANE, T0) == {}


def test_facts_may_hold_a_small_picture_and_no_more(facts: FactStore) -> None:
    assert facts.put("one", JANE, fact(values={"photo": "x" * (MAX_FACTS_BYTES - 300)}))
    with pytest.raises(InputError, match="is the most"):
        facts.put("one", JANE, fact(values={"photo": "x" * MAX_FACTS_BYTES}))
    with pytest.raises(NotFoundError):
        facts.put("one", ("c", "stranger"), fact())


def test_a_time_of_another_zone_is_kept_exactly(facts: FactStore) -> None:
    local = at(3).astimezone(ZoneInfo("Europe/Vienna")) + timedelta(microseconds=1)
    facts.put("one", JANE, fact(fetch_time=local))
    assert facts.of(JANE, T0)["one"].fetch_time == local
