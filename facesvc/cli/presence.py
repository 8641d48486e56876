"""``facesvc presence``: who is where now."""

from typing import Annotated, Any

import typer

from facesvc.cli.console import Collection, Json, Server, cell, client_of, out, print_json, say, table_of
from facesvc.cli.event_words import facts_as_json
from facesvc.cli.times import in_words
from facesvc.v1 import presence_pb2

_STYLES = {presence_pb2.PRESENCE_STATE_PRESENT: "green", presence_pb2.PRESENCE_STATE_LEAVING: "yellow"}


def presence(
    context: typer.Context,
    *,
    collection: Collection = "",
    zone: Annotated[str, typer.Option(help="Only this zone.")] = "",
    server: Server = "",
    as_json: Json = False,
) -> None:
    """Say who is where, since when; as JSON one array."""
    with client_of(context, server) as client:
        found = list(client.list_presence(collection_id=collection, zone=zone))
    if as_json:
        print_json([_as_json(one) for one in found])
        return
    if not found:
        say("nobody")
        return
    table = table_of("Name", "Id", "Zone", "State", "Since", "Last seen", "By", "Known")
    for one in found:
        table.add_row(
            cell(one.display_name),
            cell(one.subject_id),
            cell(one.zone),
            cell(_state(one), _STYLES.get(one.state, "dim")),
            in_words(one.arrive_time),
            in_words(one.last_seen_time),
            cell(one.camera_id),
            cell("; ".join(facts.summary for facts in one.facts)),
        )
    out.print(table)


def _state(one: presence_pb2.Presence) -> str:
    return presence_pb2.PresenceState.Name(one.state).removeprefix("PRESENCE_STATE_").lower()


def _as_json(one: presence_pb2.Presence) -> dict[str, Any]:
    return {
        "collection_id": one.collection_id,
        "subject_id": one.subject_id,
        "display_name": one.display_name,
        "external_ids": dict(one.external_ids),
        "zone": one.zone,
        "state": _state(one),
        "arrive_time": one.arrive_time.ToJsonString(),
        "last_seen_time": one.last_seen_time.ToJsonString(),
        "camera_id": one.camera_id,
        "facts": [facts_as_json(facts) for facts in one.facts],
    }
