"""``facesvc plugins``: what is installed and how it is, what could not be delivered, what a plugin answers."""

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from enum import Enum
from itertools import islice
from typing import Annotated, Any

import typer
from google.protobuf.json_format import MessageToJson

from facesvc.cli import plugins_new, plugins_table, times
from facesvc.cli.console import Json, Server, client_of, complain, out, print_json, say, settings_of
from facesvc.client import CallError
from facesvc.delivery.kit import Clock, MemoryBox
from facesvc.delivery.roll import enlist_one, installed
from facesvc.errors import ConfigError, FacesvcError, InputError
from facesvc.events.plugin import Checks, Manifest, Step
from facesvc.v1 import plugins_pb2

app = typer.Typer(help="What events fire: presence in Teams, attendance, doors, and so on.", no_args_is_help=True)

app.command("new")(plugins_new.new)

_EXACT = 2**53
_MARKS = {True: "ok", False: "FAILED", None: "-"}

Name = Annotated[str, typer.Argument(metavar="NAME", help="The plugin, as in [plugins.NAME].")]


class SetAside(Enum):
    """Why an event was set aside."""

    DEAD = "dead"
    EXPIRED = "expired"
    UNCERTAIN = "uncertain"


@app.command("list")
def list_(context: typer.Context, *, server: Server = "", as_json: Json = False) -> None:
    """List the plugins that are installed, and how those are that the server has at work."""
    tables = settings_of(context).plugins
    try:
        with client_of(context, server) as client:
            running = {one.name: one for one in client.list_plugins()}
    except CallError as error:
        running = {}
        complain(f"the server does not answer ({error}): only what is installed here is shown")
    there = {one.name: one for one in installed()}
    names = sorted(there.keys() | tables.keys() | running.keys())
    rows = [plugins_table.row_of(name, there.get(name), running.get(name), tables.get(name)) for name in names]
    if as_json:
        print_json(rows)
    elif rows:
        out.print(plugins_table.counts(rows) if running else plugins_table.purposes(rows))
        for row in rows:
            if trouble := row["problem"] or row["last_error"]:
                say(f"{row['name']}: {trouble}", style="yellow")
    else:
        say("no plugin is installed: pip install facesvc-graph, say")


@app.command("test")
def check(context: typer.Context, name: Name, *, as_json: Json = False) -> None:
    """Find out step by step whether a plugin's settings work; needs no server, and does no harm.

    Exit status 1 where a step fails.
    """
    settings = settings_of(context)
    enlisted = enlist_one(_manifest(name), settings.plugins.get(name, {}), settings.policies)
    plugin: object = enlisted.manifest.make(enlisted.settings, MemoryBox(name, clock=Clock(datetime.now(UTC))))
    steps = asyncio.run(_steps(plugin, quiet=as_json)) if isinstance(plugin, Checks) else []
    if as_json:
        print_json([{"name": step.name, "ok": step.ok, "detail": step.detail} for step in steps])
    if any(step.ok is False for step in steps):
        raise typer.Exit(1)
    if not as_json:
        say(f"{name} works" if steps else f"the settings of {name} are in order; it has nothing else to try")


async def _steps(plugin: Checks, *, quiet: bool) -> list[Step]:
    """All steps; each is told as it is taken."""
    steps = []
    async for step in _taken(plugin):
        steps.append(step)
        if not quiet:
            (complain if step.ok is False else say)(f"{_MARKS[step.ok]:<7}{step.name}: {step.detail}")
    return steps


async def _taken(plugin: Checks) -> AsyncIterator[Step]:
    """The steps; what the plugin did not foresee is one that failed."""
    try:
        async for step in plugin.check():
            yield step
    except Exception as error:  # noqa: BLE001 - whatever a plugin raises
        words = error.message if isinstance(error, FacesvcError) else f"{type(error).__name__}: {error}"
        yield Step(name="check", ok=False, detail=words)


def _manifest(name: str) -> Manifest[Any]:
    for one in installed():
        if one.name == name:
            if one.manifest is None:
                raise ConfigError(one.problem)
            return one.manifest
    raise ConfigError(f"there is no plugin {name!a} on this machine: pip install facesvc-NAME brings one")


@app.command("dead-letters")
def dead_letters(
    context: typer.Context,
    name: Name,
    *,
    state: Annotated[SetAside, typer.Option(help="Those given up, too late, or of unknown effect.")] = SetAside.DEAD,
    limit: Annotated[int, typer.Option(min=0, help="Stop after so many; 0: never.")] = 0,
    server: Server = "",
    as_json: Json = False,
) -> None:
    """Print the events that a plugin did not take or was not given, oldest first, a line each."""
    wanted = plugins_pb2.DeadLetterState.Value(f"DEAD_LETTER_STATE_{state.name}")
    none = True
    with client_of(context, server) as client:
        for letter in islice(client.list_dead_letters(name, state=wanted), limit or None):
            none = False
            if as_json:
                print_json(_letter_as_json(letter))
            else:
                say(_letter_in_words(letter))
    if none and not as_json:
        say("none")


def _letter_in_words(letter: plugins_pb2.DeadLetter) -> str:
    about = "/".join(part for part in (letter.collection_id, letter.subject_id) if part) or "-"
    tries = {0: "not tried", 1: "1 try"}.get(letter.attempts, f"{letter.attempts} tries")
    return f"{letter.number:>8}  {times.in_words(letter.update_time)}  {about}  {tries}  {letter.error}".rstrip()


def _letter_as_json(letter: plugins_pb2.DeadLetter) -> dict[str, Any]:
    return {
        "number": letter.number,
        "event_id": letter.event_id,
        "collection_id": letter.collection_id,
        "subject_id": letter.subject_id,
        "state": plugins_pb2.DeadLetterState.Name(letter.state).removeprefix("DEAD_LETTER_STATE_").lower(),
        "attempts": letter.attempts,
        "first_time": letter.first_time.ToJsonString(),
        "update_time": letter.update_time.ToJsonString(),
        "error": letter.error,
    }


@app.command()
def replay(
    context: typer.Context,
    name: Name,
    numbers: Annotated[list[int] | None, typer.Argument(metavar="NUMBER", help="Which ones; none: all dead.")] = None,
    *,
    server: Server = "",
    as_json: Json = False,
) -> None:
    """Deliver dead letters once more; those that are too late stay where they are."""
    with client_of(context, server) as client:
        count = client.replay_dead_letters(name, numbers or ())
    if as_json:
        print_json({"replayed": count})
    else:
        say(f"{count} {'event is' if count == 1 else 'events are'} delivered again")


@app.command()
def call(
    context: typer.Context,
    name: Name,
    command: Annotated[str, typer.Argument(metavar="COMMAND", help="One of those in facesvc plugins list --json.")],
    arguments: Annotated[list[str] | None, typer.Argument(metavar="KEY=VALUE")] = None,
    *,
    server: Server = "",
    as_json: Json = False,
) -> None:
    """Ask a plugin of the server for something that it offers.

    An answer that is text is printed as it is, unless --json asks for JSON; everything else is JSON.
    """
    given = dict(map(_argument, arguments or ()))
    with client_of(context, server) as client:
        text = MessageToJson(client.call_plugin(name, command, given))
    # The order of fields is lost on the way.
    answer = json.loads(text, parse_float=_number, object_pairs_hook=lambda pairs: dict(sorted(pairs)))
    if as_json or not isinstance(answer, str):
        print_json(answer)
    elif out.is_terminal:
        for line in answer.splitlines():
            say(line)
    else:
        sys.stdout.write(answer if answer.endswith("\n") else f"{answer}\n")


def _number(text: str) -> float | int:
    """A number of ``google.protobuf.Value``, which knows no other than doubles."""
    value = float(text)
    return int(value) if value.is_integer() and abs(value) <= _EXACT else value


def _argument(text: str) -> tuple[str, str]:
    key, separator, value = text.partition("=")
    if not (key and separator):
        raise InputError(f"{text!a} is no argument: write KEY=VALUE")
    return key, value
