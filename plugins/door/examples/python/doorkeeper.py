"""A door controller of its own, in Python: watches the events of one camera and pulses a relay.

    facesvc token create front --role door --camera door-1 > door.token
    python doorkeeper.py --address box:50051 --ca-file ca.pem --token-file door.token --camera door-1 --subject ana

It acts on a decision that names somebody (MATCH), of its policy, of a living face, that still holds, that it has not
seen before, about somebody on its list. Everything else leaves the door closed, and so does every error. The watch
begins anew after a break and never goes back: what happened meanwhile has expired. What it did upon a decision it says
to the server, once, with the nonce that came with it: that is in the audit log.
"""

# ruff: noqa: INP001, T201 - a program to be copied, and what it prints is what it does

import argparse
import asyncio
import contextlib
import signal
from collections import OrderedDict
from contextlib import aclosing
from dataclasses import dataclass, field
from pathlib import Path

from facesvc.client import AsyncClient, CallError, Credentials
from facesvc.v1 import common_pb2, presence_pb2

MAX_FALSE_MATCH_RATE = 1.000001e-5  # 1e-5, with room for how floats are written
REMEMBERED = 10_000
WORDS = {
    presence_pb2.DOOR_ACTION_OPENED: "open",
    presence_pb2.DOOR_ACTION_REFUSED: "closed",
    presence_pb2.DOOR_ACTION_FAILED: "failed",
}


class Relay:
    """Put your own relay here. ``off`` has to work always, ``on`` only as long as somebody switches off again."""

    def on(self) -> None:
        """Let the door be opened."""
        print("relay on", flush=True)

    def off(self) -> None:
        """Keep it closed."""
        print("relay off", flush=True)


class Door:
    """A relay that is on for a while. Somebody who comes during a pulse prolongs it."""

    def __init__(self, relay: Relay, pulse_s: float) -> None:
        self._relay = relay
        self._pulse_s = pulse_s
        self._ending: asyncio.TimerHandle | None = None

    def open(self) -> None:
        """Begin a pulse."""
        self._stop_waiting()
        self._ending = asyncio.get_running_loop().call_later(self._pulse_s, self.close)
        self._relay.on()

    def close(self) -> None:
        """End it."""
        self._stop_waiting()
        self._relay.off()

    def _stop_waiting(self) -> None:
        if self._ending is not None:
            self._ending.cancel()
            self._ending = None


@dataclass
class Doorkeeper:
    """Decides, and remembers what it has decided about."""

    camera: str
    policy: str
    subjects: frozenset[str]
    seen: OrderedDict[str, None] = field(default_factory=OrderedDict)

    def reason_to_stay_closed(self, event: presence_pb2.Event) -> str:
        """Empty where the door may open."""
        decision, liveness = event.seen.decision, event.seen.decision.liveness
        new = [self._is_new(one) for one in (event.event_id, decision.decision_id)]
        subject_id = decision.subject.subject_id
        # The server says how much of its life a decision has left. This runs as the event comes, so that is what is
        # left, and no clock has to be the same. Who lets events wait has to count it down, by time.monotonic().
        left = decision.valid_for.seconds + decision.valid_for.nanos / 1e9
        reasons = [
            ("REPLAYED", not all(new)),
            ("NOT_A_MATCH", decision.outcome != common_pb2.OUTCOME_MATCH or not subject_id),
            ("WRONG_POLICY", decision.policy != self.policy),
            ("RATE_TOO_HIGH", not 0 < decision.false_match_rate <= MAX_FALSE_MATCH_RATE),
            ("NOT_LIVE", not decision.HasField("liveness") or not liveness.score >= liveness.threshold),
            ("EXPIRED", left <= 0),
            ("NO_PERMISSION", subject_id not in self.subjects),
        ]
        return next((reason for reason, holds in reasons if holds), "")

    def _is_new(self, name: str) -> bool:
        if not name or name in self.seen:
            return False
        self.seen[name] = None
        while len(self.seen) > REMEMBERED:
            self.seen.popitem(last=False)
        return True


@dataclass
class Reporter:
    """Says to the server what was done, in tasks of its own: the next person does not wait for it."""

    client: AsyncClient
    door: str
    tasks: set[asyncio.Task[None]] = field(default_factory=set)

    def report(
        self, answer: presence_pb2.WatchEventsResponse, action: presence_pb2.DoorAction.ValueType, reason: str
    ) -> None:
        """Where there is no nonce, such as with a decision that has expired, nobody wants to know."""
        if answer.nonce:
            task = asyncio.create_task(self._report(answer, action, reason))
            self.tasks.add(task)
            task.add_done_callback(self.tasks.discard)

    async def _report(
        self, answer: presence_pb2.WatchEventsResponse, action: presence_pb2.DoorAction.ValueType, reason: str
    ) -> None:
        event_id = answer.event.event_id
        try:
            await self.client.acknowledge_decision(event_id, answer.nonce, self.door, action, reason=reason)
        except CallError as error:
            # The door has done what it had to; that nobody knows of it is no reason to do anything else.
            print(f"not reported {event_id} {error.reason or error.code.name}", flush=True)


def act(keeper: Doorkeeper, door: Door, event: presence_pb2.Event) -> tuple[presence_pb2.DoorAction.ValueType, str]:
    """Open the door or do not; what was done, and why."""
    if reason := keeper.reason_to_stay_closed(event):
        return presence_pb2.DOOR_ACTION_REFUSED, reason
    try:
        door.open()
    except Exception as error:  # noqa: BLE001 - whatever a relay raises, the door is closed
        door.close()
        print(f"the relay failed: {error}", flush=True)
        return presence_pb2.DOOR_ACTION_FAILED, "RELAY_FAILED"
    return presence_pb2.DOOR_ACTION_OPENED, ""


async def watch(client: AsyncClient, keeper: Doorkeeper, door: Door, reporter: Reporter) -> None:
    """Until the stream ends. Nothing here may wait: an event that waits grows old unnoticed."""
    async with aclosing(client.watch_events()) as answers:
        async for answer in answers:
            if not answer.HasField("event"):
                print("watching", flush=True)
                continue
            event = answer.event
            if event.WhichOneof("payload") != "seen" or event.seen.camera_id != keeper.camera:
                continue
            action, reason = act(keeper, door, event)
            print(f"{WORDS[action]} {event.event_id} {reason}".rstrip(), flush=True)
            reporter.report(answer, action, reason)


def credentials(token_file: Path | None, ca_file: Path | None) -> Credentials | None:
    """TLS where there is a token or an authority; without either the server has to be on this machine."""
    if token_file is None and ca_file is None:
        return None
    token = token_file.read_text().strip() if token_file else ""
    return Credentials(ca=ca_file.read_bytes() if ca_file else b"", token=token)


async def main() -> None:
    """Watch for ever."""
    parser = argparse.ArgumentParser(description="a door controller")
    parser.add_argument("--address", default="127.0.0.1:50051")
    parser.add_argument("--token-file", type=Path, help="with a token of the role door")
    parser.add_argument("--ca-file", type=Path, help="the authority of the server's certificate: its ca.pem")
    parser.add_argument("--camera", required=True)
    parser.add_argument("--door", default="", help="its name in the audit log; otherwise the camera's id")
    parser.add_argument("--policy", default="access")
    parser.add_argument("--subject", action="append", default=[], help="who may pass; again for more")
    parser.add_argument("--pulse", type=float, default=3.0, help="seconds")
    parser.add_argument("--retry", type=float, default=1.0, help="seconds before the server is called again")
    chosen = parser.parse_args()
    keeper = Doorkeeper(chosen.camera, chosen.policy, frozenset(chosen.subject))
    door = Door(Relay(), chosen.pulse)
    door.close()
    task = asyncio.current_task()
    assert task is not None
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    try:
        known = credentials(chosen.token_file, chosen.ca_file)
        async with AsyncClient(chosen.address, credentials=known) as client:
            reporter = Reporter(client, chosen.door or chosen.camera)
            while True:
                with contextlib.suppress(CallError):
                    await watch(client, keeper, door, reporter)
                await asyncio.sleep(chosen.retry)
    finally:
        door.close()


if __name__ == "__main__":
    with contextlib.suppress(asyncio.CancelledError, KeyboardInterrupt):
        asyncio.run(main())
