"""``facesvc graph``: commands that ask Microsoft 365 without a server."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Annotated, Any

import typer
from pydantic import JsonValue, ValidationError

from facesvc.cli.console import Json, cell, out, print_json, say, table_of
from facesvc.errors import ConfigError
from facesvc.events.plugin import Step
from facesvc_graph.checks import steps
from facesvc_graph.client import Client
from facesvc_graph.lookup import Found, find, lookup
from facesvc_graph.replies import NoSuchError
from facesvc_graph.settings import GraphSettings

app = typer.Typer(name="graph", help="Ask Microsoft 365, without a server.", no_args_is_help=True)


def _now() -> datetime:
    return datetime.now(UTC)


def _settings(context: typer.Context) -> GraphSettings:
    """The table ``[plugins.graph]``. Raises ``ConfigError``."""
    plugins: dict[str, dict[str, Any]] = context.obj.plugins
    if "graph" not in plugins:
        raise ConfigError("there is no [plugins.graph] in the settings")
    try:
        return GraphSettings.model_validate(plugins["graph"])
    except ValidationError as error:
        # Not the values: one may be a secret in the wrong place.
        told = "; ".join(
            f"{'.'.join(map(str, one['loc'])) or 'settings'}: {one['msg']}" for one in error.errors(include_input=False)
        )
        raise ConfigError(f"[plugins.graph]: {told}") from None


@app.command()
def check(
    context: typer.Context,
    *,
    user: Annotated[str, typer.Option(metavar="ID", help="Look at this user; empty: at the first there is.")] = "",
    as_json: Json = False,
) -> None:
    """Verify tenant, permissions and one user, step by step; status 1 where a step fails."""
    found = asyncio.run(_all(steps(_settings(context), _now, user)))
    ok = all(step.ok is not False for step in found)
    if as_json:
        print_json({"ok": ok, "steps": [{"name": one.name, "ok": one.ok, "detail": one.detail} for one in found]})
    else:
        table = table_of("Step", "", "Found")
        for one in found:
            mark = {True: ("ok", "green"), False: ("failed", "red"), None: ("note", "yellow")}[one.ok]
            table.add_row(cell(one.name), cell(*mark), cell(one.detail))
        out.print(table)
    raise typer.Exit(0 if ok else 1)


async def _all(found: AsyncIterator[Step]) -> list[Step]:
    return [step async for step in found]


@app.command("lookup")
def lookup_command(
    context: typer.Context,
    subject: Annotated[str, typer.Argument(help="A user: object id, UPN or mail address.")],
    *,
    as_json: Json = False,
) -> None:
    """Print what would be told of a user now; status 1 where there is no such user, or something could not be asked."""
    settings = _settings(context)
    try:
        found = asyncio.run(_lookup(settings, subject))
    except NoSuchError as error:
        if as_json:
            print_json({"error": error.message})
        else:
            say(error.message, style="yellow")
        raise typer.Exit(1) from None
    if as_json:
        print_json(found.as_json())
    else:
        _print(found.as_json())
    # That somebody has no mailbox is an answer.
    raise typer.Exit(0 if all(isinstance(error, NoSuchError) for error in found.problems.values()) else 1)


async def _lookup(settings: GraphSettings, subject: str) -> Found:
    settings.credential()
    client = Client(settings, _now)
    try:
        return await lookup(client, settings, await find(client, subject), _now)
    finally:
        await client.close()


def _print(found: dict[str, JsonValue]) -> None:
    table = table_of("Field", "Value")
    for name in ("id", "user_principal_name", "mail", "summary"):
        table.add_row(name, cell(_shown(found[name])))
    values, problems = found["values"], found["problems"]
    assert isinstance(values, dict)
    assert isinstance(problems, dict)
    for name, value in values.items():
        shown = f"{len(str(value)) * 3 // 4} bytes" if name == "photo" else _shown(value)
        table.add_row(name, cell(shown))
    for name, told in problems.items():
        table.add_row(name, cell(str(told), "yellow"))
    out.print(table)


def _shown(value: JsonValue) -> str:
    if value is None or value == "":
        return "-"
    if isinstance(value, dict):  # an event
        return f"{value.get('subject') or value.get('status')}, {value.get('start')} to {value.get('end')}"
    return {True: "yes", False: "no"}[value] if isinstance(value, bool) else str(value)
