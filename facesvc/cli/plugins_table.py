"""The plugins of a machine and of its server, side by side: a row for each, as a table and for programs."""

from collections.abc import Mapping, Sequence
from typing import Any

from rich.table import Table
from rich.text import Text

from facesvc.cli.console import cell, printable, table_of
from facesvc.delivery.roll import Installed
from facesvc.v1 import plugins_pb2

_COUNTERS = ("delivered", "failures", "waiting", "dead", "expired", "uncertain", "missed")
_SET_ASIDE = ("dead", "expired", "uncertain")
_STYLES = {"running": "green", "starting": "yellow", "resting": "yellow"} | dict.fromkeys(
    ("failed", "silent", "stopped", "not at work"), "red"
)


def row_of(
    name: str, there: Installed | None, running: plugins_pb2.PluginStatus | None, table: Mapping[str, Any] | None
) -> dict[str, Any]:
    """All that is known of a plugin: installed here, at work in the server, ``[plugins.NAME]`` in the settings here."""
    manifest = there.manifest if there else None
    row: dict[str, Any] = {
        "name": name,
        "version": there.version if there else "",
        "summary": manifest.summary if manifest else "",
        "state": _state_of(table),
        "problem": there.problem if there else "it is not installed on this machine",
        **dict.fromkeys(_COUNTERS),
        "last_error": "",
        "p99_latency_seconds": None,
        "commands": dict(manifest.commands) if manifest else {},
    }
    if running is None:
        return row
    state = plugins_pb2.PluginCondition.Name(running.condition).removeprefix("PLUGIN_CONDITION_").lower()
    row |= {name: getattr(running, name) for name in ("version", "summary", "problem", "last_error", *_COUNTERS)}
    row |= {"state": state, "commands": dict(running.commands)}
    if running.HasField("p99_latency"):
        row["p99_latency_seconds"] = running.p99_latency.ToMicroseconds() / 1e6
    return row


def _state_of(table: Mapping[str, Any] | None) -> str:
    """Of one that the server does not have at work: by the settings of this machine."""
    if table is None:
        return "installed"
    return "switched off" if str(table.get("enabled", True)).lower() == "false" else "not at work"


def counts(rows: Sequence[dict[str, Any]]) -> Table:
    """What they have done; eighty columns are enough while nothing is set aside."""
    table = table_of("Plugin", "State", "Delivered", "Waiting", "Set aside", "p99")
    table.columns[0].no_wrap = True
    for column in (2, 3, 5):
        table.columns[column].justify = "right"
    for row in rows:
        latency = row["p99_latency_seconds"]
        table.add_row(
            _named(row),
            _state(row),
            *("" if row[count] is None else str(row[count]) for count in ("delivered", "waiting")),
            ", ".join(f"{row[state]} {state}" for state in _SET_ASIDE if row[state]),
            "" if latency is None else f"{latency * 1000:.0f} ms",
        )
    return table


def purposes(rows: Sequence[dict[str, Any]]) -> Table:
    """What they are for, where none is at work."""
    table = table_of("Plugin", "State", "What for")
    for row in rows:
        table.add_row(_named(row), _state(row), cell(row["summary"]))
    return table


def _named(row: dict[str, Any]) -> Text:
    return cell(row["name"], "bold").append(printable(f" {row['version']}".rstrip()), "not bold dim")


def _state(row: dict[str, Any]) -> Text:
    return cell(row["state"], _STYLES.get(row["state"], "dim"))
