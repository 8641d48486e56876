"""Times as people write and read them."""

from datetime import UTC, date, datetime, time, timedelta, tzinfo
from typing import Annotated
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import typer
from google.protobuf.timestamp_pb2 import Timestamp

from facesvc.errors import InputError

From = Annotated[str, typer.Option("--from", metavar="DATE", help="From this day or time on, such as 2026-03-01.")]
To = Annotated[
    str, typer.Option("--to", metavar="DATE", help="Up to this day, which is included, or to before this time.")
]


def zone_of(name: str) -> tzinfo | None:
    """A time zone by its IANA name; None, which is the local one, without a name. Raises ``InputError``."""
    if not name:
        return None
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise InputError(f"{name!r} is no time zone that is known here: write one such as Europe/Berlin") from error


def beginning(text: str, zone: tzinfo | None = None) -> datetime | None:
    """The first moment of a day or time as written; None where nothing is. Raises ``InputError``."""
    return _moment(text, zone, timedelta(0))


def end(text: str, zone: tzinfo | None = None) -> datetime | None:
    """The first moment after a day, or a time itself, as written; None where nothing is. Raises ``InputError``."""
    return _moment(text, zone, timedelta(days=1))


def _moment(text: str, zone: tzinfo | None, after_day: timedelta) -> datetime | None:
    if not text:
        return None
    try:
        if len(text) <= len("2026-03-01"):
            return _in_utc(datetime.combine(date.fromisoformat(text) + after_day, time.min), zone)
        return _in_utc(datetime.fromisoformat(text), zone)
    except (ValueError, OverflowError) as error:
        raise InputError(f"{text!r} is not an ISO date, such as 2026-03-01 or 2026-03-01T18:00+01:00") from error


def _in_utc(moment: datetime, zone: tzinfo | None) -> datetime:
    if moment.tzinfo is None and zone is not None:
        moment = moment.replace(tzinfo=zone)
    return moment.astimezone(UTC)  # what says no zone is local


def in_words(message: Timestamp, zone: tzinfo | None = None) -> str:
    """A time for people, in a zone or the local one."""
    return message.ToDatetime(UTC).astimezone(zone).strftime("%Y-%m-%d %H:%M:%S")


def clock_of(message: Timestamp, zone: tzinfo | None = None) -> str:
    """The time of day only."""
    return message.ToDatetime(UTC).astimezone(zone).strftime("%H:%M:%S")


def length(seconds: float) -> str:
    """How long something took: ``8 h 05 min``, ``5 min``, ``12 s``."""
    whole = int(seconds)
    if whole < 60:
        return f"{whole} s"
    hours, minutes = divmod(whole // 60, 60)
    return f"{hours} h {minutes:02} min" if hours else f"{minutes} min"
