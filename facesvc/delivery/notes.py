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

MAX_NOTES = 200_000
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
        if not 1 <= len(key) <= _MAX_KEY:
            raise InputError(f"the key of a note has 1 to {_MAX_KEY} characters, not {len(key)}")
        if len(payload) > MAX_NOTE_BYTES:
            raise InputError(f"note {key!a} has {len(payload)} bytes; {MAX_NOTE_BYTES} is the most")
        row = self._place(key, about) | {
            "expire_time": None if expire_time is None else to_microseconds(expire_time),
            "payload": self._sealer.seal(*about, payload, "note", self._plugin, *about, key),
        }
        with self._database.transaction():
            sql = f"DELETE FROM plugin_notes WHERE {_HERE} AND NOT {_LIVE}"  # noqa: S608 - ours
            self._database.execute(sql, self._place(key, about) | self._moment())
            self._refuse_too_many()
            return bool(self._database.execute(_REPLACE if replace else _PUT_NEW, row))

    def _refuse_too_many(self) -> None:
        if self._room <= 0:
            [(count,)] = self._database.select("SELECT count(*) FROM plugin_notes WHERE plugin = ?", (self._plugin,))
            self._room = MAX_NOTES - count
            if self._room <= 0:
                raise ExhaustedError(f"the plugin {self._plugin} keeps {count} notes already; that is the most")
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
        return {"plugin": self._plugin, "key": key, "collection_id": about[0], "subject_id": about[1]}

    def _moment(self) -> dict[str, object]:
        return {"now": to_microseconds(self._now())}

    def _read(self, payload: bytes, key: str, about: About) -> JsonValue:
        """The value; None where the key of the person was destroyed."""
        opened = self._sealer.unseal(*about, payload, "note", self._plugin, *about, key)
        value: JsonValue = None if opened is None else json.loads(opened)
        return value


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

    def put(self, plugin: str, about: About, facts: Facts) -> bool:
        """Keep facts in the place of earlier ones; whether they say something else than those.

        Raises ``InputError`` for more than ``MAX_FACTS_BYTES``, ``NotFoundError`` for somebody who is not known.
        """
        payload = _FACTS.dump_json(facts)
        if len(payload) > MAX_FACTS_BYTES:
            raise InputError(f"the facts of plugin {plugin} have {len(payload)} bytes; {MAX_FACTS_BYTES} is the most")
        with self._database.transaction():
            before = self._of(about).get(plugin)
            sealed = self._sealer.seal(*about, payload, "facts", plugin, *about)
            self._database.execute(_PUT_FACTS, (*about, plugin, to_microseconds(facts.expire_time), sealed))
        return before is None or (before.values, before.summary) != (facts.values, facts.summary)

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
