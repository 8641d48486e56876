"""What outlives a restore: what the gallery that was there until now knows of erasures, its audit log, and its tokens.

Or one that was revoked since the backup would open the box again.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from facesvc.database import Database, Row
from facesvc.errors import DependencyError
from facesvc.gallery.keyring import Keyring, KeySource

_CHANGE = "SELECT change FROM changes"
_RECEIPTS = "SELECT receipt_id, collection_id, subject_id, erase_time, change, receipt, signature FROM receipts"
_AUDIT = "SELECT sequence, time, actor, action, collection_id, subject_id, detail, hash FROM audit ORDER BY sequence"
_HEAD = "SELECT singleton, sequence, hash, forgotten, anchor, tag FROM audit_head"
_TOKENS = "SELECT token_id, name, role, scope, hash, create_time, expire_time FROM tokens"
_HAS_TOKENS = "SELECT 1 FROM main.sqlite_schema WHERE type = 'table' AND name = 'tokens'"


@dataclass(frozen=True, slots=True)
class Present:
    """Of the gallery until now, rows in the order of the statements here; nothing, where there is none.

    ``identity`` is the same for the same gallery at any time; empty where its key is not at hand. ``problem`` is why it
    could not be read, in words. ``sample_ids`` are those that the erased had. ``tokens``: None where there is no table.
    """

    change: int = 0
    receipts: Sequence[Row] = ()
    sample_ids: Sequence[str] = ()
    audit: Sequence[Row] = ()
    head: Sequence[Row] = ()
    tokens: Sequence[Row] | None = None
    identity: bytes = b""
    problem: str = ""


def read_present(database: Database, keys: Sequence[KeySource], now: datetime) -> Present:
    """What is to outlive, as far as it can be read: who restores may do so because it cannot."""
    try:
        [(change,)] = database.select(_CHANGE)
        receipts = database.select(_RECEIPTS)
    except (DependencyError, ValueError) as error:
        return Present(problem=str(error))
    sample_ids, damaged = samples_of(receipts)
    problem = f"receipt {damaged} is damaged" if damaged else ""
    known = Present(change=change, receipts=receipts, sample_ids=sample_ids, problem=problem)
    try:
        keyring = Keyring(database)
        keyring.open(keys, now)
        audit, head = database.select(_AUDIT), database.select(_HEAD)
        tokens = database.select(_TOKENS) if database.select(_HAS_TOKENS) else None
        return replace(known, audit=audit, head=head, tokens=tokens, identity=identity_of(keyring))
    except DependencyError as error:
        return replace(known, problem=error.message)


def identity_of(keyring: Keyring) -> bytes:
    """The same for the same gallery at any time."""
    return keyring.tag("identity", b"")


def samples_of(receipts: Sequence[Row]) -> tuple[list[str], str]:
    """The samples that those had who were erased, and the first receipt that does not say it.

    Rows that begin with the id, and end with the document and the signature.
    """
    found: list[str] = []
    damaged = ""
    for receipt_id, *_, document, _ in receipts:
        try:
            found += map(str, json.loads(document)["sample_ids"])
        except (ValueError, KeyError, TypeError):
            damaged = damaged or str(receipt_id)
    return found, damaged


def carry_over(present: Present, database: Database, keyring: Keyring) -> None:
    """Receipts, and of the same gallery the tokens and the longer audit log, into the database that takes its place.

    Inside the caller's transaction.
    """
    known = {receipt_id for receipt_id, *_ in database.select(_RECEIPTS)}
    insert = "INSERT INTO receipts (receipt_id, collection_id, subject_id, erase_time, change, receipt, signature)"
    database.execute_many(
        f"{insert} VALUES (?, ?, ?, ?, ?, ?, ?)", [row for row in present.receipts if row[0] not in known]
    )
    if present.identity != identity_of(keyring):
        return
    if present.tokens is not None and database.select(_HAS_TOKENS):
        database.execute("DELETE FROM tokens")
        database.execute_many("INSERT INTO tokens VALUES (?, ?, ?, ?, ?, ?, ?)", present.tokens)
    ends = [int(head[0][1]) if head else 0 for head in (present.head, database.select(_HEAD))]
    if ends[0] > ends[1]:
        database.execute("DELETE FROM audit")
        database.execute("DELETE FROM audit_head")
        database.execute_many("INSERT INTO audit VALUES (?, ?, ?, ?, ?, ?, ?, ?)", present.audit)
        database.execute_many("INSERT INTO audit_head VALUES (?, ?, ?, ?, ?, ?)", present.head)
