"""``AsyncClient`` against the real server: each call once, and streams that end otherwise than planned."""

import asyncio
import itertools
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Callable
from contextlib import aclosing

import grpc
import pytest
import pytest_asyncio
from api.conftest import Running, Start, Vision
from api.pictures import textured

from facesvc.client import AsyncClient, CallError, frame, opening, sample
from facesvc.v1 import enrollment_pb2, recognition_pb2

PICTURE = textured()
ENROLLED = enrollment_pb2.ENROLLMENT_VERDICT_ENROLLED
Feed = Callable[[AsyncClient, AsyncIterator[bytes]], AsyncGenerator[object, None]]


@pytest_asyncio.fixture
async def running(start: Start, vision: Vision) -> Running:
    return await start(vision=vision)


@pytest.fixture
def client(running: Running) -> AsyncClient:
    return running.client


async def known(client: AsyncClient, *subject_ids: str) -> None:
    for subject_id in subject_ids:
        await client.create_subject(enrollment_pb2.Subject(subject_id=subject_id, display_name=subject_id.title()))


def recognized(client: AsyncClient, pictures: AsyncIterator[bytes]) -> AsyncGenerator[object, None]:
    async def frames() -> AsyncIterator[recognition_pb2.Frame]:
        async for data in pictures:
            yield frame(1, data)

    return client.recognize(opening("door"), frames())


def enrolled(client: AsyncClient, pictures: AsyncIterator[bytes]) -> AsyncGenerator[object, None]:
    async def samples() -> AsyncIterator[enrollment_pb2.EnrollSamplesRequest]:
        async for data in pictures:
            yield sample("jane", data)

    return client.enroll(samples())


FED = pytest.mark.parametrize("feed", [recognized, enrolled])


async def test_compare(client: AsyncClient) -> None:
    (face,) = (await client.compare(PICTURE, PICTURE, policy="presence")).faces
    assert face.same_person


async def test_people_are_created_read_changed_and_erased(client: AsyncClient) -> None:
    jane = enrollment_pb2.Subject(subject_id="jane", collection_id="office", display_name="Jane")
    created = await client.create_subject(jane, request_id="r1")
    assert await client.create_subject(jane, request_id="r1") == created
    assert await client.get_subject("jane", collection_id="office") == created

    jane.display_name = "J."
    changed = await client.update_subject(jane, ["display_name"])
    assert changed.display_name == "J."

    receipt = await client.erase_subject("jane", collection_id="office")
    assert receipt.subject_id == "jane"
    with pytest.raises(CallError, match="has no subject 'jane'") as refusal:
        await client.get_subject("jane", collection_id="office")
    assert (refusal.value.code, refusal.value.reason) == (grpc.StatusCode.NOT_FOUND, "NOT_FOUND")


async def test_people_are_listed_over_all_pages(client: AsyncClient) -> None:
    await known(client, "a", "b", "c")
    assert [subject.subject_id async for subject in client.list_subjects(page_size=2)] == ["a", "b", "c"]
    assert [subject async for subject in client.list_subjects(collection_id="elsewhere")] == []


@pytest.mark.parametrize("plain", [False, True])
async def test_samples_are_enrolled_listed_and_deleted(client: AsyncClient, *, plain: bool) -> None:
    await known(client, "jane")
    pictures = [sample("nobody", PICTURE), sample("jane", PICTURE, source="door"), sample("jane", textured(1))]

    async def one_by_one() -> AsyncIterator[enrollment_pb2.EnrollSamplesRequest]:
        for picture in pictures:
            yield picture

    answers = [answer async for answer in client.enroll(pictures if plain else one_by_one())]
    assert answers[0].error.reason == "NOT_FOUND"
    assert [answer.verdict for answer in answers[1:]] == [ENROLLED, ENROLLED]

    first, second = await client.list_samples("jane")
    assert first.source == "door"
    await client.delete_sample("jane", first.sample_id)
    assert await client.list_samples("jane") == [second]


@FED
async def test_what_a_source_raises_is_raised_after_the_answers(client: AsyncClient, feed: Feed) -> None:
    async def pictures() -> AsyncIterator[bytes]:
        yield PICTURE
        raise OSError("the camera is gone")

    await known(client, "jane")
    answers = feed(client, pictures())

    await anext(answers)
    with pytest.raises(OSError, match="the camera is gone"):
        await anext(answers)


async def test_what_a_plain_source_raises_is_raised(client: AsyncClient) -> None:
    with pytest.raises(ZeroDivisionError):
        [answer async for answer in client.enroll(sample("jane", bytes(1 // 0)) for _ in range(1))]


async def test_what_is_no_message_is_an_error_of_who_sends_it(client: AsyncClient) -> None:
    with pytest.raises(TypeError, match="what `sample` makes, not bytes"):
        [answer async for answer in client.enroll([PICTURE])]  # type: ignore[list-item]
    with pytest.raises(TypeError):
        [answer async for answer in client.recognize(opening("door"), [PICTURE])]  # type: ignore[list-item]


@FED
async def test_a_reader_who_leaves_ends_the_stream(client: AsyncClient, feed: Feed) -> None:
    ended = asyncio.Event()

    async def pictures() -> AsyncIterator[bytes]:
        try:
            for number in itertools.count():
                yield textured(number)
                await asyncio.sleep(0.01)
        finally:
            ended.set()

    await known(client, "jane")
    async with aclosing(feed(client, pictures())) as answers:
        await anext(answers)
    await asyncio.wait_for(ended.wait(), 10)


async def test_a_watch_that_is_left_ends_on_the_server(running: Running) -> None:
    async for begun in running.client.watch_events():
        assert not begun.HasField("event")
        break
    # A server that still had the call open would give it its whole time of grace.
    await asyncio.wait_for(running.server.stop(), 30)


@FED
async def test_a_cancelled_reader_is_cancelled(client: AsyncClient, feed: Feed) -> None:
    begun = asyncio.Event()

    async def pictures() -> AsyncIterator[bytes]:
        begun.set()
        await asyncio.Event().wait()
        yield PICTURE

    async def read(answers: AsyncIterable[object]) -> list[object]:
        return [answer async for answer in answers]

    reader = asyncio.create_task(read(feed(client, pictures())))
    await begun.wait()
    reader.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reader


async def test_a_client_that_is_closed_ends_its_streams(running: Running) -> None:
    client = AsyncClient(running.address)
    events = client.watch_events()
    await anext(events)
    await client.close()
    with pytest.raises(CallError) as ended:
        await anext(events)
    assert ended.value.code is grpc.StatusCode.CANCELLED


async def test_a_source_is_let_go_when_the_server_ends_the_call(client: AsyncClient) -> None:
    let_go = asyncio.Event()

    async def frames() -> AsyncIterator[recognition_pb2.Frame]:
        try:
            await asyncio.Event().wait()
            yield frame(1, PICTURE)
        finally:
            let_go.set()

    with pytest.raises(CallError) as refusal:
        await anext(client.recognize(opening("door", policy="no such policy"), frames()))
    assert refusal.value.field
    assert let_go.is_set()


async def test_no_server_is_told_by_its_address() -> None:
    async with AsyncClient("127.0.0.1:1") as client:
        with pytest.raises(CallError, match=r"no server answers at 127\.0\.0\.1:1"):
            await client.server_info()
        with pytest.raises(CallError, match=r"no server answers at 127\.0\.0\.1:1"):
            await anext(client.watch_events())
