"""What plugins keep, and what they found out about people: sealed rows, gone with the person."""

import asyncio
import json
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime

from pydantic import JsonValue, TypeAdapter

from facesvc.database import Database, to_microseconds
from facesvc.errors import ExhaustedError, InputError
from facesvc.events.plugin import MAX_FACTS_BYTES, MAX_NOTE_BYTES, NOBODY, About, Facts, Note, Notes
from facesvc.events.sealer import Sealer

MAX_NOTES = 2_000_000
"""Of one plugin."""
_MAX_KEY = 200
_MAX_PAGE = 1000
_FACTS = TypeAdapter(Facts)

_PUT = """
    INSERT INTO plugin_notes VALUES (:plugin, :key, :collection_id, :subject_id, :expire_time, :payload)
    ON CONFLICT (plugin, key, collection_id, subject_id) DO
"""
_REPLACE = _PUT + "UPDATE SET expire_time = excluded.expire_time, payload = excluded.payload"
_PUT_NEW = _PUT + "NOTHING"
_HERE = "plugin = :plugin AND key = :key AND collection_id = :collection_id AND subject_id = :subject_id"
_LIVE = "(expire_time IS NULL OR expire_time > :now)"
_LIST = f"""
    SELECT key, collection_id, subject_id, payload FROM plugin_notes
     WHERE plugin = :plugin AND key >= :prefix AND key < :end AND key > :after AND {_LIVE}
"""  # noqa: S608 - ours
_PUT_FACTS = """
    INSERT INTO facts VALUES (?, ?, ?, ?, ?)
    ON CONFLICT (collection_id, subject_id, plugin) DO
    UPDATE SET expire_time = excluded.expire_time, payload = excluded.payload
"""


class NoteStore:
    """The notes of one plugin. Every method blocks; see ``plugin.Notes``."""

    def __init__(self, database: Database, sealer: Sealer, plugin: str, now: Callable[[], datetime]) -> None:
        self._database = database
        self._sealer = sealer
        self._plugin = plugin
        self._now = now
        self._room = 0  # for so many more there is certainly room

    def put(self, key: str, value: JsonValue, about: About, expire_time: datetime | None, *, replace: bool) -> bool:
        """Keep a value; whether it is there now."""
        payload = json.dumps(value).encode()
        if len(payload) > MAX_NOTE_BYTES:
            raise InputError(f"note {key!a} has {len(payload)} bytes; {MAX_NOTE_BYTES} is the most")
        place, expires = self._place(key, about), None if expire_time is None else to_microseconds(expire_time)
        with self._database.transaction():
            sql = f"DELETE FROM plugin_notes WHERE {_HERE} AND NOT {_LIVE}"  # noqa: S608 - ours
            self._database.execute(sql, place | self._moment())
            # Sealed in here, so that nobody is erased between the two.
            sealed = self._sealer.seal(*about, payload, "note", self._plugin, *about, key)
            row = place | {"expire_time": expires, "payload": sealed}
            was_new = bool(self._database.execute(_PUT_NEW, row))
            if was_new:
                self._refuse_too_many()
            elif replace:
                self._database.execute(_REPLACE, row)
        return was_new or replace

    def _refuse_too_many(self) -> None:
        """Inside the transaction that has put one more, which is undone then."""
        if self._room <= 0:
            [(count,)] = self._database.select("SELECT count(*) FROM plugin_notes WHERE plugin = ?", (self._plugin,))
            self._room = MAX_NOTES - count + 1
            if self._room <= 0:
                raise ExhaustedError(f"the plugin {self._plugin} keeps {MAX_NOTES} notes already; that is the most")
        self._room -= 1

    def get(self, key: str, about: About) -> JsonValue:
        """The value, or None."""
        sql = f"SELECT payload FROM plugin_notes WHERE {_HERE} AND {_LIVE}"  # noqa: S608 - ours
        found = self._database.select(sql, self._place(key, about) | self._moment())
        return self._read(found[0][0], key, about) if found else None

    def delete(self, key: str, about: About) -> bool:
        """Remove it; whether it was there."""
        return bool(self._database.execute(f"DELETE FROM plugin_notes WHERE {_HERE}", self._place(key, about)))  # noqa: S608

    def list(self, prefix: str, about: About | None, after: str, limit: int) -> list[Note]:
        """A page, by key."""
        _check_text(prefix + after)
        names: dict[str, object] = {
            "plugin": self._plugin,
            "prefix": prefix,
            "end": prefix + "\U0010ffff",
            "after": after,
            "limit": min(max(limit, 1), _MAX_PAGE),
        }
        sql = _LIST
        if about is not None:
            sql += " AND collection_id = :collection_id AND subject_id = :subject_id"
            names |= {"collection_id": about[0], "subject_id": about[1]}
        found = self._database.select(
            sql + " ORDER BY key, collection_id, subject_id LIMIT :limit", names | self._moment()
        )
        read = ((key, (one, two), self._read(payload, key, (one, two))) for key, one, two, payload in found)
        return [Note(key=key, about=about, value=value) for key, about, value in read if value is not None]

    def _place(self, key: str, about: About) -> dict[str, object]:
        _check_key(key)
        return {"plugin": self._plugin, "key": key, "collection_id": about[0], "subject_id": about[1]}

    def _moment(self) -> dict[str, object]:
        return {"now": to_microseconds(self._now())}

    def _read(self, payload: bytes, key: str, about: About) -> JsonValue:
        """The value; None where the key of the person was destroyed."""
        opened = self._sealer.unseal(*about, payload, "note", self._plugin, *about, key)
        value: JsonValue = None if opened is None else json.loads(opened)
        return value


def _check_key(key: str) -> None:
    if not 1 <= len(key) <= _MAX_KEY:
        raise InputError(f"the key of a note has 1 to {_MAX_KEY} characters, not {len(key)}")
    _check_text(key)


def _check_text(text: str) -> None:
    """That every database takes it."""
    if "\0" in text or text != text.encode(errors="replace").decode():
        raise InputError(f"the key {text!a} of a note is no text")


class PluginNotes(Notes):
    """A plugin's notes as it sees them: each call in a thread, so that its loop goes on."""

    def __init__(self, store: NoteStore) -> None:
        self._store = store

    async def put(
        self, key: str, value: JsonValue, *, about: About = NOBODY, expire_time: datetime | None = None
    ) -> None:
        """As ``Notes``."""
        await asyncio.to_thread(self._store.put, key, value, about, expire_time, replace=True)

    async def put_new(
        self, key: str, value: JsonValue, *, about: About = NOBODY, expire_time: datetime | None = None
    ) -> bool:
        """As ``Notes``."""
        return await asyncio.to_thread(self._store.put, key, value, about, expire_time, replace=False)

    async def get(self, key: str, *, about: About = NOBODY) -> JsonValue:
        """As ``Notes``."""
        return await asyncio.to_thread(self._store.get, key, about)

    async def delete(self, key: str, *, about: About = NOBODY) -> bool:
        """As ``Notes``."""
        return await asyncio.to_thread(self._store.delete, key, about)

    async def list(
        self, prefix: str = "", *, about: About | None = None, after: str = "", limit: int = _MAX_PAGE
    ) -> Sequence[Note]:
        """As ``Notes``."""
        return await asyncio.to_thread(self._store.list, prefix, about, after, limit)


class FactStore:
    """What all plugins found out about people. Every method blocks, and may be called from any thread."""

    def __init__(self, database: Database, sealer: Sealer) -> None:
        self._database = database
        self._sealer = sealer

    def put(self, plugin: str, about: About, facts: Facts) -> Facts | None:
        """Keep facts in the place of earlier ones; as they are kept, or None where they say the same as those.

        Raises ``InputError`` for more than ``MAX_FACTS_BYTES``, ``NotFoundError`` for somebody who is not known.
        """
        payload, kept = _written(plugin, facts)
        if len(payload) > MAX_FACTS_BYTES:
            raise InputError(f"the facts of plugin {plugin} have {len(payload)} bytes; {MAX_FACTS_BYTES} is the most")
        with self._database.transaction():
            before = self._of(about).get(plugin)
            sealed = self._sealer.seal(*about, payload, "facts", plugin, *about)
            self._database.execute(_PUT_FACTS, (*about, plugin, to_microseconds(kept.expire_time), sealed))
        said_before = before is not None and (before.values, before.summary) == (kept.values, kept.summary)
        return None if said_before else kept

    def of(self, about: About, now: datetime) -> Mapping[str, Facts]:
        """What may be shown of a person, by plugin."""
        return {name: facts for name, facts in self._of(about).items() if facts.expire_time > now}

    def _of(self, about: About) -> dict[str, Facts]:
        sql = "SELECT plugin, payload FROM facts WHERE collection_id = ? AND subject_id = ? ORDER BY plugin"
        opened = (
            (plugin, self._sealer.unseal(*about, payload, "facts", plugin, *about))
            for plugin, payload in self._database.select(sql, about)
        )
        return {plugin: _FACTS.validate_json(value, strict=True) for plugin, value in opened if value is not None}


def _written(plugin: str, facts: Facts) -> tuple[bytes, Facts]:
    """As JSON, and what that is read back as: a plugin is not trusted to keep to its types, nor to leave them alone."""
    try:
        payload = _FACTS.dump_json(facts, warnings="error")
        kept = _FACTS.validate_json(payload, strict=True)
        to_microseconds(kept.fetch_time), to_microseconds(kept.expire_time)
    except (ValueError, TypeError) as error:  # pydantic's are ValueErrors
        raise InputError(f"plugin {plugin} gave facts that are none: {type(error).__name__}") from error
    return payload, kept


def forget(database: Database, about: About) -> int:
    """Remove what plugins keep of a person, found out about them, and were still to be given; how many notes and facts.

    Raises ``DependencyError``.
    """
    where = "WHERE collection_id = ? AND subject_id = ?"
    with database.transaction():
        database.execute(f"DELETE FROM deliveries {where}", about)  # noqa: S608 - ours
        counts = [database.execute(f"DELETE FROM {table} {where}", about) for table in ("plugin_notes", "facts")]  # noqa: S608
    return sum(counts)


def forget_expired(database: Database, now: datetime) -> None:
    """Remove notes and facts whose time is over. Raises ``DependencyError``."""
    for table in ("plugin_notes", "facts"):
        database.execute(f"DELETE FROM {table} WHERE expire_time <= ?", (to_microseconds(now),))  # noqa: S608 - ours
