"""What an administrator sets under ``[plugins.graph]``, and the clouds of Microsoft."""

from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Literal, Self
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key
from pydantic import AfterValidator, Field, model_validator

from facesvc.errors import ConfigError
from facesvc.events import secrets
from facesvc.events.plugin import PluginSettings

RENEW_SECONDS = 240
"""How long an own presence "Available" may go without being posted again: it fades after five minutes."""


@dataclass(frozen=True, slots=True)
class Cloud:
    """Where one of Microsoft's clouds signs in and answers; ``presence``: whether it has Teams presence."""

    login: str
    graph: str
    presence: bool = True


# https://learn.microsoft.com/graph/deployments and, for the last three, its page on sovereign clouds.
CLOUDS = MappingProxyType(
    {
        "global": Cloud("https://login.microsoftonline.com", "https://graph.microsoft.com"),
        "us-gov": Cloud("https://login.microsoftonline.us", "https://graph.microsoft.us"),
        "us-dod": Cloud("https://login.microsoftonline.us", "https://dod-graph.microsoft.us"),
        "china": Cloud(
            "https://login.partner.microsoftonline.cn", "https://microsoftgraph.chinacloudapi.cn", presence=False
        ),
        "bleu": Cloud("https://login.sovcloud-identity.fr", "https://graph.svc.sovcloud.fr"),
        "delos": Cloud("https://login.sovcloud-identity.de", "https://graph.svc.sovcloud.de", presence=False),
        "govsg": Cloud("https://login.sovcloud-identity.sg", "https://graph.svc.sovcloud.sg", presence=False),
    }
)


def _time_zone(name: str) -> str:
    try:
        ZoneInfo(name)
    except (OSError, ValueError, KeyError) as error:
        raise ValueError(f"{name!r} is no time zone; write one such as Europe/Berlin") from error
    return name


def _url(value: str) -> str:
    """An address of ours: https, or http on this machine itself; a token must not go over a network in the clear."""
    parts = urlsplit(value)
    safe = parts.scheme == "https" or (parts.scheme == "http" and parts.hostname in {"127.0.0.1", "::1", "localhost"})
    if value and not (safe and parts.hostname and not parts.query and not parts.fragment and not parts.username):
        raise ValueError("write https://HOST or https://HOST:PORT; http only for this machine itself")
    return value.rstrip("/")


def _authority(value: str) -> str:
    parts = urlsplit(value)
    if value and not (parts.scheme == "https" and parts.hostname and parts.path.strip("/") and not parts.query):
        raise ValueError("write https://HOST/TENANT")
    return value.rstrip("/")


class GraphSettings(PluginSettings):
    """Settings of the plugin graph; README.md explains them to administrators."""

    tenant_id: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9.-]{0,119}$")
    """The tenant: its id, or a domain of it."""
    client_id: str = Field(pattern=r"^[A-Za-z0-9-]{1,64}$")
    """The application (client) id of the app registration."""
    client_secret: secrets.Secret = ""
    """Where the client secret is; one of this and the next two."""
    client_secret_file: Path | None = None
    """The file with the client secret."""
    certificate_file: Path | None = None
    """A PEM file with the private key and the certificate that the app registration knows."""
    certificate_thumbprint: str = Field("", pattern=r"^([0-9A-Fa-f]{40})?$")
    """SHA-1 of the certificate; only where the file holds nothing but the key."""
    cloud: Literal["global", "us-gov", "us-dod", "china", "bleu", "delos", "govsg"] = "global"
    """Which of Microsoft's clouds the tenant is in."""
    authority: Annotated[str, AfterValidator(_authority)] = ""
    """In place of the cloud's sign-in: https://HOST/TENANT."""
    base_url: Annotated[str, AfterValidator(_url)] = ""
    """In place of the cloud's Graph: https://HOST, or with the version or another path, https://HOST/v1.0."""
    ca_file: Path | None = None
    """A PEM file of the authorities to trust, in place of the usual ones."""
    poll_interval: float = Field(60.0, ge=5, le=3600)
    """Seconds between two calls for the presence of all who are present."""
    cache_ttl: float = Field(600.0, ge=60, le=86400)
    """Seconds that a calendar is good for, and that facts are shown without having been confirmed."""
    calendar: Literal["off", "free_busy", "subjects"] = "subjects"
    """Nothing of calendars; only when somebody is free; or what they are in as well, unless it is private."""
    photos: Literal["off", "48x48", "96x96"] = "48x48"
    """The size of the photo among the facts."""
    set_presence: bool = False
    """Whether who arrives becomes Available in Teams, for as long as they are present."""
    enroll_photos: bool = False
    """Whether the profile photo is enrolled as a sample of whoever gave their consent."""
    time_zone: Annotated[str, AfterValidator(_time_zone)] = "UTC"
    """Of the times in summaries."""
    timeout: float = Field(10.0, ge=1, le=60)
    """Seconds that Microsoft has for one answer."""

    @model_validator(mode="after")
    def _fit(self) -> Self:
        if self.tenant_id.lower() in {"common", "organizations", "consumers"}:
            raise ValueError("tenant_id has to be one tenant's: its id, or a domain of it")
        if sum(map(bool, (self.client_secret, self.client_secret_file, self.certificate_file))) != 1:
            raise ValueError("set exactly one of client_secret_file, client_secret and certificate_file")
        if self.set_presence and self.poll_interval > RENEW_SECONDS:
            raise ValueError(f"set_presence needs a poll_interval of at most {RENEW_SECONDS}: it fades otherwise")
        if self.set_presence and not self.has_presence:
            raise ValueError(f"the cloud {self.cloud} has no presence: set_presence cannot be used")
        return self

    @property
    def has_presence(self) -> bool:
        """Whether there is presence to ask for."""
        return CLOUDS[self.cloud].presence

    @property
    def zone(self) -> ZoneInfo:
        """``time_zone``."""
        return ZoneInfo(self.time_zone)

    def sign_in(self) -> str:
        """The authority of the tenant."""
        return self.authority or f"{CLOUDS[self.cloud].login}/{self.tenant_id}"

    def root(self) -> str:
        """Where Graph answers, with its version; ``base_url`` may have a path of its own, which is then all of it."""
        root = self.base_url or CLOUDS[self.cloud].graph
        return root if urlsplit(root).path else f"{root}/v1.0"

    def scope(self) -> str:
        """What a token is for: that of the cloud, also behind a proxy."""
        return CLOUDS[self.cloud].graph + "/.default"

    def credential(self) -> str | dict[str, str]:
        """What MSAL takes for a client credential. Raises ``ConfigError`` where it cannot be read."""
        if self.certificate_file is None:
            return secrets.read(self.client_secret or f"file:{self.client_secret_file}")
        text = secrets.read_file(self.certificate_file)
        certificate = _certificate_of(self.certificate_file, text)
        if certificate:
            return {"private_key": text, "public_certificate": certificate}
        if not self.certificate_thumbprint:
            raise ConfigError(
                f"{self.certificate_file} holds no certificate beside the key: add it, or set certificate_thumbprint"
            )
        return {"private_key": text, "thumbprint": self.certificate_thumbprint}


def _certificate_of(path: Path, text: str) -> str:
    """The certificate that stands beside a private key, in PEM; empty where there is only the key."""
    try:
        key = load_pem_private_key(text.encode(), None)
        begin = text.find("-----BEGIN CERTIFICATE-----")
        certificate = x509.load_pem_x509_certificate(text[begin:].encode()) if begin >= 0 else None
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        # Not what it says: it may quote the file.
        raise ConfigError(
            f"{path} holds no private key in PEM, without a password, or a damaged certificate"
        ) from error
    if not isinstance(key, RSAPrivateKey):
        raise ConfigError(f"the key in {path} is no RSA key, which is all that Microsoft Entra takes")
    if certificate is None:
        return ""
    if certificate.public_key() != key.public_key():
        raise ConfigError(f"the certificate in {path} is not that of the key beside it")
    return certificate.public_bytes(Encoding.PEM).decode()
