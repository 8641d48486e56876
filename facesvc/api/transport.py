"""What the server listens with: TLS 1.3, or plain text on this machine alone.

gRPC offers no setting for the least version of TLS. So up to TLS 1.2 only a cipher suite for keys that were shared
beforehand is left, and there are none: what remains is TLS 1.3, whose suites are not configurable. gRPC reads this when
it is first imported, which is why it stands in ``facesvc/__init__.py``.
"""

import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import structlog

from facesvc.config import ServerSettings, is_this_machine
from facesvc.errors import ConfigError

_log = structlog.get_logger(__name__)


def check(settings: ServerSettings, address: str) -> None:
    """Raises ``ConfigError`` for settings under which others could read along, or nobody could connect."""
    has_files = settings.certificate_file is not None and settings.key_file is not None
    if settings.plaintext and not is_this_machine(address):
        raise ConfigError(f"server.plaintext: others can reach {address} and read along; listen on 127.0.0.1 or unix:")
    if not has_files and not settings.plaintext:
        raise ConfigError(
            "the server has no certificate: `facesvc init` makes one and all else that is needed; for plain text on"
            " this machine alone, and no questions asked, start with --plaintext"
        )
    if settings.listen_mtls and not (has_files and settings.client_ca_file):
        raise ConfigError(
            "server.listen_mtls needs server.client_ca_file, which says whose clients are let in, and a certificate"
        )


@dataclass(slots=True)
class Files:
    """A certificate's files, read again when they change: a renewal needs no restart."""

    certificate: Path
    key: Path
    client_ca: Path | None
    _read: tuple[int, ...] = ()

    def credentials(self) -> grpc.ServerCredentials:
        """For a port. With ``client_ca`` a client has to show a certificate of it. Raises ``ConfigError``."""
        first = self.fetch()
        if first is None:
            raise ConfigError(f"the certificate {self.certificate} cannot be read")
        self._check_pair()
        fetch: Any = self._fetch_quietly  # None says that nothing has changed, which the type stubs leave out
        return grpc.dynamic_ssl_server_credentials(first, fetch, self.client_ca is not None)

    def _check_pair(self) -> None:
        """Of these gRPC would only say that it cannot listen."""
        try:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(self.certificate, self.key, password="")
            if self.client_ca is not None:
                context.load_verify_locations(self.client_ca)
        except ssl.SSLError as error:
            files = ", ".join(str(path) for path in (self.certificate, self.key, self.client_ca) if path is not None)
            raise ConfigError(f"{files}: one is no PEM, or the key is not that of the certificate") from error

    def fetch(self) -> "grpc.ServerCertificateConfiguration | None":
        """What is in the files, if that has changed. Raises ``ConfigError``."""
        try:
            files = [path for path in (self.certificate, self.key, self.client_ca) if path is not None]
            now = tuple(path.stat().st_mtime_ns for path in files)
            if now == self._read:
                return None
            pair = (self.key.read_bytes(), self.certificate.read_bytes())
            ca = self.client_ca.read_bytes() if self.client_ca else None
        except OSError as error:
            raise ConfigError(f"the server's {error.filename} cannot be read: {error.strerror}") from error
        self._read = now
        return grpc.ssl_server_certificate_configuration([pair], ca)

    def _fetch_quietly(self) -> "grpc.ServerCertificateConfiguration | None":
        """Called by gRPC at each handshake: what cannot be read now leaves the certificate of before."""
        try:
            return self.fetch()
        except ConfigError as error:
            _log.error("the certificate could not be read again", error=error.message)
            return None


def ports(settings: ServerSettings, address: str) -> list[tuple[str, grpc.ServerCredentials | None]]:
    """Where to listen, and with what; None: plain text. Raises ``ConfigError``."""
    check(settings, address)
    if settings.certificate_file is None or settings.key_file is None:
        return [(address, None)]
    found: list[tuple[str, grpc.ServerCredentials | None]] = [
        (
            address,
            None if settings.plaintext else Files(settings.certificate_file, settings.key_file, None).credentials(),
        )
    ]
    if settings.listen_mtls:
        files = Files(settings.certificate_file, settings.key_file, settings.client_ca_file)
        found.append((settings.listen_mtls, files.credentials()))
    return found
