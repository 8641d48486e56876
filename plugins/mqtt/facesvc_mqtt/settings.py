"""The table ``[plugins.mqtt]``."""

import ssl
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, StringConstraints, model_validator

from facesvc.errors import ConfigError
from facesvc.events import secrets
from facesvc.events.plugin import Person, PluginSettings
from facesvc.events.secrets import Secret

Prefix = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_-]+(/[A-Za-z0-9_-]+){0,4}$", max_length=64)]
_YES = frozenset({"true", "yes", "on", "1"})


class MqttSettings(PluginSettings):
    """Where the broker is, who may be told of, and what Home Assistant is to know."""

    host: str = Field(min_length=1, max_length=253)
    """Of the broker."""
    port: int = Field(default=8883, ge=1, le=65535)
    """8883 with TLS; without, brokers most often listen on 1883."""
    tls: bool = True
    """Off: everything, the password too, can be read on the way."""
    ca_file: Path | None = None
    """Certificates (PEM) that the broker's is checked against; those of the system where it is not set."""
    certificate_file: Path | None = None
    """A certificate (PEM) to show to the broker."""
    key_file: Path | None = None
    """Its private key (PEM), where it is not in the same file."""
    key_password: Secret = ""
    """Where the password of the private key is."""
    user: str = Field(default="", max_length=256)
    """To be known to the broker by."""
    password: Secret = ""
    """Where the user's password is."""
    client_id: str = Field(default="", max_length=64, pattern=r"^[A-Za-z0-9_.-]*$")
    """Of this box alone: of two clients of one id the broker drops one. Empty: made from ``topic_prefix``."""
    topic_prefix: Prefix = "facesvc"
    """All topics start with it; of this box alone, where several share a broker."""
    names: bool = False
    """Tell the names of people whom ``people`` covers; off: their ids alone."""
    people: Literal["none", "flagged", "all"] = "flagged"
    """Whose presence Home Assistant is told: nobody's, that of people whose metadata say so, or everybody's."""
    people_flag: str = Field(default="mqtt", min_length=1, max_length=100)
    """The key in their metadata that says so, with the value true, yes, on or 1."""
    home_assistant: bool = True
    """Make entities in Home Assistant by its MQTT discovery."""
    discovery_prefix: Prefix = "homeassistant"
    """As set in Home Assistant."""
    message_expiry_s: int = Field(default=60, ge=1, le=3600)
    """Seconds after which the broker throws an event away that it could not hand on."""
    timeout_s: float = Field(default=5, ge=0.5, le=60)
    """Seconds to wait for an answer of the broker."""
    keepalive_s: int = Field(default=30, ge=5, le=600)
    """Seconds of silence after which the broker is asked whether it is still there."""
    reconnect_min_s: float = Field(default=1, ge=0.05, le=60)
    """Seconds before the first attempt to connect again; twice as many before each further one."""
    reconnect_max_s: float = Field(default=60, ge=0.05, le=3600)
    """The most seconds between two attempts."""

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if not self.tls and (self.ca_file or self.certificate_file):
            raise ValueError("ca_file and certificate_file are of no use without tls: set tls = true")
        if (self.key_file or self.key_password) and not self.certificate_file:
            raise ValueError("key_file and key_password belong to a certificate_file")
        if self.password and not self.user:
            raise ValueError("a password needs a user")
        if self.reconnect_max_s < self.reconnect_min_s:
            raise ValueError("reconnect_max_s must not be less than reconnect_min_s")
        return self

    def covers(self, one: Person) -> bool:
        """Whether the broker may be told of the presence of somebody."""
        if self.people == "flagged":
            return one.metadata.get(self.people_flag, "").strip().lower() in _YES
        return self.people == "all"

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
