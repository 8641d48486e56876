"""Encodings made elsewhere come in, each judged on its own, and go out again."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import pytest_asyncio
from api.conftest import Running, Start, with_limits

from facesvc.api import encodings
from facesvc.client import AsyncClient, CallError, encoding
from facesvc.config import Settings
from facesvc.gallery import Gallery, Sample
from facesvc.models.calibration import Calibration
from facesvc.v1 import enrollment_pb2

Request = enrollment_pb2.ImportEncodingsRequest
Response = enrollment_pb2.ImportEncodingsResponse


@pytest_asyncio.fixture
async def running(start: Start) -> Running:
    return await start()


@pytest.fixture
def client(running: Running) -> AsyncClient:
    return running.client


def vector(number: int, length: float = 1.4) -> list[float]:
    """A vector of its own direction, as long as dlib's are."""
    values = np.random.default_rng(number).standard_normal(128)
    return (length * values / np.linalg.norm(values)).astype(np.float32).tolist()  # type: ignore[no-any-return]


def near(values: Sequence[float], similarity: float = 0.97) -> list[float]:
    """Another vector so similar to one."""
    own = np.array(values) / np.linalg.norm(values)
    other = np.random.default_rng(99).standard_normal(128)
    other -= own * (own @ other)
    turned = similarity * own + np.sqrt(1 - similarity**2) * other / np.linalg.norm(other)
    return turned.astype(np.float32).tolist()  # type: ignore[no-any-return]


def jane(values: Sequence[float] = (), **fields: Any) -> Request:
    return encoding("jane", values or vector(1), **({"create_subject": True} | fields))


async def imported(client: AsyncClient, *requests: Request) -> list[Response]:
    return [answer async for answer in client.import_encodings(requests)]


async def until_error(client: AsyncClient, requests: AsyncIterator[Request]) -> tuple[list[str], Exception]:
    """What was answered before the call failed, and how it did."""
    answers: list[Response] = []
    try:
        async for answer in client.import_encodings(requests):
            answers.append(answer)  # noqa: PERF401 - what came before the error is wanted
    except (CallError, LookupError) as error:
        return words(answers), error
    raise AssertionError("it did not fail")


def words(answers: Sequence[Response]) -> list[str]:
    """The verdict of each, or the reason of its error."""
    return [
        answer.error.reason or enrollment_pb2.ImportVerdict.Name(answer.verdict).removeprefix("IMPORT_VERDICT_")
        for answer in answers
    ]


async def exported(client: AsyncClient, **asked: str) -> list[enrollment_pb2.ExportEncodingsResponse]:
    return [answer async for answer in client.export_encodings(**asked)]


def unit(values: Sequence[float]) -> "np.ndarray[Any, Any]":
    return np.array(values) / np.linalg.norm(values)


async def test_encodings_come_in_and_go_out(running: Running, client: AsyncClient) -> None:
    first, second = await imported(
        client, jane(display_name="Jane Doe", source="known.pickle"), encoding("joe", vector(2), create_subject=True)
    )

    assert words([first, second]) == ["IMPORTED", "IMPORTED"]
    (sample,) = await client.list_samples("jane")
    assert (sample.sample_id, sample.source, sample.quality) == (first.sample_id, "known.pickle", 0)
    assert [one.display_name async for one in client.list_subjects()] == ["Jane Doe", "joe"]
    out = await exported(client)
    assert [(one.subject_id, one.display_name, one.sample_id) for one in out] == [
        ("jane", "Jane Doe", first.sample_id),
        ("joe", "joe", second.sample_id),
    ]
    for one, number in zip(out, (1, 2), strict=True):
        np.testing.assert_allclose(one.embedding, unit(vector(number)), atol=1e-6)
        assert one.embedding_contract == running.service.engine.pack.contract_id


async def test_the_next_search_finds_them(start: Start, vision: Any, guest_png: bytes) -> None:
    client = (await start(vision=vision)).client
    await imported(client, jane((3 * vision.vector).tolist()))

    (face,) = (await client.search(guest_png)).faces
    assert (face.decision.subject.subject_id, round(face.decision.subject.similarity, 5)) == ("jane", 1)


async def test_each_is_judged_on_its_own(client: AsyncClient) -> None:
    twin = near(vector(1))
    answers = await imported(
        client,
        jane(),
        jane(),  # the same once more
        jane([2 * value for value in vector(1)]),  # the same, and longer
        encoding("joe", vector(2)),
        encoding("joe", twin, create_subject=True),
        encoding("joe", twin, create_subject=True, allow_conflict=True),
        encoding("joe", vector(3)),
        jane(vector(4)[:127]),
        jane([*vector(4)[:127], float("nan")]),
        jane([*vector(4)[:127], float("inf")]),
        jane([0.0] * 128),
        Request(subject_id="jane"),
        jane(vector(4), embedding_contract="arc/1"),
        jane(vector(4), source="a\nb"),
        jane(vector(4), display_name="x" * 257),
        encoding("../etc", vector(4), create_subject=True),
        jane(vector(4), collection_id="b c"),
        jane(vector(5)),
    )

    assert words(answers) == [
        "IMPORTED",
        "DUPLICATE",
        "DUPLICATE",
        "NOT_FOUND",
        "IDENTITY_CONFLICT",
        "IMPORTED",
        "IMPORTED",
        *["INVALID_INPUT"] * 5,
        "EMBEDDING_CONTRACT_MISMATCH",
        *["INVALID_INPUT"] * 4,
        "IMPORTED",
    ]
    assert [answer.error.field for answer in answers[7:]] == [
        *["embedding"] * 5, "", "source", "display_name", "subject_id", "collection_id", ""
    ]  # fmt: skip
    assert answers[0].sample_id in answers[1].message
    assert "similarity 0.970 to jane, who is enrolled" in answers[4].message
    assert "has 127 values, those of dlib-resnet29-128-" in answers[7].message
    assert all(answer.message for answer in answers)


async def test_what_was_exported_comes_back_as_the_same(client: AsyncClient) -> None:
    await imported(client, *(encoding(f"s{number}", vector(number), create_subject=True) for number in range(50)))
    out = await exported(client)
    answers = await imported(
        client, *(encoding(one.subject_id, one.embedding, embedding_contract=one.embedding_contract) for one in out)
    )

    assert words(answers) == ["DUPLICATE"] * 50


async def test_one_person_and_one_collection_go_out(client: AsyncClient) -> None:
    await imported(
        client, jane(), jane(vector(2), collection_id="other"), encoding("joe", vector(3), create_subject=True)
    )

    assert [one.subject_id for one in await exported(client, subject_id="joe")] == ["joe"]
    assert [one.subject_id for one in await exported(client, collection_id="other")] == ["jane"]
    assert await exported(client, collection_id="nobody") == []
    for asked, code in (({"subject_id": "zoe"}, "NOT_FOUND"), ({"subject_id": "a b"}, "INVALID_ARGUMENT")):
        with pytest.raises(CallError) as caught:
            await exported(client, **asked)
        assert caught.value.code.name == code


async def test_only_who_may_is_made_known(client: AsyncClient) -> None:
    """Also where the one beside it may: each request stands for itself."""
    answers = await imported(client, encoding("jane", vector(1)), jane(vector(2)), encoding("jane", vector(1)))

    assert words(answers) == ["NOT_FOUND", "IMPORTED", "IMPORTED"]


async def test_many_are_stored_in_batches(client: AsyncClient, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = []
    add = Gallery.add_samples

    def counted(self: Gallery, samples: Sequence[Sample], *rest: Any, **named: Any) -> Any:
        sizes.append(len(samples))
        return add(self, samples, *rest, **named)

    monkeypatch.setattr(Gallery, "add_samples", counted)
    people = [encoding(f"s{number % 7}", vector(number), create_subject=True) for number in range(400)]

    assert words(await imported(client, *people)) == ["IMPORTED"] * 400
    assert sum(sizes) == 400
    assert max(sizes) <= encodings.BATCH
    assert len(sizes) < 100
    assert len(await exported(client)) == 400


async def test_an_answer_comes_before_the_next_is_sent(client: AsyncClient) -> None:
    answered = asyncio.Event()

    async def one_by_one() -> AsyncIterator[Request]:
        for number in range(3):
            answered.clear()
            yield encoding("jane", vector(number), create_subject=True)
            await asyncio.wait_for(answered.wait(), 20)

    count = 0
    async for answer in client.import_encodings(one_by_one()):
        assert words([answer]) == ["IMPORTED"]
        count += 1
        answered.set()
    assert count == 3


async def test_a_request_that_is_far_too_large_is_refused(client: AsyncClient) -> None:
    answers = await imported(client, jane([0.5] * 200_000), jane(vector(1), display_name="x" * 40_000), jane())

    assert words(answers) == ["INVALID_INPUT", "INVALID_INPUT", "IMPORTED"]
    assert answers[0].message == "over 32768 bytes, which is more than any encoding needs"


async def test_who_falls_silent_is_sent_away(start: Start, settings: Settings) -> None:
    client = (await start(with_limits(settings, enrollment_idle_timeout_seconds=0.05))).client

    async def silent() -> AsyncIterator[Request]:
        yield jane()
        await asyncio.sleep(60)

    answered, error = await until_error(client, silent())

    assert answered == ["IMPORTED"]
    assert isinstance(error, CallError)
    assert error.reason == "ENROLLMENT_IDLE"
    assert len(await exported(client)) == 1


async def test_what_was_sent_before_the_client_broke_off_is_stored(client: AsyncClient) -> None:
    async def broken() -> AsyncIterator[Request]:
        yield jane()
        raise LookupError("the file ends here")

    assert (await until_error(client, broken()))[0] == ["IMPORTED"]
    assert len(await exported(client)) == 1


async def test_who_leaves_frees_the_place(start: Start, settings: Settings) -> None:
    client = (await start(with_limits(settings, max_enrollments=1))).client
    for number in range(3):
        async for answer in client.import_encodings([jane(vector(number)), jane(vector(number + 10))]):
            assert words([answer]) == ["IMPORTED"]


async def test_there_is_a_bound_on_how_many_import_at_once(start: Start, settings: Settings) -> None:
    client = (await start(with_limits(settings, max_enrollments=1))).client
    done = asyncio.Event()

    async def held() -> AsyncIterator[Request]:
        yield jane()
        await done.wait()

    first = client.import_encodings(held())
    assert words([await anext(first)]) == ["IMPORTED"]
    with pytest.raises(CallError) as caught:
        await imported(client, jane(vector(2)))
    assert caught.value.reason == "TOO_MANY_ENROLLMENTS"
    done.set()
    assert [answer async for answer in first] == []


async def test_models_without_error_rates_cannot_check_for_conflicts(running: Running, client: AsyncClient) -> None:
    engine = running.service.engine
    unmeasured = replace(engine.policies, calibration=Calibration((), 0, 0, ""))
    running.service.engines.replace(replace(engine, policies=unmeasured))

    answers = await imported(client, jane(), jane(allow_conflict=True))

    assert words(answers) == ["FMR_UNSUPPORTED", "IMPORTED"]


async def test_a_gallery_of_other_models_is_not_mixed(
    running: Running, client: AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the two halves of a change of models, the gallery is ahead of the engine."""
    ahead = replace(running.service.gallery.contract, contract_id="arc/1")
    monkeypatch.setattr(Gallery, "contract", property(lambda _: ahead))

    assert words(await imported(client, jane())) == ["EMBEDDING_CONTRACT_MISMATCH"]


async def test_it_is_in_the_audit_log(running: Running, client: AsyncClient) -> None:
    await imported(client, jane(), jane(vector(2)), encoding("joe", vector(3)))
    await exported(client)
    entries = [(one.action, one.subject_id) async for one in client.list_audit()]

    assert ("ImportEncodings", "jane") in entries
    assert ("ImportEncodings", "joe") not in entries
    assert ("ExportEncodings", "") in entries
