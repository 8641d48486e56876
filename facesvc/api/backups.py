"""Backups, as administrators ask for them."""

import asyncio

from facesvc.api import convert
from facesvc.api.audit import Note, noted
from facesvc.api.service import Service
from facesvc.backup import Backup, Backups
from facesvc.errors import PreconditionError
from facesvc.v1 import admin_pb2


async def create(service: Service, actor: str) -> admin_pb2.CreateBackupResponse:
    """Make one, while everything goes on. Who cancels the call does not stop it."""
    backups = _backups(service)
    made = await noted(
        service,
        actor,
        lambda: backups.create(service.now()),
        lambda made: [Note("CreateBackup", detail=f"backup {made.name}")],
    )
    return admin_pb2.CreateBackupResponse(backup=_message(made))


async def list_backups(service: Service, request: admin_pb2.ListBackupsRequest) -> admin_pb2.ListBackupsResponse:
    """All that are in the folder, oldest first."""
    shelf = _backups(service).shelf
    names = await asyncio.to_thread(shelf.names)
    found = [await asyncio.to_thread(shelf.describe, name, verify=request.verify) for name in names]
    return admin_pb2.ListBackupsResponse(backups=[_message(backup) for backup in found])


def _backups(service: Service) -> Backups:
    if service.backups is None:
        message = "the settings name no folder for backups: set backup.folder, best on another disk"
        raise PreconditionError(message, reason="BACKUP_UNCONFIGURED")
    return service.backups


def _message(backup: Backup) -> admin_pb2.Backup:
    return admin_pb2.Backup(
        name=backup.name,
        create_time=convert.timestamp(backup.create_time),
        subject_count=backup.subject_count,
        size_bytes=backup.size_bytes,
        new_bytes=backup.new_bytes,
        problem=backup.problem,
    )
