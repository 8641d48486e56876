"""Whoever is in the building is Available in Teams: an own presence session, renewed, and cleared when they leave.

It says only what this app knows; what Teams itself knows (in a call, presenting) is stronger.
"""

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta

from facesvc.errors import FacesvcError
from facesvc_graph.client import Client
from facesvc_graph.memory import Known
from facesvc_graph.replies import NoSuchError, Part, Workload
from facesvc_graph.settings import RENEW_SECONDS

_EXPIRATION = "PT10M"
_PERMISSION = "Presence.ReadWrite.All"


class Sessions:
    """Sets presence and takes it back."""

    def __init__(self, client: Client, client_id: str, poll_interval: float, now: Callable[[], datetime]) -> None:
        self._client = client
        self._client_id = client_id
        # Renewed by whichever poll is the last before it fades.
        self._renewal = timedelta(seconds=RENEW_SECONDS - poll_interval)
        self._now = now

    async def renew(self, people: Sequence[Known]) -> list[FacesvcError]:
        """Make Available those who are not, or not for much longer; what went wrong. They are due again then."""
        now = self._now()
        due = [one for one in people if one.available_until is None or one.available_until <= now]
        replies = await self._client.send([self._part(one, "setPresence", available=True) for one in due])
        errors = []
        for known, reply in zip(due, replies, strict=True):
            if reply.error is None:
                known.available_until = now + self._renewal
            else:
                errors.append(reply.error)
        return errors

    async def clear(self, known: Known) -> None:
        """Take it back. Raises what went wrong; that there was none is all right."""
        known.available_until = None
        [reply] = await self._client.send([self._part(known, "clearPresence", available=False)])
        if reply.error is not None and not isinstance(reply.error, NoSuchError):
            raise reply.error

    def _part(self, known: Known, action: str, *, available: bool) -> Part:
        more = {"availability": "Available", "activity": "Available", "expirationDuration": _EXPIRATION}
        return Part(
            "POST",
            f"/users/{known.user_id}/presence/{action}",
            Workload.PRESENCE,
            _PERMISSION,
            body={"sessionId": self._client_id, **(more if available else {})},
        )
