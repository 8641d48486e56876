"""What happened: ``records`` are the events, the one thing a plugin needs to know; ``journal`` keeps them on disk.

Reading order, which is the import order: ``records``, ``rows`` (records as rows of tables), ``attendance`` (days made
of stays), ``journal`` (the file).
"""

from facesvc.events.records import (
    ArrivedEvent,
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
    "Event",
    "LeftEvent",
    "LivenessScore",
    "MadeDecision",
    "Match",
    "SeenEvent",
    "SpoofAttemptEvent",
    "UnknownPersonEvent",
]
