"""Keys of NATS users: a seed as text, and what is made with it.

A seed is base32 without padding of two bytes that say what kind of key it is, 32 bytes of an Ed25519 private key, and a
CRC-16 (XMODEM, least significant byte first) of all before. https://docs.nats.io/running-a-nats-service/nats_admin/
security/jwt#nkeys has the words; a public key is made likewise, with one byte in the place of two.
"""

import base64
import binascii
import re
from dataclasses import dataclass, field
from typing import Self

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from facesvc.errors import ConfigError

_SEED = 18 << 3  # S
_USER = 20 << 3  # U
_BLOCK = re.compile(r"-{3,}BEGIN ([A-Z ]+)-{3,}\s+(\S+)\s+-{3,}END \1-{3,}")


@dataclass(frozen=True, slots=True)
class UserKey:
    """The key of a user, and the JWT that says what they may do, empty where the server knows the key itself."""

    _private: Ed25519PrivateKey = field(repr=False)
    jwt: str = field(default="", repr=False)

    @classmethod
    def of_seed(cls, seed: str, jwt: str = "") -> Self:
        """Raises ``ConfigError``, which does not tell the seed."""
        try:
            raw = base64.b32decode(seed + "=" * (-len(seed) % 8))
        except (binascii.Error, ValueError):
            raw = b""
        if len(raw) != 36 or binascii.crc_hqx(raw[:-2], 0) != int.from_bytes(raw[-2:], "little"):
            raise ConfigError("the seed of the NATS user is not one, or has a mistake: it has 58 characters, SU…")
        if raw[0] & 0xF8 != _SEED or ((raw[0] & 7) << 5 | raw[1] >> 3) != _USER:
            raise ConfigError("the seed is not that of a NATS user: those start with SU")
        return cls(Ed25519PrivateKey.from_private_bytes(raw[2:-2]), jwt)

    @classmethod
    def of_credentials(cls, text: str) -> Self:
        """From the text of a credentials file. Raises ``ConfigError``."""
        blocks = dict(_BLOCK.findall(text))
        try:
            return cls.of_seed(blocks["USER NKEY SEED"], blocks["NATS USER JWT"])
        except KeyError as error:
            raise ConfigError(f"the NATS credentials have no block {error.args[0]}") from error

    @property
    def public(self) -> str:
        """As a server has it in its configuration, ``U…``."""
        raw = bytes([_USER]) + self._private.public_key().public_bytes_raw()
        return base64.b32encode(raw + binascii.crc_hqx(raw, 0).to_bytes(2, "little")).decode().rstrip("=")

    def sign(self, nonce: str) -> bytes:
        """What a server gave to be signed, as base64."""
        return base64.b64encode(self._private.sign(nonce.encode()))
