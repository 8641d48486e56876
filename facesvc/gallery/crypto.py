"""Sealing what is kept of faces: AES-256-GCM (NIST SP 800-38D) under one key, which lives in a file of its own.

Only this file imports ``cryptography``. A sealed value is a version byte, a random 96-bit nonce, and the ciphertext
with its 128-bit tag. It opens with the same key and the same associated data only: a crop moved to another person's
row does not open there. Random nonces are good for 2^32 values under one key.
"""

import os
import secrets
import tempfile
from pathlib import Path
from threading import Lock
from typing import Self

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from facesvc.errors import DependencyError

KEY_SIZE = 32  # bytes

_VERSION = b"\x01"
_NONCE_SIZE = 12  # bytes
_TAG_SIZE = 16  # bytes
_OTHERS = 0o077  # what a group and everybody else may do with a file


def associated(*parts: str) -> bytes:
    """What a sealed value belongs to, as bytes from which nothing but ``parts`` can be read."""
    encoded = [part.encode() for part in parts]
    return b"".join(len(part).to_bytes(4, "big") + part for part in encoded)


class Vault:
    """Seals and unseals under the key in ``key_path``. Every method may be called from any thread.

    The file is read when it is first needed, and made by the first ``seal`` where there is none: a gallery that keeps
    no crops has no key. Every method raises ``DependencyError`` where the file cannot be used.
    """

    def __init__(self, key_path: Path) -> None:
        self.key_path = key_path
        self._lock = Lock()
        self._cipher: AESGCM | None = None

    @classmethod
    def open(cls, key_path: Path) -> Self:
        """A vault whose key is read, or made, at once: what is wrong with the file shows now."""
        vault = cls(key_path)
        vault.prepare()
        return vault

    def prepare(self) -> None:
        """Reads the key, or makes it where there is none."""
        self._unlocked(make=True)

    def seal(self, plaintext: bytes, associated_data: bytes) -> bytes:
        """``plaintext`` as a sealed value that belongs to ``associated_data``; another one each time."""
        nonce = secrets.token_bytes(_NONCE_SIZE)
        return _VERSION + nonce + self._unlocked(make=True).encrypt(nonce, plaintext, _VERSION + associated_data)

    def unseal(self, sealed: bytes, associated_data: bytes) -> bytes:
        """What was sealed; ``DependencyError`` (``CROP_DAMAGED``) where it was changed or belongs to something else."""
        plaintext = self._opened(sealed, associated_data)
        if plaintext is None:
            message = "what is kept sealed of a face is damaged, or was moved here from elsewhere; restore a backup"
            raise DependencyError(message, reason="CROP_DAMAGED")
        return plaintext

    def make_check(self, associated_data: bytes) -> bytes:
        """Something sealed for ``verify``."""
        return self.seal(b"", associated_data)

    def verify(self, check: bytes, associated_data: bytes) -> None:
        """A ``DependencyError`` (``KEY_WRONG``) unless the key is the one that ``check`` was made with."""
        if self._opened(check, associated_data) is None:
            message = (
                f"the key in {self.key_path} is not the one that the gallery's crops were sealed with; put back the key"
                " file that belongs to this gallery"
            )
            raise DependencyError(message, reason="KEY_WRONG")

    def _opened(self, sealed: bytes, associated_data: bytes) -> bytes | None:
        nonce, ciphertext = sealed[1 : 1 + _NONCE_SIZE], sealed[1 + _NONCE_SIZE :]
        cipher = self._unlocked(make=False)
        if sealed[:1] != _VERSION or len(ciphertext) < _TAG_SIZE:
            return None
        try:
            return cipher.decrypt(nonce, ciphertext, _VERSION + associated_data)
        except InvalidTag:
            return None

    def _unlocked(self, *, make: bool) -> AESGCM:
        with self._lock:
            if self._cipher is None:
                self._cipher = AESGCM(self._key(make=make))
            return self._cipher

    def _key(self, *, make: bool) -> bytes:
        try:
            if make and not self.key_path.exists():
                _make_key(self.key_path)
            return _read_key(self.key_path)
        except FileNotFoundError as error:
            raise missing_key(f"{self.key_path} does not exist") from error
        except OSError as error:
            message = f"the key file {self.key_path} cannot be used ({error.strerror}); check the path and its rights"
            raise DependencyError(message, reason="KEY_UNREADABLE") from error


def missing_key(why: str) -> DependencyError:
    """The gallery keeps crops, and there is no key to them."""
    return DependencyError(
        f"the gallery keeps sealed crops of faces, but their key is missing: {why}; put back the key file that belongs"
        " to this gallery",
        reason="KEY_MISSING",
    )


def _read_key(path: Path) -> bytes:
    """The key in ``path``, refused where others than its owner could have read it."""
    with path.open("rb") as file:
        mode = os.fstat(file.fileno()).st_mode
        key = file.read(KEY_SIZE + 1)
    if mode & _OTHERS:
        message = f"the key file {path} is open to others than its owner (mode {mode & 0o777:o}); chmod 600 it"
        raise DependencyError(message, reason="KEY_EXPOSED")
    if len(key) != KEY_SIZE:
        found = "more" if len(key) > KEY_SIZE else len(key)
        message = f"the key file {path} must hold {KEY_SIZE} bytes and holds {found}; restore it from its backup"
        raise DependencyError(message, reason="KEY_DAMAGED")
    return key


def _make_key(path: Path) -> None:
    """A new key in ``path``, on the disk as a whole or not at all; one that somebody else makes meanwhile stays."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor, draft = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")  # O_EXCL, mode 0600
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(secrets.token_bytes(KEY_SIZE))
            file.flush()
            os.fsync(file.fileno())
        path.hardlink_to(draft)  # unlike a rename, it never replaces a key
    except FileExistsError:
        pass
    finally:
        Path(draft).unlink()
    for folder in (path.parent, path.parent.parent):
        _sync_folder(folder)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
