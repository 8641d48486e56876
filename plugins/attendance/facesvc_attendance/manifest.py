"""What stands beside an exported CSV: a manifest that names its hash and the manifest before, and a signature.

The signature is Ed25519 (RFC 8032) over the manifest's bytes as they lie in the file, in a file of its own of 64 bytes,
so that ``openssl pkeyutl -verify -rawin`` can check it. Manifests form a chain, in the order in which they were
written: who has one of them can tell whether an earlier one is missing or another.
"""

import base64
import binascii
import hashlib
from datetime import date
from typing import Annotated, Literal, Self

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_der_public_key,
    load_pem_private_key,
)
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from facesvc.errors import ConfigError, InputError
from facesvc.events import secrets

MAX_REVISION = 999

_Hash = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
_Stem = Annotated[str, Field(pattern=r"^attendance-[0-9]{4}-[0-9]{2}-[0-9]{2}(\.r[0-9]{1,3})?$")]


class Manifest(BaseModel):
    """One exported file. ``previous`` is empty for the first of all; ``sequence`` counts from 1."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal["facesvc-attendance/1"] = "facesvc-attendance/1"
    day: date
    revision: Annotated[int, Field(ge=1, le=MAX_REVISION)]
    sequence: Annotated[int, Field(ge=1)]
    csv_sha256: _Hash
    rows: Annotated[int, Field(ge=0)]
    previous: _Stem | Literal[""]
    previous_sha256: _Hash | Literal[""]
    written_time: str
    key_id: str

    @property
    def stem(self) -> str:
        """The name of its files without ``.csv``, ``.json``, ``.sig``."""
        return stem_of(self.day, self.revision)

    def content(self) -> bytes:
        """The bytes that are signed."""
        return self.model_dump_json(indent=1).encode() + b"\n"

    @classmethod
    def parse(cls, content: bytes) -> Self:
        """Raises ``ValueError`` that says what is wrong, on one line."""
        try:
            return cls.model_validate_json(content)
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(map(str, first["loc"]))
            raise ValueError(f"{where}: {first['msg']}" if where else first["msg"]) from None


def stem_of(day: date, revision: int) -> str:
    """The name of a day's files; ``revision`` from 1."""
    return f"attendance-{day}" if revision == 1 else f"attendance-{day}.r{revision}"


def sha256(content: bytes) -> str:
    """In hexadecimal."""
    return hashlib.sha256(content).hexdigest()


def read_key(place: str) -> Ed25519PrivateKey:
    """The key that signs, from a secret. Raises ``ConfigError``."""
    text = secrets.read(place)
    try:
        key = load_pem_private_key(text.encode(), password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        key = None
    if not isinstance(key, Ed25519PrivateKey):
        # What could not be read is not told: it is a secret.
        message = f"signing_key: {place} is no Ed25519 key: make one with `openssl genpkey -algorithm ed25519`"
        raise ConfigError(message)
    return key


def public_text(key: Ed25519PublicKey) -> str:
    """The public key in base64, as between the lines of its PEM."""
    return base64.b64encode(_der(key)).decode()


def read_public(text: str) -> Ed25519PublicKey:
    """What ``public_text`` made. Raises ``InputError``."""
    try:
        key = load_der_public_key(base64.b64decode(text, validate=True))
    except (ValueError, binascii.Error, UnsupportedAlgorithm):
        key = None
    if not isinstance(key, Ed25519PublicKey):
        raise InputError(f"{text[:80]!r} is no Ed25519 public key: give what `public-key` prints as base64")
    return key


def key_id(key: Ed25519PublicKey) -> str:
    """What tells keys apart: the first half of the SHA-256 of the public key."""
    return sha256(_der(key))[:32]


def is_signed(content: bytes, signature: bytes, key: Ed25519PublicKey) -> bool:
    """Whether the bytes are those that were signed with a key."""
    try:
        key.verify(signature, content)
    except InvalidSignature:
        return False
    return True


def _der(key: Ed25519PublicKey) -> bytes:
    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
