"""Erasing somebody gives a receipt that lists what is gone, and that can be checked without us."""

import json
from datetime import UTC
from typing import Any

import grpc
import pytest
from api.conftest import Start, Vision
from api.pictures import textured
from api.test_events import note, written
from api.test_recognition import enrol
from sightings import ENTRY, sighting

from facesvc.client import CallError
from facesvc.config import Settings
from facesvc.errors import DependencyError
from facesvc.events.audit import Asked
from facesvc.events.journal import Wanted
from facesvc.gallery.crypto import is_signed
from facesvc.v1 import enrollment_pb2, enrollment_pb2_grpc


@pytest.fixture
def settings(settings: Settings) -> Settings:
    """Crops are kept."""
    kept = settings.enrollment.model_copy(update={"keep_crops": True})
    return settings.model_copy(update={"enrollment": kept})


def signed(receipt: enrollment_pb2.ErasureReceipt) -> Any:
    """What the document says, if the signature is right."""
    assert is_signed(receipt.document.encode(), receipt.signature, receipt.public_key)
    return json.loads(receipt.document)


async def test_a_receipt_lists_what_is_gone(start: Start, vision: Vision) -> None:
    running = await start(vision=vision)
    await enrol(running, "jane", textured(0), textured(1))
    note(running, sighting("jane", ENTRY), sighting("joe", ENTRY))
    await written(running)
    sample_ids = [one.sample_id for one in await running.client.list_samples("jane")]

    receipt = await running.client.erase_subject("jane")

    assert (receipt.subject_id, receipt.collection_id) == ("jane", "default")
    assert (list(receipt.sample_ids), receipt.crop_count, receipt.event_count) == (sample_ids, 2, 2)
    document = signed(receipt)
    assert document["subject_id"] == "jane"
    assert (document["sample_ids"], document["crop_count"], document["event_count"]) == (sample_ids, 2, 2)
    assert document["erase_time"] == receipt.erase_time.ToDatetime(UTC).isoformat()
    assert "Jane" not in receipt.document
    assert running.service.journal.list_events(Wanted(subject_id="jane"), 10).events == []


async def test_a_receipt_is_there_for_good(start: Start) -> None:
    running = await start()
    await enrol(running, "jane")
    receipt = await running.client.erase_subject("jane")
    assert await running.client.get_erasure_receipt(receipt.receipt_id) == receipt
    await enrol(running, "jane")
    again = await running.client.erase_subject("jane")
    assert (again.public_key, again.receipt_id != receipt.receipt_id) == (receipt.public_key, True)
    assert await running.client.get_erasure_receipt(receipt.receipt_id) == receipt


async def test_an_unknown_receipt_is_not_found(start: Start) -> None:
    running = await start()
    with pytest.raises(CallError, match="there is no receipt 'x'") as refused:
        await running.client.get_erasure_receipt("x")
    assert refused.value.code is grpc.StatusCode.NOT_FOUND


async def test_backups_are_listed_in_the_signed_document(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    running = await start()
    await enrol(running, "jane")
    reached = (("monday",), ("sunday: its disk is away",))
    monkeypatch.setattr("facesvc.api.erasure._puncture", lambda *_: reached)
    receipt = await running.client.erase_subject("jane")
    assert (tuple(receipt.backup_names), tuple(receipt.unreached_backups)) == reached
    assert (signed(receipt)["backup_names"], signed(receipt)["unreached_backups"]) == (["monday"], list(reached[1]))
    assert await running.client.get_erasure_receipt(receipt.receipt_id) == receipt


async def test_while_a_box_has_not_forgotten_there_is_no_receipt(
    start: Start, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    quick = settings.store.model_copy(update={"confirm_seconds": 0.01})
    running = await start(settings.model_copy(update={"store": quick}))
    await enrol(running, "jane")
    behind = ["kitchen"]
    monkeypatch.setattr(running.service.gallery, "unconfirmed", lambda _: behind)
    with pytest.raises(CallError, match="but kitchen did not say yet that it forgot the person") as refused:
        await running.client.erase_subject("jane")
    assert (refused.value.code, refused.value.reason) == (grpc.StatusCode.UNAVAILABLE, "ERASURE_UNCONFIRMED")
    (entry,) = running.service.audit.list_entries(Asked(action="EraseSubject"), 10)
    receipt_id = entry.detail.rpartition(" ")[2]
    with pytest.raises(CallError, match="kitchen"):
        await running.client.get_erasure_receipt(receipt_id)
    behind.clear()
    assert signed(await running.client.get_erasure_receipt(receipt_id))["subject_id"] == "jane"


async def test_the_merged_lose_their_events_and_the_receipt_counts_them(start: Start) -> None:
    running = await start()
    await enrol(running, "jane")
    note(running, sighting("jane", ENTRY), sighting("joe", ENTRY))
    await written(running)
    async with running.channel() as channel:
        stub = enrollment_pb2_grpc.EnrollmentServiceStub(channel)
        request = enrollment_pb2.MergeSubjectsRequest(subject_id="jane", merged_subject_id="joe")
        receipt = (await stub.MergeSubjects(request)).receipt
    assert (receipt.subject_id, receipt.event_count, signed(receipt)["event_count"]) == ("joe", 2, 2)


@pytest.mark.parametrize(("kept", "merged"), [("jane", "jane"), ("nobody", "jane")])
async def test_a_refused_merge_forgets_nothing(start: Start, vision: Vision, kept: str, merged: str) -> None:
    running = await start(vision=vision)
    await enrol(running, "jane")
    note(running, sighting("jane", ENTRY))
    await written(running)
    before = running.service.journal.list_events(Wanted(subject_id="jane"), 10).events
    assert before
    with pytest.raises(CallError):
        await running.client.merge_subjects(kept, merged)
    assert running.service.journal.list_events(Wanted(subject_id="jane"), 10).events == before


async def test_an_erasure_that_succeeds_at_last_counts_all_events(
    start: Start, vision: Vision, monkeypatch: pytest.MonkeyPatch
) -> None:
    running = await start(vision=vision)
    await enrol(running, "jane")
    note(running, sighting("jane", ENTRY))
    await written(running)
    held = len(running.service.journal.list_events(Wanted(subject_id="jane"), 10).events)
    gallery = running.service.gallery

    def full(*_: object, **__: object) -> None:
        raise DependencyError("the disk is full", reason="DISK_FULL")

    with monkeypatch.context() as patched:
        patched.setattr(gallery, "erase_subject", full)
        with pytest.raises(CallError):
            await running.client.erase_subject("jane")
    assert (await running.client.erase_subject("jane")).event_count == held > 0
