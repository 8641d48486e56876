"""What an answer means.

========================= ==========================================================================================
2xx                       the event is dealt with
408, 425, 429, 5xx        it may work later; ``Retry-After`` is heeded, up to an hour
3xx                       it never will: whoever may redirect could aim the request anywhere, so that is not followed
other                     it never will: the receiver refuses this request, and would again
========================= ==========================================================================================
"""

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from http import HTTPStatus

from facesvc.events.plugin import TryLaterError, UndeliverableError

MAX_RETRY_AFTER = timedelta(hours=1)
_SECONDS = re.compile(r"[0-9]{1,10}")
_LATER = frozenset({HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_EARLY, HTTPStatus.TOO_MANY_REQUESTS})
_ADVICE: dict[int, str] = {
    HTTPStatus.BAD_REQUEST: "it may check signatures with another secret, or its clock may be wrong",
    HTTPStatus.UNAUTHORIZED: "check that it has the same secret, and the right time",
    HTTPStatus.FORBIDDEN: "check that it has the same secret, and the right time",
    HTTPStatus.NOT_FOUND: "check url",
    HTTPStatus.METHOD_NOT_ALLOWED: "check url: it has to take POST",
    HTTPStatus.GONE: "it wants no events any more; check url, or remove [plugins.webhook]",
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: "set max_body_bytes to what it takes",
    HTTPStatus.UNSUPPORTED_MEDIA_TYPE: "it has to take application/cloudevents+json",
}


@dataclass(frozen=True, slots=True)
class Answer:
    """Of an answer, what matters."""

    status: int
    retry_after: str


def judge(answer: Answer, host: str, now: datetime) -> None:
    """Return where the event was taken. Raises ``TryLaterError`` and ``UndeliverableError``."""
    status = answer.status
    if 200 <= status < 300:
        return
    if status in _LATER or status >= 500:
        raise TryLaterError(f"{host} answered {status}", after=_retry_after(answer.retry_after, now))
    if 300 <= status < 400:
        advice = "redirects are not followed; set url to the address where the receiver really is"
    else:
        advice = _ADVICE.get(status, "see what it says in its log")
    raise UndeliverableError(f"{host} answered {status}: {advice}")


def _retry_after(value: str, now: datetime) -> timedelta | None:
    """RFC 9110, section 10.2.3: seconds, or a date."""
    if _SECONDS.fullmatch(value):
        return min(timedelta(seconds=int(value)), MAX_RETRY_AFTER)
    try:
        date = parsedate_to_datetime(value)
    except (ValueError, OverflowError):
        return None
    date = date.replace(tzinfo=UTC) if date.tzinfo is None else date
    return min(max(date - now, timedelta()), MAX_RETRY_AFTER)
