"""What is told of a person: values for programs and a line for people, from the answers of Graph."""

from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

from pydantic import JsonValue

from facesvc.events.plugin import Facts
from facesvc_graph.calendar import current, following, free_busy
from facesvc_graph.memory import Known
from facesvc_graph.records import Calendar, Presence, Slot
from facesvc_graph.settings import GraphSettings
from facesvc_graph.text import words

SOON = timedelta(hours=1)
MAX_AGE = timedelta(hours=12)
"""How long the last known answer is told while there is no newer one."""
_IN_A_MEETING = {"InAMeeting", "InAConferenceCall"}


def facts_of(known: Known, settings: GraphSettings, now: datetime) -> Facts | None:
    """What is known of somebody; None where nothing is, or nothing that is young enough.

    ``fetch_time`` is that of their presence, or of their calendar where there is none. Answers older than what would
    have been asked again by now are said to be "as of" then.
    """
    presence, calendar = known.presence.value, known.calendar.value
    times = [answer.time for answer in (known.presence, known.calendar, known.profile) if answer.time is not None]
    if not times or now - times[0] > MAX_AGE:
        return None
    time = times[0]
    values: dict[str, JsonValue] = {}
    if presence is not None:
        values |= _presence_values(presence, now)
    if calendar is not None:
        values |= _calendar_values(calendar, now)
    if known.profile.value is not None:
        profile = known.profile.value
        values |= {"name": profile.display_name, "job_title": profile.job_title, "department": profile.department}
    if known.photo.value is not None:
        values["photo"] = known.photo.value
    lines = _lines(presence, calendar, settings.zone, now)
    patience = max(3 * settings.poll_interval, 120.0) if presence is not None else 2 * settings.cache_ttl
    if (presence is not None or calendar is not None) and (now - time).total_seconds() > patience:
        lines.append(f"as of {_clock(time, settings.zone, now)}")
    return Facts(
        values=values,
        summary=" · ".join(lines),
        fetch_time=time,
        expire_time=now + timedelta(seconds=max(settings.cache_ttl, 3 * settings.poll_interval)),
    )


def _presence_values(presence: Presence, now: datetime) -> dict[str, JsonValue]:
    away = presence.out_of_office_settings
    place = presence.work_location
    return {
        "availability": presence.availability,
        "activity": presence.activity,
        "out_of_office": None if away is None else away.is_out_of_office,
        "work_location": None if place is None else place.work_location_type,
        "status_message": "" if presence.status_message is None else presence.status_message.shown(now),
    }


def _calendar_values(calendar: Calendar, now: datetime) -> dict[str, JsonValue]:
    values: dict[str, JsonValue] = {
        "free_busy": free_busy(calendar, now),
        "current_event": _event(current(calendar, now)),
        "next_event": _event(following(calendar, now)),
    }
    if calendar.hours is not None:
        values["working_hours"] = calendar.hours.include(now)
    return values


def _event(slot: Slot | None) -> JsonValue:
    if slot is None:
        return None
    return {
        "subject": slot.subject,
        "start": slot.start.isoformat(),
        "end": slot.end.isoformat(),
        "status": slot.status,
    }


def _lines(presence: Presence | None, calendar: Calendar | None, zone: ZoneInfo, now: datetime) -> list[str]:
    running = None if calendar is None else current(calendar, now)
    lines = []
    if presence is not None:
        lines.append(words(presence.availability))
        told = presence.activity == presence.availability or (
            running is not None and presence.activity in _IN_A_MEETING
        )
        if not told:
            activity = words(presence.activity)
            lines.append(activity[:1].lower() + activity[1:])
        away = presence.out_of_office_settings
        if away is not None and away.is_out_of_office and presence.activity != "OutOfOffice":
            lines.append("out of office")
    elif calendar is not None and running is None:
        lines.append(words(free_busy(calendar, now)))
    if running is not None:
        lines.append(_running(running, zone, now))
    upcoming = None if calendar is None else following(calendar, now)
    if upcoming is not None and running is None and upcoming.start - now <= SOON:
        what = f"'{upcoming.subject}'" if upcoming.subject else _status(upcoming)
        lines.append(f"{what} at {_clock(upcoming.start, zone, now)}")
    return lines


def _running(slot: Slot, zone: ZoneInfo, now: datetime) -> str:
    what = f"in '{slot.subject}'" if slot.subject else _status(slot)
    return f"{what} until {_clock(slot.end, zone, now)}"


def _status(slot: Slot) -> str:
    return {"oof": "out of office"}.get(slot.status, slot.status if slot.status in {"busy", "tentative"} else "busy")


def _clock(time: datetime, zone: ZoneInfo, now: datetime) -> str:
    """Hour and minute, and the day where it is not today."""
    local = time.astimezone(zone)
    return f"{local:%H:%M}" if local.date() == now.astimezone(zone).date() else f"{local:%a %d %b %H:%M}"


def same(one: Facts | None, other: Facts) -> bool:
    """Whether two facts say the same, be it at different times."""
    return one is not None and one.values == other.values and one.summary == other.summary
