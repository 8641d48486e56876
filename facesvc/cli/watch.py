"""``facesvc watch``: what happens, as it happens."""

import time
from collections.abc import Iterator
from contextlib import suppress
from itertools import islice
from typing import Annotated

import typer

from facesvc.cli.console import Collection, Json, Server, client_of, complain, err, print_json, say
from facesvc.cli.event_words import event_as_json, event_in_words, is_known
from facesvc.client import CallError, Client
from facesvc.v1 import presence_pb2

# A box is back from a restart within half a minute; what is gone for longer needs somebody to look at it.
_PAUSES_S = (0.5, 1.0, 2.0, 4.0, 8.0, 8.0, 8.0)


def watch(
    context: typer.Context,
    *,
    collection: Collection = "",
    zone: Annotated[str, typer.Option(help="Only this zone.")] = "",
    limit: Annotated[int, typer.Option(min=0, help="Stop after so many events; 0: never.")] = 0,
    resume_token: Annotated[str, typer.Option(help="Go on after the event that came with this token.")] = "",
    server: Server = "",
    as_json: Json = False,
) -> None:
    """Print a line when somebody is seen, arrives or leaves, until Ctrl-C; goes on after a broken connection."""
    with client_of(context, server) as client, suppress(KeyboardInterrupt):
        for answer in islice(_events(client, resume_token, collection, zone), limit or None):
            if as_json:
                print_json(event_as_json(answer.event) | {"resume_token": answer.resume_token})
            else:
                say(event_in_words(answer.event))


def _events(client: Client, token: str, collection: str, zone: str) -> Iterator[presence_pb2.WatchEventsResponse]:
    """What happens, across broken connections: the watch goes on after the last event that was read.

    A server that has never answered is an error at once, one that is lost is asked again for ``_PAUSES_S``.
    """
    begun, attempt = False, 0
    while True:
        try:
            for answer in client.watch_events(resume_token=token, collection_id=collection, zone=zone):
                if not begun:
                    say("watching", style="dim", to=err)
                begun, attempt, token = True, 0, answer.resume_token
                if is_known(answer.event):
                    yield answer
        except CallError as error:
            if error.reason == "EVENTS_MISSED":
                complain(f"{error}; watching on from now")
                token = ""
                continue
            if not begun or attempt >= len(_PAUSES_S) or error.code.name not in {"UNAVAILABLE", "CANCELLED"}:
                raise
            complain(f"{error}; trying again in {_PAUSES_S[attempt]:g} s")
        time.sleep(_PAUSES_S[min(attempt, len(_PAUSES_S) - 1)])
        attempt += 1
