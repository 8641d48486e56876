"""Looking after people: whatever of their calendar, profile and photo is due, in as few requests as can be."""

import base64
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from facesvc.errors import FacesvcError
from facesvc_graph import calendar
from facesvc_graph.client import Client
from facesvc_graph.memory import Answer, Known
from facesvc_graph.people import profile_part
from facesvc_graph.records import profile_of
from facesvc_graph.replies import NoSuchError, Part, Reply, Workload
from facesvc_graph.settings import GraphSettings

PROFILE_TTL = 86_400.0
MAX_PHOTO_BYTES = 24 << 10
_PICTURES = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n")


@dataclass(frozen=True, slots=True)
class _Job:
    part: Part
    answer: Answer[Any]
    read: Callable[[Reply], Any]


async def look(client: Client, settings: GraphSettings, people: Sequence[Known], now: Callable[[], datetime]) -> None:
    """Ask what is due; answers and errors stand in ``people`` afterwards."""
    jobs = [job for known in people for job in _due(known, settings, now())]
    replies = await client.send([job.part for job in jobs])
    for job, reply in zip(jobs, replies, strict=True):
        try:
            job.answer.good(job.read(reply), now())
        except FacesvcError as error:
            job.answer.bad(error, now())
    if settings.calendar == "free_busy":
        await _schedules(client, [one for one in people if one.address and _calendar_due(one, settings, now())], now)


def _calendar_due(known: Known, settings: GraphSettings, now: datetime) -> bool:
    return known.calendar.due(now, settings.cache_ttl)


def is_due(known: Known, settings: GraphSettings, now: datetime) -> bool:
    """Whether there is anything to ask about somebody but their presence."""
    by_schedule = settings.calendar == "free_busy" and bool(known.address) and _calendar_due(known, settings, now)
    return by_schedule or bool(_due(known, settings, now))


def _due(known: Known, settings: GraphSettings, now: datetime) -> list[_Job]:
    jobs = []
    if known.profile.due(now, PROFILE_TTL):
        jobs.append(_Job(profile_part(known.user_id), known.profile, lambda reply: profile_of(reply.value())))
    if settings.photos != "off" and known.photo.due(now, PROFILE_TTL):
        jobs.append(_Job(photo_part(known.user_id, settings.photos), known.photo, _photo_of))
    if settings.calendar == "subjects" and _calendar_due(known, settings, now):
        jobs.append(_Job(calendar.view(known.user_id, now), known.calendar, calendar.view_of))
    return jobs


async def _schedules(client: Client, people: Sequence[Known], now: Callable[[], datetime]) -> None:
    answers = await calendar.schedules(client, [known.address for known in people], now())
    for known, answer in zip(people, answers, strict=True):
        if isinstance(answer, FacesvcError):
            known.calendar.bad(answer, now())
        else:
            known.calendar.good(answer, now())


def photo_part(user_id: str, size: str) -> Part:
    """What asks for the photo of a user; Outlook keeps it."""
    return Part("GET", f"/users/{user_id}/photos/{size}/$value", Workload.OUTLOOK, "User.Read.All")


def _photo_of(reply: Reply) -> str | None:
    """A photo in base64; None where there is none, or it is none that can be shown."""
    try:
        picture = reply.picture()
    except NoSuchError:
        return None
    shown = picture.startswith(_PICTURES) and len(picture) <= MAX_PHOTO_BYTES
    return base64.b64encode(picture).decode() if shown else None
