"""Exchanging the master key, when somebody asks for it, and when one was interrupted."""

import asyncio
from datetime import datetime

import structlog

from facesvc.api.audit import ITSELF
from facesvc.api.service import Service
from facesvc.v1 import admin_pb2

_log = structlog.get_logger(__name__)


async def rotate(service: Service, actor: str) -> admin_pb2.RotateKeyResponse:
    """A new master key, or on with an exchange that was interrupted; who cancels the call interrupts it."""
    await asyncio.to_thread(service.rotation.begin, service.now())
    return admin_pb2.RotateKeyResponse(key_count=await _go_on(service, actor))


async def resume(service: Service, now: datetime) -> None:  # noqa: ARG001 - one of the works of ``upkeep``
    """To the end with an exchange that was interrupted, or that the settings ask for."""
    if await asyncio.to_thread(lambda: service.rotation.is_pending):
        count = await _go_on(service, ITSELF)
        _log.info("the former master key is of no use any more: gallery.previous_key may be emptied", keys=count)


async def _go_on(service: Service, actor: str) -> int:
    """To the end; how many keys were wrapped anew."""
    count = 0
    while done := await asyncio.to_thread(service.rotation.step, service.now()):
        count += done
    detail = f"{count} keys are under a new master key"
    await asyncio.to_thread(service.audit.note, "RotateKey", detail=detail, actor=actor)
    return count
