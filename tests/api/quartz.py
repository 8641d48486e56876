"""Two people whom a server knows, who look alike, and what happened with one of them."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import numpy as np
from api.pictures import textured
from events.making import arrived, left, seen, spoof, unknown
from events.making import at as event_at
from ulid import ULID

from facesvc.api.service import Service
from facesvc.client import AsyncClient, encoding, frame, opening
from facesvc.events.records import EnrichedEvent, Event
from facesvc.v1 import enrollment_pb2, recognition_pb2

PICTURE = textured()
NAME, BADGE, GRAPH, TEAM = "Jane Quartz", "card-77123", "graph-4711", "team-obsidian"
OTHER_NAME, OTHER_BADGE = "Eve Opal", "card-88456"


def about_jane(event: Any) -> Event:
    """An event with everything that is known of her."""
    known = {"display_name": NAME, "external_ids": {"card_number": BADGE, "graph_user_id": GRAPH}}
    event = replace(event, collection_id="default")
    if hasattr(event, "decision"):
        match = replace(event.decision.subject, subject_id="jane-q", sample_id="sample-of-hers", **known)
        return replace(event, decision=replace(event.decision, subject=match))  # type: ignore[no-any-return]
    return replace(event, subject_id="jane-q", **known)  # type: ignore[no-any-return]


def enriched() -> Event:
    return EnrichedEvent(
        event_id=str(ULID()),
        event_time=event_at(0),
        camera_id="",
        zone="",
        collection_id="default",
        subject_id="jane-q",
        display_name=NAME,
        external_ids={"graph_user_id": GRAPH},
        plugin="graph",
        values={"title": "in a meeting"},
        summary="in a meeting",
        fetch_time=event_at(0),
        expire_time=event_at(60),
    )


async def make_known(admin: AsyncClient) -> None:
    """Two people: one is whom the vision sees, the other is rather like her, but below the threshold."""
    for subject_id, name, badge in (("jane-q", NAME, BADGE), ("eve-o", OTHER_NAME, OTHER_BADGE)):
        ids = {"card_number": badge, "graph_user_id": GRAPH if name == NAME else "graph-other"}
        person = enrollment_pb2.Subject(
            subject_id=subject_id, display_name=name, external_ids=ids, metadata={"team": TEAM}
        )
        await admin.create_subject(person)
    own, other = np.eye(128, dtype=np.float32)[:2]
    people = [encoding("jane-q", own.tolist()), encoding("eve-o", (0.5 * own + 0.866 * other).tolist())]
    answers = [one async for one in admin.import_encodings(people)]
    assert {one.verdict for one in answers} == {enrollment_pb2.IMPORT_VERDICT_IMPORTED}


async def stream(client: AsyncClient, camera: str = "door", frames: int = 3) -> list[recognition_pb2.FrameResult]:
    """What a camera is told of somebody who stands before it."""
    turn = asyncio.Semaphore(1)

    async def film() -> AsyncIterator[Any]:
        for number in range(frames):
            await turn.acquire()
            yield frame(number, PICTURE)

    results = []
    async for result in client.recognize(opening(camera, max_candidates=20), film()):
        results.append(result)
        turn.release()
    return results


async def happen(service: Service) -> None:
    """One event of each kind, and another at another camera."""
    events = [about_jane(kind()) for kind in (seen, arrived, left)]
    more = [enriched(), unknown(), spoof(), about_jane(seen(camera_id="yard"))]
    await asyncio.to_thread(service.journal.append, [*events, *more], [])
