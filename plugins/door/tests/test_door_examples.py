"""The examples of controllers that are clients of the server: run as they are, against a real gRPC server.

The server is made up, its messages are real: it streams what each test says, and keeps what doors say.
"""

import asyncio
import importlib.util
import os
import shutil
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NoReturn

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration

from facesvc.security.authority import Authority
from facesvc.v1 import common_pb2, presence_pb2, presence_pb2_grpc

ROOT = Path(__file__).resolve().parents[3]
EXAMPLES = Path(__file__).resolve().parents[1] / "examples"


LOST = "4"
"""Of this event the server does not know the nonce."""


class Events(presence_pb2_grpc.PresenceServiceServicer):
    """Each watch gets what ``said`` gives it next, and ends at a None. ``shown``: how callers said who they are."""

    def __init__(self) -> None:
        self.said: asyncio.Queue[presence_pb2.Event | None] = asyncio.Queue()
        self.tokens: list[str] = []
        self.shown: set[str] = set()
        self.done: list[tuple[str, str, str]] = []
        self.all_done = asyncio.Event()

    async def WatchEvents(  # noqa: N802 - gRPC's name
        self, request: presence_pb2.WatchEventsRequest, context: Any
    ) -> AsyncIterator[presence_pb2.WatchEventsResponse]:
        self._look(context)
        self.tokens.append(request.resume_token)
        yield presence_pb2.WatchEventsResponse(resume_token="0")
        while (event := await self.said.get()) is not None:
            holds = event.seen.decision.valid_for.ToTimedelta().total_seconds() > 0
            nonce = f"nonce-{event.event_id}" if holds else ""
            yield presence_pb2.WatchEventsResponse(event=event, resume_token="1", nonce=nonce)

    async def AcknowledgeDecision(  # noqa: N802 - gRPC's name
        self, request: presence_pb2.AcknowledgeDecisionRequest, context: Any
    ) -> presence_pb2.AcknowledgeDecisionResponse:
        self._look(context)
        assert (request.nonce, request.door) == (f"nonce-{request.event_id}", "front")
        if request.event_id == LOST:
            await context.abort(grpc.StatusCode.FAILED_PRECONDITION, "this nonce is not known")
        action = presence_pb2.DoorAction.Name(request.action).removeprefix("DOOR_ACTION_")
        self.done.append((request.event_id, action, request.reason))
        if len(self.done) == len(DONE):
            self.all_done.set()
        return presence_pb2.AcknowledgeDecisionResponse()

    def _look(self, context: Any) -> None:
        self.shown |= {value for key, value in context.invocation_metadata() if key == "authorization"}


@pytest.fixture
async def server() -> AsyncIterator[tuple[Events, str]]:
    events: Any = Events()  # type: ignore[abstract]  # a door calls nothing else
    one = grpc.aio.server()
    presence_pb2_grpc.add_PresenceServiceServicer_to_server(events, one)
    port = one.add_insecure_port("127.0.0.1:0")
    await one.start()
    yield events, f"127.0.0.1:{port}"
    await one.stop(None)


@pytest.fixture
async def secured(tmp_path: Path) -> AsyncIterator[tuple[Events, list[str]]]:
    """A server behind TLS, and the options of whoever knows it."""
    events: Any = Events()  # type: ignore[abstract]  # as above
    authority = Authority.make("a test", datetime.now(UTC))
    issued = authority.issue_server(("127.0.0.1",), datetime.now(UTC))
    (tmp_path / "ca.pem").write_bytes(authority.pem)
    (tmp_path / "door.token").write_text("fsv_secret\n")
    one = grpc.aio.server()
    presence_pb2_grpc.add_PresenceServiceServicer_to_server(events, one)
    port = one.add_secure_port("127.0.0.1:0", grpc.ssl_server_credentials([(issued.key, issued.certificate)]))
    await one.start()
    known = ["--ca-file", str(tmp_path / "ca.pem"), "--token-file", str(tmp_path / "door.token")]
    yield events, [*options(f"127.0.0.1:{port}"), *known]
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
# Not of those that have expired, which have no nonce, nor of another camera's.
DONE = [
    ("1", "REFUSED", "NOT_A_MATCH"),
    ("2", "REFUSED", "NOT_A_MATCH"),
    ("3", "REFUSED", "WRONG_POLICY"),
    ("5", "REFUSED", "NOT_LIVE"),
    ("6", "REFUSED", "NOT_LIVE"),
    ("9", "REFUSED", "NO_PERMISSION"),
    ("11", "OPENED", ""),
    ("11", "REFUSED", "REPLAYED"),
    ("12", "REFUSED", "REPLAYED"),
    ("11", "REFUSED", "REPLAYED"),
    ("13", "OPENED", ""),
]


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
    """The next line that is about an event; what the relay does goes to ``relay``, and what could not be reported."""
    while (said := await line(one)).startswith(("relay", "not reported")):
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
    unreported = [said for said in relay if said.startswith("not")]
    relay = [said for said in relay if said.startswith("relay")]
    while relay.count("relay on") < 2 or relay[-1] != "relay off" or len(unreported) < 2:
        said = await line(one)
        (relay if said.startswith("relay") else unreported).append(said)
    assert [said.rpartition(" ")[0] for said in unreported] == [f"not reported {LOST}"] * 2, "it came twice"
    async with asyncio.timeout(30):
        await events.all_done.wait()
    assert sorted(events.done) == sorted(DONE)
    one.send_signal(signal.SIGTERM)
    while said := await line(one):
        relay.append(said)
    async with asyncio.timeout(30):
        assert await one.wait() == 0
    assert relay.count("relay on") == 2
    assert relay[-1] == "relay off"


def options(address: str, pulse: str = "0.05") -> list[str]:
    people = ["--subject", "ana", "--subject", "ben"]
    door = ["--camera", "door-1", "--door", "front"]
    return ["--address", address, *door, *people, "--pulse", pulse, "--retry", "0.01"]


async def test_the_controller_in_python(server: tuple[Events, str]) -> None:
    events, address = server
    program = str(EXAMPLES / "python" / "doorkeeper.py")
    async with running(sys.executable, program, *options(address)) as one:
        await tell(one, events)


async def test_the_controller_in_python_says_who_it_is(secured: tuple[Events, list[str]]) -> None:
    events, known = secured
    async with running(sys.executable, str(EXAMPLES / "python" / "doorkeeper.py"), *known) as one:
        await tell(one, events)
    assert events.shown == {"Bearer fsv_secret"}


async def test_the_controller_in_javascript_says_who_it_is(secured: tuple[Events, list[str]]) -> None:
    events, known = secured
    program = str(EXAMPLES / "js" / "doorkeeper.js")
    async with running("node", program, *known, NODE_PATH=str(modules())) as one:
        await tell(one, events)
    assert events.shown == {"Bearer fsv_secret"}


async def test_a_relay_that_fails_is_reported_and_off() -> None:
    spec = importlib.util.spec_from_file_location("doorkeeper", EXAMPLES / "python" / "doorkeeper.py")
    assert spec is not None
    assert spec.loader is not None
    program: Any = importlib.util.module_from_spec(spec)
    sys.modules["doorkeeper"] = program
    try:
        spec.loader.exec_module(program)
    finally:
        del sys.modules["doorkeeper"]
    switched = []

    class Stuck:
        def on(self) -> NoReturn:
            raise OSError("no relay answers")

        def off(self) -> None:
            switched.append("off")

    keeper = program.Doorkeeper("door-1", "access", frozenset({"ana"}))
    action, reason = program.act(keeper, program.Door(Stuck(), 600.0), seen("1"))
    assert (action, reason) == (presence_pb2.DOOR_ACTION_FAILED, "RELAY_FAILED")
    assert switched == ["off"]


async def test_the_controller_in_python_ends_a_pulse_that_is_interrupted(server: tuple[Events, str]) -> None:
    events, address = server
    program = str(EXAMPLES / "python" / "doorkeeper.py")
    async with running(sys.executable, program, *options(address, "600")) as one:
        events.said.put_nowait(seen("1"))
        while await line(one) != "open 1":
            pass
        events.said.put_nowait(seen("2", "ben"))
        assert await line(one) == "relay on", "nobody waits for the end of a pulse, growing old"
        assert await line(one) == "open 2"
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
        while await line(one) != "open 1":
            pass
        events.said.put_nowait(seen("2", "ben"))
        assert await line(one) == "relay on", "nobody waits for the end of a pulse, growing old"
        assert await line(one) == "open 2"
        one.send_signal(signal.SIGTERM)
        assert await line(one) == "relay off"
        async with asyncio.timeout(30):
            assert await one.wait() == 0
