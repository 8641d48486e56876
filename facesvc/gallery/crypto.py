"""Sealing: AES-256-GCM (NIST SP 800-38D). Only this file imports ``cryptography``.

A sealed value is a version byte, a random 96-bit nonce, and the ciphertext with its 128-bit tag. It opens with the same
key and the same associated data only: what was moved to another person's row does not open there. Random nonces are
good for 2^32 values under one key; each subject has a key of its own.
"""

import hashlib
import hmac
import secrets

from cryptography.exceptions import InvalidSignature, InvalidTag
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from facesvc.errors import DependencyError

KEY_SIZE = 32  # bytes

_VERSION = b"\x01"
_NONCE_SIZE = 12  # bytes
_TAG_SIZE = 16  # bytes


class SealBrokenError(DependencyError):
    """A sealed value was changed, belongs to something else, or was sealed with another key."""

    reason = "GALLERY_DAMAGED"


def new_key() -> bytes:
    """32 random bytes."""
    return secrets.token_bytes(KEY_SIZE)


def associated(*parts: str) -> bytes:
    """What a sealed value belongs to, as bytes from which nothing but ``parts`` can be read."""
    encoded = [part.encode() for part in parts]
    return b"".join(len(part).to_bytes(4, "big") + part for part in encoded)


class Cipher:
    """Seals and unseals under one key of 32 bytes. Every method may be called from any thread."""

    def __init__(self, key: bytes) -> None:
        self._key = key
        self._aes = AESGCM(key)

    def seal(self, plaintext: bytes, associated_data: bytes) -> bytes:
        """``plaintext`` as a sealed value that belongs to ``associated_data``; another one each time."""
        nonce = secrets.token_bytes(_NONCE_SIZE)
        return _VERSION + nonce + self._aes.encrypt(nonce, plaintext, _VERSION + associated_data)

    def unseal(self, sealed: bytes, associated_data: bytes) -> bytes:
        """What was sealed. Raises ``SealBrokenError``."""
        nonce, ciphertext = sealed[1 : 1 + _NONCE_SIZE], sealed[1 + _NONCE_SIZE :]
        if sealed[:1] == _VERSION and len(ciphertext) >= _TAG_SIZE:
            try:
                return self._aes.decrypt(nonce, ciphertext, _VERSION + associated_data)
            except InvalidTag:
                pass
        raise SealBrokenError("what is kept sealed was changed, or belongs to something else; restore a backup")

    def fits(self, sealed: bytes, associated_data: bytes) -> bool:
        """Whether ``unseal`` would succeed."""
        try:
            self.unseal(sealed, associated_data)
        except SealBrokenError:
            return False
        return True

    def tag(self, purpose: str, data: bytes) -> bytes:
        """32 bytes that are the same for the same ``data``, and say nothing about it to those without the key.

        HMAC-SHA-256 (RFC 2104) under a key derived for ``purpose``.
        """
        derived = hmac.digest(self._key, b"facesvc tag " + purpose.encode(), hashlib.sha256)
        return hmac.digest(derived, data, hashlib.sha256)


class Signer:
    """Signs under one Ed25519 key (RFC 8032), given as its seed of 32 bytes."""

    def __init__(self, seed: bytes) -> None:
        self._key = Ed25519PrivateKey.from_private_bytes(seed)

    @property
    def public_key(self) -> bytes:
        """32 bytes."""
        return self._key.public_key().public_bytes_raw()

    def sign(self, message: bytes) -> bytes:
        """64 bytes."""
        return self._key.sign(message)


def is_signed(message: bytes, signature: bytes, public_key: bytes) -> bool:
    """Whether ``signature`` is that of ``message`` under an Ed25519 public key."""
    try:
        Ed25519PublicKey.from_public_bytes(public_key).verify(signature, message)
    except (InvalidSignature, ValueError):
        return False
    return True
