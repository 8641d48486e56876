"""People come, change and go; every picture gets its verdict."""

import asyncio
import io
from collections.abc import AsyncIterator

import cv2
import grpc
import numpy as np
import PIL.Image
import pytest
import pytest_asyncio
import skimage.data
from api.conftest import Running, Start, with_limits
from api.pictures import encoded, grey
from api.test_recognition import enrol
from google.protobuf import field_mask_pb2

from facesvc.client import CallError
from facesvc.config import Settings
from facesvc.v1 import common_pb2, enrollment_pb2, enrollment_pb2_grpc

Stub = enrollment_pb2_grpc.EnrollmentServiceStub


@pytest_asyncio.fixture
async def running(start: Start) -> Running:
    return await start()


@pytest_asyncio.fixture
async def stub(running: Running) -> AsyncIterator["Stub"]:
    async with running.channel() as channel:
        yield enrollment_pb2_grpc.EnrollmentServiceStub(channel)


def pixels(data: bytes) -> np.ndarray:  # type: ignore[type-arg]
    return np.asarray(PIL.Image.open(io.BytesIO(data)).convert("RGB"))


def blurred(data: bytes, sigma: float) -> bytes:
    return encoded(cv2.GaussianBlur(pixels(data), (0, 0), sigma), "PNG")


def smaller(data: bytes, share: float) -> bytes:
    return encoded(cv2.resize(pixels(data), None, fx=share, fy=share, interpolation=cv2.INTER_AREA), "PNG")


async def test_each_picture_gets_its_verdict(running: Running, guest_png: bytes, group_jpeg: bytes) -> None:
    verdicts = await enrol(
        running,
        "tom",
        guest_png,
        guest_png,
        grey(),
        group_jpeg,
        smaller(guest_png, 0.5),
        blurred(guest_png, 3),
        b"no picture",
        encoded(pixels(guest_png)[:, ::-1], "PNG"),
    )
    assert verdicts == [
        "ENROLLED",
        "DUPLICATE_IMAGE",
        "FACE_NOT_FOUND",
        "MULTIPLE_FACES",
        "FACE_TOO_SMALL",
        "LOW_QUALITY",
        "UNDECODABLE",
        "ENROLLED",
    ]


async def test_somebody_elses_face_is_a_conflict_unless_allowed(running: Running, stub: Stub, guest_png: bytes) -> None:
    await enrol(running, "tom", guest_png)
    assert await enrol(running, "impostor", blurred(guest_png, 0.5)) == ["IDENTITY_CONFLICT"]
    image = common_pb2.Image(data=blurred(guest_png, 0.6))
    call = stub.EnrollSamples()
    await call.write(enrollment_pb2.EnrollSamplesRequest(subject_id="impostor", image=image))
    answer = await call.read()
    assert answer.conflict.subject_id == "tom"
    assert answer.conflict.similarity > 0.9
    await call.write(enrollment_pb2.EnrollSamplesRequest(subject_id="impostor", image=image, allow_conflict=True))
    assert (await call.read()).verdict == enrollment_pb2.ENROLLMENT_VERDICT_ENROLLED
    await call.done_writing()


async def test_an_unknown_person_is_an_error_of_that_picture_only(
    running: Running, stub: Stub, guest_png: bytes
) -> None:
    await enrol(running, "tom")
    call = stub.EnrollSamples()
    image = common_pb2.Image(data=guest_png)
    await call.write(enrollment_pb2.EnrollSamplesRequest(subject_id="nobody", image=image))
    answer = await call.read()
    assert (answer.error.reason, answer.verdict) == ("NOT_FOUND", 0)
    await call.write(enrollment_pb2.EnrollSamplesRequest(subject_id="tom", image=image, source="a\nb"))
    assert (await call.read()).error.field == "source"
    await call.write(enrollment_pb2.EnrollSamplesRequest(subject_id="tom", image=image))
    assert (await call.read()).verdict == enrollment_pb2.ENROLLMENT_VERDICT_ENROLLED
    await call.done_writing()


async def test_what_is_erased_is_found_no_more(running: Running, stub: Stub, guest_png: bytes) -> None:
    await enrol(running, "tom", guest_png)
    receipt = (await stub.EraseSubject(enrollment_pb2.EraseSubjectRequest(subject_id="tom"))).receipt
    assert (receipt.subject_id, len(receipt.sample_ids)) == ("tom", 1)
    found = await running.client.search(guest_png)
    assert found.faces[0].decision.outcome == common_pb2.OUTCOME_UNKNOWN
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stub.GetSubject(enrollment_pb2.GetSubjectRequest(subject_id="tom"))
    assert caught.value.code() == grpc.StatusCode.NOT_FOUND


async def test_a_person_can_be_changed_and_taken_out(running: Running, stub: Stub, guest_png: bytes) -> None:
    await enrol(running, "tom", guest_png)

    async def update(*paths: str, **fields: object) -> enrollment_pb2.Subject:
        subject = enrollment_pb2.Subject(subject_id="tom", **fields)  # type: ignore[arg-type]
        mask = field_mask_pb2.FieldMask(paths=paths)
        request = enrollment_pb2.UpdateSubjectRequest(subject=subject, update_mask=mask)
        return (await stub.UpdateSubject(request)).subject

    changed = await update("display_name", "metadata", display_name="T. H.", metadata={"role": "guest"})
    assert (changed.display_name, changed.metadata["role"], changed.sample_count) == ("T. H.", "guest", 1)
    assert (await update("disabled", disabled=True)).disabled
    found = await running.client.search(guest_png)
    assert found.faces[0].decision.outcome == common_pb2.OUTCOME_UNKNOWN
    await update("disabled")
    found = await running.client.search(guest_png)
    assert found.faces[0].decision.subject.display_name == "T. H."
    for paths in ((), ("enabled",), ("subject_id",), ("nonsense",)):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await update(*paths)
        assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT


async def test_the_same_request_creates_once(stub: Stub) -> None:
    request = enrollment_pb2.CreateSubjectRequest(subject=enrollment_pb2.Subject(display_name="Jane"), request_id="r1")
    first = (await stub.CreateSubject(request)).subject
    again = (await stub.CreateSubject(request)).subject
    assert first == again
    taken = enrollment_pb2.CreateSubjectRequest(subject=enrollment_pb2.Subject(subject_id=first.subject_id))
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stub.CreateSubject(taken)
    assert caught.value.code() == grpc.StatusCode.ALREADY_EXISTS


async def test_people_come_in_pages(stub: Stub) -> None:
    for number in range(5):
        subject = enrollment_pb2.Subject(subject_id=f"s{number}", collection_id="office")
        await stub.CreateSubject(enrollment_pb2.CreateSubjectRequest(subject=subject))
    seen, token = [], ""
    while True:
        request = enrollment_pb2.ListSubjectsRequest(collection_id="office", page_size=2, page_token=token)
        page = await stub.ListSubjects(request)
        assert page.total_size == 5
        seen += [subject.subject_id for subject in page.subjects]
        token = page.next_page_token
        if not token:
            break
    assert seen == [f"s{number}" for number in range(5)]
    for request in (
        enrollment_pb2.ListSubjectsRequest(page_size=201),
        enrollment_pb2.ListSubjectsRequest(page_size=-1),
        enrollment_pb2.ListSubjectsRequest(page_token="no token"),
    ):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stub.ListSubjects(request)
        assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT


async def test_samples_are_listed_and_forgotten_one_by_one(running: Running, stub: Stub, guest_png: bytes) -> None:
    await enrol(running, "tom", guest_png)
    (sample,) = (await stub.ListSamples(enrollment_pb2.ListSamplesRequest(subject_id="tom"))).samples
    assert 0 < sample.quality <= 1
    await stub.DeleteSample(enrollment_pb2.DeleteSampleRequest(subject_id="tom", sample_id=sample.sample_id))
    assert not (await stub.ListSamples(enrollment_pb2.ListSamplesRequest(subject_id="tom"))).samples
    found = await running.client.search(guest_png)
    assert found.faces[0].decision.outcome == common_pb2.OUTCOME_UNKNOWN


@pytest.mark.parametrize(
    ("subject", "field"),
    [
        (enrollment_pb2.Subject(subject_id="../etc"), "subject.subject_id"),
        (enrollment_pb2.Subject(subject_id="a", collection_id="b c"), "subject.collection_id"),
        (enrollment_pb2.Subject(subject_id="a", display_name="x\x07"), "subject.display_name"),
        (enrollment_pb2.Subject(subject_id="a", external_ids={"Bad Key": "1"}), "subject.external_ids"),
    ],
)
async def test_a_bad_person_names_the_field(running: Running, subject: enrollment_pb2.Subject, field: str) -> None:
    async with running.channel() as channel:
        stub = enrollment_pb2_grpc.EnrollmentServiceStub(channel)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stub.CreateSubject(enrollment_pb2.CreateSubjectRequest(subject=subject))
    assert CallError(caught.value, "here").field == field


async def test_a_template_is_nearer_to_other_views_than_a_single_look(running: Running, guest_png: bytes) -> None:
    await enrol(running, "tom", guest_png)
    views = [blurred(guest_png, 1.2), encoded(pixels(guest_png)[:, ::-1], "PNG"), smaller(guest_png, 0.8)]
    plain = np.array((await running.client.embed(guest_png)).faces[0].embedding)
    gains = []
    for view in views:
        vector = np.array((await running.client.embed(view)).faces[0].embedding)
        (found,) = (await running.client.search(view)).faces
        gains.append(found.decision.candidates[0].similarity - float(vector @ plain))
    assert np.mean(gains) > 0


async def test_equal_requests_at_once_create_one_person(stub: Stub) -> None:
    request = enrollment_pb2.CreateSubjectRequest(subject=enrollment_pb2.Subject(), request_id="order 17/a {x}")
    answers = await asyncio.gather(*(stub.CreateSubject(request) for _ in range(6)))
    assert len({answer.subject.subject_id for answer in answers}) == 1


async def test_expired_consent_is_an_error_of_that_picture_only(running: Running, stub: Stub, guest_png: bytes) -> None:
    consent = enrollment_pb2.Consent(purpose="test")
    consent.given_time.FromJsonString("2020-01-01T00:00:00Z")
    consent.expire_time.FromJsonString("2020-02-01T00:00:00Z")
    await enrol(running, "gone", consent=consent)
    await enrol(running, "here")
    call = stub.EnrollSamples()
    image = common_pb2.Image(data=guest_png)
    await call.write(enrollment_pb2.EnrollSamplesRequest(subject_id="gone", image=image))
    assert (await call.read()).error.reason == "CONSENT_EXPIRED"
    await call.write(enrollment_pb2.EnrollSamplesRequest(subject_id="here", image=image))
    assert (await call.read()).verdict == enrollment_pb2.ENROLLMENT_VERDICT_ENROLLED
    await call.done_writing()


@pytest.mark.parametrize("name", ["x" * 6000, "ü" * 3000])
async def test_a_huge_id_gets_a_readable_error(stub: Stub, name: str) -> None:
    mask = field_mask_pb2.FieldMask(paths=[name])
    calls = [
        stub.GetSubject(enrollment_pb2.GetSubjectRequest(subject_id=name)),
        stub.GetSubject(enrollment_pb2.GetSubjectRequest(subject_id="a", collection_id=name)),
        stub.ListSubjects(enrollment_pb2.ListSubjectsRequest(collection_id=name)),
        stub.DeleteSample(enrollment_pb2.DeleteSampleRequest(subject_id="a", sample_id=name)),
        stub.UpdateSubject(
            enrollment_pb2.UpdateSubjectRequest(subject=enrollment_pb2.Subject(subject_id="a"), update_mask=mask)
        ),
    ]
    for call in calls:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call
        assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT


async def test_an_enrolment_that_falls_silent_is_closed(start: Start, settings: Settings) -> None:
    running = await start(with_limits(settings, enrollment_idle_timeout_seconds=0.05))
    async with running.channel() as channel:
        call = enrollment_pb2_grpc.EnrollmentServiceStub(channel).EnrollSamples()
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call.read()
    assert CallError(caught.value, "here").reason == "ENROLLMENT_IDLE"


async def test_stopping_ends_an_enrolment_that_waits(running: Running, stub: Stub) -> None:
    call = stub.EnrollSamples()
    await call.write(enrollment_pb2.EnrollSamplesRequest(subject_id="nobody"))
    await call.read()
    stopping = asyncio.create_task(running.server.stop())
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call.read()
    assert CallError(caught.value, "here").reason == "SERVER_STOPPING"
    await stopping


async def test_a_sample_that_is_hardly_like_the_others_is_told_of(start: Start, guest_png: bytes) -> None:
    running = await start()
    await running.client.create_subject(enrollment_pb2.Subject(subject_id="tom"))
    _, astronaut = cv2.imencode(".png", skimage.data.astronaut()[:, :, ::-1])
    answers = [
        answer
        async for answer in running.client.enroll(
            enrollment_pb2.EnrollSamplesRequest(subject_id="tom", image=common_pb2.Image(data=data))
            for data in (guest_png, astronaut.tobytes())
        )
    ]
    assert [answer.verdict for answer in answers] == [enrollment_pb2.ENROLLMENT_VERDICT_ENROLLED] * 2
    assert answers[0].message == "enrolled"
    assert "hardly like the other 1 of this person" in answers[1].message
    assert f"facesvc subjects split tom {answers[1].sample.sample_id}" in answers[1].message
