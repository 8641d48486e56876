"""A person who asks what is known of them gets everything, and nothing of others."""

import io
import json
import zipfile
from typing import Any

import grpc
import pytest
from api.conftest import Running, Start, Vision, with_retention
from api.pictures import textured
from api.test_recognition import enrol
from events.making import arrived, at, left, seen, stay
from google.protobuf.timestamp_pb2 import Timestamp

from facesvc.api import export
from facesvc.client import CallError
from facesvc.config import Settings
from facesvc.v1 import enrollment_pb2


@pytest.fixture
def settings(settings: Settings) -> Settings:
    """Crops are kept, and events however old."""
    kept = settings.enrollment.model_copy(update={"keep_crops": True})
    return with_retention(settings, 3660).model_copy(update={"enrollment": kept})


async def archive_of(running: Running, subject_id: str = "jane") -> zipfile.ZipFile:
    pieces = [piece async for piece in running.client.export_subject(subject_id)]
    assert all(0 < len(piece) <= export.MAX_CHUNK_BYTES for piece in pieces)
    archive = zipfile.ZipFile(io.BytesIO(b"".join(pieces)))
    assert archive.testzip() is None
    return archive


async def document_of(running: Running) -> Any:
    return json.loads((await archive_of(running)).read("subject.json"))


async def test_everything_about_one_person(start: Start, vision: Vision) -> None:
    running = await start(vision=vision)
    pictures = [textured(seed) for seed in range(2)]
    consent = enrollment_pb2.Consent(
        purpose="office", given_time=Timestamp(seconds=1), expire_time=Timestamp(seconds=2**33)
    )
    known = {"external_ids": {"card_number": "42"}, "metadata": {"floor": "3"}, "consent": consent}
    assert await enrol(running, "jane", *pictures, **known) == ["ENROLLED"] * 2
    await enrol(running, "joe")
    journal = running.service.journal
    about_joe = [seen(at(5), "joe", collection_id="default")]
    journal.append([seen(at(0), collection_id="default"), *about_joe], [])

    archive = await archive_of(running)
    document = json.loads(archive.read("subject.json"))

    subject = document["subject"]
    assert (subject["subject_id"], subject["display_name"]) == ("jane", "Jane")
    assert (subject["external_ids"], subject["metadata"]) == ({"card_number": "42"}, {"floor": "3"})
    assert subject["consent"]["purpose"] == "office"
    samples = document["samples"]
    assert [sample["sample_id"] for sample in samples] == [
        one.sample_id for one in await running.client.list_samples("jane")
    ]
    stored = running.service.gallery.list_samples("default", "jane")
    assert samples[0]["embedding"] == pytest.approx(stored[0].vector.tolist())  # type: ignore[union-attr]
    assert samples[0]["embedding_contract"] == running.service.engine.pack.contract_id
    assert samples[0]["image_sha256"] == stored[0].image_sha256.hex()
    assert 0 < samples[0]["quality"] <= 1
    assert [event["seen"]["decision"]["subject"]["subject_id"] for event in document["events"]] == ["jane"]
    assert [entry["action"] for entry in document["audit"]] == ["CreateSubject", *["EnrollSamples"] * 2]
    assert "joe" not in json.dumps(document)
    assert archive.namelist() == ["subject.json", *(sample["picture"] for sample in samples)]
    for sample in samples:
        assert sample["picture"] == f"crops/{sample['sample_id']}.jpg"
        crop = archive.read(sample["picture"])
        assert crop == running.service.gallery.crops("default", "jane")[sample["sample_id"]]
        assert crop.startswith(b"\xff\xd8")


async def test_where_they_were_and_for_how_long(start: Start) -> None:
    running = await start()
    await running.client.create_subject(enrollment_pb2.Subject(subject_id="jane", collection_id="c"))
    running.service.journal.append(
        [arrived(at(0)), left(at(3600))], [stay(at(0), at(3600), stay_id="s"), stay(at(7200), None)]
    )
    pieces = [piece async for piece in running.client.export_subject("jane", collection_id="c")]
    document = json.loads(zipfile.ZipFile(io.BytesIO(b"".join(pieces))).read("subject.json"))
    assert len(document["events"]) == 2
    first, second = document["stays"]
    assert (first["stay_id"], first["zone"], first["arrive_time"]) == ("s", "lobby", "2026-03-02T08:00:00+00:00")
    assert (first["leave_time"], second["leave_time"]) == ("2026-03-02T09:00:00+00:00", None)
    assert document["attendance"][0]["date"] == "2026-03-02"
    assert (document["samples"], document["audit"][0]["action"]) == ([], "CreateSubject")


async def test_many_events_and_large_crops_come_in_pieces(
    start: Start, vision: Vision, monkeypatch: pytest.MonkeyPatch
) -> None:
    running = await start(vision=vision)
    await enrol(running, "jane", textured(0))
    running.service.journal.append([seen(at(second), collection_id="default") for second in range(2500)], [])
    (sample,) = await running.client.list_samples("jane")
    crops = {f"{sample.sample_id[:-1]}{digit}": b"\x89PNG" + bytes([digit]) * (1 << 20) for digit in range(3)}
    monkeypatch.setattr(running.service.gallery, "crops", lambda *_: crops)

    archive = await archive_of(running)

    assert len(json.loads(archive.read("subject.json"))["events"]) == 2500
    assert [archive.read(f"crops/{name}.png") for name in crops] == list(crops.values())


async def test_an_export_is_noted_before_anything_is_given_away(start: Start) -> None:
    running = await start()
    await enrol(running, "jane")
    await archive_of(running)
    actions = [entry["action"] for entry in (await document_of(running))["audit"]]
    assert actions == ["CreateSubject", "ExportSubject"]


async def test_what_is_too_large_is_refused_with_words(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    running = await start()
    await enrol(running, "jane")
    monkeypatch.setattr(export, "MAX_BYTES", 100)
    with pytest.raises(CallError, match="what is known of jane has") as refused:
        await archive_of(running)
    assert (refused.value.code, refused.value.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "EXPORT_TOO_LARGE")


@pytest.mark.parametrize(("subject_id", "code"), [("nobody", "NOT_FOUND"), ("a b", "INVALID_ARGUMENT")])
async def test_nobody_is_refused(start: Start, subject_id: str, code: str) -> None:
    running = await start()
    with pytest.raises(CallError) as refused:
        await archive_of(running, subject_id)
    assert refused.value.code.name == code
