"""Who is where: one table turns sightings into arrivals and leavings. ``news`` tells what else is worth telling.

Cameras belong to zones. Each person is, in each zone, in one of four states, and what is seen of them moves them along:

========  =============  =============  =============  ==============  ===========  ==============
state     glimpsed       seen enough    entered        exited          out of view  gone
========  =============  =============  =============  ==============  ===========  ==============
absent    seen           present, told  present, told  absent          absent       absent
seen      seen           present, told  present, told  absent          absent       absent
present   present        present        present        absent, told    leaving      absent, told
leaving   present        present        present        absent, told    leaving      absent, told
========  =============  =============  =============  ==============  ===========  ==============

- *glimpsed*: matched by a camera inside; *seen enough*: likewise, and in view since ``arrive_seconds`` ago. Told is an
  arrival, with the time at which they were first seen.
- *entered*, *exited*: matched by a camera at an entry or an exit. Told of an exit is a leaving at that moment.
- *out of view*: not matched by any camera of the zone for ``OUT_OF_VIEW_S``; *gone*: for ``leave_seconds``. Told is a
  leaving, with the time at which they were last seen.
- Who was seen by an entry in this stay is in the zone until an exit sees them, also out of all cameras' view; they are
  *gone* when nobody has matched them for ``absent_hours``.

So somebody seen once is no arrival, and one who is hidden for a moment has not left. A camera without a zone takes no
part. How long something lasts is judged by a clock that is never set, times that are told are wall times; where the
wall clock was set during a stay, the arrival is counted back from when they were last seen, so that their difference is
how long they were there.
"""

import enum
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from facesvc.stream.policy import Decision, Outcome

OUT_OF_VIEW_S = 2.0
"""Who is looked for and not found for so long is on the way out; cameras look several times a second."""
# Smaller differences of the two clocks are those of frames that waited, and of a wall clock that is being slewed.
_STEP_S = 2.0
_MAX_PEOPLE = 10_000


class Direction(enum.Enum):
    """Where a camera looks: into a zone, at those who come in, or at those who go out."""

    INSIDE = "INSIDE"
    ENTRY = "ENTRY"
    EXIT = "EXIT"


@dataclass(frozen=True, slots=True)
class Camera:
    """A camera; ``zone`` is empty where it belongs to none."""

    camera_id: str
    zone: str
    direction: Direction


@dataclass(frozen=True, slots=True)
class Sighting:
    """What was concluded about one face of a frame, or still holds of its track, which may be empty: not followed.

    ``seen_time`` is when, by the server's wall clock.
    """

    camera: Camera
    collection_id: str
    track_id: str
    decision: Decision
    seen_time: datetime

    @property
    def subject_id(self) -> str:
        """Whom it names; empty unless it is a match."""
        matched = self.decision.outcome is Outcome.MATCH and self.decision.subject is not None
        return self.decision.subject.subject_id if matched and self.decision.subject else ""


class State(enum.Enum):
    """How somebody's presence in a zone stands."""

    ABSENT = "ABSENT"
    SEEN = "SEEN"
    PRESENT = "PRESENT"
    LEAVING = "LEAVING"


class Happening(enum.Enum):
    """What moves them along; see above."""

    GLIMPSED = enum.auto()
    SEEN_ENOUGH = enum.auto()
    ENTERED = enum.auto()
    EXITED = enum.auto()
    OUT_OF_VIEW = enum.auto()
    GONE = enum.auto()


class Told(enum.Enum):
    """What others learn of."""

    ARRIVED = enum.auto()
    LEFT = enum.auto()


_NOT_YET: Mapping[Happening, tuple[State, Told | None]] = {
    Happening.GLIMPSED: (State.SEEN, None),
    Happening.SEEN_ENOUGH: (State.PRESENT, Told.ARRIVED),
    Happening.ENTERED: (State.PRESENT, Told.ARRIVED),
    Happening.EXITED: (State.ABSENT, None),
    Happening.OUT_OF_VIEW: (State.ABSENT, None),
    Happening.GONE: (State.ABSENT, None),
}
_THERE: Mapping[Happening, tuple[State, Told | None]] = {
    Happening.GLIMPSED: (State.PRESENT, None),
    Happening.SEEN_ENOUGH: (State.PRESENT, None),
    Happening.ENTERED: (State.PRESENT, None),
    Happening.EXITED: (State.ABSENT, Told.LEFT),
    Happening.OUT_OF_VIEW: (State.LEAVING, None),
    Happening.GONE: (State.ABSENT, Told.LEFT),
}
TABLE = {State.ABSENT: _NOT_YET, State.SEEN: _NOT_YET, State.PRESENT: _THERE, State.LEAVING: _THERE}


@dataclass(frozen=True, slots=True)
class Presence:
    """Somebody in a zone. ``stay_id`` is set once they have arrived; ``held``: by an entry, until an exit."""

    stay_id: str
    collection_id: str
    zone: str
    subject_id: str
    display_name: str
    external_ids: Mapping[str, str]
    camera_id: str
    state: State
    arrive_time: datetime
    last_seen_time: datetime
    held: bool
    first_clock: float
    last_clock: float

    @property
    def key(self) -> tuple[str, str, str]:
        """Who and where."""
        return (self.collection_id, self.zone, self.subject_id)


@dataclass(frozen=True, slots=True)
class Change:
    """An arrival or a leaving, of somebody as they stood then, at a wall time."""

    told: Told
    presence: Presence
    time: datetime


@dataclass(frozen=True, slots=True)
class Patience:
    """After how many seconds somebody has arrived, has left, and is absent though no exit saw them."""

    arrive_s: float
    leave_s: float
    absent_s: float


class Presences:
    """Everybody who is somewhere, at most ``most`` of them: then whoever was out of view for longest is let go."""

    def __init__(self, patience: Patience, new_id: Callable[[], str], most: int = _MAX_PEOPLE) -> None:
        self._patience = patience
        self._new_id = new_id
        self._most = most
        # In the order in which they were last seen.
        self._people: dict[tuple[str, str, str], Presence] = {}

    def restore(self, people: Iterable[Presence]) -> None:
        """Those who were present before a restart; whoever is here already stays as they are."""
        for one in sorted(people, key=lambda one: one.last_clock):
            self._people.setdefault(one.key, one)

    def note(self, sighting: Sighting, clock: float) -> list[Change]:
        """What a sighting changes; ``clock`` is when it came, in seconds."""
        camera, subject = sighting.camera, sighting.decision.subject
        if not (sighting.subject_id and camera.zone) or subject is None:
            return []
        key = (sighting.collection_id, camera.zone, subject.subject_id)
        changes = self._age(self._people[key], sighting.seen_time, clock) if key in self._people else []
        before = self._people.pop(key, None)
        seen = Presence(
            stay_id=before.stay_id if before else "",
            collection_id=sighting.collection_id,
            zone=camera.zone,
            subject_id=subject.subject_id,
            display_name=subject.display_name,
            external_ids=subject.external_ids,
            camera_id=camera.camera_id,
            state=before.state if before else State.ABSENT,
            arrive_time=before.arrive_time if before else sighting.seen_time,
            last_seen_time=sighting.seen_time,
            held=camera.direction is Direction.ENTRY or (before is not None and before.held),
            first_clock=before.first_clock if before else clock,
            last_clock=clock,
        )
        changes += self._move(_with_sound_times(seen), self._happening(camera, seen), sighting.seen_time)
        while len(self._people) > self._most:
            longest = self._people.pop(next(iter(self._people)))
            changes += self._move(longest, Happening.GONE, sighting.seen_time)
        return changes

    def pass_time(self, now: datetime, clock: float) -> list[Change]:
        """Lets people leave who were out of view for long enough; to be called a few times a second."""
        return [change for one in list(self._people.values()) for change in self._age(one, now, clock)]

    def forget(self, collection_id: str, subject_id: str) -> None:
        """As if somebody had never been there; nothing is told."""
        for key in [key for key in self._people if (key[0], key[2]) == (collection_id, subject_id)]:
            del self._people[key]

    def everybody(self) -> list[Presence]:
        """All who are somewhere, those too who were only seen."""
        return list(self._people.values())

    def _age(self, one: Presence, now: datetime, clock: float) -> list[Change]:
        """What not being seen since then changes."""
        unseen = clock - one.last_clock
        if unseen >= (self._patience.absent_s if one.held else self._patience.leave_s):
            return self._move(one, Happening.GONE, now)
        if unseen >= OUT_OF_VIEW_S and not one.held:
            return self._move(one, Happening.OUT_OF_VIEW, now)
        return []

    def _happening(self, camera: Camera, seen: Presence) -> Happening:
        if camera.direction is Direction.ENTRY:
            return Happening.ENTERED
        if camera.direction is Direction.EXIT:
            return Happening.EXITED
        enough = seen.last_clock - seen.first_clock >= self._patience.arrive_s
        return Happening.SEEN_ENOUGH if enough else Happening.GLIMPSED

    def _move(self, one: Presence, happening: Happening, time: datetime) -> list[Change]:
        """Looks up what happens to somebody; who is on the list keeps the place in it, who is not comes last."""
        state, told = TABLE[one.state][happening]
        moved = replace(one, state=state, stay_id=self._new_id() if told is Told.ARRIVED else one.stay_id)
        if state is State.ABSENT:
            self._people.pop(one.key, None)
        else:
            self._people[one.key] = moved
        return [Change(told, moved, time)] if told else []


def _with_sound_times(one: Presence) -> Presence:
    """The arrival counted back from the last sighting where the wall clock was set in between."""
    lasted = timedelta(seconds=one.last_clock - one.first_clock)
    if abs((one.last_seen_time - one.arrive_time - lasted).total_seconds()) <= _STEP_S:
        return one
    return replace(one, arrive_time=one.last_seen_time - lasted)
