"""What is worth telling of what cameras see: each of these once, and not thirty times a second.

- *seen*: somebody is matched who was not in view of that camera for ``repeat_after_s``. A camera that connects anew is
  still the same camera.
- *unknown person*: once for a track, when it is settled that it is nobody who is enrolled. Not for a track that was
  somebody before: a face that turns away becomes no stranger.
- *spoof attempt*: once for a track.

A sighting without a track says nothing of the last two, because "once" would have no meaning.
"""

import enum
from collections import OrderedDict
from dataclasses import dataclass

from facesvc.stream.policy import Outcome
from facesvc.stream.presence import Sighting

# A track that nothing was heard of for so long has ended.
_TRACK_ENDS_S = 120.0
_MAX_REMEMBERED = 10_000


class News(enum.Enum):
    """What is told."""

    SEEN = enum.auto()
    UNKNOWN_PERSON = enum.auto()
    SPOOF_ATTEMPT = enum.auto()


@dataclass(slots=True)
class _Track:
    last_clock: float
    matched: bool = False
    told_unknown: bool = False
    told_spoof: bool = False


class Reporter:
    """Tells what is new. Bounded: of more than ``most`` people or tracks the one unseen for longest is forgotten."""

    def __init__(self, repeat_after_s: float, most: int = _MAX_REMEMBERED) -> None:
        self._repeat_after_s = repeat_after_s
        self._most = most
        # Both in the order in which they were last seen.
        self._last_seen: OrderedDict[tuple[str, str, str], float] = OrderedDict()
        self._tracks: OrderedDict[tuple[str, str], _Track] = OrderedDict()

    def note(self, sighting: Sighting, clock: float) -> list[News]:
        """What a sighting tells; ``clock`` is when it came, in seconds."""
        news = self._of_track(sighting, clock) if sighting.track_id else []
        if sighting.subject_id and self._comes_into_view(sighting, clock):
            news.append(News.SEEN)
        return news

    def forget(self, collection_id: str, subject_id: str) -> None:
        """As if somebody had never been seen."""
        for key in [key for key in self._last_seen if key[1:] == (collection_id, subject_id)]:
            del self._last_seen[key]

    def _comes_into_view(self, sighting: Sighting, clock: float) -> bool:
        key = (sighting.camera.camera_id, sighting.collection_id, sighting.subject_id)
        last = self._last_seen.pop(key, None)
        self._last_seen[key] = clock
        while clock - next(iter(self._last_seen.values())) >= self._repeat_after_s or len(self._last_seen) > self._most:
            self._last_seen.popitem(last=False)
        return last is None or clock - last >= self._repeat_after_s

    def _of_track(self, sighting: Sighting, clock: float) -> list[News]:
        key = (sighting.camera.camera_id, sighting.track_id)
        track = self._tracks.setdefault(key, _Track(clock))
        self._tracks.move_to_end(key)
        track.last_clock = clock
        while len(self._tracks) > self._most or clock - next(iter(self._tracks.values())).last_clock > _TRACK_ENDS_S:
            self._tracks.popitem(last=False)
        decision = sighting.decision
        track.matched = track.matched or decision.outcome is Outcome.MATCH
        if decision.outcome is Outcome.SPOOF and not track.told_spoof:
            track.told_spoof = True
            return [News.SPOOF_ATTEMPT]
        if decision.outcome is Outcome.UNKNOWN and decision.settled and not (track.matched or track.told_unknown):
            track.told_unknown = True
            return [News.UNKNOWN_PERSON]
        return []
