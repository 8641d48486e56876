"""Tokens: random, shown once, kept as hashes; named, limited to a role and a scope, expiring, revocable at once.

A token is ``fsv_``, its id, ``_``, and 32 random bytes in base64url. Of the secret only a hash is kept: it is too long
to be guessed, so nothing slower is called for (NIST SP 800-63B, 5.1.2, look-up secrets of more than 112 bits). The hash
is HMAC-SHA-256 over all that is said of the token, with a key of the gallery's: who may write to the database, but has
not the master key, can neither make a token nor make one good for more.
"""

import base64
import hashlib
import hmac
import json
import re
import secrets
import threading
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

import structlog
from ulid import ULID

from facesvc.database import Database, Row, Schema, Step, from_microseconds, migrate, to_microseconds
from facesvc.errors import AlreadyExistsError, InputError, NotFoundError
from facesvc.security.principals import Principal, Scope
from facesvc.security.roles import Role

TOKENS_KEY = "tokens"
"""What the key is for, where it is derived from the gallery's."""
_log = structlog.get_logger(__name__)
_SECRET_BYTES = 32
_FORM = re.compile(r"fsv_([0-9A-HJKMNP-TV-Z]{26})_([A-Za-z0-9_-]{43})")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,127}")
_NO_ROW: Row = ("", "", "", "", bytes(32), 0, None)
MAX_SCOPED = 1000
MAX_TOKENS = 10_000

_TABLE = """
    CREATE TABLE tokens (
        token_id TEXT PRIMARY KEY,
        name TEXT NOT NULL UNIQUE,
        role TEXT NOT NULL,
        scope TEXT NOT NULL,
        hash BLOB NOT NULL,
        create_time INTEGER NOT NULL,
        expire_time INTEGER
    )
"""
TOKENS = Schema("tokens_migrations", (Step("0001_tokens", (_TABLE,)),))
_COLUMNS = "token_id, name, role, scope, hash, create_time, expire_time"
_SELECT = f"SELECT {_COLUMNS} FROM tokens"  # noqa: S608 - of nothing that anybody says
_REVOKE = f"DELETE FROM tokens WHERE name = ? RETURNING {_COLUMNS}"  # noqa: S608 - likewise


@dataclass(frozen=True, slots=True, kw_only=True)
class Token:
    """A token, without its secret."""

    token_id: str
    name: str
    role: Role
    scope: Scope
    create_time: datetime
    expire_time: datetime | None

    def is_live(self, now: datetime) -> bool:
        """Whether it is good for anything."""
        return self.expire_time is None or now < self.expire_time

    @property
    def principal(self) -> Principal:
        """Whoever has it."""
        return Principal(name=self.name, role=self.role, scope=self.scope, token_id=self.token_id)


class Tokens:
    """The tokens of one database, all in memory too, so that a call waits for no disk.

    ``key``: 32 bytes that nobody has who has not the gallery's key. ``find`` never blocks; everything else does, and
    may be called from any thread.
    """

    def __init__(self, database: Database, key: bytes, now: Callable[[], datetime]) -> None:
        self._database = database
        self._key = key
        self._now = now
        migrate(database, TOKENS, now())
        self._known: dict[str, tuple[Token, Row]] = {}
        self._refreshing = threading.Lock()
        self.refresh()

    def refresh(self) -> None:
        """Learn of what other boxes have changed."""
        with self._refreshing:  # or what one thread read before a token was revoked would be kept after it
            self._known = {row[0]: (token, row) for row in self._database.select(_SELECT) if (token := _read(row))}

    def find(self, text: str) -> Token | None:
        """The token whose secret somebody has shown; None for one that is none, is over, or was revoked."""
        form = _FORM.fullmatch(text)
        token, row = self._known.get(form.group(1), (None, _NO_ROW)) if form else (None, _NO_ROW)
        # Compared in any case: how long it takes does not tell whether there is such an id.
        is_right = hmac.compare_digest(self._hash(row, form.group(2) if form else ""), row[4])
        return token if token is not None and is_right and token.is_live(self._now()) else None

    def id_of(self, text: str) -> str:
        """Which token somebody says they have, right or wrong; empty for one that is none of ours."""
        form = _FORM.fullmatch(text)
        return form.group(1) if form and form.group(1) in self._known else ""

    def is_live(self, token_id: str) -> bool:
        """Whether a token that was found before still holds."""
        token, _ = self._known.get(token_id, (None, _NO_ROW))
        return token is not None and token.is_live(self._now())

    def create(
        self, name: str, role: Role, scope: Scope | None = None, expire_time: datetime | None = None
    ) -> tuple[Token, str]:
        """A new token, and its text, which is shown this once. Raises ``InputError``, ``AlreadyExistsError``."""
        if not _NAME.fullmatch(name):
            raise InputError(f"{name!a} is no name of a token: letters, digits and . _ @ -, up to 128", field="name")
        if expire_time is not None and expire_time <= self._now():
            raise InputError("the token would be over before it begins", field="expire_time")
        scope = scope or Scope()
        if max(len(scope.camera_ids), len(scope.collection_ids)) > MAX_SCOPED:
            raise InputError(f"a token is limited to at most {MAX_SCOPED} cameras or galleries", field="scope")
        secret = base64.urlsafe_b64encode(secrets.token_bytes(_SECRET_BYTES)).rstrip(b"=").decode()
        token = Token(
            token_id=str(ULID.from_datetime(self._now())),
            name=name,
            role=role,
            scope=scope,
            create_time=self._now(),
            expire_time=expire_time,
        )
        with self._database.transaction():
            [(count,)] = self._database.select("SELECT count(*) FROM tokens")
            if count >= MAX_TOKENS:
                raise InputError(f"there are {count} tokens already: revoke some", field="name")
            row = _to_row(token)
            row = (*row[:4], self._hash(row, secret), *row[5:])
            sql = "INSERT INTO tokens VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT (name) DO NOTHING"
            if not self._database.execute(sql, row):
                raise AlreadyExistsError(f"there already is a token {name}: revoke it first", field="name")
        self.refresh()
        return token, f"fsv_{token.token_id}_{secret}"

    def _hash(self, row: Row, secret: str) -> bytes:
        said = json.dumps([*row[:4], *row[5:], secret])
        return hmac.digest(self._key, said.encode(), hashlib.sha256)

    def list_tokens(self) -> list[Token]:
        """All of them, oldest first."""
        return [token for _, (token, _) in sorted(self._known.items())]

    def revoke(self, name: str) -> Token:
        """Make a token worthless, from this moment on, and its name free. Raises ``NotFoundError``."""
        found = self._database.select(_REVOKE, (name,))
        self.refresh()
        token = _read(found[0]) if found else None
        if token is None:
            raise NotFoundError(f"there is no token {name!a}", field="name")
        return token


def _to_row(token: Token) -> Row:
    """Without its hash."""
    scope = {
        "camera_ids": sorted(token.scope.camera_ids),
        "collection_ids": sorted(token.scope.collection_ids),
        "names": token.scope.names,
    }
    return (
        token.token_id,
        token.name,
        token.role.value,
        json.dumps(scope),
        b"",
        to_microseconds(token.create_time),
        None if token.expire_time is None else to_microseconds(token.expire_time),
    )


def _read(row: Row) -> Token | None:
    """A token; None for a row that is none of this version's: it opens nothing, and stops nobody."""
    try:
        return _from_row(row)
    except (ValueError, KeyError, TypeError) as error:
        _log.warning("a token cannot be read, and opens nothing", token_id=row[0], problem=str(error))
        return None


def _from_row(row: Row) -> Token:
    token_id, name, role, scope, _, create_time, expire_time = row
    limits = json.loads(scope)
    return Token(
        token_id=token_id,
        name=name,
        role=Role(role),
        scope=Scope(
            camera_ids=frozenset(limits["camera_ids"]),
            collection_ids=frozenset(limits["collection_ids"]),
            names=limits["names"],
        ),
        create_time=from_microseconds(create_time),
        expire_time=None if expire_time is None else from_microseconds(expire_time),
    )
