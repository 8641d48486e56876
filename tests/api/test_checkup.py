"""What is doubtful in a gallery is told over the wire, with the error rates of the models in use."""

import asyncio
import threading
from collections.abc import Iterator
from dataclasses import replace
from itertools import cycle
from typing import Any

import numpy as np
import pytest
import pytest_asyncio
from api.conftest import Running, Start
from api.test_encodings import imported, near, vector, words

from facesvc.api import checkup
from facesvc.client import AsyncClient, CallError, encoding
from facesvc.gallery import Gallery, Sample
from facesvc.models import default_pack
from facesvc.models.calibration import Calibration, OperatingPoint
from facesvc.v1 import enrollment_pb2


@pytest_asyncio.fixture
async def running(start: Start) -> Running:
    return await start()


@pytest.fixture
def client(running: Running) -> AsyncClient:
    return running.client


async def enrolled(client: AsyncClient, **people: list[list[float]]) -> list[str]:
    """The ids of the samples."""
    requests = [
        encoding(name, one, create_subject=True, allow_conflict=True) for name, own in people.items() for one in own
    ]
    answers = await imported(client, *requests)
    assert set(words(answers)) == {"IMPORTED"}
    return [answer.sample_id for answer in answers]


async def found(client: AsyncClient, **asked: Any) -> list[enrollment_pb2.CheckGalleryResponse]:
    return [finding async for finding in client.check_gallery(**asked)]


async def test_findings_come_with_their_error_rates(client: AsyncClient) -> None:
    a, b, c, d = await enrolled(
        client, ada=[vector(1)], bob=[near(vector(1), 0.96)], cem=[vector(2), near(vector(2), 0.9)]
    )
    await client.create_subject(enrollment_pb2.Subject(subject_id="dan"))
    unlike, alike, nothing = await found(client)

    assert (unlike.kind, unlike.subject_id) == (enrollment_pb2.FINDING_KIND_UNLIKE_OTHERS, "cem")
    assert set(unlike.sample_ids) == {c, d}
    assert unlike.similarity == pytest.approx(0.9, abs=1e-4)
    assert unlike.false_match_rate == pytest.approx(0.035, abs=0.005)
    assert (alike.kind, alike.subject_id, alike.other_subject_id) == (enrollment_pb2.FINDING_KIND_ALIKE, "ada", "bob")
    assert list(alike.sample_ids) == [a, b]
    assert alike.false_match_rate == pytest.approx(default_pack.CALIBRATION.points[-1].fmr)
    assert "of different people at most 1 pair in 77,000 is so alike" in alike.message
    assert (nothing.kind, nothing.subject_id) == (enrollment_pb2.FINDING_KIND_NO_SAMPLE, "dan")


async def test_as_many_as_are_asked_for_of_one_collection(client: AsyncClient) -> None:
    for number in range(4):
        await client.create_subject(enrollment_pb2.Subject(subject_id=f"s{number}", collection_id="office"))

    assert [one.subject_id for one in await found(client, collection_id="office", max_findings=3)] == ["s0", "s1", "s2"]
    assert await found(client) == []
    for asked in ({"max_findings": 1001}, {"max_findings": -1}, {"collection_id": "a b"}):
        with pytest.raises(CallError) as caught:
            await found(client, **asked)
        assert caught.value.field in asked


async def test_models_without_error_rates_cannot_say(running: Running, client: AsyncClient) -> None:
    engine = running.service.engine
    unmeasured = replace(engine.policies, calibration=Calibration((), 0, 0, ""))
    running.service.engines.replace(replace(engine, policies=unmeasured))

    with pytest.raises(CallError) as caught:
        await found(client)
    assert (caught.value.code.name, caught.value.reason) == ("FAILED_PRECONDITION", "FMR_UNSUPPORTED")


async def test_one_check_at_a_time_and_who_leaves_stops_it(
    client: AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    reading, stopped = threading.Event(), threading.Event()
    samples = Gallery.samples

    def endless(self: Gallery, collection_id: str) -> Iterator[Sample]:
        """The samples without their vectors, again and again."""
        try:
            for sample in cycle(list(samples(self, collection_id))):
                reading.set()
                yield replace(sample, vector=None)
        finally:
            stopped.set()

    await enrolled(client, ada=[vector(1)])
    monkeypatch.setattr(Gallery, "samples", endless)
    first = asyncio.create_task(found(client))
    assert await asyncio.to_thread(reading.wait, 30)
    with pytest.raises(CallError) as caught:
        await found(client)
    assert caught.value.reason == "CHECK_RUNNING"

    first.cancel()
    assert await asyncio.to_thread(stopped.wait, 30)
    monkeypatch.undo()
    assert await _found_at_last(client) == []


async def _found_at_last(client: AsyncClient) -> list[enrollment_pb2.CheckGalleryResponse]:
    """What is found once the check before has come to its end."""
    async with asyncio.timeout(30):
        while True:
            try:
                return await found(client)
            except CallError as error:
                if error.reason != "CHECK_RUNNING":
                    raise


async def test_a_change_of_models_meanwhile_is_told(
    running: Running, client: AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    await enrolled(client, ada=[vector(1)])
    other = replace(running.service.gallery.contract, contract_id="arc/1")
    monkeypatch.setattr(Gallery, "contract", property(lambda _: other))

    with pytest.raises(CallError) as caught:
        await found(client)
    assert caught.value.reason == "CONTRACT_CHANGED"


@pytest.mark.parametrize("rate", [1e-1, 3e-2, 1e-2, 5e-3, 1e-3, 1e-4, 2e-5])
def test_the_rate_of_a_similarity_is_the_one_it_was_measured_at(rate: float) -> None:
    calibration = default_pack.CALIBRATION
    assert checkup.false_match_rate(calibration)(calibration.similarity_at(rate)) == pytest.approx(rate)


def test_beyond_what_was_measured_it_is_that_of_the_end() -> None:
    rate = checkup.false_match_rate(default_pack.CALIBRATION)
    assert (rate(-1.0), rate(1.0)) == (pytest.approx(1e-1), pytest.approx(1.3037583e-5))
    few = Calibration((OperatingPoint(1e-1, 0.5, 0.9), OperatingPoint(1e-6, 0.9, 0.1)), 1000, 10, "few pairs")
    assert checkup.false_match_rate(few)(0.95) == pytest.approx(1e-1)


@pytest.mark.parametrize(("points", "unlike"), [([(0.5, 0.1), (0.1, 0.2)], 0.2), ([(5e-3, 0.6), (1e-3, 0.7)], 0.6)])
def test_the_nearest_measured_rate_says_who_is_unlike(points: list[tuple[float, float]], unlike: float) -> None:
    calibration = Calibration(tuple(OperatingPoint(*one, 0.5) for one in points), 10**6, 100, "made up")

    assert checkup._bounds(calibration, points[-1][0]).unlike == pytest.approx(unlike)
    assert checkup._bounds(calibration, points[-1][0]).alike == pytest.approx(points[-1][1])
    assert np.isfinite(unlike)
