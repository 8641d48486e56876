"""``facesvc token``: who may call the server."""

from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

import typer

from facesvc.cli import times
from facesvc.cli.console import Json, Server, cell, client_of, out, print_json, say, table_of
from facesvc.security.roles import Role
from facesvc.v1 import admin_pb2

app = typer.Typer(help="Access tokens: who may call the server, and what.", no_args_is_help=True)

Name = Annotated[str, typer.Argument(metavar="NAME", help="The token's name; stands in the audit log.")]


@app.command()
def create(
    context: typer.Context,
    name: Name,
    role: Annotated[Role, typer.Option(help="What its holder is for.")],
    *,
    camera: Annotated[list[str] | None, typer.Option(metavar="ID", help="Only this camera; may be repeated.")] = None,
    collection: Annotated[list[str] | None, typer.Option(metavar="ID", help="Only this gallery, likewise.")] = None,
    names: Annotated[bool, typer.Option("--names", help="Tell a camera who somebody is.")] = False,
    days: Annotated[int, typer.Option(min=0, max=36500, help="For so long it is good; 0: until it is revoked.")] = 365,
    server: Server = "",
    as_json: Json = False,
) -> None:
    """Make a token. It is shown this once: nobody can read it again."""
    token = admin_pb2.Token(
        name=name,
        role=admin_pb2.Role.Value(f"ROLE_{role.name}"),
        camera_ids=camera or (),
        collection_ids=collection or (),
        names=names,
    )
    if days:
        token.expire_time.FromDatetime(datetime.now(UTC) + timedelta(days=days))
    with client_of(context, server) as client:
        made, secret = client.create_token(token)
    if as_json:
        print_json(_as_json(made) | {"token": secret})
    else:
        say(secret)


@app.command("list")
def list_(context: typer.Context, *, server: Server = "", as_json: Json = False) -> None:
    """List the tokens, without their secrets."""
    with client_of(context, server) as client:
        found = client.list_tokens()
    if as_json:
        print_json([_as_json(token) for token in found])
        return
    table = table_of("Name", "Role", "Cameras", "Galleries", "Made", "Good until")
    for token in found:
        table.add_row(
            cell(token.name, "bold"),
            cell(_role(token)),
            cell(", ".join(token.camera_ids) or "any"),
            cell(", ".join(token.collection_ids) or "any"),
            times.in_words(token.create_time),
            times.in_words(token.expire_time) if token.HasField("expire_time") else "it is revoked",
        )
    out.print(table)


@app.command()
def revoke(context: typer.Context, name: Name, *, server: Server = "") -> None:
    """Make a token worthless at once; calls that are open with it end."""
    with client_of(context, server) as client:
        client.revoke_token(name)
    say(f"{name} is worthless")


def _role(token: admin_pb2.Token) -> str:
    return admin_pb2.Role.Name(token.role).removeprefix("ROLE_").lower()


def _as_json(token: admin_pb2.Token) -> dict[str, Any]:
    return {
        "token_id": token.token_id,
        "name": token.name,
        "role": _role(token),
        "camera_ids": list(token.camera_ids),
        "collection_ids": list(token.collection_ids),
        "names": token.names,
        "create_time": token.create_time.ToJsonString(),
        "expire_time": token.expire_time.ToJsonString() if token.HasField("expire_time") else None,
    }
