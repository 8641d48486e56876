"""Where the workloads of ``facesvc bench streams`` play: the cast, the videos, and a fresh server for each."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from facesvc.cli.bench_streams_cameras import Meter
from facesvc.cli.console import err
from facesvc.cli.footage import Footage, film
from facesvc.cli.footage_people import Cast, cast, enrol, people_of
from facesvc.cli.footage_walks import Take
from facesvc.cli.local_server import LocalServer
from facesvc.client import Client
from facesvc.config import PolicySettings, Settings

CROWD = 15
FEW = 4
# People are cast at a stricter rate than they are named at: they are smaller in the video, tilted and noisy.
_CASTING = "casting"
_CASTING_FMR = 1e-4
LEAVE_S = 2.0
"""Who is out of view for so long has left; the setting's 30 s would be spent waiting."""
_SEED = 11


@dataclass(frozen=True, slots=True)
class Box:
    """A running server with the cast enrolled, and what it costs."""

    address: str
    client: Client
    pid: int

    def meter(self) -> Meter:
        """Counts from now on."""
        return Meter(self.pid)


class Stage:
    """What the workloads share; each thing is made when it is first needed.

    :param shared: a data set to cast from, None for the installed pictures.
    :param seconds: how long the video of the crowd is.
    """

    def __init__(self, settings: Settings, shared: Path | None, seconds: float) -> None:
        casting = PolicySettings(false_match_rate=_CASTING_FMR, minimum_true_match_rate=0, extrapolate=True)
        self.settings = settings.model_copy(
            update={
                "policies": {**settings.policies, _CASTING: casting},
                "presence": settings.presence.model_copy(update={"leave_seconds": LEAVE_S}),
                "events": settings.events.model_copy(update={"path": None}),
            }
        )
        self.seconds = seconds
        self._shared = shared

    @contextmanager
    def box(self, people: Cast | None = None) -> Iterator[Box]:
        """A fresh server, with ``people`` enrolled."""
        with (
            tempfile.TemporaryDirectory(prefix="facesvc-bench-") as folder,
            LocalServer(self.settings, Path(folder) / "gallery.db") as server,
            Client(server.address) as client,
        ):
            client.wait_until_serving()
            if people:
                enrol(client, people)
            yield Box(server.address, client, server.pid)

    @cached_property
    def cast(self) -> Cast:
        """Fifteen people."""
        note("casting")
        with self.box() as box:
            return cast(box.client, people_of(box.client, self._shared), CROWD, policy=_CASTING)

    @cached_property
    def crowd(self) -> Footage:
        """All of them, walking about, at 30 frames a second."""
        note(f"filming {CROWD} people for {self.seconds:.0f} s")
        return film(self.cast.actors, Take(seconds=self.seconds), _SEED)

    @cached_property
    def few(self) -> Footage:
        """Four of them, who are there all the time."""
        note(f"filming {FEW} people")
        return film(self.cast.only(FEW).actors, Take(seconds=10, walk_in=False), _SEED + 1)

    @cached_property
    def empty(self) -> Footage:
        """Nobody."""
        return film((), Take(seconds=3), _SEED + 2)


def note(text: str) -> None:
    """Say what is going on."""
    err.print(text, style="dim", highlight=False)
