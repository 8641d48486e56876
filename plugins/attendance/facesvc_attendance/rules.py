"""What a day is: from ``day_starts_at`` to the next, by the clocks of a place.

It has 23 or 25 hours where the clocks change. A clock time that is skipped then is when the clocks skip it or shortly
after; of one that comes twice the first counts. All arithmetic is done in UTC: that of Python on two times of one zone
forgets that the clocks change.
"""

from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta, tzinfo

DAY = timedelta(days=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """The settings that days are made by; see ``settings``. ``zones`` is empty where all count."""

    zone: tzinfo
    day_starts_at: time = time.min
    split_shifts: bool = False
    shift_gap: timedelta = timedelta(hours=4)
    longest_shift: timedelta = timedelta(hours=16)
    minimum_break: timedelta = timedelta(minutes=5)
    close_after: timedelta = timedelta(hours=16)
    zones: frozenset[str] = frozenset()

    def begin(self, day: date) -> datetime:
        """When a day begins, in UTC."""
        return datetime.combine(day, self.day_starts_at, self.zone).astimezone(UTC)

    def end(self, day: date) -> datetime:
        """When a day ends and the next begins, in UTC."""
        return self.begin(day + DAY)

    def day_of(self, moment: datetime) -> date:
        """The day on which a moment lies; where clocks are put back over its start, not the day before again."""
        day = moment.astimezone(self.zone).date()
        while self.begin(day) > moment:
            day -= DAY
        while self.end(day) <= moment:
            day += DAY
        return day

    def local(self, moment: datetime) -> datetime:
        """A moment by the clock of the place."""
        return moment.astimezone(self.zone)

    def counts(self, zone: str) -> bool:
        """Whether being present in a zone counts."""
        return not self.zones or zone in self.zones
