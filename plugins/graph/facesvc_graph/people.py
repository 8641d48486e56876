"""Who somebody is in Microsoft 365: their user by an id that the gallery keeps, else by UPN or mail, looked up once."""

import re
from collections.abc import Mapping
from contextlib import suppress
from datetime import datetime, timedelta
from urllib.parse import quote, urlencode

from pydantic import JsonValue

from facesvc.errors import FacesvcError
from facesvc.events.plugin import About, Box, UndeliverableError
from facesvc_graph.client import Client
from facesvc_graph.memory import Known, Memory
from facesvc_graph.records import Profile, list_of, profile_of
from facesvc_graph.replies import NoSuchError, Part, Workload

MISSING_FOR = timedelta(hours=6)
"""How long somebody who is not in Graph is not looked for again."""
PROFILE_FIELDS = "id,displayName,jobTitle,department,mail,userPrincipalName"
_NOTE, _MISSING_NOTE = "user", "missing"
# Names of external ids, the first that is there counts.
_ID, _UPN, _MAIL = ("graph_user_id",), ("upn", "user_principal_name"), ("mail", "email")
USER_ID = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")

Key = tuple[str, ...]


def key_of(external_ids: Mapping[str, str]) -> Key:
    """What a person's user is found by; empty where they have nothing of the kind."""
    for kind, names in (("id", _ID), ("upn", _UPN), ("mail", _MAIL)):
        value = next((external_ids[name].strip() for name in names if external_ids.get(name, "").strip()), "")
        if value:
            return kind, value[:320]
    return ()


def profile_part(user_id: str) -> Part:
    """What asks for the profile of a user."""
    return Part("GET", f"/users/{user_id}?$select={PROFILE_FIELDS}", Workload.DIRECTORY, "User.Read.All")


def _upn_part(upn: str) -> Part:
    return Part(
        "GET",
        f"/users/{quote(upn, safe='@')}?$select={PROFILE_FIELDS}",
        Workload.DIRECTORY,
        "User.Read.All",
        named=True,
    )


def _mail_part(mail: str) -> Part:
    wanted = mail.replace("'", "''")  # https://docs.oasis-open.org/odata/odata/v4.01: a quote in a string is doubled
    query = urlencode(
        {"$filter": f"mail eq '{wanted}'", "$select": PROFILE_FIELDS, "$top": "2"}, safe="$,", quote_via=quote
    )
    return Part("GET", f"/users?{query}", Workload.DIRECTORY, "User.Read.All", named=True)


async def look_up(client: Client, key: Key) -> Profile:
    """The user of a key. Raises ``NoSuchError`` where there is none, and what went wrong."""
    kind, value = key
    if kind == "id" and not USER_ID.fullmatch(value):
        raise UndeliverableError("external_ids.graph_user_id is no object id of a user, which is a GUID")
    if kind != "mail":
        part = profile_part(value) if kind == "id" else _upn_part(value)
        [reply] = await client.send([part])
        return profile_of(reply.value())
    [reply] = await client.send([_mail_part(value)])
    found = list_of(reply.value())
    if not found:
        raise NoSuchError("Microsoft Graph knows nobody with this mail address")
    if len(found) > 1 or not isinstance(found[0], dict):
        raise UndeliverableError("more than one user has this mail address: set external_ids.graph_user_id")
    return profile_of(found[0])


class People:
    """Users of people, remembered: in memory, and those that were looked up in notes about the person."""

    def __init__(self, client: Client, box: Box, memory: Memory, *, addresses: bool) -> None:
        self._client = client
        self._box = box
        self._memory = memory
        self._addresses = addresses  # whether the address of the mailbox is needed, too
        self._missing: dict[About, tuple[Key, datetime]] = {}

    async def known(self, about: About, external_ids: Mapping[str, str]) -> Known | None:
        """Somebody; None where they are not in Graph. Raises what went wrong while looking them up."""
        key = key_of(external_ids)
        if not key:
            return None
        known = self._memory.get(about)
        if known is None or known.key != key:
            known = await self._found(about, key)
            if known is not None:
                self._memory.put(known)
        return known

    async def missing(self, known: Known) -> None:
        """Graph does not know this user any more."""
        self._memory.forget(known.about)
        await self._box.notes.delete(_NOTE, about=known.about)
        await self._note_missing(known.about, known.key)

    def forget(self, about: About) -> None:
        """Somebody who was erased."""
        self._memory.forget(about)
        self._missing.pop(about, None)

    async def _found(self, about: About, key: Key) -> Known | None:
        if await self._is_missing(about, key):
            return None
        if key[0] == "id" and not self._addresses and USER_ID.fullmatch(key[1]):
            return Known(about, key, key[1].lower())
        note = await self._box.notes.get(_NOTE, about=about)
        if isinstance(note, dict) and note.get("key") == list(key):
            return Known(about, key, str(note["id"]), str(note["address"]))
        try:
            profile = await look_up(self._client, key)
        except NoSuchError:
            await self._note_missing(about, key)
            return None
        known = Known(about, key, profile.id.lower(), profile.mail or profile.user_principal_name or "")
        known.profile.good(profile, self._box.now())
        await self._box.notes.put(_NOTE, {"key": list(key), "id": known.user_id, "address": known.address}, about=about)
        return known

    async def _is_missing(self, about: About, key: Key) -> bool:
        of, until = self._missing.get(about, ((), self._box.now()))
        if of == key and until > self._box.now():
            return True
        note = await self._box.notes.get(_MISSING_NOTE, about=about)
        if not isinstance(note, dict) or note.get("key") != list(key):
            return False
        self._missing[about] = (key, datetime.fromisoformat(str(note["until"])))
        return True

    async def _note_missing(self, about: About, key: Key) -> None:
        until = self._box.now() + MISSING_FOR
        self._missing[about] = (key, until)
        note: dict[str, JsonValue] = {"key": list(key), "until": until.isoformat()}
        with suppress(FacesvcError):  # it is remembered here; after a restart they are looked for once more
            await self._box.notes.put(_MISSING_NOTE, note, about=about, expire_time=until)
