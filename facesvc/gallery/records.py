"""The words of the gallery as records, checked at birth: nothing malformed gets past a constructor.

Limits come from the API (``proto/facesvc/v1``); a refusal names the field the way the API writes it. Times are
timezone-aware UTC; one that is not is a bug of ours and a ``ValueError``.
"""

import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray
from ulid import ULID

from facesvc.errors import InputError

MAX_NAME_LENGTH = 256  # characters of a display name, a purpose, a source
MAX_ENTRIES = 32  # external ids, and metadata entries, of one subject
MAX_VALUE_LENGTH = 1024  # characters of one of their values
MAX_DIMENSION = 4096
SHA256_SIZE = 32  # bytes
UNIT_TOLERANCE = 1e-3  # what float16 weights and int8 networks leave of a length of 1

_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,127}")
_KEY = re.compile(r"[a-z][a-z0-9_]{0,63}")
# Control characters, surrogates without a partner (UTF-8 cannot hold them), and Unicode's line and paragraph breaks.
_UNPRINTABLE = frozenset({"Cc", "Cs", "Zl", "Zp"})

Floats = NDArray[np.float32]


def check_id(value: str, name: str) -> None:
    """An ``InputError`` about the field ``name`` unless ``value`` can be an id."""
    if not _ID.fullmatch(value):
        raise InputError(
            f"{name} {value[:128]!a} must be 1 to 128 characters out of A-Z a-z 0-9 . _ @ - and start with a letter or"
            " a digit",
            field=name,
        )


def check_text(value: str, name: str, limit: int = MAX_NAME_LENGTH) -> None:
    """An ``InputError`` unless ``value`` is at most ``limit`` printable characters; the text itself is not repeated."""
    if len(value) > limit:
        raise InputError(f"{name} has {len(value)} characters, at most {limit} are allowed", field=name)
    if any(unicodedata.category(character) in _UNPRINTABLE for character in value):
        raise InputError(f"{name} holds a control character or a line break", field=name)


def check_time(value: datetime, name: str) -> None:
    """A ``ValueError`` unless ``value`` is in UTC and says so."""
    if value.utcoffset() != timedelta(0):
        raise ValueError(f"{name} must be timezone-aware UTC, not {value!r}")


def _check_entries(entries: Mapping[str, str], name: str) -> Mapping[str, str]:
    """A read-only copy of ``entries``."""
    if len(entries) > MAX_ENTRIES:
        raise InputError(f"{name} has {len(entries)} entries, at most {MAX_ENTRIES} are allowed", field=name)
    for key, value in entries.items():
        if not _KEY.fullmatch(key):
            raise InputError(
                f"{name} has the key {key[:64]!a}; a key is 1 to 64 characters out of a-z 0-9 _ and starts with"
                " a letter",
                field=name,
            )
        check_text(value, f"{name}[{key}]", MAX_VALUE_LENGTH)
    return MappingProxyType(dict(entries))


@dataclass(frozen=True, slots=True)
class EmbeddingContract:
    """The id of everything that makes two vectors comparable, and how long these vectors are."""

    contract_id: str
    dimension: int

    def __post_init__(self) -> None:
        check_text(self.contract_id, "contract_id")
        if not self.contract_id:
            raise InputError("contract_id is empty", field="contract_id")
        if not 1 <= self.dimension <= MAX_DIMENSION:
            raise InputError(f"dimension {self.dimension} is not within 1 to {MAX_DIMENSION}", field="dimension")

    def __str__(self) -> str:
        return f"{self.contract_id} ({self.dimension} values)"

    def check(self, vectors: Floats, name: str) -> None:
        """An ``InputError`` unless ``vectors`` is (N, dimension) float32 and each row has unit length; N may be 0."""
        _check_unit(vectors, name)
        if vectors.shape[1] != self.dimension:
            raise InputError(
                f"{name} has {vectors.shape[1]} values, but vectors of {self.contract_id} have {self.dimension}",
                field=name,
            )


def _check_unit(vectors: Floats, name: str) -> None:
    if vectors.dtype != np.float32 or vectors.ndim != 2:
        raise InputError(f"{name} is {vectors.dtype} with {vectors.ndim} axes, float32 with 2 is needed", field=name)
    if not np.isfinite(vectors).all():
        raise InputError(f"{name} holds a value that is not finite", field=name)
    lengths = np.linalg.norm(vectors.astype(np.float64), axis=1)
    if (np.abs(lengths - 1.0) > UNIT_TOLERANCE).any():
        raise InputError(f"{name} must have unit length; normalise it first", field=name)


@dataclass(frozen=True, slots=True)
class Consent:
    """What a subject agreed to, when, and until when; without ``expire_time`` until it is withdrawn."""

    purpose: str
    given_time: datetime
    expire_time: datetime | None = None

    def __post_init__(self) -> None:
        check_text(self.purpose, "subject.consent.purpose")
        check_time(self.given_time, "subject.consent.given_time")
        if self.expire_time is None:
            return
        check_time(self.expire_time, "subject.consent.expire_time")
        if self.expire_time <= self.given_time:
            name = "subject.consent.expire_time"
            raise InputError(f"{name} {self.expire_time} is not after given_time {self.given_time}", field=name)

    def expired(self, now: datetime) -> bool:
        """Whether it no longer holds; it ends at ``expire_time``, not after it."""
        return self.expire_time is not None and now >= self.expire_time


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """A person known to the box. ``sample_count`` is what the store counted when it handed the record out."""

    collection_id: str
    subject_id: str
    display_name: str
    external_ids: Mapping[str, str] = field(default_factory=dict)
    metadata: Mapping[str, str] = field(default_factory=dict)
    consent: Consent | None = None
    enabled: bool = True
    create_time: datetime
    update_time: datetime
    sample_count: int = 0

    def __post_init__(self) -> None:
        check_id(self.collection_id, "subject.collection_id")
        check_id(self.subject_id, "subject.subject_id")
        check_text(self.display_name, "subject.display_name")
        object.__setattr__(self, "external_ids", _check_entries(self.external_ids, "subject.external_ids"))
        object.__setattr__(self, "metadata", _check_entries(self.metadata, "subject.metadata"))
        check_time(self.create_time, "subject.create_time")
        check_time(self.update_time, "subject.update_time")

    def consent_expired(self, now: datetime) -> bool:
        """Whether consent was given and has run out; a box that keeps no consents has none that expires."""
        return self.consent is not None and self.consent.expired(now)

    def recognisable(self, now: datetime) -> bool:
        """Whether a search at ``now`` may return this subject."""
        return self.enabled and not self.consent_expired(now)


@dataclass(frozen=True, slots=True)
class SubjectFilter:
    """Whom a search or a list is about: those whose metadata has one of ``values`` under ``key``."""

    key: str
    values: tuple[str, ...]

    def __post_init__(self) -> None:
        if not _KEY.fullmatch(self.key):
            raise InputError(f"filters has the key {self.key[:64]!a}, which is no key of metadata", field="filters")
        if not 1 <= len(self.values) <= MAX_ENTRIES:
            message = f"the filter {self.key} has {len(self.values)} values, which is not within 1 to {MAX_ENTRIES}"
            raise InputError(message, field="filters")
        for value in self.values:
            check_text(value, "filters.values", MAX_VALUE_LENGTH)

    def passes(self, subject: Subject) -> bool:
        """Whether somebody is meant. A value with commas is a list, such as tags, of which one has to match."""
        held = subject.metadata.get(self.key)
        return held is not None and (held in self.values or bool(values_of(held).intersection(self.values)))


def values_of(held: str) -> frozenset[str]:
    """The values of a list with commas."""
    return frozenset(part.strip() for part in held.split(","))


@dataclass(frozen=True, slots=True)
class Audience:
    """Among whom is searched: who may be recognised at ``now`` (None: all), passes all filters, and is not ``but``."""

    now: datetime | None = None
    filters: tuple[SubjectFilter, ...] = ()
    but: str = ""

    def includes(self, subject: Subject) -> bool:
        """Whether somebody may be found."""
        return (
            subject.subject_id != self.but
            and (self.now is None or subject.recognisable(self.now))
            and all(one.passes(subject) for one in self.filters)
        )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Sample:
    """One template of one face.

    ``vector`` is (D,) float32 of unit length, kept as a read-only copy; None, which only the store hands out, says that
    there is none under the gallery's contract, so that no search compares with it. ``quality`` is 0 (useless) to 1;
    ``image_sha256`` is the digest of the image as it was sent.
    """

    sample_id: str
    collection_id: str
    subject_id: str
    vector: Floats | None
    quality: float
    source: str
    image_sha256: bytes
    create_time: datetime

    def __post_init__(self) -> None:
        _check_ulid(self.sample_id, "sample.sample_id")
        check_id(self.collection_id, "sample.collection_id")
        check_id(self.subject_id, "sample.subject_id")
        if not 0.0 <= self.quality <= 1.0:
            raise InputError(f"sample.quality {self.quality} is not within 0 to 1", field="sample.quality")
        check_text(self.source, "sample.source")
        if len(self.image_sha256) != SHA256_SIZE:
            message = f"sample.image_sha256 has {len(self.image_sha256)} bytes, a SHA-256 has {SHA256_SIZE}"
            raise InputError(message, field="sample.image_sha256")
        check_time(self.create_time, "sample.create_time")
        if self.vector is not None:
            _check_unit(self.vector[None], "sample.vector")
            copy = np.frombuffer(self.vector.tobytes(), np.float32)  # of bytes, as ``wiping`` wants it; read-only
            object.__setattr__(self, "vector", copy)

    @property
    def name(self) -> "SampleName":
        """Which one it is."""
        return SampleName(self.collection_id, self.subject_id, self.sample_id)

    def checked_vector(self, contract: EmbeddingContract) -> Floats:
        """The vector; an ``InputError`` unless there is one, of the dimension of ``contract``."""
        if self.vector is None:
            raise InputError("sample.vector is missing", field="sample.vector")
        contract.check(self.vector[None], "sample.vector")
        return self.vector


def _check_ulid(value: str, name: str) -> None:
    try:
        canonical = str(ULID.from_str(value))
    except ValueError:
        canonical = ""
    if value != canonical:
        raise InputError(f"{name} {value[:64]!a} is not a ULID (26 capitals and digits)", field=name)


@dataclass(frozen=True, slots=True)
class SampleName:
    """Which sample, whatever is known of it."""

    collection_id: str
    subject_id: str
    sample_id: str


@dataclass(frozen=True, slots=True)
class Candidate:
    """A subject that a search found: ``similarity`` is the cosine of its best sample, ``sample_id``, in −1 to 1."""

    subject_id: str
    display_name: str
    similarity: float
    sample_id: str
    external_ids: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class ErasureReceipt:
    """What was erased and when; all that stays of a subject, so it holds ids and no name.

    ``document`` is the receipt as JSON, as it was signed; ``signature`` and ``public_key`` are Ed25519 (RFC 8032).
    """

    receipt_id: str
    collection_id: str
    subject_id: str
    sample_ids: tuple[str, ...]
    erase_time: datetime
    event_count: int = 0
    crop_count: int = 0
    plugin_note_count: int = 0
    backup_names: tuple[str, ...] = ()
    unreached_backups: tuple[str, ...] = ()
    box_ids: tuple[str, ...] = ()
    document: str = ""
    signature: bytes = b""
    public_key: bytes = b""
