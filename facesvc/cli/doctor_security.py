"""Checks of what keeps others out: certificates, rights of files with secrets, swap. They look, and change nothing."""

import shlex
import ssl
import stat
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

from facesvc.cli.findings import Finding, Level
from facesvc.config import Settings
from facesvc.errors import ConfigError
from facesvc.gallery.keyfile import KeyFile
from facesvc.gallery.masterkey import sources
from facesvc.security import swap
from facesvc.security.authority import RENEW_BEFORE, expiry_of, names_of

_OTHERS = 0o077  # what a group and everybody else may do with a file
_OTHERS_WRITE = 0o022
SERVICE = "system.slice/facesvc.service"
"""The control group of deploy/facesvc.service."""


def certificate(settings: Settings) -> Finding:
    """The server's certificate is good, for a while yet, and so are the authorities that it and clients are of."""
    server = settings.server
    if server.certificate_file is None or server.key_file is None:
        if server.plaintext:
            return Finding(Level.OK, "none is needed: the server speaks plain text, on this machine alone")
        return Finding(Level.WARNING, "the server has none, and does not start without", "`facesvc init` makes one")
    try:
        names = names_of(server.certificate_file)
        _check_pair(server.certificate_file, server.key_file)
        expiry, authorities = expiry_of(server.certificate_file), _authorities(settings)
        found = f"{server.certificate_file} for {', '.join(names)}, good until {expiry:%Y-%m-%d}"
    except ConfigError as error:
        return Finding(Level.ERROR, error.message, "`facesvc certs renew`, or put back the files that belong together")
    first = min(authorities, key=lambda path: authorities[path], default=None)
    if first is not None and authorities[first] <= expiry:
        advice = "make another authority with `facesvc init --folder`, and give its ca.pem to all clients"
        return _while_good(
            authorities[first], f"{found}; its authority {first}, until {authorities[first]:%Y-%m-%d}", advice
        )
    return _while_good(expiry, found, "`facesvc certs renew`; the server takes it up by itself")


def rights(settings: Settings) -> Finding:
    """Nobody but their owner may read keys and tokens, or put others in their place."""
    secrets, open_files, open_folders, hidden = 0, [], [], []
    for path in dict.fromkeys(_secrets(settings)):
        try:
            mode = path.stat().st_mode
            folder = path.parent.stat().st_mode
        except FileNotFoundError:
            continue
        except OSError:
            hidden.append(str(path))
            continue
        secrets += 1
        if mode & _OTHERS:
            open_files.append(str(path))
        if folder & _OTHERS_WRITE and not folder & stat.S_ISVTX:
            open_folders.append(str(path.parent))
    if open_files or open_folders:
        commands = [shlex.join(["chmod", "600", *open_files])] if open_files else []
        commands += [shlex.join(["chmod", "go-w", *dict.fromkeys(open_folders)])] if open_folders else []
        seen = "; then exchange what others may have read (`facesvc keys rotate`, `certs renew`, `token revoke`)"
        found = f"others than their owner may read or replace {', '.join(dict.fromkeys([*open_files, *open_folders]))}"
        return Finding(Level.ERROR, found, " && ".join(commands) + (seen if open_files else ""))
    if hidden:
        return Finding(Level.WARNING, f"{', '.join(hidden)} cannot be looked at", "run this as the user of the server")
    return Finding(Level.OK, f"{secrets} files with keys and tokens, each for its owner alone")


def swapping(_: Settings) -> Finding:
    """What the server has in memory is not written to a disk in the clear."""
    areas = swap.areas()
    if not areas:
        return Finding(Level.OK, "there is none that is not encrypted")
    found = f"{', '.join(areas)}, not encrypted"
    if swap.keeps_out(swap.CGROUP / SERVICE) or not swap.in_the_clear():
        return Finding(Level.OK, f"{found}; the server is kept out of it")
    advice = "start the server with MemorySwapMax=0, as deploy/facesvc.service does, or encrypt the swap"
    return Finding(Level.WARNING, found, advice)


def _check_pair(certificate_file: Path, key: Path) -> None:
    """Raises ``ConfigError`` where the key is not that of the certificate."""
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(certificate_file, key, password="")
    except ssl.SSLError as error:
        raise ConfigError(f"{key} is no key, or not that of {certificate_file}") from error
    except OSError as error:
        raise ConfigError(f"{key} cannot be read: {error.strerror}") from error


def _authorities(settings: Settings) -> dict[Path, datetime]:
    """Until when the authorities are good that the settings name, and the one beside the certificate."""
    server = settings.server
    assert server.certificate_file is not None
    beside = server.certificate_file.with_name("ca.pem")
    named = [path for path in (server.client_ca_file, settings.client.ca_file) if path is not None]
    return {path: expiry_of(path) for path in (*named, *([beside] if beside.exists() else []))}


def _secrets(settings: Settings) -> Iterator[Path]:
    """The files that hold one, whether they are there or not."""
    with suppress(ConfigError):  # which the server says by name
        yield from (source.path for source in sources(settings.gallery) if isinstance(source, KeyFile))
    server, client = settings.server, settings.client
    yield from (path for path in (server.key_file, client.token_file) if path is not None)
    if server.certificate_file is not None:
        yield from (server.certificate_file.with_name(name) for name in ("ca.key", "admin.token", "master.key"))


def _while_good(expiry: datetime, found: str, advice: str) -> Finding:
    left = expiry - datetime.now(UTC)
    if left > RENEW_BEFORE:
        return Finding(Level.OK, found)
    if left.total_seconds() > 0:
        return Finding(Level.WARNING, f"{found}: {left.days} days", advice)
    return Finding(Level.ERROR, f"{found}: that is over, and clients refuse it", advice)
