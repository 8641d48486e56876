"""Whether the settings work, step by step: settings, token, permissions one by one, one user."""

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from datetime import datetime

from facesvc.errors import FacesvcError
from facesvc.events.plugin import Step
from facesvc_graph.auth import roles_of
from facesvc_graph.client import Client
from facesvc_graph.lookup import find, lookup
from facesvc_graph.people import PROFILE_FIELDS
from facesvc_graph.records import Profile, list_of, profile_of
from facesvc_graph.replies import NoSuchError, Part, Workload
from facesvc_graph.settings import GraphSettings

_GRANT = "grant it in Entra: App registrations, API permissions, Microsoft Graph, Application; then grant admin consent"


@dataclass(frozen=True, slots=True)
class _Permission:
    """What the app needs for something; any of ``enough`` will do, the first is the least."""

    purpose: str
    enough: tuple[str, ...]


def permissions(settings: GraphSettings) -> list[_Permission]:
    """What the app needs with these settings."""
    needed = [
        _Permission("profile", ("User.Read.All", "User.ReadWrite.All", "Directory.Read.All", "Directory.ReadWrite.All"))
    ]
    if settings.has_presence:
        needed.append(_Permission("presence", ("Presence.Read.All", "Presence.ReadWrite.All")))
    if settings.calendar == "subjects":
        needed.append(_Permission("calendar", ("Calendars.Read", "Calendars.ReadWrite")))
    if settings.calendar == "free_busy":
        basic = ("Calendars.ReadBasic", "Calendars.ReadBasic.All", "Calendars.Read", "Calendars.ReadWrite")
        needed.append(_Permission("calendar", basic))
    if settings.set_presence:
        needed.append(_Permission("set presence", ("Presence.ReadWrite.All",)))
    return needed


async def steps(settings: GraphSettings, now: Callable[[], datetime], user: str = "") -> AsyncIterator[Step]:
    """The steps, ending with the first that fails. ``user``: an id or address; empty: the first that Graph names."""
    try:
        settings.credential()
        client = Client(settings, now)
    except FacesvcError as error:
        yield Step(name="settings", ok=False, detail=error.message)
        return
    kind = "certificate" if settings.certificate_file else "secret"
    yield Step(name="settings", ok=True, detail=f"cloud {settings.cloud}, {kind} readable")
    try:
        async for step in _asked(client, settings, now, user):
            yield step
            if step.ok is False:
                return
    finally:
        await client.close()


async def _asked(
    client: Client, settings: GraphSettings, now: Callable[[], datetime], user: str
) -> AsyncIterator[Step]:
    try:
        token = await client.tokens.token()
    except FacesvcError as error:
        yield Step(name="token", ok=False, detail=error.message)
        return
    yield Step(name="token", ok=True, detail=f"from {settings.sign_in()}")
    for step in _granted(settings, token):
        yield step
    if not settings.has_presence:
        yield Step(name="presence", ok=None, detail=f"the cloud {settings.cloud} has none; calendar and profile stay")
    try:
        profile = await (find(client, user) if user else _anybody(client))
        found = await lookup(client, settings, profile, now)
    except FacesvcError as error:
        yield Step(name="user", ok=False, detail=error.message)
        return
    yield Step(name="user", ok=True, detail=f"{profile.id}: found")
    for name in _looked_at(settings):
        problem = found.problems.get(name)
        if problem is None:
            yield Step(name=f"user: {name}", ok=True, detail="answers")
        else:  # somebody without a mailbox says nothing against the settings
            ok = None if isinstance(problem, NoSuchError) else False
            yield Step(name=f"user: {name}", ok=ok, detail=problem.message)


def _looked_at(settings: GraphSettings) -> list[str]:
    asked = {
        "presence": settings.has_presence,
        "calendar": settings.calendar != "off",
        "photo": settings.photos != "off",
    }
    return [name for name, whether in asked.items() if whether]


def _granted(settings: GraphSettings, token: str) -> list[Step]:
    """A step for each permission; the first that is missing says which others are."""
    roles = roles_of(token)
    if roles is None:
        return [Step(name="permissions", ok=None, detail="the token does not say which; the steps below will tell")]
    missing = [one for one in permissions(settings) if not roles.intersection(one.enough)]
    found = []
    for one in permissions(settings):
        granted = sorted(roles.intersection(one.enough))
        if granted:
            found.append(Step(name=f"permission: {one.purpose}", ok=True, detail=", ".join(granted)))
    if missing:
        names = ", ".join(one.enough[0] for one in missing)
        detail = f"{names} missing: {_GRANT}"
        found.append(Step(name=f"permission: {missing[0].purpose}", ok=False, detail=detail))
    return found


async def _anybody(client: Client) -> Profile:
    """The first user that Graph names."""
    part = Part("GET", f"/users?$select={PROFILE_FIELDS}&$top=1", Workload.DIRECTORY, "User.Read.All")
    [reply] = await client.send([part])
    found = [one for one in list_of(reply.value()) if isinstance(one, dict)]
    if not found:
        raise NoSuchError("the tenant has no users, or none that this app may see")
    return profile_of(found[0])
