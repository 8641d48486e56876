"""What happens, as frozen records of plain values: the one thing a plugin needs to know.

Every event says where (``camera_id``, ``zone``, ``collection_id``), when and, by its class, what. An id is a ULID.
Times are timezone-aware UTC, by the server's clock. More kinds may come: ignore those you do not know.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from pydantic import JsonValue


def _check_times(*times: datetime) -> None:
    for time in times:
        if time.utcoffset() != timedelta(0):
            raise ValueError(f"a time of an event must be timezone-aware UTC, not {time!r}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Match:
    """The person that a decision names, and how alike the face was: ``similarity`` is a cosine, -1 to 1."""

    subject_id: str
    display_name: str
    external_ids: Mapping[str, str]
    similarity: float
    sample_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LivenessScore:
    """What a liveness model made of the face: from ``threshold`` on, 0 to 1, a face passes as a living one."""

    score: float
    frames_looked_at: int
    threshold: float


@dataclass(frozen=True, slots=True, kw_only=True)
class MadeDecision:
    """What was concluded about a face. Acting on it after ``expire_time`` is wrong: the person may have left.

    ``outcome`` is MATCH, AMBIGUOUS, UNKNOWN, LOW_QUALITY or SPOOF; ``subject`` is set for a match only. The other
    candidates are not kept: an event says nothing of people who were not there.
    """

    decision_id: str
    outcome: str
    subject: Match | None
    threshold: float
    false_match_rate: float
    policy: str
    capture_time: datetime
    decision_time: datetime
    expire_time: datetime
    low_quality_reason: str
    frames_looked_at: int
    frames_agreeing: int
    settled: bool
    liveness: LivenessScore | None

    def __post_init__(self) -> None:
        _check_times(self.capture_time, self.decision_time, self.expire_time)


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """What all events have. ``zone`` is empty where the camera belongs to none."""

    event_id: str
    event_time: datetime
    camera_id: str
    zone: str
    collection_id: str

    def __post_init__(self) -> None:
        _check_times(self.event_time)

    @property
    def about(self) -> str:
        """The subject_id of the person it is about; empty where nobody is named."""
        return ""


@dataclass(frozen=True, slots=True, kw_only=True)
class SeenEvent(Event):
    """Somebody came into view of a camera: once, and again only after they were out of it for a while."""

    track_id: str
    decision: MadeDecision

    @property
    def about(self) -> str:
        """Whom the decision names."""
        return self.decision.subject.subject_id if self.decision.subject else ""


@dataclass(frozen=True, slots=True, kw_only=True)
class UnknownPersonEvent(Event):
    """Somebody whom nobody enrolled: once for a track, when that is settled."""

    track_id: str
    decision: MadeDecision


@dataclass(frozen=True, slots=True, kw_only=True)
class SpoofAttemptEvent(Event):
    """A face that is not a living one: once for a track."""

    track_id: str
    decision: MadeDecision


@dataclass(frozen=True, slots=True, kw_only=True)
class ArrivedEvent(Event):
    """Somebody is present in a zone who was not. ``arrive_time``: first seen, this time."""

    subject_id: str
    display_name: str
    external_ids: Mapping[str, str]
    arrive_time: datetime

    def __post_init__(self) -> None:
        _check_times(self.event_time, self.arrive_time)

    @property
    def about(self) -> str:
        """Who arrived."""
        return self.subject_id


@dataclass(frozen=True, slots=True, kw_only=True)
class LeftEvent(Event):
    """Somebody is no longer present in a zone; ``leave_time``: last seen.

    Where the clock was set meanwhile, ``arrive_time`` is not that of the arrival: it is counted back from
    ``leave_time``, so that the time between is how long they were there.
    """

    subject_id: str
    display_name: str
    external_ids: Mapping[str, str]
    arrive_time: datetime
    leave_time: datetime

    def __post_init__(self) -> None:
        _check_times(self.event_time, self.arrive_time, self.leave_time)

    @property
    def about(self) -> str:
        """Who left."""
        return self.subject_id


@dataclass(frozen=True, slots=True, kw_only=True)
class EnrichedEvent(Event):
    """A plugin found out something about somebody that was not so before; ``camera_id`` and ``zone`` are empty.

    ``values`` and ``summary`` are those of ``plugin.Facts``, true at ``fetch_time`` and to be shown until
    ``expire_time``; of ``values`` only what is short, so no pictures.
    """

    subject_id: str
    display_name: str
    external_ids: Mapping[str, str]
    plugin: str
    values: Mapping[str, JsonValue]
    summary: str
    fetch_time: datetime
    expire_time: datetime

    def __post_init__(self) -> None:
        _check_times(self.event_time, self.fetch_time, self.expire_time)

    @property
    def about(self) -> str:
        """Whom it is about."""
        return self.subject_id


@dataclass(frozen=True, slots=True, kw_only=True)
class Stay:
    """Somebody's time in a zone, from arriving to leaving; ``leave_time`` is None while they are present.

    ``held``: they came in by an entry, and do not leave by being out of view. ``last_seen_time`` is that of the last
    time it was written, about a minute ago.
    """

    stay_id: str
    collection_id: str
    zone: str
    subject_id: str
    display_name: str
    external_ids: Mapping[str, str]
    camera_id: str
    arrive_time: datetime
    last_seen_time: datetime
    leave_time: datetime | None
    held: bool

    def __post_init__(self) -> None:
        _check_times(self.arrive_time, self.last_seen_time, self.leave_time or self.arrive_time)
