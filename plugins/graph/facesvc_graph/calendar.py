"""Calendars: asking for them, and who is free, now and next.

``calendarView`` gives one person's events with their subjects; ``getSchedule`` gives twenty people's without. Both go
through ``Client``, which has at most four requests to Outlook on their way.
"""

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from urllib.parse import quote, urlencode

from pydantic import JsonValue, ValidationError

from facesvc.errors import FacesvcError
from facesvc.events.plugin import TryLaterError, UndeliverableError
from facesvc_graph.client import Client
from facesvc_graph.records import Calendar, Schedule, Slot, list_of, slots_of
from facesvc_graph.replies import ForbiddenError, NoSuchError, Part, Reply, Workload
from facesvc_graph.zones import WorkingHours

AHEAD = timedelta(hours=24)
MAX_SCHEDULES = 20
_VIEW_MINUTES = 15
_MAX_EVENTS = 50
# The digit 4 is "working elsewhere" on the page of scheduleInformation; a page of concepts says 0, which stays free.
_DIGITS = {"1": "tentative", "2": "busy", "3": "oof", "4": "workingelsewhere"}
# Who is away is not to be disturbed, least of all; then who is busy. A word that is not known counts as busy.
_ORDER = ("free", "workingelsewhere", "tentative", "busy", "oof")
_PASSED_OVER = {"free", "workingelsewhere"}


def view(user_id: str, now: datetime) -> Part:
    """What asks for one person's events from now on; ``view_of`` reads it."""
    query = {
        "startDateTime": f"{now:%Y-%m-%dT%H:%M:%SZ}",
        "endDateTime": f"{now + AHEAD:%Y-%m-%dT%H:%M:%SZ}",
        "$select": "subject,start,end,showAs,sensitivity,isCancelled",
        "$orderby": "start/dateTime",
        "$top": str(_MAX_EVENTS),
    }
    return Part(
        "GET",
        f"/users/{user_id}/calendarView?{urlencode(query, safe='$,/:')}",
        Workload.OUTLOOK,
        "Calendars.Read",
        prefer='outlook.timezone="UTC", IdType="ImmutableId"',
    )


def view_of(reply: Reply) -> Calendar:
    """The events of one person. Raises what went wrong."""
    return Calendar(slots_of(list_of(reply.value()), subjects=True))


async def schedules(client: Client, addresses: Sequence[str], now: datetime) -> list[Calendar | FacesvcError]:
    """When each of some people is free, by their mail addresses; an error for those whose calendar cannot be seen."""
    found: list[Calendar | FacesvcError] = []
    for first in range(0, len(addresses), MAX_SCHEDULES):
        found += await _schedules(client, addresses[first : first + MAX_SCHEDULES], now)
    return found


async def _schedules(client: Client, addresses: Sequence[str], now: datetime) -> list[Calendar | FacesvcError]:
    start = now.replace(minute=now.minute - now.minute % _VIEW_MINUTES, second=0, microsecond=0)
    error: FacesvcError = NoSuchError("nobody's calendar was asked for")
    for asked in addresses[:3]:  # the first may have no mailbox; that says nothing of the others
        [reply] = await client.send([_schedule_part(asked, addresses, start)])
        try:
            values = list_of(reply.value())
        except (NoSuchError, ForbiddenError) as refused:
            error = refused
        except FacesvcError as other:
            return [other] * len(addresses)
        else:
            return _matched(values, addresses, start)
    return [error] * len(addresses)


def _schedule_part(asked: str, addresses: Sequence[str], start: datetime) -> Part:
    times: dict[str, JsonValue] = {
        name: {"dateTime": f"{time:%Y-%m-%dT%H:%M:%S}", "timeZone": "UTC"}
        for name, time in (("startTime", start), ("endTime", start + AHEAD))
    }
    return Part(
        "POST",
        f"/users/{quote(asked, safe='')}/calendar/getSchedule",
        Workload.OUTLOOK,
        "Calendars.ReadBasic",
        body={"schedules": list(addresses), **times, "availabilityViewInterval": _VIEW_MINUTES},
        prefer='outlook.timezone="UTC"',
        named=True,
    )


def _matched(values: Iterable[JsonValue], addresses: Sequence[str], start: datetime) -> list[Calendar | FacesvcError]:
    """Answers in the order of the addresses: they may come in any, and one may be missing."""
    found: dict[str, Calendar | FacesvcError] = {}
    for value in values:
        try:
            schedule = Schedule.model_validate(value)
        except ValidationError:
            continue
        found[schedule.schedule_id.casefold()] = _calendar(schedule, start)
    missing = TryLaterError("Microsoft Graph left a schedule out of its answer")
    return [found.get(one.casefold(), missing) for one in addresses]


def _calendar(schedule: Schedule, start: datetime) -> Calendar | FacesvcError:
    if isinstance(schedule.error, dict):
        code = str(schedule.error.get("responseCode", ""))
        kind = NoSuchError if "NotFound" in code or "MailRecipient" in code else UndeliverableError
        return kind(f"Microsoft Graph does not tell this schedule ({code[:80]!r})")
    slots = slots_of(schedule.schedule_items or [], subjects=False)
    return Calendar(slots or _view_slots(schedule.availability_view or "", start), _hours(schedule.working_hours))


def _view_slots(digits: str, start: datetime) -> tuple[Slot, ...]:
    """Slots of a view in digits, each ``_VIEW_MINUTES`` long; equal neighbours are one."""
    found: list[Slot] = []
    for place, digit in enumerate(digits):
        if digit == "0":
            continue
        begin = start + timedelta(minutes=_VIEW_MINUTES) * place
        slot = Slot(begin, begin + timedelta(minutes=_VIEW_MINUTES), _DIGITS.get(digit, "unknown"))
        if found and found[-1].end == slot.start and found[-1].status == slot.status:
            slot = Slot(found.pop().start, slot.end, slot.status)
        found.append(slot)
    return tuple(found)


def _hours(value: JsonValue) -> WorkingHours | None:
    try:
        return None if value is None else WorkingHours.model_validate(value)
    except ValidationError:
        return None


def _weight(slot: Slot) -> int:
    return _ORDER.index(slot.status) if slot.status in _ORDER else _ORDER.index("busy")


def free_busy(calendar: Calendar, now: datetime) -> str:
    """The strongest of what is on now, "free" where there is nothing."""
    running = [slot for slot in calendar.slots if slot.start <= now < slot.end]
    return max(running, key=_weight).status if running else "free"


def current(calendar: Calendar, now: datetime) -> Slot | None:
    """What somebody is in now: of several the strongest, then the one that began last."""
    running = [slot for slot in calendar.slots if slot.start <= now < slot.end and slot.status not in _PASSED_OVER]
    return max(running, key=lambda slot: (_weight(slot), slot.start), default=None)


def following(calendar: Calendar, now: datetime) -> Slot | None:
    """What comes next."""
    return next((slot for slot in calendar.slots if slot.start > now and slot.status not in _PASSED_OVER), None)
