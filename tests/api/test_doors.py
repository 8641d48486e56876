"""What a door did upon a decision: said once, by the door that got it, about that event, within a minute."""

import asyncio
import threading
from collections.abc import AsyncIterator
from itertools import count
from pathlib import Path
from typing import Any

import grpc
import pytest
import pytest_asyncio
from api.guarded import Guarded, guarding, refusal
from api.quartz import NAME, make_known
from events.making import seen
from sightings import sighting

from facesvc.api import doors
from facesvc.api.doors import LIFETIME_S, MOST, MOST_OF_ONE, Nonces
from facesvc.client import AsyncClient, CallError, Client
from facesvc.config import Settings
from facesvc.errors import DependencyError, PreconditionError
from facesvc.security.principals import Principal
from facesvc.security.roles import Role
from facesvc.stream.policy import Outcome
from facesvc.stream.presence import Camera, Direction
from facesvc.v1 import admin_pb2, presence_pb2

OPENED = presence_pb2.DOOR_ACTION_OPENED
REFUSED = presence_pb2.DOOR_ACTION_REFUSED
FAILED = presence_pb2.DOOR_ACTION_FAILED
NUMBERS = count()
FRONT, BACK = (Principal(name=name, role=Role.DOOR) for name in ("front", "back"))


@pytest_asyncio.fixture
async def guarded(settings: Settings, tmp_path: Path) -> AsyncIterator[Guarded]:
    async with guarding(settings, tmp_path / "guarded") as guarded:
        await make_known(guarded.client(guarded.token("maker", Role.ADMIN)))
        yield guarded


def door(guarded: Guarded, name: str = "front-door") -> AsyncClient:
    return guarded.client(guarded.token(name, Role.DOOR))


async def notice(guarded: Guarded, client: AsyncClient, **made: Any) -> presence_pb2.WatchEventsResponse:
    """What somebody who watches is told when a person comes before the camera now."""
    service = guarded.service
    # Another one each time, or it would be no news.
    camera = Camera(f"door-{next(NUMBERS)}", "", Direction.INSIDE)
    async with asyncio.timeout(30):
        watch = client.watch_events(resume_token=service.journal.token(service.journal.head))
        await anext(watch)
        service.observer.note([sighting("jane-q", camera, seen_time=service.now(), clock=service.clock(), **made)])
        answer = await anext(watch)
        await watch.aclose()
    return answer


async def audited(guarded: Guarded) -> list[admin_pb2.AuditEntry]:
    client = guarded.client(guarded.token(f"auditor-{guarded.service.clock()}", Role.AUDITOR))
    return [one async for one in client.list_audit(action="AcknowledgeDecision")]


async def test_what_was_done_is_in_the_audit_log(guarded: Guarded) -> None:
    client = door(guarded)
    answer = await notice(guarded, client)
    event = answer.event
    assert len(answer.nonce) >= 22
    await client.acknowledge_decision(event.event_id, answer.nonce, "front", OPENED)
    [entry] = await audited(guarded)
    assert entry.actor.startswith("front-door at ipv4:127.0.0.1:")
    assert (entry.collection_id, entry.subject_id) == ("default", "jane-q")
    decision_id = event.seen.decision.decision_id
    assert entry.detail == f"door front: OPENED; event {event.event_id}, decision {decision_id}"
    assert NAME not in str(entry)


async def test_a_refusal_has_its_reason(guarded: Guarded) -> None:
    client = door(guarded)
    for action, reason in ((REFUSED, "NO_PERMISSION"), (FAILED, "RELAY_FAILED")):
        answer = await notice(guarded, client)
        await client.acknowledge_decision(answer.event.event_id, answer.nonce, "front", action, reason=reason)
    details = [one.detail.partition(";")[0] for one in await audited(guarded)]
    assert details == ["door front: REFUSED: NO_PERMISSION", "door front: FAILED: RELAY_FAILED"]


async def test_a_nonce_is_good_once_for_one_event_and_one_door(
    guarded: Guarded, monkeypatch: pytest.MonkeyPatch
) -> None:
    client, other = door(guarded), door(guarded, "back-door")
    first, second = await notice(guarded, client), await notice(guarded, client)
    event_id, nonce = first.event.event_id, first.nonce
    assert nonce != second.nonce
    errors = [
        await refusal(other.acknowledge_decision(event_id, nonce, "front", OPENED)),
        await refusal(client.acknowledge_decision(second.event.event_id, nonce, "front", OPENED)),
        await refusal(client.acknowledge_decision(event_id, nonce[:-1], "front", OPENED)),
        await refusal(client.acknowledge_decision(event_id, "", "front", OPENED)),
    ]
    await client.acknowledge_decision(event_id, nonce, "front", OPENED)
    errors.append(await refusal(client.acknowledge_decision(event_id, nonce, "front", OPENED)))
    monkeypatch.setattr(doors, "LIFETIME_S", 0.0)
    late = await notice(guarded, client)
    errors.append(await refusal(client.acknowledge_decision(late.event.event_id, late.nonce, "front", OPENED)))
    told = {(error.code, error.reason, str(error)) for error in errors}
    assert len(told) == 1, "nobody is told which of it was wrong"
    assert told.pop()[:2] == (grpc.StatusCode.FAILED_PRECONDITION, "NONCE_UNKNOWN")
    assert len(await audited(guarded)) == 1


async def test_of_two_at_once_one_is_heard(guarded: Guarded) -> None:
    client = door(guarded)
    answer = await notice(guarded, client)
    same = [client.acknowledge_decision(answer.event.event_id, answer.nonce, "front", OPENED) for _ in range(8)]
    ended = await asyncio.gather(*same, return_exceptions=True)
    assert sorted(str(getattr(one, "reason", one)) for one in ended) == ["NONCE_UNKNOWN"] * 7 + ["None"]
    assert len(await audited(guarded)) == 1


async def test_a_wrong_field_is_named_and_costs_no_nonce(guarded: Guarded) -> None:
    client = door(guarded)
    answer = await notice(guarded, client)
    event_id, nonce = answer.event.event_id, answer.nonce
    wrong: list[tuple[str, tuple[Any, ...], str]] = [
        ("event_id", ("", nonce, "front", OPENED), ""),
        ("door", (event_id, nonce, "", OPENED), ""),
        ("door", (event_id, nonce, "the front", OPENED), ""),
        ("action", (event_id, nonce, "front", presence_pb2.DOOR_ACTION_UNSPECIFIED), ""),
        ("action", (event_id, nonce, "front", 9), ""),
        ("reason", (event_id, nonce, "front", OPENED), "BECAUSE"),
        ("reason", (event_id, nonce, "front", REFUSED), ""),
        ("reason", (event_id, nonce, "front", REFUSED), "no permission"),
        ("reason", (event_id, nonce, "front", FAILED), "RELAY_FAILED\n"),
        ("reason", (event_id, nonce, "front", FAILED), "R" * 65),
    ]
    for field, arguments, reason in wrong:
        error = await refusal(client.acknowledge_decision(*arguments, reason=reason))
        assert (error.code, error.field) == (grpc.StatusCode.INVALID_ARGUMENT, field)
    await client.acknowledge_decision(event_id, nonce, "front", REFUSED, reason="R" * 64)


async def test_nonces_come_with_decisions_that_hold_and_to_doors(guarded: Guarded) -> None:
    client = door(guarded)
    wall = guarded.client(guarded.token("wall", Role.DASHBOARD))
    boss = guarded.client(guarded.token("boss", Role.ADMIN))
    assert not (await notice(guarded, wall)).nonce
    assert (await notice(guarded, boss)).nonce
    assert not (await notice(guarded, client, outcome=Outcome.UNKNOWN, track_id="t1")).nonce
    assert (await notice(guarded, client)).nonce
    # Told again later, when it has expired.
    newest = guarded.service.journal.head
    guarded.service.observer._live.clear()
    watch = client.watch_events(resume_token=guarded.service.journal.token(newest - 1))
    await anext(watch)
    again = await asyncio.wait_for(anext(watch), 30)
    assert again.event.WhichOneof("payload") == "seen"
    assert not again.nonce
    error = await refusal(wall.acknowledge_decision("e", "n", "front", OPENED))
    assert error.code is grpc.StatusCode.PERMISSION_DENIED


async def test_where_the_log_cannot_be_written_it_can_be_said_again(
    guarded: Guarded, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = door(guarded)
    answer = await notice(guarded, client)

    def fail(*_: str) -> None:
        raise DependencyError("the disk is full", reason="DISK_FULL")

    with monkeypatch.context() as patch:
        patch.setattr(guarded.service.audit, "note", fail)
        error = await refusal(client.acknowledge_decision(answer.event.event_id, answer.nonce, "front", OPENED))
        assert (error.code, error.reason) == (grpc.StatusCode.UNAVAILABLE, "DISK_FULL")
    await client.acknowledge_decision(answer.event.event_id, answer.nonce, "front", OPENED)
    assert len(await audited(guarded)) == 1
    assert (await refusal(client.acknowledge_decision(answer.event.event_id, answer.nonce, "front", OPENED))).reason


class Slow:
    """An audit log that writes when it is let, or fails then."""

    def __init__(self, guarded: Guarded, *, fails: bool = False) -> None:
        self.begun, self.gate, self._fails = threading.Event(), threading.Event(), fails
        self._note = guarded.service.audit.note

    def note(self, *values: str) -> Any:
        self.begun.set()
        assert self.gate.wait(30)
        if self._fails:
            raise DependencyError("the disk is full", reason="DISK_FULL")
        return self._note(*values)


async def leave(guarded: Guarded, log: Slow, saying: Any) -> None:
    """Be gone while it is being written; the server has noticed."""
    task = asyncio.ensure_future(saying)
    assert await asyncio.to_thread(log.begun.wait, 30)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    async with asyncio.timeout(30):
        while any(guarded.server._gatekeeper._inside.values()):  # noqa: ASYNC110 - what is waited for sets no event
            await asyncio.sleep(0.001)


async def test_who_leaves_in_the_middle_has_said_it(guarded: Guarded, monkeypatch: pytest.MonkeyPatch) -> None:
    client, log = door(guarded), Slow(guarded)
    answer = await notice(guarded, client)
    said = (answer.event.event_id, answer.nonce, "front", OPENED)
    with monkeypatch.context() as patch:
        patch.setattr(guarded.service.audit, "note", log.note)
        await leave(guarded, log, client.acknowledge_decision(*said))
    assert (await refusal(client.acknowledge_decision(*said))).reason == "NONCE_UNKNOWN"
    log.gate.set()
    async with asyncio.timeout(30):
        while len(await audited(guarded)) != 1:
            pass
    assert (await refusal(client.acknowledge_decision(*said))).reason == "NONCE_UNKNOWN"


async def test_who_leaves_before_it_fails_can_say_it_again(guarded: Guarded, monkeypatch: pytest.MonkeyPatch) -> None:
    client, log, back = door(guarded), Slow(guarded, fails=True), asyncio.Event()
    answer = await notice(guarded, client)
    said = (answer.event.event_id, answer.nonce, "front", OPENED)
    put_back = Nonces.put_back

    def noticed(nonces: Nonces, *given: Any) -> None:
        put_back(nonces, *given)
        back.set()

    with monkeypatch.context() as patch:
        patch.setattr(guarded.service.audit, "note", log.note)
        patch.setattr(Nonces, "put_back", noticed)
        await leave(guarded, log, client.acknowledge_decision(*said))
        log.gate.set()
        await asyncio.wait_for(back.wait(), 30)
    await client.acknowledge_decision(*said)
    assert len(await audited(guarded)) == 1


async def test_somebody_who_was_erased_meanwhile_is_in_the_log_by_their_id(guarded: Guarded) -> None:
    client = door(guarded)
    answer = await notice(guarded, client)
    await guarded.client(guarded.token("desk", Role.ENROLLER)).erase_subject("jane-q")
    await client.acknowledge_decision(answer.event.event_id, answer.nonce, "front", OPENED)
    [entry] = await audited(guarded)
    assert entry.subject_id == "jane-q"


async def test_the_blocking_client_says_it_too(guarded: Guarded) -> None:
    token = guarded.token("front-door", Role.DOOR)
    answer = await notice(guarded, guarded.client(token))

    def say() -> None:
        with Client(guarded.address, credentials=guarded.credentials(token)) as client:
            client.acknowledge_decision(answer.event.event_id, answer.nonce, "front", REFUSED, reason="OUTSIDE_HOURS")
            with pytest.raises(CallError, match="used before"):
                client.acknowledge_decision(answer.event.event_id, answer.nonce, "front", OPENED)

    await asyncio.to_thread(say)
    assert len(await audited(guarded)) == 1


def test_a_nonce_is_good_for_a_minute() -> None:
    nonces, event = Nonces(), seen()
    first, second = nonces.give(FRONT.who, event, 100.0), nonces.give(FRONT.who, event, 100.0)
    nonces.take(first, FRONT.who, event.event_id, 100.0 + LIFETIME_S - 0.001)
    with pytest.raises(PreconditionError):
        nonces.take(second, FRONT.who, event.event_id, 100.0 + LIFETIME_S)


def test_what_is_past_its_time_is_forgotten() -> None:
    nonces, event = Nonces(), seen()
    for _ in range(10):
        nonces.give(FRONT.who, event, 0.0)
    nonces.give(BACK, event, LIFETIME_S)
    assert len(nonces._given) == 1
    assert dict(nonces._counts) == {BACK: 1}


def test_nobody_takes_the_room_of_all_others() -> None:
    nonces, event = Nonces(), seen()
    own = nonces.give(BACK, event, 0.0)
    given = [nonces.give(FRONT.who, event, 0.0) for _ in range(MOST_OF_ONE + 5)]
    assert len(nonces._given) == MOST_OF_ONE + 1
    for nonce in given[:5]:
        with pytest.raises(PreconditionError):
            nonces.take(nonce, FRONT.who, event.event_id, 1.0)
    nonces.take(given[5], FRONT.who, event.event_id, 1.0)
    nonces.take(own, BACK, event.event_id, 1.0)


def test_of_too_many_the_oldest_are_forgotten() -> None:
    nonces, event = Nonces(), seen()
    doors_ = [Principal(name=f"door-{number}", role=Role.DOOR) for number in range(MOST // MOST_OF_ONE + 1)]
    given = {one: [nonces.give(one, event, 0.0) for _ in range(MOST_OF_ONE)] for one in doors_}
    assert len(nonces._given) == MOST
    assert sum(nonces._counts.values()) == MOST
    with pytest.raises(PreconditionError):
        nonces.take(given[doors_[0]][-1], doors_[0], event.event_id, 1.0)
    nonces.take(given[doors_[1]][0], doors_[1], event.event_id, 1.0)


def test_a_nonce_that_was_put_back_is_good_again() -> None:
    nonces, event = Nonces(), seen()
    nonce = nonces.give(FRONT.who, event, 0.0)
    taken = nonces.take(nonce, FRONT.who, event.event_id, 1.0)
    assert (taken.subject_id, taken.decision_id) == ("jane", event.decision.decision_id)
    nonces.put_back(nonce, taken)
    assert nonces.take(nonce, FRONT.who, event.event_id, 59.0) == taken
    nonces.put_back(nonce, taken)
    with pytest.raises(PreconditionError):
        nonces.take(nonce, FRONT.who, event.event_id, 60.0)


def test_the_same_name_by_another_token_is_somebody_else() -> None:
    """A token that was revoked and made anew, or a certificate of the same name."""
    nonces, event = Nonces(), seen()
    nonce = nonces.give(Principal(name="front", role=Role.DOOR, token_id="one"), event, 0.0)
    with pytest.raises(PreconditionError):
        nonces.take(nonce, Principal(name="front", role=Role.DOOR, token_id="two"), event.event_id, 1.0)
