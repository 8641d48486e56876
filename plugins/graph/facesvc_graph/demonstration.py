"""``facesvc demo --plugins``: a scripted Graph in which the people of the demonstration have something to do."""

import asyncio
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Thread
from uuid import NAMESPACE_DNS, uuid5

from facesvc.delivery.kit import Staged
from facesvc_graph.scripted import SECRET, ScriptedGraph
from facesvc_graph.scripted_http import self_signed
from facesvc_graph.scripted_people import ScriptedUser

# Availability, the subject of a meeting that goes on, and how long from now to its end.
_DAYS = (
    ("Available", "Design review", timedelta(minutes=45)),
    ("Busy", "1:1", timedelta(minutes=20)),
    ("Available", "", timedelta()),
    ("DoNotDisturb", "Board meeting", timedelta(hours=2)),
    ("Away", "", timedelta()),
)


@contextmanager
def stage(people: Mapping[str, str], folder: Path) -> Iterator[Staged]:
    """A Graph that knows ``people``, display names by subject id, while the block lasts; its files go to ``folder``."""
    certificate = self_signed(folder)
    secret = folder / "graph.secret"
    secret.touch(mode=0o600)
    secret.write_text(SECRET)
    graph = ScriptedGraph(certificate)
    ids = {subject_id: str(uuid5(NAMESPACE_DNS, f"{subject_id}.scripted.example")) for subject_id in people}
    now = datetime.now(UTC).replace(second=0, microsecond=0)
    for number, (subject_id, name) in enumerate(people.items()):
        graph.add(_user(ids[subject_id], subject_id, name, now, number))
    with _running(graph):
        settings = graph.settings(certificate, client_secret_file=str(secret), time_zone=_local_zone(), photos="off")
        yield Staged(settings=settings, external_ids={one: {"graph_user_id": known} for one, known in ids.items()})


def _user(graph_id: str, subject_id: str, name: str, now: datetime, number: int) -> ScriptedUser:
    availability, meeting, left = _DAYS[number % len(_DAYS)]
    user = ScriptedUser(
        graph_id, name, f"{subject_id}@scripted.example", availability=availability, activity=availability
    )
    if meeting:
        user.meet(meeting, now - timedelta(minutes=15), now + left)
    return user


def _local_zone() -> str:
    """Where the clock on the wall is; UTC where nobody says."""
    key = str(Path("/etc/localtime").resolve()).partition("zoneinfo/")[2]
    return key or "UTC"


@contextmanager
def _running(graph: ScriptedGraph) -> Iterator[None]:
    """The server in a thread of its own."""
    loop = asyncio.new_event_loop()
    thread = Thread(target=loop.run_forever, name="scripted-graph", daemon=True)
    thread.start()
    try:
        asyncio.run_coroutine_threadsafe(graph.start(), loop).result(10)
        yield
    finally:
        asyncio.run_coroutine_threadsafe(graph.stop(), loop).result(10)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)
        loop.close()
