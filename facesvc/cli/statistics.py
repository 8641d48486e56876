"""``facesvc statistics``: what the server has done, and how it copes."""

from datetime import UTC
from typing import Any

import typer
from google.protobuf.duration_pb2 import Duration
from rich.table import Table

from facesvc.cli.console import Json, Server, cell, client_of, out, print_json, table_of
from facesvc.v1 import admin_pb2

_COLUMNS = (
    "Camera", "Zone", "Received", "Looked at", "Predicted", "Dropped", "Skipped", "Failed", "Embedded", "Lost",
    "Tracks", "Looks every", "Age", "p99",
)  # fmt: skip


def statistics(context: typer.Context, *, server: Server = "", as_json: Json = False) -> None:
    """Show what was done since the start, by each open stream, and how hard the box works.

    Predicted frames were answered from tracks; dropped ones came too fast, skipped ones were not sent for that reason,
    failed ones could not be looked at; lost results were not read in time. Age is from capture to result, the median.
    """
    with client_of(context, server) as client:
        found = client.get_statistics()
    if as_json:
        print_json(
            {**_counts(found), "streams": list(map(_plain_stream, found.streams)), "load": _plain_load(found.load)}
        )
        return
    out.print(_box(found))
    if found.streams:
        out.print(_cameras(found))


# In JSON numbers are numbers, and not the strings that the mapping of 64 bits to JSON makes of them.


def _counts(message: admin_pb2.GetStatisticsResponse | admin_pb2.StreamStatistics) -> dict[str, int]:
    counters = (field.name for field in message.DESCRIPTOR.fields if field.type == field.TYPE_INT64)
    return {name: getattr(message, name) for name in counters}


def _plain_stream(stream: admin_pb2.StreamStatistics) -> dict[str, Any]:
    return {
        "stream_id": stream.stream_id,
        "camera_id": stream.camera_id,
        "zone": stream.zone,
        "start_time": stream.start_time.ToJsonString(),
        **_counts(stream),
        "tracks": stream.tracks,
        "look_interval_seconds": _seconds(stream.look_interval),
        "median_age_seconds": _seconds(stream.median_age),
        "p99_age_seconds": _seconds(stream.p99_age),
    }


def _plain_load(load: admin_pb2.LoadStatistics) -> dict[str, Any]:
    return {
        "step": load.step,
        "measures": load.measures,
        "reason": load.reason,
        "step_time": load.step_time.ToJsonString() if load.HasField("step_time") else None,
        "changes": load.changes,
        "busy": load.busy,
        "temperature_celsius": load.temperature_celsius if load.HasField("temperature_celsius") else None,
    }


def _box(found: admin_pb2.GetStatisticsResponse) -> Table:
    load = found.load
    step = f"{load.measures} (step {load.step})"
    if load.HasField("step_time"):
        since = load.step_time.ToDatetime(UTC).astimezone().strftime("%Y-%m-%d %H:%M:%S")
        step += f" since {since}: {load.reason}; {load.changes} changes"
    rows = {
        "Busy": f"{load.busy:.0%} of the workers' time",
        "Hottest sensor": f"{load.temperature_celsius:.0f} °C" if load.HasField("temperature_celsius") else "none",
        "Service": step,
        "Frames received": str(found.frames_received),
        "Frames looked at": str(found.frames_processed),
        "Frames predicted": str(found.frames_predicted),
        "Frames dropped": str(found.frames_dropped),
        "Faces embedded": str(found.faces_embedded),
        "Results lost": str(found.results_dropped),
        "Open streams": str(len(found.streams)),
    }
    table = Table.grid(padding=(0, 2))
    for name, value in rows.items():
        table.add_row(cell(name, "bold"), cell(value))
    return table


def _cameras(found: admin_pb2.GetStatisticsResponse) -> Table:
    table = table_of(*_COLUMNS)
    for stream in found.streams:
        counts = (
            stream.frames_received, stream.frames_processed, stream.frames_predicted, stream.frames_dropped,
            stream.frames_skipped, stream.frames_failed, stream.faces_embedded, stream.results_dropped, stream.tracks,
        )  # fmt: skip
        times = (stream.look_interval, stream.median_age, stream.p99_age)
        table.add_row(cell(stream.camera_id), cell(stream.zone), *map(str, counts), *map(_milliseconds, times))
    return table


def _seconds(duration: Duration) -> float:
    return duration.ToMicroseconds() / 1e6


def _milliseconds(duration: Duration) -> str:
    return f"{1000 * _seconds(duration):.0f} ms"
