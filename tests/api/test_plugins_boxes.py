"""Plugins of boxes that share one PostgreSQL: each event is for the box that saw it, erasure is for all."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
import pytest_asyncio
from api.scripted_plugin import Script, enlist, manifest_of
from api.test_boxes import PATIENCE_S, Box, enrol, tells_of
from databases import PostgresServer

from facesvc.client import frame, opening
from facesvc.config import Settings
from facesvc.events.plugin import Role
from facesvc.v1 import recognition_pb2

BOXES = ("lobby", "lab")


@pytest.fixture
def settings_of(settings: Settings, postgres_url: str, tmp_path: Path) -> Callable[[str], Settings]:
    def settings_of(box_id: str) -> Settings:
        gallery = {"path": tmp_path / box_id / "gallery.db", "key_file": tmp_path / "master.key"}
        store = {"url": postgres_url, "box_id": box_id, "poll_seconds": 0.5, "confirm_seconds": 5.0}
        return settings.model_copy(
            update={
                "server": settings.server.model_copy(update={"listen": "127.0.0.1:0"}),
                "gallery": settings.gallery.model_copy(update=gallery),
                "store": settings.store.model_copy(update=store),
            }
        )

    return settings_of


@pytest.fixture
def scripts() -> dict[str, Script]:
    """What the plugin of each box does."""
    return {name: Script() for name in BOXES}


@pytest_asyncio.fixture
async def boxes(
    settings_of: Callable[[str], Settings], scripts: dict[str, Script], monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[dict[str, Box]]:
    async with AsyncExitStack() as stack:
        found = {}
        for name in BOXES:
            enlist(monkeypatch, manifest_of(scripts[name], role=Role.ENRICHES))
            found[name] = await stack.enter_async_context(Box(settings_of(name)))
        yield found


async def pass_by(box: Box, picture: bytes, zone: str) -> None:
    """Somebody stands before a camera of a box until it knows them."""
    turn, known = asyncio.Semaphore(1), False

    async def frames() -> AsyncIterator[recognition_pb2.Frame]:
        number = 0
        while not known:
            await turn.acquire()
            yield frame(number, picture)
            number += 1

    async for result in box.client.recognize(opening(f"{zone}-1", zone=zone), frames()):
        known = known or any(face.decision.HasField("subject") and face.decision.settled for face in result.faces)
        turn.release()


async def until(condition: Callable[[], bool | Awaitable[bool]]) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while True:
            result = condition()
            if result if isinstance(result, bool) else await result:
                return
            await asyncio.sleep(0.01)


async def test_an_event_is_for_the_box_that_saw_it_and_erasure_for_all(
    boxes: dict[str, Box], scripts: dict[str, Script], guest_png: bytes, postgres_server: PostgresServer
) -> None:
    for script in scripts.values():
        script.keeps = True
    await enrol(boxes["lobby"], guest_png)
    for name, box in boxes.items():
        await box.knows(guest_png, "tom")
        await pass_by(box, guest_png, name)
        await until(lambda name=name: ("Seen", "tom") in scripts[name].events)  # type: ignore[misc]  # one for each box
    for name, script in scripts.items():
        assert {one.event.zone for one in script.deliveries} == {name}
        ids = [one.event.event_id for one in script.deliveries]
        assert len(ids) == len(set(ids))
    (runner,) = boxes["lab"]._app._service.plugins.runners
    await until(lambda: runner.standing().tally.delivered == len(scripts["lab"].deliveries))
    (found,) = await boxes["lab"].client.list_plugins()
    assert (found.delivered, found.missed) == (len(scripts["lab"].deliveries), 0)

    kept = len(scripts["lobby"].deliveries) + len(scripts["lab"].deliveries)
    receipt = await boxes["lobby"].client.erase_subject("tom")
    assert receipt.plugin_note_count == kept + 1
    await until(lambda: scripts["lab"].forgotten == [("default", "tom")])
    assert ("default", "tom") in scripts["lobby"].forgotten
    await tells_of(boxes["lab"], "tom", [])


@pytest.mark.slow
async def test_while_the_database_is_away_the_plugins_are_still_shown(
    boxes: dict[str, Box], scripts: dict[str, Script], guest_png: bytes, postgres_server: PostgresServer
) -> None:
    lobby = boxes["lobby"]
    await enrol(lobby, guest_png)
    await lobby.knows(guest_png, "tom")
    await asyncio.to_thread(postgres_server.kill)
    try:
        (found,) = await lobby.client.list_plugins()
        assert "does not answer" in found.last_error or "away" in found.last_error
        assert (await lobby.client.get_statistics()).plugins
        await pass_by(lobby, guest_png, "lobby")
    finally:
        await asyncio.to_thread(postgres_server.start)
    await until(lambda: ("Seen", "tom") in scripts["lobby"].events)
    ids = [one.event.event_id for one in scripts["lobby"].deliveries]
    assert len(ids) == len(set(ids))
