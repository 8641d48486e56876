"""What plugins take from outside, where they are installed: answers of Microsoft Graph, and commands to the doors."""

import asyncio
import contextlib
import json
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import cache
from typing import Any
from zoneinfo import ZoneInfo

from facesvc.errors import FacesvcError

NOW = datetime(2026, 1, 2, 9, 30, tzinfo=UTC)
_TIME = {"dateTime": "2026-01-02T09:00:00.0000000", "timeZone": "Pacific Standard Time"}
_CLOCKS = {"time": "02:00:00", "dayOccurrence": 5, "dayOfWeek": "sunday", "month": 3, "daylightBias": -60}
_SCHEDULE = {
    "scheduleId": "a@b",
    "availabilityView": "0011223344",
    "scheduleItems": [{"status": "busy", "start": _TIME, "end": _TIME, "subject": "s", "sensitivity": "normal"}],
    "workingHours": {
        "daysOfWeek": ["monday"], "startTime": "08:00:00.0000000", "endTime": "17:00:00",
        "timeZone": {"name": "x", "bias": 480, "standardOffset": _CLOCKS, "daylightOffset": _CLOCKS},
    },
}  # fmt: skip
_PRESENCE = {
    "id": "0",
    "availability": "Busy",
    "activity": "InAMeeting",
    "outOfOfficeSettings": {"isOutOfOffice": True},
    "statusMessage": {"message": {"content": "<b>a</b>", "contentType": "html"}, "expiryDateTime": _TIME},
}


def run_graph(data: bytes) -> None:
    """An answer of Graph: the first two bytes are its status, the first line its Retry-After, the rest its body."""
    from facesvc_graph import calendar, client, facts, records, replies
    from facesvc_graph.auth import roles_of

    status, (wait, _, body) = 100 + int.from_bytes(data[:2], "big") % 500, data[2:].partition(b"\n")
    content = replies.parsed(body, "application/json")
    part = replies.Part("GET", "/", replies.Workload.OUTLOOK, "User.Read.All")
    headers = {"Retry-After": wait.decode("latin-1")}
    reply = replies.reply_of(part, status, headers, content, NOW)
    assert len(str(reply.error)) < 1000
    for answer in client._answers(content, 3):
        if answer is not None:
            replies.reply_of(part, answer.status, answer.headers, answer.content, NOW)
    roles_of("." + body.decode("latin-1"))
    with contextlib.suppress(FacesvcError):
        reply.picture()
    value = replies.Reply(content).value()
    for presence in records.presences_of(value).values() if isinstance(value.get("value"), list) else ():
        facts._presence_values(presence, NOW)
        facts._lines(presence, None, ZoneInfo("UTC"), NOW)
    for one in calendar._matched(records.list_of(value), ["a@b"], NOW):
        if isinstance(one, records.Calendar):
            json.dumps(facts._calendar_values(one, NOW))
            facts._lines(None, one, ZoneInfo("Europe/Berlin"), NOW)
    records.slots_of(records.list_of(value), subjects=True)
    records.profile_of(value)


def graph_answers() -> Sequence[bytes]:
    """A schedule and a presence, a batch, a user, an error, and a token's claims."""
    errors = {"error": {"code": "x", "innerError": {"request-id": "1"}}}
    batch = {"responses": [{"id": "1", "status": 429, "headers": {"Retry-After": "7"}, "body": errors}]}
    bodies: list[Any] = [{"value": [_SCHEDULE, _PRESENCE]}, batch, {"id": "0", "displayName": "A"}, errors]
    return [
        *(b"\0\x64" + b"7\n" + json.dumps(body).encode() for body in bodies),
        b"\1\x49" + b"Fri, 02 Jan 2026 09:31:00 GMT\n" + json.dumps(errors).encode(),
    ]


@cache
def _doors() -> Any:
    from door_making import ANA, AwayNotes, Hourglass, people, settings
    from facesvc_door import DoorPlugin

    from facesvc.delivery.kit import MemoryBox

    loop = asyncio.new_event_loop()
    box = MemoryBox(name="door", people=dict(people(ANA)))
    box.memory = AwayNotes(box.clock)
    plugin = DoorPlugin(settings(), box, Hourglass())
    loop.run_until_complete(plugin.start())
    return loop, plugin


def run_door(data: bytes) -> None:
    """A command with arguments: a line each, the first is the command."""
    loop, plugin = _doors()
    command, *lines = data.decode("utf-8", "replace").split("\n")
    if command == "open":
        command = "status"  # it would wait for the door to close
    arguments = dict(line.partition("=")[::2] for line in lines)
    answer = loop.run_until_complete(plugin.call(command, arguments))
    json.dumps(answer, allow_nan=False)


def door_commands() -> Sequence[bytes]:
    """Each command with what it takes."""
    from facesvc_door.commands import HELP

    everything = "door=front\nby=ana\nreason=r\nlimit=5\nevent_id=e\nsubject_id=ana\ncollection_id=default"
    least = ["lockdown\nreason=r\nby=x", "release\nby=x\nreason=r", "duress\ndoor=front", "alarms\nlimit=7",
             "result\nevent_id=e", "leave\nsubject_id=ana\nby=x", "test\ndoor=front"]  # fmt: skip
    return [f"{name}\n{everything}".encode() for name in HELP] + [one.encode() for one in least]
