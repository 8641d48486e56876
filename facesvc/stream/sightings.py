"""Tells an arrival from somebody who is simply still there, so that a match is one event and not thirty a second.

A person is an arrival at a camera when first matched there, and again when matched after having been out of its view
for ``repeat_after``. A camera that connects anew is still the same camera.
"""

from datetime import datetime, timedelta


class Sightings:
    """Who was seen last where and when. Bounded: those who left long ago are forgotten."""

    def __init__(self, repeat_after: timedelta) -> None:
        self._repeat_after = repeat_after
        self._last_seen: dict[tuple[str, str, str], datetime] = {}

    def arrives(self, camera_id: str, collection_id: str, subject_id: str, now: datetime) -> bool:
        """Record that somebody was matched, and say whether that is an arrival."""
        self._forget(now)
        key = (camera_id, collection_id, subject_id)
        arrival = key not in self._last_seen
        # Put at the end, so that the order of the dictionary is the order of the times.
        self._last_seen.pop(key, None)
        self._last_seen[key] = now
        return arrival

    def _forget(self, now: datetime) -> None:
        while self._last_seen:
            oldest = next(iter(self._last_seen))
            if now - self._last_seen[oldest] < self._repeat_after:
                return
            del self._last_seen[oldest]
