"""One request to Microsoft Graph and what came back, and an error of Graph's in words.

Graph says what went wrong as ``{"error": {"code", "message", "innerError"}}``; statuses are those of
https://learn.microsoft.com/graph/errors.
"""

import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from enum import Enum

from pydantic import JsonValue

from facesvc.errors import FacesvcError
from facesvc.events.plugin import TryLaterError, UndeliverableError
from facesvc_graph.text import printable

MAX_RETRY_AFTER = timedelta(hours=1)
MAX_PICTURE_BYTES = 4 << 20


class Workload(Enum):
    """What Graph counts calls for, each with a limit of its own."""

    PRESENCE = "presence"
    OUTLOOK = "Outlook"
    DIRECTORY = "the directory"


class ForbiddenError(UndeliverableError):
    """The app lacks a permission."""

    reason = "PERMISSION_MISSING"


class NoSuchError(UndeliverableError):
    """There is no such user, mailbox or photo."""

    reason = "NOT_IN_GRAPH"


@dataclass(frozen=True, slots=True)
class Part:
    """A request: ``path`` without the version. ``permission``: what the app needs for it.

    ``named``: the path has somebody's name in it; such a request goes as part of a batch, whose address says nothing:
    addresses stand in the logs of every proxy.
    """

    method: str
    path: str
    workload: Workload
    permission: str
    body: JsonValue = None
    prefer: str = ""
    named: bool = False


@dataclass(frozen=True, slots=True)
class Reply:
    """What came back for a part: ``content`` where it worked, ``error`` where it did not."""

    content: JsonValue | bytes = None
    error: FacesvcError | None = None

    def value(self) -> Mapping[str, JsonValue]:
        """The JSON object of the answer. Raises ``error``, and ``TryLaterError`` for anything else than an object."""
        if self.error is not None:
            raise self.error
        if not isinstance(self.content, dict):
            raise TryLaterError("Microsoft Graph answered with something else than a JSON object")
        return self.content

    def picture(self) -> bytes:
        """The encoded picture of the answer, which in a batch is base64. Raises like ``value``."""
        if self.error is not None:
            raise self.error
        if isinstance(self.content, bytes):
            return self.content
        if not isinstance(self.content, str) or len(self.content) > 2 * MAX_PICTURE_BYTES:
            raise TryLaterError("Microsoft Graph answered with something else than a picture")
        try:
            return base64.b64decode(self.content, validate=True)
        except ValueError as error:  # binascii.Error is one, and so is what letters beyond ASCII give
            raise TryLaterError("Microsoft Graph answered with a damaged picture") from error


def reply_of(part: Part, status: int, headers: Mapping[str, str], content: JsonValue | bytes, now: datetime) -> Reply:
    """What a status means for a part."""
    if 200 <= status < 300:
        return Reply(content)
    told = " ".join(one for one in (str(status), *_told(content)) if one)
    if status in {408, 409, 423, 424, 425, 429} or status >= 500 or status < 200:
        wait = retry_after(headers, now)
        return Reply(error=TryLaterError(f"Microsoft Graph cannot answer now ({told})", after=wait))
    if status == 401:
        return Reply(error=TryLaterError(f"Microsoft Graph does not accept the app's token ({told})"))
    if status == 403:
        return Reply(
            error=ForbiddenError(
                f"Microsoft Graph refuses {part.workload.value} ({told}): the app registration needs the application"
                f" permission {part.permission}, with admin consent, and no policy that excludes this person"
            )
        )
    if status == 404:
        return Reply(error=NoSuchError(f"Microsoft Graph knows no such user, mailbox or photo ({told})"))
    return Reply(error=UndeliverableError(f"Microsoft Graph refuses a request ({told})"))


def _told(content: JsonValue | bytes) -> tuple[str, str]:
    """Code of an error and Graph's number of the request; not the message: it names users."""
    error = content.get("error") if isinstance(content, dict) else None
    if not isinstance(error, dict):
        return "", ""
    inner = error.get("innerError") or error.get("innererror")
    request = inner.get("request-id") if isinstance(inner, dict) else None
    number = f"request {printable(request, 40)}" if isinstance(request, str) else ""
    return printable(str(error.get("code") or ""), 80), number


def retry_after(headers: Mapping[str, str], now: datetime) -> timedelta | None:
    """How long Graph asks to be left alone: ``Retry-After`` in seconds or as a date, an hour at most; None if not."""
    value = next((one for name, one in headers.items() if name.lower() == "retry-after"), "").strip()
    if value.isascii() and value.isdigit():
        return min(timedelta(seconds=int(value[:9])), MAX_RETRY_AFTER)
    try:
        until = parsedate_to_datetime(value)
    except (ValueError, TypeError):
        return None
    until = until if until.tzinfo else until.replace(tzinfo=UTC)
    return min(max(until - now, timedelta()), MAX_RETRY_AFTER)


def parsed(content: bytes, content_type: str) -> JsonValue | bytes:
    """The body of an answer: JSON where it says so and is, else the bytes."""
    if "json" not in content_type.lower():
        return content
    try:
        value: JsonValue = json.loads(content)
    except (ValueError, RecursionError):
        return content
    return value
