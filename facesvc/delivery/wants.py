"""Which events a plugin is given, and until when."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from facesvc.events.plugin import Manifest, Needs
from facesvc.events.records import EnrichedEvent, Event, MadeDecision, SeenEvent, SpoofAttemptEvent, UnknownPersonEvent


@dataclass(frozen=True, slots=True)
class Wants:
    """What a manifest asks for, with what its settings demand of decisions."""

    manifest: Manifest[Any]
    needs: Needs

    @property
    def at_most_once(self) -> bool:
        """Whether nothing may be delivered twice."""
        return self.manifest.at_most_once

    def wanted(self, event: Event) -> bool:
        """Whether the plugin asks for such events, and the decision is good enough."""
        own = isinstance(event, EnrichedEvent) and event.plugin == self.manifest.name
        if own or not any(isinstance(event, kind) for kind in self.manifest.kinds):
            return False
        if self.needs == Needs():
            return True
        made = decision_of(event)
        return made is not None and self._is_good_enough(made)

    def _is_good_enough(self, made: MadeDecision) -> bool:
        lively = made.liveness is not None and made.liveness.score >= made.liveness.threshold
        return (
            self.needs.policy in {"", made.policy}
            and made.false_match_rate <= self.needs.max_false_match_rate
            and (lively or not self.needs.liveness)
        )

    def expire_time(self, event: Event) -> datetime | None:
        """Until when it may be acted on; None for ever."""
        times = []
        if self.manifest.lifetime is not None:
            times.append(event.event_time + self.manifest.lifetime)
        made = decision_of(event)
        if self.manifest.heeds_expiry and made is not None:
            times.append(made.expire_time)
        return min(times, default=None)

    def is_late(self, event: Event, now: datetime) -> bool:
        """Whether that moment has come."""
        until = self.expire_time(event)
        return until is not None and now >= until


def decision_of(event: Event) -> MadeDecision | None:
    """The decision that an event carries, if it does."""
    return event.decision if isinstance(event, SeenEvent | UnknownPersonEvent | SpoofAttemptEvent) else None
