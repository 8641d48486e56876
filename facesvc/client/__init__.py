"""The Python SDK: ``Client`` for plain code, ``AsyncClient`` for asyncio; both typed, both context managers.

    with Client("127.0.0.1:50051", credentials=Credentials.read("~/.config/facesvc")) as client:
        for face in client.search(open("door.jpg", "rb").read()).faces:
            print(face.decision.subject.display_name)

Both have the same methods with the same arguments; they take plain values and return the messages of ``facesvc.v1``.

- A call that fails raises ``CallError``, which carries the reason that the server gave.
- Calls wait at most ``timeout_s``; streams have no limit.
- What the frames or samples that a caller feeds to a stream raise, is raised where its answers are read.
- A stream ends on the server too when its reader leaves. ``async for`` leaves a little later than its ``break``; who
  cannot wait for that closes the stream, best by ``async with contextlib.aclosing(client.watch_events()) as events``.

Reading order, which is the import order: ``errors`` (what went wrong, and whose iterator it was), ``requests`` and
``people_requests`` (the messages that are sent), ``connection`` (where to, and how), ``sync_calls``, ``sync_people``,
``sync_plugins``, ``sync_tokens``, ``sync`` (one client, part by part), and the same with ``aio`` (the other); for
cameras ``pacing`` (how much is sent, and when), ``ledger`` (what came of it), ``capture`` (pictures), ``camera`` (the
loop).
"""

from facesvc.client.aio import AsyncClient
from facesvc.client.camera import CameraLoop, Times
from facesvc.client.capture import FrameSource
from facesvc.client.connection import DEFAULT_ADDRESS, Credentials
from facesvc.client.errors import CallError
from facesvc.client.ledger import Figures
from facesvc.client.pacing import Level
from facesvc.client.people_requests import encoding, sample
from facesvc.client.requests import Filters, challenge, frame, image, opening
from facesvc.client.sync import Client

__all__ = [
    "DEFAULT_ADDRESS",
    "AsyncClient",
    "CallError",
    "CameraLoop",
    "Client",
    "Credentials",
    "Figures",
    "Filters",
    "FrameSource",
    "Level",
    "Times",
    "challenge",
    "encoding",
    "frame",
    "image",
    "opening",
    "sample",
]
