"""What is known of each person, and when Graph was asked for it. In memory only; gone when they are erased."""

from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import Generic, TypeVar

from facesvc.errors import FacesvcError
from facesvc.events.plugin import About, Facts, TryLaterError
from facesvc_graph.records import Calendar, Presence, Profile

MAX_PEOPLE = 5_000

T = TypeVar("T")


@dataclass(slots=True)
class Answer(Generic[T]):
    """The last good answer to one question, and what happened to the last attempt."""

    value: T | None = None
    time: datetime | None = None
    """When it was so."""
    asked: datetime | None = None
    """When Graph last said anything to it, be it that there is nothing."""
    error: FacesvcError | None = None

    def good(self, value: T | None, now: datetime) -> None:
        """An answer."""
        self.value, self.time, self.asked, self.error = value, now, now, None

    def bad(self, error: FacesvcError, now: datetime) -> None:
        """A failure. One that may pass keeps the last answer and is tried again; another takes its place."""
        self.error = error
        if not isinstance(error, TryLaterError):
            self.value, self.time, self.asked = None, None, now

    def due(self, now: datetime, seconds: float) -> bool:
        """Whether the answer is so old, or there is none."""
        return self.asked is None or (now - self.asked).total_seconds() >= seconds


@dataclass(slots=True, eq=False)
class Known:
    """One person. ``key`` is what their user was found by; ``address`` that of their mailbox, empty if not known."""

    about: About
    key: tuple[str, ...]
    user_id: str
    address: str = ""
    presence: Answer[Presence] = field(default_factory=Answer)
    calendar: Answer[Calendar] = field(default_factory=Answer)
    profile: Answer[Profile] = field(default_factory=Answer)
    photo: Answer[str] = field(default_factory=Answer)
    """In base64."""
    shown: Facts | None = None
    """What was last said of them."""
    available_until: datetime | None = None
    """Until when their presence is set by us."""


class Memory:
    """People, the most recent ``MAX_PEOPLE`` of them."""

    def __init__(self) -> None:
        self._people: OrderedDict[About, Known] = OrderedDict()

    def get(self, about: About) -> Known | None:
        """Somebody, if they are known."""
        known = self._people.get(about)
        if known is not None:
            self._people.move_to_end(about)
        return known

    def put(self, known: Known) -> None:
        """Somebody in the place of what was known of them."""
        self._people[known.about] = known
        self._people.move_to_end(known.about)
        while len(self._people) > MAX_PEOPLE:
            self._people.popitem(last=False)

    def forget(self, about: About) -> None:
        """Somebody who was erased."""
        self._people.pop(about, None)

    def __iter__(self) -> Iterator[Known]:
        return iter(list(self._people.values()))

    def __len__(self) -> int:
        return len(self._people)
