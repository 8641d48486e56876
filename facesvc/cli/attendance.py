"""``facesvc attendance``: who was there on which day, and for how long."""

import csv
import sys
import unicodedata
from collections.abc import Iterable
from datetime import UTC, tzinfo
from typing import Annotated, Any

import typer

from facesvc.cli import times
from facesvc.cli.console import Collection, Json, Server, cell, client_of, out, print_json, printable, say, table_of
from facesvc.errors import InputError
from facesvc.v1 import presence_pb2

# What makes a spreadsheet take a cell for a formula (https://owasp.org/www-community/attacks/CSV_Injection), and the
# wide forms of these letters, which some take for the same.
_FORMULAS = frozenset("=+-@\uff1d\uff0b\uff0d\uff20")
_COLUMNS = ("date", "subject_id", "display_name", "first_in", "last_out", "present_seconds", "stays")


def attendance(
    context: typer.Context,
    *,
    begin: times.From = "",
    end: times.To = "",
    time_zone: Annotated[
        str, typer.Option(metavar="NAME", help="Where days begin, such as Europe/Berlin; empty: as the server's.")
    ] = "",
    subject: Annotated[str, typer.Option(metavar="ID", help="Only this person.")] = "",
    collection: Collection = "",
    zone: Annotated[str, typer.Option(help="Only this zone; empty: all together.")] = "",
    as_csv: Annotated[bool, typer.Option("--csv", help="Print CSV for spreadsheets instead of a table.")] = False,
    server: Server = "",
    as_json: Json = False,
) -> None:
    """Print for each day and person first in, last out and the time between without the gaps; as JSON one array."""
    if as_csv and as_json:
        raise InputError("choose one of --csv and --json")
    place = times.zone_of(time_zone)
    start_time, end_time = times.beginning(begin, place), times.end(end, place)
    with client_of(context, server) as client:
        found = client.list_attendance(
            start_time=start_time,
            end_time=end_time,
            collection_id=collection,
            zone=zone,
            subject_id=subject,
            time_zone=time_zone,
        )
        if as_csv:
            _print_csv(found, place)
        elif as_json:
            print_json([_as_json(one) for one in found])
        else:
            _print_table(found, place)


def _print_table(found: Iterable[presence_pb2.Attendance], zone: tzinfo | None) -> None:
    table = table_of("Day", "Id", "Name", "In", "Out", "Present", "Stays")
    for one in found:
        table.add_row(
            one.date,
            cell(one.subject_id),
            cell(one.display_name),
            times.clock_of(one.first_in_time, zone),
            times.clock_of(one.last_out_time, zone) if one.HasField("last_out_time") else cell("present", "green"),
            times.length(one.present_duration.ToTimedelta().total_seconds()),
            str(one.stays),
        )
    if table.row_count:
        out.print(table)
    else:
        say("nobody was there")


def _print_csv(found: Iterable[presence_pb2.Attendance], zone: tzinfo | None) -> None:
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(_COLUMNS)
    for one in found:
        first_in = one.first_in_time.ToDatetime(UTC).astimezone(zone)
        last_out = one.last_out_time.ToDatetime(UTC).astimezone(zone) if one.HasField("last_out_time") else None
        writer.writerow(
            (
                one.date,
                safe(one.subject_id),
                safe(printable(one.display_name)),
                first_in.isoformat(timespec="seconds"),
                last_out.isoformat(timespec="seconds") if last_out else "",
                one.present_duration.seconds,
                one.stays,
            )
        )
    sys.stdout.flush()


def safe(text: str) -> str:
    """A text that no spreadsheet takes for a formula: with an apostrophe before what would make it one."""
    # Some programs look past blanks, and past what has no width.
    seen = next((one for one in text if not one.isspace() and unicodedata.category(one) not in {"Cc", "Cf"}), "")
    begins_badly = seen in _FORMULAS or (text and unicodedata.category(text[0]) == "Cc")
    return f"'{text}" if begins_badly else text


def _as_json(one: presence_pb2.Attendance) -> dict[str, Any]:
    return {
        "date": one.date,
        "subject_id": one.subject_id,
        "display_name": one.display_name,
        "first_in_time": one.first_in_time.ToJsonString(),
        "last_out_time": one.last_out_time.ToJsonString() if one.HasField("last_out_time") else None,
        "present_seconds": one.present_duration.ToTimedelta().total_seconds(),
        "stays": one.stays,
    }
