"""What the client for asyncio asks about people, answered by a real server; the plain one is asked by the commands."""

import io
import json
import zipfile
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from api.conftest import Running, Start, Vision
from api.test_encodings import imported, jane, vector, words

from facesvc.client import AsyncClient, CallError, Filters, encoding, frame, opening
from facesvc.v1 import common_pb2, enrollment_pb2, recognition_pb2


@pytest_asyncio.fixture
async def running(start: Start, vision: Vision) -> Running:
    return await start(vision=vision)


@pytest.fixture
def client(running: Running) -> AsyncClient:
    return running.client


async def ids(client: AsyncClient, subject_id: str) -> list[str]:
    return [one.sample_id for one in await client.list_samples(subject_id)]


async def test_two_entries_become_one_and_two_again(client: AsyncClient) -> None:
    answers = await imported(client, jane(), encoding("joe", vector(2), create_subject=True))
    first, second = (answer.sample_id for answer in answers)

    merged = await client.merge_subjects("jane", "joe")
    assert (merged.subject.sample_count, merged.receipt.subject_id) == (2, "joe")
    assert (await client.get_erasure_receipt(merged.receipt.receipt_id)).subject_id == "joe"
    split = await client.split_subject("jane", [second], new_subject_id="joe", display_name="Joe")
    assert (split.subject_id, split.display_name, split.sample_count) == ("joe", "Joe", 1)
    assert (await ids(client, "jane"), await ids(client, "joe")) == ([first], [second])


async def test_this_was_not_her(client: AsyncClient, vision: Vision, guest_png: bytes) -> None:
    await imported(
        client, jane(vector(1)), jane(vision.vector.tolist()), encoding("joe", vector(2), create_subject=True)
    )
    (face,) = (await client.search(guest_png)).faces
    wrong = face.decision.subject
    assert wrong.subject_id == "jane"

    await client.correct_match(
        wrong.subject_id, wrong.sample_id, actual_subject_id="joe", decision_id=face.decision.decision_id
    )
    (face,) = (await client.search(guest_png)).faces
    assert (face.decision.subject.subject_id, face.decision.subject.sample_id) == ("joe", wrong.sample_id)
    with pytest.raises(CallError, match="has no sample"):
        await client.correct_match("jane", wrong.sample_id)
    await client.correct_match("joe", wrong.sample_id)
    assert len(await ids(client, "joe")) == 1


async def test_everything_about_one_person(client: AsyncClient) -> None:
    await imported(client, jane(display_name="Jane Doe"))
    data = b"".join([piece async for piece in client.export_subject("jane")])

    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        assert "Jane Doe" in json.dumps(json.loads(archive.read("subject.json")))


async def test_what_is_doubtful(client: AsyncClient) -> None:
    await client.create_subject(enrollment_pb2.Subject(subject_id="jane"))
    findings = [finding async for finding in client.check_gallery(max_findings=5)]

    assert [(one.kind, one.subject_id) for one in findings] == [(enrollment_pb2.FINDING_KIND_NO_SAMPLE, "jane")]


async def test_what_is_no_message_is_an_error_of_who_sends_it(client: AsyncClient) -> None:
    with pytest.raises(TypeError, match="import_encodings takes what `encoding` makes, not list"):
        [answer async for answer in client.import_encodings([[0.5]])]  # type: ignore[list-item]


SITES: list[tuple[Filters, bool]] = [
    ({"site": "berlin"}, True),
    ({"site": ["paris", "berlin"]}, True),
    ({"site": ("paris",)}, False),
    ({"site": "berlin", "team": "red"}, True),
    ({"site": "berlin", "team": "blue"}, False),
    ({}, True),
]


@pytest.mark.parametrize(("filters", "is_found"), SITES)
async def test_only_those_who_are_meant_are_found(
    client: AsyncClient, vision: Vision, guest_png: bytes, filters: Filters, *, is_found: bool
) -> None:
    subject = enrollment_pb2.Subject(subject_id="jane", metadata={"site": "berlin", "team": "red,green"})
    await client.create_subject(subject)
    assert words(await imported(client, jane(vision.vector.tolist()))) == ["IMPORTED"]

    async def frames() -> AsyncIterator[recognition_pb2.Frame]:
        yield frame(1, guest_png)

    (face,) = (await client.search(guest_png, filters=filters)).faces
    assert (face.decision.outcome == common_pb2.OUTCOME_MATCH) == is_found
    (result,) = [one async for one in client.recognize(opening("door", filters=filters), frames())]
    assert bool(result.faces[0].decision.candidates) == is_found
    listed = [one.subject_id async for one in client.list_subjects(filters=filters, prefix="J")]
    assert listed == (["jane"] if is_found else [])
