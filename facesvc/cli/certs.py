"""``facesvc certs``: the server's certificate renewed, and clients' issued, by the box's own authority."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated

import typer

from facesvc.cli.console import Json, print_json, say, settings_of
from facesvc.cli.init import keep
from facesvc.cli.private_files import check_new
from facesvc.config import Settings
from facesvc.errors import ConfigError, InputError
from facesvc.security.authority import LEAF_DAYS, Authority, expiry_of, names_of
from facesvc.security.roles import Role

app = typer.Typer(help="Certificates of the server and of clients.", no_args_is_help=True)

Days = Annotated[int, typer.Option(min=1, max=LEAF_DAYS, help="For so long it is good.")]


@app.command()
def renew(context: typer.Context, *, days: Days = LEAF_DAYS) -> None:
    """Give the server a new certificate for the same names; a running server uses it from the next connection on."""
    certificate, key, folder = _server_certificate(settings_of(context))
    issued = _authority(folder).issue_server(names_of(certificate), datetime.now(UTC), timedelta(days=days))
    keep(certificate, key, issued)
    say(f"{certificate} is good until {expiry_of(certificate):%Y-%m-%d}")


@app.command()
def issue(
    context: typer.Context,
    name: Annotated[str, typer.Argument(metavar="NAME", help="Whose it is; stands in the audit log.")],
    role: Annotated[Role, typer.Option(help="What the client is for.")],
    *,
    out: Annotated[Path, typer.Option(metavar="DIR", help="Where NAME.pem and NAME.key go.")] = Path(),
    days: Days = LEAF_DAYS,
) -> None:
    """Make a client's certificate, for server.listen_mtls; it cannot be revoked before its time, as a token can."""
    _, _, folder = _server_certificate(settings_of(context))
    issued = _authority(folder).issue_client(name, role, datetime.now(UTC), timedelta(days=days))
    if Path(name).name != name:
        raise InputError(f"{name!a} cannot be the name of a file: leave out slashes", field="name")
    certificate, key = out / f"{name}.pem", out / f"{name}.key"
    for file in (certificate, key):
        check_new(file)  # it could be the server's, or the authority's
    keep(certificate, key, issued)
    say(f"{certificate} and {key}; the client needs {folder / 'ca.pem'} too")


@app.command()
def show(context: typer.Context, *, as_json: Json = False) -> None:
    """Say until when the server's certificate is good, and for which names."""
    certificate, _, folder = _server_certificate(settings_of(context))
    expiry, names = expiry_of(certificate), names_of(certificate)
    if as_json:
        print_json({"certificate": str(certificate), "expire_time": expiry.isoformat(), "names": names})
    else:
        say(f"{certificate} is good until {expiry:%Y-%m-%d}, for {', '.join(names)}; its authority is in {folder}")


def _server_certificate(settings: Settings) -> tuple[Path, Path, Path]:
    """It, its key, and the folder, where the authority's are too. Raises ``ConfigError``."""
    server = settings.server
    if server.certificate_file is None or server.key_file is None:
        raise ConfigError("the settings name no certificate of the server: `facesvc init` makes one")
    return server.certificate_file, server.key_file, server.certificate_file.parent


def _authority(folder: Path) -> Authority:
    return Authority.read(folder / "ca.pem", folder / "ca.key")
