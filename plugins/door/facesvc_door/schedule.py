"""Hours of a week: whether a moment lies in them. Pure; local time is passed in.

A window begins on its days at ``start`` and ends at ``end``, which is outside of it. One whose end is not after its
start goes over midnight and belongs to the day on which it began, for holidays too: who works the night before a
holiday may leave in the morning, and no night shift begins on one. Hours are those of the clock on the wall: where that
is set back, the hour that comes twice counts twice.
"""

from collections.abc import Iterable
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from enum import Enum

DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
MINUTES_A_DAY = 24 * 60


class Standing(Enum):
    """How a moment stands to some hours."""

    INSIDE = "inside"
    HOLIDAY = "holiday"
    """It would be inside, but the day is a holiday."""
    OUTSIDE = "outside"


@dataclass(frozen=True, slots=True)
class Window:
    """``days``: 0 is Monday. ``start``, ``end``: minutes since midnight, 0 to 1440."""

    days: frozenset[int]
    start: int
    end: int

    def __post_init__(self) -> None:
        if not (0 <= self.start < MINUTES_A_DAY and 0 < self.end <= MINUTES_A_DAY and self.start != self.end):
            raise ValueError(f"a window from minute {self.start} to minute {self.end} is none")

    def begun(self, local: datetime) -> date | None:
        """The day on which the window began in which ``local`` lies; None where it lies in none."""
        minute = local.hour * 60 + local.minute
        today = local.date()
        if self.start < self.end:
            return today if self.start <= minute < self.end and today.weekday() in self.days else None
        yesterday = today - timedelta(days=1)
        if minute >= self.start and today.weekday() in self.days:
            return today
        return yesterday if minute < self.end and yesterday.weekday() in self.days else None


ALWAYS = (Window(frozenset(range(7)), 0, MINUTES_A_DAY),)


def minutes(text: str) -> int:
    """Minutes since midnight of HH:MM, "24:00" too. Raises ``ValueError``."""
    hours, _, rest = text.partition(":")
    if len(text) != 5 or not (hours.isascii() and hours.isdigit() and rest.isascii() and rest.isdigit()):
        raise ValueError(f"a time of day is HH:MM, such as 07:30, not {text!r}")
    value = int(hours) * 60 + int(rest)
    if int(rest) > 59 or value > MINUTES_A_DAY:
        raise ValueError(f"there is no time of day {text!r}; the last one is 24:00")
    return value


def standing(windows: Iterable[Window], local: datetime, holidays: AbstractSet[date]) -> Standing:
    """How ``local`` stands to them; inside one that began on no holiday is inside."""
    begun = [day for window in windows if (day := window.begun(local)) is not None]
    if any(day not in holidays for day in begun):
        return Standing.INSIDE
    return Standing.HOLIDAY if begun else Standing.OUTSIDE
