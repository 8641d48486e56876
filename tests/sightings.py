"""What cameras see, made up: the one place where tests of presence and events build decisions."""

from datetime import UTC, datetime, timedelta

from facesvc.gallery import Candidate
from facesvc.stream.policy import Decision, LivenessScore, Outcome, Policy
from facesvc.stream.presence import Camera, Direction, Sighting

T0 = datetime(2026, 3, 2, 8, tzinfo=UTC)
POLICY = Policy("presence", 1e-3, threshold=0.9, margin=0.01, minimum_quality=0.5, lifetime=timedelta(seconds=5))
INSIDE = Camera("hall", "lobby", Direction.INSIDE)
ENTRY = Camera("door-in", "lobby", Direction.ENTRY)
EXIT = Camera("door-out", "lobby", Direction.EXIT)


def at(seconds: float) -> datetime:
    """The wall clock, ``seconds`` after eight."""
    return T0 + timedelta(seconds=seconds)


def decision(
    name: str = "jane",
    *,
    outcome: Outcome = Outcome.MATCH,
    time: datetime = T0,
    clock: float = 0.0,
    settled: bool = True,
    liveness: LivenessScore | None = None,
) -> Decision:
    """What was concluded at ``time`` and ``clock``; ``name`` matters for a match only."""
    subject = Candidate(name, name.title(), 0.95, "sample-1", {"card_number": f"card-{name}"})
    return Decision(
        decision_id="01K0000000000000000000000D",
        outcome=outcome,
        subject=subject if outcome is Outcome.MATCH else None,
        candidates=[subject],
        policy=POLICY,
        capture_time=time,
        decision_time=time,
        expire_time=time + POLICY.lifetime,
        expire_clock=clock + POLICY.lifetime.total_seconds(),
        frames_looked_at=3,
        frames_agreeing=2,
        settled=settled,
        liveness=liveness,
    )


def sighting(
    name: str = "jane",
    camera: Camera = INSIDE,
    *,
    seen_time: datetime = T0,
    clock: float = 0.0,
    collection_id: str = "default",
    track_id: str = "",
    outcome: Outcome = Outcome.MATCH,
    settled: bool = True,
) -> Sighting:
    """Somebody before a camera."""
    made = decision(name, outcome=outcome, time=seen_time, clock=clock, settled=settled)
    return Sighting(camera, collection_id, track_id, made, seen_time)
