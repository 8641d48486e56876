"""The box's own certificates: a local authority, and what it issues. X.509 v3 as RFC 5280 has it, keys on P-256.

The only importer of ``cryptography.x509``.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from facesvc.errors import ConfigError, DependencyError, InputError
from facesvc.security.principals import VOUCHED
from facesvc.security.roles import Role

CA_DAYS = 3650
LEAF_DAYS = 397  # what browsers accept at most, since 2020
RENEW_BEFORE = timedelta(days=30)
_SKEW = timedelta(minutes=5)  # a client's clock may be behind
_MAX_NAME = 64  # X.520, ub-common-name


@dataclass(frozen=True, slots=True)
class Issued:
    """A certificate, with the chain up to but not with the authority's own, and its key; both PEM."""

    certificate: bytes
    key: bytes


@dataclass(frozen=True, slots=True)
class Identity:
    """Whom a client's certificate is for: ``name``, what role it has, and until when."""

    name: str
    role: Role
    expire_time: datetime


class Authority:
    """Signs with the key of a local authority."""

    def __init__(self, certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey) -> None:
        self._certificate = certificate
        self._key = key

    @classmethod
    def make(cls, name: str, now: datetime) -> "Authority":
        """A new one."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = _name(name)
        certificate = (
            _builder(subject, subject, key.public_key(), now, timedelta(days=CA_DAYS))
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_usage(signs=True), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .sign(key, hashes.SHA256())
        )
        return cls(certificate, key)

    @classmethod
    def read(cls, certificate: Path, key: Path) -> "Authority":
        """The one whose files these are. Raises ``ConfigError``."""
        try:
            own = load_pem_private_key(key.read_bytes(), None)
            if not isinstance(own, ec.EllipticCurvePrivateKey):
                raise ConfigError(f"{key} is no key of ours: it has to be one on an elliptic curve")
            found = x509.load_pem_x509_certificate(certificate.read_bytes())
            if found.public_key() != own.public_key():
                raise ConfigError(f"{key} is not the key of {certificate}")
            return cls(found, own)
        except OSError as error:
            raise ConfigError(f"the authority's file {error.filename} cannot be read: {error.strerror}") from error
        except (ValueError, TypeError, x509.InvalidVersion) as error:
            raise ConfigError(f"{certificate} or {key} is no PEM of a certificate or key") from error

    @property
    def pem(self) -> bytes:
        """Its certificate: what clients trust."""
        return self._certificate.public_bytes(Encoding.PEM)

    @property
    def key_pem(self) -> bytes:
        """Its key: for nobody."""
        return _key_pem(self._key)

    def issue_server(
        self, names: Sequence[str], now: datetime, lifetime: timedelta = timedelta(days=LEAF_DAYS)
    ) -> Issued:
        """For a server that clients know by ``names``: host names and addresses."""
        if not names:
            raise InputError("a server has to have a name", field="names")
        alternatives = x509.SubjectAlternativeName([_alternative(name) for name in names])
        return self._issue(_name(names[0][:_MAX_NAME]), ExtendedKeyUsageOID.SERVER_AUTH, alternatives, now, lifetime)

    def issue_client(
        self, name: str, role: Role, now: datetime, lifetime: timedelta = timedelta(days=LEAF_DAYS)
    ) -> Issued:
        """For a client: its name, and what it is for as the unit of an organisation."""
        if name.startswith(VOUCHED):
            raise InputError(f"names with {VOUCHED} are those of the identity provider's people", field="name")
        subject = x509.Name(
            [
                x509.NameAttribute(NameOID.ORGANIZATIONAL_UNIT_NAME, role.value),
                x509.NameAttribute(NameOID.COMMON_NAME, _checked(name)),
            ]
        )
        return self._issue(subject, ExtendedKeyUsageOID.CLIENT_AUTH, None, now, lifetime)

    def _issue(
        self,
        subject: x509.Name,
        use: x509.ObjectIdentifier,
        alternatives: x509.SubjectAlternativeName | None,
        now: datetime,
        lifetime: timedelta,
    ) -> Issued:
        key = ec.generate_private_key(ec.SECP256R1())
        own = x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key())
        builder = (
            _builder(subject, self._certificate.subject, key.public_key(), now, lifetime)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_usage(signs=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage([use]), critical=False)
            .add_extension(own, critical=False)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        )
        if alternatives is not None:
            builder = builder.add_extension(alternatives, critical=False)
        certificate = builder.sign(self._key, hashes.SHA256())
        return Issued(certificate.public_bytes(Encoding.PEM), _key_pem(key))


def identity_of(certificate: bytes, now: datetime) -> Identity:
    """Whom a client's certificate (PEM), whose chain was verified, is for. Raises ``InputError``.

    And for one that is over at ``now``: TLS looks at the time in a full handshake alone, so a
    connection that stays open, or takes up a session of before (RFC 8446, 2.2), would make it good for days longer.
    """
    try:
        own = x509.load_pem_x509_certificate(certificate)
        subject = own.subject
        [name] = subject.get_attributes_for_oid(NameOID.COMMON_NAME)
        [unit] = subject.get_attributes_for_oid(NameOID.ORGANIZATIONAL_UNIT_NAME)
        identity = Identity(_checked(str(name.value)), Role(unit.value), own.not_valid_after_utc)
    except (ValueError, x509.InvalidVersion) as error:
        raise InputError(
            "the client's certificate names nobody with a role: issue one by `facesvc certs issue`"
        ) from error
    if identity.expire_time < now:
        raise InputError("the client's certificate is over: issue another by `facesvc certs issue`")
    if identity.name.startswith(VOUCHED):
        raise InputError("the client's certificate has the name of somebody of the identity provider's")
    return identity


def expiry_of(certificate: Path) -> datetime:
    """Until when a certificate is good. Raises ``ConfigError``."""
    try:
        return x509.load_pem_x509_certificate(certificate.read_bytes()).not_valid_after_utc
    except (OSError, ValueError, x509.InvalidVersion) as error:
        raise ConfigError(f"the certificate {certificate} cannot be read: {error}") from error


def names_of(certificate: Path) -> list[str]:
    """The names and addresses that a server's certificate is for. Raises ``ConfigError``."""
    try:
        own = x509.load_pem_x509_certificate(certificate.read_bytes())
        alternatives = own.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (OSError, ValueError, x509.InvalidVersion, x509.ExtensionNotFound) as error:
        raise ConfigError(f"the certificate {certificate} cannot be read, or names nobody: {error}") from error
    return [str(one.value) for one in alternatives]


def write(path: Path, content: bytes, *, secret: bool) -> None:
    """Put a file in the place of the one before, whole or not at all; ``secret``: for its owner's eyes only."""
    beside = path.with_name(f".{path.name}.new")
    try:
        beside.unlink(missing_ok=True)  # of one who was interrupted: whoever may read that is not asked
        descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600 if secret else 0o644)
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
    except OSError as error:
        raise DependencyError(f"{path} cannot be written: {error.strerror}", reason="CERTIFICATE_UNWRITABLE") from error


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, now: datetime, lifetime: timedelta
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _SKEW)
        .not_valid_after(now + lifetime)
    )


def _usage(*, signs: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs,
        crl_sign=signs,
        encipher_only=False,
        decipher_only=False,
    )


def _checked(name: str) -> str:
    if not (1 <= len(name) <= _MAX_NAME and name.isprintable()):
        raise InputError(f"{name!a} cannot stand in a certificate: 1 to {_MAX_NAME} printable characters", field="name")
    return name


def _name(common: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, _checked(common))])


def _alternative(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ip_address(name))
    except ValueError:
        pass
    try:
        return x509.DNSName(name.encode("ascii").decode())
    except ValueError as error:
        raise InputError(f"{name!a} is neither a host name in ASCII nor an address", field="names") from error


def _key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
