"""``facesvc events``: what happened."""

from itertools import islice
from typing import Annotated

import typer

from facesvc.cli import times
from facesvc.cli.console import Collection, Json, Server, client_of, print_json, say
from facesvc.cli.event_words import event_as_json, event_in_words, is_known


def events(
    context: typer.Context,
    *,
    begin: times.From = "",
    end: times.To = "",
    subject: Annotated[str, typer.Option(metavar="ID", help="Only about this person.")] = "",
    collection: Collection = "",
    zone: Annotated[str, typer.Option(help="Only this zone.")] = "",
    limit: Annotated[int, typer.Option(min=0, help="Stop after so many events; 0: never.")] = 0,
    server: Server = "",
    as_json: Json = False,
) -> None:
    """Print what happened, oldest first, a line an event, as far back as the server keeps events."""
    start_time, end_time = times.beginning(begin), times.end(end)
    with client_of(context, server) as client:
        found = client.list_events(
            start_time=start_time, end_time=end_time, collection_id=collection, zone=zone, subject_id=subject
        )
        for event in islice(filter(is_known, found), limit or None):
            if as_json:
                print_json(event_as_json(event))
            else:
                say(event_in_words(event))
