"""The ground truth: a video of which everything is known, and how well names, tracks and events agree with it.

People walk in, some of whom nobody enrolled; after a cut others stand there; after another nobody does.
"""

import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Self

from facesvc.cli import bench_streams_scores
from facesvc.cli.bench_streams_cameras import Camera, Recording, show
from facesvc.cli.bench_streams_report import Row, at_most
from facesvc.cli.bench_streams_stage import LEAVE_S, Stage, note
from facesvc.cli.footage import Footage, film
from facesvc.cli.footage_people import Cast
from facesvc.cli.footage_walks import Take
from facesvc.client import CallError, Client
from facesvc.v1 import presence_pb2

_WALKING, _STANDING = 8, 4
# By their numbers in the cast: of the installed pictures those whose relatives do not come so early.
_STRANGERS = (5, 6)
_SEED = 21
_WALK_S, _STAND_S = 14.0, 5.0
# Until everybody has left.
_EMPTY_S = 2.5 * LEAVE_S


class Watch:
    """Reads events in a thread of its own while the block lasts."""

    def __init__(self, address: str) -> None:
        self._client = Client(address)
        self._begun = threading.Event()
        self._thread = threading.Thread(target=self._read)
        self.events: list[presence_pb2.Event] = []

    def __enter__(self) -> Self:
        """Return when the server has begun to tell."""
        self._thread.start()
        self._begun.wait(10)
        return self

    def __exit__(self, *error: object) -> None:
        """Hang up."""
        self._client.close()
        self._thread.join()

    def _read(self) -> None:
        try:
            for answer in self._client.watch_events():
                self._begun.set()
                if answer.HasField("event"):
                    self.events.append(answer.event)
        except CallError:
            return  # it was hung up; whatever else it was, the events are missing in the scores


def truth(stage: Stage) -> Iterator[Row]:
    """One camera, every frame answered, and everything that is told about it."""
    people = stage.cast.only(_WALKING + _STANDING, _STRANGERS)
    note(f"filming {_WALKING} people, a cut, {_STANDING} others, a cut, nobody")
    footage = directed(people, _STANDING, (_WALK_S, _STAND_S, _EMPTY_S), Take())
    with stage.box(people) as box, Watch(box.address) as watch:
        note(f"{len(footage.frames) / footage.take.fps:.0f} s of which all is known")
        begun = time.time()
        recording = run(box.address, footage)
    enrolled = frozenset(people.enrolments)
    yield at_most("truth", "errors", len(recording.errors), 0, "{:.0f}")
    yield from bench_streams_scores.followed("truth", footage, recording, enrolled)
    got = [bench_streams_scores.happening(event, begun) for event in watch.events]
    yield from bench_streams_scores.told("truth", footage, enrolled, got)


def directed(people: Cast, standing: int, seconds: tuple[float, float, float], take: Take) -> Footage:
    """All but ``standing`` of the people walk, strangers among them; the others stand; nobody: so many seconds each."""
    known = [actor for actor in people.actors if actor.person in people.enrolments]
    strangers = [actor for actor in people.actors if actor.person not in people.enrolments]
    at = len(known) - standing
    walk, stand, empty = (replace(take, seconds=each) for each in seconds)
    first = film(known[:at] + strangers, walk, _SEED)
    second = film(known[at:], replace(stand, walk_in=False), _SEED + 1)
    return first.then(second).then(film((), empty, _SEED + 2))


def run(address: str, footage: Footage) -> Recording:
    """What the server says of it."""
    seconds = len(footage.frames) / footage.take.fps
    camera = Camera("truth", footage, footage.take.fps, seconds, predictions=True, zone="hall", keep=True)
    return show(address, [camera])[0]
