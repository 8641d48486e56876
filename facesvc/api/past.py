"""Events of the past, as somebody is told of them, page by page.

The database itself looks for the kinds of events that the caller is told of. The camera of an event is sealed, so that
what other cameras have seen is read and passed over here, until the page is full. A token is sealed too: in the clear
it would say when something happened of which its reader is told nothing.
"""

import base64
import binascii
import struct
from collections.abc import Sequence
from dataclasses import replace
from functools import partial

from facesvc.api import disclosure, paging
from facesvc.api.service import Service
from facesvc.errors import InputError
from facesvc.events.journal import Place, Wanted
from facesvc.events.records import Event
from facesvc.gallery.crypto import SealBrokenError
from facesvc.gallery.keyring import NOBODY
from facesvc.security.principals import Principal
from facesvc.v1 import presence_pb2

# What a call may read for somebody who is limited to cameras; whoever finds a shorter page goes on from there.
_BATCH = 1000
MOST_BATCHES = 20
_SEALED = struct.Struct(">qq")  # of one length, which would else say how many events there were
_PURPOSE = "place in a list of events"


async def listed(
    service: Service, request: presence_pb2.ListEventsRequest, wanted: Wanted, caller: Principal
) -> tuple[Sequence[Event], str]:
    """A page of what the caller is told, and the token of the next one; empty on the last. Raises ``InputError``."""
    size, read = paging.size_of(request), service.observer.read
    after = await read(partial(_place, service, request))
    wanted = replace(wanted, kinds=disclosure.told(caller).events)
    limit = max(size + 1, _BATCH) if caller.scope.camera_ids else size + 1
    found: list[tuple[Place, Event]] = []
    for _ in range(MOST_BATCHES):
        page = await read(partial(service.journal.list_events, wanted, limit, after))
        of_own = (
            one for one in zip(page.places, page.events, strict=True) if caller.scope.has_camera(one[1].camera_id)
        )
        found.extend(of_own)
        after = page.next_after
        if after is None or len(found) > size:
            break
    if len(found) > size:
        after = found[size - 1][0]
    token = await read(partial(_token, service, request, after)) if after is not None else ""
    return [event for _, event in found[:size]], token


def _token(service: Service, request: presence_pb2.ListEventsRequest, place: Place) -> str:
    """In a thread: the token of the page that begins after a place."""
    sealed = service.gallery.keyring.seal(*NOBODY, _SEALED.pack(*place), _PURPOSE)
    return paging.token_after(request, base64.b64encode(sealed).decode())


def _place(service: Service, request: presence_pb2.ListEventsRequest) -> Place | None:
    """In a thread: the place that the token of a request was made of; None for the first page."""
    key = paging.key_after(request, (str,))
    if key is None:
        return None
    try:
        sealed = base64.b64decode(str(key[0]), validate=True)
        place = service.gallery.keyring.unseal(*NOBODY, sealed, _PURPOSE)
    except (binascii.Error, ValueError, SealBrokenError):
        raise InputError("this is not a token of this list: start again without it", field="page_token") from None
    assert place is not None  # the key of nobody is never destroyed
    time, sequence = _SEALED.unpack(place)
    return time, sequence
