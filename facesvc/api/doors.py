"""What door controllers of their own did upon decisions, bound to the very message in which they got them.

With each decision that still holds a door gets a nonce: random, good once, for a minute, for that event, and for that
caller alone. A message that is repeated, late, of somebody else or about another event is refused, and nobody is told
which it was. Nonces are kept in memory: after a restart, and at another box, there are none.
"""

import asyncio
import re
import secrets
from collections import Counter
from dataclasses import dataclass

from facesvc.api.service import Service
from facesvc.errors import InputError, PreconditionError
from facesvc.events.records import SeenEvent
from facesvc.gallery.records import check_id
from facesvc.security.principals import Principal
from facesvc.security.roles import Role
from facesvc.v1 import presence_pb2

LIFETIME_S = 60.0
MOST_OF_ONE = 1_000
MOST = 10_000
_BYTES = 16
_REASON = re.compile(r"[A-Z][A-Z0-9_]{0,63}")
_ACTIONS = {
    presence_pb2.DOOR_ACTION_OPENED: "OPENED",
    presence_pb2.DOOR_ACTION_REFUSED: "REFUSED",
    presence_pb2.DOOR_ACTION_FAILED: "FAILED",
}


@dataclass(frozen=True, slots=True)
class Given:
    """What a nonce was given for, by ids alone, to whom, and until when by the clock."""

    owner: str
    event_id: str
    decision_id: str
    collection_id: str
    subject_id: str
    until: float


class Nonces:
    """The nonces that may still be used; of too many the oldest are forgotten. All calls belong on one event loop."""

    def __init__(self) -> None:
        self._given: dict[str, Given] = {}
        self._counts: Counter[str] = Counter()

    def give(self, owner: str, event: SeenEvent, clock: float) -> str:
        """A new one."""
        self._make_room(owner, clock)
        nonce, decision_id = secrets.token_urlsafe(_BYTES), event.decision.decision_id
        until = clock + LIFETIME_S
        self.put_back(nonce, Given(owner, event.event_id, decision_id, event.collection_id, event.about, until))
        return nonce

    def take(self, nonce: str, owner: str, event_id: str, clock: float) -> Given:
        """What it was given for; it is used up. Raises ``PreconditionError``, and then whoever has it still does."""
        given = self._given.get(nonce)
        if given is None or given.owner != owner or given.event_id != event_id or given.until <= clock:
            message = "this nonce is none of yours for this event, was used before, or is too old"
            raise PreconditionError(message, reason="NONCE_UNKNOWN")
        self._forget(nonce)
        return given

    def put_back(self, nonce: str, given: Given) -> None:
        """It may be used again, until its time."""
        self._given[nonce] = given
        self._counts[given.owner] += 1

    def _make_room(self, owner: str, clock: float) -> None:
        for nonce in list(self._given):
            if self._given[nonce].until > clock:
                break
            self._forget(nonce)
        if self._counts[owner] >= MOST_OF_ONE:
            self._forget(next(nonce for nonce, given in self._given.items() if given.owner == owner))
        elif len(self._given) >= MOST:
            self._forget(next(iter(self._given)))

    def _forget(self, nonce: str) -> None:
        owner = self._given.pop(nonce).owner
        self._counts[owner] -= 1
        if not self._counts[owner]:
            del self._counts[owner]


def wants_nonces(caller: Principal) -> bool:
    """Whether a caller may say what was done upon a decision."""
    return caller.role in {Role.DOOR, Role.ADMIN}


async def acknowledge(
    service: Service, nonces: Nonces, request: presence_pb2.AcknowledgeDecisionRequest, caller: Principal, actor: str
) -> None:
    """Write into the audit log what was done. Raises ``InputError`` naming the field, and as ``Nonces.take``.

    Where it could not be written the nonce is good again, so that the caller can come again; where the connection to
    the database broke at the very end it then stands there twice.
    """
    action = _action(request)
    given = nonces.take(request.nonce, caller.who, request.event_id, service.clock())
    reason = f": {request.reason}" if request.reason else ""
    words = f"door {request.door}: {action}{reason}; event {given.event_id}, decision {given.decision_id}"

    async def write() -> None:
        try:
            await asyncio.to_thread(
                service.audit.note, "AcknowledgeDecision", given.collection_id, given.subject_id, words, actor
            )
        except Exception:
            nonces.put_back(request.nonce, given)
            raise

    # Who leaves meanwhile stops nothing: else the nonce would be good again for what is being written.
    await asyncio.shield(asyncio.ensure_future(write()))


def _action(request: presence_pb2.AcknowledgeDecisionRequest) -> str:
    """What was done. Raises ``InputError``."""
    check_id(request.event_id, "event_id")
    check_id(request.door, "door")
    action = _ACTIONS.get(request.action)
    if action is None:
        raise InputError(f"say what was done: {', '.join(_ACTIONS.values())}", field="action")
    if action == "OPENED" and request.reason:
        raise InputError("a door that was opened needs no reason: leave it empty", field="reason")
    if action != "OPENED" and not _REASON.fullmatch(request.reason):
        message = "say why, in 1 to 64 characters out of A-Z 0-9 _ that start with a letter, such as NO_PERMISSION"
        raise InputError(message, field="reason")
    return action
