"""What happened, and who did what: ``records`` are the events, the one thing a plugin needs to know.

Both are kept in the gallery's database, each for its own time. Events are sealed with the key of the person they are
about, and gone with them; the audit log names people by their ids alone, stays, and shows if somebody tampered with it.

Reading order, which is the import order: ``records``, ``plugin`` (what a plugin is), ``secrets`` (where its secrets
are), ``link`` (a connection that it keeps up), ``outside`` (events as JSON for others), ``sealer`` (what seals them),
``rows`` (records as rows of tables), ``attendance`` (days made of stays), ``journal`` (events in the database),
``chain`` (what makes a log evident of tampering), ``audit`` (the log).
"""

from facesvc.events.records import (
    ArrivedEvent,
    EnrichedEvent,
    Event,
    LeftEvent,
    LivenessScore,
    MadeDecision,
    Match,
    SeenEvent,
    SpoofAttemptEvent,
    UnknownPersonEvent,
)

__all__ = [
    "ArrivedEvent",
    "EnrichedEvent",
    "Event",
    "LeftEvent",
    "LivenessScore",
    "MadeDecision",
    "Match",
    "SeenEvent",
    "SpoofAttemptEvent",
    "UnknownPersonEvent",
]
