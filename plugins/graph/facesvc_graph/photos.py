"""Enrolling the profile photo of somebody who gave their consent, once in a while."""

import hashlib
from datetime import timedelta

from facesvc.errors import InputError, NotFoundError
from facesvc.events.plugin import About, Box
from facesvc_graph.client import Client
from facesvc_graph.memory import Known
from facesvc_graph.replies import NoSuchError, Part, Workload

AGAIN = timedelta(days=30)
SOURCE = "microsoft-365-profile-photo"
_NOTE = "enrolled-photo"


async def enrol(client: Client, box: Box, known: Known) -> str:
    """Enrol the photo unless that was done with the same one; the verdict, or why it was not done.

    Raises ``NotFoundError`` for somebody who is not enrolled at all, and what went wrong.
    """
    person = await box.person(known.about)
    if person is None:
        raise NotFoundError("this person is not in the gallery")
    if not person.consent_purpose:
        return "NO_CONSENT"
    part = Part("GET", f"/users/{known.user_id}/photo/$value", Workload.OUTLOOK, "User.Read.All")
    [reply] = await client.send([part])
    try:
        picture = reply.picture()
    except NoSuchError:
        return "NO_PHOTO"
    digest = hashlib.sha256(picture).hexdigest()
    note = await box.notes.get("photo-" + digest[:32], about=known.about)
    if note is not None:
        return "SAME_PHOTO"
    try:
        verdict = await box.enrol(known.about, picture, SOURCE)
    except InputError as error:
        verdict = error.reason
    await box.notes.put("photo-" + digest[:32], verdict, about=known.about)
    await box.audit("EnrollProfilePhoto", f"the profile photo of Microsoft 365: {verdict}", known.about)
    return verdict


async def enrol_if_due(client: Client, box: Box, about: About, known: Known) -> None:
    """As ``enrol``, unless it was tried within ``AGAIN``. Raises what went wrong."""
    if await box.notes.get(_NOTE, about=about) is not None:
        return
    verdict = await enrol(client, box, known)
    if verdict != "NO_CONSENT":  # which may be given any day
        await box.notes.put(_NOTE, verdict, about=about, expire_time=box.now() + AGAIN)
