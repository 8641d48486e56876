"""``PresenceService``: who is where, what happened, and who was there for how long."""

import os
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, date, datetime, tzinfo
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import grpc
from google.protobuf.timestamp_pb2 import Timestamp

from facesvc.api import convert, convert_events, disclosure, doors, paging, past
from facesvc.api.access import principal
from facesvc.api.audit import actor_of
from facesvc.api.service import Lobby, Service
from facesvc.errors import DependencyError, InputError
from facesvc.events.attendance import Attendance, attendances, midnight
from facesvc.events.journal import Journal, Wanted
from facesvc.events.plugin import Facts
from facesvc.events.records import Event, SeenEvent
from facesvc.gallery.records import check_id
from facesvc.security.principals import Principal
from facesvc.v1 import presence_pb2, presence_pb2_grpc

Context = grpc.aio.ServicerContext[Any, Any]
_LOCAL_TIME = Path("/etc/localtime")
_MAX_ZONE_NAME = 64


class PresenceServicer(presence_pb2_grpc.PresenceServiceServicer):
    """Who is where, and what happened."""

    def __init__(self, lobby: Lobby) -> None:
        self._lobby = lobby
        self._nonces = doors.Nonces()

    async def ListPresence(  # noqa: N802 - gRPC's name
        self, request: presence_pb2.ListPresenceRequest, context: Context
    ) -> presence_pb2.ListPresenceResponse:
        """Who is where now."""
        service = self._lobby.service
        observer, scope = service.observer, principal().scope
        size, key = paging.size_of(request), paging.key_after(request, (str, str, str))
        after = tuple(map(str, key or ()))
        _check_ids(request.collection_id, request.zone)
        found = {
            (one.subject_id, one.collection_id, one.zone): one
            for one in observer.everybody()
            if request.collection_id in {"", one.collection_id} and request.zone in {"", one.zone}
            if scope.has_camera(one.camera_id)
        }
        rest = sorted(key for key in found if key > after)
        page = rest[:size]
        known = await observer.read(partial(_facts, service, page))
        return presence_pb2.ListPresenceResponse(
            presences=[convert_events.presence(found[key], facts) for key, facts in zip(page, known, strict=True)],
            next_page_token=paging.token_after(request, *page[-1]) if len(rest) > size else "",
        )

    async def WatchEvents(  # noqa: N802 - gRPC's name
        self, request: presence_pb2.WatchEventsRequest, context: Context
    ) -> AsyncIterator[presence_pb2.WatchEventsResponse]:
        """Events as they happen."""
        service = self._lobby.service
        journal, observer, caller = service.journal, service.observer, principal()
        with service.watchers.admitted():
            token = request.resume_token
            place = await observer.read(partial(journal.place, token)) if token else journal.head
            yield presence_pb2.WatchEventsResponse(resume_token=journal.token(place))
            async for page in observer.watch(place):
                for number, event in page:
                    wanted = request.collection_id in {"", event.collection_id} and request.zone in {"", event.zone}
                    told = self._told(caller, event) if wanted else None
                    if told is not None:
                        told.resume_token = journal.token(number)
                        yield told
                if page and told is None:
                    # What is not told still moves the token, or a reader of a quiet zone would fall behind.
                    yield presence_pb2.WatchEventsResponse(resume_token=journal.token(page[-1][0]))
            self._lobby.refuse_if_stopping()

    def _told(self, caller: Principal, event: Event) -> presence_pb2.WatchEventsResponse | None:
        """An event as the caller is told of it; None where they are not."""
        service = self._lobby.service
        valid_for = service.observer.valid_for(event)
        message = convert_events.event(event, valid_for)
        if not disclosure.event(caller, message):
            return None
        answer = presence_pb2.WatchEventsResponse(event=message)
        if valid_for and isinstance(event, SeenEvent) and doors.wants_nonces(caller):
            answer.nonce = self._nonces.give(caller.who, event, service.clock())
        return answer

    async def ListEvents(  # noqa: N802 - gRPC's name
        self, request: presence_pb2.ListEventsRequest, context: Context
    ) -> presence_pb2.ListEventsResponse:
        """Events of the past."""
        service, caller = self._lobby.service, principal()
        events, token = await past.listed(service, request, _wanted(request, request.collection_id), caller)
        messages = [convert_events.event(one, service.observer.valid_for(one)) for one in events]
        return presence_pb2.ListEventsResponse(
            events=[one for one in messages if disclosure.event(caller, one)],
            next_page_token=token,
        )

    async def ListAttendance(  # noqa: N802 - gRPC's name
        self, request: presence_pb2.ListAttendanceRequest, context: Context
    ) -> presence_pb2.ListAttendanceResponse:
        """Who was there for how long."""
        service = self._lobby.service
        size, key = paging.size_of(request), paging.key_after(request, (str, str))
        zone = _time_zone(request.time_zone)
        after = (_day_of(str(key[0]), zone), str(key[1])) if key else None
        wanted = _wanted(request, request.collection_id or convert.DEFAULT_COLLECTION)
        read = partial(_attendances, service.journal, wanted, principal(), zone, service.now(), after, size + 1)
        found = await service.observer.read(read)
        page = found[:size]
        return presence_pb2.ListAttendanceResponse(
            attendances=[convert_events.attendance(one) for one in page],
            next_page_token=paging.token_after(request, page[-1].day.isoformat(), page[-1].subject_id)
            if len(found) > size
            else "",
        )

    async def AcknowledgeDecision(  # noqa: N802 - gRPC's name
        self, request: presence_pb2.AcknowledgeDecisionRequest, context: Context
    ) -> presence_pb2.AcknowledgeDecisionResponse:
        """What a door did upon a decision."""
        await doors.acknowledge(self._lobby.service, self._nonces, request, principal(), actor_of(context))
        return presence_pb2.AcknowledgeDecisionResponse()


def _facts(service: Service, page: Sequence[tuple[str, str, str]]) -> list[Mapping[str, Facts]]:
    """In a thread: what plugins know of each; nothing while the database is away, for who is where is known without."""
    now = service.now()
    try:
        return [service.plugins.facts((collection_id, subject_id), now) for subject_id, collection_id, _ in page]
    except DependencyError:
        return [{}] * len(page)


def _attendances(
    journal: Journal,
    wanted: Wanted,
    caller: Principal,
    zone: tzinfo,
    now: datetime,
    after: tuple[date, str] | None,
    limit: int,
) -> list[Attendance]:
    """In a thread: the first days and people that come ``after`` these, by what cameras of the caller's saw last."""
    start = wanted.start
    if after is not None:
        begin = midnight(after[0], zone)
        start = begin if start is None else max(start, begin)
    stays = (one for one in journal.stays(replace(wanted, start=start)) if caller.scope.has_camera(one.camera_id))
    found = attendances(stays, zone, now, start, wanted.end)
    return list(islice((one for one in found if after is None or (one.day, one.subject_id) > after), limit))


def _wanted(request: presence_pb2.ListEventsRequest | presence_pb2.ListAttendanceRequest, collection_id: str) -> Wanted:
    """The filters of a request. Raises ``InputError`` naming the field."""
    _check_ids(collection_id, request.zone, request.subject_id)
    start = _time(request.start_time, "start_time") if request.HasField("start_time") else None
    end = _time(request.end_time, "end_time") if request.HasField("end_time") else None
    if start is not None and end is not None and end <= start:
        raise InputError("must be after start_time", field="end_time")
    return Wanted(start, end, collection_id, request.zone, request.subject_id)


def _check_ids(collection_id: str, zone: str, subject_id: str = "") -> None:
    for name, value in (("collection_id", collection_id), ("zone", zone), ("subject_id", subject_id)):
        if value:
            check_id(value, name)


def _time(message: Timestamp, field: str) -> datetime:
    return convert.time_of(message, field)


def _day_of(text: str, zone: tzinfo) -> date:
    """The day in a token, one that has a midnight. Raises ``InputError``."""
    try:
        day = date.fromisoformat(text)
        midnight(day, zone)
        return day
    except (ValueError, OverflowError):
        raise InputError("this is not a token of this list: start again without it", field="page_token") from None


def _time_zone(name: str) -> tzinfo:
    """A time zone by its name, or the server's. Raises ``InputError`` for one that nobody knows."""
    if not name:
        return _local_zone()
    try:
        if len(name) <= _MAX_ZONE_NAME:
            return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        pass
    message = f"{name[:_MAX_ZONE_NAME]!a} is no time zone that this server knows: write one such as Europe/Berlin"
    raise InputError(message, field="time_zone")


def _local_zone() -> tzinfo:
    """The server's time zone, with its changes of the clock; UTC where the system names none."""
    try:
        if name := os.environ.get("TZ", "").removeprefix(":"):
            return ZoneInfo(name)
        with _LOCAL_TIME.open("rb") as file:
            return ZoneInfo.from_file(file)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return UTC
