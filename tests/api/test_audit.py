"""Whatever is done with people's data is written down, and can be listed and verified."""

import asyncio
import threading
from collections.abc import Callable
from datetime import UTC, timedelta
from types import SimpleNamespace
from typing import Any

import grpc
import pytest
from api.conftest import Running, Start, Vision
from api.pictures import textured
from api.test_recognition import enrol
from google.protobuf.timestamp_pb2 import Timestamp

from facesvc.api import access, audit
from facesvc.client import CallError
from facesvc.errors import DependencyError
from facesvc.events.audit import Asked
from facesvc.events.chain import AuditEntry
from facesvc.gallery import Subject
from facesvc.v1 import admin_pb2, admin_pb2_grpc, enrollment_pb2, enrollment_pb2_grpc, recognition_pb2
from facesvc.v1 import recognition_pb2_grpc as recognition_grpc

PICTURES = [textured(seed) for seed in range(4)]


def entries(running: Running, after: int = 0) -> list[AuditEntry]:
    return list(running.service.audit.list_entries(Asked(), 1000, after))


def done(running: Running, after: int = 0) -> list[tuple[str, str]]:
    """What was written: the call and whom it was about."""
    return [(entry.action, entry.subject_id) for entry in entries(running, after)]


async def samples_of(running: Running, subject_id: str) -> list[str]:
    return [sample.sample_id for sample in await running.client.list_samples(subject_id)]


@pytest.fixture
def vision() -> Vision:
    return Vision()


async def test_each_change_is_one_entry_for_each_person(start: Start, vision: Vision) -> None:
    running = await start(vision=vision)
    client = running.client
    assert await enrol(running, "ann", *PICTURES[:3]) == ["ENROLLED"] * 3
    assert await enrol(running, "bob") == []
    assert done(running) == [("CreateSubject", "ann"), *[("EnrollSamples", "ann")] * 3, ("CreateSubject", "bob")]
    first, second, third = await samples_of(running, "ann")
    assert [entry.detail for entry in entries(running)][1:4] == [f"sample {one}" for one in (first, second, third)]

    begun = len(done(running))
    changed = enrollment_pb2.Subject(subject_id="ann", display_name="Zebedee", metadata={"floor": "3"})
    await client.update_subject(changed, ["metadata", "display_name"])
    await client.delete_sample("ann", first)
    async with running.channel() as channel:
        enrollment = enrollment_pb2_grpc.EnrollmentServiceStub(channel)
        recognition = recognition_grpc.RecognitionServiceStub(channel)
        await recognition.CorrectMatch(
            recognition_pb2.CorrectMatchRequest(subject_id="ann", sample_id=second, actual_subject_id="bob")
        )
        await recognition.CorrectMatch(recognition_pb2.CorrectMatchRequest(subject_id="bob", sample_id=second))
        await enrollment.SplitSubject(
            enrollment_pb2.SplitSubjectRequest(subject_id="ann", sample_ids=[third], new_subject_id="cyd")
        )
        await enrollment.MergeSubjects(enrollment_pb2.MergeSubjectsRequest(subject_id="ann", merged_subject_id="cyd"))
    assert [piece async for piece in client.export_subject("ann")]
    receipt = await client.erase_subject("ann")
    assert done(running, begun) == [
        ("UpdateSubject", "ann"),
        ("DeleteSample", "ann"),
        ("CorrectMatch", "ann"),
        ("CorrectMatch", "bob"),
        ("CorrectMatch", "bob"),
        ("SplitSubject", "ann"),
        ("SplitSubject", "cyd"),
        ("MergeSubjects", "ann"),
        ("MergeSubjects", "cyd"),
        ("ExportSubject", "ann"),
        ("EraseSubject", "ann"),
    ]
    assert {entry.actor for entry in entries(running)} == {"local at unix:"}
    assert {entry.collection_id for entry in entries(running)} == {"default"}
    last = entries(running)[-1]
    assert last.detail == f"1 samples, 0 crops, 0 events, 0 notes of plugins; receipt {receipt.receipt_id}"
    assert entries(running, begun)[0].detail == "display_name, metadata"
    assert not any("Zebedee" in entry.detail for entry in entries(running))
    assert (await client.verify_audit()).broken_sequence == 0


async def test_a_change_of_models_is_an_entry(start: Start) -> None:
    running = await start()
    await running.client.load_model("default")
    (entry,) = entries(running)
    assert (entry.action, entry.detail, entry.subject_id) == ("LoadModel", "pack default", "")


async def test_a_request_that_is_repeated_is_said_to_be(start: Start) -> None:
    running = await start()
    for _ in range(2):
        await running.client.create_subject(enrollment_pb2.Subject(display_name="Ann"), request_id="once")
    assert [entry.detail for entry in entries(running)] == ["", "the request was repeated: nothing was changed"]


async def test_what_changes_nothing_is_not_written(start: Start, vision: Vision) -> None:
    running = await start(vision=vision)
    client = running.client
    await enrol(running, "ann", PICTURES[0])
    begun = len(entries(running))
    async with running.channel() as channel:
        call = enrollment_pb2_grpc.EnrollmentServiceStub(channel).EnrollSamples()
        await call.write(enrollment_pb2.EnrollSamplesRequest(subject_id="nobody"))
        assert not (await call.read()).sample.sample_id
        await call.done_writing()
    nobody = enrollment_pb2.Subject(subject_id="nobody")
    for asked in (
        lambda: client.update_subject(nobody, ["display_name"]),
        lambda: client.create_subject(enrollment_pb2.Subject(subject_id="ann")),
        lambda: client.delete_sample("ann", "01K0000000000000000000000D"),
        lambda: client.erase_subject("nobody"),
        lambda: anext(client.export_subject("nobody")),
    ):
        with pytest.raises(CallError):
            await asked()
    await client.get_subject("ann")
    await client.list_samples("ann")
    assert await enrol_again(running, PICTURES[0]) == "DUPLICATE_IMAGE"
    assert done(running, begun) == []


async def enrol_again(running: Running, picture: bytes) -> str:
    answers = running.client.enroll([enrollment_pb2.EnrollSamplesRequest(subject_id="ann", image={"data": picture})])  # type: ignore[arg-type]
    (answer,) = [answer async for answer in answers]
    return enrollment_pb2.EnrollmentVerdict.Name(answer.verdict).removeprefix("ENROLLMENT_VERDICT_")


async def test_who_cancels_a_call_stops_neither_the_change_nor_its_entry(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    running = await start()
    await enrol(running, "ann")
    erase, gate, begun = running.service.gallery.erase_subject, threading.Event(), threading.Event()

    def slowly(*arguments: Any, **named: Any) -> Any:
        begun.set()
        assert gate.wait(30)
        return erase(*arguments, **named)

    monkeypatch.setattr(running.service.gallery, "erase_subject", slowly)
    async with running.channel() as channel:
        call = enrollment_pb2_grpc.EnrollmentServiceStub(channel).EraseSubject(
            enrollment_pb2.EraseSubjectRequest(subject_id="ann")
        )
        sending = asyncio.ensure_future(call.wait_for_connection())
        await asyncio.to_thread(begun.wait, 30)
        call.cancel()
        await asyncio.gather(sending, return_exceptions=True)
        with pytest.raises(asyncio.CancelledError):
            await call
    gate.set()
    await until(lambda: done(running)[-1] == ("EraseSubject", "ann"))


async def test_who_cancels_a_change_finds_it_written(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    running = await start()
    gate, begun = threading.Event(), threading.Event()
    create = running.service.gallery.create_subject

    def slowly(subject: Subject, request_id: str) -> Subject:
        begun.set()
        assert gate.wait(30)
        return create(subject, request_id)

    monkeypatch.setattr(running.service.gallery, "create_subject", slowly)
    creating = asyncio.ensure_future(running.client.create_subject(enrollment_pb2.Subject(subject_id="ann")))
    await asyncio.to_thread(begun.wait, 30)
    creating.cancel()
    await asyncio.gather(creating, return_exceptions=True)
    gate.set()
    await until(lambda: done(running) == [("CreateSubject", "ann")])


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not condition():  # noqa: ASYNC110 - what is waited for sets no event
            await asyncio.sleep(0.001)


async def test_a_change_that_cannot_be_written_down_fails_by_name(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    running = await start()
    await enrol(running, "ann")

    def full(*_: object) -> None:
        raise DependencyError("the disk is full", reason="DISK_FULL")

    with monkeypatch.context() as patched:
        patched.setattr(running.service.audit, "note", full)
        for asked in (
            lambda: running.client.create_subject(enrollment_pb2.Subject(subject_id="bob")),
            lambda: anext(running.client.export_subject("ann")),
            lambda: running.client.erase_subject("ann"),
        ):
            with pytest.raises(CallError) as refused:
                await asked()
            assert (refused.value.code, refused.value.reason) == (grpc.StatusCode.UNAVAILABLE, "DISK_FULL")
    with pytest.raises(CallError, match="has no subject"):
        await running.client.get_subject("ann")  # what was changed stands
    (receipt_id,) = await asyncio.to_thread(receipts, running)
    assert (await running.client.get_erasure_receipt(receipt_id)).subject_id == "ann"


def receipts(running: Running) -> list[str]:
    store = running.service.gallery._store
    return [row[0] for row in store._database.select("SELECT receipt_id FROM receipts")]


async def test_the_log_is_listed_page_by_page_and_filtered(start: Start) -> None:
    running = await start()
    for number in range(5):
        await enrol(running, f"p{number}")
    await running.client.erase_subject("p3")
    client = running.client
    everything = [entry async for entry in client.list_audit(page_size=2)]
    assert [entry.sequence for entry in everything] == [1, 2, 3, 4, 5, 6]
    assert len(everything[0].hash) == 32
    of_one = [entry.action async for entry in client.list_audit(subject_id="p3", page_size=1)]
    assert of_one == ["CreateSubject", "EraseSubject"]
    assert [entry.subject_id async for entry in client.list_audit(action="EraseSubject")] == ["p3"]
    third = everything[2].time.ToDatetime(UTC)
    assert [entry.sequence async for entry in client.list_audit(start_time=third)] == [3, 4, 5, 6]
    assert [entry.sequence async for entry in client.list_audit(end_time=third)] == [1, 2]
    assert [entry async for entry in client.list_audit(start_time=third + timedelta(days=1))] == []


@pytest.mark.parametrize(
    ("request_", "words"),
    [
        (admin_pb2.ListAuditRequest(page_size=1001), "must be 0 to 1000"),
        (admin_pb2.ListAuditRequest(page_token="x"), "not a token of this list"),
        (admin_pb2.ListAuditRequest(subject_id="a b"), "subject_id"),
        (admin_pb2.ListAuditRequest(action="x" * 65), "action has 65 characters"),
        (admin_pb2.ListAuditRequest(action="\0"), "control character"),
        (admin_pb2.ListAuditRequest(start_time=Timestamp(seconds=2**62)), "not a time"),
        (admin_pb2.ListAuditRequest(start_time=Timestamp(seconds=9), end_time=Timestamp(seconds=9)), "must be after"),
    ],
)
async def test_what_makes_no_sense_is_refused(start: Start, request_: admin_pb2.ListAuditRequest, words: str) -> None:
    running = await start()
    async with running.channel() as channel:
        with pytest.raises(grpc.aio.AioRpcError, match=words) as refused:
            await admin_pb2_grpc.AdminServiceStub(channel).ListAudit(request_)
    assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT


async def test_tampering_is_told(start: Start) -> None:
    running = await start()
    for name in ("ann", "bob", "cyd"):
        await enrol(running, name)
    good = await running.client.verify_audit()
    assert (good.entry_count, good.broken_sequence, len(good.last_hash)) == (3, 0, 32)
    database = running.service.gallery._store._database
    await asyncio.to_thread(database.execute, "UPDATE audit SET actor = 'nobody' WHERE sequence = 2")
    bad = await running.client.verify_audit()
    assert (bad.broken_sequence, "entry 2 is not as it was written" in bad.message) == (2, True)


async def test_old_entries_are_dropped_and_the_rest_verifies(start: Start) -> None:
    running = await start()
    for name in ("ann", "bob"):
        await enrol(running, name)
    days = running.service.settings.audit.retention_days
    now = running.service.now()
    await audit.forget_old(running.service, now + timedelta(days=days - 1))
    assert len(entries(running)) == 2
    await audit.forget_old(running.service, now + timedelta(days=days + 1))
    assert entries(running) == []
    await enrol(running, "cyd")
    assert (await running.client.verify_audit()).broken_sequence == 0


@pytest.mark.parametrize(
    ("peer", "actor"),
    [("ipv4:127.0.0.1:5", "local at ipv4:127.0.0.1:5"), ("ipv6:%5B::1%5D:5", "local at ipv6:[::1]:5")],
)
def test_an_actor_is_where_the_call_comes_from(peer: str, actor: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(access, "principal", lambda: access.LOCAL)
    assert audit.actor_of(SimpleNamespace(peer=lambda: peer)) == actor  # type: ignore[arg-type]  # all that is asked for
