"""The people of the scripted Graph, and the operations on them."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from pydantic import JsonValue

from facesvc_graph.scripted_http import Request, Response

JPEG = b"\xff\xd8\xff\xe0 a picture of somebody \xff\xd9"
_STATUS = {"free": "0", "tentative": "1", "busy": "2", "oof": "3", "workingelsewhere": "4"}


@dataclass(slots=True)
class ScriptedUser:
    """Somebody in Microsoft 365; ``events`` as in a calendarView, ``presence`` more fields of their presence."""

    id: str
    name: str
    upn: str
    mail: str | None = None
    job_title: str | None = None
    department: str | None = None
    availability: str = "Available"
    activity: str = "Available"
    presence: dict[str, JsonValue] = field(default_factory=dict)
    events: list[JsonValue] = field(default_factory=list)
    working_hours: JsonValue = None
    photo: bytes | None = None
    mailbox: bool = True

    def meet(
        self, subject: str, start: datetime, end: datetime, *, status: str = "busy", sensitivity: str = "normal"
    ) -> None:
        """An event; times in UTC."""
        self.events.append(
            {
                "subject": subject,
                "start": {"dateTime": f"{start:%Y-%m-%dT%H:%M:%S}.0000000", "timeZone": "UTC"},
                "end": {"dateTime": f"{end:%Y-%m-%dT%H:%M:%S}.0000000", "timeZone": "UTC"},
                "showAs": status,
                "sensitivity": sensitivity,
                "isCancelled": False,
            }
        )

    def told(self) -> dict[str, JsonValue]:
        """Their presence."""
        return {"id": self.id, "availability": self.availability, "activity": self.activity, **self.presence}

    def profile(self) -> dict[str, JsonValue]:
        """Their user."""
        return {
            "id": self.id,
            "displayName": self.name,
            "jobTitle": self.job_title,
            "department": self.department,
            "mail": self.mail,
            "userPrincipalName": self.upn,
        }


People = Mapping[str, ScriptedUser]
Sessions = dict[str, Mapping[str, JsonValue]]


@dataclass(frozen=True, slots=True)
class Operation:
    """What a request is for: ``kind`` is the workload that counts it, ``permissions`` any one of which is enough."""

    name: str
    kind: str
    permissions: frozenset[str]
    user: str
    answer: Callable[[People, Sessions, Request], Response]


def _find(people: People, user: str) -> ScriptedUser | None:
    wanted = user.casefold()
    return people.get(wanted) or next((one for one in people.values() if one.upn.casefold() == wanted), None)


def _missing(code: str) -> Response:
    return Response(404, {"error": {"code": code, "message": "scripted", "innererror": {"request-id": "0"}}})


def _presences(people: People, _: Sessions, request: Request, __: str) -> Response:
    ids = request.json().get("ids")
    if not isinstance(ids, list) or not 0 < len(ids) <= 650 or len(set(map(str, ids))) != len(ids):
        return Response(400, {"error": {"code": "BadRequest", "message": "scripted"}})
    found: list[JsonValue] = [people[str(one).lower()].told() for one in ids if str(one).lower() in people]
    return Response(200, {"value": found[::-1]})


def _session(people: People, sessions: Sessions, request: Request, user: str) -> Response:
    if user not in people:
        return _missing("ResourceNotFound")
    body = request.json()
    if request.path.endswith("clearPresence"):
        return Response(200) if sessions.pop(user, None) is not None else _missing("ResourceNotFound")
    if not re.fullmatch(r"PT([5-9]M|[1-9][0-9]M|[1-4]H)", str(body.get("expirationDuration"))):
        return Response(400, {"error": {"code": "BadRequest", "message": "scripted"}})
    sessions[user] = body
    return Response(200)


def _user(people: People, _: Sessions, __: Request, user: str) -> Response:
    found = _find(people, user)
    return _missing("Request_ResourceNotFound") if found is None else Response(200, found.profile())


def _users(people: People, _: Sessions, request: Request, __: str) -> Response:
    wanted = re.fullmatch(r"mail eq '((?:[^']|'')*)'", request.query.get("$filter", ""))
    mail = wanted[1].replace("''", "'").casefold() if wanted else None
    found: list[JsonValue] = [
        one.profile() for one in people.values() if mail is None or (one.mail or "").casefold() == mail
    ]
    return Response(200, {"value": found[: int(request.query.get("$top", "100"))]})


def _view(people: People, _: Sessions, request: Request, user: str) -> Response:
    found = _find(people, user)
    if found is None or not found.mailbox:
        return _missing("MailboxNotEnabledForRESTAPI")
    if 'outlook.timezone="UTC"' not in request.headers.get("prefer", ""):
        return Response(400, {"error": {"code": "BadRequest", "message": "times would be in another zone"}})
    return Response(200, {"value": list(found.events)})


def _schedule(people: People, _: Sessions, request: Request, user: str) -> Response:
    body = request.json()
    asked = body.get("schedules")
    if not isinstance(asked, list) or not 0 < len(asked) <= 20:
        return Response(400, {"error": {"code": "BadRequest", "message": "scripted"}})
    asking = next((one for one in people.values() if user in {one.mail, one.upn, one.id}), None)
    if asking is None or not asking.mailbox:
        return _missing("MailboxNotEnabledForRESTAPI")
    start = body.get("startTime")
    assert isinstance(start, dict)
    begin = datetime.fromisoformat(f"{start['dateTime']}+00:00")
    minutes = body.get("availabilityViewInterval")
    assert isinstance(minutes, int)
    return Response(200, {"value": [_one_schedule(people, str(one), begin, minutes) for one in asked][::-1]})


def _one_schedule(people: People, address: str, start: datetime, minutes: int) -> JsonValue:
    found = next((one for one in people.values() if address in {one.mail, one.upn}), None)
    if found is None or not found.mailbox:
        return {"scheduleId": address, "error": {"message": "scripted", "responseCode": "ErrorMailRecipientNotFound"}}
    items = [one for one in found.events if isinstance(one, dict)]
    digits = "".join(_digit(items, start + timedelta(minutes=minutes) * place) for place in range(1440 // minutes))
    return {
        "scheduleId": address,
        "availabilityView": digits,
        "scheduleItems": [
            {"start": one["start"], "end": one["end"], "status": one["showAs"], "isPrivate": False} for one in items
        ],
        "workingHours": found.working_hours,
    }


def _digit(items: list[dict[str, JsonValue]], time: datetime) -> str:
    found = "0"
    for one in items:
        start, end = one["start"], one["end"]
        assert isinstance(start, dict)
        assert isinstance(end, dict)
        if str(start["dateTime"]) <= f"{time:%Y-%m-%dT%H:%M:%S}" < str(end["dateTime"]):
            found = max(found, _STATUS.get(str(one["showAs"]).lower(), "0"))
    return found


def _photo(people: People, _: Sessions, __: Request, user: str) -> Response:
    found = _find(people, user)
    if found is None or found.photo is None:
        return _missing("ImageNotFound")
    return Response(200, found.photo)


_READ_PRESENCE = frozenset({"Presence.Read.All", "Presence.ReadWrite.All"})
_READ_USERS = frozenset({"User.Read.All", "Directory.Read.All"})
_READ_EVENTS = frozenset({"Calendars.Read", "Calendars.ReadWrite"})
_TABLE: tuple[tuple[str, str, str, str, frozenset[str], Callable[..., Response]], ...] = (
    ("presences", "POST", "/communications/getPresencesByUserId", "presence", _READ_PRESENCE, _presences),
    (
        "setPresence",
        "POST",
        "/users/{}/presence/setPresence",
        "presence",
        frozenset({"Presence.ReadWrite.All"}),
        _session,
    ),
    (
        "clearPresence",
        "POST",
        "/users/{}/presence/clearPresence",
        "presence",
        frozenset({"Presence.ReadWrite.All"}),
        _session,
    ),
    (
        "getSchedule",
        "POST",
        "/users/{}/calendar/getSchedule",
        "outlook",
        _READ_EVENTS | {"Calendars.ReadBasic"},
        _schedule,
    ),
    ("calendarView", "GET", "/users/{}/calendarView", "outlook", _READ_EVENTS, _view),
    ("photo", "GET", "/users/{}/photos/{}/$value", "outlook", _READ_USERS, _photo),
    ("photo", "GET", "/users/{}/photo/$value", "outlook", _READ_USERS, _photo),
    ("user", "GET", "/users/{}", "directory", _READ_USERS, _user),
    ("users", "GET", "/users", "directory", _READ_USERS, _users),
)
OPERATIONS = frozenset(row[0] for row in _TABLE)


def operation_of(method: str, path: str) -> Operation | None:
    """What a request is for; None for one that there is not."""
    for name, wanted, shape, kind, permissions, answer in _TABLE:
        pattern = re.escape(shape).replace(r"\{\}", "([^/]+)")
        found = re.fullmatch(pattern, path)
        if found is None or method != wanted:
            continue
        user = found[1] if found.groups() else ""
        return Operation(name, kind, permissions, user, _bound(answer, user))
    return None


def _bound(answer: Callable[..., Response], user: str) -> Callable[[People, Sessions, Request], Response]:
    return lambda people, sessions, request: answer(people, sessions, request, user)
