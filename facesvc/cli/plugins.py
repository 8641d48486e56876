"""``facesvc plugins``: what is installed and how it is, what could not be delivered, what a plugin answers."""

import asyncio
import json
import sys
from datetime import UTC, datetime
from enum import Enum
from itertools import islice
from typing import Annotated, Any

import typer
from google.protobuf.json_format import MessageToJson

from facesvc.cli import plugins_new, times
from facesvc.cli.console import Json, Server, cell, client_of, complain, out, print_json, say, settings_of, table_of
from facesvc.client import CallError
from facesvc.delivery.kit import Clock, MemoryBox
from facesvc.delivery.roll import Installed, enlist_one, installed
from facesvc.errors import ConfigError, InputError
from facesvc.events.plugin import Checks, Manifest, Step
from facesvc.v1 import plugins_pb2

app = typer.Typer(help="What events fire: presence in Teams, attendance, doors, and so on.", no_args_is_help=True)

app.command("new")(plugins_new.new)

Name = Annotated[str, typer.Argument(metavar="NAME", help="The plugin, as in [plugins.NAME].")]


class SetAside(Enum):
    """Why an event was set aside."""

    DEAD = "dead"
    EXPIRED = "expired"
    UNCERTAIN = "uncertain"


_MARKS = {True: "ok", False: "FAILED", None: "-"}


@app.command("list")
def list_(context: typer.Context, *, server: Server = "", as_json: Json = False) -> None:
    """List the plugins that are installed, and how those are that the server has at work."""
    configured = settings_of(context).plugins
    try:
        with client_of(context, server) as client:
            running = {one.name: one for one in client.list_plugins()}
    except CallError as error:
        running = {}
        complain(f"the server does not answer ({error}): only what is installed here is shown", style="yellow")
    there = {one.name: one for one in installed()}
    names = sorted(there.keys() | configured.keys() | running.keys())
    rows = [_row(name, there.get(name), running.get(name), configured=name in configured) for name in names]
    if as_json:
        print_json(rows)
        return
    if not rows:
        say("no plugin is installed: pip install facesvc-graph, say")
        return
    table = table_of("Plugin", "Version", "State", "Delivered", "Waiting", "Dead", "Expired", "p99", "Last error")
    for row in rows:
        counts = (row["delivered"], row["waiting"], row["dead"], row["expired"])
        latency = row["p99_latency_seconds"]
        table.add_row(
            cell(row["name"], "bold"),
            cell(row["version"]),
            cell(row["state"]),
            *("" if count is None else str(count) for count in counts),
            "" if latency is None else f"{latency * 1000:.0f} ms",
            cell(row["problem"] or row["last_error"]),
        )
    out.print(table)


def _row(
    name: str, there: Installed | None, running: plugins_pb2.PluginStatus | None, *, configured: bool
) -> dict[str, Any]:
    row: dict[str, Any] = {
        "name": name,
        "version": there.version if there else "",
        "summary": there.manifest.summary if there and there.manifest else "",
        "state": "configured, not at work" if configured else "installed",
        "problem": there.problem if there else "it is not installed on this machine",
        **dict.fromkeys(("delivered", "failures", "waiting", "dead", "expired", "uncertain", "missed")),
        "last_error": "",
        "p99_latency_seconds": None,
        "commands": dict(there.manifest.commands) if there and there.manifest else {},
    }
    if running is None:
        return row
    state = plugins_pb2.PluginCondition.Name(running.condition).removeprefix("PLUGIN_CONDITION_").lower()
    row |= {"version": running.version, "summary": running.summary, "state": state, "problem": running.problem}
    row |= {one: getattr(running, one) for one in ("delivered", "failures", "waiting", "dead", "expired", "uncertain")}
    row |= {"missed": running.missed, "last_error": running.last_error, "commands": dict(running.commands)}
    if running.HasField("p99_latency"):
        row["p99_latency_seconds"] = running.p99_latency.ToMicroseconds() / 1e6
    return row


@app.command("test")
def check(context: typer.Context, name: Name, *, as_json: Json = False) -> None:
    """Find out step by step whether a plugin's settings work; needs no server, and does no harm.

    Exit status 1 where a step fails.
    """
    enlisted = enlist_one(_manifest(name), settings_of(context).plugins.get(name, {}))
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
    async for step in plugin.check():
        steps.append(step)
        if not quiet:
            (complain if step.ok is False else say)(f"{_MARKS[step.ok]:<7}{step.name}: {step.detail}")
    return steps


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
    with client_of(context, server) as client:
        for letter in islice(client.list_dead_letters(name, state=wanted), limit or None):
            if as_json:
                print_json(_letter_as_json(letter))
            else:
                about = "/".join(part for part in (letter.collection_id, letter.subject_id) if part) or "-"
                when, tries = times.in_words(letter.update_time), f"{letter.attempts} tries"
                say(f"{letter.number:>8}  {when}  {about}  {tries}  {letter.error}")


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
) -> None:
    """Ask a plugin of the server for something that it offers.

    An answer that is text is printed as it is, everything else as JSON.
    """
    with client_of(context, server) as client:
        answer = json.loads(MessageToJson(client.call_plugin(name, command, dict(map(_argument, arguments or ())))))
    if isinstance(answer, str):
        sys.stdout.write(answer if answer.endswith("\n") else f"{answer}\n")
    else:
        print_json(answer)


def _argument(text: str) -> tuple[str, str]:
    key, separator, value = text.partition("=")
    if not (key and separator):
        raise InputError(f"{text!r} is no argument: write KEY=VALUE")
    return key, value
