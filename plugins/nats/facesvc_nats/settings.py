"""The table ``[plugins.nats]``."""

import ssl
from pathlib import Path
from typing import Annotated, Self

from pydantic import Field, StringConstraints, model_validator

from facesvc.errors import ConfigError
from facesvc.events import secrets
from facesvc.events.plugin import PluginSettings
from facesvc.events.secrets import Secret

_HOST = r"([A-Za-z0-9]([A-Za-z0-9.-]{0,251}[A-Za-z0-9])?|\[[0-9A-Fa-f:.]{2,45}\])"
Server = Annotated[str, StringConstraints(pattern=rf"^{_HOST}(:[0-9]{{1,5}})?$", max_length=270)]
Token = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_-]+$", max_length=40)]


class NatsSettings(PluginSettings):
    """Where the servers are, which site this is, and what the stream is to be like."""

    servers: tuple[Server, ...] = Field(min_length=1, max_length=8)
    """``host`` or ``host:port`` of each server of one cluster, in any order."""
    site: Token
    """This site, among all that publish to the stream."""
    prefix: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+){0,3}$", max_length=64)] = (
        "facesvc"
    )
    """All subjects start with it."""
    stream: Token = "FACESVC"
    """Its name."""
    create_stream: bool = False
    """Create the stream where it is not there; one that is there stays as it is."""
    max_age_s: float = Field(default=30 * 86400, ge=3600, le=10 * 366 * 86400)
    """For how long a created stream keeps a message: the names in it, too."""
    max_bytes: int = Field(default=1 << 30, ge=1 << 20, le=1 << 40)
    """How much a created stream keeps; the oldest goes first."""
    duplicates_s: float = Field(default=3600, ge=60, le=86400)
    """For how long a created stream knows an event again that is sent twice."""
    replicas: int = Field(default=1, ge=1, le=5)
    """Copies of a created stream in a cluster."""
    names: bool = False
    """Tell names, external ids and what plugins found out; off: ids alone."""
    tls: bool = True
    """Off: everything can be read on the way. On: a server without TLS is refused."""
    ca_file: Path | None = None
    """Certificates (PEM) that the servers' are checked against; those of the system where it is not set."""
    certificate_file: Path | None = None
    """A certificate (PEM) to show to the servers."""
    key_file: Path | None = None
    """Its private key (PEM), where it is not in the same file."""
    key_password: Secret = ""
    """Where the password of the private key is."""
    token: Secret = ""
    """Where a token is."""
    user: str = Field(default="", max_length=256)
    """With a password."""
    password: Secret = ""
    """Where the user's password is."""
    nkey_seed: Secret = ""
    """Where the seed of a user's key is (``SU…``)."""
    credentials: Secret = ""
    """Where a credentials file is, with a user's JWT and seed, as ``nsc generate creds`` makes it."""
    timeout_s: float = Field(default=5, ge=0.5, le=60)
    """How long to wait for an answer."""
    ping_s: float = Field(default=30, ge=5, le=600)
    """How often a server is asked whether it is still there."""
    reconnect_min_s: float = Field(default=1, ge=0.05, le=60)
    """Before the first attempt to connect again; twice as long before each further one."""
    reconnect_max_s: float = Field(default=60, ge=0.05, le=3600)
    """The longest time between two attempts."""

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if not self.tls and (self.ca_file or self.certificate_file):
            raise ValueError("ca_file and certificate_file are of no use without tls: set tls = true")
        if (self.key_file or self.key_password) and not self.certificate_file:
            raise ValueError("key_file and key_password belong to a certificate_file")
        if bool(self.user) != bool(self.password):
            raise ValueError("user and password belong together")
        if sum(map(bool, (self.token, self.user, self.nkey_seed, self.credentials))) > 1:
            raise ValueError("choose one of token, user, nkey_seed and credentials")
        if self.duplicates_s > self.max_age_s:
            raise ValueError("duplicates_s must not be longer than max_age_s")
        if self.reconnect_max_s < self.reconnect_min_s:
            raise ValueError("reconnect_max_s must not be less than reconnect_min_s")
        return self

    @property
    def place(self) -> str:
        """The servers, in words."""
        return f"NATS at {', '.join(self.servers)}"

    def tls_context(self) -> ssl.SSLContext | None:
        """What the connection is secured by; None without TLS. Raises ``ConfigError`` for files that cannot be used."""
        if not self.tls:
            return None
        try:
            context = ssl.create_default_context(cafile=self.ca_file)
        except (OSError, ssl.SSLError) as error:
            raise ConfigError(f"ca_file {self.ca_file} holds no certificates that can be read: {error}") from error
        if self.certificate_file is not None:
            key = self.key_file or self.certificate_file
            secrets.read_file(key)  # which looks at who may read it
            password = secrets.read(self.key_password) if self.key_password else ""
            try:
                context.load_cert_chain(self.certificate_file, key, password)
            except (OSError, ssl.SSLError) as error:
                raise ConfigError(
                    f"certificate_file {self.certificate_file} and its key {key} cannot be used: {error}"
                ) from error
        return context
