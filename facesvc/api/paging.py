"""Pages of a list (https://google.aip.dev/158): how long they are, and where the next one begins.

A token says after which key to go on, and belongs to one question: whoever asks something else with it is told so.
"""

import base64
import binascii
import hashlib
import json
from typing import Protocol

from google.protobuf.message import Message

from facesvc.errors import InputError

MAX_PAGE_SIZE = 1000
_DEFAULT_PAGE_SIZE = 100
_MAX_TOKEN = 2048
_MAX_NUMBER = 2**63 - 1  # that the database can compare with


class Paged(Protocol):
    """A request for a page."""

    page_size: int
    page_token: str


def size_of(request: Paged) -> int:
    """How many are wanted. Raises ``InputError``."""
    if not 0 <= request.page_size <= MAX_PAGE_SIZE:
        raise InputError(f"must be 0 to {MAX_PAGE_SIZE}, not {request.page_size}", field="page_size")
    return request.page_size or _DEFAULT_PAGE_SIZE


def token_after(request: Message, *key: str | int) -> str:
    """The token of the page that follows what has this key."""
    return base64.urlsafe_b64encode(json.dumps([_question(request), *key]).encode()).decode()


def key_after(request: Message, kinds: tuple[type[str] | type[int], ...]) -> list[str | int] | None:
    """The key, of values of these types, after which the page begins; None for the first page.

    Raises ``InputError`` for a token that was not given out for this very question.
    """
    token: str = request.page_token  # type: ignore[attr-defined]  # every request for a page has one
    if not token:
        return None
    wrong = InputError("this is not a token of this list: start again without it", field="page_token")
    if len(token) > _MAX_TOKEN:
        raise wrong
    try:
        value = json.loads(base64.b64decode(token, altchars=b"-_", validate=True))
    except (binascii.Error, ValueError, RecursionError):
        raise wrong from None
    if not (isinstance(value, list) and [type(one) for one in value] == [str, *kinds]):
        raise wrong
    if any(isinstance(one, int) and abs(one) > _MAX_NUMBER for one in value):
        raise wrong
    if value[0] != _question(request):
        message = "this token belongs to a request with other filters: repeat them, or start again without it"
        raise InputError(message, field="page_token")
    return value[1:]


def _question(request: Message) -> str:
    """A mark of everything that is asked but for which page of it."""
    asked = type(request)()
    asked.CopyFrom(request)
    asked.ClearField("page_size")
    asked.ClearField("page_token")
    content = request.DESCRIPTOR.full_name.encode() + b"\0" + asked.SerializeToString(deterministic=True)
    return hashlib.sha256(content).hexdigest()[:16]
