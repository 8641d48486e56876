"""The examples of controllers that are clients of the server: run as they are, against a real gRPC server.

The server is made up, its messages are real: it streams what each test says.
"""

import asyncio
import os
import shutil
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration

from facesvc.v1 import common_pb2, presence_pb2, presence_pb2_grpc

ROOT = Path(__file__).resolve().parents[3]
EXAMPLES = Path(__file__).resolve().parents[1] / "examples"


class Events(presence_pb2_grpc.PresenceServiceServicer):
    """Each watch gets what ``said`` gives it next, and ends at a None."""

    def __init__(self) -> None:
        self.said: asyncio.Queue[presence_pb2.Event | None] = asyncio.Queue()
        self.tokens: list[str] = []

    async def WatchEvents(  # noqa: N802 - gRPC's name
        self, request: presence_pb2.WatchEventsRequest, context: Any
    ) -> AsyncIterator[presence_pb2.WatchEventsResponse]:
        self.tokens.append(request.resume_token)
        yield presence_pb2.WatchEventsResponse(resume_token="0")
        while (event := await self.said.get()) is not None:
            yield presence_pb2.WatchEventsResponse(event=event, resume_token="1")


@pytest.fixture
async def server() -> AsyncIterator[tuple[Events, str]]:
    events: Any = Events()  # type: ignore[abstract]  # a door calls nothing else
    one = grpc.aio.server()
    presence_pb2_grpc.add_PresenceServiceServicer_to_server(events, one)
    port = one.add_insecure_port("127.0.0.1:0")
    await one.start()
    yield events, f"127.0.0.1:{port}"
    await one.stop(None)


def seen(event_id: str, subject_id: str = "ana", camera_id: str = "door-1", **changes: Any) -> presence_pb2.Event:
    """Somebody before the door; ``changes`` are fields of the decision."""
    given: dict[str, Any] = {
        "decision_id": f"decision-{event_id}",
        "outcome": common_pb2.OUTCOME_MATCH,
        "subject": common_pb2.Candidate(subject_id=subject_id),
        "policy": "access",
        "false_match_rate": 1e-5,
        "valid_for": Duration(seconds=1, nanos=900_000_000),
        "liveness": common_pb2.Liveness(score=0.9, frames_looked_at=5, threshold=0.5),
    }
    decision = common_pb2.Decision(**(given | changes))
    payload = presence_pb2.SeenEvent(camera_id=camera_id, collection_id="default", track_id="1", decision=decision)
    return presence_pb2.Event(event_id=event_id, seen=payload)


NOBODY = presence_pb2.Event(
    event_id="0",
    unknown_person=presence_pb2.UnknownPersonEvent(
        camera_id="door-1", decision=common_pb2.Decision(decision_id="x", outcome=common_pb2.OUTCOME_UNKNOWN)
    ),
)
FIRST = [
    (NOBODY, ""),
    (seen("1", outcome=common_pb2.OUTCOME_AMBIGUOUS), "closed 1 NOT_A_MATCH"),
    (seen("2", subject=None), "closed 2 NOT_A_MATCH"),
    (seen("3", policy="presence"), "closed 3 WRONG_POLICY"),
    (seen("4", false_match_rate=1e-3), "closed 4 RATE_TOO_HIGH"),
    (seen("5", liveness=None), "closed 5 NOT_LIVE"),
    (seen("6", liveness=common_pb2.Liveness(score=0.4, threshold=0.5)), "closed 6 NOT_LIVE"),
    (seen("7", valid_for=Duration()), "closed 7 EXPIRED"),
    (seen("8", valid_for=None), "closed 8 EXPIRED"),
    (seen("9", "eve"), "closed 9 NO_PERMISSION"),
    (seen("10", camera_id="hall"), ""),
    (seen("11"), "open 11"),
    (seen("11"), "closed 11 REPLAYED"),
    (seen("12", decision_id="decision-11"), "closed 12 REPLAYED"),
    (seen("4"), "closed 4 REPLAYED"),
]
AFTER_A_BREAK = [(seen("11"), "closed 11 REPLAYED"), (seen("13", "ben"), "open 13")]


@asynccontextmanager
async def running(*command: str, **environment: str) -> AsyncIterator[asyncio.subprocess.Process]:
    one = await asyncio.create_subprocess_exec(
        *command, stdout=asyncio.subprocess.PIPE, env={**os.environ, **environment}
    )
    try:
        yield one
    finally:
        if one.returncode is None:
            one.kill()
        await one.communicate()


async def line(one: asyncio.subprocess.Process) -> str:
    assert one.stdout is not None
    async with asyncio.timeout(30):
        return (await one.stdout.readline()).decode().strip()


async def judged(one: asyncio.subprocess.Process, relay: list[str]) -> str:
    """The next line that is about an event; what the relay does goes to ``relay``."""
    while (said := await line(one)).startswith("relay"):
        relay.append(said)
    return said


async def tell(one: asyncio.subprocess.Process, events: Events) -> None:
    """Everything that a controller has to stand; it ends with the relay off."""
    relay: list[str] = []
    assert await judged(one, relay) == "watching"
    assert relay == ["relay off"], "off before anything else"
    for group in (FIRST, AFTER_A_BREAK):
        for event, _ in group:
            events.said.put_nowait(event)
        for _, said in group:
            if said:
                assert await judged(one, relay) == said
        if group is FIRST:
            events.said.put_nowait(None)
            assert await judged(one, relay) == "watching"
    assert events.tokens == ["", ""], "a door does not ask for what it missed"
    while relay.count("relay on") < 2 or relay[-1] != "relay off":
        relay.append(await line(one))
    one.send_signal(signal.SIGTERM)
    while said := await line(one):
        relay.append(said)
    async with asyncio.timeout(30):
        assert await one.wait() == 0
    assert relay.count("relay on") == 2
    assert relay[-1] == "relay off"


def options(address: str, pulse: str = "0.05") -> list[str]:
    people = ["--subject", "ana", "--subject", "ben"]
    return ["--address", address, "--camera", "door-1", *people, "--pulse", pulse, "--retry", "0.01"]


async def test_the_controller_in_python(server: tuple[Events, str]) -> None:
    events, address = server
    program = str(EXAMPLES / "python" / "doorkeeper.py")
    async with running(sys.executable, program, *options(address)) as one:
        await tell(one, events)


async def test_the_controller_in_python_ends_a_pulse_that_is_interrupted(server: tuple[Events, str]) -> None:
    events, address = server
    program = str(EXAMPLES / "python" / "doorkeeper.py")
    async with running(sys.executable, program, *options(address, "600")) as one:
        events.said.put_nowait(seen("1"))
        while await line(one) != "relay on":
            pass
        events.said.put_nowait(seen("2", "ben"))
        assert await line(one) == "open 2", "nobody waits for the end of a pulse, growing old"
        assert await line(one) == "relay on"
        one.send_signal(signal.SIGTERM)
        assert await line(one) == "relay off"
        async with asyncio.timeout(30):
            assert await one.wait() == 0


def modules() -> Path:
    """The folder of npm's packages. Skips where node or the packages are not installed."""
    if shutil.which("node") is None:
        pytest.skip("node is not installed (Debian: nodejs)")
    places = [ROOT / ".venv" / "npm" / "node_modules"]
    if "FACESVC_NPM_BIN" in os.environ:
        places.insert(0, Path(os.environ["FACESVC_NPM_BIN"]).parent)
    for place in places:
        if (place / "@grpc" / "grpc-js").is_dir() and (place / "@grpc" / "proto-loader").is_dir():
            return place
    pytest.skip("npm's packages @grpc/grpc-js and @grpc/proto-loader are not installed: make counterparts")


async def test_the_controller_in_javascript(server: tuple[Events, str]) -> None:
    events, address = server
    program = str(EXAMPLES / "js" / "doorkeeper.js")
    async with running("node", program, *options(address), NODE_PATH=str(modules())) as one:
        await tell(one, events)


async def test_the_controller_in_javascript_ends_a_pulse_that_is_interrupted(server: tuple[Events, str]) -> None:
    events, address = server
    program = str(EXAMPLES / "js" / "doorkeeper.js")
    async with running("node", program, *options(address, "600"), NODE_PATH=str(modules())) as one:
        events.said.put_nowait(seen("1"))
        while await line(one) != "relay on":
            pass
        events.said.put_nowait(seen("2", "ben"))
        assert await line(one) == "open 2", "nobody waits for the end of a pulse, growing old"
        assert await line(one) == "relay on"
        one.send_signal(signal.SIGTERM)
        assert await line(one) == "relay off"
        async with asyncio.timeout(30):
            assert await one.wait() == 0
