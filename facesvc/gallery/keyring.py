"""The data keys of a gallery: one for each subject, each wrapped by the master key.

Whoever has the database without the master key can read nothing of people but their ids. Destroying a subject's key
makes everything that was ever sealed with it unreadable, wherever it lies.

On files the keys are in one of their own (``database.sqlite``), and a transaction over both files is not atomic: the
power may fail, or the disk be full, between the two. So a key is on the disk before whom it is for, and is destroyed
after they are gone (``Store.creating``, ``Store.erase_subject``). There may be keys to nobody, which ``Store.open``
destroys, but never somebody without a key: that is another gallery's file of keys, or a damaged one, and is refused.
"""

from collections.abc import Iterable
from datetime import datetime
from functools import lru_cache
from typing import Protocol

from ulid import ULID

from facesvc.database import Database, migrate, to_microseconds
from facesvc.errors import DependencyError, NotFoundError
from facesvc.gallery.crypto import KEY_SIZE, Cipher, SealBrokenError, associated, new_key
from facesvc.gallery.schema import KEYRING

_CHECK_NAME = associated("keys of this gallery")
_ANYBODY = "SELECT 1 FROM keyring.subject_keys WHERE subject_id <> '' LIMIT 1"
NOBODY = ("", "")
"""Whose key seals what is about nobody in particular."""
_CACHED = 4096

_WRAPPED = "SELECT key_id, wrapped FROM keyring.subject_keys WHERE collection_id = ? AND subject_id = ?"
_INSERT = "INSERT INTO keyring.subject_keys VALUES (?, ?, ?, ?)"
_DELETE = "DELETE FROM keyring.subject_keys WHERE collection_id = ? AND subject_id = ?"
_STALE = "SELECT collection_id, subject_id, key_id, wrapped FROM keyring.subject_keys WHERE key_id <> ? LIMIT ?"
_REWRAP = """
    UPDATE keyring.subject_keys SET key_id = ?, wrapped = ?
     WHERE collection_id = ? AND subject_id = ? AND key_id = ?
"""
_UNUSED = """
    DELETE FROM keyring.master_keys
     WHERE key_id <> ? AND NOT EXISTS (
               SELECT 1 FROM keyring.subject_keys WHERE subject_keys.key_id = master_keys.key_id)
"""


class KeySource(Protocol):
    """Where a master key comes from; ``str`` says where in words."""

    def read(self) -> bytes | None:
        """32 bytes; None where there is none yet. Raises ``DependencyError``."""
        ...

    def make(self) -> bytes:
        """A new one, kept there. Raises ``DependencyError`` where that is not for us to do."""
        ...


class Keyring:
    """The keys of one gallery. Every method may be called from any thread."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._masters: dict[str, Cipher] = {}
        self._current = ""
        self._unwrapped = lru_cache(_CACHED)(self._unwrap)

    def open(self, sources: Iterable[KeySource], now: datetime) -> None:
        """Find the master key, the first of ``sources``; a new gallery gets a new one. The others are former ones.

        Raises ``DependencyError``: ``KEY_MISSING`` or ``KEY_WRONG`` where keys are wrapped by one that is not here.
        """
        migrate(self._database, KEYRING, now)
        sources = list(sources)
        with self._database.transaction():
            self._exclude_others()
            held = self._database.select("SELECT key_id, sealed_check FROM keyring.master_keys")
            first = sources[0].read()
            if first is None and held:
                message = f"the gallery is sealed, and its key is missing: there is none in {sources[0]}; put it back"
                raise DependencyError(message, reason="KEY_MISSING")
            keys = [first or sources[0].make(), *(key for source in sources[1:] if (key := source.read()))]
            ciphers = [Cipher(_checked(key, sources[0])) for key in keys]
            for key_id, sealed_check in held:
                fitting = [one for one in ciphers if one.fits(sealed_check, _check_name(key_id))]
                if not fitting:
                    message = (
                        f"the key in {sources[0]} is not the one that the gallery was sealed with; put back the key"
                        " that belongs to this gallery"
                    )
                    raise DependencyError(message, reason="KEY_WRONG")
                self._masters[key_id] = fitting[0]
            known = [key_id for key_id, cipher in self._masters.items() if cipher is ciphers[0]]
            self._current = known[0] if known else self._register(ciphers[0], now)
            self.of_nobody()

    def _exclude_others(self) -> None:
        """No other box makes or wraps keys before the caller's transaction has ended."""
        if self._database.shared:
            self._database.execute("UPDATE keyring.migrations SET name = name")  # its rows, which are always there

    def _check_current(self) -> None:
        """Raises ``DependencyError`` where another box has exchanged the master key: no key may be wrapped then."""
        if not self._database.shared:
            return
        if not self._database.select("SELECT 1 FROM keyring.master_keys WHERE key_id = ?", (self._current,)):
            message = "another box has exchanged the gallery's master key; start this box with the new one too"
            raise DependencyError(message, reason="KEY_WRONG")

    def _register(self, cipher: Cipher, now: datetime) -> str:
        key_id = str(ULID.from_datetime(now))
        row = (key_id, cipher.seal(b"", _check_name(key_id)), to_microseconds(now))
        self._database.execute("INSERT INTO keyring.master_keys VALUES (?, ?, ?)", row)
        self._masters[key_id] = cipher
        return key_id

    def make(self, collection_id: str, subject_id: str) -> Cipher:
        """A key for somebody new, inside the caller's transaction, instead of one that was left over.

        Raises ``DependencyError`` (``KEY_WRONG``) where another box has exchanged the master key.
        """
        self._exclude_others()
        self._check_current()
        self.destroy(collection_id, subject_id)
        key = new_key()
        wrapped = self._masters[self._current].seal(key, _key_name(collection_id, subject_id))
        self._database.execute(_INSERT, (collection_id, subject_id, self._current, wrapped))
        return Cipher(key)

    def get(self, collection_id: str, subject_id: str) -> Cipher:
        """Somebody's key. Raises ``NotFoundError`` where it was destroyed, or never made."""
        found = self._database.select(_WRAPPED, (collection_id, subject_id))
        if not found:
            message = f"collection {collection_id!a} has no subject {subject_id!a}"
            raise NotFoundError(message, field="subject_id")
        return self.unwrap(collection_id, subject_id, *found[0])

    def has(self, collection_id: str, subject_id: str) -> bool:
        """Whether there is a key to somebody."""
        return bool(self._database.select(_WRAPPED, (collection_id, subject_id)))

    def of_nobody(self) -> Cipher:
        """The key of what is about nobody in particular."""
        with self._database.transaction():
            if self._database.select(_WRAPPED, NOBODY):
                return self.get(*NOBODY)
            return self.make(*NOBODY)

    def check(self) -> None:
        """Raises ``DependencyError`` unless these are the keys of this gallery, whose tables are up to date."""
        with self._database.transaction():
            found = self._database.select("SELECT sealed FROM keys_check")
            if not found and not self._database.select(_ANYBODY):  # it is new
                self.adopt()
            elif not found or not self.of_nobody().fits(found[0][0], _CHECK_NAME):
                message = (
                    f"the keys beside {self._database.where} are not those to its people; put back the file of keys"
                    " that belongs to it, or restore a backup"
                )
                raise DependencyError(message, reason="KEY_MISSING")

    def adopt(self) -> None:
        """Say that these are the keys of this gallery, inside the caller's transaction."""
        sealed = self.of_nobody().seal(b"", _CHECK_NAME)
        self._database.execute("INSERT INTO keys_check VALUES (1, ?)", (sealed,))

    def seal(self, collection_id: str, subject_id: str, plaintext: bytes, *name: str) -> bytes:
        """Something about somebody, bound to ``name``; empty ids: about nobody. ``NotFoundError`` without a key."""
        return self._of(collection_id, subject_id).seal(plaintext, associated(*name))

    def unseal(self, collection_id: str, subject_id: str, sealed: bytes, *name: str) -> bytes | None:
        """What was sealed; None where the key to it was destroyed. Raises ``SealBrokenError``."""
        try:
            cipher = self._of(collection_id, subject_id)
        except NotFoundError:
            return None
        return cipher.unseal(sealed, associated(*name))

    def tag(self, purpose: str, data: bytes) -> bytes:
        """As ``Cipher.tag``, with the key of what is about nobody."""
        return self.of_nobody().tag(purpose, data)

    def _of(self, collection_id: str, subject_id: str) -> Cipher:
        return self.get(collection_id, subject_id) if subject_id else self.of_nobody()

    def unwrap(self, collection_id: str, subject_id: str, key_id: str, wrapped: bytes) -> Cipher:
        """A key from its row. Raises ``SealBrokenError``."""
        return self._unwrapped(collection_id, subject_id, key_id, wrapped)

    def _unwrap(self, collection_id: str, subject_id: str, key_id: str, wrapped: bytes) -> Cipher:
        return Cipher(self._master(key_id).unseal(wrapped, _key_name(collection_id, subject_id)))

    def _master(self, key_id: str) -> Cipher:
        """A master key by its id, also one that another box has registered since. Raises ``SealBrokenError``."""
        if key_id not in self._masters:
            for known_id, check in self._database.select("SELECT key_id, sealed_check FROM keyring.master_keys"):
                for cipher in list(self._masters.values()):
                    if cipher.fits(check, _check_name(known_id)):
                        self._masters[known_id] = cipher
        if key_id not in self._masters:
            raise SealBrokenError("its key is wrapped by a master key that is not here; start with that one as well")
        return self._masters[key_id]

    def unseal_by_master(self, sealed: bytes, associated_data: bytes) -> bytes:
        """What the master key itself has sealed, as it once did. Raises ``SealBrokenError``."""
        return self._masters[self._current].unseal(sealed, associated_data)

    def destroy(self, collection_id: str, subject_id: str) -> None:
        """Make what was sealed with somebody's key unreadable; inside the caller's transaction, then ``forget``."""
        if self._database.execute(_DELETE, (collection_id, subject_id)):
            self.forget_cached()

    def forget_cached(self) -> None:
        """Let go of the keys that were read; those that another box has destroyed are among them."""
        self._unwrapped.cache_clear()

    def begin_rotation(self, key: bytes, now: datetime) -> None:
        """From now on new keys are wrapped by the master key ``key``; call ``rewrap`` until nothing is left."""
        with self._database.transaction():
            registered = self._register(Cipher(key), now)
        self._current = registered  # once it is committed: a key that it wraps must not outlive it

    def rewrap(self, most: int) -> int:
        """Wrap some keys that a former master key wraps by the current one; how many. 0: all are, and that one is gone.

        The keys inside stay the same, so nothing has to be sealed anew. Raises as ``make``.
        """
        with self._database.transaction():
            self._exclude_others()
            self._check_current()
            stale = self._database.select(_STALE, (self._current, most))
            for collection_id, subject_id, key_id, wrapped in stale:
                name = _key_name(collection_id, subject_id)
                key = self._master(key_id).unseal(wrapped, name)
                again = self._masters[self._current].seal(key, name)
                self._database.execute(_REWRAP, (self._current, again, collection_id, subject_id, key_id))
            if not stale:
                self._database.execute(_UNUSED, (self._current,))
        if not stale:
            self._masters = {self._current: self._masters[self._current]}
            self._database.forget()
        return len(stale)

    @property
    def is_rotating(self) -> bool:
        """Whether some keys are still wrapped by a former master key."""
        return bool(self._database.select(_STALE, (self._current, 1)))


def _checked(key: bytes, source: KeySource) -> bytes:
    if len(key) != KEY_SIZE:
        message = f"the key in {source} has {len(key)} bytes, {KEY_SIZE} are needed; put back the right one"
        raise DependencyError(message, reason="KEY_DAMAGED")
    return key


def _check_name(key_id: str) -> bytes:
    return associated("key check", key_id)


def _key_name(collection_id: str, subject_id: str) -> bytes:
    return associated("subject key", collection_id, subject_id)
