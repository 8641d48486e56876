"""The chain that makes the audit log evident of tampering: what is hashed, and what holds along it. Pure values.

Each entry bears an HMAC-SHA-256 over the hash of the entry before it and over itself; the head says where the log ends,
and bears a tag of its own. Who has no key can make neither, and so an entry that was changed, removed, put in or moved
does not join up with its neighbour, and one that was cut off at the end is missed by the head. What is past its
retention is dropped at the old end; the head keeps the hash of the last of it, the anchor that the rest follows from.

What this cannot show is that everything was put back to an earlier state, log, head and all: a hash that was kept
elsewhere shows it.
"""

import hmac
import json
from dataclasses import dataclass, replace
from datetime import datetime

from facesvc.database import Row, from_microseconds
from facesvc.errors import DependencyError

BEGINNING = b""
"""The hash before the first entry."""
_UNJOINED = b"the head was changed"


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditEntry:
    """Somebody did something. ``detail`` holds no name; ``hash`` is that of the chain."""

    sequence: int
    time: datetime
    actor: str
    action: str
    collection_id: str
    subject_id: str
    detail: str
    hash: bytes


@dataclass(frozen=True, slots=True)
class Head:
    """The last entry, and the last of those that are past their retention; 0 and ``BEGINNING`` for none.

    ``intact`` is whether it bears the tag that we gave it.
    """

    sequence: int
    hash: bytes
    forgotten: int
    anchor: bytes
    intact: bool

    @property
    def joint(self) -> bytes:
        """What the next entry follows from; nothing that can be, after a head that was changed: that must stay seen."""
        return self.hash if self.intact else _UNJOINED


@dataclass(frozen=True, slots=True)
class Break:
    """The first entry that is not as it was written, or is missing."""

    sequence: int
    message: str


class Chain:
    """Makes hashes and tags under a key of 32 bytes."""

    def __init__(self, key: bytes) -> None:
        self._key = key

    def hash_of(self, values: Row, previous: bytes) -> bytes:
        """32 bytes for the columns of an entry but its hash, in order."""
        return self._mac(b"entry", previous, json.dumps(values).encode())

    def tag_of(self, head: Head) -> bytes:
        """32 bytes; empty for a head that was changed, so that it stays one."""
        if not head.intact:
            return b""
        ends = json.dumps((head.sequence, head.hash.hex(), head.forgotten, head.anchor.hex()))
        return self._mac(b"head", ends.encode())

    def head_of(self, row: Row) -> Head:
        """A row of sequence, hash, forgotten, anchor and tag."""
        sequence, digest, forgotten, anchor, tag = row
        if [type(value) for value in row] != [int, bytes, int, bytes, bytes]:
            return Head(0, BEGINNING, 0, BEGINNING, intact=False)
        head = Head(sequence, digest, forgotten, anchor, intact=True)
        return head if hmac.compare_digest(self.tag_of(head), tag) else replace(head, intact=False)

    def _mac(self, purpose: bytes, *parts: bytes) -> bytes:
        message = b"".join(len(part).to_bytes(8, "big") + part for part in (purpose, *parts))
        return hmac.digest(self._key, message, "sha256")


class Walk:
    """Goes along the chain from the anchor of ``head``; ``sequence`` and ``hash`` are those of the last good entry."""

    def __init__(self, chain: Chain, head: Head) -> None:
        self._chain = chain
        self.sequence = head.forgotten
        self.hash = head.anchor
        self.count = 0

    def problem(self, row: Row) -> Break | None:
        """Why the next entry, all its columns in order, does not follow; None where it does."""
        sequence, expected = row[0], self.sequence + 1
        if sequence < expected:
            return Break(max(1, sequence), f"entry {sequence} was put in")
        if sequence > expected:
            return Break(expected, f"entry {expected} is missing")
        try:
            right = hmac.compare_digest(self._chain.hash_of(row[:-1], self.hash), row[-1])
        except TypeError:  # such as bytes where there was a text
            right = False
        if right:
            return None
        message = f"entry {expected} is not as it was written, or something before it was removed or put in"
        return Break(expected, message)

    def take(self, row: Row) -> None:
        """On to this entry, with which there is no problem."""
        self.sequence, self.hash = row[0], row[-1]
        self.count += 1

    def end(self, head: Head) -> Break | None:
        """Why the log does not end here; None where it does."""
        following = self.sequence + 1
        if not head.intact:
            message = f"the head of the log was changed; what followed entry {self.sequence} may have been cut off"
            return Break(following, message)
        if head.sequence != self.sequence or head.hash != self.hash:
            return Break(following, f"entry {following} is missing: the log was cut off, it went up to {head.sequence}")
        return None


def entry_of(row: Row) -> AuditEntry:
    """A row of all columns as a record. Raises ``DependencyError`` where that cannot be."""
    sequence, time, actor, action, collection_id, subject_id, detail, digest = row
    try:
        return AuditEntry(
            sequence=sequence,
            time=from_microseconds(time),
            actor=actor,
            action=action,
            collection_id=collection_id,
            subject_id=subject_id,
            detail=detail,
            hash=digest,
        )
    except (TypeError, OverflowError) as error:
        message = f"entry {sequence} of the audit log is damaged; `facesvc audit verify` says more"
        raise DependencyError(message, reason="AUDIT_DAMAGED") from error
