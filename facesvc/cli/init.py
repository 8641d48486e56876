"""``facesvc init``: all that a server needs to be secure from its first start."""

import socket
import stat
from datetime import UTC, datetime
from pathlib import Path
from string import Template
from typing import Annotated

import typer

from facesvc.cli.console import say, settings_of
from facesvc.config import DEFAULT_CONFIG, GallerySettings, ServerSettings, Settings
from facesvc.database import Database
from facesvc.database.opening import open_database
from facesvc.errors import AlreadyExistsError, DependencyError, InputError
from facesvc.gallery.keyring import Keyring
from facesvc.gallery.masterkey import sources
from facesvc.security.authority import Authority, Issued, write
from facesvc.security.roles import Role
from facesvc.security.tokens import TOKENS_KEY, Tokens

DEFAULT_FOLDER, CONFIG_NAME = DEFAULT_CONFIG.parent, DEFAULT_CONFIG.name
"""Read where no other file is named."""

_LOCAL = ("localhost", "127.0.0.1", "::1")
_CONFIG = Template("""\
# Made by `facesvc init`; every setting is in deploy/facesvc.toml and in facesvc/config.py.

[server]
listen = "$listen"
certificate_file = "$folder/server.pem"
key_file = "$folder/server.key"
client_ca_file = "$folder/ca.pem"
# listen_mtls = "127.0.0.1:50052"   # for clients with a certificate (facesvc certs issue)

[gallery]
path = "$gallery"
key_file = "$key_file"

[client]
ca_file = "$folder/ca.pem"
token_file = "$folder/admin.token"
""")


def init(
    context: typer.Context,
    folder: Annotated[
        Path, typer.Option(metavar="DIR", help="Where keys, certificates and settings go.")
    ] = DEFAULT_FOLDER,
    listen: Annotated[str, typer.Option(metavar="HOST:PORT", help="Where the server will listen.")] = "127.0.0.1:50051",
    name: Annotated[
        list[str] | None, typer.Option(metavar="HOST", help="Another name or address that clients know the box by.")
    ] = None,
    *,
    if_missing: Annotated[
        bool, typer.Option("--if-missing", help="For a service: do nothing where there are settings, print no token.")
    ] = False,
) -> None:
    """Make settings, certificates, an administrator's token and a master key; nothing that is there is replaced."""
    settings = settings_of(context)
    if if_missing and (folder / CONFIG_NAME).exists():
        return
    _refuse_if_there(folder)
    _check_address(listen)
    now = datetime.now(UTC)
    authority = Authority.make(f"facesvc on {socket.gethostname()}"[:64], now)
    issued = authority.issue_server(list(dict.fromkeys([*(name or ()), socket.gethostname(), *_LOCAL])), now)
    _make_folder(folder)
    # A gallery that is there already is read with its own.
    key_file = settings.gallery.key_path if settings.gallery.key_path.exists() else folder / "master.key"
    settings = settings.model_copy(update={"gallery": settings.gallery.model_copy(update={"key_file": key_file})})
    token = _first_token(settings, now)  # first, for a database may be away: who comes again finds nothing half done
    keep_authority(folder, authority)
    keep(folder / "server.pem", folder / "server.key", issued)
    write(folder / "admin.token", f"{token}\n".encode(), secret=True)
    values = {
        "listen": listen,
        "folder": folder.resolve(),
        "gallery": settings.gallery.path.resolve(),
        "key_file": key_file.resolve(),
    }
    write(folder / CONFIG_NAME, _CONFIG.substitute(values).encode(), secret=False)
    say(f"settings           {folder / CONFIG_NAME}")
    say(f"certificates       {folder}; clients need ca.pem")
    say(f"master key         {key_file}: keep a copy elsewhere, without it nobody can read the gallery")
    if if_missing:
        say(f"administrator      {folder / 'admin.token'}")
        return
    say(f"administrator      {token}")
    say("It is shown this once. Commands on this machine use the copy in admin.token: delete it where they need not.")
    where = "" if folder == DEFAULT_FOLDER else f" --config {folder / CONFIG_NAME}"
    say(f"Start the server: facesvc{where} serve")


def _refuse_if_there(folder: Path) -> None:
    there = [name for name in (CONFIG_NAME, "ca.key", "server.key", "master.key") if (folder / name).exists()]
    if there:
        message = f"{folder} has {', '.join(there)} already: nothing was changed; choose another --folder"
        raise AlreadyExistsError(message, field="folder")


def _check_address(listen: str) -> None:
    try:
        ServerSettings(listen=listen)
    except ValueError as error:
        raise InputError(f"{listen!a} is no address: write HOST:PORT, or unix:PATH", field="listen") from error


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if folder.stat().st_mode & stat.S_IWOTH:
            raise InputError(f"{folder} is for everybody to write into: choose a folder of its own", field="folder")
        folder.chmod(0o700)
    except OSError as error:
        raise DependencyError(f"{folder} cannot be made: {error.strerror}", reason="FOLDER_UNUSABLE") from error


def keep_authority(folder: Path, authority: Authority) -> None:
    """Put an authority's files into a folder."""
    write(folder / "ca.key", authority.key_pem, secret=True)
    write(folder / "ca.pem", authority.pem, secret=False)


def keep(certificate: Path, key: Path, issued: Issued) -> None:
    """Put a certificate and its key into their files; the key first, so that no certificate is without one."""
    write(key, issued.key, secret=True)
    write(certificate, issued.certificate, secret=False)


def tokens_in(database: Database, settings: GallerySettings, now: datetime) -> Tokens:
    """The tokens of a gallery without its server; a new gallery gets its master key. Raises ``DependencyError``."""
    keyring = Keyring(database)
    keyring.open(sources(settings), now)
    return Tokens(database, keyring.tag(TOKENS_KEY, b""), lambda: now)


def _first_token(settings: Settings, now: datetime) -> str:
    """The administrator's, in the database that the server will open."""
    database = open_database(settings.store.url or settings.gallery.path)
    try:
        tokens = tokens_in(database, settings.gallery, now)
        taken = {token.name for token in tokens.list_tokens()}
        names = ("admin", *(f"admin-{number}" for number in range(2, len(taken) + 2)))
        return tokens.create(next(name for name in names if name not in taken), Role.ADMIN)[1]
    finally:
        database.close()
