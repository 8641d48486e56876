"""What an administrator sets under ``[plugins.door]``: hours, doors, and who may pass which of them when."""

from datetime import date
from typing import Annotated, Literal
from zoneinfo import ZoneInfo

from pydantic import AfterValidator, ConfigDict, Field, model_validator

from facesvc.events.plugin import PluginSettings
from facesvc_door import schedule
from facesvc_door.drivers import Relay
from facesvc_door.drivers.driver import Table

MAX_DOORS = 64
ALWAYS = "always"
"""The schedule that nobody has to write."""


def _zone(name: str) -> str:
    try:
        ZoneInfo(name)
    except (KeyError, ValueError, OSError):  # of an unknown name, of a path, of a folder
        raise ValueError(f"there is no time zone {name!r}; they are named as Europe/Berlin") from None
    return name


def _time(text: str) -> str:
    schedule.minutes(text)
    return text


Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]*$", max_length=40)]
Id = Annotated[str, Field(min_length=1, max_length=200)]
TimeZone = Annotated[str, Field(max_length=100), AfterValidator(_zone)]
Time = Annotated[str, AfterValidator(_time)]
Day = Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"]


class Hours(Table):
    """A window of a schedule; over midnight where ``end`` is not after ``start``."""

    days: tuple[Day, ...] = Field(min_length=1, max_length=7)
    start: Time
    end: Time
    """The first minute that is outside; "24:00" for the end of the day."""

    @model_validator(mode="after")
    def _real(self) -> "Hours":
        self.window()
        return self

    def window(self) -> schedule.Window:
        """The same as a value."""
        days = frozenset(schedule.DAYS.index(day) for day in self.days)
        return schedule.Window(days, schedule.minutes(self.start), schedule.minutes(self.end))


class Permission(Table):
    """Who may pass, and when. One that fits is enough."""

    groups: tuple[Id, ...] = Field((), max_length=100)
    """Values of ``group_key`` in the metadata of a person."""
    subjects: tuple[Id, ...] = Field((), max_length=1000)
    """Ids of people."""
    schedule: Name
    """A name under ``[plugins.door.schedules]``, or "always"."""
    on_holidays: bool = False
    """Whether the hours count on holidays too."""

    @model_validator(mode="after")
    def _somebody(self) -> "Permission":
        if not (self.groups or self.subjects):
            raise ValueError("a permission names groups or subjects")
        return self


class Door(Table):
    """``[plugins.door.doors.NAME]``."""

    cameras: tuple[Id, ...] = Field(min_length=1, max_length=16)
    """The cameras that look at who stands before it; each belongs to one door."""
    collection: Id = "default"
    """The gallery whose people may pass."""
    permissions: tuple[Permission, ...] = Field((), max_length=100)
    """None: nobody passes."""
    relay: Relay
    pulse_s: float = Field(3.0, ge=0.1, le=60)
    """How long the relay is on."""
    area: Name | Literal[""] = ""
    """For anti-passback: the area that the door leads into or out of; empty: the door's own name."""
    direction: Literal["in", "out"] = "in"
    anti_passback_reset_hours: float = Field(0.0, ge=0, le=24 * 31)
    """For so long nobody may enter the area again who has not left it by an "out" door; 0: no anti-passback."""
    held_after_s: float = Field(30.0, ge=1, le=3600)
    """How long the door may stand open after its last opening before that is an alarm."""
    open_within_s: float = Field(5.0, ge=0, le=60)
    """How long after the pulse the door may still be opened; opened later it counts as forced."""
    forced_alarm: bool = True
    """Off for doors that people open from inside with a handle."""
    time_zone: TimeZone | Literal[""] = ""
    """Where the door stands; empty: ``time_zone`` of the plugin."""


class DoorSettings(PluginSettings):
    """``[plugins.door]``. Whatever is left out is chosen so that fewer people pass, not more."""

    model_config = ConfigDict(allow_inf_nan=False)

    policy: str = Field("access", min_length=1, max_length=100)
    """Only decisions of this policy open a door."""
    max_false_match_rate: float = Field(1e-5, gt=0, le=1e-5)
    """Only decisions made at this rate or a stricter one; no door takes a higher one than 1 in 100,000."""
    liveness: bool = True
    """Only faces that passed as living ones."""
    max_age_s: float = Field(2.0, ge=0.1, le=10)
    """How long ago the picture may have been taken."""
    max_ahead_s: float = Field(0.5, ge=0, le=5)
    """By how much the clock of a camera may be fast; what is later comes from the future and is refused."""
    group_key: str = Field("group", min_length=1, max_length=100)
    """The key in a person's metadata that names their groups, with commas between."""
    time_zone: TimeZone = "UTC"
    holidays: frozenset[date] = Field(frozenset(), max_length=1000)
    schedules: dict[Name, tuple[Hours, ...]] = Field(default_factory=dict, max_length=100)
    doors: dict[Name, Door] = Field(min_length=1, max_length=MAX_DOORS)
    relay_timeout_s: float = Field(1.5, ge=0.05, le=10)
    """How long a relay may take to say that it did what it was told."""
    poll_interval_s: float = Field(0.5, ge=0.1, le=60)
    """How often the inputs are read."""
    duress_closes_all: bool = True
    """Whether the command ``duress`` is a lock-down too."""
    keep_days: float = Field(30.0, ge=1, le=366)
    """How long alarms are kept."""
    keep_results_hours: float = Field(24.0, ge=1, le=24 * 31)
    """How long it is kept what came of an event; the audit log has it for longer."""

    @model_validator(mode="after")
    def _fits(self) -> "DoorSettings":
        seen: dict[str, str] = {}
        for name, door in self.doors.items():
            for camera in door.cameras:
                if camera in seen:
                    raise ValueError(f"camera {camera!r} belongs to the doors {seen[camera]} and {name}: only to one")
                seen[camera] = name
            for permission in door.permissions:
                if permission.schedule not in {ALWAYS, *self.schedules}:
                    raise ValueError(f"door {name}: there is no [plugins.door.schedules] {permission.schedule}")
            if door.direction == "out" and not door.area:
                raise ValueError(f"door {name} leads out: name the area that it leads out of")
        if ALWAYS in self.schedules:
            raise ValueError(f"the schedule {ALWAYS} is built in: choose another name")
        ports = [door.relay.serial_port for door in self.doors.values() if door.relay.driver == "osdp"]
        if len(ports) != len(set(ports)):
            raise ValueError("two doors share a serial port: only one OSDP device a line")
        return self

    def windows(self, name: str) -> tuple[schedule.Window, ...]:
        """The windows of a schedule."""
        return schedule.ALWAYS if name == ALWAYS else tuple(hours.window() for hours in self.schedules[name])

    def zone(self, door: Door) -> ZoneInfo:
        """Where a door stands."""
        return ZoneInfo(door.time_zone or self.time_zone)
