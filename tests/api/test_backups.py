"""Backups and the exchange of the master key, over the wire."""

import asyncio
from pathlib import Path

import grpc
import pytest
from api.conftest import Start
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from facesvc.api import keys, upkeep
from facesvc.client import AsyncClient, CallError
from facesvc.config import Settings
from facesvc.gallery import rotation
from facesvc.v1 import admin_pb2, enrollment_pb2


@pytest.fixture
def settings(settings: Settings, tmp_path: Path) -> Settings:
    backup = settings.backup.model_copy(update={"folder": tmp_path / "backups", "keep": 2})
    return settings.model_copy(update={"backup": backup})


async def make_known(client: AsyncClient, *subject_ids: str) -> None:
    for subject_id in subject_ids:
        await client.create_subject(enrollment_pb2.Subject(subject_id=subject_id, display_name=subject_id))


async def actions(client: AsyncClient) -> list[tuple[str, str]]:
    return [(entry.action, entry.detail) async for entry in client.list_audit()]


async def test_a_backup_is_made_listed_and_read_whole(start: Start) -> None:
    running = await start()
    client = running.client
    await make_known(client, "ada", "bob")
    made = await client.create_backup()
    assert (made.subject_count, made.problem) == (2, "")
    assert made.HasField("create_time")
    assert 0 < made.new_bytes < made.size_bytes
    assert await client.list_backups() == [made]
    assert await client.list_backups(verify=True) == [made]
    assert ("CreateBackup", f"backup {made.name}") in await actions(client)
    later = [await client.create_backup() for _ in range(2)]
    assert [backup.name for backup in await client.list_backups()] == [backup.name for backup in later]


async def test_an_erasure_says_which_backups_it_reached(start: Start, tmp_path: Path) -> None:
    running = await start()
    client = running.client
    await make_known(client, "ada", "bob")
    first, second = [await client.create_backup() for _ in range(2)]
    (tmp_path / "backups" / "manifests" / f"{first.name}.manifest").write_bytes(b"")
    receipt = await client.erase_subject("ada")
    assert receipt.backup_names == [second.name]
    [unreached] = receipt.unreached_backups
    assert unreached.startswith(f"{first.name}: backup {first.name} cannot be restored: its manifest is none")
    damaged, whole = await client.list_backups()
    assert "its manifest is none" in damaged.problem
    assert (whole.subject_count, whole.problem) == (1, "")


async def test_without_a_folder_nothing_is_backed_up(start: Start, settings: Settings) -> None:
    running = await start(settings.model_copy(update={"backup": settings.backup.model_copy(update={"folder": None})}))
    for call in (running.client.create_backup, running.client.list_backups):
        with pytest.raises(CallError, match=r"set backup\.folder, best on another disk") as refused:
            await call()
        assert refused.value.reason == "BACKUP_UNCONFIGURED"
    await make_known(running.client, "ada")
    assert list((await running.client.erase_subject("ada")).backup_names) == []


async def test_a_folder_that_is_gone_is_said(start: Start, tmp_path: Path) -> None:
    running = await start()
    (tmp_path / "backups").rename(tmp_path / "away")
    (tmp_path / "backups").touch()
    with pytest.raises(CallError, match="the server's backup folder cannot be used: check that it is there") as refused:
        await running.client.create_backup()
    assert refused.value.reason == "BACKUP_FOLDER_UNUSABLE"


async def test_the_key_is_exchanged_while_people_come_and_go(
    start: Start, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rotation, "_BATCH", 3)
    running = await start()
    client = running.client
    await make_known(client, *(f"p{number}" for number in range(10)))
    made = await client.create_backup()
    old = settings.gallery.key_path.read_bytes()
    count, _ = await asyncio.gather(client.rotate_key(), make_known(client, *(f"q{number}" for number in range(10))))
    assert count >= 11  # and the key of nobody
    assert settings.gallery.key_path.read_bytes() != old
    assert len([subject async for subject in client.list_subjects()]) == 20
    assert (await client.list_backups(verify=True)) == [made]
    assert ("RotateKey", f"{count} keys are under a new master key") in await actions(client)
    assert (await client.create_backup()).subject_count == 20
    assert (await client.erase_subject("p1")).backup_names[0] == made.name


async def test_an_exchange_that_was_interrupted_goes_on_after_a_start(
    start: Start, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rotation, "_BATCH", 3)
    running = await start()
    await make_known(running.client, *(f"p{number}" for number in range(10)))
    old = settings.gallery.key_path.read_bytes()
    service = running.service
    service.rotation.begin(service.now())
    assert service.rotation.step(service.now()) == 3
    await running.server.stop()
    service.gallery.close()

    again = await start()
    assert again.service.rotation.is_pending
    assert settings.gallery.key_path.read_bytes() == old
    assert len([subject async for subject in again.client.list_subjects()]) == 10
    await upkeep.once(again.service, again.service.now())
    assert not again.service.rotation.is_pending
    assert settings.gallery.key_path.read_bytes() != old
    assert (await actions(again.client))[-1] == ("RotateKey", "8 keys are under a new master key")
    await keys.resume(again.service, again.service.now())
    assert [action for action, _ in await actions(again.client)].count("RotateKey") == 1


async def test_a_key_that_is_not_ours_is_not_exchanged(
    start: Start, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FACESVC_TEST_KEY", "0" * 64)
    gallery = settings.gallery.model_copy(update={"key": "env:FACESVC_TEST_KEY"})
    running = await start(settings.model_copy(update={"gallery": gallery}))
    async with running.channel() as channel:
        from facesvc.v1 import admin_pb2_grpc

        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await admin_pb2_grpc.AdminServiceStub(channel).RotateKey(admin_pb2.RotateKeyRequest())
    status = rpc_status.from_call(refused.value)
    info = error_details_pb2.ErrorInfo()
    assert status is not None
    assert status.details[0].Unpack(info)
    assert (refused.value.code(), info.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "KEY_NOT_OURS")
    assert "set gallery.key to the new one and gallery.previous_key to the one before" in status.message
    assert not settings.gallery.key_path.exists()
