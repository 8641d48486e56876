"""The keys of a database as rows, to be carried from one database to another."""

from collections.abc import Sequence
from dataclasses import dataclass

from facesvc.database import Database, Row
from facesvc.gallery.keyring import NOBODY

_MASTER_KEYS = "SELECT key_id, sealed_check, create_time FROM keyring.master_keys ORDER BY key_id"
_SIGNER = "SELECT singleton, sealed FROM keyring.signer"
_SUBJECT_KEYS = "SELECT collection_id, subject_id, key_id, wrapped FROM keyring.subject_keys"
_INSERT = {
    "master_keys": "INSERT INTO keyring.master_keys (key_id, sealed_check, create_time) VALUES (?, ?, ?)",
    "signer": "INSERT INTO keyring.signer (singleton, sealed) VALUES (?, ?)",
    "nobody": "INSERT INTO keyring.subject_keys (collection_id, subject_id, key_id, wrapped) VALUES (?, ?, ?, ?)",
    "people": "INSERT INTO keyring.subject_keys (collection_id, subject_id, key_id, wrapped) VALUES (?, ?, ?, ?)",
}


@dataclass(frozen=True, slots=True)
class KeyTables:
    """Rows of the tables of ``keyring``: master keys, what signs receipts, the key of nobody, those of people."""

    master_keys: Sequence[Row]
    signer: Sequence[Row]
    nobody: Sequence[Row]
    people: Sequence[Row]


def read_keys(database: Database) -> KeyTables:
    """All keys of a database, of one moment."""
    with database.transaction():
        rows = database.select(f"{_SUBJECT_KEYS} ORDER BY collection_id, subject_id")
        return KeyTables(
            master_keys=database.select(_MASTER_KEYS),
            signer=database.select(_SIGNER),
            nobody=[row for row in rows if row[:2] == NOBODY],
            people=[row for row in rows if row[:2] != NOBODY],
        )


def insert_keys(database: Database, tables: KeyTables) -> None:
    """Keys into a database that has none, inside the caller's transaction."""
    for name, statement in _INSERT.items():
        database.execute_many(statement, getattr(tables, name))
