"""Who did what with people's data: the log of it is written here, listed and verified.

Whatever changes, exports or erases people's data goes through ``noted``, or calls ``service.audit.note`` right after
it, so that nobody who cancels the call comes between the two. A change that could not be written into the log stands,
and its caller is told that the call failed.
"""

import asyncio
from collections.abc import Callable, Iterable
from datetime import datetime, timedelta
from typing import Any, NamedTuple, TypeVar
from urllib.parse import unquote

import grpc

from facesvc.api import access, convert, paging
from facesvc.api.service import Service
from facesvc.errors import InputError
from facesvc.events.audit import Asked
from facesvc.events.chain import AuditEntry
from facesvc.gallery.records import check_id, check_text
from facesvc.v1 import admin_pb2

R = TypeVar("R")

ITSELF = "facesvc"
"""The actor where the server does something that nobody asked for at that moment."""
_MAX_ACTION = 64


class Note(NamedTuple):
    """What is written: the name of the call, whom it was about, and more in words, which never hold a name."""

    action: str
    collection_id: str = ""
    subject_id: str = ""
    detail: str = ""


def actor_of(context: "grpc.aio.ServicerContext[Any, Any]") -> str:
    """Who calls, and where the call comes from."""
    return f"{access.principal().name} at {unquote(context.peer())}"


def asker_of(context: "grpc.aio.ServicerContext[Any, Any]") -> str:
    """Who asks, and from where; not from which port, so that who connects anew is no other."""
    return f"{access.principal().name} at {unquote(access.address_of(context.peer()))}"


async def noted(service: Service, actor: str, change: Callable[[], R], notes: Callable[[R], Iterable[Note]]) -> R:
    """The result of a change, made in a thread and written into the log there, once for each person it was about."""

    def run() -> R:
        result = change()
        for note in notes(result):
            service.audit.note(*note, actor)
        return result

    return await asyncio.to_thread(run)


async def list_entries(service: Service, request: admin_pb2.ListAuditRequest) -> admin_pb2.ListAuditResponse:
    """A page of the log. Raises ``InputError`` naming the field."""
    size, key = paging.size_of(request), paging.key_after(request, (int,))
    check_text(request.action, "action", _MAX_ACTION)
    if request.subject_id:
        check_id(request.subject_id, "subject_id")
    start = convert.time_of(request.start_time, "start_time") if request.HasField("start_time") else None
    end = convert.time_of(request.end_time, "end_time") if request.HasField("end_time") else None
    if start is not None and end is not None and end <= start:
        raise InputError("must be after start_time", field="end_time")
    asked = Asked(start, end, request.action, subject_id=request.subject_id)
    found = await asyncio.to_thread(service.audit.list_entries, asked, size + 1, int(key[0]) if key else 0)
    page = found[:size]
    return admin_pb2.ListAuditResponse(
        entries=[entry(one) for one in page],
        next_page_token=paging.token_after(request, page[-1].sequence) if len(found) > size else "",
    )


async def verify(service: Service) -> admin_pb2.VerifyAuditResponse:
    """Whether the log is as it was written."""
    verdict = await asyncio.to_thread(service.audit.verify)
    return admin_pb2.VerifyAuditResponse(
        entry_count=verdict.entry_count,
        broken_sequence=verdict.broken_sequence,
        message=verdict.message,
        last_hash=verdict.last_hash,
    )


async def forget_old(service: Service, now: datetime) -> None:
    """Drop what is past its retention, some at a time, so that nobody waits for long."""
    before = now - timedelta(days=service.settings.audit.retention_days)
    while await asyncio.to_thread(service.audit.forget_before, before):
        pass


def entry(record: AuditEntry) -> admin_pb2.AuditEntry:
    """An entry as a message."""
    return admin_pb2.AuditEntry(
        sequence=record.sequence,
        time=convert.timestamp(record.time),
        actor=record.actor,
        action=record.action,
        collection_id=record.collection_id,
        subject_id=record.subject_id,
        detail=record.detail,
        hash=record.hash,
    )
