"""What Graph answers, read strictly and bounded. Words that nobody knows yet are passed on."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, JsonValue, ValidationError
from pydantic.alias_generators import to_camel

from facesvc.events.plugin import TryLaterError
from facesvc_graph.text import plain, printable
from facesvc_graph.zones import WorkingHours, moment

MAX_SUBJECT = 120
MAX_SCHEDULE_ITEMS = 500


def _word(value: str) -> str:
    return printable(value, 64)


def _line(value: str) -> str:
    return printable(value, 200)


Word = Annotated[str, AfterValidator(_word)]
Line = Annotated[str, AfterValidator(_line)]


class Answered(BaseModel):
    """Base of what is read: what we do not know of is passed over."""

    model_config = ConfigDict(frozen=True, extra="ignore", alias_generator=to_camel, populate_by_name=True)


class OutOfOffice(Answered):
    """Whether somebody set that they are out of office. What they say about it is for those who write to them."""

    is_out_of_office: bool = False


class Place(Answered):
    """``workLocation``: office, remote, timeOff, and whatever comes."""

    work_location_type: Word | None = None


class Message(Answered):
    """A text, in HTML where it says so."""

    content: str | None = Field(None, max_length=20_000)
    content_type: Word | None = None


class Time(Answered):
    """``dateTimeTimeZone``."""

    date_time: str = Field(max_length=64)
    time_zone: str = Field("UTC", max_length=120)

    def utc(self) -> datetime:
        """Raises ``ValueError``."""
        return moment(self.date_time, self.time_zone)


class StatusMessage(Answered):
    """What somebody wrote under their name, until when."""

    message: Message | None = None
    expiry_date_time: Time | None = None

    def shown(self, now: datetime) -> str:
        """The text; empty where there is none, or its time is over."""
        if self.message is None or not self.message.content:
            return ""
        try:
            if self.expiry_date_time is not None and self.expiry_date_time.utc() <= now:
                return ""
        except ValueError:
            pass  # until when is not known: it is there
        return plain(self.message.content, 200)


class Presence(Answered):
    """Presence in Teams. Availability and activity are open words: https://learn.microsoft.com/graph/api/resources/presence."""

    id: Annotated[str, Field(max_length=64)]
    availability: Word = "PresenceUnknown"
    activity: Word = "PresenceUnknown"
    out_of_office_settings: OutOfOffice | None = None
    status_message: StatusMessage | None = None
    work_location: Place | None = None


class Profile(Answered):
    """Who somebody is in the directory."""

    id: Annotated[str, Field(pattern=r"^[0-9A-Za-z-]{1,64}$")]
    display_name: Line | None = None
    job_title: Line | None = None
    department: Line | None = None
    mail: Annotated[str, Field(max_length=320)] | None = None
    user_principal_name: Annotated[str, Field(max_length=320)] | None = None


class Item(Answered):
    """An event of a calendarView or of a schedule; the two name the same things differently."""

    start: Time
    end: Time
    subject: str | None = Field(None, max_length=2000)
    show_as: Word | None = None
    status: Word | None = None
    sensitivity: Word | None = None
    is_private: bool | None = None
    is_cancelled: bool | None = None


class Schedule(Answered):
    """One person's answer of getSchedule."""

    schedule_id: Annotated[str, Field(max_length=320)]
    availability_view: Annotated[str, Field(max_length=2000)] | None = None
    schedule_items: list[JsonValue] | None = Field(None, max_length=MAX_SCHEDULE_ITEMS)
    working_hours: JsonValue = None
    error: JsonValue = None


@dataclass(frozen=True, slots=True)
class Slot:
    """Some time in a calendar. ``status`` in lower case; ``subject`` is empty where it is private or was not asked."""

    start: datetime
    end: datetime
    status: str
    subject: str = ""


@dataclass(frozen=True, slots=True)
class Calendar:
    """What lies ahead of somebody, by its start, and their working hours where those were told."""

    slots: tuple[Slot, ...] = ()
    hours: WorkingHours | None = None


def slots_of(items: Sequence[JsonValue], *, subjects: bool) -> tuple[Slot, ...]:
    """The events among ``items``, by their start; those that cannot be read are passed over.

    A subject is told only of an event that says of itself that it is a normal one.
    """
    found = []
    for one in items[:MAX_SCHEDULE_ITEMS]:
        try:
            item = Item.model_validate(one)
            start, end = item.start.utc(), item.end.utc()
        except (ValidationError, ValueError):
            continue
        if item.is_cancelled or end < start:
            continue
        normal = not item.is_private and (item.sensitivity or "").lower() == "normal"
        subject = printable(item.subject or "", MAX_SUBJECT) if subjects and normal else ""
        found.append(Slot(start, end, (item.show_as or item.status or "unknown").lower(), subject))
    return tuple(sorted(found, key=lambda slot: (slot.start, slot.end)))


def profile_of(value: Mapping[str, JsonValue]) -> Profile:
    """A user. Raises ``TryLaterError`` for an answer that is none."""
    try:
        return Profile.model_validate(value)
    except ValidationError as error:
        raise TryLaterError("Microsoft Graph answered with something else than a user") from error


def list_of(value: Mapping[str, JsonValue]) -> list[JsonValue]:
    """The list of an answer. Raises ``TryLaterError`` where there is none."""
    found = value.get("value")
    if not isinstance(found, list):
        raise TryLaterError("Microsoft Graph answered with something else than a list")
    return found


def presences_of(value: Mapping[str, JsonValue]) -> dict[str, Presence]:
    """Presences by the id of the user, in lower case; those that cannot be read are passed over."""
    found = {}
    for one in list_of(value):
        try:
            presence = Presence.model_validate(one)
        except ValidationError:
            continue
        found[presence.id.lower()] = presence
    return found
