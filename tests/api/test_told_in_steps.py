"""Who may not export templates hears of a similarity only whether it is enough; nobody hears of strangers later."""

from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import numpy as np
import pytest
import pytest_asyncio
from api.conftest import Vision
from api.guarded import Guarded, guarding, refusal
from api.pictures import grey
from api.quartz import PICTURE, make_known, stream
from hypothesis import given
from hypothesis import strategies as st

from facesvc.api.disclosure import BELOW, Told
from facesvc.client import AsyncClient, encoding
from facesvc.config import Settings
from facesvc.security.principals import Scope
from facesvc.security.roles import Role
from facesvc.v1 import common_pb2, enrollment_pb2


@pytest_asyncio.fixture
async def guarded(settings: Settings, tmp_path: Path) -> AsyncIterator[Guarded]:
    """A server that knows two people who look alike."""
    async with guarding(settings, tmp_path / "guarded") as guarded:
        await make_known(guarded.client(guarded.token("maker", Role.ADMIN)))
        yield guarded


def both(guarded: Guarded) -> tuple[AsyncClient, AsyncClient]:
    """The administrator, and somebody who looks after people."""
    admin, desk = (guarded.client(guarded.token(role.value, role)) for role in (Role.ADMIN, Role.ENROLLER))
    return admin, desk


@given(st.floats(-1, 1), st.floats(-0.99, 1))
def test_what_is_told_never_contradicts_the_answer(value: float, threshold: float) -> None:
    rounded = Told().similarity(value, threshold)
    assert (rounded >= threshold) is (value >= threshold)
    assert rounded in {BELOW, threshold}
    assert Told(exact=True).similarity(value, threshold) == value


async def test_searches_are_told_in_steps(guarded: Guarded) -> None:
    admin, desk = both(guarded)
    exact = (await admin.search(PICTURE, max_candidates=20)).faces[0].decision
    rounded = (await desk.search(PICTURE, max_candidates=20)).faces[0].decision
    assert exact.outcome == rounded.outcome == common_pb2.OUTCOME_MATCH
    assert [one.subject_id for one in exact.candidates] == ["jane-q", "eve-o"]
    assert exact.subject.similarity == pytest.approx(1, abs=1e-3)
    assert [one.subject_id for one in rounded.candidates] == ["jane-q"]
    assert rounded.subject.similarity == rounded.candidates[0].similarity == rounded.threshold
    assert rounded.subject.distance == pytest.approx((2 - 2 * rounded.threshold) ** 0.5, abs=1e-6)
    # What "this was not her" needs, and the whole name.
    assert rounded.subject.sample_id == exact.subject.sample_id != ""
    assert rounded.subject.external_ids == exact.subject.external_ids


async def test_of_a_stranger_nobody_is_named(settings: Settings, tmp_path: Path) -> None:
    vision = Vision(vector=np.eye(128, dtype=np.float32)[5])
    async with guarding(settings, tmp_path / "guarded", vision) as guarded:
        await make_known(guarded.client(guarded.token("maker", Role.ADMIN)))
        desk = guarded.client(guarded.token("desk", Role.ENROLLER))
        [face] = (await desk.search(PICTURE, max_candidates=20)).faces
        assert face.decision.outcome == common_pb2.OUTCOME_UNKNOWN
        assert not face.decision.candidates
        camera = guarded.client(guarded.token("kiosk", Role.CAMERA, scope=Scope(names=True)))
        [face] = (await stream(camera))[-1].faces
        assert not face.decision.candidates


async def test_only_who_exports_gets_vectors(guarded: Guarded) -> None:
    for role in set(Role) - {Role.ADMIN}:
        error = await refusal(guarded.client(guarded.token(role.value, role)).embed(grey()))
        assert error.code is grpc.StatusCode.PERMISSION_DENIED
    admin = guarded.client(guarded.token("boss", Role.ADMIN))
    assert len((await admin.embed(PICTURE)).faces[0].embedding) == 128


async def test_conflicts_are_told_without_numbers(guarded: Guarded) -> None:
    admin, desk = both(guarded)
    await admin.create_subject(enrollment_pb2.Subject(subject_id="twin"))
    shown = enrollment_pb2.EnrollSamplesRequest(subject_id="twin", image=common_pb2.Image(data=PICTURE))
    [exact] = [one async for one in admin.enroll([shown])]
    [rounded] = [one async for one in desk.enroll([shown])]
    assert exact.conflict.similarity == pytest.approx(1, abs=1e-3)
    assert "similarity 1.000" in exact.message
    assert exact.conflict.subject_id == rounded.conflict.subject_id == "jane-q"
    assert 0 < rounded.conflict.similarity < 0.99
    assert rounded.message == "this face is too like subject jane-q; enrol it there, or erase that subject"


async def test_a_sample_that_is_unlike_the_others_is_told_without_numbers(guarded: Guarded) -> None:
    admin, desk = both(guarded)
    shown = enrollment_pb2.EnrollSamplesRequest(
        subject_id="eve-o", image=common_pb2.Image(data=PICTURE), allow_conflict=True
    )
    [rounded] = [one async for one in desk.enroll([shown])]
    assert "hardly like the other 1 of this person: look" in rounded.message
    await admin.delete_sample("eve-o", rounded.sample.sample_id)
    [exact] = [one async for one in admin.enroll([shown])]
    assert "(similarity 0.50 at best): look" in exact.message


async def test_doubts_about_a_gallery_are_told_without_numbers(guarded: Guarded) -> None:
    admin, desk = both(guarded)
    near = (0.98 * np.eye(128)[0] + 0.199 * np.eye(128)[7]).tolist()
    people = [
        encoding("twin", near, create_subject=True, allow_conflict=True),
        encoding("eve-o", (-np.eye(128)[9]).tolist()),
    ]
    assert [one.error.reason async for one in admin.import_encodings(people)] == ["", ""]
    exact = [one async for one in admin.check_gallery()]
    rounded = [one async for one in desk.check_gallery()]
    kinds = [enrollment_pb2.FINDING_KIND_UNLIKE_OTHERS, enrollment_pb2.FINDING_KIND_ALIKE]
    assert [one.kind for one in exact] == [one.kind for one in rounded] == kinds
    assert all(one.false_match_rate > 0 and "similarity" in one.message for one in exact)
    for one, other in zip(exact, rounded, strict=True):
        assert (other.similarity, other.false_match_rate) == (0, 0)
        assert not any(letter.isdigit() for letter in other.message)
        assert list(one.sample_ids) == list(other.sample_ids)
    assert "`facesvc subjects merge jane-q twin`" in rounded[1].message


def rows_of(guarded: Guarded) -> dict[str, int]:
    """How many rows each table of the database has."""
    database = guarded.service.journal._database
    names = [name for (name,) in database.select("SELECT name FROM sqlite_master WHERE type = 'table'")]
    return {name: database.select(f"SELECT count(*) FROM {name}")[0][0] for name in names}


def longest_of(guarded: Guarded, table: str) -> int:
    """The length of the longest value in a table."""
    rows = guarded.service.journal._database.select(f"SELECT * FROM {table}")
    return max((len(value) for row in rows for value in row if isinstance(value, bytes | str)), default=0)


def files_with_pictures(folder: Path) -> list[str]:
    """Files that hold what was sent, or any other picture in the clear."""
    marks = (PICTURE[200:264], b"\xff\xd8\xff", b"\x89PNG", b"WEBPVP8")
    files = {path.name: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    assert "gallery.db" in files
    return [name for name, content in files.items() if any(mark in content for mark in marks)]


def with_crops(settings: Settings) -> Settings:
    return settings.model_copy(update={"enrollment": settings.enrollment.model_copy(update={"keep_crops": True})})


@pytest.mark.parametrize("keep_crops", [False, True])
async def test_nothing_of_a_stranger_is_kept(settings: Settings, tmp_path: Path, *, keep_crops: bool) -> None:
    """Neither the picture, nor a crop or vector of it: only an event that says when and where, without a name."""
    settings = with_crops(settings) if keep_crops else settings
    vision = Vision(vector=np.eye(128, dtype=np.float32)[5])
    async with guarding(settings, tmp_path / "guarded", vision) as guarded:
        admin, _ = both(guarded)
        camera = guarded.client(guarded.token("gate", Role.CAMERA))
        before = rows_of(guarded)
        results = await stream(camera, frames=12)
        assert results[-1].faces[0].decision.outcome == common_pb2.OUTCOME_UNKNOWN
        watch = admin.watch_events(resume_token=guarded.service.journal.token(0))
        assert not (await anext(watch)).HasField("event")
        assert (await anext(watch)).event.WhichOneof("payload") == "unknown_person"
        after = rows_of(guarded)
        assert {name: count - before[name] for name, count in after.items() if count != before[name]} == {"events": 1}
        assert longest_of(guarded, "events") < 1000
        assert files_with_pictures(tmp_path) == []


async def test_a_crop_that_is_kept_would_be_noticed(settings: Settings, tmp_path: Path) -> None:
    settings = with_crops(settings)
    async with guarding(settings, tmp_path / "guarded") as guarded:
        admin, _ = both(guarded)
        await admin.create_subject(enrollment_pb2.Subject(subject_id="joe"))
        shown = enrollment_pb2.EnrollSamplesRequest(subject_id="joe", image=common_pb2.Image(data=PICTURE))
        [answer] = [one async for one in admin.enroll([shown])]
        assert answer.verdict == enrollment_pb2.ENROLLMENT_VERDICT_ENROLLED, answer.message
        assert rows_of(guarded)["crops"] == 1
        assert longest_of(guarded, "crops") > 1000
