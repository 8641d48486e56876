"""The settings, ``[plugins.webhook]``."""

import re
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, Self

import httpx
from pydantic import AfterValidator, ConfigDict, Field, field_validator, model_validator

from facesvc.errors import ConfigError
from facesvc.events import secrets
from facesvc.events.outside import KINDS
from facesvc.events.plugin import PluginSettings
from facesvc.events.secrets import Secret
from facesvc_webhook.addresses import objection

MIN_SECRET_LENGTH = 16
_PRINTABLE = re.compile(r"[!-~]{1,2048}")


def _url(value: str) -> str:
    if not _PRINTABLE.fullmatch(value):
        raise ValueError("an address has 1 to 2048 characters of ASCII and no spaces: write others in percent form")
    try:
        url = httpx.URL(value)
        url.host.encode("idna")  # what DNS and TLS cannot hold
    except (httpx.InvalidURL, UnicodeError) as error:
        raise ValueError(f"this is no address: {error}") from error
    if url.scheme not in {"https", "http"} or not url.host:
        raise ValueError("an address starts with https:// and the name of the receiver")
    if not 0 < (url.port or 443) < 65536:
        raise ValueError("a port is a number from 1 to 65535")
    if url.userinfo:
        raise ValueError("no user and no password in the address: the signature says who posts")
    if url.fragment:
        raise ValueError("no # in the address: it is never sent")
    return value


class WebhookSettings(PluginSettings):
    """Where events go, which, and how."""

    # What somebody wrote where a secret's place belongs is not repeated in a message.
    model_config = ConfigDict(hide_input_in_errors=True)

    url: Annotated[str, AfterValidator(_url)]
    """Where every event is posted. https, unless ``allow_private``."""

    secret: Secret = Field(min_length=1)
    """What requests are signed with."""

    previous_secret: Secret = ""
    """What they were signed with before: while it is set there are two signatures, and either is enough."""

    kinds: frozenset[str] = Field(default=frozenset(KINDS.values()), min_length=1)
    """Which events are posted."""

    names: bool = False
    """Whether names, external ids and what other plugins found out leave the box, or the ids of people only."""

    source: str = Field(default="urn:facesvc", pattern=r"^[!-~]{1,200}$")
    """``source`` of the CloudEvents, a URI: tells one box from another."""

    type_prefix: str = Field(default="com.facesvc", pattern=r"^[a-z0-9-]+(\.[a-z0-9-]+)*$", max_length=100)
    """What their ``type`` starts with."""

    timeout_s: float = Field(default=8.0, ge=0.1, le=60.0)
    """How long the receiver has to answer; less than the server gives the plugin, so that it can say who was slow."""

    max_body_bytes: int = Field(default=512 << 10, ge=4 << 10, le=8 << 20)
    """The largest event that is posted."""

    allow_private: bool = False
    """Whether the receiver may be in the office's own network or on this box, and then without TLS."""

    ca_file: Path | None = None
    """Certificates (PEM) of who vouches for the receiver, in the place of the system's."""

    @field_validator("kinds")
    @classmethod
    def _known_kinds(cls, value: frozenset[str]) -> frozenset[str]:
        if unknown := value - set(KINDS.values()):
            raise ValueError(f"there is no kind {', '.join(sorted(unknown))}, only {', '.join(KINDS.values())}")
        return value

    @model_validator(mode="after")
    def _reachable(self) -> Self:
        url = httpx.URL(self.url)
        if url.scheme == "http" and not self.allow_private:
            raise ValueError("http is for the office's own network only: write https, or set allow_private")
        try:
            address = ip_address(url.host)
        except ValueError:
            return self  # a name: checked whenever it is resolved
        if problem := objection(address, encrypted=url.scheme == "https", allow_private=self.allow_private):
            raise ValueError(problem)
        return self

    @property
    def host(self) -> str:
        """The receiver's name or address, as it stands on the wire."""
        return httpx.URL(self.url).raw_host.decode("ascii")

    @property
    def port(self) -> int:
        """Its port."""
        url = httpx.URL(self.url)
        return url.port or (443 if url.scheme == "https" else 80)

    @property
    def encrypted(self) -> bool:
        """Whether there is TLS."""
        return httpx.URL(self.url).scheme == "https"

    def secrets(self) -> list[str]:
        """What to sign with, the present one first; read anew each time. Raises ``ConfigError``."""
        found = [secrets.read(place) for place in (self.secret, self.previous_secret) if place]
        if any(len(one) < MIN_SECRET_LENGTH for one in found):
            raise ConfigError(
                f"a secret of the webhook is shorter than {MIN_SECRET_LENGTH} characters and could be guessed: "
                f"make one with `openssl rand -hex 32`"
            )
        return found
