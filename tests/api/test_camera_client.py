"""The SDK's camera loop and the real server."""

import asyncio
from pathlib import Path
from queue import SimpleQueue

from api.conftest import Start, Vision
from api.pictures import textured
from client.scripted import Tape

from facesvc.api.server import Server
from facesvc.client import CameraLoop, Client, Level, opening
from facesvc.config import Settings


def encoded(_: str, __: Level) -> bytes:
    return textured()


async def test_a_server_that_is_still_loading_is_waited_for(settings: Settings, tmp_path: Path) -> None:
    server = Server(settings)
    await server.start(f"unix:{tmp_path}/socket")
    troubles: SimpleQueue[str] = SimpleQueue()
    with Client(f"unix:{tmp_path}/socket") as client:
        loop = CameraLoop(client, opening("cam"), lambda: Tape("0"), encoded, on_trouble=troubles.put)
        running = asyncio.create_task(asyncio.to_thread(list, loop.run()))
        trouble = await asyncio.to_thread(troubles.get, timeout=30)
        loop.close()
        await running
    await server.stop()
    assert trouble.startswith("the models are being loaded")


async def test_it_sends_as_many_frames_as_the_server_would_take(start: Start, vision: Vision) -> None:
    running = await start(vision=vision)
    with Client(running.address) as client:
        tape = Tape(*map(str, range(50)), None)
        loop = CameraLoop(client, opening("cam", every_frame=True), lambda: tape, encoded, live=False)
        answers = await asyncio.to_thread(list, loop.run())
    results = [answer.result for answer in answers if answer.HasField("result")]
    totals = running.service.statistics.totals()
    assert results
    assert totals.frames_received == totals.frames_processed == len(results)
    assert totals.frames_dropped == 0
