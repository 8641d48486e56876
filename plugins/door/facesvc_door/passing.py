"""From an event to an open door, or to a refusal that says why.

In this order, so that whatever fails leaves the door closed and the event used up:

1. ask what the rules need to know: is the lock-down on, who is the person, are they inside (may be tried again);
2. remember the event and its decision as seen; from here on nothing is tried a second time;
3. judge by the rules;
4. write the opening to the audit log, and the person as inside: there is no opening that the log does not have;
5. switch on, having looked at the time, the lock-down and the stop once more;
6. note what came of it under the event's id.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import timedelta

from pydantic import JsonValue

from facesvc.errors import DependencyError, ExhaustedError, FacesvcError, NotFoundError, UnavailableError
from facesvc.events.plugin import NOBODY, About, Box, Delivery, TryLaterError, UndeliverableError
from facesvc.events.records import SeenEvent
from facesvc_door import replay
from facesvc_door.gate import Gate
from facesvc_door.lockdown import Lockdown
from facesvc_door.rules import Question, Refusal, expired, judge, too_old
from facesvc_door.settings import DoorSettings

REPLAYED = Refusal("REPLAYED", "the event, or its decision, was seen before")


class RefusedError(FacesvcError):
    """What was allowed a moment ago no longer is."""

    reason = "REFUSED"


@dataclass(slots=True)
class Doorkeeper:
    """``stopping``: whether no door opens any more."""

    settings: DoorSettings
    box: Box
    lockdown: Lockdown
    gates: dict[str, Gate]
    stopping: Callable[[], bool]

    def door_of(self, camera_id: str) -> str | None:
        """The door that a camera belongs to."""
        return next((name for name, door in self.settings.doors.items() if camera_id in door.cameras), None)

    async def handle(self, delivery: Delivery) -> None:
        """Deal with an event; one of a camera that belongs to no door is none of ours."""
        event = delivery.event
        name = self.door_of(event.camera_id)
        if not isinstance(event, SeenEvent) or name is None:
            return
        passage = _Passage(self, delivery, event, name)
        try:
            question = await passage.asked()
            new = await replay.claim(self.box.notes, event.event_id, event.decision.decision_id, self.box.now())
        except (DependencyError, ExhaustedError, UnavailableError) as error:
            raise TryLaterError(f"door {name} stays closed: {error.message}") from error
        if not new:
            await passage.audit_refusal(REPLAYED)  # and the note of the first time stays as it is
            return
        try:
            refusal = judge(replace(question, now=self.box.now()))
            if refusal is None:
                await passage.open(question)
            else:
                await passage.refuse(refusal)
        except UndeliverableError:
            raise
        except FacesvcError as error:  # the audit log or the notes are away; it was seen, so it is not tried again
            words = f"door {name}: what came of the event could not be written down: {error.message}"
            raise UndeliverableError(words, reason=error.reason) from error


@dataclass(frozen=True, slots=True)
class _Passage:
    """One person before one door."""

    keeper: Doorkeeper
    delivery: Delivery
    event: SeenEvent
    name: str

    @property
    def about(self) -> About:
        """Who it is, as far as the event says."""
        return (self.event.collection_id, self.event.about) if self.event.about else NOBODY

    @property
    def inside_key(self) -> str:
        """The note that somebody is in the door's area."""
        return f"inside/{self.keeper.settings.doors[self.name].area or self.name}"

    async def asked(self) -> Question:
        keeper, door = self.keeper, self.keeper.settings.doors[self.name]
        locked_down = await keeper.lockdown.asked()
        person = await keeper.box.person(self.about) if self.event.about else None
        inside = False
        if person is not None and door.direction == "in" and door.anti_passback_reset_hours:
            inside = await keeper.box.notes.get(self.inside_key, about=self.about) is not None
        return Question(
            event=self.event,
            settings=keeper.settings,
            door=door,
            now=keeper.box.now(),
            expire_time=self.delivery.expire_time,
            locked_down=locked_down,
            person=person,
            inside=inside,
        )

    async def refuse(self, refusal: Refusal, result: str = "REFUSED") -> None:
        await self.audit_refusal(refusal)
        await self._note(result, refusal.reason, refusal.words)

    async def audit_refusal(self, refusal: Refusal) -> None:
        words = f"door {self.name}: {refusal.reason}: {refusal.words}; decision {self.event.decision.decision_id}"
        await self.keeper.box.audit("RefuseDoor", words, self.about)

    async def open(self, question: Question) -> None:
        """Steps 4 to 6. Raises ``UndeliverableError`` where the relay did not do it."""
        keeper, door = self.keeper, question.door
        gate = keeper.gates[self.name]
        decision = self.event.decision
        words = f"door {self.name}: {door.pulse_s:g} s by decision {decision.decision_id} of policy {decision.policy}"
        await keeper.box.audit("OpenDoor", words, self.about)
        await self._go_in(question)
        try:
            await gate.open(door.pulse_s, self.event.event_id, lambda: self._last_look(question))
        except Exception as error:
            refusal = _refusal(error)
            if not question.inside:
                await self._go_out()
            await self.refuse(refusal, "REFUSED" if isinstance(error, RefusedError) else "FAILED")
            if isinstance(error, RefusedError):
                return
            raise UndeliverableError(
                f"door {self.name} stays closed: {refusal.words}", reason=refusal.reason
            ) from error
        if door.direction == "out":
            await self._go_out()
        await self._note("OPENED", "", "")

    def _last_look(self, question: Question) -> None:
        """What may have changed while the notes were written or another pulse was switched."""
        now = replace(question, now=self.keeper.box.now())
        if self.keeper.stopping():
            raise RefusedError("the plugin is being stopped", reason="STOPPING")
        if self.keeper.lockdown.holds:
            raise RefusedError("all doors were closed a moment ago", reason="LOCKED_DOWN")
        if expired(now) or too_old(now):
            raise RefusedError("the decision expired before the relay's turn came", reason="EXPIRED")

    async def _go_in(self, question: Question) -> None:
        """Note that the person is inside, where that matters."""
        hours = question.door.anti_passback_reset_hours if question.door.direction == "in" else 0
        if hours:
            now = self.keeper.box.now()
            until = now + timedelta(hours=hours)
            await self.keeper.box.notes.put(
                self.inside_key, {"time": now.isoformat()}, about=self.about, expire_time=until
            )

    async def _go_out(self) -> None:
        await self.keeper.box.notes.delete(self.inside_key, about=self.about)

    async def _note(self, result: str, reason: str, words: str) -> None:
        """The acknowledgement: what came of the event."""
        box = self.keeper.box
        now = box.now()
        value: JsonValue = {
            "result": result,
            "reason": reason,
            "words": words,
            "door": self.name,
            "decision_id": self.event.decision.decision_id,
            "number": self.delivery.number,
            "time": now.isoformat(),
        }
        key, until = f"result/{self.event.event_id}", now + timedelta(hours=self.keeper.settings.keep_results_hours)
        try:
            await box.notes.put(key, value, about=self.about, expire_time=until)
        except NotFoundError:  # they are not enrolled, so nothing can be kept about them
            await box.notes.put(key, value, expire_time=until)


def _refusal(error: Exception) -> Refusal:
    if isinstance(error, FacesvcError):
        return Refusal(error.reason, error.message)
    if isinstance(error, TimeoutError):
        return Refusal("RELAY_FAILED", "the relay did not answer in time")
    return Refusal("RELAY_FAILED", f"the relay's driver failed: {type(error).__name__}")
