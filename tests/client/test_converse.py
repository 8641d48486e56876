"""Both clients carry a whole conversation; ``recognize`` is what is left when only results are wanted."""

from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from client.scripted import Server, more, opened, result, server

from facesvc.client import AsyncClient, Client, challenge, frame, opening
from facesvc.client.requests import Said
from facesvc.v1 import recognition_pb2

SAID: list[Said] = [frame(1, b"x", frames_skipped=4), challenge("t", steps=2, time_limit_s=9.5)]
ANSWERS = [
    opened(1),
    result(1, credit=1),
    more(2),
    recognition_pb2.RecognizeResponse(challenge=recognition_pb2.ChallengeProgress(challenge_id="c")),
]


@pytest.fixture
def far() -> Iterator[Server]:
    with server() as one:
        yield one


def spoken(far: Server, answers: list[recognition_pb2.RecognizeResponse]) -> list[recognition_pb2.RecognizeRequest]:
    """All that the client said after its opening; then it gets its answers."""
    desk = far.desk()
    said = list(iter(lambda: desk.received.get(timeout=30), None))
    desk.say(*answers, None)
    return [one for one in said if one is not None]


@pytest.fixture
def heard(far: Server) -> Iterator[list[recognition_pb2.RecognizeRequest]]:
    """What the server heard; it answers in a thread."""
    said: list[recognition_pb2.RecognizeRequest] = []
    with ThreadPoolExecutor(1) as pool:
        work = pool.submit(lambda: said.extend(spoken(far, ANSWERS)))
        yield said
        work.result(30)


def check(said: list[recognition_pb2.RecognizeRequest]) -> None:
    assert [one.WhichOneof("message") for one in said] == ["frame", "challenge"]
    assert said[0].frame.frames_skipped == 4
    assert said[1].challenge.time_limit.ToTimedelta().total_seconds() == 9.5


def test_a_conversation_carries_all(far: Server, heard: list[recognition_pb2.RecognizeRequest]) -> None:
    with Client(far.address) as client:
        assert list(client.converse(opening("cam"), SAID)) == ANSWERS
    check(heard)


async def test_an_asynchronous_one_too(far: Server, heard: list[recognition_pb2.RecognizeRequest]) -> None:
    async def messages() -> AsyncIterator[Said]:
        for one in SAID:
            yield one

    async with AsyncClient(far.address) as client:
        assert [answer async for answer in client.converse(opening("cam"), messages())] == ANSWERS
    check(heard)


def test_results_alone(far: Server, heard: list[recognition_pb2.RecognizeRequest]) -> None:
    with Client(far.address) as client:
        assert list(client.recognize(opening("cam"), [frame(1, b"x")])) == [ANSWERS[1].result]


async def test_results_alone_asynchronously(far: Server, heard: list[recognition_pb2.RecognizeRequest]) -> None:
    async with AsyncClient(far.address) as client:
        assert [one async for one in client.recognize(opening("cam"), [frame(1, b"x")])] == [ANSWERS[1].result]


def test_an_opening_says_where_the_camera_looks_and_what_it_wants() -> None:
    entry = recognition_pb2.CAMERA_DIRECTION_ENTRY
    message = opening("cam", direction=entry, predictions=True, every_frame=True)
    assert (message.direction, message.predictions, message.every_frame) == (entry, True, True)
    plain = opening("cam")
    assert (plain.direction, plain.predictions, plain.every_frame) == (0, False, False)
