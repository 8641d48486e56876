"""What happens, as frozen records."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True)
class MatchEvent:
    """Somebody was recognised by a camera. Acting on it after ``expire_time`` is wrong: the person may have left."""

    event_id: str
    decision_id: str
    camera_id: str
    zone: str
    collection_id: str
    subject_id: str
    display_name: str
    external_ids: Mapping[str, str]
    similarity: float
    sample_id: str
    threshold: float
    false_match_rate: float
    policy: str
    capture_time: datetime
    decision_time: datetime
    expire_time: datetime
