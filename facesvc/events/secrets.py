"""Secrets of plugins: settings say where one is, never what it is."""

import os
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator

from facesvc.errors import ConfigError

MAX_SECRET_BYTES = 64 << 10
_FORMS = "file:PATH, env:NAME, or credential:NAME (of systemd)"


def _place(value: str) -> str:
    kind, _, name = value.partition(":")
    if value and not (kind in {"file", "env", "credential"} and name):
        # The value is not told: somebody may have written the secret itself.
        raise ValueError(f"a setting says where a secret is, never what it is: write {_FORMS}")
    return value


Secret = Annotated[str, AfterValidator(_place)]
"""Where a secret is: ``file:PATH``, ``env:NAME``, ``credential:NAME``; empty: there is none. ``read`` gives it."""


def read(place: str) -> str:
    """The secret, without the white space around it. Raises ``ConfigError`` where it is not there, or empty."""
    kind, _, name = place.partition(":")
    if kind == "env":
        value = os.environ.get(name, "")
    elif kind == "credential":
        folder = os.environ.get("CREDENTIALS_DIRECTORY", "")
        if not folder or "/" in name:
            raise ConfigError(f"the secret {place} is not there: systemd gave this service no such credential")
        value = read_file(Path(folder) / name)
    elif kind == "file":
        value = read_file(Path(name))
    else:
        raise ConfigError(f"{_FORMS} says where a secret is")
    if not value.strip():
        raise ConfigError(f"the secret {place} is empty or not set")
    return value.strip()


def read_file(path: Path) -> str:
    """The text of a small file. Raises ``ConfigError``, also where others than its owner may read or write it."""
    try:
        with path.open("rb") as file:
            if os.fstat(file.fileno()).st_mode & 0o007:
                raise ConfigError(f"others may read the secret {path}: chmod 600 {path}")
            content = file.read(MAX_SECRET_BYTES + 1)
            text = content.decode()
    except OSError as error:
        raise ConfigError(f"the secret {path} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"the secret {path} is no text") from error
    if len(content) > MAX_SECRET_BYTES:
        raise ConfigError(f"the secret {path} has more than {MAX_SECRET_BYTES} bytes")
    return text
