"""What an administrator sets, under ``[plugins.attendance]``."""

from datetime import time, timedelta
from pathlib import Path
from typing import Annotated, Literal, Self
from zoneinfo import ZoneInfo

from pydantic import AfterValidator, Field, model_validator

from facesvc.events.plugin import PluginSettings
from facesvc.events.secrets import Secret
from facesvc_attendance.rules import Rules

_MAX_NAMES = 1000


def _time_zone(name: str) -> str:
    try:
        ZoneInfo(name)
    except (KeyError, OSError, ValueError) as error:  # unknown, a folder of the tables, no name at all
        raise ValueError(f"{name!r} is no time zone: write one such as Europe/Berlin") from error
    return name


def _folder(path: str) -> str:
    if path and not Path(path).is_absolute():
        raise ValueError(f"{path!r} is no absolute path")
    return path


_TimeZone = Annotated[str, Field(max_length=100), AfterValidator(_time_zone)]
_Name = Annotated[str, Field(max_length=200)]


class Settings(PluginSettings):
    """The rules of days, how long bookings are kept, and where exports go."""

    time_zone: _TimeZone = "UTC"
    """Where days begin and end, such as Europe/Berlin."""
    time_zones: Annotated[dict[_Name, _TimeZone], Field(max_length=_MAX_NAMES, default_factory=dict)]
    """The same for the people of single collections, by collection_id."""
    day_starts_at: Annotated[str, Field(pattern=r"^([01][0-9]|2[0-3]):[0-5][0-9]$")] = "00:00"
    """When a day begins, by the clock on the wall; what is before belongs to the day before."""
    night_shifts: Literal["began", "split"] = "began"
    """A shift over the start of a day counts to the day on which it began, or to each day with its part."""
    shift_gap_hours: Annotated[float, Field(ge=0, le=24)] = 4.0
    """Who is there again within this time is still on the same shift."""
    longest_shift_hours: Annotated[float, Field(ge=1, le=72)] = 16.0
    """Who arrives later than this after the shift began is on a new one."""
    zones: Annotated[tuple[_Name, ...], Field(max_length=_MAX_NAMES)] = ()
    """The zones in which being present counts; empty: all. The others are not booked."""
    minimum_break_minutes: Annotated[float, Field(ge=0, le=240)] = 5.0
    """An absence is a break if it is longer; a shorter one counts as time present."""
    close_after_hours: Annotated[float, Field(ge=1, le=72)] = 16.0
    """Who arrived so long ago and was not seen leaving is taken to have left, and is marked."""
    retention_days: Annotated[float, Field(ge=1, le=3660)] = 100.0
    """Bookings and corrections are kept for so long after the end of their day."""
    export_folder: Annotated[str, Field(max_length=1000), AfterValidator(_folder)] = ""
    """Where a signed file is written for every finished day; empty: none is."""
    export_after_hours: Annotated[float, Field(ge=1, le=336)] = 24.0
    """A day is finished so long after its end."""
    signing_key: Secret = ""
    """Where the Ed25519 key is that signs exports, as PEM."""
    former_public_keys: Annotated[tuple[_Name, ...], Field(max_length=100)] = ()
    """What ``public-key`` printed as ``base64`` for keys that signed earlier exports."""

    @model_validator(mode="after")
    def _fit_together(self) -> Self:
        if self.export_folder and not self.signing_key:
            raise ValueError("export_folder needs signing_key: exports are signed")
        if self.export_after_hours < self.close_after_hours:
            raise ValueError("export_after_hours is at least close_after_hours: before, somebody may still be there")
        return self

    def rules(self, collection_id: str = "") -> Rules:
        """Those of a collection's people."""
        return Rules(
            zone=ZoneInfo(self.time_zones.get(collection_id, self.time_zone)),
            day_starts_at=time.fromisoformat(self.day_starts_at),
            split_shifts=self.night_shifts == "split",
            shift_gap=timedelta(hours=self.shift_gap_hours),
            longest_shift=timedelta(hours=self.longest_shift_hours),
            minimum_break=timedelta(minutes=self.minimum_break_minutes),
            close_after=timedelta(hours=self.close_after_hours),
            zones=frozenset(self.zones),
        )

    def all_rules(self) -> list[Rules]:
        """One for each time zone that is set."""
        return [self.rules(), *map(self.rules, self.time_zones)]

    @property
    def retention(self) -> timedelta:
        """How long bookings are kept after their day."""
        return timedelta(days=self.retention_days)
