"""How a plugin is treated, and when an event is given up."""

from dataclasses import dataclass
from datetime import timedelta

from facesvc.delivery.outbox import State
from facesvc.events.plugin import TryLaterError, UndeliverableError


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """``[plugins.NAME.delivery]``, see ``roll.DeliverySettings``."""

    timeout_s: float = 10.0
    concurrency: int = 8
    attempts: int = 8
    give_up_after: timedelta = timedelta(hours=24)

    def state_after(self, error: Exception, *, errors: int, waited: timedelta, at_most_once: bool) -> State:
        """What becomes of an event after ``error``, of ``errors`` that nobody foresaw, ``waited`` after its first try.

        What must not be done twice is repeated only where the plugin says that it was not done.
        """
        if isinstance(error, UndeliverableError):
            return State.DEAD
        if at_most_once and not isinstance(error, TryLaterError):
            return State.UNCERTAIN
        if errors >= self.attempts or waited >= self.give_up_after:
            return State.DEAD
        return State.WAITING
