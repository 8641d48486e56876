"""A token that is limited to cameras or galleries opens no others."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
import pytest_asyncio
from api.guarded import Guarded, guarding, refusal
from api.pictures import grey

from facesvc.client import frame, opening
from facesvc.config import Settings
from facesvc.security.principals import Scope
from facesvc.security.roles import Role
from facesvc.v1 import admin_pb2, enrollment_pb2, enrollment_pb2_grpc


@pytest_asyncio.fixture
async def guarded(settings: Settings, tmp_path: Path) -> AsyncIterator[Guarded]:
    async with guarding(settings, tmp_path / "guarded") as guarded:
        yield guarded


DENIED = grpc.StatusCode.PERMISSION_DENIED


def scope(*, cameras: Iterator[str] | tuple[str, ...] = (), galleries: tuple[str, ...] = ()) -> Scope:
    return Scope(camera_ids=frozenset(cameras), collection_ids=frozenset(galleries))


async def frames() -> AsyncIterator[Any]:
    yield frame(1, grey())


async def test_a_camera_streams_only_its_own(guarded: Guarded) -> None:
    client = guarded.client(guarded.token("gate", Role.CAMERA, scope=scope(cameras=("gate",))))
    assert [one.frame_id async for one in client.recognize(opening("gate"), frames())] == [1]
    refused = await refusal(anext(client.recognize(opening("vault"), frames())))
    assert (refused.code, refused.reason) == (DENIED, "WRONG_CAMERA")
    assert "gate" in str(refused)


async def test_a_gallery_that_is_not_the_tokens_is_refused(guarded: Guarded) -> None:
    client = guarded.client(guarded.token("desk", Role.ENROLLER, scope=scope(galleries=("lab",))))
    await client.create_subject(enrollment_pb2.Subject(subject_id="ada", collection_id="lab"))
    assert [one.subject_id async for one in client.list_subjects(collection_id="lab")] == ["ada"]
    for call in (
        client.get_subject("ada"),
        client.get_subject("ada", collection_id="office"),
        client.create_subject(enrollment_pb2.Subject(subject_id="eve")),
        client.erase_subject("ada", collection_id="office"),
        client.search(grey(), collection_id="office"),
    ):
        assert (await refusal(call)).reason == "WRONG_COLLECTION"


async def test_what_is_left_out_stands_for_its_default(guarded: Guarded) -> None:
    channel = guarded.channel(guarded.token("desk", Role.ENROLLER, scope=scope(galleries=("lab",))))
    stub = enrollment_pb2_grpc.EnrollmentServiceStub(channel)
    for call in (
        stub.CreateSubject(enrollment_pb2.CreateSubjectRequest()),
        stub.UpdateSubject(enrollment_pb2.UpdateSubjectRequest()),
    ):
        assert (await refusal(call)).reason == "WRONG_COLLECTION"


@pytest.mark.parametrize("role", [admin_pb2.ROLE_ADMIN, admin_pb2.ROLE_AUDITOR])
async def test_who_sees_the_whole_box_is_not_limited_to_a_gallery(
    guarded: Guarded, role: admin_pb2.Role.ValueType
) -> None:
    admin = guarded.client(guarded.token("admin", Role.ADMIN))
    refused = await refusal(admin.create_token(admin_pb2.Token(name="half", role=role, collection_ids=["lab"])))
    assert (refused.field, "cannot be limited to galleries" in str(refused)) == ("token.collection_ids", True)


@pytest.mark.parametrize("collection", ["", "office"])
async def test_who_is_limited_to_a_gallery_has_to_name_it(
    guarded: Guarded,
    collection: str,
) -> None:
    client = guarded.client(guarded.token("wall", Role.DASHBOARD, scope=scope(galleries=("lab",))))
    assert [one async for one in client.list_presence(collection_id="lab")] == []
    for answers in (client.list_presence(collection_id=collection), client.watch_events(collection_id=collection)):
        assert (await refusal(anext(answers))).reason == "WRONG_COLLECTION"


async def test_each_message_of_a_stream_is_looked_at(guarded: Guarded) -> None:
    async def samples() -> AsyncIterator[enrollment_pb2.EnrollSamplesRequest]:
        for gallery in ("lab", "office"):
            yield enrollment_pb2.EnrollSamplesRequest(collection_id=gallery, subject_id="ada")

    client = guarded.client(guarded.token("desk", Role.ENROLLER, scope=scope(galleries=("lab",))))
    answers = client.enroll(samples())

    async def all_of_them() -> None:
        async for _ in answers:
            pass

    assert (await refusal(all_of_them())).reason == "WRONG_COLLECTION"
