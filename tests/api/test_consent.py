"""Consent that has run out: not matched at once, erased after the grace time, by the server itself."""

import asyncio
from datetime import UTC, datetime, timedelta

import pytest
from api.conftest import Running, Start, Vision
from api.pictures import textured
from google.protobuf.timestamp_pb2 import Timestamp
from structlog.testing import capture_logs

from facesvc.api import consent, upkeep
from facesvc.client import sample
from facesvc.config import Settings
from facesvc.errors import DependencyError, NotFoundError
from facesvc.events.audit import Asked
from facesvc.v1 import common_pb2, enrollment_pb2

GIVEN = datetime(2026, 1, 1, tzinfo=UTC)
ENDS = datetime(2090, 1, 1, tzinfo=UTC)


def timestamp(time: datetime) -> Timestamp:
    message = Timestamp()
    message.FromDatetime(time)
    return message


async def create(running: Running, name: str, ends: datetime | None = ENDS, collection_id: str = "") -> None:
    given = enrollment_pb2.Consent(
        purpose="office", given_time=timestamp(GIVEN), expire_time=timestamp(ends) if ends else None
    )
    await running.client.create_subject(
        enrollment_pb2.Subject(
            subject_id=name, display_name=f"Name of {name}", collection_id=collection_id, consent=given
        )
    )


async def names(running: Running, collection_id: str = "") -> set[str]:
    return {one.subject_id async for one in running.client.list_subjects(collection_id=collection_id)}


async def test_who_is_past_the_grace_time_is_erased_and_nobody_else(start: Start) -> None:
    running = await start()
    await create(running, "past")
    await create(running, "guest", collection_id="guests")
    await create(running, "within", ENDS + timedelta(days=1))
    await create(running, "later", ENDS + timedelta(days=400))
    await create(running, "unlimited", None)
    await running.client.create_subject(enrollment_pb2.Subject(subject_id="without"))
    days = timedelta(days=running.service.settings.consent.grace_days)

    await consent.erase_expired(running.service, ENDS + days - timedelta(seconds=1))
    assert "past" in await names(running)
    with capture_logs() as logs:
        await consent.erase_expired(running.service, ENDS + days)

    assert await names(running) == {"within", "later", "unlimited", "without"}
    assert await names(running, "guests") == set()
    erasures = running.service.audit.list_entries(Asked(action="EraseSubject"), 10)
    assert [(one.actor, one.subject_id) for one in erasures] == [("facesvc", "past"), ("facesvc", "guest")]
    assert erasures[0].detail.startswith("consent has run out; 0 samples")
    told = [line for line in logs if line["event"] == "erased: consent has run out"]
    assert [(line["subject_id"], line["collection_id"]) for line in told] == [("past", "default"), ("guest", "guests")]
    assert "Name of" not in str(logs)
    receipt = await running.client.get_erasure_receipt(told[0]["receipt_id"])
    assert receipt.subject_id == "past"


async def test_many_are_found_however_many_there_are(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    running = await start()
    monkeypatch.setattr(consent, "_PAGE", 2)
    for number in range(5):
        await create(running, f"p{number}", ENDS if number % 2 else None)
    await consent.erase_expired(running.service, ENDS + timedelta(days=31))
    assert await names(running) == {"p0", "p2", "p4"}


async def test_a_face_is_not_matched_once_consent_has_run_out(start: Start, vision: Vision) -> None:
    running = await start(vision=vision)
    await create(running, "jane", running.service.now() + timedelta(days=1))
    picture = textured()
    (answer,) = [one async for one in running.client.enroll([sample("jane", picture)])]
    assert answer.verdict == enrollment_pb2.ENROLLMENT_VERDICT_ENROLLED
    (face,) = (await running.client.search(picture)).faces
    assert face.decision.outcome == common_pb2.OUTCOME_MATCH
    ended = enrollment_pb2.Consent(
        purpose="office", given_time=timestamp(GIVEN), expire_time=timestamp(GIVEN + timedelta(days=1))
    )
    await running.client.update_subject(enrollment_pb2.Subject(subject_id="jane", consent=ended), ["consent"])
    (face,) = (await running.client.search(picture)).faces
    assert face.decision.outcome == common_pb2.OUTCOME_UNKNOWN


async def test_consent_that_is_renewed_at_the_last_moment_counts(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    running = await start()
    await create(running, "jane", ENDS + timedelta(days=400))
    monkeypatch.setattr(consent, "_expired", lambda *_: [("default", "jane"), ("default", "gone")])
    await consent.erase_expired(running.service, ENDS + timedelta(days=31))
    assert await names(running) == {"jane"}


async def test_another_box_may_be_faster(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    running = await start()
    await create(running, "jane")

    def gone(*_: object, **__: object) -> None:
        raise NotFoundError("collection default has no subject jane")

    monkeypatch.setattr(running.service.gallery, "erase_subject", gone)
    await consent.erase_expired(running.service, ENDS + timedelta(days=31))


async def test_the_server_sees_to_it_by_itself(
    start: Start, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(upkeep, "FIRST_S", 0.0)
    monkeypatch.setattr(upkeep, "_INTERVAL_S", 0.001)
    no_grace = settings.consent.model_copy(update={"grace_days": 0.0})
    running = await start(settings.model_copy(update={"consent": no_grace}))
    await create(running, "jane", GIVEN + timedelta(days=1))
    async with asyncio.timeout(30):
        while await names(running):  # noqa: ASYNC110 - what is waited for sets no event
            await asyncio.sleep(0.001)


async def test_what_fails_is_tried_again_and_keeps_nothing_else_back(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    running = await start()
    done = []

    async def away(*_: object) -> None:
        raise DependencyError("the database is away", reason="DATABASE_AWAY")

    async def wrong(*_: object) -> None:
        raise RuntimeError

    async def right(service: object, now: datetime) -> None:
        done.append(now)

    monkeypatch.setattr(upkeep, "_WORK", (away, wrong, right))
    with capture_logs() as logs:
        await upkeep.once(running.service, ENDS)
    assert done == [ENDS]
    assert [line["event"] for line in logs] == ["upkeep has to wait", "upkeep failed"]
