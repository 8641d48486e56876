"""Three boxes, one gallery in one PostgreSQL: what one is told all know, and one that is cut off goes on."""

import asyncio
import itertools
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Self

import pytest
import pytest_asyncio
from databases import PostgresServer

from facesvc.app import App
from facesvc.client import AsyncClient, frame, opening
from facesvc.client.errors import CallError
from facesvc.config import Settings
from facesvc.v1 import common_pb2, enrollment_pb2, recognition_pb2

PATIENCE_S = 20


class Box:
    """One server, and a client of it."""

    def __init__(self, settings: Settings) -> None:
        self._app = App(settings)
        self.client: AsyncClient

    async def __aenter__(self) -> Self:
        await self._app.__aenter__()
        self.client = AsyncClient(f"127.0.0.1:{self._app.port}")
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.client.close()
        await self._app.__aexit__(None, None, None)

    async def name_of(self, picture: bytes) -> str:
        """Who is in a picture; empty for nobody that the box knows."""
        [face] = (await self.client.search(picture)).faces
        decision = face.decision
        return decision.subject.subject_id if decision.outcome == common_pb2.OUTCOME_MATCH else ""

    async def knows(self, picture: bytes, subject_id: str) -> None:
        """Returns once the box takes the face for that person, or for nobody where it is empty."""
        async with asyncio.timeout(PATIENCE_S):
            while await self.name_of(picture) != subject_id:
                pass  # each look takes its time


Open = Callable[[str], Awaitable[Box]]


@pytest.fixture
def settings_of(settings: Settings, postgres_url: str, tmp_path: Path) -> Callable[[str], Settings]:
    def settings_of(box_id: str) -> Settings:
        gallery = {"path": tmp_path / box_id / "gallery.db", "key_file": tmp_path / "master.key"}
        store = {"url": postgres_url, "box_id": box_id, "poll_seconds": 0.5, "confirm_seconds": 1.0}
        return settings.model_copy(
            update={
                "server": settings.server.model_copy(update={"listen": "127.0.0.1:0"}),
                "gallery": settings.gallery.model_copy(update=gallery),
                "store": settings.store.model_copy(update=store),
            }
        )

    return settings_of


@pytest_asyncio.fixture
async def boxes(settings_of: Callable[[str], Settings]) -> AsyncIterator[list[Box]]:
    async with AsyncExitStack() as stack:
        yield [await stack.enter_async_context(Box(settings_of(name))) for name in ("lobby", "lab", "store")]


async def enrol(box: Box, picture: bytes, subject_id: str = "tom") -> None:
    await box.client.create_subject(enrollment_pb2.Subject(subject_id=subject_id))
    sample = enrollment_pb2.EnrollSamplesRequest(
        subject_id=subject_id, image=common_pb2.Image(data=picture), allow_conflict=True
    )
    [answer] = [one async for one in box.client.enroll([sample])]
    assert answer.verdict == enrollment_pb2.ENROLLMENT_VERDICT_ENROLLED, answer.message


async def test_who_is_enrolled_on_one_is_known_to_all(boxes: list[Box], guest_png: bytes) -> None:
    await enrol(boxes[0], guest_png)
    for box in boxes:
        await box.knows(guest_png, "tom")
    await boxes[1].client.update_subject(enrollment_pb2.Subject(subject_id="tom", disabled=True), ["disabled"])
    for box in boxes:
        await box.knows(guest_png, "")


async def look(box: Box, picture: bytes, over: asyncio.Event) -> set[str]:
    """Whom the box takes the face for, asked again and again until it is over; raises when an answer fails."""
    names = {await box.name_of(picture)}
    while not over.is_set():
        names.add(await box.name_of(picture))
    return names


async def film(box: Box, picture: bytes, seen: asyncio.Event, over: asyncio.Event) -> set[str]:
    """Who comes by a camera until it is over, ``seen`` once there is somebody; each frame follows an answer."""
    turn, names = asyncio.Semaphore(1), set[str]()

    async def frames() -> AsyncIterator[recognition_pb2.Frame]:
        for number in itertools.takewhile(lambda _: not over.is_set(), itertools.count()):
            await turn.acquire()
            yield frame(number, picture)

    async for result in box.client.recognize(opening("door", zone="lobby"), frames()):
        assert result.error.reason in {"", "FRAME_TOO_OLD"}, result.error  # a slow machine has no time for each
        turn.release()
        matches = (one.decision for one in result.faces if one.decision.outcome == common_pb2.OUTCOME_MATCH)
        names.update(match.subject.subject_id for match in matches)
        if names:
            seen.set()
    return names


@pytest.mark.parametrize("away_s", [2, pytest.param(60, marks=[pytest.mark.slow, pytest.mark.timeout(300)])])
async def test_without_the_database_recognition_goes_on_and_nothing_is_lost(
    boxes: list[Box], guest_png: bytes, postgres_server: PostgresServer, away_s: float
) -> None:
    lobby, lab, store = boxes
    meg = enrollment_pb2.Subject(subject_id="meg", display_name="Meg")
    await enrol(lobby, guest_png)
    for box in boxes:
        await box.knows(guest_png, "tom")
    over, arrived = asyncio.Event(), asyncio.Event()
    async with asyncio.TaskGroup() as asking:
        looks = [asking.create_task(look(box, guest_png, over)) for box in boxes]
        await asyncio.to_thread(postgres_server.kill)
        try:
            camera = asking.create_task(film(lobby, guest_png, arrived, over))
            await asyncio.wait_for(arrived.wait(), PATIENCE_S)
            await refused(lab.client.create_subject(meg))
            await asyncio.sleep(away_s)  # nothing is waited for but the time
            assert [await box.name_of(guest_png) for box in boxes] == ["tom"] * 3
            await refused(lab.client.create_subject(meg))
        finally:
            await asyncio.to_thread(postgres_server.start)
            over.set()
    assert [await one for one in (*looks, camera)] == [{"tom"}] * 4
    await lab.client.create_subject(meg)
    assert (await store.client.get_subject("meg")).display_name == "Meg"
    assert await store.name_of(guest_png) == "tom"
    await tells_of(store, "tom", ["arrived", "seen"])
    await lab.client.update_subject(enrollment_pb2.Subject(subject_id="tom", disabled=True), ["disabled"])
    for box in boxes:
        await box.knows(guest_png, "")


async def tells_of(box: Box, subject_id: str, wanted: list[str]) -> None:
    """Returns once the box lists just these events of somebody."""
    async with asyncio.timeout(PATIENCE_S):
        told: list[str] = []
        while told != wanted:
            events = [one async for one in box.client.list_events(subject_id=subject_id)]
            told = sorted(str(one.WhichOneof("payload")) for one in events)
            assert len(told) <= len(wanted), told


async def refused(change: Awaitable[object]) -> None:
    with pytest.raises(CallError, match="does not answer") as refusal:
        await change
    assert refusal.value.reason == "GALLERY_AWAY"


async def test_an_erasure_is_confirmed_by_all_before_the_receipt(boxes: list[Box], guest_png: bytes) -> None:
    await enrol(boxes[0], guest_png)
    for box in boxes:
        await box.knows(guest_png, "tom")
    receipt = await boxes[0].client.erase_subject("tom")
    assert receipt.box_ids == ["lab", "lobby", "store"]
    assert [await box.name_of(guest_png) for box in boxes] == ["", "", ""]


async def test_a_box_that_is_away_keeps_the_receipt_back(
    settings_of: Callable[[str], Settings], guest_png: bytes
) -> None:
    async with Box(settings_of("lobby")) as lobby:
        async with Box(settings_of("lab")) as lab:
            await enrol(lobby, guest_png)
            await lab.knows(guest_png, "tom")
        with pytest.raises(CallError, match="lab did not say yet") as waiting:
            await lobby.client.erase_subject("tom")
        assert waiting.value.reason == "ERASURE_UNCONFIRMED"
        receipt_id = str(waiting.value).split("receipt ")[1].split()[0]
        async with Box(settings_of("lab")) as lab:
            assert await lab.name_of(guest_png) == ""
            receipt = await lobby.client.get_erasure_receipt(receipt_id)
            assert receipt.box_ids == ["lab", "lobby"]


@pytest.mark.slow
async def test_a_box_may_change_whom_another_made_known_a_moment_ago(boxes: list[Box], guest_png: bytes) -> None:
    for number in range(10):
        lobby, lab = boxes[number % 3].client, boxes[(number + 1) % 3].client
        subject_id = f"visitor-{number}"
        await lobby.create_subject(enrollment_pb2.Subject(subject_id=subject_id))
        sample = enrollment_pb2.EnrollSamplesRequest(
            subject_id=subject_id, image=common_pb2.Image(data=guest_png), allow_conflict=True
        )
        [answer] = [one async for one in lab.enroll([sample])]
        assert answer.verdict == enrollment_pb2.ENROLLMENT_VERDICT_ENROLLED, answer.message
        await lobby.delete_sample(subject_id, answer.sample.sample_id)
    for box in boxes:
        await box.knows(guest_png, "")
