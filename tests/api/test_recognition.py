"""The unary calls, over the default pack and real faces."""

import numpy as np
import pytest
from api.conftest import Running, Start
from api.pictures import grey

from facesvc.client import AsyncClient
from facesvc.v1 import common_pb2, enrollment_pb2, enrollment_pb2_grpc, recognition_pb2


async def enrol(running: Running, subject_id: str, *pictures: bytes, **fields: object) -> list[str]:
    """Create somebody, enrol pictures, and return the verdicts."""
    verdicts = []
    async with running.channel() as channel:
        stub = enrollment_pb2_grpc.EnrollmentServiceStub(channel)
        subject = enrollment_pb2.Subject(subject_id=subject_id, display_name=subject_id.title(), **fields)  # type: ignore[arg-type]
        await stub.CreateSubject(enrollment_pb2.CreateSubjectRequest(subject=subject))
        call = stub.EnrollSamples()
        for data in pictures:
            image = common_pb2.Image(data=data)
            await call.write(enrollment_pb2.EnrollSamplesRequest(subject_id=subject_id, image=image))
            answer = await call.read()
            verdicts.append(enrollment_pb2.EnrollmentVerdict.Name(answer.verdict).removeprefix("ENROLLMENT_VERDICT_"))
        await call.done_writing()
    return verdicts


async def test_detect_finds_six_faces_largest_first(start: Start, group_jpeg: bytes) -> None:
    running = await start()
    response = await running.client.detect(group_jpeg)
    assert len(response.faces) == 6
    areas = [face.box.width * face.box.height for face in response.faces]
    assert areas == sorted(areas, reverse=True)
    for face in response.faces:
        assert face.normalized_box.left * response.width == pytest.approx(face.box.left, abs=0.01)
        assert face.landmarks.left_eye.x < face.landmarks.right_eye.x
        assert face.landmarks.left_eye.y < face.landmarks.left_mouth.y
    assert not response.timings.HasField("embed")


async def test_detect_obeys_the_options(start: Start, group_jpeg: bytes) -> None:
    running = await start()
    options = recognition_pb2.DetectionOptions(max_faces=2)
    response = await running.client.detect(group_jpeg, options)
    assert (len(response.faces), response.faces_omitted) == (2, 4)
    huge = recognition_pb2.DetectionOptions(minimum_face_fraction=0.8)
    assert len((await running.client.detect(group_jpeg, huge)).faces) == 0


async def test_embed_gives_unit_vectors_under_the_contract(start: Start, group_jpeg: bytes) -> None:
    running = await start()
    response = await running.client.embed(group_jpeg)
    vectors = np.array([face.embedding for face in response.faces])
    assert vectors.shape == (6, running.service.engine.pack.dimension)
    assert np.linalg.norm(vectors, axis=1) == pytest.approx(1.0, abs=1e-5)
    assert response.embedding_contract == running.service.engine.pack.contract_id


async def test_compare_tells_the_same_from_another(start: Start, group_jpeg: bytes, guest_png: bytes) -> None:
    running = await start()
    async with running.channel() as channel:
        from facesvc.v1 import recognition_pb2_grpc

        stub = recognition_pb2_grpc.RecognitionServiceStub(channel)

        async def compare(reference: bytes, image: bytes) -> recognition_pb2.CompareResponse:
            request = recognition_pb2.CompareRequest(
                reference=common_pb2.Image(data=reference), image=common_pb2.Image(data=image)
            )
            return await stub.Compare(request)

        same = await compare(guest_png, guest_png)
        others = await compare(guest_png, group_jpeg)
        nobody = await compare(grey(), group_jpeg)
    assert same.faces[0].same_person
    assert same.faces[0].similarity == pytest.approx(1.0, abs=1e-3)
    assert same.faces[0].distance == pytest.approx(0.0, abs=0.05)
    similarities = [face.similarity for face in others.faces]
    assert similarities == sorted(similarities, reverse=True)
    assert not any(face.same_person for face in others.faces)
    for face in others.faces:
        assert face.distance == pytest.approx((2 - 2 * face.similarity) ** 0.5, abs=1e-5)
    assert not nobody.HasField("reference_face")
    assert not nobody.faces


async def test_search_names_who_is_enrolled(start: Start, group_jpeg: bytes, guest_png: bytes) -> None:
    running = await start()
    assert await enrol(running, "tom", guest_png, external_ids={"card_number": "7"}) == ["ENROLLED"]
    found = (await running.client.search(guest_png, max_candidates=5)).faces[0].decision
    assert found.outcome == common_pb2.OUTCOME_MATCH
    assert (found.subject.subject_id, found.subject.display_name) == ("tom", "Tom")
    assert found.subject.external_ids == {"card_number": "7"}
    assert found.subject.similarity >= found.threshold
    assert found.expire_time.ToDatetime() > found.decision_time.ToDatetime()
    strangers = await running.client.search(group_jpeg)
    assert {face.decision.outcome for face in strangers.faces} == {common_pb2.OUTCOME_UNKNOWN}
    elsewhere = await running.client.search(guest_png, collection_id="elsewhere")
    assert elsewhere.faces[0].decision.outcome == common_pb2.OUTCOME_UNKNOWN


async def test_decisions_have_ids_of_their_own(start: Start, group_jpeg: bytes) -> None:
    running = await start()
    response = await running.client.search(group_jpeg)
    assert len({face.decision.decision_id for face in response.faces}) == 6


async def test_the_async_client_waits_until_the_server_serves(start: Start) -> None:
    running = await start()
    async with AsyncClient(running.address) as client:
        await client.wait_until_serving(5)
