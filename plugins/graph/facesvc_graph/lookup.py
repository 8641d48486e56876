"""One user, asked for by an administrator: who they are, and what would be told of them now."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime

from pydantic import JsonValue

from facesvc.errors import FacesvcError, InputError
from facesvc.events.plugin import NOBODY, Facts
from facesvc_graph.client import Client
from facesvc_graph.facts import facts_of
from facesvc_graph.look import look
from facesvc_graph.memory import Known
from facesvc_graph.people import USER_ID, look_up
from facesvc_graph.presence import Presences
from facesvc_graph.records import Profile
from facesvc_graph.replies import NoSuchError
from facesvc_graph.settings import GraphSettings


async def find(client: Client, subject: str) -> Profile:
    """The user of an object id, a UPN or a mail address. Raises ``NoSuchError``, and what went wrong."""
    wanted = subject.strip()
    if not wanted or len(wanted) > 320 or not wanted.isprintable():
        raise InputError("name a user by object id, UPN or mail address", field="subject")
    if "@" not in wanted and not USER_ID.fullmatch(wanted):
        raise InputError(f"{wanted!r} is neither the object id of a user, which is a GUID, nor an address")
    if "@" not in wanted:
        return await look_up(client, ("id", wanted))
    try:
        return await look_up(client, ("upn", wanted))
    except NoSuchError:
        return await look_up(client, ("mail", wanted))


@dataclass(frozen=True, slots=True)
class Found:
    """What is known of a user, and what could not be found out."""

    profile: Profile
    facts: Facts
    problems: Mapping[str, FacesvcError]

    def as_json(self) -> dict[str, JsonValue]:
        """For programs; README.md names the fields."""
        return {
            "id": self.profile.id,
            "user_principal_name": self.profile.user_principal_name,
            "mail": self.profile.mail,
            "summary": self.facts.summary,
            "values": dict(self.facts.values),
            "fetch_time": self.facts.fetch_time.isoformat(),
            "problems": {name: error.message for name, error in self.problems.items()},
        }


async def lookup(client: Client, settings: GraphSettings, profile: Profile, now: Callable[[], datetime]) -> Found:
    """What would be told of a user now."""
    known = Known(NOBODY, (), profile.id.lower(), profile.mail or profile.user_principal_name or "")
    known.profile.good(profile, now())
    if settings.has_presence:
        await Presences(client, now).of(known)
    await look(client, settings, [known], now)
    facts = facts_of(known, settings, now())
    assert facts is not None  # there is a profile
    errors = {"presence": known.presence.error, "calendar": known.calendar.error, "photo": known.photo.error}
    return Found(profile, facts, {name: error for name, error in errors.items() if error is not None})
