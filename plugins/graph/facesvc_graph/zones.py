"""Time zones as Outlook names them: Windows' names, IANA's, and rules that somebody made up.

A rule of somebody's own is a ``customTimeZone``: ``bias`` and offsets. Its page says that a zone ahead of UTC has a
positive bias; what Graph answers, in the examples of getSchedule too, is Windows' sense: 480 for the Pacific, and -60
more of it in summer. UTC is local time plus bias.
"""

from calendar import monthrange
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Annotated
from zoneinfo import ZoneInfo

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel
from tzlocal.windows_tz import win_tz

_WINDOWS = {name.casefold(): place for name, place in win_tz.items()}
_UTC_NAMES = {"utc", "etc/utc", "tzone://microsoft/utc", "coordinated universal time"}
_DAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")


def zone_of(name: str) -> tzinfo:
    """The time zone of a name. Raises ``ValueError`` for one that nobody knows."""
    if name.casefold() in _UTC_NAMES:
        return UTC
    try:
        return ZoneInfo(_WINDOWS.get(name.casefold(), name))
    except (OSError, ValueError, KeyError) as error:
        raise ValueError("a time in a time zone that is not known") from error


def moment(text: str, zone: str) -> datetime:
    """A ``dateTimeTimeZone`` of Graph in UTC; its text has no offset, mostly. Raises ``ValueError``."""
    time = datetime.fromisoformat(text)
    try:
        return (time if time.tzinfo else time.replace(tzinfo=zone_of(zone))).astimezone(UTC)
    except OverflowError as error:
        raise ValueError("a time beyond the years that there are") from error


class _Answered(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore", alias_generator=to_camel, populate_by_name=True)


class Change(_Answered):
    """When in a year the clocks change: on the ``day_occurrence``-th such day of the month, 5 for the last."""

    time: str = Field(max_length=32)
    day_occurrence: int = Field(ge=1, le=5)
    day_of_week: Annotated[str, Field(max_length=16)]
    month: int = Field(ge=1, le=12)
    daylight_bias: int = Field(0, ge=-1440, le=1440)

    def moment(self, year: int) -> datetime:
        """In local time, without a zone. Raises ``ValueError``."""
        first, days = monthrange(year, self.month)
        day = 1 + (_DAYS.index(self.day_of_week.lower()) - first) % 7 + 7 * (self.day_occurrence - 1)
        while day > days:
            day -= 7
        return datetime.fromisoformat(f"{year:04}-{self.month:02}-{day:02}T{self.time}").replace(tzinfo=None)


class Zone(_Answered):
    """``workingHours.timeZone``: a name, or a rule."""

    name: str = Field("", max_length=120)
    bias: int | None = Field(None, ge=-1440, le=1440)
    standard_offset: Change | None = None
    daylight_offset: Change | None = None

    def local(self, time: datetime) -> datetime:
        """A time in UTC as the clocks there show it, without a zone. Raises ``ValueError``."""
        if self.bias is None:
            return time.astimezone(zone_of(self.name)).replace(tzinfo=None)
        standard = (time.astimezone(UTC) - timedelta(minutes=self.bias)).replace(tzinfo=None)
        if self.standard_offset is None or self.daylight_offset is None:
            return standard
        ahead = -timedelta(minutes=self.daylight_offset.daylight_bias)
        begin = self.daylight_offset.moment(standard.year)
        end = self.standard_offset.moment(standard.year) - ahead  # it is told in daylight time
        inside = begin <= standard < end if begin < end else not end <= standard < begin
        return standard + ahead if inside else standard


class WorkingHours(_Answered):
    """When somebody works, by the clocks of their own zone."""

    days_of_week: list[Annotated[str, Field(max_length=16)]] = Field(max_length=7)
    start_time: str = Field(max_length=32)
    end_time: str = Field(max_length=32)
    time_zone: Zone

    def include(self, time: datetime) -> bool | None:
        """Whether a time lies within them; None where that cannot be told."""
        try:
            local = self.time_zone.local(time)
            start = datetime.fromisoformat(f"{local:%Y-%m-%d}T{self.start_time}")
            end = datetime.fromisoformat(f"{local:%Y-%m-%d}T{self.end_time}")
            days = {_DAYS.index(day.lower()) for day in self.days_of_week}
        except (ValueError, OverflowError):
            return None
        if end <= start:  # over midnight: the morning belongs to the day before
            return (local >= start and local.weekday() in days) or (local < end and (local.weekday() - 1) % 7 in days)
        return start <= local < end and local.weekday() in days
