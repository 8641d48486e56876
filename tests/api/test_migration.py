"""Changing the models of a running server: nobody is lost, nobody is misnamed, no stream breaks."""

import asyncio
import contextlib
import io
import shutil
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
from api.conftest import Running, Start

from facesvc import client as sdk
from facesvc.client import AsyncClient, CallError
from facesvc.config import PolicySettings, Settings
from facesvc.engine import load_models
from facesvc.gallery import EmbeddingContract
from facesvc.models.intake import UNCALIBRATED
from facesvc.models.library import Library
from facesvc.models.packs import Pack, contract_of
from facesvc.v1 import admin_pb2, enrollment_pb2, recognition_pb2


def with_shift(pack: Pack, name: str, pixels: float) -> Pack:
    """The same models looking at a chip that is shifted a little: another contract."""
    template = tuple((x + pixels, y) for x, y in pack.embedder.template)
    embedder = replace(pack.embedder, template=template)
    contract_id = contract_of(pack.detector, embedder, pack.files, pack.dimension)
    return replace(pack, name=name, embedder=embedder, contract_id=contract_id)


@pytest.fixture
def library(settings: Settings, tmp_path: Path) -> Library:
    """The default pack, ``other`` of another contract, and ``unmeasured``, which has no calibration."""
    folder = tmp_path / "packs"
    shutil.copytree(settings.models.cache_dir, folder)
    library = Library(folder)
    default = library.open("default")
    contents = [(file.name, default.path(file.name).read_bytes()) for file in default.files]
    other = with_shift(default, "other", 0.1)
    points = tuple(point._replace(similarity=point.similarity - 0.002) for point in default.calibration.points)
    library.install(replace(other, calibration=replace(default.calibration, points=points)), contents)
    library.install(replace(with_shift(default, "unmeasured", 0.2), calibration=UNCALIBRATED), contents)
    return library


@pytest.fixture
def keeping(settings: Settings, library: Library) -> Settings:
    """Settings that keep crops."""
    models = settings.models.model_copy(update={"cache_dir": library.folder})
    enrollment = settings.enrollment.model_copy(update={"keep_crops": True})
    return settings.model_copy(update={"models": models, "enrollment": enrollment})


@pytest.fixture(scope="module")
def portraits(group_jpeg: bytes, pack_cache: Path) -> list[bytes]:
    """The six of the group picture, each cut out of it."""
    models = load_models(Settings.model_validate({"models": {"cache_dir": pack_cache}}))
    picture = np.asarray(PIL.Image.open(io.BytesIO(group_jpeg)).convert("RGB"))
    found = sorted(models.detector.detect(picture, 60.0), key=lambda face: face.box.left)
    cut = []
    for face in found:
        centre, half = face.box.left + face.box.width / 2, 0.8 * face.box.height
        top, left = int(max(0, face.box.top - 0.3 * half)), int(max(0, centre - half))
        portrait = io.BytesIO()
        PIL.Image.fromarray(picture[top : top + int(2 * half), left : left + int(2 * half)]).save(portrait, "PNG")
        cut.append(portrait.getvalue())
    return cut


async def enrol(client: AsyncClient, pictures: Sequence[bytes], first: int = 0) -> list[str]:
    """One subject a picture; the ids of those that were enrolled."""
    ids = []
    for number, picture in enumerate(pictures, first):
        subject_id = f"p{number}"
        await client.create_subject(enrollment_pb2.Subject(subject_id=subject_id, display_name=subject_id))

        async def samples(subject_id: str = subject_id, picture: bytes = picture) -> AsyncIterator[object]:
            yield sdk.sample(subject_id, picture)

        [verdict] = [answer async for answer in client.enroll(samples())]
        if verdict.verdict == enrollment_pb2.ENROLLMENT_VERDICT_ENROLLED:
            ids.append(subject_id)
    return ids


def names(result: recognition_pb2.FrameResult | recognition_pb2.SearchResponse) -> list[str]:
    """Who was matched, largest face first."""
    return [face.decision.subject.subject_id for face in result.faces if face.decision.HasField("subject")]


async def migrated(client: AsyncClient, name: str = "", **options: bool) -> list[admin_pb2.MigrateGalleryResponse]:
    return [response async for response in client.migrate_gallery(name, **options)]


@pytest.fixture
async def running(start: Start, keeping: Settings, portraits: list[bytes]) -> Running:
    running = await start(keeping)
    await enrol(running.client, portraits)
    return running


async def test_a_stream_goes_on_and_knows_everybody_under_the_new_contract(
    running: Running, library: Library, group_jpeg: bytes
) -> None:
    before, after = library.peek("default").contract_id, library.peek("other").contract_id
    known = set(names(await running.client.search(group_jpeg)))
    assert len(known) >= 5
    results: list[recognition_pb2.FrameResult] = []
    answered, moved = asyncio.Semaphore(1), asyncio.Event()

    async def frames() -> AsyncIterator[recognition_pb2.Frame]:
        while not (moved.is_set() and results[-1].embedding_contract == after):
            await answered.acquire()  # one at a time, so that none is dropped
            yield sdk.frame(len(results), group_jpeg)

    async def watch() -> None:
        async for result in running.client.recognize(sdk.opening("door"), frames()):
            results.append(result)
            answered.release()

    watching = asyncio.create_task(watch())
    progress = await migrated(running.client, "other")
    moved.set()
    await watching

    assert progress[0].stage == admin_pb2.MIGRATION_STAGE_LOADING
    last = progress[-1]
    assert (last.stage, last.rank_one, last.model_pack.name) == (admin_pb2.MIGRATION_STAGE_SWITCHED, 1.0, "other")
    assert not any(result.HasField("error") for result in results)
    contracts = [result.embedding_contract for result in results]
    assert contracts == sorted(contracts, key=[before, after].index)
    assert set(contracts) == {before, after}
    assert all(set(names(result)) == known for result in results)
    thresholds = {(result.embedding_contract, face.decision.threshold) for result in results for face in result.faces}
    assert thresholds == {
        (library.peek(name).contract_id, np.float32(library.peek(name).calibration.similarity_at(1e-3)))
        for name in ("default", "other")
    }
    assert (await running.client.server_info()).model_pack.name == "other"
    assert library.chosen() == "other"


async def test_what_was_migrated_is_there_after_a_restart(
    running: Running, keeping: Settings, group_jpeg: bytes, library: Library
) -> None:
    known = names(await running.client.search(group_jpeg))
    await migrated(running.client, "other")
    await running.server.stop()
    running.service.gallery.close()
    from facesvc import app

    again = await asyncio.to_thread(app.load_service, keeping)
    with contextlib.closing(again.gallery), contextlib.closing(again.workers):
        assert again.engine.pack.name == "other"
        assert again.gallery.has_vectors_for(again.engine.pack.contract_id) == (len(known), len(known))


async def test_back_again_with_those_who_were_enrolled_since(
    running: Running, group_jpeg: bytes, guest_png: bytes
) -> None:
    known = set(names(await running.client.search(group_jpeg)))
    await migrated(running.client, "other")
    assert await enrol(running.client, [guest_png], first=10) == ["p10"]
    progress = await migrated(running.client, rollback=True)
    assert progress[-1].model_pack.name == "default"
    [embedding] = [one for one in progress if one.stage == admin_pb2.MIGRATION_STAGE_EMBEDDING]
    assert (embedding.done_count, embedding.total_count) == (1, 1)  # the others' old vectors were kept
    assert set(names(await running.client.search(group_jpeg))) == known
    assert names(await running.client.search(guest_png)) == ["p10"]


async def test_load_model_needs_a_vector_of_everybody(running: Running, group_jpeg: bytes) -> None:
    known = names(await running.client.search(group_jpeg))
    with pytest.raises(CallError) as refusal:
        await running.client.load_model("other")
    assert refusal.value.reason == "MIGRATION_REQUIRED"
    await migrated(running.client, "other")
    assert (await running.client.load_model("default")).active
    response = await running.client.search(group_jpeg)
    assert names(response) == known
    assert response.embedding_contract == running.service.engine.pack.contract_id


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        pytest.param("nobody", "NOT_FOUND", marks=pytest.mark.slow),
        pytest.param("../default", "INVALID_INPUT", marks=pytest.mark.slow),
        ("unmeasured", "POLICY_UNAVAILABLE"),
    ],
)
async def test_what_cannot_be_loaded_changes_nothing(running: Running, name: str, reason: str) -> None:
    for call in (running.client.load_model(name), migrated(running.client, name)):
        with pytest.raises(CallError) as refusal:
            await call
        assert refusal.value.reason == reason
    assert (await running.client.server_info()).model_pack.name == "default"


@pytest.mark.slow
async def test_those_without_a_crop_are_listed(
    start: Start, keeping: Settings, portraits: list[bytes], group_jpeg: bytes
) -> None:
    enrollment = keeping.enrollment.model_copy(update={"keep_crops": False})
    running = await start(keeping.model_copy(update={"enrollment": enrollment}))
    ids = await enrol(running.client, portraits[:2])
    missing: list[str] = []

    async def tried() -> None:
        async for response in running.client.migrate_gallery("other"):
            missing.extend(sample.subject_id for sample in response.missing)

    with pytest.raises(CallError) as refusal:
        await tried()
    assert refusal.value.reason == "CROPS_MISSING"
    assert missing == ids
    assert set(names(await running.client.search(group_jpeg))) == set(ids)

    last = (await migrated(running.client, "other", skip_missing=True))[-1]
    assert [sample.subject_id for sample in last.missing] == ids
    assert names(await running.client.search(group_jpeg)) == []
    assert (await running.client.get_subject(ids[0])).subject_id == ids[0]
    assert (await migrated(running.client, rollback=True))[-1].model_pack.name == "default"
    assert set(names(await running.client.search(group_jpeg))) == set(ids)


async def test_one_migration_at_a_time(running: Running, library: Library) -> None:
    pack = library.peek("other")
    held = running.service.gallery.begin_migration(EmbeddingContract(pack.contract_id, pack.dimension))
    with pytest.raises(CallError) as refusal:
        await migrated(running.client, "other")
    assert refusal.value.reason == "MIGRATION_RUNNING"
    held.abandon()
    assert (await migrated(running.client, "other"))[-1].model_pack.name == "other"


@pytest.mark.slow
async def test_one_that_is_left_has_changed_nothing_and_can_be_begun_again(running: Running) -> None:
    left = running.client.migrate_gallery("other")
    assert (await anext(left)).stage == admin_pb2.MIGRATION_STAGE_LOADING
    await left.aclose()
    assert (await running.client.server_info()).model_pack.name == "default"
    last = None
    while last is None:  # until the server has noticed that the first one left; the test's time limit bounds it
        with contextlib.suppress(CallError):
            last = (await migrated(running.client, "other"))[-1]
    assert last.model_pack.name == "other"


async def test_whoever_was_erased_stays_so(running: Running, group_jpeg: bytes) -> None:
    gone, *others = names(await running.client.search(group_jpeg))
    progress = running.client.migrate_gallery("other")
    await anext(progress)
    await running.client.erase_subject(gone)
    async for _ in progress:
        pass
    assert set(names(await running.client.search(group_jpeg))) == set(others)


async def test_models_that_tell_nobody_apart_are_refused(
    running: Running, library: Library, monkeypatch: pytest.MonkeyPatch
) -> None:
    from facesvc.vision.embed import Embedder

    blind = np.eye(1, running.service.engine.pack.dimension, dtype=np.float32)[0]
    load = running.service.load_engine

    def loaded(pack: Pack) -> object:
        engine = load(pack)
        real = engine.pipeline.embedder
        embedder = Embedder(lambda _: (blind[None],), real.side, real.mean, real.std, real.template, real.dimension)
        return replace(engine, pipeline=replace(engine.pipeline, embedder=embedder))

    object.__setattr__(running.service, "load_engine", loaded)
    for _ in range(2):  # what the first try made is not taken for good by the second
        with pytest.raises(CallError) as refusal:
            await migrated(running.client, "other")
        assert refusal.value.reason == "CHECK_FAILED"
    with pytest.raises(CallError) as refusal:
        await running.client.load_model("other")
    assert refusal.value.reason == "MIGRATION_REQUIRED"
    assert (await running.client.server_info()).model_pack.name == "default"


@pytest.mark.slow
async def test_crops_that_turn_out_to_be_of_no_use_are_listed(
    running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    from facesvc.vision.pipeline import Pipeline

    monkeypatch.setattr(Pipeline, "find", lambda self, crop: None)
    missing: set[str] = set()

    async def tried() -> None:
        async for response in running.client.migrate_gallery("other"):
            missing.update(sample.subject_id for sample in response.missing)

    with pytest.raises(CallError) as refusal:
        await tried()
    assert refusal.value.reason == "CROPS_MISSING"
    assert len(missing) >= 4


@pytest.mark.slow
async def test_somebody_who_is_erased_before_the_check_does_not_fail_it(
    running: Running, monkeypatch: pytest.MonkeyPatch, group_jpeg: bytes
) -> None:
    from facesvc.gallery.migration import Migration

    gone = names(await running.client.search(group_jpeg))[0]
    real = Migration.checkable

    def erased(migration: Migration, most: int) -> object:
        found = real(migration, most)
        running.service.gallery.erase_subject("default", gone, running.service.now())
        return found

    monkeypatch.setattr(Migration, "checkable", erased)
    last = (await migrated(running.client, "other"))[-1]
    assert last.rank_one == 1.0
    assert gone not in names(await running.client.search(group_jpeg))


@pytest.mark.slow
async def test_the_change_stands_where_it_cannot_be_remembered(
    running: Running, library: Library, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, before = running.service.load_engine, library.chosen()

    def removed(pack: Pack) -> object:
        engine = real(pack)
        library.remove("other")
        return engine

    object.__setattr__(running.service, "load_engine", removed)
    assert (await migrated(running.client, "other"))[-1].model_pack.name == "other"
    assert library.chosen() == before


@pytest.mark.slow
async def test_who_is_enrolled_at_the_last_moment_is_embedded_without_another_check(
    running: Running, monkeypatch: pytest.MonkeyPatch, guest_png: bytes
) -> None:
    from facesvc.gallery.migration import Migration

    real, checks = Migration.checkable, []

    def late(migration: Migration, most: int) -> object:
        checks.append(most)
        found = real(migration, most)
        done = asyncio.run_coroutine_threadsafe(enrol(running.client, [guest_png], first=10), loop)
        assert done.result(30) == ["p10"]
        return found

    loop = asyncio.get_running_loop()
    monkeypatch.setattr(Migration, "checkable", late)
    progress = await migrated(running.client, "other")
    assert progress[-1].model_pack.name == "other"
    assert len(checks) == 1
    assert names(await running.client.search(guest_png)) == ["p10"]


@pytest.mark.parametrize(("name", "rollback"), [("", False), ("other", True)])
async def test_a_name_or_a_rollback(running: Running, name: str, rollback: bool) -> None:  # noqa: FBT001 - a parameter
    with pytest.raises(CallError, match="one of both") as refusal:
        await migrated(running.client, name, rollback=rollback)
    assert refusal.value.field == "name"


@pytest.mark.slow
async def test_an_enrolment_that_meets_the_change_is_made_under_the_new_contract(
    running: Running, library: Library, monkeypatch: pytest.MonkeyPatch, guest_png: bytes
) -> None:
    from facesvc.gallery import Gallery

    real, tried = Gallery.add_sample, []
    loop, engines = asyncio.get_running_loop(), running.service.engines
    changes: list[object] = []

    def meeting(gallery: Gallery, *arguments: object, contract_id: str, crop: bytes | None) -> None:
        tried.append(contract_id)
        if len(tried) == 1:
            old = engines.current
            changes.append(asyncio.run_coroutine_threadsafe(migrated(running.client, "other"), loop))
            assert engines.wait_replaced(old, 30)
        real(gallery, *arguments, contract_id=contract_id, crop=crop)

    monkeypatch.setattr(Gallery, "add_sample", meeting)
    assert await enrol(running.client, [guest_png], first=10) == ["p10"]
    assert tried == [library.peek(name).contract_id for name in ("default", "other")]
    assert names(await running.client.search(guest_png)) == ["p10"]
    [change] = changes
    assert (await asyncio.wrap_future(change))[-1].model_pack.name == "other"


async def test_models_that_cannot_honour_the_policy_of_an_open_stream_wait_for_its_end(
    start: Start, keeping: Settings, library: Library, group_jpeg: bytes
) -> None:
    default = library.open("default")
    few = tuple(point for point in default.calibration.points if point.fmr >= 1e-3)
    short = replace(with_shift(default, "short", 0.3), calibration=replace(default.calibration, points=few))
    library.install(short, [(file.name, default.path(file.name).read_bytes()) for file in default.files])
    strict = PolicySettings(false_match_rate=1e-4, minimum_true_match_rate=0.1)
    running = await start(keeping.model_copy(update={"policies": {**keeping.policies, "strict": strict}}))
    seen, over = asyncio.Event(), asyncio.Event()

    async def frames() -> AsyncIterator[recognition_pb2.Frame]:
        yield sdk.frame(1, group_jpeg)
        await over.wait()

    async def watch() -> None:
        async for _ in running.client.recognize(sdk.opening("door", policy="strict"), frames()):
            seen.set()

    watching = asyncio.create_task(watch())
    await seen.wait()
    for call in (running.client.load_model("short"), migrated(running.client, "short")):
        with pytest.raises(CallError, match="policy strict cannot be honoured with pack short") as refusal:
            await call
        assert refusal.value.reason == "POLICY_UNAVAILABLE"
    over.set()
    await watching
    assert (await running.client.load_model("short")).active


@pytest.mark.slow
async def test_list_models_tells_which_is_at_work(running: Running, library: Library) -> None:
    (library.folder / "other" / "manifest.json").write_text("{}")
    listed = {pack.name: pack for pack in await running.client.list_models()}
    assert listed["default"].active
    assert listed["default"].embedded_sample_count > 0
    assert listed["default"].impostor_pairs > 0
    assert not listed["unmeasured"].active
    assert listed["unmeasured"].calibration_source == ""
    assert "manifest.json cannot be used" in listed["other"].problem


async def test_a_lost_key_is_said_at_the_start(running: Running, keeping: Settings) -> None:
    await running.server.stop()
    running.service.gallery.close()
    assert keeping.gallery.key_path.stat().st_mode & 0o077 == 0
    keeping.gallery.key_path.unlink()
    from facesvc import app
    from facesvc.errors import DependencyError

    with pytest.raises(DependencyError, match="key") as refusal:
        await asyncio.to_thread(app.load_service, keeping)
    assert refusal.value.reason == "KEY_MISSING"
