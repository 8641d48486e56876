"""Where the master key comes from. It wraps the keys that seal what is known of people, and never lies beside them.

The setting ``gallery.key`` says where: empty or ``file:PATH`` is a file of ours, which is made for a new gallery and
can be exchanged for another (``rotation``). What comes from elsewhere is made and exchanged there: a credential of
systemd (``credential:NAME``), the environment (``env:NAME``), or what a command prints (``command:/PATH ARGUMENTS``).
``gallery.previous_key``, of the same forms, is the key before, for as long as something is wrapped by it.
"""

import base64
import binascii
import os
import re
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Protocol

from facesvc.errors import ConfigError, DependencyError
from facesvc.gallery import printing
from facesvc.gallery.crypto import KEY_SIZE
from facesvc.gallery.keyfile import KeyFile
from facesvc.gallery.keyring import KeySource

__all__ = ["Command", "Credential", "KeyFile", "KeySettings", "KnownKey", "Variable", "present", "sources"]

_MOST_TEXT = 1024  # bytes; longer is no key in any form
_NAME = re.compile(r"[A-Za-z0-9_.@-]{1,255}")
_MAKE_ONE = "make one, such as with `openssl rand -base64 32`"


class KeySettings(Protocol):
    """What ``sources`` needs of the settings; ``config.GallerySettings`` has it."""

    @property
    def key(self) -> str:
        """Where the master key comes from; empty: the file at ``key_path``."""

    @property
    def previous_key(self) -> str:
        """Where the master key before comes from; empty: there is none."""

    @property
    def key_path(self) -> Path:
        """The file of the key, where ``key`` names nothing else."""


def sources(settings: KeySettings) -> list[KeySource]:
    """Where master keys come from, the present one first; the others are former ones. Raises ``ConfigError``.

    A key file that is being exchanged is the former one; the one that will take its place is the present one.
    """
    first = present(settings)
    exchanged = [first.next] if isinstance(first, KeyFile) and first.next.path.exists() else []
    former = [_source(settings.previous_key, "gallery.previous_key")] if settings.previous_key else []
    return [*exchanged, first, *former]


def present(settings: KeySettings) -> KeySource:
    """Where the settings say that the master key comes from. Raises ``ConfigError``."""
    return _source(settings.key, "gallery.key") if settings.key else KeyFile(settings.key_path)


def _source(text: str, setting: str) -> KeySource:
    kind, _, name = text.partition(":")
    if kind == "file" and name:
        return KeyFile(Path(name))
    if kind == "credential" and _NAME.fullmatch(name) and name.strip("."):
        return Credential(name)
    if kind == "env" and _NAME.fullmatch(name):
        return Variable(name)
    if kind == "command" and name.strip():
        try:
            return Command(printing.arguments(name))
        except ValueError as error:
            raise ConfigError(f"{setting}: the command cannot be taken apart ({error}); check its quotes") from error
    raise ConfigError(
        f"{setting} is none of file:PATH, credential:NAME, env:NAME and command:/PATH ARGUMENTS; write one of these, or"
        " leave it empty for the key file"
    )


@dataclass(frozen=True, slots=True)
class Credential:
    """A credential that systemd hands to the service, see systemd.exec(5): raw, in hexadecimal digits, or base64."""

    name: str

    def read(self) -> bytes | None:
        """The key; None where systemd hands over none of that name. Raises ``DependencyError``."""
        folder = os.environ.get("CREDENTIALS_DIRECTORY")
        if not folder:
            return None
        try:
            with Path(folder, self.name).open("rb") as file:
                return _key_in(file.read(_MOST_TEXT + 1), str(self), raw=True)
        except FileNotFoundError:
            return None
        except OSError as error:
            message = f"{self} cannot be read ({error.strerror}); check the unit of the service"
            raise DependencyError(message, reason="KEY_UNREADABLE") from error

    def make(self) -> bytes:
        """Is not for us to do: raises ``DependencyError``."""
        raise DependencyError(
            f"there is no key in {self}; {_MAKE_ONE}, and hand it over with LoadCredentialEncrypted={self.name}:FILE in"
            " the unit of the service",
            reason="KEY_MISSING",
        )

    def __str__(self) -> str:
        return f"systemd's credential {self.name}"


@dataclass(frozen=True, slots=True)
class Variable:
    """A variable of the environment: 32 bytes in hexadecimal digits or base64."""

    name: str

    def read(self) -> bytes | None:
        """The key; None where the variable is empty or not set. Raises ``DependencyError``."""
        value = os.environb.get(self.name.encode(), b"")
        return _key_in(value, str(self), raw=False) if value else None

    def make(self) -> bytes:
        """Is not for us to do: raises ``DependencyError``."""
        message = f"there is no key in {self}; {_MAKE_ONE}, keep it well, and set the variable to it"
        raise DependencyError(message, reason="KEY_MISSING")

    def __str__(self) -> str:
        return f"the variable {self.name} of the environment"


class Command:
    """What a program prints: raw, in hexadecimal digits, or base64. It is run once, without a shell."""

    def __init__(self, arguments: tuple[str, ...]) -> None:
        self._arguments = arguments
        self._run = cache(self._print)

    def read(self) -> bytes:
        """The key. Raises ``DependencyError``, with what the program complains of and never with what it prints."""
        return self._run()

    def make(self) -> bytes:
        """Is not for us to do: raises ``DependencyError``."""
        raise DependencyError(f"there is no key in {self}; {_MAKE_ONE}", reason="KEY_MISSING")

    def __str__(self) -> str:
        return f"what {self._arguments[0]} prints"

    def _print(self) -> bytes:
        return _key_in(printing.printed_by(self._arguments, _MOST_TEXT), str(self), raw=True)


@dataclass(frozen=True, slots=True)
class KnownKey:
    """A key that is at hand; ``what`` says in words what it is."""

    key: bytes = field(repr=False)
    what: str

    def read(self) -> bytes:
        """The key."""
        return self.key

    def make(self) -> bytes:
        """The key."""
        return self.key

    def __str__(self) -> str:
        return self.what


def _key_in(content: bytes, where: str, *, raw: bool) -> bytes:
    """32 bytes as they stand (``raw``), in hexadecimal digits, or base64 of either alphabet."""
    if raw and len(content) == KEY_SIZE:
        return content
    text = content.strip()
    try:
        key = bytes.fromhex(text.decode()) if len(text) == 2 * KEY_SIZE else _from_base64(text)
    except (binascii.Error, ValueError):
        key = b""
    if len(key) != KEY_SIZE:
        forms = f"{KEY_SIZE} bytes" if raw else f"{KEY_SIZE} bytes in base64"
        message = f"{where} must hold {forms}, or {2 * KEY_SIZE} hexadecimal digits, and holds something else"
        raise DependencyError(f"{message}; restore it from where it is kept", reason="KEY_DAMAGED")
    return key


def _from_base64(text: bytes) -> bytes:
    padded = text + b"=" * (-len(text) % 4)
    return base64.b64decode(padded.translate(bytes.maketrans(b"-_", b"+/")), validate=True)
